//! What a member of a group is told of its partitions, where it wants to have a say.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use weir_protocol::units::{Offset, PartitionId};

use crate::checkpoint::Checkpoint;
use crate::consumer::settle::Confirm;
use crate::error::Error;
use crate::net::member::GroupShared;

/// Has a say when partitions come and go. All of it may take its time, within the lease.
pub trait AssignmentListener: Send + Sync + 'static {
    /// A partition was leased. Nothing of it is read before this returns.
    fn assigned(&self, assigned: Assigned<'_>) -> impl Future<Output = ()> + Send;

    /// A partition is to be given back: nothing more of it is read. It is given back once this has returned and everything
    /// that was received of it is acknowledged; at the deadline it is lost.
    fn revoking(&self, revoking: Revoking<'_>) -> impl Future<Output = ()> + Send;

    /// A lease has ended before the partition was given back. What is not acknowledged goes to the next owner.
    fn lost(&self, partition: u32) {
        let _unused = partition;
    }
}

/// A partition that was leased.
#[derive(Debug)]
pub struct Assigned<'a> {
    /// The partition.
    pub partition: u32,
    /// The first record that the group has not settled.
    pub committed: u64,
    /// What can be done now.
    pub control: Control<'a>,
}

/// A partition that is to be given back.
#[derive(Debug)]
pub struct Revoking<'a> {
    /// The partition.
    pub partition: u32,
    /// Time until the lease ends by itself.
    pub deadline: Duration,
    /// What can be done until then.
    pub control: Control<'a>,
}

/// Acknowledges from within an [`AssignmentListener`].
#[derive(Clone, Copy)]
pub struct Control<'a>(&'a GroupShared);

impl fmt::Debug for Control<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").finish_non_exhaustive()
    }
}

impl Control<'_> {
    /// Acknowledges everything before a checkpoint.
    ///
    /// # Errors
    /// `WEIR-4103` if the lease of a partition in it has ended.
    ///
    /// # Cancel safety
    /// If dropped before completion it may have been acknowledged.
    pub async fn commit(&self, checkpoint: &Checkpoint) -> Result<(), Error> {
        commit(self.0, checkpoint).await
    }
}

/// Settles everything before a checkpoint, in all of its partitions.
pub(super) async fn commit(group: &GroupShared, checkpoint: &Checkpoint) -> Result<(), Error> {
    let confirms: Vec<Confirm> = checkpoint
        .positions()
        .map(|(partition, next)| Confirm::settle_below(group, PartitionId::new(partition), Offset::new(next)))
        .collect();
    for confirm in confirms {
        confirm.await?;
    }
    Ok(())
}

type Told<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// A listener whose futures have been boxed.
trait Boxed: Send + Sync {
    fn assigned<'a>(&'a self, assigned: Assigned<'a>) -> Told<'a>;
    fn revoking<'a>(&'a self, revoking: Revoking<'a>) -> Told<'a>;
    fn lost(&self, partition: u32);
}

impl<L: AssignmentListener> Boxed for L {
    fn assigned<'a>(&'a self, assigned: Assigned<'a>) -> Told<'a> {
        Box::pin(AssignmentListener::assigned(self, assigned))
    }

    fn revoking<'a>(&'a self, revoking: Revoking<'a>) -> Told<'a> {
        Box::pin(AssignmentListener::revoking(self, revoking))
    }

    fn lost(&self, partition: u32) {
        AssignmentListener::lost(self, partition);
    }
}

/// The listener of a consumer.
#[derive(Clone)]
pub(crate) struct Listener(Arc<dyn Boxed>);

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").finish_non_exhaustive()
    }
}

impl Listener {
    pub(super) fn new(listener: impl AssignmentListener) -> Self {
        Self(Arc::new(listener))
    }

    pub(crate) async fn assigned(&self, group: &GroupShared, partition: PartitionId, committed: Offset) {
        let (partition, committed) = (partition.get(), committed.get());
        self.0.assigned(Assigned { partition, committed, control: Control(group) }).await;
    }

    pub(crate) async fn revoking(&self, group: &GroupShared, partition: PartitionId, deadline: Duration) {
        self.0.revoking(Revoking { partition: partition.get(), deadline, control: Control(group) }).await;
    }

    pub(crate) fn lost(&self, partition: PartitionId) {
        self.0.lost(partition.get());
    }
}
