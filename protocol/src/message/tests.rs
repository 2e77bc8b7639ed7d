use bytes::{Bytes, BytesMut};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::batch::{
    BatchBuilder, BatchIdentity, BrokerSection, Compression, ProducerBatch, RecordInput, StoredBatch, Voids,
};
use crate::code::ErrorCode;
use crate::error::Problem;
use crate::frame::{FRAME_HEADER_BYTES, take_frame};
use crate::limits::{
    BATCH_RECORDS_MAX, DEDUP_HORIZON_US_DEFAULT, FRAME_BYTES_MAX, NUMBER_MAX, TEXT_BYTES_MAX,
};
use crate::units::{
    Durability, Epoch, Incarnation, LeaseEpoch, Offset, PartitionId, PartitionKey, ProducerId, Sequence,
    Timestamp, TopicId,
};

mod failing;
mod groups;

/// Encodes and decodes; then shows that no shorter body and no longer one is taken.
fn round_trip<M: Message + PartialEq + std::fmt::Debug>(message: &M) {
    let mut bytes = message.to_frame();
    let raw = take_frame(&mut bytes, FRAME_BYTES_MAX).unwrap().unwrap();
    assert!(bytes.is_empty());
    assert_eq!(raw.kind, M::KIND);
    assert_eq!(&M::from_frame(&raw).unwrap(), message);
    let longer = RawFrame { kind: raw.kind, body: [&raw.body[..], &[0]].concat().into() };
    assert!(whole_or_nothing(&longer, message), "one byte more");
    // Long bodies are cut at a few places only: each cut costs a checksum.
    for length in (0..raw.body.len()).step_by(raw.body.len() / 200 + 1) {
        let cut = RawFrame { kind: raw.kind, body: raw.body.slice(..length) };
        assert!(whole_or_nothing(&cut, message), "cut to {length}");
    }
}

/// Whether a body of another length is refused, or is another message: batches of a `Deliver` end where they end.
fn whole_or_nothing<M: Message + PartialEq>(frame: &RawFrame, message: &M) -> bool {
    match M::from_frame(frame) {
        Ok(other) => M::KIND == FrameKind::Deliver && other != *message,
        Err(error) => error.position <= frame.body.len(),
    }
}

fn text(max: usize) -> impl Strategy<Value = String> {
    vec(any::<char>(), 0..max / 4).prop_map(String::from_iter)
}

fn offset() -> impl Strategy<Value = Offset> {
    (0..=NUMBER_MAX).prop_map(Offset::new)
}

fn sequence() -> impl Strategy<Value = Sequence> {
    (0..=NUMBER_MAX).prop_map(Sequence::new)
}

fn partition() -> impl Strategy<Value = PartitionId> {
    any::<u32>().prop_map(PartitionId::new)
}

fn timestamp() -> impl Strategy<Value = Timestamp> {
    any::<i64>().prop_map(Timestamp::from_micros)
}

fn topic_id() -> impl Strategy<Value = TopicId> {
    any::<[u8; 16]>().prop_map(TopicId::from_bytes)
}

fn code() -> impl Strategy<Value = ErrorCode> {
    proptest::sample::select(ErrorCode::ALL)
}

fn wait_id() -> impl Strategy<Value = WaitId> {
    (any::<bool>(), any::<[u64; 2]>(), partition()).prop_map(
        |(is_reader, [connection, stream], partition)| WaitId { is_reader, connection, stream, partition },
    )
}

fn durability() -> impl Strategy<Value = Durability> {
    prop_oneof![Just(Durability::Written), Just(Durability::Durable)]
}

fn start() -> impl Strategy<Value = StartAt> {
    prop_oneof![
        Just(StartAt::Earliest),
        Just(StartAt::Latest),
        any::<u64>().prop_map(|offset| StartAt::Offset(Offset::new(offset))),
        timestamp().prop_map(StartAt::Time),
        any::<u64>().prop_map(StartAt::Last),
        any::<u64>().prop_map(|lease| StartAt::Lease(LeaseEpoch::new(lease))),
    ]
}

