//! Trimming: give up the records of a partition below an offset.

use bytes::{BufMut, Bytes};

use crate::error::{DecodeError, Problem};
use crate::frame::FrameKind;
use crate::limits::NAME_BYTES_MAX;
use crate::message::{Message, RequestId};
use crate::read::Reader;
use crate::units::{Offset, PartitionId, Timestamp};
use crate::write::Write;

/// Gives up the records of a partition that stand before a point. Answered by [`PartitionTrimmed`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TrimPartition {
    /// Number of the request.
    pub request: RequestId,
    /// Name of the topic.
    pub name: String,
    /// The partition.
    pub partition: PartitionId,
    /// The first record that is kept.
    pub before: TrimBefore,
    /// Nothing is given up: the answer says what would be.
    pub dry_run: bool,
}

/// Where what is kept begins.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TrimBefore {
    /// At this offset. It may be the end; below the first that is kept it changes nothing.
    Offset(Offset),
    /// At the first record appended at or after this moment.
    Time(Timestamp),
}

const BEFORE_OFFSET: u8 = 0;
const BEFORE_TIME: u8 = 1;

/// A partition was trimmed, and stays so: this is durable.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PartitionTrimmed {
    /// The request this answers.
    pub request: RequestId,
    /// The partition.
    pub partition: PartitionId,
    /// The first record that was kept until then.
    pub old_start_offset: Offset,
    /// The first record that is kept now.
    pub start_offset: Offset,
    /// The offset after the last visible record.
    pub end_offset: Offset,
}

impl Message for TrimPartition {
    const KIND: FrameKind = FrameKind::TrimPartition;

    fn encode(&self, out: &mut impl BufMut) {
        out.put_u32_le(self.request);
        out.put_text(&self.name);
        out.put_u32_le(self.partition.get());
        match self.before {
            TrimBefore::Offset(offset) => {
                out.put_u8(BEFORE_OFFSET);
                out.put_u64_le(offset.get());
            }
            TrimBefore::Time(time) => {
                out.put_u8(BEFORE_TIME);
                out.put_i64_le(time.as_micros());
            }
        }
        out.put_u8(u8::from(self.dry_run));
    }

    fn decode(reader: &mut Reader<'_>, _body: &Bytes) -> Result<Self, DecodeError> {
        let request = reader.u32()?;
        let name = reader.text("topic name", NAME_BYTES_MAX)?;
        let partition = PartitionId::new(reader.u32()?);
        let at = reader.position();
        let before = match reader.u8()? {
            BEFORE_OFFSET => TrimBefore::Offset(reader.offset()?),
            BEFORE_TIME => TrimBefore::Time(Timestamp::from_micros(reader.i64()?)),
            kind => {
                let problem = Problem::Invalid { what: "trim kind", value: u64::from(kind) };
                return Err(DecodeError::new(at, problem));
            }
        };
        Ok(Self { request, name, partition, before, dry_run: reader.flag("dry run")? })
    }
}

impl Message for PartitionTrimmed {
    const KIND: FrameKind = FrameKind::PartitionTrimmed;

    fn encode(&self, out: &mut impl BufMut) {
        out.put_u32_le(self.request);
        out.put_u32_le(self.partition.get());
        out.put_u64_le(self.old_start_offset.get());
        out.put_u64_le(self.start_offset.get());
        out.put_u64_le(self.end_offset.get());
    }

    fn decode(reader: &mut Reader<'_>, _body: &Bytes) -> Result<Self, DecodeError> {
        Ok(Self {
            request: reader.u32()?,
            partition: PartitionId::new(reader.u32()?),
            old_start_offset: reader.offset()?,
            start_offset: reader.offset()?,
            end_offset: reader.offset()?,
        })
    }
}
