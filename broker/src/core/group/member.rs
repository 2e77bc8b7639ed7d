//! What members do: they join, are heard of, read what is leased to them, and settle it.

use std::collections::BTreeMap;

use weir_protocol::limits::{BATCH_RECORDS_MAX, GROUP_MEMBERS_MAX, LEASE_MS_MAX, LEASE_MS_MIN};
use weir_protocol::message::{AckRecords, Heartbeat, JoinGroup, RecordsAcked, ReleasePartition};
use weir_protocol::units::{GroupId, LeaseEpoch, Offset, PartitionId, PartitionKey};
use weir_protocol::{Cursor, ErrorCode};
use weir_storage::frame::{Frame, SettledRecords};

use super::memory::MEMBER_BYTES;
use super::share::numbered;
use super::{Effect, Groups};
use crate::core::LaneId;
use crate::core::coordinator::{Refusal, check_name};

/// Where a lane reads a leased partition.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Reading {
    /// The first record that is not settled.
    pub position: Offset,
    /// No batch at or above is delivered before more is settled.
    pub bound: Offset,
}

/// An acknowledgement that waits for the journal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PendingAck {
    lane: LaneId,
    group: GroupId,
    number: u64,
    partition: PartitionId,
    floor: Offset,
}

/// What an acknowledgement leads to.
#[derive(Debug)]
pub struct Acked {
    /// For the journal, unless nothing is new.
    pub frame: Option<Frame>,
    /// To be answered once that and everything before is durable.
    pub pending: PendingAck,
    /// The lane that reads the partition, and its new bound.
    pub reader: Option<(LaneId, Offset)>,
}

impl Groups {
    /// A stream becomes that of a member.
    ///
    /// # Errors
    /// No such group, a bad name or time, or a full group.
    pub fn join(
        &mut self,
        now: u64,
        lane: LaneId,
        (topic, join): (&str, &JoinGroup),
        out: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        let id = self.live(topic, &join.group)?;
        check_name(&join.member)?;
        for (what, ms, least) in [("lease", join.lease_ms, LEASE_MS_MIN), ("grace", join.grace_ms, 0)] {
            if !(least..=LEASE_MS_MAX).contains(&ms) {
                let detail = format!("a {what} of {ms} ms: the range is {least} to {LEASE_MS_MAX}");
                return Err((ErrorCode::InvalidSetting, detail));
            }
        }
        let members = self.groups.get(&id).map(|group| &group.sharing.members);
        let before = members.filter(|members| !members.contains_key(join.member.as_str())).map(BTreeMap::len);
        if before.is_some_and(|before| before >= GROUP_MEMBERS_MAX) {
            let detail = format!("group '{}' has {GROUP_MEMBERS_MAX} members", join.group);
            return Err((ErrorCode::TooManyGroups, detail));
        }
        if before.is_some() && self.memory.room() < MEMBER_BYTES {
            return Err((ErrorCode::TooManyGroups, "the broker has no memory for more members".to_owned()));
        }
        self.change(now, id, out, |sharing, leases, out| sharing.join(now, (lane, join), leases, out));
        self.members.insert(lane, (id, join.member.as_str().into()));
        Ok(())
    }

    /// A member was heard of.
    pub fn heartbeat(&mut self, now: u64, lane: LaneId, heartbeat: Heartbeat, out: &mut Vec<Effect>) {
        let Some((id, name)) = self.members.get(&lane).cloned() else { return };
        self.change(now, id, out, |sharing, leases, out| {
            sharing.heartbeat(now, (&name, heartbeat), leases, out);
        });
    }

    /// A member gives a partition back. Under a lease that has ended that says nothing new.
    pub fn release(&mut self, now: u64, lane: LaneId, release: ReleasePartition, out: &mut Vec<Effect>) {
        let Some((id, name)) = self.members.get(&lane).cloned() else { return };
        self.change(now, id, out, |sharing, leases, out| {
            let lease = sharing.lease(release.partition, release.lease);
            if lease.is_some_and(|lease| lease.owner == name) {
                sharing.release(now, release.partition, leases, out);
            } else if leases.is_of_earlier_start(release.lease) {
                sharing.give_up(now, release.partition, leases, out);
            }
        });
    }

