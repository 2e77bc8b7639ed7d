//! Settling what was delivered to a member of a group.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use weir_protocol::ErrorCode;
use weir_protocol::limits::REASON_BYTES_MAX;
use weir_protocol::message::{AfterFailure, FailedRecord, Verdict};
use weir_protocol::units::{LeaseEpoch, Offset, PartitionId};

use crate::error::Error;
use crate::message::Delivered;
use crate::net::member::{GroupShared, Progress};
use crate::net::shared::lock;
use crate::options::OnDrop;

/// The lease and the turn in which a batch is read.
#[derive(Clone)]
pub(crate) struct Lease {
    group: Arc<GroupShared>,
    partition: PartitionId,
    lease: LeaseEpoch,
    turn: u64,
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { partition, lease, turn, .. } = self;
        let mut shown = f.debug_struct("Lease");
        shown.field("partition", partition).field("lease", lease).field("turn", turn).finish_non_exhaustive()
    }
}

impl Lease {
    /// The one under which a partition is read now.
    pub(super) fn of(group: &Arc<GroupShared>, partition: PartitionId) -> Option<Self> {
        let (lease, turn) = lock(&group.state).machine.turn_of(partition)?;
        Some(Self { group: Arc::clone(group), partition, lease, turn })
    }

    pub(super) const fn epoch(&self) -> LeaseEpoch {
        self.lease
    }

    /// A record is about to be handed out.
    pub(super) fn hand_out(&self, offset: Offset) -> Option<Leased> {
        let turn = (self.lease, self.turn);
        let attempt = self.group.with(|machine| machine.hand_out(self.partition, turn, offset))?;
        Some(Leased { lease: self.clone(), offset, attempt, is_held: true })
    }

    pub(super) fn pass(&self, offset: Offset) {
        self.group.speak(|machine| machine.pass(self.partition, (self.lease, self.turn), offset));
    }
}

/// A record that was handed out: until something is said of it, its consumer answers for it.
#[derive(Debug)]
pub(crate) struct Leased {
    lease: Lease,
    offset: Offset,
    attempt: u32,
    /// It comes back when it is dropped.
    is_held: bool,
}

/// A copy of a record that was handed out: what is said of it counts, but that it is dropped says nothing.
impl Clone for Leased {
    fn clone(&self) -> Self {
        Self { lease: self.lease.clone(), offset: self.offset, attempt: self.attempt, is_held: false }
    }
}

impl Drop for Leased {
    fn drop(&mut self) {
        if self.is_held && self.lease.group.on_drop == OnDrop::Redeliver {
            drop(self.fail(Verdict::Return, ""));
        }
    }
}

impl Leased {
    /// The number of the attempt.
    pub(super) const fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Says what was tried and failed.
    fn fail(&self, verdict: Verdict, reason: &str) -> Option<oneshot::Receiver<AfterFailure>> {
        let Lease { group, partition, lease, .. } = &self.lease;
        let reason = reason.get(..reason.floor_char_boundary(REASON_BYTES_MAX)).unwrap_or("").to_owned();
        let record = FailedRecord { offset: self.offset, attempt: self.attempt, verdict, reason };
        group.fail(*partition, *lease, record)
    }
}

fn fenced(code: ErrorCode) -> Error {
    let detail = "the lease of the partition has ended; the record will be delivered again".to_owned();
    Error::broker(code, detail)
}

/// What becomes of an acknowledgement. It was queued already: await this only for certainty.
///
/// # Cancel safety
/// Dropping it changes nothing: what was acknowledged goes on its way.
#[derive(Debug)]
pub struct Confirm(State);

impl Confirm {
    fn settle(
        group: &GroupShared,
        (partition, lease): (PartitionId, LeaseEpoch),
        range: (Option<Offset>, Offset),
    ) -> Self {
        let step = group.speak(|machine| machine.settle(partition, lease, range));
        Self(match step.zip(group.progress(partition)) {
            Some((step, progress)) => State::Waiting { step, progress },
            None => State::Failed(fenced(ErrorCode::Fenced)),
        })
    }

    /// Settles everything of a partition below an offset, under the lease that lasts now.
    pub(super) fn settle_below(group: &GroupShared, partition: PartitionId, offset: Offset) -> Self {
        let lease = lock(&group.state).machine.lease_of(partition);
        match lease {
            Some(lease) => Self::settle(group, (partition, lease), (None, offset)),
            None => Self(State::Failed(fenced(ErrorCode::Fenced))),
        }
    }
}

#[derive(Debug)]
enum State {
    Waiting { step: u64, progress: watch::Receiver<Progress> },
    Failing { told: oneshot::Receiver<AfterFailure>, is_rejected: bool },
    Done,
    Failed(Error),
}

impl IntoFuture for Confirm {
    type Output = Result<(), Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

    /// Ready once the acknowledgement is durable at the broker.
    ///
    /// # Errors
    /// `WEIR-4103` if the lease of the partition ended before: the record will be delivered again, to its next owner.
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            match self.0 {
                State::Failed(error) => Err(error),
                State::Done => Ok(()),
                State::Failing { told, is_rejected } => match told.await {
                    Ok(AfterFailure::Again { refused: Some(code), .. }) if is_rejected => {
                        Err(not_given_up(code))
                    }
                    Ok(AfterFailure::Again { .. } | AfterFailure::DeadLetter | AfterFailure::Over) => Ok(()),
                    Err(_ended) => Err(fenced(ErrorCode::Fenced)),
                },
                State::Waiting { step, mut progress } => {
                    let done = progress.wait_for(|now| now.step >= step || now.ended.is_some()).await;
                    match done.map(|now| (now.step >= step, now.ended)) {
                        Ok((true, _)) => Ok(()),
                        Ok((false, ended)) => Err(fenced(ended.unwrap_or(ErrorCode::Fenced))),
                        Err(_gone) => Err(Error::closed("consumer")),
                    }
                }
            }
        })
    }
}

