//! Consumer groups of a node: positions that only go forward, and for each partition one owner at a time.
//!
//! Positions are frames of the journal. Members and leases are not: after a restart everybody joins again, and every
//! lease has a higher epoch than any before. How long the leases of a group may last is one: for so long after a restart a
//! partition is nobody's, unless who had it gives it back.

mod admin;
mod assignment;
mod describe;
mod failing;
mod lasting;
mod member;
mod memory;
mod share;
mod sharing;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use weir_protocol::ErrorCode;
use weir_protocol::units::{GroupId, Incarnation, LeaseEpoch, PartitionId, PartitionKey, Timestamp, TopicId};
use weir_storage::frame::{Frame, GroupDefinition, GroupPositions};
use weir_storage::state::NodeState;

use crate::core::ledger::Ledger;
use crate::core::{LaneId, Now};
use memory::{GROUP_BYTES, Memory};
use share::Share;
use sharing::{Name, Sharing};

pub use failing::{Failed, Letter, LetterId, PendingFailure};
pub use member::{Acked, PendingAck, Reading};

/// Groups of a node.
const GROUPS_MAX: usize = 10_000;

/// Positions of all groups of a node: partitions of the topics, once for each group.
const POSITIONS_MAX: usize = 200_000;

/// Leases and groups carry the start of their broker above these bits.
const START_BITS: u32 = 32;

/// The longest lease of a group that waits for the journal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PendingLongest {
    group: GroupId,
    number: u64,
    lease_ms: u32,
}

/// All groups of a node.
#[derive(Debug)]
pub struct Groups {
    groups: BTreeMap<GroupId, Group>,
    /// By name of the group and of its topic.
    names: BTreeMap<(String, String), GroupId>,
    members: BTreeMap<LaneId, (GroupId, Name)>,
    leases: BTreeMap<LeaseEpoch, (GroupId, PartitionId)>,
    /// The leases under which lanes read partitions.
    readers: BTreeMap<(LaneId, PartitionId), LeaseEpoch>,
    /// When something of a group is due.
    timers: BTreeSet<(u64, GroupId)>,
    next_group: u64,
    next_lease: LeaseNumbers,
    memory: Memory,
    /// Whether the time since the start counts.
    is_started: bool,
}

#[derive(Debug)]
struct Group {
    definition: GroupDefinition,
    topic: String,
    /// Whether its definition is durable.
    is_live: bool,
    sharing: Sharing,
    timer: Option<u64>,
}

/// Something that follows from what happened to a group.
#[derive(Debug)]
pub enum Effect {
    /// A frame for a member.
    Tell(LaneId, Bytes),
    /// A member's stream has failed.
    Fail(LaneId, ErrorCode, String),
    /// A member's stream has done.
    Finish(LaneId),
    /// A lane is no longer to read a partition under this lease.
    Stop(LaneId, PartitionId, LeaseEpoch),
    /// A lease began.
    Leased(LeaseEpoch, PartitionId),
    /// A lease has ended.
    Ended(LeaseEpoch),
    /// The lease of a partition has run out with records under way.
    Lapsed(PartitionId),
    /// A frame for the journal, for which nobody waits.
    Journal(Box<Frame>),
    /// Leases of a group may last as long as its definition says once that is durable.
    Longest(PendingLongest),
}

/// Makes epochs of leases: each is higher than all before, also than those of earlier starts.
#[derive(Debug)]
struct LeaseNumbers {
    last: u64,
    /// What the wall clock shows when the clock that never goes back shows 0.
    wall_at_zero: Timestamp,
    /// What remembering failures may take, of the group that changes.
    room: u64,
}

impl LeaseNumbers {
    const fn after(last: u64) -> Self {
        Self { last, wall_at_zero: Timestamp::ZERO, room: 0 }
    }

    const fn next(&mut self) -> LeaseEpoch {
        self.last += 1;
        LeaseEpoch::new(self.last)
    }

    /// Whether a lease was given by a broker that has stopped since.
    const fn is_of_earlier_start(&self, lease: LeaseEpoch) -> bool {
        lease.get() >> START_BITS < self.last >> START_BITS
    }