fn trim_before() -> impl Strategy<Value = TrimBefore> {
    prop_oneof![offset().prop_map(TrimBefore::Offset), timestamp().prop_map(TrimBefore::Time)]
}

fn settings() -> impl Strategy<Value = TopicSettings> {
    let limit = || option::of(any::<u64>());
    let horizon = prop_oneof![limit(), Just(Some(DEDUP_HORIZON_US_DEFAULT))];
    let keys = (option::of(1..=u32::MAX), prop_oneof![Just(Timestamp::ZERO), timestamp()]);
    (any::<u32>(), limit(), limit(), any::<u32>(), any::<(bool, bool)>(), horizon, keys).prop_map(
        |(partitions, age, bytes, batch_bytes_max, choices, dedup_horizon_us, keys)| TopicSettings {
            partitions,
            retention_age_us: age,
            retention_bytes: bytes,
            batch_bytes_max,
            explicit_partitions: choices.0,
            dedup_horizon_us,
            keyed_versions: choices.1,
            dedup_keys_per_second: keys.0,
            dedup_since: keys.1,
        },
    )
}

fn topic() -> impl Strategy<Value = TopicInfo> {
    (any::<u32>(), topic_id(), text(128), timestamp(), settings())
        .prop_map(|(request, id, name, created, settings)| TopicInfo { request, id, name, created, settings })
}

fn partition_info() -> impl Strategy<Value = PartitionInfo> {
    (partition(), any::<u32>(), any::<u64>(), offset(), offset(), any::<u64>()).prop_map(
        |(partition, epoch, range_start, start_offset, end_offset, bytes)| PartitionInfo {
            partition,
            epoch: Epoch::new(epoch),
            range_start,
            start_offset,
            end_offset,
            bytes,
        },
    )
}

fn ack_entry() -> impl Strategy<Value = AckEntry> {
    (partition(), sequence(), offset(), timestamp(), any::<u32>(), durability(), any::<bool>()).prop_map(
        |(partition, sequence, base_offset, append_time, epoch, durability, duplicate)| AckEntry {
            partition,
            sequence,
            base_offset,
            append_time,
            partition_epoch: Epoch::new(epoch),
            durability,
            duplicate,
        },
    )
}

fn exception() -> impl Strategy<Value = RecordException> {
    let original = || {
        (partition(), offset(), timestamp()).prop_map(|(partition, offset, append_time)| OriginalRecord {
            partition,
            offset,
            append_time,
        })
    };
    let fate = prop_oneof![
        original().prop_map(RecordFate::Duplicate),
        original().prop_map(RecordFate::Conflict),
        Just(RecordFate::Expired),
        Just(RecordFate::Full),
        Just(RecordFate::Off),
        offset().prop_map(RecordFate::Unmet),
        Just(RecordFate::UnmetAbsent),
        Just(RecordFate::VersionsOff),
        Just(RecordFate::VersionsFull),
    ];
    (0..BATCH_RECORDS_MAX, fate).prop_map(|(record, fate)| RecordException { record, fate })
}

fn batch(value: &[u8]) -> ProducerBatch {
    let mut builder = BatchBuilder::new(1 << 16);
    builder.push(&RecordInput { value: Some(value), ..RecordInput::default() }).unwrap();
    let partition = PartitionKey { topic: TopicId::default(), partition: PartitionId::new(1) };
    let identity = BatchIdentity {
        producer: ProducerId::new(2),
        producer_epoch: Epoch::new(3),
        sequence: Sequence::new(4),
        partition,
    };
    builder.finish(&identity, Compression::None)
}

fn stored(value: &[u8], base_offset: u64) -> StoredBatch {
    let section = BrokerSection {
        base_offset: Offset::new(base_offset),
        append_time: Timestamp::ZERO,
        partition_epoch: Epoch::ZERO,
        voids: Voids::NONE,
    };
    StoredBatch { section, producer: batch(value) }
}

