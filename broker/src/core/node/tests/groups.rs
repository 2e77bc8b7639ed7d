//! Groups of a node: what counts, when it counts, and what is in the journal.

use std::sync::atomic::Ordering;

use weir_protocol::message::{
    AckRecords, CreateGroup, DeleteGroup, DescribeGroup, GroupDescription, GroupReset, GroupStart, Heartbeat,
    JoinGroup, PartitionAssigned, PartitionRevoked, RecordsAcked, ResetGroup,
};
use weir_protocol::units::LeaseEpoch;

use super::*;
use crate::core::event::{FromMember, GroupRequest};

mod answers;
mod failing;
mod leases;

const MEMBER: u64 = 16;
const OTHER: u64 = 20;
const LEASE_MS: u32 = 10_000;

/// What an effect of time is: the lease of everybody who says nothing.
const LEASE_US: u64 = 10_000_000;

impl Script {
    /// A topic with three records in partition 0, and a group that stands at the first.
    fn with_group() -> Self {
        Self::with_group_of(LIMITS, 3)
    }

    fn with_group_of(limits: NodeLimits, records: u64) -> Self {
        let mut script = Self::with(limits, 1 << 20);
        for sequence in 0..records {
            script.publish(0, sequence, b"value");
            script.sync();
        }
        script.create("billing");
        assert!(!script.kinds().contains(&FrameKind::Done), "it is not durable yet");
        script.sync();
        let _done: Done = script.take(CONTROL, FrameKind::Done);
        script
    }

    fn create(&mut self, group: &str) {
        let create = CreateGroup {
            request: 9,
            topic: "orders".to_owned(),
            group: group.to_owned(),
            start: GroupStart::Earliest,
        };
        self.group(GroupRequest::Create(create));
    }

    fn group(&mut self, request: GroupRequest) {
        self.event(Event::Request(lane(CONTROL), Request::Group(request)));
    }

    fn join(&mut self, stream: u64, member: &str) {
        let join = JoinGroup {
            topic: self.topic,
            group: "billing".to_owned(),
            member: member.to_owned(),
            instance: stream,
            lease_ms: LEASE_MS,
            grace_ms: 0,
        };
        self.event(Event::Member(lane(stream), FromMember::Join(join)));
    }

    fn pass(&mut self, micros: u64) {
        self.now.monotonic_us += micros;
        self.event(Event::TimePassed);
    }

    /// A member that has both partitions, and reads the first; the lease of that.
    fn member(&mut self) -> LeaseEpoch {
        self.join(MEMBER, "one");
        self.sync();
        self.pass(100_000);
        let assigned: PartitionAssigned = self.take(MEMBER, FrameKind::PartitionAssigned);
        assert_eq!(assigned.partition, PartitionId::ZERO);
        self.subscribe(0, 1, StartAt::Lease(assigned.lease));
        let started: PartitionStarted = self.take(SUBSCRIBE, FrameKind::PartitionStarted);
        assert_eq!(started.position, assigned.cursor.floor());
        assigned.lease
    }

    /// The node starts again with the first so many frames of the journal, and whoever was connected is not.
    fn restart(&mut self, frames: usize) {
        self.journaled.truncate(frames);
        let mut state = NodeState::default();
        self.journaled.iter().for_each(|write| state.apply(&write.frame));
        let (dedup, filter) = dedup();
        filter.maybe.store(true, Ordering::Relaxed);
        self.filter = filter;
        self.node = Node::recovered(LIMITS, &state, |_| 0, dedup, (Incarnation::new(4), 1));
        self.actions.cold_reads.clear();
        self.sent.clear();
        let open = SubscribeOpen { topic: self.topic, limit_bytes: 1 << 20 };
        self.event(Event::SubscribeOpened(lane(SUBSCRIBE), open));
    }

    fn ack(&mut self, lease: LeaseEpoch, from: u64, to: u64) {
        let ranges = vec![(Offset::new(from), Offset::new(to))];
        let ack = AckRecords { number: from, partition: PartitionId::ZERO, lease, ranges };
        self.event(Event::Member(lane(MEMBER), FromMember::Ack(ack)));
    }

