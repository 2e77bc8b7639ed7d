//! The tasks of one connection: one hears each stream, one speaks on each stream, one hands out what the node sends.
//!
//! All of them run on the same thread and share the session; no borrow is held while one of them waits.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quinn::{Connection, ReadError, RecvStream, SendStream, VarInt};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use weir_protocol::ErrorCode;
use weir_protocol::message::{GoAway, Message};

use crate::core::ledger::Ledger;
use crate::core::session::{Heard, Identity, Session, SessionActions, Violation};
use crate::core::{ConnectionId, Event, LaneId, Outgoing, StreamId};
use crate::pool::BufferPool;
use crate::queue::{Drained, Sender, mailbox};
use crate::server::endpoint::Accepted;
use crate::server::metrics::Metrics;
use crate::server::node::ToNode;
use crate::server::transport::admit;

/// A peer that has not greeted by then is sent away.
const GREETING_WITHIN: Duration = Duration::from_secs(5);

/// Frames a connection may be owed. What a peer is owed is bounded by its credit and its requests; one that does not
/// take this many is not reading.
const OUTBOX_ITEMS_MAX: usize = 64 << 10;

/// Bytes of answers that may wait on a stream before no more of its requests are heard.
const ANSWERS_BYTES_MAX: usize = 1 << 20;

/// Pieces taken from or given to the transport at a time.
const PIECES: usize = 64;

/// Time peers get to move on when the broker stops.
pub(crate) const GOING_AWAY_WITHIN: Duration = Duration::from_secs(2);

/// What all connections share.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    /// What clients are told of the broker.
    pub(crate) identity: Identity,
    /// Buffers for batches.
    pub(crate) pool: BufferPool,
    /// The way to the node.
    pub(crate) node: Sender<ToNode>,
    /// Whether there is memory for more batches.
    pub(crate) gate: watch::Receiver<bool>,
    /// Figures.
    pub(crate) metrics: Arc<Metrics>,
    /// Cancelled when the broker stops taking work.
    pub(crate) going_away: CancellationToken,
}

/// What the tasks of a connection share.
#[derive(Debug)]
struct Peer {
    id: ConnectionId,
    connection: Connection,
    session: RefCell<Session>,
    outboxes: RefCell<BTreeMap<StreamId, Rc<Outbox>>>,
    context: Context,
}

/// What waits to be sent on one stream.
#[derive(Debug, Default)]
struct Outbox {
    waiting: RefCell<Waiting>,
    /// Something was added.
    filled: Notify,
    /// Something has left.
    emptied: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    frames: VecDeque<(Vec<Bytes>, u64)>,
    answer_bytes: usize,
    finish: bool,
}

/// Serves a connection until it ends.
pub(crate) async fn serve(id: ConnectionId, accepted: Accepted, (context, ledger): (Context, Ledger)) {
    let Accepted { connection, place: _place, profile: _ } = accepted;
    let session = Session::new(id, context.identity.clone(), (context.pool.clone(), ledger));
    let peer = Rc::new(Peer {
        id,
        connection,
        session: RefCell::new(session),
        outboxes: RefCell::default(),
        context,
    });
    let (outbox, mut outgoing) = mailbox(OUTBOX_ITEMS_MAX);
    if !peer.tell(vec![ToNode::Connected(id, outbox)]).await {
        return;
    }
    let mut tasks = JoinSet::new();
    let mut items = Vec::new();
    let greeting = tokio::time::sleep(GREETING_WITHIN);
    tokio::pin!(greeting);
    let mut greeting_due = true;
    let mut told_to_leave = false;
    loop {
        tokio::select! {
            accepted = peer.connection.accept_bi() => match accepted {
                Ok((send, receive)) => peer.open(send, receive, &mut tasks),
                Err(ended) => {
                    peer.context.metrics.connection_ended(&ended);
                    break;
                }
            },
            drained = outgoing.drain(&mut items) => {
                for item in items.drain(..) {
                    peer.send(item);
                }
                if drained == Drained::Closed {
                    peer.close(ErrorCode::TimedOut, "answers were not taken");
                    break;
                }
            }
            () = &mut greeting, if greeting_due => {
                greeting_due = false;
                if !peer.session.borrow().is_greeted() {
                    peer.close(ErrorCode::TimedOut, "no greeting came");
                }
            }
            () = peer.context.going_away.cancelled(), if !told_to_leave => {
                told_to_leave = true;
                peer.go_away();
            }
            Some(ended) = tasks.join_next(), if !tasks.is_empty() => {
                if ended.is_err_and(|error| error.is_panic()) {
                    peer.context.metrics.panics.increment();
                    peer.close(ErrorCode::Internal, "the broker failed on this connection");
                }
            }
        }
    }
    tasks.shutdown().await;
    let mut actions = SessionActions::default();
    peer.session.borrow_mut().disconnected(&mut actions);
    peer.tell(actions.events.into_iter().map(ToNode::Event).collect()).await;
}

