//! Scripts of events against the actions they must cause.

mod claims;
mod cold;
mod control;
mod groups;
mod keys;
mod records;
mod versions;
mod waits;

use std::sync::Arc;

use bytes::Bytes;
use weir_protocol::ErrorCode;
use weir_protocol::batch::{
    BatchBuilder, BatchIdentity, Compression, ProducerBatch, RecordInput, StoredBatch,
};
use weir_protocol::frame::{FrameKind, RawFrame, take_frame};
use weir_protocol::limits::{DEDUP_HORIZON_US_DEFAULT, FRAME_BYTES_MAX};
use weir_protocol::message::{
    AlterTopic, CreateTopic, Deliver, Done, Gap, GapReason, PartitionEnded, PartitionStarted,
    PartitionTrimmed, Publish, PublishAck, PublishOpen, PublishRejected, StartAt, SubscribePartition,
    TopicInfo, TopicSettings, TrimBefore, TrimPartition,
};
use weir_protocol::units::{Durability, Offset, Sequence, Timestamp};

mod bounds;

use super::*;
use keys::{FakeFilter, dedup};

use crate::core::event::{Flushed, FlushedPartition};
use crate::core::ingest::admit;
use crate::core::{ColdAnswer, ColdResult, ConnectionId, StreamId, ToWrite};

const LIMITS: NodeLimits = NodeLimits {
    memory: Budget {
        ingest: 512 << 10,
        unflushed: 1 << 20,
        hot_cache: 0,
        delivery: 1 << 20,
        connections: 1 << 20,
        dedup: 1 << 20,
        groups: 1 << 20,
        control: 1 << 20,
    },
    ingest: IngestLimits { window_bytes_min: 64 << 10, window_bytes_max: 128 << 10, turn_bytes: 64 << 10 },
    topics: TopicLimits {
        topics_max: 10,
        partitions_max: 100,
        batch_bytes_max: 32 << 10,
        key_disk_bytes: 1 << 40,
    },
    delivery: DeliveryLimits {
        frame_bytes: 8 << 10,
        cold_bytes: 8 << 10,
        outbox_bytes: 64 << 10,
        cursors_per_lane_max: 10,
    },
};

/// A node, and the eyes and hands around it.
struct Script {
    node: Node,
    filter: Arc<FakeFilter>,
    actions: Actions,
    now: Now,
    topic: TopicId,
    journaled: Vec<ToWrite>,
    sent: Vec<(LaneId, RawFrame)>,
    /// The latest limit of any publish lane.
    granted: u64,
}

fn lane(stream: u64) -> LaneId {
    LaneId { connection: ConnectionId(1), stream: StreamId(stream) }
}

const CONTROL: u64 = 0;
const PUBLISH: u64 = 4;
const SUBSCRIBE: u64 = 8;
/// Another publish lane, of a producer that is content once the system has its records.
const WRITTEN: u64 = 12;

impl Script {
    /// A node with one topic of two partitions, an open publish lane and an open subscription lane.
    fn new(credit: u64) -> Self {
        Self::with(LIMITS, credit)
    }

    fn with(limits: NodeLimits, credit: u64) -> Self {
        let (dedup, filter) = dedup();
        let node = Node::recovered(limits, &NodeState::default(), |_| 0, dedup, (Incarnation::new(3), 1));
        let mut script = Self {
            node,
            filter,
            actions: Actions::default(),
            now: Now { monotonic_us: 0, wall: Timestamp::from_micros(1_000_000) },
            topic: TopicId::default(),
            journaled: Vec::new(),
            sent: Vec::new(),
            granted: 0,
        };
        let settings = TopicSettings {
            partitions: 2,
            retention_age_us: None,
            retention_bytes: None,
            batch_bytes_max: 16 << 10,
            explicit_partitions: false,
            dedup_horizon_us: Some(DEDUP_HORIZON_US_DEFAULT),
            keyed_versions: false,
            dedup_keys_per_second: None,
            dedup_since: Timestamp::ZERO,
        };
        let create = CreateTopic { request: 1, name: "orders".to_owned(), settings };
        script.event(Event::Request(lane(CONTROL), Request::Create(create)));
        script.sync();
        let info: TopicInfo = script.take(CONTROL, FrameKind::TopicInfo);
        script.topic = info.id;
        let durability = Durability::Durable;
        script.event(Event::PublishOpened(lane(PUBLISH), PublishOpen { topic: info.id, durability }));
        let open = SubscribeOpen { topic: info.id, limit_bytes: credit };
        script.event(Event::SubscribeOpened(lane(SUBSCRIBE), open));
        script
    }