proptest! {
    #[test]
    fn greetings_round_trip(
        version_min in any::<u16>(), version_max in any::<u16>(), features in any::<u64>(), bytes in any::<[u32; 6]>(),
        client_name in text(128), version in text(1024), incarnation in any::<u64>(), node in any::<[u8; 16]>(),
    ) {
        let frame_bytes_max = bytes[0];
        let client_version = version.clone();
        round_trip(&Hello { version_min, version_max, features, frame_bytes_max, client_name, client_version });
        let limits = ServerLimits {
            frame_bytes_max,
            batch_bytes_max: bytes[1],
            record_bytes_max: bytes[2],
            unacked_batches_max: bytes[3],
            lanes_max: bytes[4],
            streams_max: bytes[5],
        };
        let incarnation = Incarnation::new(incarnation);
        round_trip(&Welcome { version: version_max, features, incarnation, node, limits, server_version: version });
    }

    #[test]
    fn failures_round_trip(request in any::<u32>(), code in code(), ms in any::<u32>(), detail in text(1024)) {
        round_trip(&Failure { request, code, retry_after_ms: ms, detail });
        round_trip(&GoAway { code, deadline_ms: ms });
    }

    #[test]
    fn topic_messages_round_trip(
        request in any::<u32>(), name in text(128), settings in settings(), partition in partition(), more in any::<bool>(),
        topic in topic(), topics in vec(topic(), 0..5), partitions in vec(partition_info(), 0..5),
    ) {
        round_trip(&CreateTopic { request, name: name.clone(), settings });
        round_trip(&AlterTopic { request, name: name.clone(), settings });
        round_trip(&DeleteTopic { request, name: name.clone() });
        round_trip(&ListTopics { request, after: name.clone() });
        round_trip(&DescribeTopic { request, name, first_partition: partition });
        round_trip(&Done { request });
        round_trip(&topic);
        round_trip(&TopicList { request, more, topics });
        round_trip(&TopicDescription { request, topic, partitions });
    }

    #[test]
    fn trim_messages_round_trip(
        request in any::<u32>(), name in text(128), partition in partition(), before in trim_before(),
        dry_run in any::<bool>(), bounds in [offset(), offset(), offset()],
    ) {
        round_trip(&TrimPartition { request, name, partition, before, dry_run });
        let [old_start_offset, start_offset, end_offset] = bounds;
        round_trip(&PartitionTrimmed { request, partition, old_start_offset, start_offset, end_offset });
    }

    #[test]
    fn snapshot_messages_round_trip(
        request in any::<u32>(), name in text(128), directory in text(1024), numbers in any::<[u64; 2]>(),
    ) {
        round_trip(&CreateSnapshot { request, name });
        let [segments, bytes] = numbers;
        round_trip(&SnapshotCreated { request, directory, segments, bytes });
    }

    #[test]
    fn explain_messages_round_trip(
        request in any::<u32>(), name in text(128), after in option::of(wait_id()), more in any::<bool>(),
        waits in vec((wait_id(), text(128), proptest::sample::select(WaitsFor::ALL), any::<[u64; 4]>()), 0..8),
    ) {
        round_trip(&Explain { request, name, after });
        let wait = |(id, client_name, waits_for, numbers)| {
            let [since_us, credit_bytes, held_bytes, lag_records] = numbers;
            Wait { id, client_name, waits_for, since_us, credit_bytes, held_bytes, lag_records }
        };
        round_trip(&Explanation { request, more, waits: waits.into_iter().map(wait).collect() });
    }

    #[test]
    fn dedup_messages_round_trip(
        request in any::<u32>(), name in text(128), routing_hash in any::<u64>(), key in vec(any::<u8>(), 0..=64),
        found in option::of((any::<u32>(), offset(), any::<i64>(), any::<[u8; 16]>(), any::<u64>(), any::<bool>())),
        more in any::<bool>(), node in any::<[u64; 11]>(), topics in vec((text(128), any::<[u64; 6]>()), 0..8),
    ) {
        round_trip(&FindKey { request, name: name.clone(), routing_hash, key });
        let found = found.map(|(partition, offset, at, fingerprint, remaining_us, is_recent)| {
            let (partition, append_time) = (PartitionId::new(partition), Timestamp::from_micros(at));
            RememberedKey { partition, offset, append_time, fingerprint, remaining_us, is_recent }
        });
        round_trip(&KeyFound { request, key: found });
        round_trip(&DescribeDedup { request, name: name.clone(), after: name });
        let topics = topics.into_iter().map(|(name, [horizon_us, stored, duplicates, conflicts, expired, full])| {
            let counts = KeyedCounts { stored, duplicates, conflicts, expired, full };
            TopicDedup { name, horizon_us, counts }
        });
        let [recent_keys, recent_keys_max, flushed_keys, generations, narrow_filters, rest @ ..] = node;
        let [missing_filters, lost_generations, filter_bytes, filter_bytes_max, disk_bytes, disk_bytes_max] = rest;
        let keys = DedupFigures {
            recent_keys, recent_keys_max, flushed_keys, generations, narrow_filters, missing_filters,
            lost_generations, filter_bytes, filter_bytes_max, disk_bytes, disk_bytes_max,
        };
        round_trip(&DedupDescription { request, more, keys, topics: topics.collect() });
    }

    #[test]
    fn publish_messages_round_trip(
        request in any::<u32>(), name in text(128), producer in any::<u64>(), epoch in any::<u32>(), topic in topic_id(),
        durability in durability(), acked_below in sequence(), value in vec(any::<u8>(), 0..200),
        entries in vec(ack_entry(), 0..8),
    ) {
        round_trip(&OpenProducer { request });
        round_trip(&ClaimProducer { request, topic, name });
        let (producer, epoch) = (ProducerId::new(producer), Epoch::new(epoch));
        round_trip(&ProducerOpened { request, producer, epoch });
        round_trip(&PublishOpen { topic, durability });
        let publish = Publish { acked_below, batch: batch(&value) };
        round_trip(&publish);
        prop_assert_eq!(&publish.to_frame()[..], &[&publish.front()[..], publish.batch.bytes()].concat()[..]);
        round_trip(&PublishAck { entries });
    }

    #[test]
    fn exceptions_round_trip(
        partition in partition(), sequence in sequence(), exceptions in vec(exception(), 0..20),
    ) {
        round_trip(&PublishExceptions { partition, sequence, exceptions });
    }

    #[test]
    fn lane_answers_round_trip(
        partition in partition(), sequence in sequence(), code in code(), retry_after_ms in any::<u32>(),
        detail in text(1024), limit_bytes in any::<u64>(), generation in any::<u32>(), log_start in offset(),
        high_watermark in offset(),
    ) {
        round_trip(&PublishRejected { partition, sequence, code, retry_after_ms, detail: detail.clone() });
        round_trip(&Grant { limit_bytes });
        round_trip(&GrantRecords { limit_records: limit_bytes });
        round_trip(&Throttled { retry_after_ms });
        round_trip(&PartitionEnded { partition, generation, code, log_start, high_watermark, detail });
        round_trip(&UnsubscribePartition { partition });
    }

    #[test]
    fn subscription_messages_round_trip(
        topic in topic_id(), limit_bytes in any::<u64>(), partition in partition(), generation in any::<u32>(),
        start in start(), bounds in [offset(), offset(), offset()], values in vec(vec(any::<u8>(), 0..100), 0..4),
        corrupt in any::<bool>(),
    ) {
        round_trip(&SubscribeOpen { topic, limit_bytes });
        round_trip(&SubscribePartition { partition, generation, start });
        let [position, log_start, high_watermark] = bounds;
        round_trip(&PartitionStarted { partition, generation, position, log_start, high_watermark });
        let reason = if corrupt { GapReason::Corrupt } else { GapReason::Retention };
        let (from, to) = (position.min(log_start), position.max(log_start));
        if from < to {
            round_trip(&Gap { partition, generation, from, to, reason });
        }
        let mut batches = BytesMut::new();
        for (number, value) in values.iter().enumerate() {
            stored(value, number as u64).encode(&mut batches);
        }
        let deliver = Deliver { partition, generation, high_watermark, batches: batches.freeze() };
        round_trip(&deliver);
        let front = Deliver::front(partition, generation, high_watermark, deliver.batches.len());
        prop_assert_eq!(&deliver.to_frame()[..], &[&front[..], &deliver.batches].concat()[..]);
        let offsets: Vec<u64> = deliver.iter().map(|batch| batch.unwrap().base_offset().get()).collect();
        prop_assert_eq!(offsets, (0..values.len() as u64).collect::<Vec<_>>());
    }

    #[test]
    fn arbitrary_bodies_never_panic(number in 0u16..200, body in vec(prop_oneof![any::<u8>(), 0u8..4], 0..200)) {
        let Some(kind) = FrameKind::from_number(number) else { return Ok(()) };
        decode_any(&RawFrame { kind, body: Bytes::from(body) });
    }
}

