//! The consumer: reads records, partition by partition in order.

pub(crate) mod assignment;
mod batch;
mod builder;
mod event;
mod history;
mod membership;
mod reading;
mod run;
mod settle;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use weir_protocol::units::PartitionId;

use crate::checkpoint::Checkpoint;
use crate::client::DrainReport;
use crate::error::Error;
use crate::message::Delivered;
use crate::net::member::GroupShared;
use crate::net::shared::lock;
use crate::options::Start;
use crate::watch::Watch;

pub use assignment::{Assigned, AssignmentListener, Control, Revoking};
pub use builder::ConsumerBuilder;
pub use event::{ConsumerEvent, ConsumerEvents, GapReason};
pub use history::KeyHistory;
use reading::Reading;
pub use run::{Handler, HandlerError, Run, RunReport};
pub use settle::Confirm;
pub(crate) use settle::Leased;

/// Reads records of a topic as they come, without an end.
///
/// The records of a partition come in order, each once. A connection that is lost comes back by itself, and reading goes on
/// at the next record; [`Consumer::events`] tells. It ends only if nothing can be read any more: the topic was deleted, every
/// partition failed, or the client was closed; the reason comes first.
#[derive(Debug)]
pub struct Consumer(Reading);

/// Reads a topic up to the end that was seen at the start.
///
/// As a stream it ends there.
#[derive(Debug)]
pub struct BoundedRead(Reading);

/// What both kinds of reading have in common: written once, public on both.
macro_rules! reads {
    ($name:ident) => {
        impl $name {
            /// The next record. Waits until there is one; `None` after the last.
            ///
            /// An error concerns one partition, which is not read any further, or everything; others go on.
            ///
            /// # Cancel safety
            /// If dropped before completion no record is lost.
            pub async fn recv(&mut self) -> Option<Result<Delivered, Error>> {
                self.0.recv().await
            }

            /// Up to `max` records: those that are there, as soon as there is one; none if there is none within `wait`, or
            /// at the end.
            ///
            /// # Errors
            /// As in [`recv`](Self::recv). Records that came before the error have been returned before it.
            ///
            /// # Cancel safety
            /// If dropped before completion no record is lost.
            pub async fn recv_batch(&mut self, max: usize, wait: Duration) -> Result<Vec<Delivered>, Error> {
                let mut records = Vec::new();
                self.0.recv_into(&mut records, max, wait).await?;
                Ok(records)
            }

            /// As [`recv_batch`](Self::recv_batch), into a vector whose memory is used again. Returns how many were added.
            ///
            /// # Errors
            /// As in [`recv`](Self::recv).
            ///
            /// # Cancel safety
            /// If dropped before completion no record is lost.
            pub async fn recv_into(
                &mut self,
                records: &mut Vec<Delivered>,
                max: usize,
                wait: Duration,
            ) -> Result<usize, Error> {
                self.0.recv_into(records, max, wait).await
            }

            /// What happens beside records, from now on.
            #[must_use]
            pub fn events(&self) -> ConsumerEvents {
                self.0.events()
            }

            /// The positions after what was received, of all partitions where that is known.
            #[must_use]
            pub fn checkpoint(&self) -> Checkpoint {
                self.0.checkpoint()
            }

            /// How many records of each partition have not been received, as far as the broker has told; to be looked at or
            /// watched.
            #[must_use]
            pub fn lag(&self) -> Watch<Vec<(u32, u64)>> {
                self.0.lag()
            }
        }

        impl Stream for $name {
            type Item = Result<Delivered, Error>;

            fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
                self.0.poll_next(context)
            }
        }
    };
}

reads!(Consumer);
reads!(BoundedRead);

impl BoundedRead {
    /// Whether everything up to the end seen at the start was received.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.0.is_complete()
    }
}

impl Consumer {
    /// Moves to another position: one partition with [`Start::Offset`], else all that are read. What came before the move and
    /// was not received is thrown away.
    ///
    /// An offset that the partition does not hold is an error of the next [`Consumer::recv`].
    ///
    /// # Errors
    /// `WEIR-1027` if the partition is not among those that are read, a checkpoint is of another topic, or the consumer is a
    /// member of a group: [`Admin::reset_group`](crate::Admin::reset_group) moves that.
    ///
    /// # Cancel safety
    /// It does not wait, so it cannot be cancelled half-way.
    #[expect(clippy::unused_async, reason = "a later version may wait for the broker's answer")]
    pub async fn seek(&mut self, start: Start) -> Result<(), Error> {
        self.0.seek(&start)
    }

