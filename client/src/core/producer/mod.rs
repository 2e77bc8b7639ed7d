//! The producer: from records to batches to results.
//!
//! It owns the partitions' queues, the lanes' credit and the window, and routes between them. Every record that was taken
//! gets exactly one result; results of one partition come in the order of its records; sequences have no gaps; credit is never
//! exceeded; at most so many batches of a partition are unanswered.
//!
//! A batch goes at once when its partition has nothing unanswered, and fills while it has. So a lone record waits for
//! nothing, and the batches of a busy partition grow with the time an answer takes.

mod answers;
mod batch;
mod lane;
mod partition;
mod sending;
#[cfg(test)]
mod tests;
mod timers;
mod types;

use std::collections::BTreeSet;

use weir_protocol::ErrorCode;
use weir_protocol::batch::{BatchBuilder, RecordInput};
use weir_protocol::partitioner::partition_of;
use weir_protocol::units::PartitionId;

use crate::core::backoff::Budget;
use crate::core::random::Random;
use crate::core::time::Mono;
use crate::core::window::Window;
use crate::failure::BlockedBy;

use batch::Batch;
use lane::Lane;
use partition::{BatchBounds, Partition, Pause, Refusal};
pub use types::{
    BatchNumber, Completion, Failed, Identity, LaneId, Outcome, Outgoing, OutgoingContent, ProducerOptions,
    PushError, Pushed, Routing, Violation, Why,
};

/// The machine of one producer. `T` is what the driver wants back with each batch's result.
#[derive(Debug)]
pub struct Producer<T> {
    options: ProducerOptions,
    identity: Identity,
    partitions: Vec<Option<Box<Partition<T>>>>,
    lanes: Vec<Lane>,
    /// Bytes and messages without a result, and who waits for room.
    pub window: Window,
    /// The partition that records without a key go to until its batch is closed.
    sticky: u32,
    timers: BTreeSet<(Mono, u32)>,
    /// Batches that somebody waits for.
    unresolved: BTreeSet<BatchNumber>,
    next_number: u64,
    budget: Budget,
    random: Random,
    wants_identity: bool,
    ended: Option<Why>,
    /// Since when nothing has moved although something should.
    stalled_since: Option<Mono>,
    wakes: BTreeSet<LaneId>,
}

impl<T> Producer<T> {
    /// A producer with nothing to send.
    ///
    /// # Panics
    /// If the topic has no partition.
    #[must_use]
    pub fn new(options: ProducerOptions, identity: Identity, seed: u64) -> Self {
        assert!(options.partitions > 0, "a topic has at least one partition");
        let mut random = Random::new(seed);
        let partitions = options.partitions;
        let sticky = u32::try_from(random.below(u64::from(partitions))).expect("below a number of 32 bits");
        Self {
            identity,
            partitions: (0..partitions).map(|_| None).collect(),
            lanes: vec![Lane::default()],
            window: Window::new(options.in_flight_bytes, options.in_flight_messages),
            sticky,
            timers: BTreeSet::new(),
            unresolved: BTreeSet::new(),
            next_number: 0,
            budget: Budget::new(options.retry.budget),
            random,
            wants_identity: false,
            ended: None,
            stalled_since: None,
            wakes: BTreeSet::new(),
            options,
        }
    }

    /// What it was made with.
    #[must_use]
    pub const fn options(&self) -> &ProducerOptions {
        &self.options
    }

    /// The partition a record goes to.
    ///
    /// # Errors
    /// [`PushError::NoPartition`] if it names one that is not there.
    pub fn route(&self, routing: Routing) -> Result<PartitionId, PushError> {
        match routing {
            Routing::Partition(partition) if partition.get() < self.options.partitions => Ok(partition),
            Routing::Partition(_) => Err(PushError::NoPartition),
            Routing::Hash(hash) => Ok(partition_of(hash, self.options.partitions)),
            Routing::Any => Ok(PartitionId::new(self.sticky)),
        }
    }

