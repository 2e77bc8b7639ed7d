//! Reading: the lanes of a subscription and what comes on them.
//!
//! A lane is a stream. The client opens it with [`SubscribeOpen`], names partitions with [`SubscribePartition`] and
//! grants bytes with `Grant`, and records with [`GrantRecords`] if they are to be bounded too; the broker answers
//! [`PartitionStarted`] and sends [`Deliver`] as far as the credit goes.

use bytes::{BufMut, Bytes};

use crate::batch::{BatchMeasure, StoredBatch};
use crate::code::ErrorCode;
use crate::error::{DecodeError, Problem};
use crate::frame::{FRAME_HEADER_BYTES, FrameKind, put_header};
use crate::limits::TEXT_BYTES_MAX;
use crate::message::Message;
use crate::message::failure::{bounded_text, read_code};
use crate::read::Reader;
use crate::units::{LeaseEpoch, Offset, PartitionId, Timestamp, TopicId};
use crate::write::Write;

/// Makes a stream a lane of a subscription to one topic.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SubscribeOpen {
    /// The topic.
    pub topic: TopicId,
    /// Bytes of `Deliver` frames the broker may send at first.
    pub limit_bytes: u64,
}

/// Raises the limit of records that may be sent on a lane. Before the first one records have no limit.
///
/// A batch may be sent while at least one record is granted, and counts with all its records. So no batch is too long to be
/// sent, and never more is sent beyond the limit than the last batch has records, less one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct GrantRecords {
    /// Records in all, since the lane was opened.
    pub limit_records: u64,
}

/// Where reading a partition starts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StartAt {
    /// With the first record that is kept.
    Earliest,
    /// With the next record that becomes visible.
    Latest,
    /// With this offset, which must lie between both or at the end.
    Offset(Offset),
    /// With the first record appended at or after this moment.
    Time(Timestamp),
    /// This many records before the end, or with the first that is kept.
    Last(u64),
    /// Where the group stands whose lease this is, as long as the lease lasts.
    Lease(LeaseEpoch),
}

/// Starts reading a partition on this lane, or moves it if it is read already.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SubscribePartition {
    /// The partition.
    pub partition: PartitionId,
    /// Number the client chose for this start, higher than that of an earlier one; what answers it carries the same, so that
    /// what was sent before a move is told from what came after.
    pub generation: u32,
    /// Where to start.
    pub start: StartAt,
}

/// Reading a partition starts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PartitionStarted {
    /// The partition.
    pub partition: PartitionId,
    /// Number of the start this answers.
    pub generation: u32,
    /// The first offset that will come.
    pub position: Offset,
    /// Offset of the first record that is kept.
    pub log_start: Offset,
    /// The offset after the last visible record, now.
    pub high_watermark: Offset,
}

/// Batches of one partition, in order. The first may begin before the position asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Deliver {
    /// The partition.
    pub partition: PartitionId,
    /// Number of the start these batches follow from.
    pub generation: u32,
    /// The offset after the last visible record, now.
    pub high_watermark: Offset,
    /// Whole stored batches, back to back.
    pub batches: Bytes,
}

/// Why offsets are missing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum GapReason {
    /// They were removed by retention or trimming while the reader was behind.
    Retention,
    /// Their records are damaged on disk.
    Corrupt,
}

/// Offsets that will not come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Gap {
    /// The partition.
    pub partition: PartitionId,
    /// Number of the start this follows from.
    pub generation: u32,
    /// First offset that is missing.
    pub from: Offset,
    /// The offset after the last that is missing: delivery goes on here.
    pub to: Offset,
    /// Why.
    pub reason: GapReason,
}

/// Ends reading a partition.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct UnsubscribePartition {
    /// The partition.
    pub partition: PartitionId,
}

/// Reading a partition cannot start or go on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PartitionEnded {
    /// The partition.
    pub partition: PartitionId,
    /// Number of the start this answers.
    pub generation: u32,
    /// Why.
    pub code: ErrorCode,
    /// Offset of the first record that is kept.
    pub log_start: Offset,
    /// The offset after the last visible record.
    pub high_watermark: Offset,
    /// The facts, for people.
    pub detail: String,
}

