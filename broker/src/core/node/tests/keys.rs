//! Idempotency keys: every outcome, and what waits for what.

mod shown;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use weir_protocol::batch::TableRow;
use weir_protocol::message::{AckEntry, OriginalRecord, PublishExceptions, RecordFate};
use weir_storage::dedup::{Entry, Fingerprint, KeyDigest, KeySeed, RECENT_KEY_BYTES, Recent, RecordPlace};
use weir_storage::store::KeyFigures;

use super::*;
use crate::core::dedup::{Dedup, KeyAnswer, KeyProbe, OlderKeys};

/// Keys that fit memory.
pub(super) const KEYS_MAX: u64 = 20;

/// The lane of all producers but the first.
const OTHERS: u64 = PUBLISH + 100;

pub(super) const SEED: [u8; 16] = [7; 16];

/// A filter that says what it is told to say.
#[derive(Debug, Default)]
pub(super) struct FakeFilter {
    pub(super) maybe: AtomicBool,
    full: AtomicBool,
    pub(super) full_of_versions: AtomicBool,
}

#[derive(Debug)]
struct Shared(Arc<FakeFilter>);

impl OlderKeys for Shared {
    fn may_hold(&self, _digest: KeyDigest) -> bool {
        self.0.maybe.load(Ordering::Relaxed)
    }

    fn is_full(&self) -> bool {
        self.0.full.load(Ordering::Relaxed)
    }

    fn is_full_of_versions(&self) -> bool {
        self.0.full_of_versions.load(Ordering::Relaxed)
    }

    fn figures(&self) -> KeyFigures {
        KeyFigures { keys: 7, disk_bytes: 400, disk_bytes_max: 1000, ..KeyFigures::default() }
    }
}

pub(super) fn dedup() -> (Dedup, Arc<FakeFilter>) {
    let filter = Arc::new(FakeFilter::default());
    let recent = Recent::new(KEYS_MAX * RECENT_KEY_BYTES);
    let dedup = Dedup::new(KeySeed::from_bytes(SEED), recent, Box::new(Shared(Arc::clone(&filter))));
    (dedup, filter)
}

/// What an answer said: base offset, whether the batch was a repetition, and the fates of its void records.
pub(super) type Answer = (u64, bool, Vec<(u32, RecordFate)>);

impl Script {
    /// Sends records with key and value; an empty key is none.
    pub(super) fn send(&mut self, producer: u64, sequence: u64, records: &[(&str, &str)]) {
        let mut builder = BatchBuilder::new(16 << 10);
        for (key, value) in records {
            let mut fingerprint = [0; 16];
            fingerprint[..value.len()].copy_from_slice(value.as_bytes());
            let idempotency_key = (!key.is_empty()).then_some(key.as_bytes());
            let row = TableRow { routing_hash: 1, idempotency_key, fingerprint, ..TableRow::default() };
            let value = Some(value.as_bytes());
            builder.push(&RecordInput { value, row, ..RecordInput::default() }).unwrap();
        }
        let identity = BatchIdentity {
            producer: ProducerId::new(producer),
            producer_epoch: Epoch::ZERO,
            sequence: Sequence::new(sequence),
            partition: self.key(0),
        };
        self.arrive(producer, builder.finish(&identity, Compression::None));
    }

    /// A batch of a producer comes on its lane.
    pub(super) fn arrive(&mut self, producer: u64, batch: ProducerBatch) {
        let bytes = (Publish::OVERHEAD_BYTES + batch.length()) as u64;
        let publish = Publish { acked_below: Sequence::ZERO, batch };
        // The first producer has a lane of its own, so that nobody waits for its answers.
        let lane = lane(if producer == 1 { PUBLISH } else { OTHERS });
        if self.node.publishing.lane(lane).is_none() && producer != 1 {
            let open = PublishOpen { topic: self.topic, durability: Durability::Durable };
            self.event(Event::PublishOpened(lane, open));
        }
        self.arrives(lane, publish, bytes);
    }