    /// What the wall clock shows at a time of the clock that never goes back.
    fn wall(&self, now: u64) -> Timestamp {
        self.wall_at_zero.saturating_add_micros(i64::try_from(now).unwrap_or(i64::MAX))
    }
}

impl Groups {
    /// The groups that recovery found.
    ///
    /// # Panics
    /// If the incarnation does not fit 32 bits: four billion starts.
    pub fn recovered(state: &NodeState, incarnation: Incarnation, ledger: &Ledger) -> Self {
        assert!(incarnation.get() < 1 << START_BITS, "epochs of leases carry the incarnation in 32 bits");
        let mut groups = Self {
            groups: BTreeMap::new(),
            names: BTreeMap::new(),
            members: BTreeMap::new(),
            leases: BTreeMap::new(),
            readers: BTreeMap::new(),
            timers: BTreeSet::new(),
            next_group: incarnation.get() << START_BITS,
            next_lease: LeaseNumbers::after(incarnation.get() << START_BITS),
            memory: Memory::new(ledger),
            is_started: false,
        };
        for definition in state.groups.values() {
            let Some(topic) = state.topics.get(&definition.topic) else { continue };
            let share = |number| {
                let key = PartitionKey { topic: topic.id, partition: PartitionId::new(number) };
                let known = state.partitions.get(&key);
                let cursor = known.and_then(|state| state.cursors.get(&definition.id));
                let failures = known.and_then(|state| state.failures.get(&definition.id));
                Share::at(cursor.cloned().unwrap_or_default(), failures.cloned().unwrap_or_default())
            };
            let shares = (0..topic.settings.partitions).map(share).collect();
            let bytes = groups.insert(definition, &topic.name, shares, true);
            groups.memory.found(bytes);
        }
        groups
    }

    /// Adds a group, and says what memory it takes.
    fn insert(
        &mut self,
        definition: &GroupDefinition,
        topic: &str,
        shares: Vec<Share>,
        is_live: bool,
    ) -> u64 {
        self.names.insert((definition.name.clone(), topic.to_owned()), definition.id);
        let group = Group {
            definition: definition.clone(),
            topic: topic.to_owned(),
            is_live,
            sharing: Sharing::new(shares, definition.longest_lease_ms),
            timer: None,
        };
        let bytes = GROUP_BYTES + group.sharing.bytes();
        self.groups.insert(definition.id, group);
        bytes
    }

    /// A new group, or new positions of one, are durable.
    pub fn placed(&mut self, placed: &GroupPositions) {
        let Some(group) = self.groups.get_mut(&placed.definition.id) else { return };
        group.is_live = true;
        for (partition, floor) in &placed.positions {
            if let Some(share) = group.sharing.share_mut(*partition) {
                share.committed = *floor;
            }
        }
    }

    /// A topic is gone: so are its groups, and their members are told.
    pub fn topic_deleted(&mut self, topic: TopicId, out: &mut Vec<Effect>) {
        let gone = self.groups.values().filter(|group| group.definition.topic == topic);
        for id in gone.map(|group| group.definition.id).collect::<Vec<_>>() {
            self.remove(id, (ErrorCode::TopicDeleted, "the topic was deleted"), out);
        }
    }

    fn remove(&mut self, id: GroupId, (code, why): (ErrorCode, &str), out: &mut Vec<Effect>) {
        let Some(group) = self.groups.remove(&id) else { return };
        self.memory.changed(GROUP_BYTES + group.sharing.bytes(), 0);
        self.names.remove(&(group.definition.name, group.topic));
        self.timers.retain(|(_, group)| *group != id);
        self.leases.retain(|_, (group, _)| *group != id);
        let lanes = group.sharing.members.values().filter_map(|member| member.lane);
        for lane in lanes {
            self.members.remove(&lane);
            out.push(Effect::Fail(lane, code, why.to_owned()));
        }
        for (partition, share) in share::numbered(&group.sharing.shares) {
            let lease = share.lease.as_ref().and_then(|lease| Some((lease.reader?, lease.epoch)));
            if let Some((reader, epoch)) = lease {
                self.readers.remove(&(reader, partition));
                out.push(Effect::Stop(reader, partition, epoch));
            }
        }
    }

