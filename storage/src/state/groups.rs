//! Consumer groups in the state: where they stand in the partitions of their topics.

use std::collections::BTreeSet;

use weir_protocol::Cursor;
use weir_protocol::units::{GroupId, PartitionKey, TopicId};

use super::{Applied, NodeState};
use crate::frame::{GroupPositions, SettledRecords};

impl NodeState {
    /// A group is made, or moved: what it had settled of the named partitions is forgotten.
    pub(super) fn place_group(&mut self, group: &GroupPositions) -> Applied {
        let GroupPositions { definition, positions } = group;
        if !self.topics.contains_key(&definition.topic) {
            return Applied::Nothing;
        }
        self.groups.insert(definition.id, definition.clone());
        let mut changed = BTreeSet::new();
        for (partition, floor) in positions {
            let key = PartitionKey { topic: definition.topic, partition: *partition };
            let state = self.partitions.entry(key).or_default();
            state.cursors.insert(definition.id, Cursor::at(*floor));
            // What is settled nowhere does not come back; what was given up still goes where it was to go.
            if let Some(failures) = state.failures.get_mut(&definition.id) {
                failures.records.clear();
                state.forget_empty(definition.id);
            }
            changed.insert(key);
        }
        Applied::Groups(changed)
    }

    /// A group is gone, with all its positions.
    pub(super) fn delete_group(&mut self, topic: TopicId, group: GroupId) -> Applied {
        if self.groups.remove(&group).is_none() {
            return Applied::Nothing;
        }
        let held = self.partitions_of(topic).filter(|(_, state)| state.cursors.contains_key(&group));
        let changed: BTreeSet<PartitionKey> = held.map(|(partition, _)| partition).collect();
        for partition in &changed {
            if let Some(state) = self.partitions.get_mut(partition) {
                state.cursors.remove(&group);
                state.failures.remove(&group);
            }
        }
        Applied::Groups(changed)
    }

    /// A group has settled records.
    pub(super) fn settle(&mut self, settled: &SettledRecords) -> Applied {
        let Some(state) = self.partitions.get_mut(&settled.partition) else { return Applied::Nothing };
        let Some(cursor) = state.cursors.get_mut(&settled.group) else { return Applied::Nothing };
        for (from, to) in &settled.ranges {
            // Whoever wrote the frame had settled the same in an equal cursor: nothing is beyond its window.
            cursor.settle(*from, *to).ok();
        }
        if let Some(failures) = state.failures.get_mut(&settled.group) {
            failures.settled(cursor);
            state.forget_empty(settled.group);
        }
        Applied::Partition(settled.partition)
    }
}
