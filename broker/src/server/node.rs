//! The task that drives the node: everything that has happened goes in, then everything that follows goes out.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use tokio::sync::{oneshot, watch};
use weir_protocol::ErrorCode;

use crate::core::dedup::{KeyAnswer, KeyLookupAnswer};
use crate::core::event::{Flushed, SnapshotMade};
use crate::core::{Actions, ColdAnswer, ConnectionId, Event, Node, Outgoing, Ticket};
use crate::queue::{Drained, Receiver, Rejected, Sender};
use crate::server::clock::Clock;
use crate::server::cold::ColdReaders;
use crate::server::journal::ToJournal;
use crate::server::metrics::Metrics;

/// What the threads of storage tell the node.
#[derive(Debug)]
pub(crate) enum Completion {
    /// The operating system has every frame up to this one.
    Written(Ticket),
    /// Every frame up to this one has been synced.
    Durable(Ticket),
    /// A read of flushed data has ended.
    Cold(ColdAnswer),
    /// The keys that were asked for are known.
    Keys(KeyAnswer),
    /// A key that somebody asked for was looked up.
    KeyLookup(KeyLookupAnswer),
    /// What is in segments has changed.
    Flushed(Flushed),
    /// Storage has run out of space, or has space again.
    StorageFull(bool),
    /// A snapshot was made, or could not be.
    Snapshot(Result<SnapshotMade, (ErrorCode, String)>),
}

/// What connections tell the node.
#[derive(Debug)]
pub(crate) enum ToNode {
    /// A connection is there, and can be sent to.
    Connected(ConnectionId, Sender<Outgoing>),
    /// Something happened on a connection.
    Event(Event),
    /// Take nothing new; say when everything taken has been answered.
    Drain(oneshot::Sender<()>),
}

/// What the task works with.
#[derive(Debug)]
pub(crate) struct NodeTask {
    /// The machine.
    pub(crate) node: Node,
    /// From storage.
    pub(crate) completions: Receiver<Completion>,
    /// From connections.
    pub(crate) requests: Receiver<ToNode>,
    /// To the journal.
    pub(crate) journal: Sender<ToJournal>,
    /// To the threads that read flushed data.
    pub(crate) cold: ColdReaders,
    /// The time.
    pub(crate) clock: Clock,
    /// Whether publish lanes may be read.
    pub(crate) gate: watch::Sender<bool>,
    /// Figures.
    pub(crate) metrics: Arc<Metrics>,
}

/// What the task remembers between two turns.
#[derive(Debug, Default)]
struct Shell {
    connections: BTreeMap<ConnectionId, Sender<Outgoing>>,
    /// Frames for the journal that its mailbox had no room for.
    journal: Vec<ToJournal>,
    drained: Option<oneshot::Sender<()>>,
    /// When it is to be counted again who waits for what.
    count_at_us: u64,
}

/// Pause between two counts of who waits for what: there may be many.
const COUNT_EVERY_US: u64 = 1_000_000;

/// Topics whose records with keys are counted on the page of metrics, one by one: the page must not grow without end.
const TOPICS_SHOWN_MAX: usize = 1000;

impl NodeTask {
    /// Runs until no connection and no storage is left to tell it anything.
    pub(crate) async fn run(mut self) {
        let mut shell = Shell::default();
        let mut actions = Actions::default();
        let (mut completions, mut requests) = (Vec::new(), Vec::new());
        while self.wait(&mut completions, &mut requests).await == Drained::Items {
            let now = self.clock.now();
            if self.node.due().is_some_and(|due| due <= now.monotonic_us) {
                self.node.handle(now, Event::TimePassed, &mut actions);
            }
            for completion in completions.drain(..) {
                let event = Self::completed(completion);
                self.node.handle(now, event, &mut actions);
            }
            for request in requests.drain(..) {
                match request {
                    ToNode::Event(event) => {
                        if let Event::Disconnected(connection) = &event {
                            shell.connections.remove(connection);
                        }
                        self.node.handle(now, event, &mut actions);
                    }
                    ToNode::Connected(connection, outbox) => {
                        shell.connections.insert(connection, outbox);
                    }
                    ToNode::Drain(done) => {
                        self.node.drain();
                        shell.drained = Some(done);
                    }
                }
            }
            self.node.settle(&mut actions);
            let open = !self.node.is_over();
            self.gate.send_if_modified(|was| std::mem::replace(was, open) != open);
            self.dispatch(&mut actions, &mut shell).await;
            if self.node.is_quiet()
                && let Some(done) = shell.drained.take()
            {
                // Whoever asked may have stopped waiting.
                let _closed = done.send(());
            }
            self.metrics.observe_node(&self.node.figures());
            if now.monotonic_us >= shell.count_at_us {
                shell.count_at_us = now.monotonic_us + COUNT_EVERY_US;
                self.metrics.waits.set_all(self.node.waits());
                let topics = self.node.keyed_topics(TOPICS_SHOWN_MAX);
                self.metrics.observe_keys(&self.node.key_figures(), topics);
            }
        }
        // The flusher tells the journal too, but nothing new comes from it: what is in the mailbox is still written.
        self.journal.close();
    }

