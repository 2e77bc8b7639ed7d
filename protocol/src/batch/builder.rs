//! Makes batches, record by record, without an allocation for each.

use bytes::BufMut;
use thiserror::Error;

use crate::batch::{
    Compression, Expectation, PRODUCER_HEADER_BYTES, ProducerBatch, ProducerHeader, TableBuilder, TableRow,
};
use crate::limits::{BATCH_BYTES_LIMIT, BATCH_RECORDS_MAX, RECORD_HEADERS_MAX};
use crate::units::{Epoch, PartitionKey, ProducerId, Sequence, Timestamp};
use crate::write::{Write, zigzag_len};

/// One record to be put into a batch.
#[derive(Clone, Copy, Debug, Default)]
pub struct RecordInput<'a> {
    /// When it was made. Kept to the millisecond.
    pub create_time: Timestamp,
    /// What it is about.
    pub key: Option<&'a [u8]>,
    /// Its payload.
    pub value: Option<&'a [u8]>,
    /// Named values beside the payload.
    pub headers: &'a [(&'a str, Option<&'a [u8]>)],
    /// What the broker must know of it beside the body.
    pub row: TableRow<'a>,
}

/// Why a record does not fit into a batch.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum BuildError {
    /// The batch has no room left; the record may fit into the next.
    #[error("the batch is full")]
    Full,
    /// The record fits no batch.
    #[error("a batch of this record alone takes {bytes} bytes, the limit is {max}")]
    TooLarge {
        /// Bytes a batch of this record alone would take.
        bytes: usize,
        /// Bytes a batch may take.
        max: usize,
    },
    /// The record has too many headers.
    #[error("{count} headers exceed the limit of {max}")]
    TooManyHeaders {
        /// How many it has.
        count: usize,
        /// How many it may have.
        max: usize,
    },
}

/// Who sends a batch, whereto, and its number.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BatchIdentity {
    /// Who sends it.
    pub producer: ProducerId,
    /// The producer's generation.
    pub producer_epoch: Epoch,
    /// Its number among the batches of that producer and partition.
    pub sequence: Sequence,
    /// Where it goes.
    pub partition: PartitionKey,
}

/// Collects records into the body of one batch of at most a given size.
#[derive(Debug)]
pub struct BatchBuilder {
    /// Space for the header, then the body.
    bytes: Vec<u8>,
    table: TableBuilder,
    bytes_max: usize,
    record_count: u32,
    create_time_ms: i64,
    create_time_max_ms: i64,
}

impl BatchBuilder {
    /// A builder of batches whose producer part takes at most `bytes_max` bytes.
    ///
    /// # Panics
    /// If `bytes_max` exceeds [`BATCH_BYTES_LIMIT`].
    pub fn new(bytes_max: usize) -> Self {
        Self::with_buffer(bytes_max, Vec::new())
    }

    /// As [`BatchBuilder::new`], in memory that is already there.
    ///
    /// # Panics
    /// If `bytes_max` exceeds [`BATCH_BYTES_LIMIT`].
    pub fn with_buffer(bytes_max: usize, mut buffer: Vec<u8>) -> Self {
        assert!(bytes_max <= BATCH_BYTES_LIMIT as usize, "a batch must fit the format");
        buffer.clear();
        buffer.resize(PRODUCER_HEADER_BYTES, 0);
        Self {
            bytes: buffer,
            table: TableBuilder::default(),
            bytes_max,
            record_count: 0,
            create_time_ms: 0,
            create_time_max_ms: 0,
        }
    }

    /// Records in the batch so far.
    pub const fn record_count(&self) -> u32 {
        self.record_count
    }

    /// Whether no record is in the batch.
    pub const fn is_empty(&self) -> bool {
        self.record_count == 0
    }

    /// Bytes the batch takes so far, uncompressed.
    pub const fn length(&self) -> usize {
        self.bytes.len() + self.table.length()
    }