impl Message for SubscribeOpen {
    const KIND: FrameKind = FrameKind::SubscribeOpen;

    fn encode(&self, out: &mut impl BufMut) {
        out.put_slice(&self.topic.to_bytes());
        out.put_u64_le(self.limit_bytes);
    }

    fn decode(reader: &mut Reader<'_>, _body: &Bytes) -> Result<Self, DecodeError> {
        Ok(Self { topic: TopicId::from_bytes(reader.bytes16()?), limit_bytes: reader.u64()? })
    }
}

impl Message for GrantRecords {
    const KIND: FrameKind = FrameKind::GrantRecords;

    fn encode(&self, out: &mut impl BufMut) {
        out.put_u64_le(self.limit_records);
    }

    fn decode(reader: &mut Reader<'_>, _body: &Bytes) -> Result<Self, DecodeError> {
        Ok(Self { limit_records: reader.u64()? })
    }
}

impl StartAt {
    fn encode(self, out: &mut impl BufMut) {
        let (kind, value) = match self {
            Self::Earliest => (0, 0),
            Self::Latest => (1, 0),
            Self::Offset(offset) => (2, offset.get()),
            Self::Time(time) => (3, time.as_micros().cast_unsigned()),
            Self::Last(count) => (4, count),
            Self::Lease(lease) => (5, lease.get()),
        };
        out.put_u8(kind);
        out.put_u64_le(value);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let at = reader.position();
        let kind = reader.u8()?;
        let value = reader.u64()?;
        match kind {
            0 => Ok(Self::Earliest),
            1 => Ok(Self::Latest),
            2 => Ok(Self::Offset(Offset::new(value))),
            3 => Ok(Self::Time(Timestamp::from_micros(value.cast_signed()))),
            4 => Ok(Self::Last(value)),
            5 => Ok(Self::Lease(LeaseEpoch::new(value))),
            other => {
                let problem = Problem::Invalid { what: "start kind", value: u64::from(other) };
                Err(DecodeError::new(at, problem))
            }
        }
    }
}

impl Message for SubscribePartition {
    const KIND: FrameKind = FrameKind::SubscribePartition;

    fn encode(&self, out: &mut impl BufMut) {
        out.put_u32_le(self.partition.get());
        out.put_u32_le(self.generation);
        self.start.encode(out);
    }

    fn decode(reader: &mut Reader<'_>, _body: &Bytes) -> Result<Self, DecodeError> {
        Ok(Self {
            partition: PartitionId::new(reader.u32()?),
            generation: reader.u32()?,
            start: StartAt::decode(reader)?,
        })
    }
}

impl Message for PartitionStarted {
    const KIND: FrameKind = FrameKind::PartitionStarted;

    fn encode(&self, out: &mut impl BufMut) {
        out.put_u32_le(self.partition.get());
        out.put_u32_le(self.generation);
        out.put_u64_le(self.position.get());
        out.put_u64_le(self.log_start.get());
        out.put_u64_le(self.high_watermark.get());
    }

    fn decode(reader: &mut Reader<'_>, _body: &Bytes) -> Result<Self, DecodeError> {
        Ok(Self {
            partition: PartitionId::new(reader.u32()?),
            generation: reader.u32()?,
            position: reader.offset()?,
            log_start: reader.offset()?,
            high_watermark: reader.offset()?,
        })
    }
}

impl Deliver {
    const FIELDS_BYTES: usize = 4 + 4 + 8;

    /// Bytes in front of the batches, frame header included.
    pub const OVERHEAD_BYTES: usize = FRAME_HEADER_BYTES + Self::FIELDS_BYTES;

    /// The frame header and the fields in front of `batches_bytes` of batches, so that these need not be copied.
    pub fn front(
        partition: PartitionId,
        generation: u32,
        high_watermark: Offset,
        batches_bytes: usize,
    ) -> [u8; Self::OVERHEAD_BYTES] {
        let mut front = [0; Self::OVERHEAD_BYTES];
        let mut out = front.as_mut_slice();
        put_header(FrameKind::Deliver, Self::FIELDS_BYTES + batches_bytes, &mut out);
        out.put_u32_le(partition.get());
        out.put_u32_le(generation);
        out.put_u64_le(high_watermark.get());
        front
    }