    fn event(&mut self, event: Event) {
        self.node.handle(self.now, event, &mut self.actions);
        self.node.settle(&mut self.actions);
        self.journaled.append(&mut self.actions.journal);
        for outgoing in std::mem::take(&mut self.actions.outgoing) {
            match outgoing {
                Outgoing::Frames(lane, pieces) | Outgoing::Delivery(lane, pieces) => {
                    let mut bytes = Bytes::from(pieces.concat());
                    while let Some(frame) = take_frame(&mut bytes, FRAME_BYTES_MAX).unwrap() {
                        self.sent.push((lane, frame));
                    }
                    assert!(bytes.is_empty(), "only whole frames are sent");
                }
                Outgoing::Grant(_, limit) => self.granted = limit,
                Outgoing::Finish(_) | Outgoing::Close(..) => {}
            }
        }
    }

    /// Everything journaled so far becomes durable.
    fn sync(&mut self) {
        self.event(Event::Durable(self.actions.last_ticket()));
    }

    fn publish(&mut self, partition: u32, sequence: u64, value: &[u8]) {
        self.publish_on(PUBLISH, partition, sequence, value);
    }

    fn publish_on(&mut self, stream: u64, partition: u32, sequence: u64, value: &[u8]) {
        let batch = batch(self.key(partition), sequence, value);
        let bytes = (Publish::OVERHEAD_BYTES + batch.length()) as u64;
        let publish = Publish { acked_below: Sequence::ZERO, batch };
        self.arrives(lane(stream), publish, bytes);
    }

    /// A batch arrives as it does at a session: its memory is taken first.
    fn arrives(&mut self, lane: LaneId, publish: Publish, bytes: u64) {
        let memory = admit(self.node.ledger(), bytes).expect("there is memory for a batch");
        let _taken = memory.hand_over();
        self.event(Event::Publish(lane, Box::new(publish), bytes));
    }

    fn subscribe(&mut self, partition: u32, generation: u32, start: StartAt) {
        let partition = PartitionId::new(partition);
        let subscribe = SubscribePartition { partition, generation, start };
        self.event(Event::SubscribePartition(lane(SUBSCRIBE), subscribe));
    }

    fn flush(&mut self, partition: u32, end: u64, log_start: u64) {
        let flushed = FlushedPartition {
            key: self.key(partition),
            flushed_end: Offset::new(end),
            log_start: Offset::new(log_start),
            bytes: 77,
        };
        self.event(Event::Flushed(Flushed { partitions: vec![flushed], keys: 0 }));
    }

    fn trim(&mut self, request: u32, before: TrimBefore, dry_run: bool) {
        let (name, partition) = ("orders".to_owned(), PartitionId::ZERO);
        let trim = TrimPartition { request, name, partition, before, dry_run };
        self.event(Event::Request(lane(CONTROL), Request::Trim(trim)));
    }

    /// Takes the answer to a trim: its request, and the start before, the start now and the end.
    fn trimmed(&mut self) -> (u32, [u64; 3]) {
        let trimmed: PartitionTrimmed = self.take(CONTROL, FrameKind::PartitionTrimmed);
        let offsets = [trimmed.old_start_offset, trimmed.start_offset, trimmed.end_offset];
        (trimmed.request, offsets.map(Offset::get))
    }

    const fn key(&self, partition: u32) -> PartitionKey {
        PartitionKey { topic: self.topic, partition: PartitionId::new(partition) }
    }

    /// Takes the first frame of a kind that was sent on a stream.
    fn take<M: Message>(&mut self, stream: u64, kind: FrameKind) -> M {
        let found = self.sent.iter().position(|(at, frame)| *at == lane(stream) && frame.kind == kind);
        let found = found.unwrap_or_else(|| panic!("no {kind:?} was sent: {:?}", self.kinds()));
        M::from_frame(&self.sent.remove(found).1).unwrap()
    }

    fn kinds(&self) -> Vec<FrameKind> {
        self.sent.iter().map(|(_, frame)| frame.kind).collect()
    }
}