/// Decodes a frame as what it says it is. The match names every kind, so none is forgotten.
#[expect(clippy::too_many_lines, reason = "one line for each kind")]
fn decode_any(frame: &RawFrame) {
    fn decode<M: Message>(frame: &RawFrame) {
        if let Err(error) = M::from_frame(frame) {
            assert!(error.position <= frame.body.len(), "{error}");
        }
    }
    match frame.kind {
        FrameKind::Hello => decode::<Hello>(frame),
        FrameKind::Welcome => decode::<Welcome>(frame),
        FrameKind::Failure => decode::<Failure>(frame),
        FrameKind::GoAway => decode::<GoAway>(frame),
        FrameKind::CreateTopic => decode::<CreateTopic>(frame),
        FrameKind::AlterTopic => decode::<AlterTopic>(frame),
        FrameKind::DeleteTopic => decode::<DeleteTopic>(frame),
        FrameKind::ListTopics => decode::<ListTopics>(frame),
        FrameKind::DescribeTopic => decode::<DescribeTopic>(frame),
        FrameKind::TrimPartition => decode::<TrimPartition>(frame),
        FrameKind::Done => decode::<Done>(frame),
        FrameKind::TopicInfo => decode::<TopicInfo>(frame),
        FrameKind::TopicList => decode::<TopicList>(frame),
        FrameKind::TopicDescription => decode::<TopicDescription>(frame),
        FrameKind::PartitionTrimmed => decode::<PartitionTrimmed>(frame),
        FrameKind::OpenProducer => decode::<OpenProducer>(frame),
        FrameKind::ProducerOpened => decode::<ProducerOpened>(frame),
        FrameKind::ClaimProducer => decode::<ClaimProducer>(frame),
        FrameKind::CreateSnapshot => decode::<CreateSnapshot>(frame),
        FrameKind::SnapshotCreated => decode::<SnapshotCreated>(frame),
        FrameKind::PublishOpen => decode::<PublishOpen>(frame),
        FrameKind::Publish => decode::<Publish>(frame),
        FrameKind::PublishAck => decode::<PublishAck>(frame),
        FrameKind::PublishRejected => decode::<PublishRejected>(frame),
        FrameKind::Grant => decode::<Grant>(frame),
        FrameKind::Throttled => decode::<Throttled>(frame),
        FrameKind::SubscribeOpen => decode::<SubscribeOpen>(frame),
        FrameKind::SubscribePartition => decode::<SubscribePartition>(frame),
        FrameKind::PartitionStarted => decode::<PartitionStarted>(frame),
        FrameKind::Deliver => decode::<Deliver>(frame),
        FrameKind::Gap => decode::<Gap>(frame),
        FrameKind::UnsubscribePartition => decode::<UnsubscribePartition>(frame),
        FrameKind::GrantRecords => decode::<GrantRecords>(frame),
        FrameKind::PartitionEnded => decode::<PartitionEnded>(frame),
        FrameKind::Explain => decode::<Explain>(frame),
        FrameKind::Explanation => decode::<Explanation>(frame),
        FrameKind::PublishExceptions => decode::<PublishExceptions>(frame),
        FrameKind::CreateGroup => decode::<CreateGroup>(frame),
        FrameKind::DeleteGroup => decode::<DeleteGroup>(frame),
        FrameKind::ResetGroup => decode::<ResetGroup>(frame),
        FrameKind::ListGroups => decode::<ListGroups>(frame),
        FrameKind::DescribeGroup => decode::<DescribeGroup>(frame),
        FrameKind::GroupReset => decode::<GroupReset>(frame),
        FrameKind::GroupList => decode::<GroupList>(frame),
        FrameKind::GroupDescription => decode::<GroupDescription>(frame),
        FrameKind::JoinGroup => decode::<JoinGroup>(frame),
        FrameKind::Heartbeat => decode::<Heartbeat>(frame),
        FrameKind::PartitionAssigned => decode::<PartitionAssigned>(frame),
        FrameKind::PartitionRevoked => decode::<PartitionRevoked>(frame),
        FrameKind::ReleasePartition => decode::<ReleasePartition>(frame),
        FrameKind::PartitionLost => decode::<PartitionLost>(frame),
        FrameKind::AckRecords => decode::<AckRecords>(frame),
        FrameKind::RecordsAcked => decode::<RecordsAcked>(frame),
        FrameKind::LeaveGroup => decode::<LeaveGroup>(frame),
        FrameKind::FailRecords => decode::<FailRecords>(frame),
        FrameKind::RecordsFailed => decode::<RecordsFailed>(frame),
        FrameKind::PartitionFailures => decode::<PartitionFailures>(frame),
        FrameKind::SetRedelivery => decode::<SetRedelivery>(frame),
        FrameKind::DescribeFailures => decode::<DescribeFailures>(frame),
        FrameKind::GroupFailures => decode::<GroupFailures>(frame),
        FrameKind::FindKey => decode::<FindKey>(frame),
        FrameKind::KeyFound => decode::<KeyFound>(frame),
        FrameKind::DescribeDedup => decode::<DescribeDedup>(frame),
        FrameKind::DedupDescription => decode::<DedupDescription>(frame),
    }
}

