//! The batches of one partition: they leave in order, each under one sequence, and at most so many are unanswered.
//!
//! Sequences are not stored: batch `i` of the queue has the sequence `base + i`. So an answered batch at the front moves
//! `base` on, a batch that is taken out makes the later ones move up, and nothing can get out of step.

use std::collections::VecDeque;
use std::time::Duration;

use weir_protocol::ErrorCode;
use weir_protocol::batch::{BatchIdentity, BuildError, ProducerBatch, RecordInput};
use weir_protocol::message::{AckEntry, Publish, PublishExceptions, PublishRejected};
use weir_protocol::units::{PartitionId, PartitionKey, Sequence, TopicId};

use crate::core::producer::batch::{Batch, Content, Ended, readdress};
use crate::core::producer::types::{BatchNumber, Failed, Identity, OutgoingContent, Violation, Why};
use crate::core::time::Mono;

/// Why a partition sends nothing although it could.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Pause {
    /// It does not pause.
    None,
    /// It waits before it sends again what was rejected for this reason.
    Until(Mono, ErrorCode),
    /// It waits for a new identity.
    Identity,
}

/// The bounds of a batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct BatchBounds {
    pub(super) bytes: usize,
    pub(super) bytes_max: usize,
    pub(super) records: u32,
}

/// Why a record was not taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Refusal {
    /// No batch is open: one with this bound is needed.
    NeedsBatch(usize),
    /// The open batch had no room and was closed.
    Closed,
    TooLarge {
        bytes: usize,
        max: usize,
    },
    TooManyHeaders {
        max: usize,
    },
}

#[derive(Debug)]
pub(super) struct Partition<T> {
    pub(super) key: PartitionKey,
    identity: Identity,
    /// Sequence of the first batch.
    base: Sequence,
    batches: VecDeque<Batch<T>>,
    /// So many from the front have been sent on the lane that is open now.
    sent: usize,
    /// So many of those have been rejected.
    rejected: usize,
    /// What the first rejection of this round said.
    verdict: Option<PublishRejected>,
    pub(super) pause: Pause,
    /// Rounds in a row that ended with a rejection.
    pub(super) failures: u32,
    /// It stands in its lane's queue.
    pub(super) scheduled: bool,
    /// When it wants to be looked at again.
    pub(super) timer: Option<Mono>,
    /// Bytes of the batch that was taken last.
    taken_bytes: usize,
}

impl<T> Partition<T> {
    pub(super) fn new(topic: TopicId, partition: PartitionId, identity: Identity) -> Self {
        Self {
            key: PartitionKey { topic, partition },
            identity,
            base: Sequence::ZERO,
            batches: VecDeque::new(),
            sent: 0,
            rejected: 0,
            verdict: None,
            pause: Pause::None,
            failures: 0,
            scheduled: false,
            timer: None,
            taken_bytes: 0,
        }
    }

