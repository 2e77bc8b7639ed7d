use bytes::{Bytes, BytesMut};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use xxhash_rust::xxh3::xxh3_64;

use super::*;
use crate::error::Problem;
use crate::limits::{BATCH_RECORDS_MAX, NUMBER_MAX, RECORD_HEADERS_MAX};
use crate::units::{Epoch, Offset, PartitionId, PartitionKey, ProducerId, Sequence, Timestamp, TopicId};

/// Milliseconds, so that what goes in comes out.
const CREATED: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);

/// A record that owns its bytes, to be made by chance and compared with what comes out of a batch.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Given {
    create_time_ms: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
    routing_hash: u64,
    idempotency_key: Option<Vec<u8>>,
    fingerprint: [u8; 16],
    deliver_at: Option<i64>,
    time_to_live_us: Option<u64>,
    expectation: Option<Expectation>,
    record_key: Option<[u8; 16]>,
    key_time: Option<i64>,
}

impl Given {
    fn of(value: &[u8]) -> Self {
        Self { create_time_ms: CREATED.as_micros() / 1000, value: Some(value.to_vec()), ..Self::default() }
    }

    fn push_to(&self, builder: &mut BatchBuilder) -> Result<u32, BuildError> {
        let headers: Vec<(&str, Option<&[u8]>)> =
            self.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
        builder.push(&RecordInput {
            create_time: Timestamp::from_micros(self.create_time_ms * 1000),
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            headers: &headers,
            row: TableRow {
                routing_hash: self.routing_hash,
                idempotency_key: self.idempotency_key.as_deref(),
                fingerprint: self.fingerprint,
                deliver_at: self.deliver_at.map(Timestamp::from_micros),
                time_to_live_us: self.time_to_live_us,
                expectation: self.expectation,
                record_key: self.record_key,
                key_time: self.key_time.map(Timestamp::from_micros),
            },
        })
    }

    /// What a batch keeps: hash and fingerprint belong to an idempotency key.
    fn kept(&self) -> Self {
        let mut kept = self.clone();
        if kept.idempotency_key.is_none() {
            kept.routing_hash = 0;
            kept.fingerprint = [0; 16];
            kept.key_time = None;
        }
        kept
    }
}

fn given() -> impl Strategy<Value = Given> {
    let bytes = |max| vec(any::<u8>(), 0..max);
    let header = ("[a-zé]{0,6}", option::of(bytes(12)));
    let plain = (any::<i32>(), option::of(bytes(40)), option::of(bytes(300)), vec(header, 0..4));
    let key = option::weighted(0.3, vec(any::<u8>(), 1..65));
    let version = (any::<[u8; 16]>(), option::of(option::of(0..=NUMBER_MAX)));
    let (moment, time) = (|| option::weighted(0.2, 1i64..), option::weighted(0.2, 1u64..));
    let version = option::weighted(0.2, version);
    let row = (any::<u64>(), key, any::<[u8; 16]>(), moment(), time, version, moment());
    (plain, row).prop_map(|((create_time_ms, key, value, headers), row)| Given {
        create_time_ms: i64::from(create_time_ms),
        key,
        value,
        headers,
        routing_hash: row.0,
        idempotency_key: row.1,
        fingerprint: row.2,
        deliver_at: row.3,
        time_to_live_us: row.4,
        expectation: row.5.and_then(|(_, expected)| expected).map(|expected| {
            expected.map_or(Expectation::KeyAbsent, |offset| Expectation::KeyAt(Offset::new(offset)))
        }),
        record_key: row.5.map(|(key, _)| key).map(|[first, rest @ ..]| {
            let mut key = [first | 1; 16];
            key[1..].copy_from_slice(&rest);
            key
        }),
        key_time: row.6,
    })
}

fn compression() -> impl Strategy<Value = Compression> {
    prop_oneof![Just(Compression::None), Just(Compression::Lz4), Just(Compression::Zstd)]
}

fn identity() -> BatchIdentity {
    BatchIdentity {
        producer: ProducerId::new(7),
        producer_epoch: Epoch::new(3),
        sequence: Sequence::new(11),
        partition: PartitionKey {
            topic: TopicId::from_bytes(*b"0123456789abcdef"),
            partition: PartitionId::new(5),
        },
    }
}

fn batch_of(records: &[Given], compression: Compression) -> ProducerBatch {
    let mut builder = BatchBuilder::new(1 << 20);
    for record in records {
        record.push_to(&mut builder).unwrap();
    }
    builder.finish(&identity(), compression)
}

