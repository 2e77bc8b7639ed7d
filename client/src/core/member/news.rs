//! What a member says to the broker, and what it tells its application.

use weir_protocol::ErrorCode;
use weir_protocol::message::{AckRecords, AfterFailure, FailRecords, Heartbeat, ReleasePartition};
use weir_protocol::units::{LeaseEpoch, Offset, PartitionId};

use crate::core::time::Mono;

/// Something for the broker.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Say {
    /// The member is there.
    Heartbeat(Heartbeat),
    /// Records are settled.
    Ack(AckRecords),
    /// Records have failed.
    Fail(FailRecords),
    /// A partition is given back.
    Release(ReleasePartition),
}

/// Something for the application.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Told {
    /// A partition was leased.
    Assigned {
        /// The partition.
        partition: PartitionId,
        /// The lease.
        lease: LeaseEpoch,
        /// The first record that is not settled.
        committed: Offset,
    },
    /// A lease is known to the broker on a new stream: reading may go on.
    Confirmed {
        /// The partition.
        partition: PartitionId,
        /// The lease.
        lease: LeaseEpoch,
    },
    /// A partition is to be given back by then.
    Revoking {
        /// The partition.
        partition: PartitionId,
        /// The lease.
        lease: LeaseEpoch,
        /// When the lease ends by itself.
        until: Mono,
    },
    /// A lease has ended: because the partition was given back, or for the reason that is named.
    Ended {
        /// The partition.
        partition: PartitionId,
        /// The lease.
        lease: LeaseEpoch,
        /// Why it was lost.
        lost: Option<ErrorCode>,
    },
    /// Reading a partition is to stop: a record comes again first.
    HeldUp {
        /// The partition.
        partition: PartitionId,
    },
    /// Reading a partition is to begin anew, from the first record that is not settled.
    ReadAnew {
        /// The partition.
        partition: PartitionId,
        /// The lease.
        lease: LeaseEpoch,
    },
    /// What becomes of a record that has failed is durable.
    Failed {
        /// The partition.
        partition: PartitionId,
        /// The record.
        offset: Offset,
        /// What becomes of it.
        next: AfterFailure,
    },
    /// What was settled up to a step is durable, or was refused.
    Settled {
        /// The partition.
        partition: PartitionId,
        /// The lease.
        lease: LeaseEpoch,
        /// The step.
        step: u64,
        /// Why it was refused.
        refused: Option<ErrorCode>,
    },
}

impl Told {
    /// Whether it is about partitions that come and go.
    #[must_use]
    pub const fn concerns_listener(&self) -> bool {
        match self {
            Self::Assigned { .. } | Self::Confirmed { .. } | Self::Revoking { .. } | Self::Ended { .. } => {
                true
            }
            Self::HeldUp { .. } | Self::ReadAnew { .. } | Self::Failed { .. } | Self::Settled { .. } => false,
        }
    }
}