    /// Stops giving records out: [`Consumer::recv`] waits until [`Consumer::resume`]. What has been granted still comes, and
    /// then the broker stops sending.
    pub fn pause(&self) {
        self.0.set_paused(true);
    }

    /// Goes on giving records out.
    pub fn resume(&self) {
        self.0.set_paused(false);
    }

    /// Acknowledges everything before a checkpoint, as a member of a group.
    ///
    /// # Errors
    /// `WEIR-4103` if the lease of a partition in it has ended, `WEIR-1027` without a group.
    ///
    /// # Cancel safety
    /// If dropped before completion it may have been acknowledged.
    pub async fn commit(&self, checkpoint: &Checkpoint) -> Result<(), Error> {
        match &self.0.group {
            Some(group) => assignment::commit(group, checkpoint).await,
            None => Err(Error::invalid("the consumer is in no group: there is nothing to acknowledge")),
        }
    }

    /// Deals with the records by a handler, as a member of a group: acknowledges what it has dealt with, has come again what
    /// failed, and ends in order. Await what it gives.
    pub fn run<H: Handler>(self, handler: H) -> Run<H> {
        Run::new(self, handler)
    }

    /// Its membership, if it is in a group.
    pub(crate) fn membership(&self) -> Option<Arc<GroupShared>> {
        self.0.group.clone()
    }

    /// Ends reading. A member of a group waits until what was acknowledged is durable, at most until the deadline, and
    /// leaves the group; a plain reader owes the broker nothing.
    ///
    /// # Cancel safety
    /// If dropped before completion, acknowledgements may be lost: what they are for is delivered again.
    pub async fn drain(self, deadline: Duration) -> DrainReport {
        let Some(group) = &self.0.group else { return DrainReport::default() };
        let client = &self.0.shared.client;
        let until = client.now().after(deadline);
        let timed_out = tokio::select! {
            () = group.settled() => false,
            () = client.sleep_until(until) => true,
        };
        tokio::select! {
            () = group.left() => {}
            () = client.sleep_until(until) => {}
        }
        DrainReport { timed_out, ..DrainReport::default() }
    }
}

impl Reading {
    fn seek(&mut self, start: &Start) -> Result<(), Error> {
        if self.group.is_some() {
            return Err(Error::invalid("a member of a group reads where the group stands"));
        }
        let partitions: Vec<PartitionId> = {
            let state = lock(&self.shared.state);
            state.machine.partitions().collect()
        };
        let starts = builder::starts(start, self.topic_id, &partitions)?;
        self.discard();
        let is_known = self
            .shared
            .with(|state| starts.iter().all(|(partition, start)| state.machine.seek(*partition, *start)));
        self.shared.wake_lanes();
        if is_known { Ok(()) } else { Err(Error::invalid("the partition is not among those that are read")) }
    }

    fn set_paused(&self, is_paused: bool) {
        self.shared.paused.store(is_paused, Ordering::Relaxed);
        self.shared.with(|state| {
            if let Some(waker) = state.waker.take() {
                waker.wake();
            }
        });
    }

    fn events(&self) -> ConsumerEvents {
        ConsumerEvents::new(self.shared.events.subscribe())
    }

    fn checkpoint(&self) -> Checkpoint {
        let mut sum = Checkpoint::default();
        for (partition, next) in self.positions() {
            sum.merge(&Checkpoint::of(self.topic_id, partition.get(), next.get(), self.partition_epoch));
        }
        sum
    }

    fn lag(&self) -> Watch<Vec<(u32, u64)>> {
        let shared = Arc::clone(&self.shared);
        let changes = shared.lag.subscribe();
        let read = move || {
            lock(&shared.state).machine.lag().map(|(partition, lag)| (partition.get(), lag)).collect()
        };
        Watch::new(Arc::new(read), changes)
    }
}
