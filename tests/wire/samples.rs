//! One of each message, with values that make every byte of it visible.

use bytes::{Bytes, BytesMut};
use weir_protocol::ErrorCode;
use weir_protocol::batch::{
    BatchBuilder, BatchIdentity, BrokerSection, Compression, Expectation, ProducerBatch, RecordInput,
    StoredBatch, TableRow, Voids,
};
use weir_protocol::limits::DEDUP_HORIZON_US_DEFAULT;
use weir_protocol::message::{
    AckEntry, AlterTopic, ClaimProducer, CreateSnapshot, CreateTopic, DeleteTopic, Deliver, DescribeTopic,
    Done, Explain, Explanation, Failure, Gap, GapReason, GoAway, Grant, GrantRecords, Hello, ListTopics,
    OpenProducer, OriginalRecord, PartitionEnded, PartitionInfo, PartitionStarted, PartitionTrimmed,
    ProducerOpened, Publish, PublishAck, PublishExceptions, PublishOpen, PublishRejected, RecordException,
    RecordFate, ServerLimits, SnapshotCreated, StartAt, SubscribeOpen, SubscribePartition, Throttled,
    TopicDescription, TopicInfo, TopicList, TopicSettings, TrimBefore, TrimPartition, UnsubscribePartition,
    Wait, WaitId, WaitsFor, Welcome,
};
use weir_protocol::units::{
    Durability, Epoch, Incarnation, Offset, PartitionId, PartitionKey, ProducerId, Sequence, Timestamp,
    TopicId,
};

use crate::Sample;

mod groups;
mod keys;

const REQUEST: u32 = 0x0102_0304;
const PARTITION: PartitionId = PartitionId::new(0x1112_1314);
const SEQUENCE: Sequence = Sequence::new(0x2122_2324_2526_2728);
const OFFSET: Offset = Offset::new(0x3132_3334_3536_3738);
const END: Offset = Offset::new(0x4142_4344_4546_4748);
const EPOCH: Epoch = Epoch::new(0x5152_5354);
const PRODUCER: ProducerId = ProducerId::new(0x6162_6364_6566_6768);
/// 2026-11-21T12:00:00.123Z
const TIME: Timestamp = Timestamp::from_micros(1_795_262_400_123_000);
const TOPIC: TopicId = TopicId::from_bytes(*b"topic-identity-0");
const GENERATION: u32 = 0x7172_7374;

/// Everything whose encoding is fixed to the byte.
pub(crate) fn all() -> Vec<Sample> {
    let mut samples = connection();
    samples.extend(topics());
    samples.extend(remembering());
    samples.extend(trimming());
    samples.extend(snapshots());
    samples.extend(publishing());
    samples.extend(reading());
    samples.extend(explaining());
    samples.extend(groups::all());
    samples.extend(keys::all());
    samples.push(stored("batch-plain", plain_batch()));
    samples.push(stored("batch-full", full_batch(Compression::None)));
    samples.push(stored("batch-expectations", expecting_batch()));
    samples
}

/// Batches whose bytes depend on the version of a compression library: they must be understood, not reproduced.
pub(crate) fn compressed() -> Vec<Sample> {
    vec![
        stored("batch-lz4", full_batch(Compression::Lz4)),
        stored("batch-zstd", full_batch(Compression::Zstd)),
    ]
}

fn connection() -> Vec<Sample> {
    vec![
        Sample::message(
            "hello",
            Hello {
                version_min: 1,
                version_max: 0x0203,
                features: 0x0405_0607_0809_0a0b,
                frame_bytes_max: 0x0c0d_0e0f,
                client_name: "orders".to_owned(),
                client_version: "weir-client 0.1.0".to_owned(),
            },
        ),
        Sample::message(
            "welcome",
            Welcome {
                version: 1,
                features: 0x0405_0607_0809_0a0b,
                incarnation: Incarnation::new(0x0102_0304_0506_0708),
                node: *b"node-identity-00",
                limits: ServerLimits {
                    frame_bytes_max: 0x1011_1213,
                    batch_bytes_max: 0x1415_1617,
                    record_bytes_max: 0x1819_1a1b,
                    unacked_batches_max: 0x1c1d_1e1f,
                    lanes_max: 0x2021_2223,
                    streams_max: 0x2425_2627,
                },
                server_version: "weir 0.1.0".to_owned(),
            },
        ),
        Sample::message(
            "failure",
            Failure {
                request: REQUEST,
                code: ErrorCode::TopicNotFound,
                retry_after_ms: 0x0506_0708,
                detail: "topic orders".to_owned(),
            },
        ),
        Sample::message("go-away", GoAway { code: ErrorCode::GoingAway, deadline_ms: 10_000 }),
    ]
}