    fn acked(&mut self) -> (Option<ErrorCode>, u64) {
        let acked: RecordsAcked = self.take(MEMBER, FrameKind::RecordsAcked);
        (acked.refused, acked.committed.get())
    }

    fn committed(&mut self) -> u64 {
        let describe = DescribeGroup {
            request: 4,
            topic: "orders".to_owned(),
            group: "billing".to_owned(),
            first_partition: PartitionId::ZERO,
        };
        self.group(GroupRequest::Describe(describe));
        let described: GroupDescription = self.take(CONTROL, FrameKind::GroupDescription);
        described.partitions[0].committed.get()
    }

    fn taken(&self, pool: Pool) -> u64 {
        self.node.ledger().taken(pool)
    }

    fn settled_frames(&self) -> usize {
        self.journaled.iter().filter(|write| matches!(write.frame, Frame::Settled(_))).count()
    }

    fn reset(&mut self, to: GroupStart, dry_run: bool) {
        let (topic, group) = ("orders".to_owned(), "billing".to_owned());
        self.group(GroupRequest::Reset(ResetGroup { request: 5, topic, group, to, dry_run }));
    }
}

#[test]
fn an_acknowledgement_is_answered_and_counts_only_once_it_is_durable() {
    let mut script = Script::with_group();
    let lease = script.member();
    script.ack(lease, 0, 2);
    assert!(!script.kinds().contains(&FrameKind::RecordsAcked));
    assert_eq!(script.committed(), 0);
    script.sync();
    assert_eq!((script.acked(), script.committed()), ((None, 2), 2));
    script.ack(lease, 0, 1);
    assert_eq!(
        (script.acked(), script.settled_frames()),
        ((None, 2), 1),
        "nothing new needs no frame, nor a wait"
    );
}

#[test]
fn whoever_has_no_lease_changes_nothing() {
    let mut script = Script::with_group();
    let lease = script.member();
    script.ack(LeaseEpoch::new(lease.get() + 1), 0, 1);
    assert_eq!(script.acked().0, Some(ErrorCode::Fenced), "the lease of another partition");
    script.join(OTHER, "two");
    let ranges = vec![(Offset::new(0), Offset::new(1))];
    let ack = AckRecords { number: 0, partition: PartitionId::ZERO, lease, ranges };
    script.event(Event::Member(lane(OTHER), FromMember::Ack(ack)));
    let foreign: RecordsAcked = script.take(OTHER, FrameKind::RecordsAcked);
    assert_eq!(foreign.refused, Some(ErrorCode::Fenced), "the lease of another member");
    script.now.monotonic_us += LEASE_US;
    script.ack(lease, 0, 1);
    assert_eq!(script.acked().0, Some(ErrorCode::Fenced), "it has run out, although nobody has noticed yet");
    assert_eq!(script.settled_frames(), 0);
    script.sync();
    assert_eq!(script.committed(), 0);
    script.subscribe(0, 2, StartAt::Lease(lease));
    let ended: PartitionEnded = script.take(SUBSCRIBE, FrameKind::PartitionEnded);
    assert_eq!(ended.code, ErrorCode::Fenced);
}

#[test]
fn what_was_not_delivered_cannot_be_acknowledged() {
    let mut script = Script::with_group();
    let lease = script.member();
    script.ack(lease, 2, 4);
    assert_eq!(script.acked().0, Some(ErrorCode::NotDelivered));
    // Also what was delivered on a lane that is gone may be.
    script.event(Event::LaneClosed(lane(SUBSCRIBE)));
    script.ack(lease, 2, 3);
    script.sync();
    assert_eq!(script.acked(), (None, 0));
    assert_eq!(script.settled_frames(), 1);
}

