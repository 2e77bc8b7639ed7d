//! Results of single records, where they differ from that of their batch.

use bytes::{BufMut, Bytes};

use crate::code::ErrorCode;
use crate::error::{DecodeError, Problem};
use crate::frame::{FRAME_HEADER_BYTES, FrameKind};
use crate::limits::{BATCH_RECORDS_MAX, PUBLISH_EXCEPTIONS_MAX};
use crate::message::Message;
use crate::read::Reader;
use crate::units::{Offset, PartitionId, Sequence, Timestamp};
use crate::write::Write;

/// Records of a batch that do not share its result: they are void there. Comes ahead of the batch's entry in a
/// [`PublishAck`](super::PublishAck), on the same lane, in as many frames as it takes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PublishExceptions {
    /// The partition.
    pub partition: PartitionId,
    /// The batch.
    pub sequence: Sequence,
    /// In order of record; at most 16,384.
    pub exceptions: Vec<RecordException>,
}

/// What became of one record instead.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RecordException {
    /// Its number in the batch.
    pub record: u32,
    /// What became of it.
    pub fate: RecordFate,
}

/// What becomes of a record that is void in its batch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RecordFate {
    /// It had been stored before: this is where, and the record counts there.
    Duplicate(OriginalRecord),
    /// Its idempotency key stands for another record: this is where that one is.
    Conflict(OriginalRecord),
    /// Its idempotency key is older than keys are remembered.
    Expired,
    /// There is no room to remember its idempotency key.
    Full,
    /// The topic takes no idempotency keys.
    Off,
    /// What it expected is not so: the offset that is next in its partition, or that of the last record with its key.
    Unmet(Offset),
    /// It expected a record with its key, and there never was one.
    UnmetAbsent,
    /// It expected something of its key, and the topic keeps no versions of keys.
    VersionsOff,
    /// There is no room to remember the version of its key.
    VersionsFull,
}

/// Where the record stands that an idempotency key belongs to.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct OriginalRecord {
    /// Its partition: another one only if a client chose another one for the same key.
    pub partition: PartitionId,
    /// Its offset.
    pub offset: Offset,
    /// When it was appended.
    pub append_time: Timestamp,
}

impl RecordFate {
    /// Why the record is not stored; nothing for one that had been stored before.
    pub const fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Duplicate(_) => None,
            Self::Conflict(_) => Some(ErrorCode::KeyConflict),
            Self::Expired => Some(ErrorCode::KeyExpired),
            Self::Full => Some(ErrorCode::DedupFull),
            Self::Off => Some(ErrorCode::DedupOff),
            Self::Unmet(_) | Self::UnmetAbsent => Some(ErrorCode::ExpectationFailed),
            Self::VersionsOff => Some(ErrorCode::VersionsOff),
            Self::VersionsFull => Some(ErrorCode::VersionsFull),
        }
    }

    const fn number(&self) -> u8 {
        match self {
            Self::Duplicate(_) => 0,
            Self::Conflict(_) => 1,
            Self::Expired => 2,
            Self::Full => 3,
            Self::Off => 4,
            Self::Unmet(_) => 5,
            Self::UnmetAbsent => 6,
            Self::VersionsOff => 7,
            Self::VersionsFull => 8,
        }
    }
}

impl RecordException {
    /// Its length in a frame.
    pub const BYTES: usize = 4 + 1 + 4 + 8 + 8;

    fn encode(&self, out: &mut impl BufMut) {
        let original = match self.fate {
            RecordFate::Duplicate(original) | RecordFate::Conflict(original) => original,
            RecordFate::Unmet(actual) => OriginalRecord { offset: actual, ..OriginalRecord::default() },
            RecordFate::Expired
            | RecordFate::Full
            | RecordFate::Off
            | RecordFate::UnmetAbsent
            | RecordFate::VersionsOff
            | RecordFate::VersionsFull => OriginalRecord::default(),
        };
        out.put_u32_le(self.record);
        out.put_u8(self.fate.number());
        out.put_u32_le(original.partition.get());
        out.put_u64_le(original.offset.get());
        out.put_i64_le(original.append_time.as_micros());
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let at = reader.position();
        let record = reader.u32()?;
        if record >= BATCH_RECORDS_MAX {
            let (value, max) = (u64::from(record), u64::from(BATCH_RECORDS_MAX - 1));
            return Err(DecodeError::new(at, Problem::TooLarge { what: "record number", value, max }));
        }
        let number_at = reader.position();
        let number = reader.u8()?;
        let partition = PartitionId::new(reader.u32()?);
        let offset = reader.offset()?;
        let append_time = Timestamp::from_micros(reader.i64()?);
        let original = OriginalRecord { partition, offset, append_time };
        let fate = match number {
            0 => RecordFate::Duplicate(original),
            1 => RecordFate::Conflict(original),
            2 => RecordFate::Expired,
            3 => RecordFate::Full,
            4 => RecordFate::Off,
            5 => RecordFate::Unmet(offset),
            6 => RecordFate::UnmetAbsent,
            7 => RecordFate::VersionsOff,
            8 => RecordFate::VersionsFull,
            other => {
                let problem = Problem::Invalid { what: "fate of a record", value: u64::from(other) };
                return Err(DecodeError::new(number_at, problem));
            }
        };
        Ok(Self { record, fate })
    }
}

impl PublishExceptions {
    /// Bytes beside the exceptions, frame header included.
    pub const OVERHEAD_BYTES: usize = FRAME_HEADER_BYTES + 4 + 8 + 4;
}

impl Message for PublishExceptions {
    const KIND: FrameKind = FrameKind::PublishExceptions;

    /// # Panics
    /// If there are more than a frame may have: whoever makes them keeps to the limit.
    fn encode(&self, out: &mut impl BufMut) {
        assert!(self.exceptions.len() <= PUBLISH_EXCEPTIONS_MAX, "exceptions are spread over frames");
        out.put_u32_le(self.partition.get());
        out.put_u64_le(self.sequence.get());
        out.put_count(self.exceptions.len());
        self.exceptions.iter().for_each(|exception| exception.encode(out));
    }

    fn decode(reader: &mut Reader<'_>, _body: &Bytes) -> Result<Self, DecodeError> {
        let partition = PartitionId::new(reader.u32()?);
        let sequence = reader.sequence()?;
        let count = reader.count("exception count", RecordException::BYTES)?;
        let exceptions = (0..count).map(|_| RecordException::decode(reader)).collect::<Result<_, _>>()?;
        Ok(Self { partition, sequence, exceptions })
    }
}
