//! Leases over restarts of the broker and of members: a partition has one owner also then.

use weir_protocol::message::{PartitionAssigned, ReleasePartition};

use super::*;

impl Script {
    /// The partitions that were leased to whoever has a stream.
    fn leased(&mut self, stream: u64) -> Vec<u32> {
        let is_lease = |(at, frame): &&(LaneId, RawFrame)| {
            *at == lane(stream) && frame.kind == FrameKind::PartitionAssigned
        };
        let leased = self.sent.iter().filter(is_lease);
        let leased = leased.map(|(_, frame)| PartitionAssigned::from_frame(frame).unwrap().partition.get());
        let leased = leased.collect();
        self.sent.clear();
        leased
    }
}

#[test]
fn a_lease_is_given_once_its_length_is_durable() {
    let mut script = Script::with_group();
    script.join(MEMBER, "one");
    script.pass(100_000);
    assert!(script.leased(MEMBER).is_empty(), "a broker that starts now would not wait for it");
    script.sync();
    assert_eq!(script.leased(MEMBER), [0, 1]);
}

#[test]
fn after_a_restart_a_partition_is_nobodys_until_it_is_given_back_or_every_lease_of_before_has_ended() {
    let mut script = Script::with_group();
    let lease = script.member();
    script.restart(usize::MAX);
    script.join(OTHER, "two");
    script.sync();
    script.pass(LEASE_US / 2);
    assert!(script.leased(OTHER).is_empty(), "the one that had them has not noticed");
    let release = ReleasePartition { partition: PartitionId::new(1), lease };
    script.event(Event::Member(lane(OTHER), FromMember::Release(release)));
    assert_eq!(script.leased(OTHER), [1]);
    script.event(Event::Member(lane(OTHER), FromMember::Heartbeat(Heartbeat { number: 1 })));
    script.pass(LEASE_US / 2);
    assert_eq!(script.leased(OTHER), [0]);
}

#[test]
fn a_group_that_everybody_has_left_waits_for_nobody_after_a_restart() {
    let mut script = Script::with_group();
    script.member();
    script.event(Event::Member(lane(MEMBER), FromMember::Leave));
    script.sync();
    script.restart(usize::MAX);
    script.join(OTHER, "two");
    script.sync();
    script.pass(100_000);
    assert_eq!(script.leased(OTHER), [0, 1]);
}

#[test]
fn a_join_that_comes_late_does_not_replace_the_successor_of_its_consumer() {
    let mut script = Script::with_group();
    let join = |connection, instance| {
        let lane = LaneId { connection: ConnectionId(connection), stream: StreamId(MEMBER) };
        let (topic, group, member) = (script.topic, "billing".to_owned(), "one".to_owned());
        let join = JoinGroup { topic, group, member, instance, lease_ms: LEASE_MS, grace_ms: 0 };
        (lane, Event::Member(lane, FromMember::Join(join)))
    };
    let (successor, late, later) = (join(8, 6), join(7, 5), join(7, 9));
    script.event(successor.1);
    script.event(late.1);
    let refused = |script: &mut Script, lane: LaneId| {
        let sent = std::mem::take(&mut script.sent);
        sent.into_iter().any(|(at, frame)| at == lane && frame.kind == FrameKind::Failure)
    };
    assert!(refused(&mut script, late.0));
    script.event(later.1);
    assert!(refused(&mut script, successor.0), "a later consumer may be on an earlier connection");
}