impl Delivered {
    /// Says that the record has been dealt with: it is not delivered to the group again. What is acknowledged while an
    /// earlier acknowledgement is under way goes together with it.
    ///
    /// Of a consumer without a group the result is an error.
    pub fn ack(self) -> Confirm {
        let offset = Offset::new(self.offset);
        self.settle(Some(offset), offset.advance(1))
    }

    /// Says that this record and all before it in its partition have been dealt with.
    ///
    /// Of a consumer without a group the result is an error.
    pub fn ack_through(self) -> Confirm {
        let offset = Offset::new(self.offset);
        self.settle(None, offset.advance(1))
    }

    /// Says that the record could not be processed: it is delivered again, after the group's backoff or after the time given
    /// here. Until then nothing behind it in its partition is handed out.
    ///
    /// It counts as a failed attempt. Where the group allows only so many, the record goes to the dead-letter topic after the
    /// last of them. Of a consumer without a group the result is an error.
    pub fn nack(self, after: Option<Duration>) -> Confirm {
        self.nack_because(after, "")
    }

    /// As [`Delivered::nack`], with a reason: the last one stands in the dead letter, 256 bytes of it at most.
    pub fn nack_because(self, after: Option<Duration>, reason: &str) -> Confirm {
        let verdict = after.map_or(Verdict::Retry, |after| {
            Verdict::RetryAfter(u32::try_from(after.as_millis()).unwrap_or(u32::MAX))
        });
        self.fail(verdict, reason)
    }

    /// Gives the record up: it goes to the dead-letter topic, with the reason, and is not delivered to the group again.
    ///
    /// The result is an error (`WEIR-4113`, `WEIR-4114`) if there is no such topic or it takes nothing now: the record is
    /// delivered again then, as after [`Delivered::nack`].
    pub fn reject(self, reason: &str) -> Confirm {
        self.fail(Verdict::Reject, reason)
    }

    /// Says that work on the record goes on. An owner keeps a partition of an ordered group as long as its consumer lives, so
    /// there is nothing to prolong: the result tells whether the lease still lasts.
    #[must_use = "without a look at the result it says nothing"]
    pub fn in_progress(&self) -> Confirm {
        let Some(Leased { lease: Lease { group, partition, lease, .. }, .. }) = &self.leased else {
            return Confirm(State::Failed(in_no_group()));
        };
        let current = lock(&group.state).machine.lease_of(*partition);
        let lasts = current == Some(*lease);
        Confirm(if lasts { State::Done } else { State::Failed(fenced(ErrorCode::Fenced)) })
    }

    fn settle(mut self, from: Option<Offset>, to: Offset) -> Confirm {
        let Some(leased) = &mut self.leased else { return Confirm(State::Failed(in_no_group())) };
        leased.is_held = false;
        let Lease { group, partition, lease, .. } = &leased.lease;
        Confirm::settle(group, (*partition, *lease), (from, to))
    }

    fn fail(mut self, verdict: Verdict, reason: &str) -> Confirm {
        let Some(leased) = &mut self.leased else { return Confirm(State::Failed(in_no_group())) };
        leased.is_held = false;
        let is_rejected = verdict == Verdict::Reject;
        Confirm(match leased.fail(verdict, reason) {
            Some(told) => State::Failing { told, is_rejected },
            None => State::Failed(fenced(ErrorCode::Fenced)),
        })
    }

    /// Returns the record, whatever is to become of records that are dropped. It does not count as failed.
    pub(super) fn give_back(mut self) {
        if let Some(leased) = &mut self.leased {
            leased.is_held = false;
            drop(leased.fail(Verdict::Return, ""));
        }
    }

    /// Whether the lease lasts.
    pub(super) fn is_leased(&self) -> bool {
        self.leased.as_ref().is_some_and(|leased| {
            let Lease { group, partition, lease, .. } = &leased.lease;
            lock(&group.state).machine.lease_of(*partition) == Some(*lease)
        })
    }

    /// Whether the lease lasts and its partition is not to be given back.
    pub(super) fn is_kept(&self) -> bool {
        self.leased.as_ref().is_some_and(|leased| {
            let Lease { group, partition, lease, .. } = &leased.lease;
            lock(&group.state).machine.keeps(*partition, *lease)
        })
    }

    /// The lease under which the group's partition was delivered: a fencing token, together with the
    /// [attempt](Delivered). Whoever owns the partition later has a higher one, also after a restart of the broker.
    /// `None` without a group.
    #[must_use]
    pub fn lease(&self) -> Option<u64> {
        self.leased.as_ref().map(|leased| leased.lease.lease.get())
    }
}

fn in_no_group() -> Error {
    Error::invalid("the consumer is in no group: there is nothing to acknowledge")
}

fn not_given_up(code: ErrorCode) -> Error {
    let detail = "the record could not be given up; it will be delivered again".to_owned();
    Error::broker(code, detail)
}