    /// Sends records with keys that say when they were made, or not.
    fn send_at(&mut self, records: &[(&str, Option<Timestamp>)]) {
        let sequence =
            self.journaled.iter().filter(|write| matches!(write.frame, Frame::Append { .. })).count();
        let mut builder = BatchBuilder::new(16 << 10);
        for (key, key_time) in records {
            let idempotency_key = Some(key.as_bytes());
            let row =
                TableRow { routing_hash: 1, idempotency_key, key_time: *key_time, ..TableRow::default() };
            builder.push(&RecordInput { value: Some(b"v"), row, ..RecordInput::default() }).unwrap();
        }
        let identity = BatchIdentity {
            producer: ProducerId::new(1),
            producer_epoch: Epoch::ZERO,
            sequence: Sequence::new(sequence as u64),
            partition: self.key(0),
        };
        let batch = builder.finish(&identity, Compression::None);
        let bytes = (Publish::OVERHEAD_BYTES + batch.length()) as u64;
        self.arrives(lane(PUBLISH), Publish { acked_below: Sequence::ZERO, batch }, bytes);
    }

    /// Takes all answers, in order.
    pub(super) fn answers(&mut self) -> Vec<Answer> {
        let mut exceptions = Vec::new();
        let mut answers = Vec::new();
        for (_, frame) in self.sent.extract_if(.., |(at, _)| [lane(PUBLISH), lane(OTHERS)].contains(at)) {
            if frame.kind == FrameKind::PublishExceptions {
                let told = PublishExceptions::from_frame(&frame).unwrap();
                exceptions.extend(told.exceptions.iter().map(|told| (told.record, told.fate)));
                continue;
            }
            for AckEntry { base_offset, duplicate, .. } in PublishAck::from_frame(&frame).unwrap().entries {
                answers.push((base_offset.get(), duplicate, std::mem::take(&mut exceptions)));
            }
        }
        answers
    }

    pub(super) fn appended(&self) -> Vec<&StoredBatch> {
        let frames = self.journaled.iter().filter_map(|write| match &write.frame {
            Frame::Append { batch, .. } => Some(batch),
            Frame::Topic(_)
            | Frame::TopicDeleted(_)
            | Frame::Trim { .. }
            | Frame::Skipped(_)
            | Frame::Failed(_)
            | Frame::DeadLetters(_)
            | Frame::Forwarded(_)
            | Frame::Group(_)
            | Frame::GroupDeleted { .. }
            | Frame::Settled(_)
            | Frame::Claim(_) => None,
        });
        frames.collect()
    }

    fn digest(&self, key: &str) -> KeyDigest {
        KeySeed::from_bytes(SEED).digest(self.topic, 1, key.as_bytes())
    }

    pub(super) fn probe(&mut self) -> KeyProbe {
        assert_eq!(self.actions.key_probes.len(), 1);
        self.actions.key_probes.remove(0)
    }

    pub(super) fn found(&mut self, entries: Vec<Entry>) {
        let partition = self.key(0);
        self.event(Event::Keys(KeyAnswer { partition, found: Some(entries) }));
    }

    /// A record of long ago.
    fn old(&self, key: &str, value: &str, offset: u64) -> Entry {
        let mut fingerprint = [0; 16];
        fingerprint[..value.len()].copy_from_slice(value.as_bytes());
        Entry {
            digest: self.digest(key),
            fingerprint: Fingerprint(fingerprint),
            place: RecordPlace { partition: PartitionId::ZERO, offset: Offset::new(offset) },
            append_time: Timestamp::from_micros(5),
        }
    }

    /// The record at an offset, as answers name it.
    fn original(&self, offset: u64) -> OriginalRecord {
        let append_time = self.now.wall;
        OriginalRecord { partition: PartitionId::ZERO, offset: Offset::new(offset), append_time }
    }

    fn set_horizon(&mut self, dedup_horizon_us: Option<u64>) {
        let settings = TopicSettings {
            partitions: 2,
            retention_age_us: None,
            retention_bytes: None,
            batch_bytes_max: 16 << 10,
            explicit_partitions: false,
            dedup_horizon_us,
            keyed_versions: false,
            dedup_keys_per_second: None,
            dedup_since: Timestamp::ZERO,
        };
        let alter = AlterTopic { request: 9, name: "orders".to_owned(), settings };
        self.event(Event::Request(lane(CONTROL), Request::Alter(alter)));
        self.sync();
    }
}

