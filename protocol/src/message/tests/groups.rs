//! Messages of consumer groups and their members.

use super::*;
use crate::Cursor;

fn names() -> impl Strategy<Value = (String, String)> {
    (text(128), text(128))
}

fn leased() -> impl Strategy<Value = (PartitionId, LeaseEpoch)> {
    (partition(), any::<u64>().prop_map(LeaseEpoch::new))
}

fn group_start() -> impl Strategy<Value = GroupStart> {
    prop_oneof![
        Just(GroupStart::Earliest),
        Just(GroupStart::Latest),
        vec((partition(), offset()), 0..5).prop_map(GroupStart::Offsets),
    ]
}

fn info() -> impl Strategy<Value = GroupInfo> {
    (names(), timestamp(), any::<[u32; 2]>(), any::<u64>()).prop_map(
        |((group, topic), created, counts, lag)| {
            let [members, partitions] = counts;
            GroupInfo { group, topic, created, members, partitions, lag }
        },
    )
}

fn member() -> impl Strategy<Value = MemberInfo> {
    (text(128), any::<bool>(), any::<[u32; 2]>()).prop_map(
        |(member, connected, [partitions, lease_left_ms])| MemberInfo {
            member,
            connected,
            partitions,
            lease_left_ms,
        },
    )
}

/// A partition of a group with two members.
fn group_partition() -> impl Strategy<Value = GroupPartition> {
    let owner = option::of((0u32..2, any::<u64>().prop_map(LeaseEpoch::new)));
    let waits_for = option::of(proptest::sample::select(WaitsFor::ALL));
    (partition(), [offset(), offset()], any::<u64>(), owner, any::<bool>(), waits_for).prop_map(
        |(partition, [committed, end_offset], settled_above, owner, revoked, waits_for)| GroupPartition {
            partition,
            committed,
            end_offset,
            settled_above,
            owner,
            revoked,
            waits_for,
        },
    )
}

fn ranges() -> impl Strategy<Value = Vec<(Offset, Offset)>> {
    let range = (0..NUMBER_MAX / 2, 1..NUMBER_MAX / 2);
    vec(range.prop_map(|(from, count)| (Offset::new(from), Offset::new(from + count))), 0..5)
}

fn cursor() -> impl Strategy<Value = Cursor> {
    (0u64..1 << 40, vec((0u64..500, 1u64..9), 0..8)).prop_map(|(floor, settled)| {
        let mut cursor = Cursor::at(Offset::new(floor));
        for (above, count) in settled {
            let from = Offset::new(floor + above);
            cursor.settle(from, from.advance(count)).unwrap();
        }
        cursor
    })
}

proptest! {
    #[test]
    fn requests_about_groups_round_trip(
        request in any::<u32>(), (topic, group) in names(), start in group_start(), dry_run in any::<bool>(),
        first_partition in partition(), moved in vec((partition(), offset(), offset()), 0..5), info in info(),
        members in [member(), member()], partitions in vec(group_partition(), 0..5),
    ) {
        let names = || (topic.clone(), group.clone());
        let (topic_name, group_name) = names();
        round_trip(&CreateGroup { request, topic: topic_name, group: group_name, start: start.clone() });
        let (topic_name, group_name) = names();
        round_trip(&ResetGroup { request, topic: topic_name, group: group_name, to: start, dry_run });
        let (topic_name, group_name) = names();
        round_trip(&DeleteGroup { request, topic: topic_name, group: group_name });
        let (after_topic, after_group) = names();
        round_trip(&ListGroups { request, after_group, after_topic });
        round_trip(&DescribeGroup { request, topic, group, first_partition });
        let partitions_moved = moved.into_iter().map(|(partition, from, to)| MovedPosition { partition, from, to });
        round_trip(&GroupReset { request, partitions: partitions_moved.collect() });
        round_trip(&GroupList { request, more: dry_run, groups: vec![info.clone()] });
        round_trip(&GroupDescription { request, group: info, members: members.into(), partitions });
    }

    #[test]
    fn messages_of_members_round_trip(
        topic in topic_id(), (group, member) in names(), number in any::<u64>(), times in any::<[u32; 2]>(),
        (partition, lease) in leased(), cursor in cursor(), code in option::of(code()), ranges in ranges(),
    ) {
        let [lease_ms, grace_ms] = times;
        round_trip(&JoinGroup { topic, group, member, instance: number, lease_ms, grace_ms });
        round_trip(&Heartbeat { number });
        let committed = cursor.floor();
        round_trip(&PartitionAssigned { partition, lease, cursor });
        round_trip(&PartitionRevoked { partition, lease, deadline_ms: lease_ms });
        round_trip(&ReleasePartition { partition, lease });
        round_trip(&PartitionLost { partition, lease, code: code.unwrap_or(ErrorCode::Fenced) });
        round_trip(&AckRecords { number, partition, lease, ranges });
        round_trip(&RecordsAcked { number, partition, refused: code, committed });
        round_trip(&LeaveGroup);
    }
}

#[test]
fn what_makes_no_sense_is_refused_at_its_byte() {
    let (partition, lease) = (PartitionId::ZERO, LeaseEpoch::ZERO);
    let ranges = vec![(Offset::new(1), Offset::new(2))];
    let ack = AckRecords { number: 0, partition, lease, ranges };
    let end = Problem::Invalid { what: "end of a range", value: 1 };
    assert_eq!(refusal(&ack, |body| body[32] = 1), (32, end));
    let create = CreateGroup {
        request: 0,
        topic: String::new(),
        group: String::new(),
        start: GroupStart::Offsets(Vec::new()),
    };
    assert_eq!(refusal(&create, |body| body[8] = 3), (8, Problem::Invalid { what: "group start", value: 3 }));
    let earliest = CreateGroup { start: GroupStart::Offsets(vec![(partition, Offset::ZERO)]), ..create };
    let count = Problem::Invalid { what: "offset count", value: 1 };
    assert_eq!(refusal(&earliest, |body| body[8] = 0), (9, count));
}