fn batch(partition: PartitionKey, sequence: u64, value: &[u8]) -> ProducerBatch {
    let mut builder = BatchBuilder::new(1 << 20);
    builder.push(&RecordInput { value: Some(value), ..RecordInput::default() }).unwrap();
    let identity = BatchIdentity {
        producer: ProducerId::new(9),
        producer_epoch: Epoch::ZERO,
        sequence: Sequence::new(sequence),
        partition,
    };
    builder.finish(&identity, Compression::None)
}

#[test]
fn a_batch_is_answered_and_visible_only_once_it_is_durable() {
    let mut script = Script::new(1 << 20);
    script.subscribe(1, 0, StartAt::Earliest);
    script.publish(1, 0, b"one");
    assert!(!script.kinds().contains(&FrameKind::PublishAck));
    assert!(!script.kinds().contains(&FrameKind::Deliver));

    script.sync();
    let ack: PublishAck = script.take(PUBLISH, FrameKind::PublishAck);
    assert_eq!(ack.entries.len(), 1);
    assert_eq!((ack.entries[0].base_offset, ack.entries[0].duplicate), (Offset::ZERO, false));
    let deliver: Deliver = script.take(SUBSCRIBE, FrameKind::Deliver);
    let batches: Vec<StoredBatch> = deliver.iter().map(Result::unwrap).collect();
    assert_eq!(batches.len(), 1);
    assert_eq!(batches[0].producer.bytes(), batch(script.key(1), 0, b"one").bytes());
}

#[test]
fn a_reader_that_comes_between_write_and_sync_sees_nothing_yet() {
    let mut script = Script::new(1 << 20);
    script.publish(1, 0, b"one");
    script.subscribe(1, 0, StartAt::Earliest);
    assert!(!script.kinds().contains(&FrameKind::Deliver));

    script.sync();
    let deliver: Deliver = script.take(SUBSCRIBE, FrameKind::Deliver);
    assert_eq!(deliver.iter().count(), 1);
}

#[test]
fn a_written_receipt_says_so_and_readers_still_wait_for_the_sync() {
    let mut script = Script::new(1 << 20);
    let written = PublishOpen { topic: script.topic, durability: Durability::Written };
    script.event(Event::PublishOpened(lane(WRITTEN), written));
    script.subscribe(0, 0, StartAt::Earliest);
    script.publish_on(WRITTEN, 0, 0, b"one");
    script.publish(0, 1, b"two");
    assert!(script.journaled.iter().any(|write| write.early), "the journal is to tell of the write");
    assert!(!script.kinds().contains(&FrameKind::PublishAck), "nothing is written yet");

    script.event(Event::Written(script.actions.last_ticket()));
    let ack: PublishAck = script.take(WRITTEN, FrameKind::PublishAck);
    let levels = |ack: &PublishAck| ack.entries.iter().map(|entry| entry.durability).collect::<Vec<_>>();
    assert_eq!(levels(&ack), [Durability::Written]);
    assert!(!script.kinds().contains(&FrameKind::PublishAck), "the other producer asked for more");
    assert!(!script.kinds().contains(&FrameKind::Deliver), "a power cut could take it back");

    script.sync();
    let ack: PublishAck = script.take(PUBLISH, FrameKind::PublishAck);
    assert_eq!(levels(&ack), [Durability::Durable]);
    assert!(!script.kinds().contains(&FrameKind::PublishAck), "each batch is answered once");
    let deliver: Deliver = script.take(SUBSCRIBE, FrameKind::Deliver);
    assert_eq!(deliver.iter().count(), 2);
}

#[test]
fn duplicate_sequence_answers_the_first_offset_and_only_once_that_is_durable() {
    let mut script = Script::new(1 << 20);
    script.publish(0, 0, b"one");
    script.publish(0, 0, b"one");
    // After a reconnect the retry comes on a lane that is owed nothing else.
    let second = lane(PUBLISH + 100);
    let open = PublishOpen { topic: script.topic, durability: Durability::Durable };
    script.event(Event::PublishOpened(second, open));
    let batch = batch(script.key(0), 0, b"one");
    let bytes = (Publish::OVERHEAD_BYTES + batch.length()) as u64;
    let retry = Publish { acked_below: Sequence::ZERO, batch };
    script.arrives(second, retry, bytes);
    assert!(!script.kinds().contains(&FrameKind::PublishAck), "the original is not durable");
    script.sync();
    let ack: PublishAck = script.take(PUBLISH, FrameKind::PublishAck);
    assert_eq!(ack.entries.iter().map(|entry| entry.duplicate).collect::<Vec<_>>(), [false, true]);
    assert!(ack.entries.iter().all(|entry| entry.base_offset == Offset::ZERO));

    script.publish(0, 0, b"one");
    let late: PublishAck = script.take(PUBLISH, FrameKind::PublishAck);
    assert!(late.entries[0].duplicate);
    let appended = script.journaled.iter().filter(|write| matches!(write.frame, Frame::Append { .. }));
    assert_eq!(appended.count(), 1);
}

