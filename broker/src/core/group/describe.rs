//! What is told of groups.

use std::ops::Bound;

use weir_protocol::limits::PAGE_ENTRIES_MAX;
use weir_protocol::message::{
    DescribeFailures, DescribeGroup, FailingPartition, GroupDescription, GroupFailures, GroupInfo, GroupList,
    GroupPartition, ListGroups, MemberInfo, WaitsFor,
};
use weir_protocol::units::{Offset, PartitionId, PartitionKey, Timestamp};
use weir_protocol::{ErrorCode, Redelivery};

use super::failing::LetterId;
use super::share::{Share, numbered, wait_ms};
use super::sharing::Name;
use super::{Group, Groups};
use crate::core::LaneId;
use crate::core::coordinator::Refusal;
use crate::core::letter::Letters;
use crate::core::subscription::Partitions;

impl Groups {
    /// A page of groups.
    pub fn list(&self, list: &ListGroups, entries: usize, partitions: &Partitions) -> GroupList {
        let after = (list.after_group.clone(), list.after_topic.clone());
        let later = self.names.range((Bound::Excluded(after), Bound::Unbounded));
        let mut live = later.filter_map(|(_, id)| self.groups.get(id)).filter(|group| group.is_live);
        let page = live.by_ref().take(entries);
        let groups = page.map(|group| info(group, partitions)).collect();
        GroupList { request: list.request, more: live.next().is_some(), groups }
    }

    /// A group and a page of its partitions. `waits_for` tells what the reading of a partition on a lane waits for.
    ///
    /// # Errors
    /// No such group.
    pub fn describe(
        &self,
        now: u64,
        describe: &DescribeGroup,
        partitions: &Partitions,
        waits_for: impl Fn(LaneId, PartitionId) -> Option<WaitsFor>,
    ) -> Result<Option<GroupDescription>, Refusal> {
        let id = self.live(&describe.topic, &describe.group)?;
        let Some(group) = self.groups.get(&id) else { return Ok(None) };
        let names: Vec<&Name> = group.sharing.members.keys().collect();
        let members = group.sharing.members.iter().map(|(name, member)| {
            let owned = group.sharing.shares.iter().filter_map(|share| share.lease.as_ref());
            let left_us = member.leased_until.saturating_sub(now);
            MemberInfo {
                member: name.to_string(),
                connected: member.lane.is_some(),
                partitions: count(owned.filter(|lease| lease.owner == *name).count()),
                lease_left_ms: u32::try_from(left_us / 1000).unwrap_or(u32::MAX),
            }
        });
        let first = describe.first_partition.get() as usize;
        let page = numbered(&group.sharing.shares).skip(first).take(PAGE_ENTRIES_MAX as usize);
        let owner = |share: &Share| {
            let lease = share.lease.as_ref()?;
            Some((count(names.binary_search(&&lease.owner).ok()?), lease.epoch))
        };
        let page = page.map(|(partition, share)| {
            let (committed, end_offset) = position(group, (partition, share), partitions);
            GroupPartition {
                partition,
                committed,
                end_offset,
                settled_above: share.cursor.settled_above(),
                owner: owner(share),
                revoked: share.lease.as_ref().is_some_and(|lease| lease.revoked.is_some()),
                waits_for: share.lease.as_ref().and_then(|lease| waits_for(lease.reader?, partition)),
            }
        });
        Ok(Some(GroupDescription {
            request: describe.request,
            group: info(group, partitions),
            members: members.collect(),
            partitions: page.collect(),
        }))
    }
}

impl Groups {
    /// What a group does with records that fail, and a page of the partitions that have some.
    ///
    /// # Errors
    /// No such group.
    pub fn describe_failures(
        &self,
        wall: Timestamp,
        (describe, entries): (&DescribeFailures, usize),
        letters: &Letters,
    ) -> Result<GroupFailures, Refusal> {
        let id = self.live(&describe.topic, &describe.group)?;
        let mut answer = GroupFailures {
            request: describe.request,
            redelivery: Redelivery::default(),
            more: false,
            partitions: Vec::new(),
        };
        let Some(group) = self.groups.get(&id) else { return Ok(answer) };
        answer.redelivery = group.definition.redelivery.clone();
        let first = describe.first_partition.get() as usize;
        let mut failing =
            numbered(&group.sharing.shares).skip(first).filter(|(_, share)| !share.failures.is_empty()).map(
                |(partition, share)| {
                    let refused = share.failures.letters.keys().find_map(|offset| {
                        letters.refused(LetterId { group: id, partition, offset: *offset })
                    });
                    failing_partition((partition, share), wall, refused)
                },
            );
        answer.partitions = failing.by_ref().take(entries).collect();
        answer.more = failing.next().is_some();
        Ok(answer)
    }
}

fn failing_partition(
    (partition, share): (PartitionId, &Share),
    wall: Timestamp,
    letters_refused: Option<ErrorCode>,
) -> FailingPartition {
    let first = share.failures.records.first_key_value();
    let record = first.map(|(_, record)| *record).unwrap_or_default();
    FailingPartition {
        partition,
        records: count(share.failures.records.len()),
        first: first.map_or(Offset::ZERO, |(offset, _)| *offset),
        failed: record.failed,
        returned: record.returned,
        wait_ms: wait_ms(&record, wall),
        letters: count(share.failures.letters.len()),
        letters_refused,
    }
}

fn info(group: &Group, partitions: &Partitions) -> GroupInfo {
    let lag = numbered(&group.sharing.shares).map(|(partition, share)| {
        let (committed, end) = position(group, (partition, share), partitions);
        end.get().saturating_sub(committed.get()).saturating_sub(share.cursor.settled_above())
    });
    GroupInfo {
        group: group.definition.name.clone(),
        topic: group.topic.clone(),
        created: group.definition.created,
        members: count(group.sharing.members.len()),
        partitions: count(group.sharing.shares.len()),
        lag: lag.sum(),
    }
}

/// The first record that is there and not settled, durably, and the end.
fn position(
    group: &Group,
    (partition, share): (PartitionId, &Share),
    partitions: &Partitions,
) -> (Offset, Offset) {
    let state = partitions.get(&PartitionKey { topic: group.definition.topic, partition });
    let (start, end) =
        state.map_or((Offset::ZERO, Offset::ZERO), |state| (state.log_start(), state.high_watermark()));
    (share.committed.max(start), end)
}

fn count(items: usize) -> u32 {
    u32::try_from(items).expect("groups are bounded far below")
}
