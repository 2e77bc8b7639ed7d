//! Messages of consumer groups and of their members.

use weir_protocol::message::{
    AckRecords, AfterFailure, CreateGroup, DeleteGroup, DescribeFailures, DescribeGroup, FailRecords,
    FailedRecord, FailingPartition, FailingRecord, FailureOutcome, GroupDescription, GroupFailures,
    GroupInfo, GroupList, GroupPartition, GroupReset, GroupStart, Heartbeat, JoinGroup, LeaveGroup,
    ListGroups, MemberInfo, MovedPosition, PartitionAssigned, PartitionFailures, PartitionLost,
    PartitionRevoked, RecordsAcked, RecordsFailed, ReleasePartition, ResetGroup, SetRedelivery, Verdict,
    WaitsFor,
};
use weir_protocol::units::{LeaseEpoch, Offset};
use weir_protocol::{Cursor, ErrorCode, Redelivery};

use super::{END, OFFSET, PARTITION, REQUEST, TIME, TOPIC};
use crate::Sample;

pub(super) const LEASE: LeaseEpoch = LeaseEpoch::new(0x8182_8384_8586_8788);
const NUMBER: u64 = 0x9192_9394_9596_9798;

pub(super) fn all() -> Vec<Sample> {
    requests()
        .into_iter()
        .chain(answers())
        .chain(membership())
        .chain(acknowledging())
        .chain(failing())
        .collect()
}

fn names() -> (String, String) {
    ("orders".to_owned(), "billing".to_owned())
}

fn requests() -> Vec<Sample> {
    let create = |start| {
        let (topic, group) = names();
        CreateGroup { request: REQUEST, topic, group, start }
    };
    let (topic, group) = names();
    let delete = DeleteGroup { request: REQUEST, topic, group };
    let (topic, group) = names();
    let reset = ResetGroup {
        request: REQUEST,
        topic,
        group,
        to: GroupStart::Offsets(vec![(PARTITION, OFFSET)]),
        dry_run: true,
    };
    let (after_topic, after_group) = names();
    let (topic, group) = names();
    vec![
        Sample::message("create-group-earliest", create(GroupStart::Earliest)),
        Sample::message("create-group-latest", create(GroupStart::Latest)),
        Sample::message("create-group-offsets", create(GroupStart::Offsets(vec![(PARTITION, OFFSET)]))),
        Sample::message("delete-group", delete),
        Sample::message("reset-group", reset),
        Sample::message("list-groups", ListGroups { request: REQUEST, after_group, after_topic }),
        Sample::message(
            "describe-group",
            DescribeGroup { request: REQUEST, topic, group, first_partition: PARTITION },
        ),
    ]
}

fn info() -> GroupInfo {
    let (topic, group) = names();
    GroupInfo { group, topic, created: TIME, members: 1, partitions: 2, lag: 0x0102 }
}

fn answers() -> Vec<Sample> {
    let moved = MovedPosition { partition: PARTITION, from: OFFSET, to: END };
    let member =
        MemberInfo { member: "worker-1".to_owned(), connected: true, partitions: 1, lease_left_ms: 9_000 };
    let owned = GroupPartition {
        partition: PARTITION,
        committed: OFFSET,
        end_offset: END,
        settled_above: 3,
        owner: Some((0, LEASE)),
        revoked: true,
        waits_for: Some(WaitsFor::Application),
    };
    let free = GroupPartition { owner: None, revoked: false, settled_above: 0, waits_for: None, ..owned };
    vec![
        Sample::message("group-reset", GroupReset { request: REQUEST, partitions: vec![moved] }),
        Sample::message("group-list", GroupList { request: REQUEST, more: true, groups: vec![info()] }),
        Sample::message(
            "group-description",
            GroupDescription {
                request: REQUEST,
                group: info(),
                members: vec![member],
                partitions: vec![owned, free],
            },
        ),
    ]
}