    /// Length, first offset and number of records of each batch, by their headers alone: nothing is verified. Ends before the first
    /// one that is not whole.
    pub fn measures(batches: &[u8]) -> impl Iterator<Item = BatchMeasure> {
        let mut rest = batches;
        std::iter::from_fn(move || {
            let measure = BatchMeasure::of(rest)?;
            rest = rest.get(measure.bytes..)?;
            Some(measure)
        })
    }

    /// The batches one by one, each verified. Ends after the first error.
    pub fn iter(&self) -> impl Iterator<Item = Result<StoredBatch, DecodeError>> + use<> {
        let mut rest = self.batches.clone();
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let batch = StoredBatch::decode(&mut rest);
            if batch.is_err() {
                rest = Bytes::new();
            }
            Some(batch)
        })
    }
}

impl Message for Deliver {
    const KIND: FrameKind = FrameKind::Deliver;

    fn encode(&self, out: &mut impl BufMut) {
        out.put_u32_le(self.partition.get());
        out.put_u32_le(self.generation);
        out.put_u64_le(self.high_watermark.get());
        out.put_slice(&self.batches);
    }

    fn decode(reader: &mut Reader<'_>, body: &Bytes) -> Result<Self, DecodeError> {
        Ok(Self {
            partition: PartitionId::new(reader.u32()?),
            generation: reader.u32()?,
            high_watermark: reader.offset()?,
            batches: body.slice_ref(reader.rest()),
        })
    }
}

impl Message for Gap {
    const KIND: FrameKind = FrameKind::Gap;

    fn encode(&self, out: &mut impl BufMut) {
        out.put_u32_le(self.partition.get());
        out.put_u32_le(self.generation);
        out.put_u64_le(self.from.get());
        out.put_u64_le(self.to.get());
        out.put_u8(match self.reason {
            GapReason::Retention => 0,
            GapReason::Corrupt => 1,
        });
    }

    fn decode(reader: &mut Reader<'_>, _body: &Bytes) -> Result<Self, DecodeError> {
        let partition = PartitionId::new(reader.u32()?);
        let generation = reader.u32()?;
        let from = reader.offset()?;
        let to_at = reader.position();
        let to = reader.offset()?;
        if to <= from {
            return Err(DecodeError::new(to_at, Problem::Invalid { what: "end of a gap", value: to.get() }));
        }
        let reason_at = reader.position();
        let reason = match reader.u8()? {
            0 => GapReason::Retention,
            1 => GapReason::Corrupt,
            other => {
                let problem = Problem::Invalid { what: "gap reason", value: u64::from(other) };
                return Err(DecodeError::new(reason_at, problem));
            }
        };
        Ok(Self { partition, generation, from, to, reason })
    }
}

impl Message for UnsubscribePartition {
    const KIND: FrameKind = FrameKind::UnsubscribePartition;

    fn encode(&self, out: &mut impl BufMut) {
        out.put_u32_le(self.partition.get());
    }

    fn decode(reader: &mut Reader<'_>, _body: &Bytes) -> Result<Self, DecodeError> {
        Ok(Self { partition: PartitionId::new(reader.u32()?) })
    }
}

impl Message for PartitionEnded {
    const KIND: FrameKind = FrameKind::PartitionEnded;

    fn encode(&self, out: &mut impl BufMut) {
        out.put_u32_le(self.partition.get());
        out.put_u32_le(self.generation);
        out.put_u16_le(self.code.number());
        out.put_u64_le(self.log_start.get());
        out.put_u64_le(self.high_watermark.get());
        out.put_text(bounded_text(&self.detail));
    }

    fn decode(reader: &mut Reader<'_>, _body: &Bytes) -> Result<Self, DecodeError> {
        Ok(Self {
            partition: PartitionId::new(reader.u32()?),
            generation: reader.u32()?,
            code: read_code(reader)?,
            log_start: reader.offset()?,
            high_watermark: reader.offset()?,
            detail: reader.text("detail", TEXT_BYTES_MAX)?,
        })
    }
}