fn stored(producer: ProducerBatch, voids: Voids) -> StoredBatch {
    let section = BrokerSection {
        base_offset: Offset::new(1_000_000),
        append_time: Timestamp::from_micros(1_700_000_000_123_456),
        partition_epoch: Epoch::new(2),
        voids,
    };
    StoredBatch { section, producer }
}

fn encoded(batch: &StoredBatch) -> Bytes {
    let mut out = BytesMut::new();
    batch.encode(&mut out);
    out.freeze()
}

/// Everything a batch says of its records.
fn read_back(batch: &ProducerBatch) -> Vec<Given> {
    let rows = batch.table().rows();
    let records = batch.records().unwrap().map(Result::unwrap);
    records
        .zip(rows)
        .map(|(record, row)| Given {
            create_time_ms: batch.header().create_time_of(record.timestamp_delta_ms).as_micros() / 1000,
            key: record.key.map(Vec::from),
            value: record.value.map(Vec::from),
            headers: record.headers.iter().map(|h| (h.key, h.value.map(Vec::from))).collect(),
            routing_hash: row.routing_hash,
            idempotency_key: row.idempotency_key.map(<[u8]>::to_vec),
            fingerprint: row.fingerprint,
            deliver_at: row.deliver_at.map(Timestamp::as_micros),
            time_to_live_us: row.time_to_live_us,
            expectation: row.expectation,
            record_key: row.record_key,
            key_time: row.key_time.map(Timestamp::as_micros),
        })
        .collect()
}

/// A batch that has a bit of everything and is small enough to be damaged in every way.
fn small() -> StoredBatch {
    let rich = Given {
        key: Some(b"k".to_vec()),
        headers: vec![("h".to_owned(), Some(b"1".to_vec())), ("h".to_owned(), None)],
        routing_hash: 99,
        idempotency_key: Some(b"id-1".to_vec()),
        fingerprint: [3; 16],
        time_to_live_us: Some(5),
        ..Given::of(b"first")
    };
    stored(batch_of(&[rich, Given::of(b"second")], Compression::None), Voids::of(2, [1]))
}

proptest! {
    #[test]
    fn what_goes_into_a_batch_comes_out(records in vec(given(), 1..40), compression in compression(), void in any::<u32>()) {
        // given
        let count = u32::try_from(records.len()).unwrap();
        let producer = batch_of(&records, compression);
        let batch = stored(producer, Voids::of(count, [void % count]));
        // when
        let mut bytes = encoded(&batch);
        prop_assert_eq!(bytes.len(), batch.length());
        let decoded = StoredBatch::decode(&mut bytes).unwrap();
        // then
        prop_assert!(bytes.is_empty());
        prop_assert_eq!(&decoded, &batch);
        prop_assert_eq!(decoded.end_offset().since(decoded.base_offset()), records.len() as u64);
        for index in 0..count {
            prop_assert_eq!(decoded.section.voids.contains(index), index == void % count);
        }
        let kept: Vec<Given> = records.iter().map(Given::kept).collect();
        prop_assert_eq!(read_back(&decoded.producer), kept);
        let latest = records.iter().map(|record| record.create_time_ms).max().unwrap();
        prop_assert_eq!(decoded.producer.header().create_time_max.as_micros(), latest * 1000);
    }

    #[test]
    fn a_batch_never_exceeds_its_limit_and_says_its_length_before(
        records in vec(given(), 1..60),
        bytes_max in PRODUCER_HEADER_BYTES..4000,
        compression in compression(),
    ) {
        let mut builder = BatchBuilder::new(bytes_max);
        let mut taken = Vec::new();
        for record in &records {
            let before = (builder.record_count(), builder.length());
            let together = length_together(&taken, record);
            match record.push_to(&mut builder) {
                Ok(number) => {
                    prop_assert_eq!((number, builder.length()), (before.0, together));
                    prop_assert!(together <= bytes_max);
                    taken.push(record);
                }
                Err(error) => {
                    prop_assert_eq!((builder.record_count(), builder.length()), before);
                    // It fits alone exactly if that is what the error says.
                    let alone = record.push_to(&mut BatchBuilder::new(bytes_max));
                    match error {
                        BuildError::Full => prop_assert!(alone.is_ok() && together > bytes_max),
                        error @ (BuildError::TooLarge { .. } | BuildError::TooManyHeaders { .. }) => {
                            prop_assert_eq!(alone, Err(error));
                        }
                    }
                }
            }
        }
        if !builder.is_empty() {
            let length = builder.length();
            let batch = builder.finish(&identity(), compression);
            prop_assert!(batch.length() <= length && length <= bytes_max);
            if batch.header().compression == Compression::None {
                prop_assert_eq!(batch.length(), length);
            }
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..400)) {
        walk(Bytes::from(bytes));
    }

    #[test]
    fn an_arbitrary_body_under_right_checksums_never_panics(
        body in vec(prop_oneof![any::<u8>(), 0u8..16], 7..300),
        record_count in 1u32..12,
        compression in compression(),
    ) {
        let (bytes, uncompressed) = (u32::try_from(body.len()).unwrap(), 4000);
        let header = ProducerHeader {
            compression,
            record_count: record_count.min(bytes / 7),
            body_bytes: bytes,
            uncompressed_bytes: if compression == Compression::None { bytes } else { uncompressed },
            ..*small().producer.header()
        };
        let header = ProducerHeader { table_columns: 0, ..header };
        let batch = ProducerBatch::assemble(header, &body);
        walk(encoded(&stored(batch, Voids::NONE)));
    }
}