#[test]
fn a_partition_goes_over_when_its_owner_has_settled_and_released_it() {
    let mut script = Script::with_group();
    let lease = script.member();
    script.event(Event::Member(lane(MEMBER), FromMember::Heartbeat(Heartbeat { number: 1 })));
    script.join(OTHER, "zwei");
    script.pass(100_000);
    let revoked: PartitionRevoked = script.take(MEMBER, FrameKind::PartitionRevoked);
    assert_eq!(revoked.partition, PartitionId::new(1), "the one with more keeps the first");
    let release =
        weir_protocol::message::ReleasePartition { partition: revoked.partition, lease: revoked.lease };
    script.event(Event::Member(lane(MEMBER), FromMember::Release(release)));
    let assigned: PartitionAssigned = script.take(OTHER, FrameKind::PartitionAssigned);
    assert!(assigned.partition == revoked.partition && assigned.lease > revoked.lease);
    script.ack(lease, 0, 1);
    script.sync();
    assert_eq!(script.acked(), (None, 1), "what need not move goes on");
}

#[test]
fn a_reset_fences_everything_that_was_delivered_before() {
    let mut script = Script::with_group();
    let lease = script.member();
    script.ack(lease, 0, 3);
    script.sync();
    assert_eq!(script.acked(), (None, 3));
    let to = GroupStart::Offsets(vec![(PartitionId::ZERO, Offset::new(1))]);
    script.reset(to.clone(), true);
    let planned: GroupReset = script.take(CONTROL, FrameKind::GroupReset);
    assert_eq!((planned.partitions[0].from.get(), planned.partitions[0].to.get()), (3, 1));
    assert_eq!(script.committed(), 3);
    script.reset(to, false);
    script.ack(lease, 1, 3);
    assert_eq!(script.acked().0, Some(ErrorCode::Fenced));
    script.sync();
    let _moved: GroupReset = script.take(CONTROL, FrameKind::GroupReset);
    assert_eq!(script.committed(), 1);
    script.reset(GroupStart::Offsets(vec![(PartitionId::ZERO, Offset::new(4))]), false);
    let failure: Failure = script.take(CONTROL, FrameKind::Failure);
    assert_eq!(failure.code, ErrorCode::OffsetOutOfRange);
    assert!(failure.detail.contains("4 is not within 0..=3"), "{}", failure.detail);
}

#[test]
fn positions_survive_a_restart_and_leases_have_higher_epochs() {
    let mut script = Script::with_group();
    let lease = script.member();
    script.ack(lease, 0, 1);
    script.ack(lease, 2, 3);
    script.sync();
    script.restart(usize::MAX);
    assert_eq!(script.committed(), 1);
    script.pass(LEASE_US);
    script.join(MEMBER, "one");
    script.pass(100_000);
    let assigned: PartitionAssigned = script.take(MEMBER, FrameKind::PartitionAssigned);
    assert!(assigned.lease > lease);
    assert!(assigned.cursor.contains(Offset::new(2)) && !assigned.cursor.contains(Offset::new(1)));
}

#[test]
fn what_is_settled_ahead_is_bounded_by_memory_and_what_is_missing_below_needs_none() {
    // A group of two partitions, a member, and 64 records ahead.
    let groups = 1024 + 2 * 256 + 512 + 16;
    let limits = NodeLimits { memory: Budget { groups, ..LIMITS.memory }, ..LIMITS };
    let mut script = Script::with_group_of(limits, 130);
    let lease = script.member();
    script.ack(lease, 1, 2);
    script.sync();
    assert_eq!((script.acked(), script.taken(Pool::Groups)), ((None, 0), groups));
    script.ack(lease, 70, 71);
    assert_eq!(script.acked().0, Some(ErrorCode::Throttled));
    script.ack(lease, 0, 1);
    script.sync();
    assert_eq!((script.acked(), script.taken(Pool::Groups)), ((None, 2), groups - 16));
    script.ack(lease, 2, 70);
    script.ack(lease, 100, 101);
    script.sync();
    assert_eq!([script.acked(), script.acked()], [(None, 70), (None, 70)]);
    script.create("more");
    let refused: Failure = script.take(CONTROL, FrameKind::Failure);
    assert_eq!(refused.code, ErrorCode::TooManyGroups);
    script.join(OTHER, "two");
    let refused: Failure = script.take(OTHER, FrameKind::Failure);
    assert_eq!(refused.code, ErrorCode::TooManyGroups);
    script.event(Event::Member(lane(MEMBER), FromMember::Leave));
    assert_eq!(script.taken(Pool::Groups), groups - 512);
    let (topic, group) = ("orders".to_owned(), "billing".to_owned());
    script.group(GroupRequest::Delete(DeleteGroup { request: 6, topic, group }));
    assert_eq!(script.taken(Pool::Groups), 0);
}