#[test]
fn the_same_record_again_is_answered_with_its_original_and_not_stored() {
    let mut script = Script::new(0);
    script.send(1, 0, &[("pay-7", "a")]);
    script.sync();
    script.send(2, 0, &[("pay-7", "a")]);
    script.sync();
    let original = script.original(0);
    let first = (0, false, vec![]);
    assert_eq!(script.answers(), [first, (1, false, vec![(0, RecordFate::Duplicate(original))])]);
    assert_eq!(script.appended().len(), 1);
    // The sequence is used up all the same.
    script.send(2, 1, &[("", "b")]);
    script.sync();
    assert_eq!(script.answers(), [(1, false, vec![])]);
    assert_eq!(script.node.figures().held_bytes, 0);
}

#[test]
fn a_duplicate_of_what_is_in_flight_waits_for_it() {
    let mut script = Script::new(0);
    script.send(1, 0, &[("k", "a")]);
    script.send(2, 0, &[("k", "a")]);
    script.send(3, 0, &[("k", "a"), ("", "b")]);
    assert_eq!(script.answers(), [], "nothing is durable");
    script.sync();
    let duplicate = || vec![(0, RecordFate::Duplicate(script.original(0)))];
    let expected = [(0, false, vec![]), (1, false, duplicate()), (1, false, duplicate())];
    assert_eq!(script.answers(), expected);
}

#[test]
fn the_same_key_for_another_record_is_a_conflict_that_names_the_one_that_has_it() {
    let mut script = Script::new(0);
    script.send(1, 0, &[("", "x"), ("k", "a")]);
    script.send(2, 0, &[("k", "other")]);
    script.sync();
    let conflict = vec![(0, RecordFate::Conflict(script.original(1)))];
    assert_eq!(script.answers()[1], (2, false, conflict));
    assert_eq!(script.appended().len(), 1);
}

#[test]
fn a_batch_that_is_refused_leaves_no_key_behind() {
    let mut script = Script::new(0);
    script.send(1, 5, &[("k", "a")]);
    let rejected: PublishRejected = script.take(PUBLISH, FrameKind::PublishRejected);
    assert_eq!(rejected.code, ErrorCode::ProducerUnknown);
    script.send(1, 0, &[("k", "b")]);
    script.sync();
    assert_eq!(script.answers(), [(0, false, vec![])]);
}

#[test]
fn one_duplicate_in_a_batch_is_void_there_alone() {
    let mut script = Script::new(1 << 20);
    script.send(1, 0, &[("a", "1")]);
    script.send(1, 1, &[("", "x"), ("a", "1"), ("b", "2"), ("a", "other"), ("b", "2")]);
    script.subscribe(0, 0, StartAt::Earliest);
    script.sync();
    let (a, b) = (script.original(0), script.original(3));
    let exceptions =
        vec![(1, RecordFate::Duplicate(a)), (3, RecordFate::Conflict(a)), (4, RecordFate::Duplicate(b))];
    assert_eq!(script.answers(), [(0, false, vec![]), (1, false, exceptions)]);
    let deliver: Deliver = script.take(SUBSCRIBE, FrameKind::Deliver);
    let stored: Vec<StoredBatch> = deliver.iter().map(Result::unwrap).collect();
    let void: Vec<u32> = (0..5).filter(|record| stored[1].section.voids.contains(*record)).collect();
    assert_eq!(void, [1, 3, 4]);
    assert_eq!(stored[1].end_offset(), Offset::new(6), "void records keep their offsets");
}

#[test]
fn a_batch_sent_again_is_answered_as_it_was() {
    let mut script = Script::new(0);
    script.send(1, 0, &[("a", "1")]);
    let mixed = [("a", "1"), ("b", "2"), ("b", "2")];
    script.send(2, 0, &mixed);
    script.send(2, 1, &[("a", "other")]);
    script.send(2, 2, &[("c", "3")]);
    script.sync();
    let first = script.answers();
    script.send(2, 0, &mixed);
    script.send(2, 1, &[("a", "other")]);
    let again = script.answers();
    assert_eq!(again.len(), 2, "all is durable: nobody has to wait");
    for (again, first) in again.iter().zip(&first[1..]) {
        assert_eq!((again.0, again.1, &again.2), (first.0, true, &first.2));
    }
    assert_eq!(script.appended().len(), 3);
}

