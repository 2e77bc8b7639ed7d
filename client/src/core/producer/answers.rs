//! What the broker answers: results, refusals, and what follows from them.

use std::time::Duration;

use weir_protocol::message::{AckEntry, PublishExceptions, PublishRejected};
use weir_protocol::units::PartitionId;
use weir_protocol::{ErrorClass, ErrorCode};

use crate::core::backoff;
use crate::core::producer::batch::Ended;
use crate::core::producer::partition::Pause;
use crate::core::producer::types::{Completion, Identity, LaneId, Outcome, Violation, Why};
use crate::core::producer::{Producer, index};
use crate::core::time::Mono;

/// Rounds in a row that may end with "an earlier batch is missing" before the broker is taken at its word: it has lost
/// batches that it had acknowledged, and only a new identity helps.
pub(super) const GAPS_MAX: u32 = 3;

/// What a refusal means for the batches of its partition.
enum Remedy {
    /// Send the same again, later.
    Again,
    /// As before; but what was refused may be stored.
    AgainInDoubt,
    /// Give the first batch up.
    Drop,
    /// Go on as another producer.
    Reidentify,
    /// Nothing more is sent.
    End,
}

impl Remedy {
    /// For a producer with a name: another identity would not have it.
    fn of_claimed(code: ErrorCode, failures: u32, is_first_maybe_stored: bool) -> Self {
        match Self::of(code, failures, is_first_maybe_stored) {
            Self::Reidentify | Self::End => Self::End,
            other @ (Self::Again | Self::AgainInDoubt | Self::Drop) => other,
        }
    }

    fn of(code: ErrorCode, failures: u32, is_first_maybe_stored: bool) -> Self {
        use ErrorCode as C;
        if matches!(code, C::ProducerUnknown | C::ProducerFenced | C::SequenceForgotten) {
            return Self::Reidentify;
        }
        // The broker stops, and its recovery decides what was stored.
        if code == C::StorageFailed {
            return Self::AgainInDoubt;
        }
        if code == C::SequenceGap && failures >= GAPS_MAX {
            return Self::Reidentify;
        }
        match code.class() {
            ErrorClass::Retry => Self::Again,
            // Its sequence may stand for it already, so no other batch can have that sequence.
            ErrorClass::Fix | ErrorClass::Fatal if is_first_maybe_stored => Self::Reidentify,
            ErrorClass::Fix | ErrorClass::Fatal => Self::Drop,
        }
    }
}

impl<T> Producer<T> {
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
        if self.ended.is_some() {
            return Ok(());
        }
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
        let exceptions = std::mem::take(&mut batch.exceptions);
        if let (Some(ticket), Some(bytes)) = (ticket, batch.into_sealed()) {
            out.push(Completion { ticket, records, outcome: Outcome::Stored(*entry, exceptions, bytes) });
        }
        self.schedule_later(partition);
        Ok(())
    }

    /// Some records do not share the result of their batch, which comes next.
    ///
    /// # Errors
    /// If no such batch waits for an answer on this lane, or has no such records.
    pub fn excepted(&mut self, lane: LaneId, told: PublishExceptions) -> Result<(), Violation> {
        if self.ended.is_some() {
            return Ok(());
        }
        let (partition, sequence) = (told.partition, told.sequence);
        let is_here = self.lane_of(partition) == lane;
        let queue = self.queue_mut(partition).filter(|_| is_here).ok_or(Violation { partition, sequence })?;
        queue.excepted(told)
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
        if self.ended.is_some() {
            return Ok(());
        }
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
        let remedy_of = if self.options.is_claimed { Remedy::of_claimed } else { Remedy::of };
        let Some(queue) = self.queue_mut(partition) else { return };
        let Some(verdict) = queue.verdict() else { return };
        queue.failures += 1;
        match remedy_of(verdict.code, queue.failures, queue.is_first_maybe_stored()) {
            Remedy::Again => self.wait_and_retry(partition, &verdict, now),
            Remedy::AgainInDoubt => {
                queue.distrust_rejections();
                self.wait_and_retry(partition, &verdict, now);
            }
            Remedy::Drop => {
                queue.failures = 0;
                self.fail_first(partition, &verdict, out);
                self.schedule_later(partition);
            }
            Remedy::Reidentify => self.lose_identity(partition, &verdict, out),
            Remedy::End => self.end(&Why::Rejected { code: verdict.code, detail: verdict.detail }, out),
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
            advised => Duration::from_millis(u64::from(advised)),
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

    pub(super) fn end_batch(&mut self, ended: Ended<T>, out: &mut Vec<Completion<T>>) {
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
}