#[test]
fn a_gap_in_sequences_is_refused_and_changes_nothing() {
    let mut script = Script::new(1 << 20);
    script.publish(0, 0, b"one");
    script.publish(0, 2, b"three");
    script.sync();
    let ack: PublishAck = script.take(PUBLISH, FrameKind::PublishAck);
    assert_eq!(ack.entries[0].base_offset, Offset::ZERO);
    let rejected: PublishRejected = script.take(PUBLISH, FrameKind::PublishRejected);
    assert_eq!((rejected.code, rejected.sequence), (ErrorCode::SequenceGap, Sequence::new(2)));
    script.publish(0, 1, b"two");
    script.sync();
    let ack: PublishAck = script.take(PUBLISH, FrameKind::PublishAck);
    assert_eq!(ack.entries[0].base_offset, Offset::new(1));
    assert_eq!(script.node.figures().held_bytes, 0);
}

#[test]
fn nothing_is_sent_beyond_credit_and_delivery_goes_on_with_more() {
    let mut script = Script::new(0);
    for sequence in 0..3 {
        script.publish(0, sequence, &[7; 5000]);
    }
    script.sync();
    script.subscribe(0, 0, StartAt::Earliest);
    assert!(!script.kinds().contains(&FrameKind::Deliver));

    script.event(Event::Granted(lane(SUBSCRIBE), 6000));
    let first: Deliver = script.take(SUBSCRIBE, FrameKind::Deliver);
    assert_eq!(first.iter().count(), 1);
    assert!(!script.kinds().contains(&FrameKind::Deliver));
    script.event(Event::Granted(lane(SUBSCRIBE), 100_000));
    let second: Deliver = script.take(SUBSCRIBE, FrameKind::Deliver);
    let third: Deliver = script.take(SUBSCRIBE, FrameKind::Deliver);
    let offsets: Vec<u64> =
        second.iter().chain(third.iter()).map(|batch| batch.unwrap().base_offset().get()).collect();
    assert_eq!(offsets, [1, 2]);
}

#[test]
fn flushed_batches_leave_memory_and_are_read_from_segments() {
    let mut script = Script::new(1 << 20);
    script.publish(0, 0, b"one");
    script.publish(0, 1, b"two");
    script.sync();
    let unflushed = script.node.figures().unflushed_bytes;
    assert!(unflushed > 0);
    script.flush(0, 1, 0);
    assert_eq!(script.node.figures().unflushed_bytes, unflushed / 2);
    script.flush(0, 2, 0);
    assert_eq!((script.node.figures().unflushed_bytes, script.node.ledger().taken(Pool::HotCache)), (0, 0));

    script.subscribe(0, 5, StartAt::Offset(Offset::new(1)));
    let started: PartitionStarted = script.take(SUBSCRIBE, FrameKind::PartitionStarted);
    assert_eq!((started.position.get(), started.high_watermark.get()), (1, 2));
    let read = script.actions.cold_reads.pop().expect("the data is cold");
    let bytes = Bytes::from_static(b"as they are");
    let result = ColdResult::Batches { bytes: bytes.clone(), end: Offset::new(2) };
    script.event(Event::ColdAnswer(ColdAnswer { read, result }));
    let deliver: Deliver = script.take(SUBSCRIBE, FrameKind::Deliver);
    assert_eq!((deliver.batches, deliver.generation), (bytes, 5));
    assert!(script.actions.cold_reads.is_empty(), "the reader has caught up");
}

