//! The broker's section of a batch, and the stored batch as a whole.

use bytes::{BufMut, Bytes};

use crate::batch::{PRODUCER_HEADER_BYTES, ProducerBatch};
use crate::error::{DecodeError, Problem};
use crate::limits::{BATCH_BYTES_LIMIT, BATCH_RECORDS_MAX, NUMBER_MAX};
use crate::read::Reader;
use crate::units::{Epoch, Offset, Timestamp};

/// Length of the broker section without its void bitmap.
pub const BROKER_SECTION_BYTES: usize = 32;

/// Version of the broker section.
const VERSION: u8 = 1;

/// Flag: the extension is a void bitmap.
const FLAG_VOIDS: u8 = 1;

/// Longest void bitmap: one bit a record.
const VOID_BYTES_MAX: usize = (BATCH_RECORDS_MAX as usize).div_ceil(8);
const _: () = assert!(VOID_BYTES_MAX <= u16::MAX as usize, "the extension's length has two bytes");

/// Which records of a batch do not count. They keep their bytes and their offsets.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Voids(Option<Bytes>);

impl Voids {
    /// No record is void.
    pub const NONE: Self = Self(None);

    /// The records whose numbers in the batch are listed are void.
    ///
    /// # Panics
    /// If a number is not below `record_count`.
    pub fn of(record_count: u32, void: impl IntoIterator<Item = u32>) -> Self {
        let mut bitmap = vec![0u8; (record_count as usize).div_ceil(8)];
        let mut any = false;
        for index in void {
            assert!(index < record_count, "a void is a record of the batch");
            let byte = bitmap.get_mut(index as usize / 8).expect("the bitmap covers every record");
            *byte |= 1 << (index % 8);
            any = true;
        }
        if any { Self(Some(Bytes::from(bitmap))) } else { Self::NONE }
    }

    /// From the bits of [`Voids::bytes`].
    pub fn from_bytes(bitmap: &[u8]) -> Self {
        if bitmap.is_empty() { Self::NONE } else { Self(Some(Bytes::copy_from_slice(bitmap))) }
    }

    /// Whether the record with this number in the batch is void.
    pub fn contains(&self, index: u32) -> bool {
        let byte = self.0.as_ref().and_then(|bitmap| bitmap.get(index as usize / 8));
        byte.is_some_and(|byte| byte >> (index % 8) & 1 == 1)
    }

    /// Whether no record is void.
    pub const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// One bit for each record, lowest first; nothing if no record is void.
    pub fn bytes(&self) -> &[u8] {
        self.0.as_deref().unwrap_or(&[])
    }
}

/// What the broker says about a batch.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BrokerSection {
    /// Offset of the first record; the others follow by their deltas.
    pub base_offset: Offset,
    /// When the broker took it. Never goes back within a partition.
    pub append_time: Timestamp,
    /// Generation of the partition's owner.
    pub partition_epoch: Epoch,
    /// Records that do not count.
    pub voids: Voids,
}

impl BrokerSection {
    /// Length of the section in bytes.
    pub fn length(&self) -> usize {
        BROKER_SECTION_BYTES + self.voids.bytes().len()
    }

    /// Writes the section of a batch whose producer part has `producer_bytes`.
    ///
    /// # Panics
    /// If the whole exceeds the format's limits, which decoding has excluded.
    pub fn encode(&self, producer_bytes: usize, out: &mut impl BufMut) {
        let voids = self.voids.bytes();
        let total = u32::try_from(self.length() + producer_bytes).expect("batches are limited to 32 bits");
        let extension = u16::try_from(voids.len()).expect("one bit a record fits two bytes");
        let mut fixed = [0u8; BROKER_SECTION_BYTES];
        let mut rest = &mut fixed[4..];
        rest.put_u32_le(total);
        rest.put_u64_le(self.base_offset.get());
        rest.put_i64_le(self.append_time.as_micros());
        rest.put_u32_le(self.partition_epoch.get());
        rest.put_u16_le(extension);
        rest.put_u8(VERSION);
        rest.put_u8(if voids.is_empty() { 0 } else { FLAG_VOIDS });
        assert!(rest.is_empty(), "the fields fill the section");
        let mut checksum = crc32fast::Hasher::new();
        checksum.update(&fixed[4..]);
        checksum.update(voids);
        fixed[..4].copy_from_slice(&checksum.finalize().to_le_bytes());
        out.put_slice(&fixed);
        out.put_slice(voids);
    }