impl Peer {
    /// A stream was opened: two tasks look after it.
    fn open(self: &Rc<Self>, send: SendStream, receive: RecvStream, tasks: &mut JoinSet<()>) {
        let stream = StreamId(u64::from(VarInt::from(receive.id())));
        let outbox = Rc::new(Outbox::default());
        self.outboxes.borrow_mut().insert(stream, Rc::clone(&outbox));
        self.session.borrow_mut().opened(stream);
        self.context.metrics.streams_opened.increment();
        self.context.metrics.streams.add(1);
        tasks.spawn_local(Rc::clone(self).hear(stream, receive, Rc::clone(&outbox)));
        tasks.spawn_local(Rc::clone(self).speak(stream, send, outbox));
    }

    /// Hears one stream until it ends.
    async fn hear(self: Rc<Self>, stream: StreamId, mut receive: RecvStream, outbox: Rc<Outbox>) {
        let mut pieces: Vec<Bytes> = vec![Bytes::new(); PIECES];
        let mut actions = SessionActions::default();
        let mut gate = self.context.gate.clone();
        let mut unheard = VecDeque::new();
        loop {
            outbox.room().await;
            if self.session.borrow().needs_memory(stream) && gate.wait_for(|open| *open).await.is_err() {
                return;
            }
            if unheard.is_empty() {
                match receive.read_chunks(&mut pieces).await {
                    Ok(Some(count)) => unheard.extend(pieces.iter_mut().take(count).map(std::mem::take)),
                    Ok(None)
                    | Err(
                        ReadError::Reset(_)
                        | ReadError::ConnectionLost(_)
                        | ReadError::ClosedStream
                        | ReadError::IllegalOrderedRead
                        | ReadError::ZeroRttRejected,
                    ) => break,
                }
                let bytes: usize = unheard.iter().map(Bytes::len).sum();
                self.context.metrics.bytes_received.add(bytes as u64);
            } else {
                // Others were quicker than this stream; the gate closes in the node's next turn.
                tokio::task::yield_now().await;
            }
            if let Err(violation) = self.receive(stream, &mut unheard, &mut actions) {
                self.violated(&violation);
                return;
            }
            for (stream, frame) in actions.frames.drain(..) {
                // The greeting is the only frame a session answers itself.
                admit(&self.connection);
                self.answer(stream, vec![frame]);
            }
            if !self.tell(actions.events.drain(..).map(ToNode::Event).collect()).await {
                return;
            }
        }
        self.session.borrow_mut().ended(stream, &mut actions);
        self.tell(actions.events.drain(..).map(ToNode::Event).collect()).await;
        outbox.finish();
    }

    /// Hears pieces of a stream, until one of them has to wait for memory.
    fn receive(
        &self,
        stream: StreamId,
        unheard: &mut VecDeque<Bytes>,
        actions: &mut SessionActions,
    ) -> Result<(), Violation> {
        let mut session = self.session.borrow_mut();
        while let Some(piece) = unheard.pop_front() {
            if let Heard::NoRoom(rest) = session.receive(stream, piece, actions)? {
                unheard.push_front(rest);
                return Ok(());
            }
        }
        Ok(())
    }

    /// Speaks on one stream until nothing more will be said.
    async fn speak(self: Rc<Self>, stream: StreamId, mut send: SendStream, outbox: Rc<Outbox>) {
        let lane = LaneId { connection: self.id, stream };
        let mut pieces = Vec::new();
        loop {
            let Some(delivered) = outbox.next(&mut pieces).await else { break };
            let bytes: usize = pieces.iter().map(Bytes::len).sum();
            self.context.metrics.bytes_sent.add(bytes as u64);
            self.context.metrics.bytes_delivered.add(delivered);
            if send.write_all_chunks(&mut pieces).await.is_err() {
                break;
            }
            pieces.clear();
            if delivered > 0 && !self.tell(vec![ToNode::Event(Event::Sent(lane, delivered))]).await {
                break;
            }
        }
        self.outboxes.borrow_mut().remove(&stream);
        self.context.metrics.streams.subtract(1);
        // A stream that the peer has stopped needs no end.
        let _stopped = send.finish();
    }

