//! Batches: whatever a producer says of them, nothing breaks, and reading them takes no more memory than they say.
//!
//! The first byte of an input chooses what the rest is: a batch as it came, a batch whose length and checksum are made right so
//! that the rest of it is looked at, or records that are made into the body of a batch, compressed or not.

use bytes::Bytes;
use harness::fuzz::{Choices, outcome};
use weir_protocol::DecodeError;
use weir_protocol::batch::{
    BatchBuilder, BatchIdentity, Compression, PRODUCER_HEADER_BYTES, ProducerBatch, RecordInput, StoredBatch,
};
use weir_protocol::units::{Epoch, PartitionId, PartitionKey, ProducerId, Sequence, TopicId};

use crate::kind;

/// Where the header says how long the whole is, how many records there are, and how long the body is, before and after.
const TOTAL_AT: usize = 8;
const COUNT_AT: usize = 12;
const BODY_AT: usize = 20;
const UNCOMPRESSED_AT: usize = 24;
const COMPRESSION_AT: usize = 5;

pub(crate) fn check(input: &[u8]) -> u64 {
    let mut choices = Choices::new(input);
    let how = choices.byte() % 4;
    let bytes = match how {
        0 => choices.rest().to_vec(),
        1 => sealed(choices.rest().to_vec()),
        2 => match around(&mut choices) {
            Some(bytes) => bytes,
            None => return 0,
        },
        _ => {
            let stored = StoredBatch::decode(&mut Bytes::copy_from_slice(choices.rest()));
            return outcome((how, stored.map(|batch| batch.length()).map_err(|error| kind(&error))));
        }
    };
    let reached = ProducerBatch::decode(Bytes::from(bytes))
        .map_err(|error| kind(&error))
        .and_then(|batch| read(&batch).map_err(|error| kind(&error)));
    outcome((how, reached))
}

/// Reads everything there is to a batch. Gives about how much that was.
fn read(batch: &ProducerBatch) -> Result<(u32, bool), DecodeError> {
    let header = *batch.header();
    assert_eq!(batch.table().rows().count(), header.record_count as usize, "each record has a row");
    let (mut count, mut bytes) = (0, 0);
    for record in batch.records()? {
        let record = record?;
        count += 1;
        bytes += record.key.map_or(0, |key| key.len()) + record.value.map_or(0, |value| value.len());
        bytes += record.headers.iter().map(|header| header.key.len()).sum::<usize>();
    }
    assert!(count <= header.record_count, "more records than the header says");
    assert!(bytes <= header.uncompressed_bytes as usize, "more bytes than the header says");
    let again = batch.reassigned(Epoch::new(7), Sequence::new(9));
    assert_eq!(again.body(), batch.body(), "another identity changes nothing else");
    Ok((count.min(3), header.table_columns == 0))
}

fn put(bytes: &mut [u8], at: usize, number: u32) {
    if let Some(place) = bytes.get_mut(at..at + 4) {
        place.copy_from_slice(&number.to_le_bytes());
    }
}

/// The same with its length and its checksum made right.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).expect("inputs are short");
    put(&mut bytes, TOTAL_AT, length);
    let checksum = crc32fast::hash(bytes.get(4..).unwrap_or_default());
    put(&mut bytes, 0, checksum);
    bytes
}

/// A batch whose body is the rest of the input, with what the header says of it chosen by the input.
fn around(choices: &mut Choices<'_>) -> Option<Vec<u8>> {
    let compression = choices.byte();
    let (count, claimed, repeat) = (choices.byte(), choices.short(), choices.byte());
    // A body that is repeated is one that becomes very small.
    let body = choices.rest().repeat(1 << (repeat % 12));
    if body.len() > 1 << 20 {
        return None;
    }
    let packed = match compression % 5 {
        0 => body.clone(),
        1 => compressed(&body, Compression::Lz4)?,
        2 => compressed(&body, Compression::Zstd)?,
        // Said to be compressed, and not.
        _ => body.clone(),
    };
    let code = [0, 3, 4, 3, 4][usize::from(compression % 5)];
    let mut builder = BatchBuilder::new(1 << 20);
    builder.push(&RecordInput::default()).expect("an empty record fits");
    let empty = builder.finish(&identity(), Compression::None);
    let mut bytes = empty.bytes().get(..PRODUCER_HEADER_BYTES)?.to_vec();
    bytes.extend_from_slice(&packed);
    let records = u32::from(count) + 1;
    let length = u32::try_from(packed.len()).ok()?;
    bytes[COMPRESSION_AT] = code;
    put(&mut bytes, COUNT_AT, records);
    put(&mut bytes, COUNT_AT + 4, records - 1);
    put(&mut bytes, BODY_AT, length);
    let whole = u32::try_from(body.len()).ok()?;
    put(&mut bytes, UNCOMPRESSED_AT, if claimed.is_multiple_of(4) { whole } else { u32::from(claimed) });
    Some(sealed(bytes))
}

/// A body as a producer would compress it: the value of one record, taken out again.
fn compressed(body: &[u8], compression: Compression) -> Option<Vec<u8>> {
    match compression {
        Compression::None => Some(body.to_vec()),
        Compression::Lz4 => {
            use std::io::Write as _;
            let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
            encoder.write_all(body).ok()?;
            encoder.finish().ok()
        }
        Compression::Zstd => zstd::bulk::compress(body, 1).ok(),
    }
}

const fn identity() -> BatchIdentity {
    BatchIdentity {
        producer: ProducerId::new(1),
        producer_epoch: Epoch::ZERO,
        sequence: Sequence::ZERO,
        partition: PartitionKey { topic: TopicId::from_bytes([1; 16]), partition: PartitionId::ZERO },
    }
}

/// Golden batches in each way, and bodies that become very large.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let golden = crate::golden();
    let batches = golden.iter().filter(|bytes| bytes.len() > PRODUCER_HEADER_BYTES);
    let mut seeds: Vec<Vec<u8>> =
        batches.flat_map(|bytes| (0..4).map(|how| [&[how], &bytes[..]].concat())).collect();
    for compression in 0..5 {
        for (count, claimed, repeat) in [(0, 4u8, 0), (2, 0, 11), (255, 255, 11), (9, 1, 3)] {
            let mut seed = vec![2, compression, count, claimed, claimed, repeat];
            seed.extend([14, 0, 0, 0, 2, 1, 6, 97, 98, 99, 0]);
            seed.extend([0; 64]);
            seeds.push(seed);
        }
    }
    seeds
}