#[test]
fn an_answer_to_an_earlier_start_is_ignored() {
    let mut script = Script::new(1 << 20);
    script.publish(0, 0, b"one");
    script.sync();
    script.flush(0, 1, 0);
    script.subscribe(0, 1, StartAt::Earliest);
    let read = script.actions.cold_reads.pop().expect("the data is cold");
    script.subscribe(0, 2, StartAt::Latest);
    let result = ColdResult::Batches { bytes: Bytes::from_static(b"old"), end: Offset::new(1) };
    script.event(Event::ColdAnswer(ColdAnswer { read, result }));
    assert!(!script.kinds().contains(&FrameKind::Deliver));
}

#[test]
fn a_position_outside_names_both_bounds_and_a_reader_overtaken_by_retention_is_told() {
    let mut script = Script::new(1 << 20);
    script.publish(0, 0, b"one");
    script.publish(0, 1, b"two");
    script.sync();
    script.subscribe(0, 0, StartAt::Offset(Offset::new(3)));
    let ended: PartitionEnded = script.take(SUBSCRIBE, FrameKind::PartitionEnded);
    assert_eq!(ended.code, ErrorCode::OffsetOutOfRange);
    assert_eq!((ended.log_start.get(), ended.high_watermark.get()), (0, 2));

    script.flush(0, 2, 0);
    script.subscribe(0, 1, StartAt::Earliest);
    let read = script.actions.cold_reads.pop().expect("the data is cold");
    script.flush(0, 2, 1);
    let result = ColdResult::Trimmed { log_start: Offset::new(1) };
    script.event(Event::ColdAnswer(ColdAnswer { read, result }));
    let gap: Gap = script.take(SUBSCRIBE, FrameKind::Gap);
    assert_eq!((gap.from.get(), gap.to.get(), gap.reason), (0, 1, GapReason::Retention));
    assert_eq!(script.actions.cold_reads.len(), 1, "reading goes on behind the gap");
}

#[test]
fn a_deleted_topic_ends_its_readers_and_gives_back_its_memory() {
    let mut script = Script::new(1 << 20);
    script.subscribe(0, 0, StartAt::Earliest);
    script.publish(0, 0, b"one");
    script.sync();
    script.publish(1, 0, b"on its way");
    let delete = weir_protocol::message::DeleteTopic { request: 4, name: "orders".to_owned() };
    script.event(Event::Request(lane(CONTROL), Request::Delete(delete)));
    script.publish(1, 1, b"too late");
    script.sync();
    let rejected: PublishRejected = script.take(PUBLISH, FrameKind::PublishRejected);
    assert_eq!(rejected.code, ErrorCode::TopicDeleted);
    let _: Done = script.take(CONTROL, FrameKind::Done);
    let ended: PartitionEnded = script.take(SUBSCRIBE, FrameKind::PartitionEnded);
    assert_eq!(ended.code, ErrorCode::TopicDeleted);
    let figures = script.node.figures();
    let batches = &figures.taken_bytes[..3];
    assert_eq!((figures.unflushed_bytes, figures.held_bytes, batches), (0, 0, &[0; 3][..]));
}

#[test]
fn when_all_lanes_have_gone_every_pool_is_back_at_its_start() {
    let mut script = Script::new(1 << 20);
    script.subscribe(0, 0, StartAt::Earliest);
    for sequence in 0..5 {
        script.publish(0, sequence, &[1; 1000]);
    }
    script.event(Event::LaneClosed(lane(PUBLISH)));
    script.event(Event::LaneClosed(lane(SUBSCRIBE)));
    script.sync();
    script.flush(0, 5, 0);
    let figures = script.node.figures();
    assert_eq!((figures.granted_bytes, figures.held_bytes, figures.unflushed_bytes), (0, 0, 0));
    assert_eq!(
        (figures.taken_bytes, figures.subscription_lanes, figures.waiting_lanes),
        ([0; Pool::ALL.len()], 0, 0)
    );
}

#[test]
fn a_reader_from_a_time_starts_in_memory_or_asks_segments() {
    let mut script = Script::new(1 << 20);
    script.publish(0, 0, b"one");
    script.now.wall = Timestamp::from_micros(2_000_000);
    script.publish(0, 1, b"two");
    script.sync();
    script.subscribe(0, 0, StartAt::Time(Timestamp::from_micros(1_500_000)));
    let started: PartitionStarted = script.take(SUBSCRIBE, FrameKind::PartitionStarted);
    assert_eq!(started.position, Offset::new(1));

    script.flush(0, 2, 0);
    script.subscribe(0, 1, StartAt::Time(Timestamp::from_micros(1_500_000)));
    let read = script.actions.cold_reads.pop().expect("the data is cold");
    let result = ColdResult::Offset(Some(Offset::new(1)));
    script.event(Event::ColdAnswer(ColdAnswer { read, result }));
    let started: PartitionStarted = script.take(SUBSCRIBE, FrameKind::PartitionStarted);
    assert_eq!((started.position, started.generation), (Offset::new(1), 1));
}

