//! The producer part of a batch: its header, and the whole as validated bytes.

use bytes::{BufMut, Bytes};

use crate::batch::{BatchIdentity, Compression, RecordTable, Records};
use crate::error::{DecodeError, Problem};
use crate::limits::{BATCH_BYTES_LIMIT, BATCH_RECORDS_MAX, RECORD_BODY_BYTES_MIN};
use crate::read::Reader;
use crate::units::{Epoch, PartitionId, PartitionKey, ProducerId, Sequence, Timestamp, TopicId};

/// Length of the producer header.
pub const PRODUCER_HEADER_BYTES: usize = 96;

/// Version of the batch format.
const VERSION: u8 = 1;

/// Bytes the checksum does not cover: itself.
const CHECKSUM_BYTES: usize = 4;

/// Attribute bits a producer may set. The transactional (1) and control (2) bits are reserved.
const ATTRIBUTES_KNOWN: u16 = 0;

/// What the producer says about a batch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ProducerHeader {
    /// How the body is compressed.
    pub compression: Compression,
    /// Records in the batch; their offset deltas are `0..record_count`.
    pub record_count: u32,
    /// Bytes of the body as it stands in the batch.
    pub body_bytes: u32,
    /// Bytes of the body once decompressed. Equal to `body_bytes` without compression.
    pub uncompressed_bytes: u32,
    /// Which columns the record table has, as a bit set; 0 for no table.
    pub table_columns: u16,
    /// Reserved: identity of the schema of the values. 0 for none.
    pub schema: u32,
    /// Reserved: identity of the key the body is encrypted with. 0 for none.
    pub encryption_key: u32,
    /// When the first record was made; the records' timestamp deltas count from here. A whole millisecond.
    pub create_time: Timestamp,
    /// The latest time any record of the batch was made.
    pub create_time_max: Timestamp,
    /// Who made it.
    pub producer: ProducerId,
    /// The producer's generation.
    pub producer_epoch: Epoch,
    /// Its number among the batches of that producer and partition.
    pub sequence: Sequence,
    /// The partition it is for.
    pub partition: PartitionKey,
}

impl ProducerHeader {
    /// Writes the header, with `checksum` in front.
    pub(crate) fn encode(&self, total_bytes: u32, checksum: u32, out: &mut impl BufMut) {
        out.put_u32_le(checksum);
        out.put_u8(VERSION);
        out.put_u8(self.compression.code());
        out.put_u16_le(0);
        out.put_u32_le(total_bytes);
        out.put_u32_le(self.record_count);
        out.put_u32_le(self.record_count - 1);
        out.put_u32_le(self.body_bytes);
        out.put_u32_le(self.uncompressed_bytes);
        out.put_u16_le(self.table_columns);
        out.put_u16_le(0);
        out.put_u32_le(self.schema);
        out.put_u32_le(self.encryption_key);
        out.put_i64_le(self.create_time.as_micros());
        out.put_i64_le(self.create_time_max.as_micros());
        out.put_u64_le(self.producer.get());
        out.put_u64_le(self.sequence.get());
        out.put_u32_le(self.producer_epoch.get());
        out.put_u32_le(self.partition.partition.get());
        out.put_slice(&self.partition.topic.to_bytes());
    }

    /// When a record of the batch was made, from its delta. Moments that cannot be expressed become the nearest
    /// that can: a producer may write any delta.
    pub const fn create_time_of(&self, timestamp_delta_ms: i64) -> Timestamp {
        self.create_time.saturating_add_micros(timestamp_delta_ms.saturating_mul(1000))
    }