/// Length of a batch of these records and one more, found by building it without a limit.
fn length_together(records: &[&Given], another: &Given) -> usize {
    let mut builder = BatchBuilder::new(1 << 20);
    for record in records.iter().copied().chain([another]) {
        record.push_to(&mut builder).unwrap();
    }
    builder.length()
}

/// Decodes as far as it goes, and reads everything there is.
fn walk(mut bytes: Bytes) -> usize {
    let mut records = 0;
    while let Ok(batch) = StoredBatch::decode(&mut bytes) {
        let _end = batch.end_offset();
        records += batch.producer.table().rows().count();
        let Ok(decoded) = batch.producer.records() else { continue };
        for record in decoded.flatten() {
            records += record.headers.iter().count();
            let _time = batch.producer.header().create_time_of(record.timestamp_delta_ms);
        }
    }
    records
}

#[test]
fn every_truncation_is_refused_and_takes_nothing() {
    let whole = encoded(&small());
    for length in 0..whole.len() {
        let mut cut = whole.slice(..length);
        assert!(StoredBatch::decode(&mut cut).is_err(), "cut to {length}");
        assert_eq!(cut.len(), length, "an error leaves the input alone");
        let producer = whole.slice(small().section.length()..);
        if length < producer.len() {
            assert!(
                ProducerBatch::decode(producer.slice(..length)).is_err(),
                "producer part cut to {length}"
            );
        }
    }
}

#[test]
fn every_flipped_bit_is_refused() {
    let whole = encoded(&small());
    for bit in 0..whole.len() * 8 {
        let mut damaged = BytesMut::from(&whole[..]);
        damaged[bit / 8] ^= 1 << (bit % 8);
        let mut damaged = damaged.freeze();
        assert!(StoredBatch::decode(&mut damaged).is_err(), "bit {} of byte {}", bit % 8, bit / 8);
    }
}

#[test]
fn every_flipped_bit_under_right_checksums_is_refused_or_read_without_panic() {
    // given
    let (section, producer) = (small().section, small().producer);
    let section_bytes = section.length();
    let whole = encoded(&small());
    for bit in 0..whole.len() * 8 {
        // when
        let mut damaged = BytesMut::from(&whole[..]);
        damaged[bit / 8] ^= 1 << (bit % 8);
        let checksum = crc32fast::hash(&damaged[section_bytes + 4..]);
        damaged[section_bytes..section_bytes + 4].copy_from_slice(&checksum.to_le_bytes());
        let checksum = crc32fast::hash(&damaged[4..section_bytes]);
        damaged[..4].copy_from_slice(&checksum.to_le_bytes());
        // then
        walk(damaged.freeze());
    }
    assert_eq!(producer.length() + section_bytes, whole.len());
}

/// Changes bytes of the small batch, makes both checksums right again, and says what decoding finds.
fn refusal_after(change: impl FnOnce(&mut [u8], &mut [u8])) -> (usize, Problem) {
    let section_bytes = small().section.length();
    let mut bytes = BytesMut::from(&encoded(&small())[..]);
    let (section, producer) = bytes.split_at_mut(section_bytes);
    change(section, producer);
    let checksum = crc32fast::hash(&producer[4..]);
    producer[..4].copy_from_slice(&checksum.to_le_bytes());
    let checksum = crc32fast::hash(&section[4..]);
    section[..4].copy_from_slice(&checksum.to_le_bytes());
    let error = StoredBatch::decode(&mut bytes.freeze()).unwrap_err();
    (error.position, error.problem)
}