    /// Waits for news from either side, or until the node has something to do.
    async fn wait(&mut self, completions: &mut Vec<Completion>, requests: &mut Vec<ToNode>) -> Drained {
        let due = self.node.due().map(|due| self.clock.instant(due));
        let news = self.news(completions, requests);
        match due {
            None => news.await,
            // Only news fill the vectors, so nothing is lost where the time comes first.
            Some(due) => tokio::time::timeout_at(due.into(), news).await.unwrap_or(Drained::Items),
        }
    }

    async fn news(&mut self, completions: &mut Vec<Completion>, requests: &mut Vec<ToNode>) -> Drained {
        poll_fn(|context| {
            let from_storage = self.completions.poll_drain(context, completions);
            let from_connections = self.requests.poll_drain(context, requests);
            if !completions.is_empty() || !requests.is_empty() {
                return Poll::Ready(Drained::Items);
            }
            match (from_storage, from_connections) {
                (_, Poll::Ready(Drained::Closed)) => Poll::Ready(Drained::Closed),
                (_, Poll::Pending | Poll::Ready(Drained::Items)) => Poll::Pending,
            }
        })
        .await
    }

    fn completed(completion: Completion) -> Event {
        match completion {
            Completion::Written(through) => Event::Written(through),
            Completion::Durable(through) => Event::Durable(through),
            Completion::Cold(answer) => Event::ColdAnswer(answer),
            Completion::Keys(answer) => Event::Keys(answer),
            Completion::KeyLookup(answer) => Event::KeyLookedUp(answer),
            Completion::Flushed(flushed) => Event::Flushed(flushed),
            Completion::StorageFull(full) => Event::StorageFull(full),
            Completion::Snapshot(made) => Event::SnapshotEnded(made),
        }
    }

    async fn dispatch(&mut self, actions: &mut Actions, shell: &mut Shell) {
        shell.journal.extend(actions.journal.drain(..).map(|write| ToJournal::Write(Box::new(write))));
        shell.journal.extend(actions.snapshot.take().map(ToJournal::Snapshot));
        while !shell.journal.is_empty() {
            // A closed journal has failed: the broker is about to end, and nothing will be acknowledged.
            let pushed = self.journal.push_batch(&mut shell.journal);
            let waits = pushed.is_ok() && !shell.journal.is_empty();
            if pushed.is_err() || waits && self.journal.room(0).await.is_err() {
                shell.journal.clear();
            }
        }
        self.cold.submit(actions);
        for code in actions.rejections.drain(..) {
            self.metrics.appends_rejected.increment(code);
        }
        for outgoing in actions.outgoing.drain(..) {
            let connection = match &outgoing {
                Outgoing::Frames(lane, _)
                | Outgoing::Delivery(lane, _)
                | Outgoing::Grant(lane, _)
                | Outgoing::Finish(lane) => lane.connection,
                Outgoing::Close(connection, ..) => *connection,
            };
            let Some(outbox) = shell.connections.get(&connection) else { continue };
            if let Err(Rejected::Full(_)) = outbox.try_push(outgoing) {
                tracing::warn!(
                    connection = connection.0,
                    "a peer does not take its answers: connection dropped"
                );
                outbox.close();
                shell.connections.remove(&connection);
            }
        }
    }
}
