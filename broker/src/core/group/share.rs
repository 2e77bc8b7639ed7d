//! A partition of a group: what is settled of it, and who has it.

use bytes::Bytes;
use weir_protocol::message::{
    FailingRecord, Message, PartitionAssigned, PartitionFailures, PartitionRevoked,
};
use weir_protocol::units::{LeaseEpoch, Offset, PartitionId, Timestamp};
use weir_protocol::{Cursor, ErrorCode};

use weir_protocol::limits::FAILURES_PER_FRAME_MAX;
use weir_storage::frame as storage;
use weir_storage::state::Failures;

use super::memory::{FAILING_BYTES, LETTER_BYTES};
use super::sharing::Name;
use crate::core::LaneId;
use crate::core::coordinator::Refusal;

/// A partition of the group.
#[derive(Debug)]
pub(super) struct Share {
    /// What the group has settled of it.
    pub(super) cursor: Cursor,
    /// What it could not process.
    pub(super) failures: Failures,
    /// The floor of the cursor as far as it is durable.
    pub(super) committed: Offset,
    /// Who is to have it.
    pub(super) target: Option<Name>,
    pub(super) lease: Option<Lease>,
    /// Somebody may have a lease of before the start of the broker.
    pub(super) is_unsure: bool,
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
    pub(super) const fn at(cursor: Cursor, failures: Failures) -> Self {
        let committed = cursor.floor();
        Self { cursor, failures, committed, target: None, lease: None, is_unsure: false }
    }
}

impl Share {
    /// What remembering its failures takes.
    pub(super) fn failing_bytes(&self) -> u64 {
        let Failures { records, letters } = &self.failures;
        records.len() as u64 * FAILING_BYTES + letters.len() as u64 * LETTER_BYTES
    }

    /// What is known of a record, which fails or comes back now.
    pub(super) fn known(&self, offset: Offset, wall: Timestamp) -> storage::FailingRecord {
        let fresh = storage::FailingRecord { first: wall, ..storage::FailingRecord::default() };
        self.failures.records.get(&offset).copied().unwrap_or(fresh)
    }

    /// The first record that is not settled, as it stands once it came back; nothing if its owner has never had it.
    pub(super) fn coming_back(&self, wall: Timestamp) -> Option<(Offset, storage::FailingRecord)> {
        let offset = self.cursor.floor();
        self.lease.as_ref().filter(|lease| lease.delivered > offset)?;
        let record = self.known(offset, wall);
        let is_new = !self.failures.records.contains_key(&offset);
        let fits = !is_new || self.failures.records.len() < FAILURES_PER_FRAME_MAX;
        let returned = record.returned.saturating_add(1);
        fits.then_some((offset, storage::FailingRecord { returned, last: wall, due: wall, ..record }))
    }

    /// What its next owner is to know of records that have failed; nothing if none has.
    pub(super) fn failing(
        &self,
        partition: PartitionId,
        lease: LeaseEpoch,
        wall: Timestamp,
    ) -> Option<Bytes> {
        if self.failures.records.is_empty() {
            return None;
        }
        let records = self.failures.records.iter().map(|(offset, record)| FailingRecord {
            offset: *offset,
            attempt: attempt(record),
            wait_ms: wait_ms(record, wall),
        });
        Some(PartitionFailures { partition, lease, records: records.collect() }.to_frame())
    }
}

/// The number of the next attempt at a record.
pub(super) const fn attempt(record: &storage::FailingRecord) -> u32 {
    record.failed.saturating_add(record.returned).saturating_add(1)
}

/// Milliseconds until a record is delivered again, rounded up: no more than it was to wait when it failed, whatever the wall
/// clock shows now.
pub(super) fn wait_ms(record: &storage::FailingRecord, wall: Timestamp) -> u32 {
    let until_due = |from: Timestamp| record.due.as_micros().saturating_sub(from.as_micros()).max(0);
    let wait_us = until_due(wall).min(until_due(record.last)).cast_unsigned();
    u32::try_from(wait_us.div_ceil(1000)).unwrap_or(u32::MAX)
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

/// Tells a member that a partition is its own.
pub(super) fn assigned(partition: PartitionId, lease: LeaseEpoch, cursor: &Cursor) -> Bytes {
    PartitionAssigned { partition, lease, cursor: cursor.clone() }.to_frame()
}

/// Tells a member to give a partition back.
pub(super) fn revoked(partition: PartitionId, lease: LeaseEpoch, left_us: u64) -> Bytes {
    let deadline_ms = u32::try_from(left_us / 1000).unwrap_or(u32::MAX);
    PartitionRevoked { partition, lease, deadline_ms }.to_frame()
}