#[test]
fn an_error_says_at_which_byte_what_is_wrong() {
    let at = |position: usize| small().section.length() + position;
    let version = Problem::Mismatch { what: "batch version", value: 2, expected: 1 };
    assert_eq!(refusal_after(|_, producer| producer[4] = 2), (at(4), version));
    let compression = Problem::Invalid { what: "compression", value: 2 };
    assert_eq!(refusal_after(|_, producer| producer[5] = 2), (at(5), compression));
    let attributes = Problem::Invalid { what: "attributes", value: 1 };
    assert_eq!(refusal_after(|_, producer| producer[6] = 1), (at(6), attributes));
    let empty = Problem::Invalid { what: "record count", value: 0 };
    assert_eq!(refusal_after(|_, producer| producer[12] = 0), (at(12), empty));
    let delta = Problem::Mismatch { what: "last offset delta", value: 9, expected: 1 };
    assert_eq!(refusal_after(|_, producer| producer[16] = 9), (at(16), delta));
    let columns = Problem::Invalid { what: "table columns", value: 0x117 };
    let table = small().producer.header().body_bytes as usize + PRODUCER_HEADER_BYTES;
    assert_eq!(refusal_after(|_, producer| producer[29] |= 0x01), (at(table), columns));
    let key = Problem::TooLarge { what: "idempotency key length", value: 65, max: 64 };
    assert_eq!(refusal_after(|_, producer| producer[table + 16] = 65), (at(table + 16), key));
    let extension = Problem::Mismatch { what: "broker section flags", value: 3, expected: 1 };
    assert_eq!(refusal_after(|section, _| section[31] = 3), (31, extension));
    let short = Problem::Invalid { what: "batch length", value: 32 };
    assert_eq!(refusal_after(|section, _| section[4..8].copy_from_slice(&[32, 0, 0, 0])), (4, short));
    let offset = Problem::TooLarge { what: "base offset", value: (1 << 63) + 1_000_000, max: NUMBER_MAX };
    assert_eq!(refusal_after(|section, _| section[15] = 0x80), (8, offset));
    let producer_bytes = small().producer.length();
    let length = Problem::Truncated { needed: producer_bytes + 1, available: producer_bytes };
    assert_eq!(refusal_after(|section, _| section[4] += 1), (small().section.length(), length));
}

#[test]
fn a_header_that_cannot_be_true_is_refused_before_anything_is_believed() {
    let refusal = |at: usize, number: u32| {
        let mut bytes = small().producer.bytes().to_vec();
        bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
        let error = ProducerBatch::peek_length(&bytes).unwrap_err();
        (error.position, error.problem)
    };
    // Shorter than its own header; more records than the body has room for.
    assert_eq!(refusal(8, 95), (8, Problem::Invalid { what: "batch length", value: 95 }));
    let body_bytes = small().producer.header().uncompressed_bytes;
    let count = body_bytes / 7 + 1;
    let mut bytes = small().producer.bytes().to_vec();
    bytes[12..16].copy_from_slice(&count.to_le_bytes());
    bytes[16..20].copy_from_slice(&(count - 1).to_le_bytes());
    let (value, max) = (u64::from(count), u64::from(count - 1));
    let problem = Problem::TooLarge { what: "record count", value, max };
    assert_eq!(ProducerBatch::peek_length(&bytes).map_err(|error| error.problem), Err(problem));
    assert_eq!(ProducerBatch::peek_length(small().producer.bytes()), Ok(small().producer.length()));
}

#[test]
fn a_record_that_fits_the_next_batch_is_not_called_too_large() {
    // given: a batch so far on that offset deltas take two bytes
    let small = RecordInput::default();
    let value = [0; 1000];
    let large = RecordInput { value: Some(&value), ..small };
    let mut alone = BatchBuilder::new(1 << 20);
    alone.push(&large).unwrap();
    let mut builder = BatchBuilder::new(alone.length());
    for _ in 0..70 {
        builder.push(&small).unwrap();
    }
    // when, then: it fits a batch of its own to the byte
    assert_eq!(builder.push(&large), Err(BuildError::Full));
    let mut shorter = BatchBuilder::new(alone.length() - 1);
    let too_large = BuildError::TooLarge { bytes: alone.length(), max: alone.length() - 1 };
    assert_eq!(shorter.push(&large), Err(too_large));
}