#[test]
fn what_an_earlier_lane_has_delivered_may_be_settled_while_another_reads() {
    let mut script = Script::with_group();
    let lease = script.member();
    let other = lane(SUBSCRIBE + 40);
    script.event(Event::SubscribeOpened(other, SubscribeOpen { topic: script.topic, limit_bytes: 1 }));
    let start = StartAt::Lease(lease);
    let subscribe = SubscribePartition { partition: PartitionId::ZERO, generation: 2, start };
    script.event(Event::SubscribePartition(other, subscribe));
    script.ack(lease, 0, 3);
    script.sync();
    assert_eq!(script.acked(), (None, 3), "the other lane has no credit, and has delivered nothing");
}

#[test]
fn a_lane_that_may_not_read_takes_nothing_from_the_one_that_reads() {
    let mut script = Script::with_group();
    let lease = script.member();
    let late = LaneId { connection: ConnectionId(99), stream: StreamId(SUBSCRIBE) };
    let open = SubscribeOpen { topic: script.topic, limit_bytes: 1 << 20 };
    script.event(Event::SubscribeOpened(late, open));
    let start = StartAt::Lease(lease);
    let subscribe = SubscribePartition { partition: PartitionId::ZERO, generation: 2, start };
    script.event(Event::SubscribePartition(late, subscribe));
    script.publish(0, 3, b"value");
    script.sync();
    script.ack(lease, 0, 4);
    script.sync();
    assert_eq!(script.acked(), (None, 4));
}

#[test]
fn a_lane_that_ends_late_takes_nothing_from_the_one_that_reads_now() {
    let mut script = Script::with_group();
    let lease = script.member();
    let next = lane(SUBSCRIBE + 40);
    let open = SubscribeOpen { topic: script.topic, limit_bytes: 1 << 20 };
    script.event(Event::SubscribeOpened(next, open));
    let start = StartAt::Lease(lease);
    let subscribe = SubscribePartition { partition: PartitionId::ZERO, generation: 2, start };
    script.event(Event::SubscribePartition(next, subscribe));
    script.event(Event::LaneClosed(lane(SUBSCRIBE)));
    script.publish(0, 3, b"value");
    script.sync();
    script.ack(lease, 0, 4);
    script.sync();
    assert_eq!(script.acked(), (None, 4));
}

/// Streams are not in order of each other.
#[test]
fn a_start_that_comes_late_takes_nothing_from_a_later_one_that_reads() {
    let mut script = Script::with_group();
    let lease = script.member();
    let earlier = lane(SUBSCRIBE + 40);
    let open = SubscribeOpen { topic: script.topic, limit_bytes: 1 << 20 };
    script.event(Event::SubscribeOpened(earlier, open));
    let start = StartAt::Lease(lease);
    let subscribe = SubscribePartition { partition: PartitionId::ZERO, generation: 0, start };
    script.event(Event::SubscribePartition(earlier, subscribe));
    let ended: PartitionEnded = script.take(SUBSCRIBE + 40, FrameKind::PartitionEnded);
    assert_eq!((ended.generation, ended.code), (0, ErrorCode::Fenced));
    script.event(Event::LaneClosed(earlier));
    script.publish(0, 3, b"value");
    script.sync();
    script.ack(lease, 0, 4);
    script.sync();
    assert_eq!(script.acked(), (None, 4));
}

#[test]
fn whoever_hears_that_a_group_is_there_may_join_it() {
    let mut script = Script::with_group();
    script.create("other");
    script.create("other");
    assert!(!script.kinds().contains(&FrameKind::Failure), "it is not there before it is durable");
    script.sync();
    let _done: Done = script.take(CONTROL, FrameKind::Done);
    let refused: Failure = script.take(CONTROL, FrameKind::Failure);
    assert_eq!(refused.code, ErrorCode::GroupExists);
    script.create("other");
    let refused: Failure = script.take(CONTROL, FrameKind::Failure);
    assert_eq!(refused.code, ErrorCode::GroupExists);
}