    /// Reads a header and checks that its fields make sense together. Returns it with the length of the whole
    /// producer part and the checksum that should fit it.
    fn decode(reader: &mut Reader<'_>) -> Result<(Self, usize, u32), DecodeError> {
        let checksum = reader.u32()?;
        expect_value(reader, "batch version", u64::from(VERSION), |r| r.u8().map(u64::from))?;
        let compression = Compression::decode(reader)?;
        let attributes_at = reader.position();
        let attributes = reader.u16()?;
        if attributes & !ATTRIBUTES_KNOWN != 0 {
            let problem = Problem::Invalid { what: "attributes", value: u64::from(attributes) };
            return Err(DecodeError::new(attributes_at, problem));
        }
        let total_at = reader.position();
        let total_bytes = bounded(reader, "batch length", BATCH_BYTES_LIMIT)?;
        if (total_bytes as usize) < PRODUCER_HEADER_BYTES {
            let problem = Problem::Invalid { what: "batch length", value: u64::from(total_bytes) };
            return Err(DecodeError::new(total_at, problem));
        }
        let count_at = reader.position();
        let record_count = bounded(reader, "record count", BATCH_RECORDS_MAX)?;
        if record_count == 0 {
            return Err(DecodeError::new(count_at, Problem::Invalid { what: "record count", value: 0 }));
        }
        expect_value(reader, "last offset delta", u64::from(record_count) - 1, |r| r.u32().map(u64::from))?;
        let lengths_at = reader.position();
        let body_bytes = bounded(reader, "body length", total_bytes)?;
        let uncompressed_bytes = bounded(reader, "uncompressed length", BATCH_BYTES_LIMIT)?;
        let records_max = uncompressed_bytes / RECORD_BODY_BYTES_MIN;
        if record_count > records_max {
            let problem = Problem::TooLarge {
                what: "record count",
                value: u64::from(record_count),
                max: u64::from(records_max),
            };
            return Err(DecodeError::new(count_at, problem));
        }
        if compression == Compression::None && uncompressed_bytes != body_bytes {
            let problem = Problem::Mismatch {
                what: "uncompressed length",
                value: u64::from(uncompressed_bytes),
                expected: u64::from(body_bytes),
            };
            return Err(DecodeError::new(lengths_at + 4, problem));
        }
        let table_columns = reader.u16()?;
        expect_value(reader, "reserved field", 0, |r| r.u16().map(u64::from))?;
        let header = Self {
            compression,
            record_count,
            body_bytes,
            uncompressed_bytes,
            table_columns,
            schema: reader.u32()?,
            encryption_key: reader.u32()?,
            create_time: Timestamp::from_micros(reader.i64()?),
            create_time_max: Timestamp::from_micros(reader.i64()?),
            producer: ProducerId::new(reader.u64()?),
            sequence: reader.sequence()?,
            producer_epoch: Epoch::new(reader.u32()?),
            partition: {
                let partition = PartitionId::new(reader.u32()?);
                PartitionKey { topic: TopicId::from_bytes(reader.bytes16()?), partition }
            },
        };
        Ok((header, total_bytes as usize, checksum))
    }
}

/// Reads a number that has only one right value.
fn expect_value(
    reader: &mut Reader<'_>,
    what: &'static str,
    expected: u64,
    read: impl FnOnce(&mut Reader<'_>) -> Result<u64, DecodeError>,
) -> Result<(), DecodeError> {
    let at = reader.position();
    let value = read(reader)?;
    if value == expected {
        return Ok(());
    }
    Err(DecodeError::new(at, Problem::Mismatch { what, value, expected }))
}

/// Reads a number of four bytes that must not exceed `max`.
fn bounded(reader: &mut Reader<'_>, what: &'static str, max: u32) -> Result<u32, DecodeError> {
    let at = reader.position();
    let value = reader.u32()?;
    if value <= max {
        return Ok(value);
    }
    Err(DecodeError::new(at, Problem::TooLarge { what, value: u64::from(value), max: u64::from(max) }))
}

/// The producer part of a batch: structure and checksum have been verified.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ProducerBatch {
    header: ProducerHeader,
    bytes: Bytes,
}