/// What decoding a changed frame body says.
fn refusal<M: Message + std::fmt::Debug>(message: &M, change: impl FnOnce(&mut [u8])) -> (usize, Problem) {
    let mut body = message.to_frame()[FRAME_HEADER_BYTES..].to_vec();
    change(&mut body);
    let error = M::from_frame(&RawFrame { kind: M::KIND, body: Bytes::from(body) }).unwrap_err();
    (error.position, error.problem)
}

#[test]
fn an_error_says_at_which_byte_of_the_body() {
    let done = GoAway { code: ErrorCode::GoingAway, deadline_ms: 1 };
    let unknown = Problem::Invalid { what: "error code", value: 1264 };
    assert_eq!(refusal(&done, |body| body[1] = 4), (0, unknown));
    let open = PublishOpen { topic: TopicId::default(), durability: Durability::Durable };
    assert_eq!(refusal(&open, |body| body[16] = 2), (16, Problem::Invalid { what: "durability", value: 2 }));
    let subscribe =
        SubscribePartition { partition: PartitionId::ZERO, generation: 0, start: StartAt::Earliest };
    assert_eq!(
        refusal(&subscribe, |body| body[8] = 6),
        (8, Problem::Invalid { what: "start kind", value: 6 })
    );
    let gap = Gap {
        partition: PartitionId::ZERO,
        generation: 0,
        from: Offset::new(1),
        to: Offset::new(2),
        reason: GapReason::Corrupt,
    };
    assert_eq!(refusal(&gap, |body| body[16] = 1), (16, Problem::Invalid { what: "end of a gap", value: 1 }));
    assert_eq!(refusal(&gap, |body| body[24] = 9), (24, Problem::Invalid { what: "gap reason", value: 9 }));
    let trim = TrimPartition {
        request: 1,
        name: "t".to_owned(),
        partition: PartitionId::ZERO,
        before: TrimBefore::Offset(Offset::ZERO),
        dry_run: false,
    };
    assert_eq!(refusal(&trim, |body| body[11] = 2), (11, Problem::Invalid { what: "trim kind", value: 2 }));
    assert_eq!(refusal(&trim, |body| body[20] = 2), (20, Problem::Invalid { what: "dry run", value: 2 }));
    let publish = Publish { acked_below: Sequence::ZERO, batch: batch(b"v") };
    let version = Problem::Mismatch { what: "batch version", value: 9, expected: 1 };
    assert_eq!(refusal(&publish, |body| body[8 + 4] = 9), (8 + 4, version));
    let list = DeleteTopic { request: 0, name: "ab".to_owned() };
    assert_eq!(refusal(&list, |body| body[7] = 0xff), (7, Problem::Utf8("topic name")));
}

