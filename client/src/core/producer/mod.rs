//! The producer: from records to batches to results.
//!
//! It owns the partitions' queues, the lanes' credit and the window, and routes between them. Every record that was taken
//! gets exactly one result; results of one partition come in the order of its records; sequences have no gaps; credit is never
//! exceeded; at most so many batches of a partition are unanswered.
//!
//! A batch goes at once when its partition has nothing unanswered, and fills while it has. So a lone record waits for
//! nothing, and the batches of a busy partition grow with the time an answer takes.

mod lane;
mod partition;
#[cfg(test)]
mod tests;
mod types;

use std::collections::BTreeSet;

use weir_protocol::ErrorClass;
use weir_protocol::ErrorCode;
use weir_protocol::batch::{BatchBuilder, ProducerBatch, RecordInput};
use weir_protocol::message::{AckEntry, Publish, PublishRejected};
use weir_protocol::partitioner::partition_of;
use weir_protocol::units::PartitionId;

use crate::core::backoff::{self, Budget};
use crate::core::random::Random;
use crate::core::time::Mono;
use crate::core::window::Window;
use crate::error::BlockedBy;

use lane::Lane;
use partition::{BatchBounds, Ended, Partition, Pause, Refusal};
pub use types::{
    BatchNumber, Completion, Failed, Identity, LaneId, Outcome, Outgoing, OutgoingContent, ProducerOptions,
    PushError, Pushed, Routing, Violation, Why,
};

/// Rounds in a row that may end with "an earlier batch is missing" before the broker is taken at its word: it has lost
/// batches that it had acknowledged, and only a new identity helps.
const GAPS_MAX: u32 = 3;