    /// Hands something from the node to the stream it is for.
    fn send(&self, outgoing: Outgoing) {
        match outgoing {
            Outgoing::Frames(lane, pieces) => self.answer(lane.stream, pieces),
            Outgoing::Delivery(lane, pieces) => {
                let bytes = pieces.iter().map(|piece| piece.len() as u64).sum();
                if let Some(outbox) = self.outboxes.borrow().get(&lane.stream) {
                    outbox.add(pieces, bytes);
                }
            }
            Outgoing::Grant(lane, limit_bytes) => {
                let frame = self.session.borrow_mut().grant(lane.stream, limit_bytes);
                if let Some(frame) = frame {
                    self.answer(lane.stream, vec![frame]);
                }
            }
            Outgoing::Finish(lane) => {
                if let Some(outbox) = self.outboxes.borrow().get(&lane.stream) {
                    outbox.finish();
                }
            }
            Outgoing::Close(_, code, detail) => self.violated(&Violation { code, detail }),
        }
    }

    fn answer(&self, stream: StreamId, pieces: Vec<Bytes>) {
        if let Some(outbox) = self.outboxes.borrow().get(&stream) {
            outbox.add(pieces, 0);
        }
    }

    fn go_away(&self) {
        let deadline_ms = u32::try_from(GOING_AWAY_WITHIN.as_millis()).unwrap_or(u32::MAX);
        let frame = GoAway { code: ErrorCode::GoingAway, deadline_ms }.to_frame();
        self.answer(StreamId(0), vec![frame]);
    }

    fn violated(&self, violation: &Violation) {
        let client = self.session.borrow().client_name().to_owned();
        let (code, detail) = (violation.code.number(), &violation.detail);
        tracing::warn!(connection = self.id.0, client, code, detail, "the peer broke the protocol");
        self.close(violation.code, &violation.detail);
    }

    fn close(&self, code: ErrorCode, detail: &str) {
        self.context.metrics.connection_closed(code);
        self.connection.close(VarInt::from_u32(u32::from(code.number())), detail.as_bytes());
    }

    /// Tells the node, waiting for room. Says whether it is still there.
    async fn tell(&self, mut messages: Vec<ToNode>) -> bool {
        let mut node = self.context.node.clone();
        while !messages.is_empty() {
            if node.push_batch(&mut messages).is_err() {
                return false;
            }
            if !messages.is_empty() && node.room(0).await.is_err() {
                return false;
            }
        }
        true
    }
}

impl Outbox {
    fn add(&self, pieces: Vec<Bytes>, delivered: u64) {
        let mut waiting = self.waiting.borrow_mut();
        if delivered == 0 {
            waiting.answer_bytes += pieces.iter().map(Bytes::len).sum::<usize>();
        }
        waiting.frames.push_back((pieces, delivered));
        drop(waiting);
        self.filled.notify_one();
    }

    fn finish(&self) {
        self.waiting.borrow_mut().finish = true;
        self.filled.notify_one();
    }

    /// Waits until the answers on this stream are being taken.
    async fn room(&self) {
        while self.waiting.borrow().answer_bytes > ANSWERS_BYTES_MAX {
            self.emptied.notified().await;
        }
    }

    /// Takes what is to be sent next, and says how many bytes of it are deliveries. `None` at the end.
    async fn next(&self, pieces: &mut Vec<Bytes>) -> Option<u64> {
        loop {
            if let Some(delivered) = self.take(pieces) {
                return Some(delivered);
            }
            if self.waiting.borrow().finish {
                return None;
            }
            self.filled.notified().await;
        }
    }

    fn take(&self, pieces: &mut Vec<Bytes>) -> Option<u64> {
        let mut waiting = self.waiting.borrow_mut();
        let mut delivered = 0;
        let mut any = false;
        while pieces.len() < PIECES
            && let Some((frame, bytes)) = waiting.frames.pop_front()
        {
            any = true;
            delivered += bytes;
            if bytes == 0 {
                waiting.answer_bytes -= frame.iter().map(Bytes::len).sum::<usize>();
            }
            pieces.extend(frame);
        }
        drop(waiting);
        if any {
            self.emptied.notify_one();
        }
        any.then_some(delivered)
    }
}