fn settings() -> TopicSettings {
    TopicSettings {
        partitions: 16,
        retention_age_us: Some(0x0102_0304_0506_0708),
        retention_bytes: Some(0x1112_1314_1516_1718),
        batch_bytes_max: 0x0021_2223,
        explicit_partitions: true,
        dedup_horizon_us: Some(DEDUP_HORIZON_US_DEFAULT),
        keyed_versions: false,
        dedup_keys_per_second: None,
        dedup_since: Timestamp::ZERO,
    }
}

fn topic_info() -> TopicInfo {
    TopicInfo { request: REQUEST, id: TOPIC, name: "orders".to_owned(), created: TIME, settings: settings() }
}

fn topics() -> Vec<Sample> {
    let name = "orders".to_owned();
    let unlimited = TopicSettings {
        retention_age_us: None,
        retention_bytes: None,
        explicit_partitions: false,
        ..settings()
    };
    let partition = PartitionInfo {
        partition: PARTITION,
        epoch: EPOCH,
        range_start: 0x8182_8384_8586_8788,
        start_offset: OFFSET,
        end_offset: END,
        bytes: 0x9192_9394_9596_9798,
    };
    let listed = TopicInfo { request: 0, ..topic_info() };
    vec![
        Sample::message(
            "create-topic",
            CreateTopic { request: REQUEST, name: name.clone(), settings: settings() },
        ),
        Sample::message(
            "alter-topic",
            AlterTopic { request: REQUEST, name: name.clone(), settings: unlimited },
        ),
        Sample::message("delete-topic", DeleteTopic { request: REQUEST, name: name.clone() }),
        Sample::message("list-topics", ListTopics { request: REQUEST, after: name.clone() }),
        Sample::message(
            "describe-topic",
            DescribeTopic { request: REQUEST, name, first_partition: PARTITION },
        ),
        Sample::message("done", Done { request: REQUEST }),
        Sample::message("topic-info", topic_info()),
        Sample::message(
            "topic-list",
            TopicList { request: REQUEST, more: true, topics: vec![listed.clone(), listed] },
        ),
        Sample::message(
            "topic-description",
            TopicDescription { request: REQUEST, topic: topic_info(), partitions: vec![partition] },
        ),
    ]
}

fn remembering() -> Vec<Sample> {
    let create = |name, settings| {
        Sample::message(name, CreateTopic { request: REQUEST, name: "orders".to_owned(), settings })
    };
    let keys = TopicSettings { dedup_keys_per_second: Some(0x2122_2324), dedup_since: TIME, ..settings() };
    vec![
        create(
            "create-topic-horizon",
            TopicSettings { dedup_horizon_us: Some(0x2122_2324_2526_2728), ..settings() },
        ),
        create("create-topic-keys", keys),
        create("create-topic-dedup-off", TopicSettings { dedup_horizon_us: None, ..settings() }),
        create("create-topic-versions", TopicSettings { keyed_versions: true, ..settings() }),
    ]
}

fn explaining() -> Vec<Sample> {
    let id = WaitId {
        is_reader: true,
        connection: 0x0102_0304_0506_0708,
        stream: 0x1112_1314_1516_1718,
        partition: PARTITION,
    };
    let reader = Wait {
        id,
        client_name: "billing".to_owned(),
        waits_for: WaitsFor::Application,
        since_us: 0x2122_2324_2526_2728,
        credit_bytes: 0x3132_3334_3536_3738,
        held_bytes: 0x4142_4344_4546_4748,
        lag_records: 0x5152_5354_5556_5758,
    };
    let producer = Wait {
        id: WaitId { is_reader: false, partition: PartitionId::ZERO, ..id },
        client_name: String::new(),
        waits_for: WaitsFor::Disk,
        lag_records: 0,
        ..reader
    };
    let explain = |after| Explain { request: REQUEST, name: "orders".to_owned(), after };
    vec![
        Sample::message("explain", explain(None)),
        Sample::message("explain-next", explain(Some(id))),
        Sample::message(
            "explanation",
            Explanation { request: REQUEST, more: true, waits: vec![producer, reader] },
        ),
    ]
}

fn trimming() -> Vec<Sample> {
    let trim = |before, dry_run| TrimPartition {
        request: REQUEST,
        name: "orders".to_owned(),
        partition: PARTITION,
        before,
        dry_run,
    };
    vec![
        Sample::message("trim-partition-offset", trim(TrimBefore::Offset(OFFSET), false)),
        Sample::message("trim-partition-time", trim(TrimBefore::Time(TIME), true)),
        Sample::message(
            "partition-trimmed",
            PartitionTrimmed {
                request: REQUEST,
                partition: PARTITION,
                old_start_offset: Offset::new(5),
                start_offset: OFFSET,
                end_offset: END,
            },
        ),
    ]
}

