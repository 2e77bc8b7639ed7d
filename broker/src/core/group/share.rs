//! A partition of a group: what is settled of it, and who has it.

use weir_protocol::units::{LeaseEpoch, Offset, PartitionId};
use weir_protocol::{Cursor, ErrorCode};

use super::sharing::Name;
use crate::core::LaneId;
use crate::core::coordinator::Refusal;

/// A partition of the group.
#[derive(Debug)]
pub(super) struct Share {
    /// What the group has settled of it.
    pub(super) cursor: Cursor,
    /// The floor of the cursor as far as it is durable.
    pub(super) committed: Offset,
    /// Who is to have it.
    pub(super) target: Option<Name>,
    pub(super) lease: Option<Lease>,
}

/// A right to a partition.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) epoch: LeaseEpoch,
    pub(super) owner: Name,
    /// The owner was asked to give it back: it ends then, whatever is heard of the owner.
    pub(super) revoked: Option<u64>,
    /// The lane on which its records go.
    pub(super) reader: Option<LaneId>,
    /// Records below have been delivered under it.
    pub(super) delivered: Offset,
}

impl Share {
    /// Durably there, and nobody's.
    pub(super) const fn at(cursor: Cursor) -> Self {
        let committed = cursor.floor();
        Self { cursor, committed, target: None, lease: None }
    }
}

/// Settles ranges, all or none of them. Says whether any was new.
pub(super) fn settle(cursor: &mut Cursor, ranges: &[(Offset, Offset)]) -> Result<bool, Refusal> {
    // Only a gap in the offsets takes a reader beyond the window.
    let may_fail = ranges.iter().any(|(_, to)| *to > cursor.window_end());
    let before = may_fail.then(|| cursor.clone());
    let mut is_new = false;
    for (from, to) in ranges {
        match cursor.settle(*from, *to) {
            Ok(changed) => is_new |= changed,
            Err(error) => {
                *cursor = before.expect("only ranges beyond the window fail");
                return Err((ErrorCode::NotDelivered, error.to_string()));
            }
        }
    }
    Ok(is_new)
}

/// The partitions with their numbers.
pub(super) fn numbered(shares: &[Share]) -> impl Iterator<Item = (PartitionId, &Share)> {
    (0..).map(PartitionId::new).zip(shares)
}

pub(super) fn numbered_mut(shares: &mut [Share]) -> impl Iterator<Item = (PartitionId, &mut Share)> {
    (0..).map(PartitionId::new).zip(shares)
}
