//! Settling what was delivered to a member of a group.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::watch;
use weir_protocol::ErrorCode;
use weir_protocol::units::{LeaseEpoch, Offset, PartitionId};

use crate::error::Error;
use crate::message::Delivered;
use crate::net::member::{GroupShared, Progress};
use crate::net::shared::lock;

/// The lease under which a record was delivered.
#[derive(Clone)]
pub(crate) struct Leased {
    group: Arc<GroupShared>,
    partition: PartitionId,
    lease: LeaseEpoch,
}

impl fmt::Debug for Leased {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { partition, lease, .. } = self;
        f.debug_struct("Leased").field("partition", partition).field("lease", lease).finish_non_exhaustive()
    }
}

impl Leased {
    pub(super) fn new(group: &Arc<GroupShared>, partition: PartitionId, lease: LeaseEpoch) -> Self {
        Self { group: Arc::clone(group), partition, lease }
    }

    pub(super) fn hand_out(&self, offset: Offset) -> bool {
        self.group.with(|machine| machine.hand_out(self.partition, self.lease, offset))
    }

    pub(super) fn pass(&self, offset: Offset) {
        self.group.speak(|machine| machine.pass(self.partition, self.lease, offset));
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

    fn settle(&self, from: Option<Offset>, to: Offset) -> Confirm {
        match &self.leased {
            Some(Leased { group, partition, lease }) => {
                Confirm::settle(group, (*partition, *lease), (from, to))
            }
            None => Confirm(State::Failed(Error::invalid(
                "the consumer is in no group: there is nothing to acknowledge",
            ))),
        }
    }

    /// The lease under which the group's partition was delivered: a fencing token. Whoever owns the partition later has a
    /// higher one, also after a restart of the broker. `None` without a group.
    #[must_use]
    pub fn lease(&self) -> Option<u64> {
        self.leased.as_ref().map(|leased| leased.lease.get())
    }
}
