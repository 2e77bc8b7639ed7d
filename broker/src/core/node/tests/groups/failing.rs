//! Records that fail: how often is counted, when they come back, and what becomes of those that are given up.

use weir_protocol::message::{
    AfterFailure, DescribeFailures, FailRecords, FailedRecord, GroupFailures, PartitionFailures,
    RecordsFailed, SetRedelivery, Verdict,
};
use weir_protocol::{DecodeError, Redelivery};
use weir_storage::dedup::{Entry, Fingerprint, KeySeed, RecordPlace};

use super::super::keys::SEED;
use super::*;
use crate::core::dedup::KeyAnswer;
use crate::core::letter::RETRY_US;

fn redelivery(attempts_max: u32, dead_letter: Option<&str>) -> Redelivery {
    let dead_letter = dead_letter.map(str::to_owned);
    Redelivery { backoff_min_ms: 1000, backoff_max_ms: 3000, attempts_max, dead_letter }
}

/// A letter as it lies in the dead-letter topic.
#[derive(Debug, Eq, PartialEq)]
struct Found {
    value: Option<Bytes>,
    headers: Vec<(String, String)>,
}

impl Script {
    fn create_topic(&mut self, name: &str, dedup_horizon_us: Option<u64>) -> TopicId {
        let settings = TopicSettings {
            partitions: 3,
            retention_age_us: None,
            retention_bytes: None,
            batch_bytes_max: 16 << 10,
            explicit_partitions: false,
            dedup_horizon_us,
            keyed_versions: false,
            dedup_keys_per_second: None,
            dedup_since: Timestamp::ZERO,
        };
        let create = CreateTopic { request: 1, name: name.to_owned(), settings };
        self.event(Event::Request(lane(CONTROL), Request::Create(create)));
        self.sync();
        let info: TopicInfo = self.take(CONTROL, FrameKind::TopicInfo);
        info.id
    }

    fn redeliver(&mut self, redelivery: Redelivery) {
        let (topic, group) = ("orders".to_owned(), "billing".to_owned());
        self.group(GroupRequest::SetRedelivery(SetRedelivery { request: 7, topic, group, redelivery }));
        self.sync();
    }

    fn say_failed(&mut self, lease: LeaseEpoch, (offset, attempt): (u64, u32), verdict: Verdict) {
        let record = FailedRecord { offset: Offset::new(offset), attempt, verdict, reason: "why".to_owned() };
        let (number, partition) = (offset, PartitionId::ZERO);
        let fail = FailRecords { number, partition, lease, records: vec![record] };
        self.event(Event::Member(lane(MEMBER), FromMember::Fail(fail)));
    }

    fn answer_to_failure(&mut self) -> Result<AfterFailure, ErrorCode> {
        let failed: RecordsFailed = self.take(MEMBER, FrameKind::RecordsFailed);
        failed.refused.map_or_else(|| Ok(failed.outcomes[0].next), Err)
    }

    fn failed(
        &mut self,
        lease: LeaseEpoch,
        record: (u64, u32),
        verdict: Verdict,
    ) -> Result<AfterFailure, ErrorCode> {
        self.say_failed(lease, record, verdict);
        self.sync();
        self.answer_to_failure()
    }

    /// What lies in the partitions of a topic, as the journal says.
    fn letters(&self, topic: TopicId) -> Vec<Found> {
        let frames = self.journaled.iter().filter_map(|write| {
            let Frame::Append { partition, batch, .. } = &write.frame else { return None };
            (partition.topic == topic).then_some(batch)
        });
        let records = frames.flat_map(|batch| {
            let voids = batch.section.voids.clone();
            let records = batch.producer.records().unwrap().map(Result::<_, DecodeError>::unwrap);
            records.filter(move |record| !voids.contains(record.offset_delta))
        });
        let text = |bytes: Option<Bytes>| String::from_utf8(bytes.unwrap().to_vec()).unwrap();
        let found = records.map(|record| Found {
            value: record.value,
            headers: record.headers.iter().map(|header| (header.key, text(header.value))).collect(),
        });
        found.collect()
    }