#[test]
fn bytes_behind_a_record_or_the_last_one_are_refused() {
    let whole = [0x0c, 0, 0, 0, 1, 1, 0];
    let behind_headers = [0x0e, 0, 0, 0, 1, 1, 0, 9];
    let behind_last = [0x0c, 0, 0, 0, 1, 1, 0, 9];
    for (body, expected) in [(&whole[..], None), (&behind_headers, Some(7)), (&behind_last, Some(7))] {
        let bytes = u32::try_from(body.len()).unwrap();
        let header = ProducerHeader {
            record_count: 1,
            body_bytes: bytes,
            uncompressed_bytes: bytes,
            table_columns: 0,
            ..*small().producer.header()
        };
        let first = ProducerBatch::assemble(header, body).records().unwrap().next().unwrap();
        let error = first.err().map(|error| (error.position, error.problem));
        assert_eq!(error, expected.map(|position| (position, Problem::Trailing(1))), "{body:x?}");
    }
}

#[test]
fn a_bitmap_of_another_length_than_the_records_demand_is_refused() {
    let three = Voids::of(17, [16]);
    let mut bytes = encoded(&stored(small().producer, three));
    let error = StoredBatch::decode(&mut bytes).unwrap_err();
    assert_eq!(error.problem, Problem::Mismatch { what: "extension length", value: 3, expected: 1 });
}

#[test]
fn errors_in_the_body_count_from_its_start() {
    // given: a body whose second record claims to be the third
    let batch = batch_of(&[Given::of(b"a"), Given::of(b"b")], Compression::None);
    let mut body = batch.body().to_vec();
    let second = body.len() / 2;
    assert_eq!(body[second + 3], 2, "the offset delta 1 in zigzag form");
    body[second + 3] = 4;
    let header = ProducerHeader { ..*batch.header() };
    // when
    let mut records = ProducerBatch::assemble(header, &body).records().unwrap();
    // then
    assert!(records.next().unwrap().is_ok());
    let error = records.next().unwrap().unwrap_err();
    assert_eq!(error.position, second + 3);
    assert_eq!(error.problem, Problem::Mismatch { what: "offset delta", value: 2, expected: 1 });
    assert!(records.next().is_none(), "the iterator ends at the first error");
}

#[test]
fn a_compressed_body_of_another_length_than_it_says_is_refused() {
    let value = vec![b'x'; 1000];
    for compression in [Compression::Lz4, Compression::Zstd] {
        let batch = batch_of(&[Given::of(&value)], compression);
        assert_eq!(batch.header().compression, compression, "the body got smaller");
        for uncompressed_bytes in
            [7, batch.header().uncompressed_bytes - 1, batch.header().uncompressed_bytes + 1]
        {
            let header = ProducerHeader { uncompressed_bytes, ..*batch.header() };
            let error = ProducerBatch::assemble(header, &batch.body()).records().unwrap_err();
            assert_eq!(error.problem, Problem::Compression(compression.name()));
        }
    }
}

#[test]
fn a_body_that_compression_would_not_shrink_stays_as_it_is() {
    let batch = batch_of(&[Given::of(b"short")], Compression::Zstd);
    assert_eq!(batch.header().compression, Compression::None);
}

#[test]
fn another_identity_changes_nothing_but_the_identity() {
    let batch = small().producer;
    let again = batch.reassigned(Epoch::new(4), Sequence::new(0));
    assert_eq!(read_back(&again), read_back(&batch));
    let expected =
        ProducerHeader { producer_epoch: Epoch::new(4), sequence: Sequence::new(0), ..*batch.header() };
    assert_eq!(*again.header(), expected);
    assert_eq!(ProducerBatch::decode(again.bytes().clone()), Ok(again));
}

#[test]
fn a_table_is_there_only_if_a_record_needs_it() {
    let plain = Given { routing_hash: 5, fingerprint: [1; 16], ..Given::of(b"v") };
    assert_eq!(batch_of(std::slice::from_ref(&plain), Compression::None).header().table_columns, 0);
    let delayed = Given { deliver_at: Some(9), ..Given::of(b"v") };
    let batch = batch_of(&[plain, delayed], Compression::None);
    assert_eq!(batch.header().table_columns, 8);
    let rows: Vec<_> = batch.table().rows().map(|row| row.deliver_at).collect();
    assert_eq!(rows, [None, Some(Timestamp::from_micros(9))]);
}