    /// Puts a record into the open batch of a partition. Room in the window must have been reserved; it is given back with
    /// the result of the batch. If the record is not taken, the room stays the caller's.
    ///
    /// # Errors
    /// Why it was not taken. After [`PushError::NeedsBatch`] the caller opens a batch and pushes again; after
    /// [`PushError::Closed`] it routes again, because records without a key change the partition then.
    pub fn push(
        &mut self,
        partition: PartitionId,
        record: &RecordInput<'_>,
        cost: u64,
    ) -> Result<Pushed, PushError> {
        let bounds = BatchBounds {
            bytes: self.options.batch_bytes,
            bytes_max: self.options.batch_bytes_max,
            records: self.options.batch_records,
        };
        let slot = self.partitions.get_mut(index(partition)).ok_or(PushError::NoPartition)?;
        let Some(queue) = slot else {
            return Err(PushError::NeedsBatch { bytes_max: bounds.bytes, expected: 0 });
        };
        match queue.push(record, cost, bounds) {
            Ok((index, is_full)) => {
                let is_news = !queue.scheduled && queue.is_sendable(self.options.unacked_batches);
                if is_full {
                    self.leave(partition);
                }
                let wake = if is_news { self.schedule(partition) } else { None };
                Ok(Pushed { index, wake })
            }
            Err(refusal) => {
                if let Some(number) = queue.remove_empty() {
                    self.unresolved.remove(&number);
                }
                Err(self.refused(partition, refusal))
            }
        }
    }

    /// What the newest batch of a partition was opened with: that of the record pushed last.
    #[must_use]
    pub fn newest_ticket(&self, partition: PartitionId) -> Option<&T> {
        self.partitions.get(index(partition))?.as_deref()?.newest_ticket()
    }

    fn refused(&mut self, partition: PartitionId, refusal: Refusal) -> PushError {
        match refusal {
            Refusal::NeedsBatch(bytes_max) => {
                let expected = self.queue_mut(partition).map_or(0, |queue| queue.expected_bytes());
                // Growing at the very end would double a buffer for its last records.
                let expected = if expected > bytes_max / 2 { bytes_max } else { expected };
                PushError::NeedsBatch { bytes_max, expected }
            }
            Refusal::Closed => {
                self.leave(partition);
                PushError::Closed { wake: self.schedule(partition) }
            }
            Refusal::TooLarge { bytes, max } => PushError::TooLarge { bytes, max },
            Refusal::TooManyHeaders { max } => PushError::TooManyHeaders { max },
        }
    }

    /// Opens a batch in a partition and closes the one before.
    ///
    /// # Panics
    /// If there is no such partition, or the producer has ended: [`Producer::push`] says so first.
    pub fn open_batch(&mut self, partition: PartitionId, builder: BatchBuilder, ticket: T, now: Mono) {
        assert!(self.ended.is_none(), "a producer that has ended takes no records");
        let number = BatchNumber(self.next_number);
        self.next_number += 1;
        self.unresolved.insert(number);
        let (topic, identity) = (self.options.topic, self.identity);
        let slot = self.partitions.get_mut(index(partition)).expect("the partition was routed to");
        let queue = slot.get_or_insert_with(|| Box::new(Partition::new(topic, partition, identity)));
        queue.open(Batch::new(number, ticket, builder, now));
        if self.options.linger.is_zero() {
            queue.make_due();
        }
        self.set_timer(partition);
    }

    /// Records without a key leave a partition whose batch is closed.
    fn leave(&mut self, partition: PartitionId) {
        if partition.get() == self.sticky {
            self.sticky = (self.sticky + 1) % self.options.partitions;
        }
    }

    fn lane_of(&self, partition: PartitionId) -> LaneId {
        let lanes = u32::try_from(self.lanes.len()).expect("lanes are few");
        LaneId(partition.get() % lanes)
    }

    fn queue_mut(&mut self, partition: PartitionId) -> Option<&mut Partition<T>> {
        self.partitions.get_mut(index(partition))?.as_deref_mut()
    }