#[test]
fn a_key_that_says_it_is_too_old_has_expired_unless_it_is_remembered() {
    let day = 86_400_000_000;
    let made_at = Timestamp::from_micros(1_645_557_742_000_000);
    let key = "017F22E2-79B0-7CC3-98C4-DC0C0C07398F";
    let mut script = Script::new(0);
    script.now.wall = made_at.saturating_add_micros(day);
    script.send(1, 0, &[(key, "a"), ("017F22E2-79B0-4CC3-98C4-DC0C0C07398F", "b"), ("", "c")]);
    script.sync();
    assert_eq!(script.answers(), [(0, false, vec![(0, RecordFate::Expired)])]);

    let mut script = Script::new(0);
    script.now.wall = made_at;
    script.set_horizon(Some(u64::try_from(2 * day).unwrap()));
    script.now.wall = made_at.saturating_add_micros(day);
    script.now.monotonic_us += u64::try_from(day).unwrap();
    script.send(1, 0, &[(key, "a")]);
    script.set_horizon(Some(1));
    script.send(1, 1, &[(key, "a")]);
    script.sync();
    let duplicate = RecordFate::Duplicate(script.original(0));
    assert_eq!(script.answers(), [(0, false, vec![]), (1, false, vec![(0, duplicate)])]);
}

#[test]
fn a_key_that_was_made_before_the_horizon_has_expired_also_under_one_that_is_longer_by_now() {
    let mut script = Script::new(0);
    let second = 1_000_000;
    script.now.wall = Timestamp::from_micros(1_000_000 * second);
    script.now.monotonic_us = 1_000_000_000_000;
    script.set_horizon(Some(100_000_000));
    let now = script.now.wall;
    let made = |seconds: i64| Some(now.saturating_add_micros(-seconds * second));
    script.send_at(&[("new", made(99)), ("old", made(100)), ("says nothing", None)]);
    script.sync();
    assert_eq!(script.answers(), [(0, false, vec![(1, RecordFate::Expired)])]);
    // It was forgotten already, perhaps, when the horizon was made longer.
    script.set_horizon(Some(1_000_000_000));
    script.send_at(&[("older", made(101)), ("within", made(99)), ("new", made(300))]);
    script.sync();
    let fates = vec![(0, RecordFate::Expired), (2, RecordFate::Duplicate(script.original(0)))];
    assert_eq!(script.answers(), [(3, false, fates)]);
}

#[test]
fn keyed_records_that_cannot_be_remembered_are_refused_and_others_flow_on() {
    let mut script = Script::new(0);
    let keys: Vec<String> = (0..KEYS_MAX).map(|number| number.to_string()).collect();
    let records: Vec<(&str, &str)> = keys.iter().map(|key| (key.as_str(), "v")).collect();
    script.send(1, 0, &records);
    // Few keys wait for the next flush, and those behind them.
    script.send(1, 1, &[("one more", "v"), ("", "unkeyed"), ("19", "v")]);
    script.send(2, 0, &[("", "unkeyed")]);
    script.sync();
    assert_eq!(script.answers().len(), 1);
    let flush = |script: &mut Script, end, keys| {
        let (key, flushed_end) = (script.key(0), Offset::new(end));
        let flushed = FlushedPartition { key, flushed_end, log_start: Offset::ZERO, bytes: 1 };
        script.event(Event::Flushed(Flushed { partitions: vec![flushed], keys }));
        script.sync();
    };
    flush(&mut script, 10, 10);
    let duplicate = vec![(2, RecordFate::Duplicate(script.original(19)))];
    assert_eq!(script.answers(), [(KEYS_MAX, false, duplicate), (KEYS_MAX + 3, false, vec![])]);

    // Of more than a flush makes room for in any case, as many are taken as there is room for.
    let more: Vec<String> = (100..111).map(|number| number.to_string()).collect();
    let records: Vec<(&str, &str)> = more.iter().map(|key| (key.as_str(), "v")).collect();
    script.send(1, 2, &records);
    script.sync();
    let full = vec![(9, RecordFate::Full), (10, RecordFate::Full)];
    assert_eq!(script.answers(), [(KEYS_MAX + 4, false, full)]);

    let end = KEYS_MAX + 15;
    flush(&mut script, end, KEYS_MAX + 10);
    script.filter.full.store(true, Ordering::Relaxed);
    script.send(1, 3, &[("another", "v"), ("", "unkeyed")]);
    script.sync();
    assert_eq!(script.answers(), [(end, false, vec![(0, RecordFate::Full)])]);
    // Also when the same batch comes again: nothing else is known of that key.
    script.send(1, 3, &[("another", "v"), ("", "unkeyed")]);
    assert_eq!(script.answers(), [(end, true, vec![(0, RecordFate::Full)])]);
}