#[test]
fn a_batch_takes_the_limit_of_records_and_no_more() {
    let mut builder = BatchBuilder::new(1 << 20);
    let empty = RecordInput::default();
    for number in 0..BATCH_RECORDS_MAX {
        assert_eq!(builder.push(&empty), Ok(number));
    }
    assert_eq!(builder.push(&empty), Err(BuildError::Full));
    let batch = builder.finish(&identity(), Compression::None);
    let last = batch.records().unwrap().last().unwrap().unwrap();
    assert_eq!(last.offset_delta, BATCH_RECORDS_MAX - 1);
}

#[test]
fn too_many_headers_are_refused_when_building_and_when_reading() {
    let headers = vec![("", None); RECORD_HEADERS_MAX + 1];
    let mut builder = BatchBuilder::new(1 << 20);
    let input = RecordInput { headers: &headers, ..RecordInput::default() };
    let refusal = BuildError::TooManyHeaders { count: RECORD_HEADERS_MAX + 1, max: RECORD_HEADERS_MAX };
    assert_eq!(builder.push(&input), Err(refusal));
    let most = RecordInput { headers: &headers[1..], ..RecordInput::default() };
    assert_eq!(builder.push(&most), Ok(0));
    let batch = builder.finish(&identity(), Compression::None);
    let record = batch.records().unwrap().next().unwrap().unwrap();
    assert_eq!(record.headers.iter().count(), RECORD_HEADERS_MAX);
}

#[test]
fn lengths_that_cannot_be_are_refused_before_anything_is_taken() {
    // A value that says it has 2^62 bytes, a key of length -2, a record longer than the body.
    let bodies: [&[u8]; 3] = [
        &[0x1e, 0, 0, 0, 1, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 0, 0],
        &[0x0c, 0, 0, 0, 3, 0, 0],
        &[0x7e, 0, 0, 0, 1, 1, 0],
    ];
    for body in bodies {
        let bytes = u32::try_from(body.len()).unwrap();
        let mut builder = BatchBuilder::new(1000);
        builder.push(&RecordInput::default()).unwrap();
        let header = *builder.finish(&identity(), Compression::None).header();
        let header = ProducerHeader { body_bytes: bytes, uncompressed_bytes: bytes, ..header };
        let mut records = ProducerBatch::assemble(header, body).records().unwrap();
        assert!(records.next().unwrap().is_err(), "{body:x?}");
    }
}

/// Bodies made by Kafka's own record encoding (kafka-python 2, magic 2), to be met byte for byte.
#[test]
fn bodies_are_those_of_kafkas_records() {
    let record =
        |create_time_ms, key: Option<&[u8]>, value: Option<&[u8]>, headers: &[(&str, Option<&[u8]>)]| {
            let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), value.map(<[u8]>::to_vec)));
            Given {
                create_time_ms,
                key: key.map(<[u8]>::to_vec),
                value: value.map(<[u8]>::to_vec),
                headers: headers.collect(),
                ..Given::default()
            }
        };
    let at = 1_700_000_000_000;
    let plain = [record(at, None, Some(b"hello"), &[])];
    assert_eq!(hex(&batch_of(&plain, Compression::None).body()), "16000000010a68656c6c6f00");
    let varied = [
        record(at, Some(b"k"), Some(b"v"), &[("h", Some(b"1")), ("h", None)]),
        record(at + 5, Some(b""), Some(b""), &[]),
        record(at - 10, Some(b"key"), None, &[("", Some(b""))]),
    ];
    let expected = "1e000000026b027604026802310268010c000a0200000016001304066b657901020000";
    assert_eq!(hex(&batch_of(&varied, Compression::None).body()), expected);
    let name = format!("name-{}", "n".repeat(60));
    let long = [
        record(0, None, Some(&[b'x'; 64]), &[]),
        record(70_000, Some(&[b'y'; 63]), Some(&[b'z'; 200]), &[(name.as_str(), Some(&[b'w'; 8192]))]),
    ];
    let body = batch_of(&long, Compression::None).body();
    assert_eq!((body.len(), xxh3_64(&body)), (8610, 0x6b63_196d_542b_69c8));
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn moments_beyond_the_calendar_stay_at_its_end() {
    let header =
        ProducerHeader { create_time: Timestamp::from_micros(i64::MAX - 1), ..*small().producer.header() };
    assert_eq!(header.create_time_of(i64::MAX).as_micros(), i64::MAX);
    assert_eq!(header.create_time_of(i64::MIN).as_micros(), -2);
}