#[test]
fn a_trim_is_answered_and_seen_by_readers_only_once_it_is_durable() {
    let mut script = Script::new(1 << 20);
    for sequence in 0..4 {
        script.publish(0, sequence, b"value");
    }
    script.sync();
    script.trim(7, TrimBefore::Offset(Offset::new(3)), true);
    assert_eq!(script.trimmed(), (7, [0, 3, 4]), "a dry run answers at once");
    script.trim(8, TrimBefore::Offset(Offset::new(3)), false);
    assert!(!script.kinds().contains(&FrameKind::PartitionTrimmed));
    script.subscribe(0, 0, StartAt::Offset(Offset::ZERO));
    let started: PartitionStarted = script.take(SUBSCRIBE, FrameKind::PartitionStarted);
    assert_eq!(started.log_start, Offset::ZERO);

    script.sync();
    assert_eq!(script.trimmed(), (8, [0, 3, 4]));
    script.subscribe(0, 1, StartAt::Offset(Offset::new(2)));
    let ended: PartitionEnded = script.take(SUBSCRIBE, FrameKind::PartitionEnded);
    assert_eq!(ended.code, ErrorCode::OffsetOutOfRange);
    assert_eq!((ended.log_start.get(), ended.high_watermark.get()), (3, 4));
    for before in [1, 3] {
        script.trim(9, TrimBefore::Offset(Offset::new(before)), false);
        assert_eq!(script.trimmed(), (9, [3, 3, 4]), "there is nothing to give up before {before}");
    }
    let frames = script.journaled.iter().filter(|write| matches!(write.frame, Frame::Trim { .. }));
    assert_eq!(frames.count(), 1);
}

#[test]
fn what_is_not_visible_yet_cannot_be_trimmed() {
    let mut script = Script::new(1 << 20);
    script.publish(0, 0, b"one");
    script.sync();
    script.publish(0, 1, b"on its way");
    script.trim(5, TrimBefore::Offset(Offset::new(2)), false);
    let failure: Failure = script.take(CONTROL, FrameKind::Failure);
    assert_eq!((failure.request, failure.code), (5, ErrorCode::OffsetOutOfRange));
    assert!(failure.detail.contains("2 is not within 0..=1"), "{}", failure.detail);
    script.trim(6, TrimBefore::Offset(Offset::new(1)), false);
    script.sync();
    assert_eq!(script.trimmed(), (6, [0, 1, 2]));
}

#[test]
fn a_reader_overtaken_by_a_trim_is_told_which_offsets_it_missed() {
    let mut script = Script::new(0);
    script.publish(0, 0, b"one");
    script.publish(0, 1, b"two");
    script.sync();
    script.subscribe(0, 0, StartAt::Earliest);
    script.trim(5, TrimBefore::Offset(Offset::new(1)), false);
    script.sync();
    script.event(Event::Granted(lane(SUBSCRIBE), 1 << 20));
    let gap: Gap = script.take(SUBSCRIBE, FrameKind::Gap);
    assert_eq!((gap.from.get(), gap.to.get(), gap.reason), (0, 1, GapReason::Retention));
    let deliver: Deliver = script.take(SUBSCRIBE, FrameKind::Deliver);
    assert_eq!(deliver.iter().next().unwrap().unwrap().base_offset(), Offset::new(1));
}