    fn forwarded(&self) -> usize {
        self.journaled.iter().filter(|write| matches!(write.frame, Frame::Forwarded(_))).count()
    }

    fn failures(&mut self) -> GroupFailures {
        let (topic, group) = ("orders".to_owned(), "billing".to_owned());
        let first_partition = PartitionId::ZERO;
        let describe = DescribeFailures { request: 8, topic, group, first_partition };
        self.group(GroupRequest::DescribeFailures(describe));
        self.take(CONTROL, FrameKind::GroupFailures)
    }

    /// What storage knows of keys that are no longer in memory.
    fn answer_probes(&mut self) {
        let seed = KeySeed::from_bytes(SEED);
        for probe in std::mem::take(&mut self.actions.key_probes) {
            let mut found = Vec::new();
            for write in &self.journaled {
                let Frame::Append { partition, batch, .. } = &write.frame else { continue };
                for (delta, row) in (0u64..).zip(batch.producer.table().rows()) {
                    let Some(key) = row.idempotency_key else { continue };
                    let offset = batch.base_offset().advance(delta);
                    let entry = Entry {
                        digest: seed.digest(partition.topic, row.routing_hash, key),
                        fingerprint: Fingerprint(row.fingerprint),
                        place: RecordPlace { partition: partition.partition, offset },
                        append_time: batch.section.append_time,
                    };
                    found.extend(probe.digests.contains(&entry.digest).then_some(entry));
                }
            }
            self.event(Event::Keys(KeyAnswer { partition: probe.partition, found: Some(found) }));
        }
    }

    /// Segments hold the batch that is asked for, as it was journaled.
    fn answer_cold_reads(&mut self) {
        for read in std::mem::take(&mut self.actions.cold_reads) {
            let crate::core::event::ColdWant::Batches { from, .. } = read.want else { panic!("no time") };
            let found = self.journaled.iter().find_map(|write| {
                let Frame::Append { partition, batch, .. } = &write.frame else { return None };
                (*partition == read.key && batch.end_offset() > from).then(|| batch.clone())
            });
            let (mut bytes, found) = (bytes::BytesMut::new(), found.unwrap());
            found.encode(&mut bytes);
            let result = ColdResult::Batches { bytes: bytes.freeze(), end: found.end_offset() };
            self.event(Event::ColdAnswer(ColdAnswer { read, result }));
        }
    }
}

const fn again(attempt: u32, wait_ms: u32) -> Result<AfterFailure, ErrorCode> {
    Ok(AfterFailure::Again { attempt, wait_ms, refused: None })
}

#[test]
fn a_failure_is_counted_once_and_answered_once_it_is_durable() {
    let mut script = Script::with_group();
    script.redeliver(redelivery(0, None));
    let lease = script.member();
    script.say_failed(lease, (0, 1), Verdict::Retry);
    assert!(!script.kinds().contains(&FrameKind::RecordsFailed));
    script.sync();
    assert_eq!(script.answer_to_failure(), again(2, 1000));
    assert_eq!(script.failed(lease, (0, 1), Verdict::Retry), again(2, 1000), "it was said twice");
    assert_eq!(script.failed(lease, (0, 2), Verdict::Retry), again(3, 2000));
    assert_eq!(script.failed(lease, (0, 3), Verdict::Retry), again(4, 3000));
    assert_eq!(script.failed(lease, (0, 4), Verdict::RetryAfter(50_000)), again(5, 50_000));
    assert_eq!(script.failed(lease, (1, 1), Verdict::Return), again(2, 0));
    assert_eq!(script.failed(lease, (1, 2), Verdict::Return), again(3, 1000));
    let failing = script.failures().partitions;
    assert_eq!((failing[0].records, failing[0].failed, failing[0].wait_ms), (2, 4, 50_000));
    script.ack(lease, 0, 1);
    script.sync();
    let failing = script.failures().partitions;
    assert_eq!((failing[0].records, failing[0].failed, failing[0].returned), (1, 0, 2));
    assert_eq!(script.failed(lease, (0, 5), Verdict::Retry), Ok(AfterFailure::Over), "it is settled");
}