fn snapshots() -> Vec<Sample> {
    vec![
        Sample::message("create-snapshot", CreateSnapshot { request: REQUEST, name: "before".to_owned() }),
        Sample::message(
            "snapshot-created",
            SnapshotCreated {
                request: REQUEST,
                directory: "/data/snapshots/before".to_owned(),
                segments: 0x0102_0304_0506_0708,
                bytes: 0x1112_1314_1516_1718,
            },
        ),
    ]
}

fn publishing() -> Vec<Sample> {
    let entry = AckEntry {
        partition: PARTITION,
        sequence: SEQUENCE,
        base_offset: OFFSET,
        append_time: TIME,
        partition_epoch: EPOCH,
        durability: Durability::Durable,
        duplicate: false,
    };
    let again = AckEntry { durability: Durability::Written, duplicate: true, ..entry };
    vec![
        Sample::message("open-producer", OpenProducer { request: REQUEST }),
        Sample::message(
            "claim-producer",
            ClaimProducer { request: REQUEST, topic: TOPIC, name: "billing".to_owned() },
        ),
        Sample::message(
            "producer-opened",
            ProducerOpened { request: REQUEST, producer: PRODUCER, epoch: EPOCH },
        ),
        Sample::message("publish-open", PublishOpen { topic: TOPIC, durability: Durability::Durable }),
        Sample::message("publish", Publish { acked_below: SEQUENCE, batch: plain_batch().producer }),
        Sample::message("publish-ack", PublishAck { entries: vec![entry, again] }),
        Sample::message(
            "publish-rejected",
            PublishRejected {
                partition: PARTITION,
                sequence: SEQUENCE,
                code: ErrorCode::StorageFull,
                retry_after_ms: 0x0506_0708,
                detail: "no space".to_owned(),
            },
        ),
        Sample::message("publish-exceptions", exceptions()),
        Sample::message("publish-exceptions-unmet", unmet()),
        Sample::message("grant", Grant { limit_bytes: 0x0102_0304_0506_0708 }),
        Sample::message("throttled", Throttled { retry_after_ms: 0x0102_0304 }),
    ]
}

/// One of each fate.
fn exceptions() -> PublishExceptions {
    let original = OriginalRecord { partition: PARTITION, offset: OFFSET, append_time: TIME };
    let fates = [
        RecordFate::Duplicate(original),
        RecordFate::Conflict(original),
        RecordFate::Expired,
        RecordFate::Full,
        RecordFate::Off,
    ];
    let exceptions = (0x0102..).zip(fates).map(|(record, fate)| RecordException { record, fate }).collect();
    PublishExceptions { partition: PARTITION, sequence: SEQUENCE, exceptions }
}

/// One of each fate that has to do with expectations.
fn unmet() -> PublishExceptions {
    let fates = [
        RecordFate::Unmet(OFFSET),
        RecordFate::UnmetAbsent,
        RecordFate::VersionsOff,
        RecordFate::VersionsFull,
    ];
    let exceptions = (0x0102..).zip(fates).map(|(record, fate)| RecordException { record, fate }).collect();
    PublishExceptions { partition: PARTITION, sequence: SEQUENCE, exceptions }
}

fn reading() -> Vec<Sample> {
    let start = |start| SubscribePartition { partition: PARTITION, generation: GENERATION, start };
    let gap = Gap {
        partition: PARTITION,
        generation: GENERATION,
        from: OFFSET,
        to: END,
        reason: GapReason::Retention,
    };
    let mut batches = BytesMut::new();
    plain_batch().encode(&mut batches);
    full_batch(Compression::None).encode(&mut batches);
    vec![
        Sample::message("subscribe-open", SubscribeOpen { topic: TOPIC, limit_bytes: 0x0102_0304_0506_0708 }),
        Sample::message("subscribe-partition-earliest", start(StartAt::Earliest)),
        Sample::message("subscribe-partition-latest", start(StartAt::Latest)),
        Sample::message("subscribe-partition-offset", start(StartAt::Offset(OFFSET))),
        Sample::message("subscribe-partition-time", start(StartAt::Time(TIME))),
        Sample::message("subscribe-partition-last", start(StartAt::Last(10))),
        Sample::message("subscribe-partition-lease", start(StartAt::Lease(groups::LEASE))),
        Sample::message(
            "partition-started",
            PartitionStarted {
                partition: PARTITION,
                generation: GENERATION,
                position: OFFSET,
                log_start: Offset::new(5),
                high_watermark: END,
            },
        ),
        Sample::message(
            "deliver",
            Deliver {
                partition: PARTITION,
                generation: GENERATION,
                high_watermark: END,
                batches: batches.freeze(),
            },
        ),
        Sample::message("gap-retention", gap),
        Sample::message("gap-corrupt", Gap { reason: GapReason::Corrupt, ..gap }),
        Sample::message("grant-records", GrantRecords { limit_records: 0x0102_0304_0506_0708 }),
        Sample::message("unsubscribe-partition", UnsubscribePartition { partition: PARTITION }),
        Sample::message(
            "partition-ended",
            PartitionEnded {
                partition: PARTITION,
                generation: GENERATION,
                code: ErrorCode::OffsetOutOfRange,
                log_start: OFFSET,
                high_watermark: END,
                detail: "before the start".to_owned(),
            },
        ),
    ]
}