#[test]
fn a_trim_by_time_asks_segments_and_spares_what_was_flushed_meanwhile() {
    let mut script = Script::new(1 << 20);
    let time = TrimBefore::Time(Timestamp::from_micros(1_500_000));
    script.publish(0, 0, b"early");
    script.sync();
    script.flush(0, 1, 0);
    script.now.wall = Timestamp::from_micros(2_000_000);
    script.publish(0, 1, b"late");
    script.publish(0, 2, b"later");
    script.sync();
    script.trim(5, time, false);
    let read = script.actions.cold_reads.pop().expect("memory begins too late to know");
    script.flush(0, 3, 0);
    script.event(Event::ColdAnswer(ColdAnswer { read, result: ColdResult::Offset(None) }));
    script.sync();
    assert_eq!(script.trimmed(), (5, [0, 1, 3]));

    script.trim(6, time, false);
    let read = script.actions.cold_reads.pop().expect("the data is cold");
    let result = ColdResult::Offset(Some(Offset::new(1)));
    script.event(Event::ColdAnswer(ColdAnswer { read, result }));
    assert_eq!(script.trimmed(), (6, [1, 1, 3]), "the same time again gives up nothing");
    script.trim(7, TrimBefore::Time(Timestamp::from_micros(3_000_000)), false);
    let read = script.actions.cold_reads.pop().expect("the data is cold");
    let result = ColdResult::Corrupt { from: Offset::new(1), to: Offset::new(3) };
    script.event(Event::ColdAnswer(ColdAnswer { read, result }));
    let failure: Failure = script.take(CONTROL, FrameKind::Failure);
    assert_eq!((failure.request, failure.code), (7, ErrorCode::DataCorrupt));
}

#[test]
fn a_trim_of_nothing_there_is_refused_by_name() {
    let mut script = Script::new(1 << 20);
    let trim = |name: &str, partition| TrimPartition {
        request: 5,
        name: name.to_owned(),
        partition: PartitionId::new(partition),
        before: TrimBefore::Offset(Offset::ZERO),
        dry_run: false,
    };
    for (trim, code) in
        [(trim("orders", 2), ErrorCode::PartitionNotFound), (trim("other", 0), ErrorCode::TopicNotFound)]
    {
        script.event(Event::Request(lane(CONTROL), Request::Trim(trim)));
        let failure: Failure = script.take(CONTROL, FrameKind::Failure);
        assert_eq!((failure.request, failure.code), (5, code));
    }
}

/// Any batch in its place.
pub(crate) fn stored_batch() -> StoredBatch {
    let key = PartitionKey { topic: TopicId::default(), partition: PartitionId::ZERO };
    let section = weir_protocol::batch::BrokerSection {
        base_offset: Offset::ZERO,
        append_time: Timestamp::ZERO,
        partition_epoch: Epoch::ZERO,
        voids: weir_protocol::batch::Voids::NONE,
    };
    StoredBatch { section, producer: batch(key, 0, b"any") }
}

#[test]
fn a_refusal_does_not_overtake_the_answers_to_earlier_batches() {
    let mut script = Script::new(0);
    script.publish(0, 0, b"a");
    script.event(Event::StorageFull(true));
    script.publish(0, 1, b"b");
    assert!(script.kinds().is_empty(), "the first batch has no answer yet: {:?}", script.kinds());
    script.sync();
    assert_eq!(script.kinds(), [FrameKind::PublishAck, FrameKind::PublishRejected]);
    // Nothing is owed any more: the next one is refused at once.
    script.publish(0, 1, b"b");
    assert_eq!(script.kinds().len(), 3);
}

#[test]
fn a_duplicate_is_answered_as_early_as_what_follows_it() {
    let mut script = Script::new(0);
    let second = lane(PUBLISH + 100);
    let open = PublishOpen { topic: script.topic, durability: Durability::Written };
    script.event(Event::PublishOpened(second, open));
    script.publish(0, 0, b"a");
    for (sequence, value) in [(0, b"a"), (1, b"b")] {
        let batch = batch(script.key(0), sequence, value);
        let bytes = (Publish::OVERHEAD_BYTES + batch.length()) as u64;
        let publish = Publish { acked_below: Sequence::ZERO, batch };
        script.arrives(second, publish, bytes);
    }
    script.event(Event::Written(script.actions.last_ticket()));
    let acks: Vec<PublishAck> =
        script.sent.iter().map(|(_, frame)| PublishAck::from_frame(frame).unwrap()).collect();
    let entries: Vec<_> = acks.iter().flat_map(|ack| &ack.entries).collect();
    let told: Vec<_> = entries.iter().map(|entry| (entry.sequence.get(), entry.duplicate)).collect();
    assert_eq!(told, [(0, true), (1, false)], "in the order of sending");
    assert!(entries.iter().all(|entry| entry.durability == Durability::Written));
}