#[test]
fn whoever_has_no_lease_fails_nothing() {
    let mut script = Script::with_group();
    let lease = script.member();
    let other = LeaseEpoch::new(lease.get() + 1);
    assert_eq!(script.failed(other, (0, 1), Verdict::Retry), Err(ErrorCode::Fenced));
    assert_eq!(script.failed(lease, (3, 1), Verdict::Retry), Err(ErrorCode::NotDelivered));
    script.now.monotonic_us += LEASE_US;
    assert_eq!(script.failed(lease, (0, 1), Verdict::Retry), Err(ErrorCode::Fenced));
    let failed = |write: &ToWrite| {
        let Frame::Failed(failed) = &write.frame else { return false };
        failed.records.iter().any(|(_, record)| record.failed > 0)
    };
    assert!(!script.journaled.iter().any(failed));
}

#[test]
fn attempts_survive_a_restart() {
    let mut script = Script::with_group();
    let lease = script.member();
    assert_eq!(script.failed(lease, (1, 1), Verdict::Retry), again(2, 1000));
    script.restart(usize::MAX);
    script.pass(LEASE_US);
    script.join(MEMBER, "one");
    script.pass(100_000);
    let failing: PartitionFailures = script.take(MEMBER, FrameKind::PartitionFailures);
    let assigned: PartitionAssigned = script.take(MEMBER, FrameKind::PartitionAssigned);
    assert_eq!((failing.lease, failing.records.len()), (assigned.lease, 1));
    assert_eq!((failing.records[0].offset, failing.records[0].attempt), (Offset::new(1), 2));
    assert!((1..=1000).contains(&failing.records[0].wait_ms), "it is not due yet");
}

#[test]
fn what_is_so_already_is_answered_although_nothing_is_written() {
    let mut script = Script::with_group();
    script.redeliver(redelivery(0, None));
    let lease = script.member();
    assert_eq!(script.failed(lease, (0, 1), Verdict::Retry), again(2, 1000));
    script.say_failed(lease, (0, 1), Verdict::Retry);
    assert_eq!(script.answer_to_failure(), again(2, 1000));
    let done = |script: &Script| script.kinds().iter().filter(|kind| **kind == FrameKind::Done).count();
    let before = done(&script);
    let (topic, group) = ("orders".to_owned(), "billing".to_owned());
    let set = SetRedelivery { request: 8, topic, group, redelivery: redelivery(0, None) };
    script.group(GroupRequest::SetRedelivery(set));
    assert_eq!(done(&script), before + 1);
}

#[test]
fn what_a_member_had_that_was_not_heard_of_comes_back_as_the_next_attempt() {
    let mut script = Script::with_group();
    let lease = script.member();
    script.ack(lease, 0, 1);
    script.sync();
    script.join(OTHER, "two");
    script.pass(LEASE_US / 2);
    script.event(Event::Member(lane(OTHER), FromMember::Heartbeat(Heartbeat { number: 1 })));
    script.pass(LEASE_US / 2);
    let failing: PartitionFailures = script.take(OTHER, FrameKind::PartitionFailures);
    assert_eq!(failing.partition, PartitionId::ZERO);
    assert_eq!((failing.records[0].offset, failing.records[0].attempt), (Offset::new(1), 2));
    let returned = script.failures().partitions;
    assert_eq!((returned[0].failed, returned[0].returned), (0, 1));
    script.restart(usize::MAX);
    assert_eq!(script.failures().partitions[0].returned, 1);
}

