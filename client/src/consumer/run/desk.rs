//! The records that handlers are dealing with, and what becomes of them.

use std::collections::HashMap;
use std::hash::Hasher as _;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use xxhash_rust::xxh3::Xxh3;

use super::{Handler, HandlerError, RunReport};
use crate::core::time::Mono;
use crate::core::work::{Order, Ticket, Work};
use crate::message::Delivered;
use crate::options::Breaker;

/// How a handler came to its end.
pub(super) enum End {
    Handled,
    Failed(String),
    Reject(String),
    Unavailable,
}

/// A task that has ended.
pub(super) type Ended = Result<(Id, End), JoinError>;

/// A record that a handler is dealing with.
struct Running {
    ticket: Ticket,
    record: Delivered,
    task: AbortHandle,
}

pub(super) struct Desk {
    work: Work<Delivered>,
    running: HashMap<Id, Running>,
    tasks: JoinSet<End>,
    runtime: Handle,
    timeout: Duration,
    report: RunReport,
}

impl Desk {
    pub(super) fn new((concurrency, breaker): (usize, Breaker), timeout: Duration, runtime: Handle) -> Self {
        Self {
            work: Work::new(concurrency, breaker),
            running: HashMap::new(),
            tasks: JoinSet::new(),
            runtime,
            timeout,
            report: RunReport::default(),
        }
    }

    pub(super) const fn report(&self) -> RunReport {
        self.report
    }

    pub(super) fn wants(&self) -> bool {
        self.work.wants()
    }

    pub(super) fn offer(&mut self, record: Delivered) {
        self.work.offer(order(&record), record);
    }

    /// Begins what can be begun. Says when to look again, if the circuit is open.
    pub(super) fn begin<H: Handler>(&mut self, now: Mono, handler: &Arc<H>) -> Option<Mono> {
        self.work.pass_time(now);
        while let Some((ticket, record)) = self.work.begin() {
            // A copy: if the handler panics, its record is still here, and has failed.
            let (handler, theirs, timeout) = (Arc::clone(handler), record.clone(), self.timeout);
            let dealing = async move {
                match tokio::time::timeout(timeout, handler.handle(&theirs)).await {
                    Ok(Ok(())) => End::Handled,
                    Ok(Err(HandlerError::Reject(reason))) => End::Reject(reason),
                    Ok(Err(HandlerError::Retry(error))) => End::Failed(error.to_string()),
                    Ok(Err(HandlerError::Unavailable(error))) => {
                        tracing::warn!(%error, "what a handler needs is down");
                        End::Unavailable
                    }
                    Err(_elapsed) => End::Failed(format!("it took longer than {timeout:?}")),
                }
            };
            let task = self.tasks.spawn_on(dealing, &self.runtime);
            self.running.insert(task.id(), Running { ticket, record, task });
        }
        self.work.open_until()
    }

    /// The next handler that comes to its end; nothing if none runs.
    ///
    /// # Cancel safety
    /// If dropped before completion none is lost.
    pub(super) async fn next_ended(&mut self) -> Option<Ended> {
        self.tasks.join_next_with_id().await
    }

    /// A handler has come to its end.
    pub(super) fn settle(&mut self, now: Mono, ended: Ended) {
        let (id, end) = match ended {
            Ok((id, end)) => (id, Some(end)),
            Err(error) if error.is_cancelled() => (error.id(), None),
            Err(error) => (error.id(), Some(End::Failed("the handler panicked".to_owned()))),
        };
        let Some(Running { ticket, record, .. }) = self.running.remove(&id) else { return };
        let given_back = match end {
            Some(End::Handled) => {
                self.report.handled += 1;
                self.work.done(ticket);
                record.ack();
                Vec::new()
            }
            Some(End::Failed(reason)) => {
                self.report.failed += 1;
                let (partition, offset) = (record.partition, record.offset);
                tracing::debug!(partition, offset, reason, "a handler failed");
                record.nack_because(None, &reason);
                self.work.failed(now, ticket)
            }
            Some(End::Reject(reason)) => {
                self.report.rejected += 1;
                record.reject(&reason);
                self.work.rejected(ticket)
            }
            Some(End::Unavailable) => {
                self.report.unavailable += 1;
                self.work.unavailable(now, ticket, record);
                Vec::new()
            }
            None => {
                self.report.dropped += 1;
                self.work.dropped(ticket);
                vec![record]
            }
        };
        self.hand_back(given_back);
    }

    /// What waits of partitions that are to be given back is given back, and handlers of records that are another's now are
    /// dropped.
    pub(super) fn follow_leases(&mut self) {
        let given_back = self.work.give_back(Delivered::is_kept);
        self.hand_back(given_back);
        self.running
            .values()
            .filter(|running| !running.record.is_leased())
            .for_each(|gone| gone.task.abort());
    }

    /// Gives back what waits.
    pub(super) fn give_back(&mut self) {
        let given_back = self.work.give_back(|_| false);
        self.hand_back(given_back);
    }

    /// Drops the handlers that are left, and gives everything back.
    pub(super) async fn end(&mut self) {
        self.tasks.shutdown().await;
        self.report.dropped += self.running.len() as u64;
        let left = self.running.drain().map(|(_, running)| running.record).collect();
        self.hand_back(left);
        self.give_back();
    }

    fn hand_back(&mut self, records: Vec<Delivered>) {
        self.report.returned += records.len() as u64;
        records.into_iter().for_each(Delivered::give_back);
    }
}

/// Keys keep their order, and a partition stands still when a record of it has failed.
fn order(record: &Delivered) -> Order {
    let key = record.message.key.as_ref().map(|key| {
        let mut hasher = Xxh3::new();
        hasher.write_u32(record.partition);
        hasher.write(key);
        hasher.finish()
    });
    Order { key, track: u64::from(record.partition) }
}