    /// Puts a partition into its lane's queue if it has something to send. Says which lane has something now and had
    /// nothing before.
    fn schedule(&mut self, partition: PartitionId) -> Option<LaneId> {
        let unacked_max = self.options.unacked_batches;
        let lane = self.lane_of(partition);
        let queue = self.partitions.get_mut(index(partition))?.as_deref_mut()?;
        if queue.scheduled || !queue.is_sendable(unacked_max) {
            return None;
        }
        queue.scheduled = true;
        let is_first = self.lanes.get_mut(lane.0 as usize)?.enqueue(partition);
        is_first.then_some(lane)
    }

    fn schedule_later(&mut self, partition: PartitionId) {
        if let Some(lane) = self.schedule(partition) {
            self.wakes.insert(lane);
        }
    }

    /// The lanes that got something to send from an answer, a timer or a new stream since the last call.
    pub fn wakes(&mut self) -> impl Iterator<Item = LaneId> + use<T> {
        std::mem::take(&mut self.wakes).into_iter()
    }

    /// Sends what lingers. Everything taken so far has its result once [`Producer::is_resolved_below`] the returned number.
    pub fn flush(&mut self) -> BatchNumber {
        for partition in (0..self.options.partitions).map(PartitionId::new) {
            if let Some(queue) = self.queue_mut(partition) {
                queue.make_due();
                self.schedule_later(partition);
            }
        }
        BatchNumber(self.next_number)
    }

    /// Whether every batch before this one has its result.
    #[must_use]
    pub fn is_resolved_below(&self, number: BatchNumber) -> bool {
        self.unresolved.first().is_none_or(|first| *first >= number)
    }

    /// Whether nothing waits for a result.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.unresolved.is_empty()
    }

    /// Ends the producer: everything without a result fails for this reason. Answers that still come are ignored.
    pub fn end(&mut self, why: &Why, out: &mut Vec<Completion<T>>) {
        self.ended = Some(why.clone());
        for partition in (0..self.options.partitions).map(PartitionId::new) {
            let mut ended = Vec::new();
            if let Some(queue) = self.queue_mut(partition) {
                queue.fail_all(why, |batch| ended.push(batch));
            }
            ended.into_iter().for_each(|ended| self.end_batch(ended, out));
        }
        self.timers.clear();
    }

    /// Why it ended, if it has.
    #[must_use]
    pub const fn ended(&self) -> Option<&Why> {
        self.ended.as_ref()
    }

    /// Bytes the broker would take at once, over all lanes.
    #[must_use]
    pub fn credit(&self) -> u64 {
        self.lanes.iter().map(Lane::available).fold(0, u64::saturating_add)
    }

    /// What it waits for, and since when, if it waits for anything but its own answers.
    #[must_use]
    pub fn blocked(&self) -> Option<(BlockedBy, Mono)> {
        let since = self.stalled_since.unwrap_or_default();
        if self.is_idle() {
            return None;
        }
        let pauses = self.partitions.iter().flatten().map(|queue| queue.pause);
        let paused_by = |code| pauses.clone().any(|pause| matches!(pause, Pause::Until(_, by) if by == code));
        let cause = if self.lanes.iter().all(|lane| !lane.is_open) {
            BlockedBy::Disconnected
        } else if paused_by(ErrorCode::StorageFull) {
            BlockedBy::StorageFull
        } else if paused_by(ErrorCode::Throttled)
            || self.lanes.iter().any(|lane| lane.is_starved && lane.is_throttled)
        {
            BlockedBy::Quota
        } else if self.lanes.iter().any(|lane| lane.is_starved) {
            BlockedBy::ServerCredit
        } else if self.window.waiting() > 0 {
            BlockedBy::LocalBuffer
        } else {
            return None;
        };
        Some((cause, since))
    }
}

fn index(partition: PartitionId) -> usize {
    partition.get() as usize
}