fn stored(name: &'static str, batch: StoredBatch) -> Sample {
    let mut bytes = BytesMut::new();
    batch.encode(&mut bytes);
    let check = move |bytes: &Bytes| {
        let mut rest = bytes.clone();
        let decoded = StoredBatch::decode(&mut rest).map_err(|error| error.to_string())?;
        if !rest.is_empty() {
            return Err(format!("{} bytes are left over", rest.len()));
        }
        if decoded.section != batch.section || contents(&decoded.producer) != contents(&batch.producer) {
            return Err(format!("decodes to {decoded:?}"));
        }
        Ok(())
    };
    Sample { name, kind: None, bytes: bytes.freeze(), check: Box::new(check) }
}

/// What a batch says, however it is compressed.
fn contents(batch: &ProducerBatch) -> String {
    let records: Vec<_> = batch.records().expect("the body can be restored").collect();
    let rows: Vec<_> = batch.table().rows().collect();
    let header = batch.header();
    format!("{:?} {:?} {:?} {records:?} {rows:?}", header.compression, header.create_time, header.partition)
}

fn identity() -> BatchIdentity {
    BatchIdentity {
        producer: PRODUCER,
        producer_epoch: EPOCH,
        sequence: SEQUENCE,
        partition: PartitionKey { topic: TOPIC, partition: PARTITION },
    }
}

/// One record with a value and nothing else.
fn plain_batch() -> StoredBatch {
    let mut builder = BatchBuilder::new(1000);
    let record = RecordInput { create_time: TIME, value: Some(b"hello"), ..RecordInput::default() };
    builder.push(&record).expect("the record fits");
    let section =
        BrokerSection { base_offset: OFFSET, append_time: TIME, partition_epoch: EPOCH, voids: Voids::NONE };
    StoredBatch { section, producer: builder.finish(&identity(), Compression::None) }
}

/// Records that expect something, and one that has a key.
fn expecting_batch() -> StoredBatch {
    let mut builder = BatchBuilder::new(4000);
    let expectations = [
        Some(Expectation::PartitionAt(OFFSET)),
        Some(Expectation::KeyAt(END)),
        Some(Expectation::KeyAbsent),
        None,
    ];
    for (expectation, key) in expectations.into_iter().zip(["", "a", "b", "c"]) {
        let record_key = key.bytes().next().map(|byte| [byte; 16]);
        let row = TableRow { expectation, record_key, ..TableRow::default() };
        let record =
            RecordInput { create_time: TIME, key: Some(key.as_bytes()), row, ..RecordInput::default() };
        builder.push(&record).expect("the record fits");
    }
    let section =
        BrokerSection { base_offset: OFFSET, append_time: TIME, partition_epoch: EPOCH, voids: Voids::NONE };
    StoredBatch { section, producer: builder.finish(&identity(), Compression::None) }
}

/// Three records that use everything a batch can say.
fn full_batch(compression: Compression) -> StoredBatch {
    let mut builder = BatchBuilder::new(4000);
    let keyed = RecordInput {
        create_time: TIME,
        key: Some(b"user-42"),
        value: Some(&[b'v'; 80]),
        headers: &[("trace", Some(b"abc")), ("trace", None), ("", Some(b""))],
        row: TableRow {
            routing_hash: 0x50fe_4b21_cf7b_09cd,
            idempotency_key: Some(b"order-1"),
            fingerprint: *b"fingerprint-0001",
            ..TableRow::default()
        },
    };
    let delayed = RecordInput {
        create_time: TIME.saturating_add_micros(70_000_000),
        key: Some(b""),
        value: None,
        row: TableRow {
            deliver_at: Some(TIME.saturating_add_micros(60_000_000)),
            time_to_live_us: Some(3_600_000_000),
            ..TableRow::default()
        },
        ..RecordInput::default()
    };
    let earlier = RecordInput {
        create_time: TIME.saturating_add_micros(-5_000),
        value: Some(&[b'w'; 80]),
        ..RecordInput::default()
    };
    for record in [keyed, delayed, earlier] {
        builder.push(&record).expect("the record fits");
    }
    let section = BrokerSection {
        base_offset: Offset::new(1000),
        append_time: TIME.saturating_add_micros(77),
        partition_epoch: Epoch::new(1),
        voids: Voids::of(3, [1]),
    };
    StoredBatch { section, producer: builder.finish(&identity(), compression) }
}