#[test]
fn a_topic_that_remembers_no_keys_says_so() {
    let mut script = Script::new(0);
    script.set_horizon(None);
    script.send(1, 0, &[("k", "a"), ("", "b")]);
    script.sync();
    assert_eq!(script.answers(), [(0, false, vec![(0, RecordFate::Off)])]);
}

#[test]
fn a_batch_waits_for_older_keys_and_those_behind_it_wait_for_it() {
    let mut script = Script::new(0);
    script.filter.maybe.store(true, Ordering::Relaxed);
    script.send(1, 0, &[("old", "a"), ("new", "b"), ("clash", "c")]);
    script.send(2, 0, &[("", "unkeyed")]);
    script.send(1, 1, &[("new", "b")]);
    assert!(script.journaled.len() == 1, "the topic is all that was journaled");
    assert!(!script.node.is_quiet());
    let expected = ["old", "new", "clash"].map(|key| script.digest(key)).to_vec();
    assert_eq!(script.probe(), KeyProbe { partition: script.key(0), digests: expected });

    script.found(vec![script.old("old", "a", 70), script.old("clash", "other", 71)]);
    // The last batch's key is in memory by now: nothing has to be looked for.
    assert!(script.actions.key_probes.is_empty());
    script.sync();
    let long_ago =
        |offset| OriginalRecord { append_time: Timestamp::from_micros(5), ..script.original(offset) };
    let exceptions = vec![(0, RecordFate::Duplicate(long_ago(70))), (2, RecordFate::Conflict(long_ago(71)))];
    let last = vec![(0, RecordFate::Duplicate(script.original(1)))];
    // Lane by lane: one lane's answers wait for nothing of another's.
    assert_eq!(script.answers(), [(0, false, exceptions), (4, false, last), (3, false, vec![])]);
    assert_eq!(script.node.figures().held_bytes, 0);
}

#[test]
fn what_was_found_does_not_count_once_more_keys_have_become_old() {
    let mut script = Script::new(0);
    script.filter.maybe.store(true, Ordering::Relaxed);
    script.send(1, 0, &[("k", "a")]);
    script.probe();
    script.event(Event::Flushed(Flushed { partitions: Vec::new(), keys: 0 }));
    script.found(Vec::new());
    assert!(script.actions.key_probes.is_empty(), "no key has left memory");
    script.send(1, 1, &[("l", "a")]);
    script.probe();
    script.sync();
    let key = script.key(0);
    let flushed = FlushedPartition { key, flushed_end: Offset::new(1), log_start: Offset::ZERO, bytes: 1 };
    script.event(Event::Flushed(Flushed { partitions: vec![flushed], keys: 1 }));
    script.found(Vec::new());
    script.probe();
    script.found(Vec::new());
    script.sync();
    assert_eq!(script.appended().len(), 2);
}

#[test]
fn keys_that_cannot_be_read_refuse_the_batch_for_now() {
    let mut script = Script::new(0);
    script.filter.maybe.store(true, Ordering::Relaxed);
    script.send(1, 0, &[("k", "a")]);
    let partition = script.probe().partition;
    script.event(Event::Keys(KeyAnswer { partition, found: None }));
    let rejected: PublishRejected = script.take(PUBLISH, FrameKind::PublishRejected);
    assert_eq!(rejected.code, ErrorCode::Internal);
    script.send(1, 0, &[("k", "a")]);
    script.probe();
    // Whoever has gone by the time the answer comes is owed nothing, and its memory is free again.
    script.event(Event::LaneClosed(lane(PUBLISH)));
    script.found(Vec::new());
    assert_eq!((script.node.figures().held_bytes, script.appended().len()), (0, 0));
}