    fn identity_at(&self, index: usize) -> BatchIdentity {
        let sequence = Sequence::new(self.base.get() + index as u64);
        BatchIdentity {
            producer: self.identity.producer,
            producer_epoch: self.identity.epoch,
            sequence,
            partition: self.key,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Whether some batch that was sent has no answer.
    pub(super) const fn is_awaiting(&self) -> bool {
        self.sent > 0
    }

    /// Takes a new batch for records, and closes the one before.
    pub(super) fn open(&mut self, batch: Batch<T>) {
        self.close();
        self.batches.push_back(batch);
    }

    /// Puts a record into the open batch. Returns its number there, and whether the batch is full now.
    pub(super) fn push(
        &mut self,
        record: &RecordInput<'_>,
        cost: u64,
        bounds: BatchBounds,
    ) -> Result<(u32, bool), Refusal> {
        let open = self.batches.back_mut();
        let Some(Batch { content: Content::Open(builder), records, cost: sum, .. }) = open else {
            return Err(Refusal::NeedsBatch(bounds.bytes));
        };
        match builder.push(record) {
            Ok(index) => {
                *records += 1;
                *sum += cost;
                let is_full = *records >= bounds.records || builder.length() > bounds.bytes;
                if is_full {
                    self.close();
                }
                Ok((index, is_full))
            }
            Err(BuildError::TooManyHeaders { max, .. }) => Err(Refusal::TooManyHeaders { max }),
            Err(BuildError::TooLarge { bytes, .. }) if bytes > bounds.bytes_max => {
                Err(Refusal::TooLarge { bytes, max: bounds.bytes_max })
            }
            Err(BuildError::TooLarge { .. }) if builder.is_empty() => {
                Err(Refusal::NeedsBatch(bounds.bytes_max))
            }
            Err(BuildError::TooLarge { .. } | BuildError::Full) => {
                self.close();
                Err(Refusal::Closed)
            }
        }
    }

    /// The ticket of the newest batch.
    pub(super) fn newest_ticket(&self) -> Option<&T> {
        self.batches.back().and_then(|batch| batch.ticket.as_ref())
    }

    /// Takes the newest batch out if it holds no record. Returns its number.
    pub(super) fn remove_empty(&mut self) -> Option<BatchNumber> {
        match self.batches.back() {
            Some(batch) if batch.records == 0 => self.batches.pop_back().map(|batch| batch.number),
            _ => None,
        }
    }

    /// About how many bytes the next batch will have.
    pub(super) fn expected_bytes(&self) -> usize {
        let waiting = self.batches.back().map_or(0, Batch::length);
        self.taken_bytes.max(waiting)
    }

    /// Ends the open batch: it takes no more records.
    fn close(&mut self) {
        let Some(batch) = self.batches.back_mut() else { return };
        batch.content = match std::mem::replace(&mut batch.content, Content::Sealing) {
            Content::Open(builder) => Content::Closed(builder),
            other @ (Content::Closed(_) | Content::Sealing | Content::Sealed(_)) => other,
        };
    }

    /// The open batch need not wait for more records.
    pub(super) fn make_due(&mut self) {
        if let Some(batch) = self.batches.back_mut() {
            batch.due = true;
        }
    }

    /// When the open batch has waited long enough, if it waits.
    pub(super) fn linger_end(&self, linger: Duration) -> Option<Mono> {
        let batch = self.batches.back()?;
        let waits = matches!(batch.content, Content::Open(_)) && !batch.due;
        waits.then(|| batch.opened.after(linger))
    }

    /// When the oldest batch that somebody waits for must have its result.
    pub(super) fn deadline(&self, timeout: Duration) -> Option<Mono> {
        self.batches.iter().find(|batch| batch.ticket.is_some()).map(|batch| batch.opened.after(timeout))
    }

    /// Whether the next batch may be sent, as far as the partition is concerned.
    ///
    /// The open batch goes only if nothing is unanswered: while something is, it fills.
    pub(super) fn is_sendable(&self, unacked_max: usize) -> bool {
        if self.pause != Pause::None || self.verdict.is_some() || self.sent >= unacked_max {
            return false;
        }
        match self.batches.get(self.sent) {
            None => false,
            Some(batch) => match &batch.content {
                Content::Open(builder) => !builder.is_empty() && self.sent == 0 && batch.due,
                Content::Closed(_) | Content::Sealed(_) => true,
                Content::Sealing => false,
            },
        }
    }

    /// Bytes the next batch will take on the wire at most.
    pub(super) fn next_length(&self) -> u64 {
        self.batches.get(self.sent).map_or(0, |batch| (Publish::OVERHEAD_BYTES + batch.length()) as u64)
    }

    /// Takes the next batch for sending. Only after [`Partition::is_sendable`]. Says whether records went with it that
    /// had only just been collected.
    pub(super) fn take(&mut self) -> Option<(BatchNumber, Sequence, OutgoingContent, bool)> {
        let identity = self.identity_at(self.sent);
        let batch = self.batches.get_mut(self.sent)?;
        self.taken_bytes = batch.length();
        let (content, was_open) = match std::mem::replace(&mut batch.content, Content::Sealing) {
            Content::Open(builder) => (OutgoingContent::Unsealed(builder, identity), true),
            Content::Closed(builder) => (OutgoingContent::Unsealed(builder, identity), false),
            Content::Sealing => return None,
            Content::Sealed(sealed) => {
                let sealed = readdress(sealed, &identity);
                batch.content = Content::Sealed(sealed.clone());
                (OutgoingContent::Sealed(sealed), false)
            }
        };
        batch.attempts += 1;
        self.sent += 1;
        Some((batch.number, self.base, content, was_open))
    }

    /// Keeps the bytes of a batch that was taken unsealed. Says whether the batch is still there.
    pub(super) fn sealed(&mut self, number: BatchNumber, sealed: &ProducerBatch) -> bool {
        let Ok(index) = self.batches.binary_search_by_key(&number, |batch| batch.number) else {
            return false;
        };
        let Some(batch) = self.batches.get_mut(index) else { return false };
        assert!(matches!(batch.content, Content::Sealing), "a batch is sealed once");
        batch.content = Content::Sealed(sealed.clone());
        true
    }

    fn violation(&self, sequence: Sequence) -> Violation {
        Violation { partition: self.key.partition, sequence }
    }

    /// The batch whose turn it is was stored; returns it if it is the first. An answer that came before changes nothing.
    ///
    /// After a refusal a later batch may still be acknowledged, if the refused one is stored since before the connection was
    /// lost. It is sent again with the others, and acknowledged again.
    pub(super) fn acked(&mut self, entry: &AckEntry) -> Result<Option<Batch<T>>, Violation> {
        if entry.sequence < self.base {
            return Ok(None);
        }
        self.check_turn(entry.sequence)?;
        if self.rejected > 0 {
            if !self.is_first_maybe_stored() {
                return Err(self.violation(entry.sequence));
            }
            if let Some(batch) = self.batches.get_mut(self.rejected) {
                batch.maybe_stored = true;
            }
            self.rejected += 1;
            return Ok(None);
        }
        if !matches!(self.batches.front(), Some(Batch { content: Content::Sealed(_), .. })) {
            return Err(self.violation(entry.sequence));
        }
        self.sent -= 1;
        self.base = self.base.next();
        self.failures = 0;
        Ok(self.batches.pop_front())
    }

    /// Records of the batch whose turn it is do not share its result. After a refusal the batch is sent again, and so
    /// is this.
    pub(super) fn excepted(&mut self, told: PublishExceptions) -> Result<(), Violation> {
        if told.sequence < self.base {
            return Ok(());
        }
        self.check_turn(told.sequence)?;
        let violation = self.violation(told.sequence);
        let Some(batch) = self.batches.front_mut().filter(|_| self.rejected == 0) else { return Ok(()) };
        for exception in told.exceptions {
            let follows = batch.exceptions.last().is_none_or(|last| last.record < exception.record);
            if !follows || exception.record >= batch.records {
                return Err(violation);
            }
            batch.exceptions.push(exception);
        }
        Ok(())
    }

    /// Answers come in the order of sending.
    fn check_turn(&self, sequence: Sequence) -> Result<(), Violation> {
        let expected = self.base.get() + self.rejected as u64;
        let is_turn = sequence.get() == expected && self.rejected < self.sent;
        if is_turn { Ok(()) } else { Err(self.violation(sequence)) }
    }

    /// What the first refusal said, once every sent batch has its answer: from then on none counts as sent.
    pub(super) fn verdict(&mut self) -> Option<PublishRejected> {
        if self.rejected < self.sent {
            return None;
        }
        let verdict = self.verdict.take()?;
        self.sent = 0;
        self.rejected = 0;
        Some(verdict)
    }

    /// The batch whose turn it is was refused.
    pub(super) fn rejected(&mut self, rejection: PublishRejected) -> Result<(), Violation> {
        if rejection.sequence < self.base {
            return Ok(());
        }
        self.check_turn(rejection.sequence)?;
        self.rejected += 1;
        self.verdict.get_or_insert(rejection);
        Ok(())
    }

    /// The lane is gone: what it carried has to be sent again, and may have been stored.
    pub(super) fn lane_lost(&mut self) {
        let unanswered = self.batches.iter_mut().take(self.sent).skip(self.rejected);
        unanswered.for_each(|batch| batch.maybe_stored = true);
        self.batches.iter_mut().for_each(|batch| batch.exceptions.clear());
        self.sent = 0;
        self.rejected = 0;
        self.verdict = None;
    }

    /// Every batch that was ever sent may be stored, whatever the broker said.
    pub(super) fn distrust_rejections(&mut self) {
        self.batches
            .iter_mut()
            .filter(|batch| batch.attempts > 0)
            .for_each(|batch| batch.maybe_stored = true);
    }

    /// Whether the first batch may be stored under its sequence.
    pub(super) fn is_first_maybe_stored(&self) -> bool {
        self.batches.front().is_some_and(|batch| batch.maybe_stored)
    }

    /// Takes the first batch out; the later ones move up.
    pub(super) fn remove_first(&mut self) -> Option<Batch<T>> {
        assert!(self.sent == 0, "no batch leaves while answers are awaited");
        self.batches.pop_front()
    }

    /// Identity of the batch at the front, for failing it.
    pub(super) fn first_identity(&self) -> BatchIdentity {
        self.identity_at(0)
    }

    /// Goes on as another producer.
    pub(super) fn reidentify(&mut self, identity: Identity) {
        assert!(self.sent == 0, "no identity changes while answers are awaited");
        self.identity = identity;
        self.base = Sequence::ZERO;
        self.pause = Pause::None;
    }

    /// Fails batches that are too old. Those that were never sent are taken out; the others stay, because their sequences
    /// are used up, and nobody waits for them any more.
    pub(super) fn expire(&mut self, opened_before: Mono, mut report: impl FnMut(Ended<T>)) {
        let mut index = 0;
        while let Some(batch) = self.batches.get_mut(index) {
            if batch.opened > opened_before {
                return;
            }
            let in_flight = index < self.sent;
            if in_flight || batch.maybe_stored {
                index += 1;
                let Content::Sealed(bytes) = &batch.content else { continue };
                let Some(ticket) = batch.ticket.take() else { continue };
                let (batch_bytes, attempts) = (bytes.clone(), batch.attempts);
                let failed = Failed { batch: batch_bytes, attempts, maybe_stored: true, why: Why::TimedOut };
                report(Ended {
                    number: batch.number,
                    ticket: Some(ticket),
                    freed: None,
                    records: batch.records,
                    failed,
                });
            } else if matches!(batch.content, Content::Sealing) {
                index += 1;
            } else {
                let identity = self.identity_at(index);
                if let Some(ended) =
                    self.batches.remove(index).and_then(|batch| batch.end(Why::TimedOut, &identity))
                {
                    report(ended);
                }
            }
        }
    }

    /// Ends everything, except what is being sealed: that comes back through [`Partition::sealed`].
    pub(super) fn fail_all(&mut self, why: &Why, mut report: impl FnMut(Ended<T>)) {
        let first = self.identity_at(0);
        let mut kept = VecDeque::new();
        for (index, mut batch) in std::mem::take(&mut self.batches).into_iter().enumerate() {
            batch.maybe_stored |= index < self.sent;
            if matches!(batch.content, Content::Sealing) {
                kept.push_back(batch);
            } else if let Some(ended) = batch.end(why.clone(), &first) {
                report(ended);
            }
        }
        self.batches = kept;
        self.sent = 0;
        self.rejected = 0;
        self.verdict = None;
    }

    /// Takes the batch with this number out.
    pub(super) fn remove(&mut self, number: BatchNumber) -> Option<Batch<T>> {
        let index = self.batches.binary_search_by_key(&number, |batch| batch.number).ok()?;
        self.batches.remove(index)
    }
}