#[test]
fn a_count_larger_than_the_frame_is_refused_before_anything_is_allocated() {
    let huge = |body: &mut [u8]| body[..4].copy_from_slice(&u32::MAX.to_le_bytes());
    let empty = PublishAck { entries: Vec::new() };
    let problem = Problem::TooLarge { what: "entry count", value: u64::from(u32::MAX), max: 0 };
    assert_eq!(refusal(&empty, huge), (0, problem));
}

#[test]
fn settings_of_a_later_version_are_read_as_far_as_they_are_known() {
    // given
    let settings = TopicSettings {
        partitions: 3,
        retention_age_us: Some(7),
        retention_bytes: None,
        batch_bytes_max: 1000,
        explicit_partitions: true,
        dedup_horizon_us: Some(7),
        keyed_versions: true,
        dedup_keys_per_second: None,
        dedup_since: Timestamp::ZERO,
    };
    let mut bytes = Vec::new();
    settings.encode(&mut bytes);
    bytes[0] += 5;
    bytes.extend_from_slice(&[9; 5]);
    bytes.push(77);
    // when
    let mut reader = Reader::new(&bytes);
    let read = TopicSettings::decode(&mut reader).unwrap();
    // then
    assert_eq!((read, reader.rest()), (settings, &[77][..]));
}

