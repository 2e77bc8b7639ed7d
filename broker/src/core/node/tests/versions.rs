//! Expectations: what they are compared with, and how they are answered.

use std::sync::atomic::Ordering;

use weir_protocol::batch::{Expectation, TableRow};
use weir_protocol::message::RecordFate;
use weir_storage::dedup::{Entry, Fingerprint, KeyDigest, KeySeed, RecordPlace};

use super::keys::{Answer, KEYS_MAX, SEED};
use super::*;

mod model;

/// A record: its key, its idempotency key, and what it expects. Empty ones are none.
type Given<'a> = (&'a str, &'a str, Option<Expectation>);

const ABSENT: Option<Expectation> = Some(Expectation::KeyAbsent);

fn key_at(offset: u64) -> Option<Expectation> {
    Some(Expectation::KeyAt(Offset::new(offset)))
}

fn partition_at(offset: u64) -> Option<Expectation> {
    Some(Expectation::PartitionAt(Offset::new(offset)))
}

fn unmet(actual: u64) -> RecordFate {
    RecordFate::Unmet(Offset::new(actual))
}

fn hash(key: &str) -> [u8; 16] {
    let mut hash = [0; 16];
    hash[..key.len()].copy_from_slice(key.as_bytes());
    hash
}

/// A node with a topic that keeps versions.
fn versioned() -> Script {
    let mut script = Script::new(0);
    let settings = TopicSettings {
        partitions: 2,
        retention_age_us: None,
        retention_bytes: None,
        batch_bytes_max: 16 << 10,
        explicit_partitions: false,
        dedup_horizon_us: Some(DEDUP_HORIZON_US_DEFAULT),
        keyed_versions: true,
        dedup_keys_per_second: None,
        dedup_since: Timestamp::ZERO,
    };
    let create = CreateTopic { request: 2, name: "accounts".to_owned(), settings };
    script.event(Event::Request(lane(CONTROL), Request::Create(create)));
    script.sync();
    script.topic = script.take::<TopicInfo>(CONTROL, FrameKind::TopicInfo).id;
    script.event(Event::LaneClosed(lane(PUBLISH)));
    let open = PublishOpen { topic: script.topic, durability: Durability::Durable };
    script.event(Event::PublishOpened(lane(PUBLISH), open));
    script
}