fn membership() -> Vec<Sample> {
    let mut cursor = Cursor::at(Offset::new(70));
    cursor.settle(Offset::new(72), Offset::new(75)).expect("within the window");
    let join = JoinGroup {
        topic: TOPIC,
        group: "billing".to_owned(),
        member: "worker-1".to_owned(),
        instance: NUMBER,
        lease_ms: 10_000,
        grace_ms: 30_000,
    };
    vec![
        Sample::message("join-group", join),
        Sample::message("heartbeat", Heartbeat { number: NUMBER }),
        Sample::message(
            "partition-assigned",
            PartitionAssigned { partition: PARTITION, lease: LEASE, cursor },
        ),
        Sample::message(
            "partition-revoked",
            PartitionRevoked { partition: PARTITION, lease: LEASE, deadline_ms: 10_000 },
        ),
        Sample::message("release-partition", ReleasePartition { partition: PARTITION, lease: LEASE }),
        Sample::message(
            "partition-lost",
            PartitionLost { partition: PARTITION, lease: LEASE, code: ErrorCode::PositionReset },
        ),
        Sample::message("leave-group", LeaveGroup),
    ]
}

fn acknowledging() -> Vec<Sample> {
    let ranges = vec![(OFFSET, END), (END, Offset::new(END.get() + 1))];
    let acked =
        |refused, committed| RecordsAcked { number: NUMBER, partition: PARTITION, refused, committed };
    vec![
        Sample::message(
            "ack-records",
            AckRecords { number: NUMBER, partition: PARTITION, lease: LEASE, ranges },
        ),
        Sample::message("records-acked", acked(None, END)),
        Sample::message("records-acked-fenced", acked(Some(ErrorCode::Fenced), Offset::ZERO)),
    ]
}

fn failing() -> Vec<Sample> {
    let record =
        |offset, verdict| FailedRecord { offset, attempt: 3, verdict, reason: "no such order".to_owned() };
    let records = vec![
        record(OFFSET, Verdict::Retry),
        record(END, Verdict::RetryAfter(5000)),
        record(OFFSET, Verdict::Reject),
        record(END, Verdict::Return),
    ];
    let again =
        AfterFailure::Again { attempt: 4, wait_ms: 5000, refused: Some(ErrorCode::DeadLetterMissing) };
    let outcome = |offset, next| FailureOutcome { offset, next };
    let outcomes = vec![
        outcome(OFFSET, again),
        outcome(END, AfterFailure::DeadLetter),
        outcome(END, AfterFailure::Over),
    ];
    let failed =
        |refused, outcomes| RecordsFailed { number: NUMBER, partition: PARTITION, refused, outcomes };
    let failing = FailingRecord { offset: OFFSET, attempt: 3, wait_ms: 5000 };
    let redelivery = Redelivery {
        backoff_min_ms: 1000,
        backoff_max_ms: 300_000,
        attempts_max: 8,
        dead_letter: Some("orders.dlq".to_owned()),
    };
    let (topic, group) = names();
    let set = SetRedelivery { request: REQUEST, topic, group, redelivery: redelivery.clone() };
    let (topic, group) = names();
    let describe = DescribeFailures { request: REQUEST, topic, group, first_partition: PARTITION };
    let partition = FailingPartition {
        partition: PARTITION,
        records: 2,
        first: OFFSET,
        failed: 3,
        returned: 1,
        wait_ms: 5000,
        letters: 4,
        letters_refused: Some(ErrorCode::StorageFull),
    };
    let partitions = vec![partition];
    vec![
        Sample::message(
            "fail-records",
            FailRecords { number: NUMBER, partition: PARTITION, lease: LEASE, records },
        ),
        Sample::message("records-failed", failed(None, outcomes)),
        Sample::message("records-failed-fenced", failed(Some(ErrorCode::Fenced), Vec::new())),
        Sample::message(
            "partition-failures",
            PartitionFailures { partition: PARTITION, lease: LEASE, records: vec![failing] },
        ),
        Sample::message("set-redelivery", set),
        Sample::message("describe-failures", describe),
        Sample::message(
            "group-failures",
            GroupFailures { request: REQUEST, redelivery, more: true, partitions },
        ),
    ]
}