#[test]
fn a_frame_is_appended_behind_what_is_there() {
    let mut out = BytesMut::from(&b"before"[..]);
    let message = Grant { limit_bytes: 5 };
    message.append_frame(&mut out);
    assert_eq!(&out[..6], b"before");
    assert_eq!(&out[6..], &message.to_frame()[..]);
}

#[test]
fn long_details_are_cut_at_a_character() {
    let detail = format!("{}é", "x".repeat(TEXT_BYTES_MAX - 1));
    let failure = Failure { request: 1, code: ErrorCode::Internal, retry_after_ms: 0, detail };
    let mut bytes = failure.to_frame();
    let raw = take_frame(&mut bytes, FRAME_BYTES_MAX).unwrap().unwrap();
    assert_eq!(Failure::from_frame(&raw).unwrap().detail, "x".repeat(TEXT_BYTES_MAX - 1));
}

#[test]
fn a_damaged_batch_ends_a_delivery() {
    let mut batches = BytesMut::new();
    stored(b"good", 0).encode(&mut batches);
    let second = batches.len();
    stored(b"bad", 1).encode(&mut batches);
    stored(b"unseen", 2).encode(&mut batches);
    batches[second + 40] ^= 1;
    let (partition, high_watermark) = (PartitionId::ZERO, Offset::new(3));
    let deliver = Deliver { partition, generation: 0, high_watermark, batches: batches.freeze() };
    let outcomes: Vec<bool> = deliver.iter().map(|batch| batch.is_ok()).collect();
    assert_eq!(outcomes, [true, false]);
}