/// Bytes taken for a lane at once: bounds what a slow stream keeps from being counted as unsent.
const TAKE_BYTES: usize = 1 << 20;

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
    ) -> Result<Pushed<'_, T>, PushError> {
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
                if is_full {
                    self.leave(partition);
                }
                let wake = self.schedule(partition);
                let ticket = self.newest_ticket(partition);
                Ok(Pushed { ticket, index, wake })
            }
            Err(refusal) => {
                if let Some(number) = queue.remove_empty() {
                    self.unresolved.remove(&number);
                }
                Err(self.refused(partition, refusal))
            }
        }
    }

    fn newest_ticket(&self, partition: PartitionId) -> &T {
        let queue = self.partitions.get(index(partition)).and_then(|slot| slot.as_deref());
        queue.and_then(Partition::newest_ticket).expect("a batch that takes records is awaited")
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

    /// Opens a batch in a partition, with memory to put it in, and closes the one before.
    ///
    /// # Panics
    /// If there is no such partition, or the producer has ended: [`Producer::push`] says so first.
    pub fn open_batch(
        &mut self,
        partition: PartitionId,
        bytes_max: usize,
        buffer: Vec<u8>,
        ticket: T,
        now: Mono,
    ) {
        assert!(self.ended.is_none(), "a producer that has ended takes no records");
        let number = BatchNumber(self.next_number);
        self.next_number += 1;
        self.unresolved.insert(number);
        let due = self.options.linger.is_zero();
        let (topic, identity) = (self.options.topic, self.identity);
        let slot = self.partitions.get_mut(index(partition)).expect("the partition was routed to");
        let queue = slot.get_or_insert_with(|| Box::new(Partition::new(topic, partition, identity)));
        queue.open(number, ticket, BatchBuilder::with_buffer(bytes_max, buffer), now, due);
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

    /// A connection was made: partitions are spread over so many lanes while it lasts. All lanes are closed.
    /// At most `unacked_batches` of a partition may be unanswered on it.
    pub fn connected(&mut self, lanes: u32, unacked_batches: usize) {
        assert!(
            self.lanes.iter().all(|lane| !lane.is_open),
            "lanes are spread anew on a new connection only"
        );
        self.options.unacked_batches = unacked_batches.max(1);
        let lanes = lanes.clamp(1, self.options.partitions);
        self.lanes.resize_with(lanes as usize, Lane::default);
        self.lanes.iter_mut().for_each(Lane::reset);
        for queue in self.partitions.iter_mut().flatten() {
            queue.scheduled = false;
        }
        for lane in 0..lanes {
            self.wakes.insert(LaneId(lane));
        }
    }

    /// How many lanes there are.
    #[must_use]
    pub fn lanes(&self) -> u32 {
        u32::try_from(self.lanes.len()).expect("lanes are few")
    }

    fn partitions_of(&self, lane: LaneId) -> impl Iterator<Item = PartitionId> + use<T> {
        (lane.0..self.options.partitions).step_by(self.lanes.len()).map(PartitionId::new)
    }

    /// Whether a lane has anything to carry, so that its stream is worth opening.
    #[must_use]
    pub fn is_lane_needed(&self, lane: LaneId) -> bool {
        let slot = |partition: PartitionId| self.partitions.get(index(partition)).and_then(Option::as_ref);
        self.partitions_of(lane).any(|partition| slot(partition).is_some_and(|queue| !queue.is_empty()))
    }

    /// Whether no batch on the lane waits for an answer.
    #[must_use]
    pub fn is_lane_idle(&self, lane: LaneId) -> bool {
        let slot = |partition: PartitionId| self.partitions.get(index(partition)).and_then(Option::as_ref);
        self.partitions_of(lane).all(|partition| slot(partition).is_none_or(|queue| !queue.is_awaiting()))
    }

    /// The stream of a lane was opened.
    pub fn lane_opened(&mut self, lane: LaneId) {
        let Some(open) = self.lanes.get_mut(lane.0 as usize) else { return };
        open.open();
        for partition in self.partitions_of(lane) {
            if let Some(queue) = self.queue_mut(partition) {
                queue.scheduled = false;
                self.schedule_later(partition);
            }
        }
    }

    /// The stream of a lane is gone, with the connection or alone. Nothing on it will be answered any more.
    pub fn lane_lost(&mut self, lane: LaneId, now: Mono) {
        let Some(lost) = self.lanes.get_mut(lane.0 as usize) else { return };
        lost.reset();
        for partition in self.partitions_of(lane) {
            if let Some(queue) = self.queue_mut(partition) {
                queue.scheduled = false;
                queue.lane_lost();
            }
        }
        if !self.unresolved.is_empty() {
            self.stalled_since.get_or_insert(now);
        }
    }

    /// The broker raised the credit of a lane.
    pub fn granted(&mut self, lane: LaneId, limit: u64) {
        if let Some(granted) = self.lanes.get_mut(lane.0 as usize) {
            granted.grant(limit);
            self.wakes.insert(lane);
        }
    }

    /// Takes what may be sent on a lane now: whole batches, in turns of the partitions, within its credit.
    pub fn take(&mut self, lane_id: LaneId, out: &mut Vec<Outgoing>) {
        let unacked_max = self.options.unacked_batches;
        let mut taken = 0;
        while taken < TAKE_BYTES as u64 {
            let Some(lane) = self.lanes.get_mut(lane_id.0 as usize).filter(|lane| lane.is_open) else {
                return;
            };
            let Some(partition) = lane.first() else { return };
            let slot = self.partitions.get_mut(index(partition)).and_then(Option::as_deref_mut);
            let Some(queue) = slot.filter(|queue| queue.is_sendable(unacked_max)) else {
                lane.advance();
                if let Some(queue) = self.queue_mut(partition) {
                    queue.scheduled = false;
                }
                continue;
            };
            let reserved = queue.next_length();
            if !lane.reserve(reserved) {
                return;
            }
            lane.advance();
            queue.scheduled = false;
            let incarnation = lane.incarnation();
            let (number, acked_below, content, was_open) =
                queue.take().expect("the queue said it is sendable");
            if was_open {
                self.leave(partition);
            }
            taken += reserved;
            let mut outgoing = Outgoing { incarnation, reserved, number, partition, acked_below, content };
            if let OutgoingContent::Sealed(batch) = &outgoing.content {
                let actual = (Publish::OVERHEAD_BYTES + batch.length()) as u64;
                self.spend(lane_id, &mut outgoing, actual);
            }
            out.push(outgoing);
            // More of the same partition comes after the others had their turn; the caller takes until nothing comes.
            self.schedule(partition);
        }
    }

    fn spend(&mut self, lane: LaneId, outgoing: &mut Outgoing, actual: u64) -> bool {
        let lane = self.lanes.get_mut(lane.0 as usize);
        let Some(lane) = lane.filter(|lane| lane.incarnation() == outgoing.incarnation) else { return false };
        lane.spend(std::mem::take(&mut outgoing.reserved), actual);
        true
    }

    /// Keeps a batch that was taken unsealed, now that it is sealed. Says whether it is to be written to the lane: not if
    /// the lane was lost or the producer ended in the meantime.
    pub fn sealed(
        &mut self,
        lane: LaneId,
        outgoing: &mut Outgoing,
        batch: &ProducerBatch,
        out: &mut Vec<Completion<T>>,
    ) -> bool {
        let partition = outgoing.partition;
        let Some(queue) = self.queue_mut(partition) else { return false };
        if !queue.sealed(outgoing.number, batch) {
            return false;
        }
        if let Some(why) = self.ended.clone() {
            let queue = self.queue_mut(partition).expect("it was there a moment ago");
            let identity = queue.first_identity();
            let ended = queue.remove(outgoing.number).and_then(|batch| batch.end(why, &identity));
            ended.into_iter().for_each(|ended| self.end_batch(ended, out));
            return false;
        }
        let actual = (Publish::OVERHEAD_BYTES + batch.length()) as u64;
        let is_current = self.spend(lane, outgoing, actual);
        if !is_current {
            self.schedule_later(partition);
        }
        is_current
    }

    /// The broker stored a batch.
    ///
    /// # Errors
    /// If no such batch waits for an answer on this lane.
    pub fn acked(
        &mut self,
        lane: LaneId,
        entry: &AckEntry,
        now: Mono,
        out: &mut Vec<Completion<T>>,
    ) -> Result<(), Violation> {
        let (partition, sequence) = (entry.partition, entry.sequence);
        let is_here = self.lane_of(partition) == lane;
        let queue = self.queue_mut(partition).filter(|_| is_here).ok_or(Violation { partition, sequence })?;
        let Some(mut batch) = queue.acked(entry)? else {
            self.settle(partition, now, out);
            return Ok(());
        };
        self.stalled_since = None;
        self.budget.earn();
        self.unresolved.remove(&batch.number);
        self.window.release(batch.cost, u64::from(batch.records));
        let (ticket, records) = (batch.ticket.take(), batch.records);
        if let (Some(ticket), Some(bytes)) = (ticket, batch.into_sealed()) {
            out.push(Completion { ticket, records, outcome: Outcome::Stored(*entry, bytes) });
        }
        self.schedule_later(partition);
        Ok(())
    }

    /// The broker refused a batch.
    ///
    /// # Errors
    /// If no such batch waits for an answer on this lane.
    pub fn rejected(
        &mut self,
        lane: LaneId,
        rejection: PublishRejected,
        now: Mono,
        out: &mut Vec<Completion<T>>,
    ) -> Result<(), Violation> {
        let (partition, sequence) = (rejection.partition, rejection.sequence);
        let is_here = self.lane_of(partition) == lane;
        let queue = self.queue_mut(partition).filter(|_| is_here).ok_or(Violation { partition, sequence })?;
        queue.rejected(rejection)?;
        self.stalled_since.get_or_insert(now);
        self.settle(partition, now, out);
        Ok(())
    }

    /// Acts on a refusal, once everything that was sent of the partition has its answer.
    fn settle(&mut self, partition: PartitionId, now: Mono, out: &mut Vec<Completion<T>>) {
        let Some(queue) = self.queue_mut(partition) else { return };
        let Some(verdict) = queue.verdict() else { return };
        queue.failures += 1;
        let is_lost = verdict.code == ErrorCode::SequenceGap && queue.failures >= GAPS_MAX;
        match verdict.code {
            _ if is_lost => self.lose_identity(partition, &verdict, out),
            ErrorCode::ProducerUnknown | ErrorCode::ProducerFenced | ErrorCode::SequenceForgotten => {
                self.lose_identity(partition, &verdict, out);
            }
            // The broker stops, and its recovery decides what was stored: the same sequences are sent again then.
            ErrorCode::StorageFailed => {
                queue.distrust_rejections();
                self.wait_and_retry(partition, &verdict, now);
            }
            code if code.class() == ErrorClass::Retry => self.wait_and_retry(partition, &verdict, now),
            // Its sequence may stand for it already, so no other batch can have that sequence.
            _ if queue.is_first_maybe_stored() => self.lose_identity(partition, &verdict, out),
            _ => {
                queue.failures = 0;
                self.fail_first(partition, &verdict, out);
                self.schedule_later(partition);
            }
        }
    }

    fn wait_and_retry(&mut self, partition: PartitionId, verdict: &PublishRejected, now: Mono) {
        let is_affordable = self.budget.spend();
        let retry = self.options.retry;
        let Some(queue) = self.partitions.get_mut(index(partition)).and_then(Option::as_deref_mut) else {
            return;
        };
        let wait = match verdict.retry_after_ms {
            0 if is_affordable => backoff::delay(&retry, queue.failures, &mut self.random),
            0 => retry.max,
            advised => std::time::Duration::from_millis(u64::from(advised)),
        };
        queue.pause = Pause::Until(now.after(wait), verdict.code);
        self.set_timer(partition);
    }

    fn fail_first(
        &mut self,
        partition: PartitionId,
        verdict: &PublishRejected,
        out: &mut Vec<Completion<T>>,
    ) {
        let why = Why::Rejected { code: verdict.code, detail: verdict.detail.clone() };
        let Some(queue) = self.queue_mut(partition) else { return };
        let identity = queue.first_identity();
        let ended = queue.remove_first().and_then(|batch| batch.end(why, &identity));
        ended.into_iter().for_each(|ended| self.end_batch(ended, out));
    }

    /// Nobody can tell what became of batches whose answers were lost; the others go on under a new identity.
    fn lose_identity(
        &mut self,
        partition: PartitionId,
        verdict: &PublishRejected,
        out: &mut Vec<Completion<T>>,
    ) {
        while self.queue_mut(partition).is_some_and(|queue| queue.is_first_maybe_stored()) {
            self.fail_first(partition, verdict, out);
        }
        if let Some(queue) = self.queue_mut(partition) {
            queue.pause = Pause::Identity;
            queue.failures = 0;
            self.wants_identity = true;
        }
    }

    fn end_batch(&mut self, ended: Ended<T>, out: &mut Vec<Completion<T>>) {
        self.unresolved.remove(&ended.number);
        if let Some((cost, records)) = ended.freed {
            self.window.release(cost, u64::from(records));
        }
        if let Some(ticket) = ended.ticket {
            let outcome = Outcome::Failed(ended.failed);
            out.push(Completion { ticket, records: ended.records, outcome });
        }
    }

    /// Whether some partition waits for a new identity.
    #[must_use]
    pub const fn wants_identity(&self) -> bool {
        self.wants_identity
    }

    /// The broker gave a new identity: partitions that lost theirs go on with it.
    pub fn identified(&mut self, identity: Identity) {
        self.identity = identity;
        self.wants_identity = false;
        for partition in (0..self.options.partitions).map(PartitionId::new) {
            let Some(queue) = self.queue_mut(partition) else { continue };
            if queue.pause == Pause::Identity {
                queue.reidentify(identity);
                self.schedule_later(partition);
            }
        }
    }

    /// When [`Producer::tick`] has something to do next.
    #[must_use]
    pub fn next_timer(&self) -> Option<Mono> {
        self.timers.first().map(|(at, _)| *at)
    }

    fn set_timer(&mut self, partition: PartitionId) {
        let (linger, timeout) = (self.options.linger, self.options.delivery_timeout);
        let Some(queue) = self.partitions.get_mut(index(partition)).and_then(Option::as_deref_mut) else {
            return;
        };
        let pause_end = match queue.pause {
            Pause::Until(at, _) => Some(at),
            Pause::None | Pause::Identity => None,
        };
        let wanted =
            [pause_end, queue.linger_end(linger), queue.deadline(timeout)].into_iter().flatten().min();
        if let Some(at) = wanted
            && queue.timer.is_none_or(|set| at < set)
        {
            if let Some(set) = queue.timer.replace(at) {
                self.timers.remove(&(set, partition.get()));
            }
            self.timers.insert((at, partition.get()));
        }
    }

    /// Time has passed: ends pauses and lingering, fails batches that are too old.
    pub fn tick(&mut self, now: Mono, out: &mut Vec<Completion<T>>) {
        let (linger, timeout) = (self.options.linger, self.options.delivery_timeout);
        while let Some((at, partition)) = self.timers.first().copied().filter(|(at, _)| *at <= now) {
            self.timers.remove(&(at, partition));
            let partition = PartitionId::new(partition);
            let mut expired = Vec::new();
            let Some(queue) = self.queue_mut(partition) else { continue };
            queue.timer = None;
            if matches!(queue.pause, Pause::Until(at, _) if at <= now) {
                queue.pause = Pause::None;
            }
            if queue.linger_end(linger).is_some_and(|at| at <= now) {
                queue.make_due();
            }
            if queue.deadline(timeout).is_some_and(|at| at <= now) {
                queue.expire(now.before(timeout), |ended| expired.push(ended));
            }
            expired.into_iter().for_each(|ended| self.end_batch(ended, out));
            self.schedule_later(partition);
            self.set_later_timer(partition, now);
        }
    }

    /// Sets the next timer, later than now: a batch that cannot expire yet, because it is being sealed, is looked at
    /// again soon.
    fn set_later_timer(&mut self, partition: PartitionId, now: Mono) {
        self.set_timer(partition);
        let soon = now.after(std::time::Duration::from_millis(5));
        let Some(queue) = self.partitions.get_mut(index(partition)).and_then(Option::as_deref_mut) else {
            return;
        };
        if let Some(at) = queue.timer.filter(|at| *at <= now) {
            self.timers.remove(&(at, partition.get()));
            queue.timer = Some(soon);
            self.timers.insert((soon, partition.get()));
        }
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
        } else if paused_by(ErrorCode::Throttled) {
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
