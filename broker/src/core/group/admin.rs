//! Groups are made, moved and removed.

use std::collections::BTreeMap;

use weir_protocol::message::{GroupStart, MovedPosition};
use weir_protocol::units::{GroupId, Offset, PartitionId, PartitionKey, Timestamp};
use weir_protocol::{Cursor, ErrorCode, Redelivery};
use weir_storage::frame::{GroupDefinition, GroupPositions, TopicDefinition};

use weir_storage::state::Failures;

use super::memory::{GROUP_BYTES, POSITION_BYTES};
use super::share::Share;
use super::{Effect, GROUPS_MAX, Groups, POSITIONS_MAX};
use crate::core::coordinator::{Refusal, check_name};
use crate::core::subscription::Partitions;

impl Groups {
    /// A group that counts, by the names of its topic and of itself.
    ///
    /// # Errors
    /// [`ErrorCode::GroupNotFound`].
    pub(super) fn live(&self, topic: &str, name: &str) -> Result<GroupId, Refusal> {
        let id = self.names.get(&(name.to_owned(), topic.to_owned()));
        let live = id.filter(|id| self.groups.get(id).is_some_and(|group| group.is_live));
        live.copied().ok_or_else(|| {
            (ErrorCode::GroupNotFound, format!("topic '{topic}' has no consumer group '{name}'"))
        })
    }

    /// Begins to make a group; it counts once [`Groups::placed`] is called with what this returns.
    ///
    /// # Errors
    /// A bad or taken name, a full node, or a start that is out of range.
    pub fn create(
        &mut self,
        wall: Timestamp,
        topic: &TopicDefinition,
        (name, start): (&str, &GroupStart),
        partitions: &Partitions,
    ) -> Result<GroupPositions, Refusal> {
        check_name(name)?;
        let key = (name.to_owned(), topic.name.clone());
        if self.names.contains_key(&key) {
            let detail = format!("topic '{}' has a consumer group '{name}'", topic.name);
            return Err((ErrorCode::GroupExists, detail));
        }
        let named: BTreeMap<PartitionId, Offset> = positions(topic, start, partitions)?.into_iter().collect();
        let earliest = positions(topic, &GroupStart::Earliest, partitions)?.into_iter();
        let positions: Vec<_> = earliest
            .map(|(partition, first)| (partition, named.get(&partition).copied().unwrap_or(first)))
            .collect();
        let count = positions.len();
        let held: usize = self.groups.values().map(|group| group.sharing.shares.len()).sum();
        if self.groups.len() >= GROUPS_MAX || held + count > POSITIONS_MAX {
            let detail =
                format!("the limits are {GROUPS_MAX} groups and {POSITIONS_MAX} positions of all of them");
            return Err((ErrorCode::TooManyGroups, detail));
        }
        let bytes = GROUP_BYTES + count as u64 * POSITION_BYTES;
        if self.memory.room() < bytes {
            let detail = format!("the broker has no memory for a group of {count} partitions");
            return Err((ErrorCode::TooManyGroups, detail));
        }
        let id = GroupId::new(self.next_group);
        self.next_group += 1;
        let definition = GroupDefinition {
            id,
            topic: topic.id,
            name: name.to_owned(),
            created: wall,
            redelivery: Redelivery::default(),
            longest_lease_ms: 0,
        };
        let share = |floor| Share::at(Cursor::at(floor), Failures::default());
        let shares = positions.iter().map(|(_, floor)| share(*floor)).collect();
        let taken = self.insert(&definition, &topic.name, shares, false);
        self.memory.changed(0, taken);
        Ok(GroupPositions { definition, positions })
    }

    /// Removes a group. What it had settled is forgotten once the frame for that is durable.
    ///
    /// # Errors
    /// No such group, or one with members, or with dead letters that are not in their topic yet.
    pub fn delete(&mut self, topic: &TopicDefinition, name: &str) -> Result<GroupId, Refusal> {
        let id = self.live(&topic.name, name)?;
        let members = self.groups.get(&id).map_or(0, |group| group.sharing.members.len());
        if members > 0 {
            return Err((ErrorCode::GroupInUse, format!("group '{name}' has {members} members")));
        }
        let letters = self.letters().filter(|letter| letter.group == id).count();
        if letters > 0 {
            let detail = format!("group '{name}' has {letters} dead letters on their way");
            return Err((ErrorCode::GroupInUse, detail));
        }
        self.remove(id, (ErrorCode::GroupNotFound, "the group was removed"), &mut Vec::new());
        Ok(id)
    }

    /// Where a reset would move a group, and from where.
    ///
    /// # Errors
    /// No such group, or a position that is out of range.
    pub fn plan_reset(
        &self,
        topic: &TopicDefinition,
        (name, to): (&str, &GroupStart),
        partitions: &Partitions,
    ) -> Result<(GroupId, Vec<MovedPosition>), Refusal> {
        let id = self.live(&topic.name, name)?;
        let floor = |partition| {
            let share = self.groups.get(&id).and_then(|group| group.sharing.share(partition));
            share.map_or(Offset::ZERO, |share| share.cursor.floor())
        };
        let moved = positions(topic, to, partitions)?.into_iter();
        let moved = moved.map(|(partition, to)| MovedPosition { partition, from: floor(partition), to });
        Ok((id, moved.collect()))
    }

    /// Moves a group: the leases of the partitions end, and their owners get new ones. What is returned is for the journal.
    pub fn reset(
        &mut self,
        now: u64,
        (id, moved): (GroupId, &[MovedPosition]),
        out: &mut Vec<Effect>,
    ) -> Option<GroupPositions> {
        self.change(now, id, out, |sharing, leases, out| {
            for MovedPosition { partition, to, .. } in moved {
                sharing.moved(*partition, Cursor::at(*to), out);
            }
            sharing.hand_out(now, leases, out);
        })?;
        let definition = self.groups.get(&id)?.definition.clone();
        let positions = moved.iter().map(|moved| (moved.partition, moved.to)).collect();
        Some(GroupPositions { definition, positions })
    }
}

/// The offsets that a start means, in order of partition.
fn positions(
    topic: &TopicDefinition,
    start: &GroupStart,
    partitions: &Partitions,
) -> Result<Vec<(PartitionId, Offset)>, Refusal> {
    let bounds = |partition: PartitionId| {
        let state = partitions.get(&PartitionKey { topic: topic.id, partition });
        state.map(|state| (state.log_start(), state.high_watermark()))
    };
    let all = || (0..topic.settings.partitions).map(PartitionId::new);
    let known = |partition| Some((partition, bounds(partition)?));
    match start {
        GroupStart::Earliest => {
            Ok(all().filter_map(known).map(|(partition, (start, _))| (partition, start)).collect())
        }
        GroupStart::Latest => {
            Ok(all().filter_map(known).map(|(partition, (_, end))| (partition, end)).collect())
        }
        GroupStart::Offsets(offsets) => {
            let mut positions = offsets.clone();
            positions.sort_unstable();
            positions.dedup_by_key(|(partition, _)| *partition);
            for (partition, offset) in &positions {
                let Some((start, end)) = bounds(*partition) else {
                    let detail = format!("topic '{}' has no partition {partition}", topic.name);
                    return Err((ErrorCode::PartitionNotFound, detail));
                };
                if !(start..=end).contains(offset) {
                    let detail =
                        format!("partition {partition}: offset {offset} is not within {start}..={end}");
                    return Err((ErrorCode::OffsetOutOfRange, detail));
                }
            }
            Ok(positions)
        }
    }
}