    /// Adds a record and returns its number in the batch.
    ///
    /// # Errors
    /// The reason why it does not fit; the batch is then unchanged.
    ///
    /// # Panics
    /// If the row's idempotency key is empty or too long: callers check it first.
    pub fn push(&mut self, record: &RecordInput<'_>) -> Result<u32, BuildError> {
        if record.headers.len() > RECORD_HEADERS_MAX {
            return Err(BuildError::TooManyHeaders { count: record.headers.len(), max: RECORD_HEADERS_MAX });
        }
        let create_time_ms = record.create_time.as_micros().div_euclid(1000);
        let base_ms = if self.is_empty() { create_time_ms } else { self.create_time_ms };
        let delta_ms = create_time_ms - base_ms;
        let inner = inner_length(record, delta_ms, self.record_count);
        let outer = inner + zigzag_len(signed(inner));
        let length = self.bytes.len() + outer + self.table.length_with(&record.row);
        // It names the offset of its batch.
        let must_be_first = matches!(record.row.expectation, Some(Expectation::PartitionAt(_)));
        let has_room = self.record_count < BATCH_RECORDS_MAX && (self.is_empty() || !must_be_first);
        if length > self.bytes_max || !has_room {
            return Err(self.refusal(record));
        }
        self.table.push(&record.row);
        self.bytes.reserve(outer);
        encode(&mut self.bytes, record, delta_ms, self.record_count, inner);
        self.create_time_ms = base_ms;
        self.create_time_max_ms =
            if self.is_empty() { create_time_ms } else { self.create_time_max_ms.max(create_time_ms) };
        self.record_count += 1;
        Ok(self.record_count - 1)
    }

    /// Why a record that does not fit here does not: because of the others, or for good.
    fn refusal(&self, record: &RecordInput<'_>) -> BuildError {
        let inner = inner_length(record, 0, 0);
        let row = TableBuilder::default().length_with(&record.row);
        let alone = PRODUCER_HEADER_BYTES + inner + zigzag_len(signed(inner)) + row;
        if alone > self.bytes_max {
            BuildError::TooLarge { bytes: alone, max: self.bytes_max }
        } else {
            BuildError::Full
        }
    }

    /// Ends the batch. The bytes that come out are the ones that will be sent, stored and delivered.
    ///
    /// A body that compression would not make smaller stays as it is.
    ///
    /// # Panics
    /// If the batch is empty.
    pub fn finish(self, identity: &BatchIdentity, compression: Compression) -> ProducerBatch {
        assert!(!self.is_empty(), "a batch has at least one record");
        let mut bytes = self.bytes;
        let uncompressed = bytes.len() - PRODUCER_HEADER_BYTES;
        let (_, body) = bytes.split_at(PRODUCER_HEADER_BYTES);
        let mut used = Compression::None;
        if let Some(compressed) = compression.compress(body) {
            bytes.truncate(PRODUCER_HEADER_BYTES);
            bytes.extend_from_slice(&compressed);
            used = compression;
        }
        let body_bytes = bytes.len() - PRODUCER_HEADER_BYTES;
        self.table.encode(&mut bytes);
        let header = ProducerHeader {
            compression: used,
            record_count: self.record_count,
            body_bytes: u32::try_from(body_bytes).expect("limited by bytes_max"),
            uncompressed_bytes: u32::try_from(uncompressed).expect("limited by bytes_max"),
            table_columns: self.table.columns(),
            schema: 0,
            encryption_key: 0,
            create_time: Timestamp::from_micros(self.create_time_ms.saturating_mul(1000)),
            create_time_max: Timestamp::from_micros(self.create_time_max_ms.saturating_mul(1000)),
            producer: identity.producer,
            producer_epoch: identity.producer_epoch,
            sequence: identity.sequence,
            partition: identity.partition,
        };
        ProducerBatch::seal(header, bytes)
    }
}

fn signed(length: usize) -> i64 {
    i64::try_from(length).expect("lengths in memory fit 63 bits")
}

fn optional_length(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(1, |bytes| zigzag_len(signed(bytes.len())) + bytes.len())
}

/// Length of a record without the length in front of it.
fn inner_length(record: &RecordInput<'_>, delta_ms: i64, offset_delta: u32) -> usize {
    let mut length = 1
        + zigzag_len(delta_ms)
        + zigzag_len(i64::from(offset_delta))
        + optional_length(record.key)
        + optional_length(record.value)
        + zigzag_len(signed(record.headers.len()));
    for (key, value) in record.headers {
        length += optional_length(Some(key.as_bytes())) + optional_length(*value);
    }
    length
}

fn put_optional(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => out.put_zigzag(-1),
        Some(bytes) => {
            out.put_zigzag(signed(bytes.len()));
            out.extend_from_slice(bytes);
        }
    }
}

fn encode(out: &mut Vec<u8>, record: &RecordInput<'_>, delta_ms: i64, offset_delta: u32, inner: usize) {
    out.put_zigzag(signed(inner));
    out.put_u8(0);
    out.put_zigzag(delta_ms);
    out.put_zigzag(i64::from(offset_delta));
    put_optional(out, record.key);
    put_optional(out, record.value);
    out.put_zigzag(signed(record.headers.len()));
    for (key, value) in record.headers {
        put_optional(out, Some(key.as_bytes()));
        put_optional(out, *value);
    }
}