#[test]
fn a_record_that_keeps_failing_is_in_the_dead_letter_topic_once() {
    let mut script = Script::with_group();
    let letters = script.create_topic("dlq", Some(DEDUP_HORIZON_US_DEFAULT));
    script.redeliver(redelivery(2, Some("dlq")));
    let lease = script.member();
    script.ack(lease, 1, 3);
    script.sync();
    assert_eq!(script.acked(), (None, 0));
    assert_eq!(script.failed(lease, (0, 1), Verdict::Retry), again(2, 1000));
    script.now.wall = Timestamp::from_micros(9_000_000);
    script.say_failed(lease, (0, 2), Verdict::Retry);
    assert_eq!(script.letters(letters), [], "nothing goes before the record is settled, durably");
    script.sync();
    assert_eq!(script.answer_to_failure(), Ok(AfterFailure::DeadLetter));
    assert_eq!(script.committed(), 3, "it holds nobody up");
    let found = script.letters(letters);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].value.as_deref(), Some(&b"value"[..]));
    let told: Vec<_> = found[0].headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(
        told,
        [
            ("weir-origin-topic", "orders"),
            ("weir-origin-partition", "0"),
            ("weir-origin-offset", "0"),
            ("weir-group", "billing"),
            ("weir-attempts", "2"),
            ("weir-returned", "0"),
            ("weir-reason", "why"),
            ("weir-first-failure", "1000000"),
            ("weir-last-failure", "9000000"),
        ]
    );
    assert_eq!((script.forwarded(), script.failures().partitions[0].letters), (0, 1));
    script.sync();
    assert_eq!((script.forwarded(), script.failures().partitions.len()), (1, 0));
    assert_eq!(script.failed(lease, (0, 2), Verdict::Retry), Ok(AfterFailure::Over), "it was said twice");
}

#[test]
fn a_crash_at_any_moment_neither_loses_nor_doubles_a_letter() {
    let mut script = Script::with_group();
    let letters = script.create_topic("dlq", Some(DEDUP_HORIZON_US_DEFAULT));
    script.redeliver(redelivery(1, Some("dlq")));
    let lease = script.member();
    let before = script.journaled.len();
    assert_eq!(script.failed(lease, (1, 1), Verdict::Reject), Ok(AfterFailure::DeadLetter));
    script.sync();
    script.sync();
    let frames = script.journaled.len();
    assert_eq!((script.forwarded(), frames - before), (1, 3), "settled, appended, forwarded");
    let all: Vec<Frame> = script.journaled.iter().map(|write| write.frame.clone()).collect();
    for kept in before..=frames {
        let mut script = Script::with_group();
        script.journaled = all
            .iter()
            .map(|frame| ToWrite { ticket: Ticket(0), frame: frame.clone(), early: false })
            .collect();
        script.restart(kept);
        // Nobody has to join for that: it goes by itself, and the record is read from segments, whatever the length of its batch.
        for read in std::mem::take(&mut script.actions.cold_reads) {
            let result = ColdResult::Longer(20_000);
            script.event(Event::ColdAnswer(ColdAnswer { read, result }));
        }
        script.answer_cold_reads();
        script.answer_probes();
        script.sync();
        script.sync();
        let expected = usize::from(kept > before);
        assert_eq!(script.letters(letters).len(), expected, "after {kept} of {before} to {frames} frames");
        assert_eq!(script.forwarded(), expected);
        assert_eq!(script.failures().partitions.len(), 0);
    }
}