    /// A member leaves for good, or for its time of grace.
    pub fn leave(&mut self, now: u64, lane: LaneId, out: &mut Vec<Effect>) {
        let Some((id, name)) = self.members.get(&lane).cloned() else { return };
        self.change(now, id, out, |sharing, leases, out| sharing.leave(now, &name, leases, out));
    }

    /// A stream has ended, if it was a member's.
    pub fn closed(&mut self, now: u64, lane: LaneId, out: &mut Vec<Effect>) {
        let Some((id, name)) = self.members.remove(&lane) else { return };
        self.change(now, id, out, |sharing, _, _| sharing.disconnected(&name, lane));
    }

    /// A lane is to read a partition under a lease.
    ///
    /// # Errors
    /// [`ErrorCode::Fenced`] if the lease has ended, was revoked, or is not of this partition and connection.
    pub fn read(
        &mut self,
        now: u64,
        lane: LaneId,
        (key, epoch): (PartitionKey, LeaseEpoch),
        out: &mut Vec<Effect>,
    ) -> Result<Reading, Refusal> {
        let partition = key.partition;
        let known = self.leases.get(&epoch).filter(|(_, leased)| *leased == partition).copied();
        let of_topic =
            |id: &GroupId| self.groups.get(id).is_some_and(|group| group.definition.topic == key.topic);
        let id = known.map(|(id, _)| id).filter(of_topic).ok_or_else(|| fenced(partition, epoch))?;
        let reading = self.change(now, id, out, |sharing, _, _| {
            let owner = sharing.lease(partition, epoch).map(|lease| lease.owner.clone())?;
            let member = sharing.members.get(&owner)?.lane?;
            let cursor = &sharing.share(partition)?.cursor;
            let reading = Reading { position: cursor.floor(), bound: bound(cursor) };
            let lease = sharing.lease(partition, epoch)?;
            let may = member.connection == lane.connection && lease.revoked.is_none();
            may.then(|| {
                lease.reader = Some(lane);
                reading
            })
        });
        let reading = reading.flatten().ok_or_else(|| fenced(partition, epoch))?;
        self.readers.insert((lane, partition), epoch);
        Ok(reading)
    }

    /// A lane has delivered everything of a partition below an offset under a lease, and reads it no longer.
    pub fn delivered(&mut self, lane: LaneId, (partition, epoch): (PartitionId, LeaseEpoch), offset: Offset) {
        let Some((id, _)) = self.leases.get(&epoch) else { return };
        let sharing = self.groups.get_mut(id).map(|group| &mut group.sharing);
        let lease = sharing.and_then(|sharing| sharing.share_mut(partition)?.lease.as_mut());
        if let Some(lease) = lease.filter(|lease| lease.epoch == epoch) {
            lease.delivered = lease.delivered.max(offset);
            // Another lane may have gone on meanwhile.
            lease.reader.take_if(|reader| *reader == lane);
        }
    }

    /// Who reads under leases that may have run out by now, and what.
    pub fn lapsing(&self, now: u64) -> Vec<(LaneId, PartitionId)> {
        let due = self.timers.iter().take_while(|(due, _)| *due <= now);
        let groups = due.filter_map(|(_, id)| self.groups.get(id));
        let leases = groups.flat_map(|group| {
            numbered(&group.sharing.shares)
                .filter_map(|(partition, share)| Some((share.lease.as_ref()?.reader?, partition)))
        });
        leases.collect()
    }

    /// A lane has delivered everything of a partition below an offset.
    pub fn reached(&mut self, lane: LaneId, partition: PartitionId, offset: Offset) {
        let Some(epoch) = self.readers.get(&(lane, partition)).copied() else { return };
        let Some((id, _)) = self.leases.get(&epoch) else { return };
        let sharing = self.groups.get_mut(id).map(|group| &mut group.sharing);
        let lease = sharing.and_then(|sharing| sharing.share_mut(partition)?.lease.as_mut());
        if let Some(lease) = lease.filter(|lease| lease.epoch == epoch) {
            lease.delivered = lease.delivered.max(offset);
        }
    }

    /// A lane has delivered everything of a partition below an offset, and reads it no longer.
    pub fn stopped(&mut self, lane: LaneId, partition: PartitionId, offset: Offset) {
        if let Some(epoch) = self.readers.remove(&(lane, partition)) {
            self.delivered(lane, (partition, epoch), offset);
        }
    }