impl ProducerBatch {
    /// Verifies `bytes`, which must be exactly one producer part.
    ///
    /// The records in the body are not looked at: a broker stores bodies it cannot read.
    ///
    /// # Errors
    /// What is wrong, and at which byte.
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let batch = Self::decode_unchecked(bytes)?;
        batch.verify()?;
        Ok(batch)
    }

    /// As [`ProducerBatch::decode`], without computing the checksum: for bytes whose integrity is covered by
    /// something else.
    ///
    /// # Errors
    /// What is wrong with the structure, and at which byte.
    pub fn decode_unchecked(bytes: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(&bytes);
        let (header, total_bytes, _) = ProducerHeader::decode(&mut reader)?;
        if total_bytes != bytes.len() {
            let problem = Problem::Mismatch {
                what: "batch length",
                value: total_bytes as u64,
                expected: bytes.len() as u64,
            };
            return Err(DecodeError::new(8, problem));
        }
        reader.take(header.body_bytes as usize)?;
        let table_at = reader.position();
        RecordTable::decode(header.table_columns, header.record_count, reader.rest())
            .map_err(|error| error.shifted(table_at))?;
        Ok(Self { header, bytes })
    }

    /// How long the producer part at the start of `bytes` says it is. At least the header must be there.
    ///
    /// # Errors
    /// If the header makes no sense.
    pub fn peek_length(bytes: &[u8]) -> Result<usize, DecodeError> {
        let (_, total_bytes, _) = ProducerHeader::decode(&mut Reader::new(bytes))?;
        Ok(total_bytes)
    }

    /// Computes the checksum.
    ///
    /// # Errors
    /// [`Problem::Checksum`] if it is not the stored one.
    pub fn verify(&self) -> Result<(), DecodeError> {
        let mut reader = Reader::new(&self.bytes);
        let stored = reader.u32()?;
        let computed = crc32fast::hash(reader.rest());
        if stored == computed {
            return Ok(());
        }
        Err(DecodeError::new(0, Problem::Checksum { what: "producer part", stored, computed }))
    }

    /// What the producer says about the batch.
    pub const fn header(&self) -> &ProducerHeader {
        &self.header
    }

    /// The bytes, as the producer made them.
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Length of the producer part in bytes.
    pub fn length(&self) -> usize {
        self.bytes.len()
    }

    /// The body as it stands in the batch: compressed, if it is.
    pub fn body(&self) -> Bytes {
        self.bytes.slice(PRODUCER_HEADER_BYTES..self.body_end())
    }

    /// What is known of single records without reading the body.
    ///
    /// # Panics
    /// Never: the table was verified when the batch was decoded.
    pub fn table(&self) -> RecordTable<'_> {
        let (_, table) = self.bytes.split_at(self.body_end());
        RecordTable::decode(self.header.table_columns, self.header.record_count, table)
            .expect("verified when the batch was decoded")
    }

    /// The records, decompressed if need be.
    ///
    /// # Errors
    /// If the body cannot be decompressed to the length the header names.
    pub fn records(&self) -> Result<Records, DecodeError> {
        let body = self.header.compression.decompress(self.body(), self.header.uncompressed_bytes)?;
        Ok(Records::new(body, self.header.record_count))
    }

    /// The same records under another identity: what a producer sends after its epoch was raised.
    #[must_use]
    pub fn reassigned(&self, producer_epoch: Epoch, sequence: Sequence) -> Self {
        let header = ProducerHeader { producer_epoch, sequence, ..self.header };
        let (_, rest) = self.bytes.split_at(PRODUCER_HEADER_BYTES);
        Self::assemble(header, rest)
    }

    /// The same records from another producer: what is sent after the broker forgot the first identity.
    #[must_use]
    pub fn readdressed(&self, identity: &BatchIdentity) -> Self {
        let header = ProducerHeader {
            producer: identity.producer,
            producer_epoch: identity.producer_epoch,
            sequence: identity.sequence,
            partition: identity.partition,
            ..self.header
        };
        let (_, rest) = self.bytes.split_at(PRODUCER_HEADER_BYTES);
        Self::assemble(header, rest)
    }

    /// Puts a header with its checksum in front of `rest`, the body and the table.
    pub(crate) fn assemble(header: ProducerHeader, rest: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(PRODUCER_HEADER_BYTES + rest.len());
        bytes.resize(PRODUCER_HEADER_BYTES, 0);
        bytes.extend_from_slice(rest);
        Self::seal(header, bytes)
    }

    /// Writes the header over the space left for it at the start of `bytes`.
    pub(crate) fn seal(header: ProducerHeader, mut bytes: Vec<u8>) -> Self {
        let total_bytes = u32::try_from(bytes.len()).expect("batches are limited to 32 bits");
        assert!(total_bytes <= BATCH_BYTES_LIMIT, "a batch exceeds the format's limit");
        let (mut front, _) = bytes.split_at_mut(PRODUCER_HEADER_BYTES);
        header.encode(total_bytes, 0, &mut front);
        assert!(front.is_empty(), "the header fills its space");
        let (checksum, covered) = bytes.split_at_mut(CHECKSUM_BYTES);
        checksum.copy_from_slice(&crc32fast::hash(covered).to_le_bytes());
        Self { header, bytes: Bytes::from(bytes) }
    }

    fn body_end(&self) -> usize {
        PRODUCER_HEADER_BYTES + self.header.body_bytes as usize
    }
}