#[test]
fn a_letter_that_has_no_place_waits_and_its_record_comes_back_until_then() {
    let mut script = Script::with_group();
    let (topic, group) = ("orders".to_owned(), "billing".to_owned());
    let set = SetRedelivery { request: 7, topic, group, redelivery: redelivery(1, Some("dlq")) };
    script.group(GroupRequest::SetRedelivery(set));
    let refused: Failure = script.take(CONTROL, FrameKind::Failure);
    assert_eq!(refused.code, ErrorCode::DeadLetterMissing, "there is no such topic");
    script.create_topic("plain", None);
    script.redeliver(redelivery(1, Some("plain")));
    let refused: Failure = script.take(CONTROL, FrameKind::Failure);
    assert_eq!(
        refused.code,
        ErrorCode::DeadLetterMissing,
        "it would not recognise a letter that is sent again"
    );

    script.redeliver(redelivery(1, Some("orders")));
    let refused: Failure = script.take(CONTROL, FrameKind::Failure);
    assert_eq!(refused.code, ErrorCode::InvalidSetting, "it would be delivered again");

    let lease = script.member();
    let none = Some(ErrorCode::DeadLetterMissing);
    let kept = Ok(AfterFailure::Again { attempt: 2, wait_ms: 1000, refused: none });
    assert_eq!(script.failed(lease, (0, 1), Verdict::Reject), kept);
    let first = script.create_topic("dlq", Some(DEDUP_HORIZON_US_DEFAULT));
    script.redeliver(redelivery(1, Some("dlq")));
    script.event(Event::StorageFull(true));
    let kept = Ok(AfterFailure::Again { attempt: 3, wait_ms: 2000, refused: Some(ErrorCode::StorageFull) });
    assert_eq!(script.failed(lease, (0, 2), Verdict::Reject), kept);
    script.event(Event::StorageFull(false));

    // The topic goes after the letter was written: it waits for another of that name.
    script.say_failed(lease, (0, 3), Verdict::Reject);
    let delete = weir_protocol::message::DeleteTopic { request: 3, name: "dlq".to_owned() };
    script.event(Event::Request(lane(CONTROL), Request::Delete(delete)));
    script.sync();
    assert_eq!(script.answer_to_failure(), Ok(AfterFailure::DeadLetter));
    let waiting = script.failures().partitions;
    assert_eq!((waiting[0].letters, waiting[0].letters_refused), (1, none));
    script.event(Event::Member(lane(MEMBER), FromMember::Leave));
    let (topic, group) = ("orders".to_owned(), "billing".to_owned());
    script.group(GroupRequest::Delete(DeleteGroup { request: 6, topic, group }));
    let refused: Failure = script.take(CONTROL, FrameKind::Failure);
    assert_eq!(refused.code, ErrorCode::GroupInUse, "its letter would be lost");
    let second = script.create_topic("dlq", Some(DEDUP_HORIZON_US_DEFAULT));
    assert_eq!(script.letters(second), []);
    script.pass(RETRY_US);
    assert_eq!((script.letters(first).len(), script.letters(second).len()), (0, 1));
    script.sync();
    assert_eq!((script.forwarded(), script.failures().partitions.len()), (1, 0));
}

#[test]
fn what_retention_has_removed_is_said_in_a_letter_without_content() {
    let mut script = Script::with_group();
    let letters = script.create_topic("dlq", Some(DEDUP_HORIZON_US_DEFAULT));
    script.redeliver(redelivery(1, Some("dlq")));
    let lease = script.member();
    script.say_failed(lease, (0, 1), Verdict::Reject);
    script.flush(0, 3, 2);
    script.sync();
    assert_eq!(script.answer_to_failure(), Ok(AfterFailure::DeadLetter));
    let found = script.letters(letters);
    assert_eq!(found[0].value, None);
    assert!(found[0].headers.contains(&("weir-content-lost".to_owned(), "retention".to_owned())));
}

#[test]
fn what_is_remembered_of_failures_is_bounded() {
    // A group of two partitions, a member, and two records that have failed.
    let groups = 1024 + 2 * 256 + 512 + 2 * 256;
    let limits = NodeLimits { memory: Budget { groups, ..LIMITS.memory }, ..LIMITS };
    let mut script = Script::with_group_of(limits, 3);
    let lease = script.member();
    assert_eq!(script.failed(lease, (0, 1), Verdict::Retry), again(2, 1000));
    assert_eq!(script.failed(lease, (1, 1), Verdict::Retry), again(2, 1000));
    assert_eq!(script.taken(Pool::Groups), groups);
    assert_eq!(script.failed(lease, (2, 1), Verdict::Retry), Err(ErrorCode::Throttled));
    assert_eq!(script.failed(lease, (1, 2), Verdict::Retry), again(3, 2000), "that needs no more");
    script.ack(lease, 0, 1);
    script.sync();
    assert_eq!(script.taken(Pool::Groups), groups - 256);
    assert_eq!(script.failed(lease, (2, 1), Verdict::Retry), again(2, 1000));
}