    /// Base offset and length of the stored batch at the front of bytes that were verified before; `None` behind the last.
    pub fn place(bytes: &[u8]) -> Option<(Offset, usize)> {
        let mut reader = Reader::new(bytes);
        reader.u32().ok()?;
        let length = reader.u32().ok()? as usize;
        Some((reader.offset().ok()?, length.max(BROKER_SECTION_BYTES)))
    }

    /// Reads a section and verifies its checksum. Returns it with the length of the whole batch.
    ///
    /// # Errors
    /// What is wrong, and at which byte.
    pub fn decode(reader: &mut Reader<'_>) -> Result<(Self, usize), DecodeError> {
        let start = reader.position();
        let mut fixed = Reader::new(reader.take(BROKER_SECTION_BYTES)?);
        let error = |at: usize, problem| Err(DecodeError::new(start + at, problem));
        let stored = fixed.u32()?;
        let total = fixed.u32()?;
        let base_offset = fixed.u64()?;
        let append_time = Timestamp::from_micros(fixed.i64()?);
        let partition_epoch = Epoch::new(fixed.u32()?);
        let extension = usize::from(fixed.u16()?);
        let version = fixed.u8()?;
        let flags = fixed.u8()?;
        if extension > VOID_BYTES_MAX {
            let (value, max) = (extension as u64, VOID_BYTES_MAX as u64);
            return error(28, Problem::TooLarge { what: "extension length", value, max });
        }
        let voids = reader.take(extension)?;
        let mut checksum = crc32fast::Hasher::new();
        let mut covered = Reader::new(fixed.whole());
        covered.take(4)?;
        checksum.update(covered.rest());
        checksum.update(voids);
        let computed = checksum.finalize();
        if stored != computed {
            return error(0, Problem::Checksum { what: "broker section", stored, computed });
        }
        if version != VERSION {
            let (value, expected) = (u64::from(version), u64::from(VERSION));
            return error(30, Problem::Mismatch { what: "broker section version", value, expected });
        }
        let expected = if voids.is_empty() { 0 } else { FLAG_VOIDS };
        if flags != expected {
            let (value, expected) = (u64::from(flags), u64::from(expected));
            return error(31, Problem::Mismatch { what: "broker section flags", value, expected });
        }
        let least = (BROKER_SECTION_BYTES + extension + PRODUCER_HEADER_BYTES) as u64;
        let most = least + u64::from(BATCH_BYTES_LIMIT);
        if !(least..=most).contains(&u64::from(total)) {
            return error(4, Problem::Invalid { what: "batch length", value: u64::from(total) });
        }
        if base_offset > NUMBER_MAX {
            return error(8, Problem::TooLarge { what: "base offset", value: base_offset, max: NUMBER_MAX });
        }
        let base_offset = Offset::new(base_offset);
        let voids = Voids::from_bytes(voids);
        let section = Self { base_offset, append_time, partition_epoch, voids };
        Ok((section, total as usize))
    }
}

/// A batch in its place: both sections, verified.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StoredBatch {
    /// What the broker says.
    pub section: BrokerSection,
    /// What the producer made.
    pub producer: ProducerBatch,
}

impl StoredBatch {
    /// Takes one batch from the front of `bytes` and verifies both checksums.
    ///
    /// # Errors
    /// What is wrong, and at which byte; `bytes` is then unchanged.
    pub fn decode(bytes: &mut Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let (section, total) = BrokerSection::decode(&mut reader)?;
        let section_bytes = reader.position();
        let producer_bytes = total - section_bytes;
        reader.take(producer_bytes)?;
        let producer = ProducerBatch::decode(bytes.slice(section_bytes..total))
            .map_err(|error| error.shifted(section_bytes))?;
        if !section.voids.is_empty() {
            let expected = (producer.header().record_count as usize).div_ceil(8);
            if section.voids.bytes().len() != expected {
                let (value, expected) = (section.voids.bytes().len() as u64, expected as u64);
                let problem = Problem::Mismatch { what: "extension length", value, expected };
                return Err(DecodeError::new(28, problem));
            }
        }
        bytes::Buf::advance(bytes, total);
        Ok(Self { section, producer })
    }

    /// Length of the whole batch in bytes.
    pub fn length(&self) -> usize {
        self.section.length() + self.producer.length()
    }

    /// Offset of the first record.
    pub const fn base_offset(&self) -> Offset {
        self.section.base_offset
    }

    /// The offset after the last record.
    pub const fn end_offset(&self) -> Offset {
        self.section.base_offset.advance(self.producer.header().record_count as u64)
    }

    /// Writes the whole batch.
    pub fn encode(&self, out: &mut impl BufMut) {
        self.section.encode(self.producer.length(), out);
        out.put_slice(self.producer.bytes());
    }
}