    /// Both clocks show this now. The first time is that of the start: leases of before last on from there at most.
    pub fn observe(&mut self, now: Now) {
        if !std::mem::replace(&mut self.is_started, true) {
            self.groups.values_mut().for_each(|group| group.sharing.started(now.monotonic_us));
        }
        let since = now.monotonic_us.cast_signed();
        self.next_lease.wall_at_zero = now.wall.saturating_add_micros(-since);
    }

    /// When [`Groups::pass_time`] has something to do, in microseconds on the clock that never goes back.
    pub fn due(&self) -> Option<u64> {
        self.timers.first().map(|(due, _)| *due)
    }

    /// Ends what has run out by `now`.
    pub fn pass_time(&mut self, now: u64, out: &mut Vec<Effect>) {
        while let Some((_, id)) = self.timers.first().copied().filter(|(due, _)| *due <= now) {
            self.change(now, id, out, |_, _, _| ());
        }
    }

    /// Changes a group at a moment: what has run out by then has ended before.
    fn change<R>(
        &mut self,
        now: u64,
        id: GroupId,
        out: &mut Vec<Effect>,
        change: impl FnOnce(&mut Sharing, &mut LeaseNumbers, &mut Vec<Effect>) -> R,
    ) -> Option<R> {
        let group = self.groups.get_mut(&id)?;
        let (before, bytes) = (out.len(), group.sharing.bytes());
        self.next_lease.room = self.memory.room() + group.sharing.failing_bytes();
        group.sharing.pass_time(now, &mut self.next_lease, out);
        let result = change(&mut group.sharing, &mut self.next_lease, out);
        self.memory.changed(bytes, group.sharing.bytes());
        if let Some((number, lease_ms)) = group.sharing.longest_lease() {
            group.definition.longest_lease_ms = lease_ms;
            out.push(Effect::Longest(PendingLongest { group: id, number, lease_ms }));
        }
        let due = group.sharing.due();
        if group.timer != due {
            self.timers.extend(due.map(|due| (due, id)));
            if let Some(old) = std::mem::replace(&mut group.timer, due) {
                self.timers.remove(&(old, id));
            }
        }
        let mut lapsed = Vec::new();
        for effect in out.iter().skip(before) {
            match effect {
                Effect::Leased(epoch, partition) => {
                    self.leases.insert(*epoch, (id, *partition));
                }
                Effect::Ended(epoch) => {
                    self.leases.remove(epoch);
                }
                Effect::Stop(lane, partition, _) => {
                    self.readers.remove(&(*lane, *partition));
                }
                Effect::Fail(lane, ..) | Effect::Finish(lane) => {
                    self.members.remove(lane);
                }
                Effect::Lapsed(partition) => lapsed.push(*partition),
                Effect::Tell(..) | Effect::Journal(_) | Effect::Longest(_) => {}
            }
        }
        let frames = lapsed.into_iter().filter_map(|partition| self.came_back(id, partition));
        out.extend(frames.map(|frame| Effect::Journal(Box::new(frame))).collect::<Vec<_>>());
        Some(result)
    }

    /// How long the leases of a group may last, for the journal.
    pub fn longest(&self, pending: PendingLongest) -> Option<Frame> {
        let known = &self.groups.get(&pending.group)?.definition;
        let definition = GroupDefinition { longest_lease_ms: pending.lease_ms, ..known.clone() };
        Some(Frame::Group(GroupPositions { definition, positions: Vec::new() }))
    }

    /// How long the leases of a group may last is durable.
    pub fn longest_durable(&mut self, now: u64, pending: PendingLongest, out: &mut Vec<Effect>) {
        self.change(now, pending.group, out, |sharing, leases, out| {
            sharing.longest_durable(now, pending.number, leases, out);
        });
    }

    /// Groups there are.
    pub fn count(&self) -> usize {
        self.groups.len()
    }

    /// Members of all groups whose streams are open.
    pub fn members(&self) -> usize {
        self.members.len()
    }
}