    /// The partitions that a lane reads under leases.
    pub fn read_by(&self, lane: LaneId) -> Vec<PartitionId> {
        let all = (lane, PartitionId::ZERO)..=(lane, PartitionId::new(u32::MAX));
        self.readers.range(all).map(|((_, partition), _)| *partition).collect()
    }

    /// The lane that reads a partition under a lease.
    pub fn reader(&self, partition: PartitionId, epoch: LeaseEpoch) -> Option<LaneId> {
        let (id, _) = self.leases.get(&epoch).filter(|(_, leased)| *leased == partition)?;
        self.groups.get(id)?.sharing.share(partition)?.lease.as_ref()?.reader
    }

    /// A member settles records; `position` tells how far its lane has got, if it still reads. Whoever settles must
    /// hold the lease now: the check and the frame for the journal are one step.
    ///
    /// # Errors
    /// [`ErrorCode::Fenced`] if the lease has ended, [`ErrorCode::NotDelivered`] if a record was never delivered under it,
    /// [`ErrorCode::Throttled`] if there is no memory for what lies ahead of the position. Nothing is settled then.
    pub fn ack(
        &mut self,
        (now, lane): (u64, LaneId),
        (ack, position): (&AckRecords, Option<Offset>),
        log_start: impl Fn(PartitionKey) -> Offset,
        out: &mut Vec<Effect>,
    ) -> Result<Acked, Refusal> {
        let AckRecords { number, partition, lease: epoch, ref ranges } = *ack;
        let mut ranges = ranges.clone();
        let refused = || fenced(partition, epoch);
        let (group, name) = self.members.get(&lane).cloned().ok_or_else(refused)?;
        let topic = self.groups.get(&group).ok_or_else(refused)?.definition.topic;
        let key = PartitionKey { topic, partition };
        let (log_start, room) = (log_start(key), self.memory.room());
        let settled = self.change(now, group, out, |sharing, _, _| {
            let lease = sharing.lease(partition, epoch).filter(|lease| lease.owner == name);
            let lease = lease.ok_or_else(refused)?;
            lease.delivered = lease.delivered.max(position.unwrap_or(Offset::ZERO));
            let (delivered, reader) = (lease.delivered, lease.reader);
            if let Some((_, to)) = ranges.iter().find(|(_, to)| *to > delivered) {
                let detail = format!(
                    "partition {partition}: offset {to} lies above {delivered}, up to which was delivered"
                );
                return Err((ErrorCode::NotDelivered, detail));
            }
            let floor = sharing.share(partition).ok_or_else(refused)?.cursor.floor();
            // What retention has removed holds nobody up, and is skipped.
            if floor < log_start {
                ranges.insert(0, (floor, log_start));
            }
            let is_new = sharing.settle(partition, &ranges, room)?;
            let cursor = &sharing.share(partition).ok_or_else(refused)?.cursor;
            Ok((is_new, cursor.floor(), reader.map(|reader| (reader, bound(cursor)))))
        });
        let (is_new, floor, reader) = settled.ok_or_else(refused)??;
        let frame = is_new.then_some(Frame::Settled(SettledRecords { partition: key, group, ranges }));
        Ok(Acked { frame, pending: PendingAck { lane, group, number, partition, floor }, reader })
    }

    /// An acknowledgement is durable: the position counts from now on. Gives the answer and where it goes.
    pub fn acked(&mut self, pending: &PendingAck) -> (LaneId, RecordsAcked) {
        let PendingAck { lane, group, number, partition, floor } = *pending;
        let mut committed = floor;
        let sharing = self.groups.get_mut(&group).map(|group| &mut group.sharing);
        if let Some(share) = sharing.and_then(|sharing| sharing.share_mut(partition)) {
            share.committed = share.committed.max(floor);
            committed = share.committed;
        }
        (lane, RecordsAcked { number, partition, refused: None, committed })
    }
}

/// Up to where records are delivered: a batch that begins below ends within the window of the cursor.
pub(super) fn bound(cursor: &Cursor) -> Offset {
    Offset::new(cursor.window_end().get().saturating_sub(u64::from(BATCH_RECORDS_MAX)))
}

pub(super) fn fenced(partition: PartitionId, epoch: LeaseEpoch) -> Refusal {
    (ErrorCode::Fenced, format!("partition {partition}: lease {epoch} has ended or is somebody else's"))
}