impl Script {
    fn put(&mut self, producer: u64, sequence: u64, records: &[Given<'_>]) {
        let mut builder = BatchBuilder::new(16 << 10);
        for (key, id, expectation) in records {
            let row = TableRow {
                routing_hash: 1,
                idempotency_key: (!id.is_empty()).then_some(id.as_bytes()),
                expectation: *expectation,
                record_key: Some(hash(key)),
                ..TableRow::default()
            };
            builder.push(&RecordInput { row, ..RecordInput::default() }).unwrap();
        }
        let identity = BatchIdentity {
            producer: ProducerId::new(producer),
            producer_epoch: Epoch::ZERO,
            sequence: Sequence::new(sequence),
            partition: self.key(0),
        };
        self.arrive(producer, builder.finish(&identity, Compression::None));
    }

    fn synced(&mut self) -> Vec<Answer> {
        self.sync();
        self.answers()
    }

    fn version(&self, key: &str) -> KeyDigest {
        KeySeed::from_bytes(SEED).version(self.key(0), hash(key))
    }

    /// Where the last record of a key stands, as it is known of flushed ones.
    fn old_version(&self, key: &str, offset: u64) -> Entry {
        Entry {
            digest: self.version(key),
            fingerprint: Fingerprint(self.topic.to_bytes()),
            place: RecordPlace { partition: PartitionId::ZERO, offset: Offset::new(offset) },
            append_time: Timestamp::from_micros(5),
        }
    }
}

#[test]
fn a_partition_is_where_it_is_expected_or_the_record_alone_is_void() {
    let mut script = versioned();
    script.put(1, 0, &[("", "", partition_at(0)), ("", "", None)]);
    // What is in flight counts.
    script.put(2, 0, &[("", "", partition_at(0)), ("", "", None)]);
    script.put(3, 0, &[("", "", partition_at(0))]);
    script.put(3, 1, &[("", "", partition_at(4))]);
    assert_eq!(script.answers(), [], "nothing is durable");
    let expected = [
        (0, false, vec![]),
        (2, false, vec![(0, unmet(2))]),
        (4, false, vec![(0, unmet(4))]),
        (4, false, vec![]),
    ];
    assert_eq!(script.synced(), expected);
    assert_eq!(script.node.figures().unmet_expectations, 2);
    // Again, when other things are true.
    script.put(3, 0, &[("", "", partition_at(0))]);
    assert_eq!(script.answers(), [(4, true, vec![(0, unmet(4))])]);
}

#[test]
fn a_key_is_where_its_last_record_stands_in_the_step_of_the_append() {
    let mut script = versioned();
    script.put(1, 0, &[("a", "", ABSENT), ("a", "", ABSENT), ("a", "", key_at(0)), ("b", "", key_at(0))]);
    script.put(2, 0, &[("a", "", key_at(0)), ("a", "", key_at(2)), ("b", "", ABSENT)]);
    let first = vec![(1, unmet(0)), (3, RecordFate::UnmetAbsent)];
    assert_eq!(script.synced(), [(0, false, first), (4, false, vec![(0, unmet(2))])]);
    // Records without an expectation count, those of another partition do not.
    script.put(1, 1, &[("a", "", None), ("a", "", key_at(5))]);
    assert_eq!(script.synced(), [(7, false, vec![(1, unmet(7))])]);
}

#[test]
fn a_refusal_names_nothing_that_is_not_durable_yet() {
    let mut script = versioned();
    script.put(1, 0, &[("a", "", ABSENT)]);
    script.put(2, 0, &[("a", "", ABSENT)]);
    assert_eq!(script.answers(), []);
    let refused = |offset, duplicate, actual| (offset, duplicate, vec![(0, unmet(actual))]);
    assert_eq!(script.synced(), [(0, false, vec![]), refused(1, false, 0)]);
    script.put(1, 1, &[("b", "", None)]);
    assert_eq!(script.synced(), [(1, false, vec![])], "the place of the refusal is durable");
    script.put(1, 2, &[("a", "", key_at(0))]);
    // The refusal is repeated; the value is that of now, and waits for the record it names.
    script.put(2, 0, &[("a", "", ABSENT)]);
    assert_eq!(script.answers(), []);
    assert_eq!(script.synced(), [(2, false, vec![]), refused(1, true, 2)]);
}

#[test]
fn who_stored_a_record_before_is_told_so_whatever_it_expected() {
    let mut script = versioned();
    script.put(1, 0, &[("a", "create", ABSENT)]);
    script.put(2, 0, &[("a", "create", ABSENT), ("a", "other", ABSENT)]);
    script.put(3, 0, &[("a", "other", key_at(0))]);
    let answers = script.synced();
    assert!(
        matches!(answers[1].2.as_slice(), [(0, RecordFate::Duplicate(_)), (1, fate)] if *fate == unmet(0))
    );
    assert_eq!(answers[2], (1, false, vec![]), "a refused record leaves no idempotency key behind");
}

#[test]
fn a_batch_waits_for_versions_on_the_disk_only_if_it_expects_something_of_them() {
    let mut script = versioned();
    script.filter.maybe.store(true, Ordering::Relaxed);
    script.put(1, 0, &[("a", "", None)]);
    assert_eq!(script.synced(), [(0, false, vec![])], "whatever there was, this is the last");
    script.put(1, 1, &[("a", "", key_at(0)), ("b", "", key_at(70)), ("c", "", None), ("d", "", ABSENT)]);
    let expected = ["b", "d"].map(|key| script.version(key)).to_vec();
    assert_eq!(script.probe().digests, expected);
    script.found(vec![script.old_version("b", 70), script.old_version("d", 71)]);
    assert_eq!(script.synced(), [(1, false, vec![(3, unmet(71))])]);
    // Again: what has been found is gone, and looked for once more.
    script.put(1, 1, &[("a", "", key_at(0)), ("b", "", key_at(70)), ("c", "", None), ("d", "", ABSENT)]);
    assert_eq!(script.probe().digests, [script.version("d")]);
    script.found(vec![script.old_version("d", 71)]);
    assert_eq!(script.synced(), [(1, true, vec![(3, unmet(71))])]);
}

#[test]
fn a_topic_without_versions_says_so_and_one_with_them_wants_to_know_all_keys() {
    let mut script = versioned();
    let unnamed = batch(script.key(0), 0, b"v");
    script.arrive(1, unnamed);
    let rejected: PublishRejected = script.take(PUBLISH, FrameKind::PublishRejected);
    assert_eq!(rejected.code, ErrorCode::Unsupported);

    let mut script = Script::new(0);
    script.put(1, 0, &[("a", "", key_at(0)), ("a", "", ABSENT), ("a", "", None)]);
    let off = RecordFate::VersionsOff;
    assert_eq!(script.synced(), [(0, false, vec![(0, off), (1, off)])]);
    script.put(1, 1, &[("a", "", partition_at(3))]);
    assert_eq!(script.synced(), [(3, false, vec![])], "that needs no versions");
}

#[test]
fn keys_whose_versions_cannot_be_kept_are_refused_and_others_flow_on() {
    let mut script = versioned();
    let keys: Vec<String> = (0..KEYS_MAX - 1).map(|number| number.to_string()).collect();
    let records: Vec<Given<'_>> = keys.iter().map(|key| (key.as_str(), "", None)).collect();
    script.put(1, 0, &records);
    // There is room for one more: not for a record that needs two. The batch has more keys than a flush would make room for.
    let mut records = vec![("x", "id", None), ("x", "", None), ("", "", None)];
    records.resize(3 + usize::try_from(KEYS_MAX / 2).unwrap(), ("y", "", None));
    script.put(1, 1, &records);
    let end = KEYS_MAX - 1 + records.len() as u64;
    let mut full = vec![(0, RecordFate::Full)];
    full.extend((3..records.len()).map(|record| (u32::try_from(record).unwrap(), RecordFate::VersionsFull)));
    assert_eq!(script.synced()[1], (KEYS_MAX - 1, false, full));

    script.event(Event::Flushed(Flushed { partitions: Vec::new(), keys: KEYS_MAX }));
    script.filter.full_of_versions.store(true, Ordering::Relaxed);
    script.put(1, 2, &[("x", "", None), ("", "id", None)]);
    let full = vec![(0, RecordFate::VersionsFull)];
    assert_eq!(script.synced(), [(end, false, full.clone())]);
    script.put(1, 2, &[("x", "", None), ("", "id", None)]);
    assert_eq!(script.answers(), [(end, true, full)]);
}
