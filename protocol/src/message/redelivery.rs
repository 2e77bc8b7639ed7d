//! Requests about what groups do with records that fail.

use bytes::{BufMut, Bytes};

use crate::code::ErrorCode;
use crate::error::{DecodeError, Problem};
use crate::frame::FrameKind;
use crate::limits::{NAME_BYTES_MAX, PAGE_ENTRIES_MAX};
use crate::message::failing::optional_code;
use crate::message::{Message, RequestId};
use crate::read::Reader;
use crate::redelivery::Redelivery;
use crate::units::{Offset, PartitionId};
use crate::write::Write;

/// Says what a group does with records that fail, from now on. Answered by `Done` once that is durable.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SetRedelivery {
    /// Number of the request.
    pub request: RequestId,
    /// Name of the topic.
    pub topic: String,
    /// Name of the group.
    pub group: String,
    /// What it does.
    pub redelivery: Redelivery,
}

/// Asks what a group does with records that fail, and for its partitions from `first_partition` on that have such records.
/// Answered by [`GroupFailures`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DescribeFailures {
    /// Number of the request.
    pub request: RequestId,
    /// Name of the topic.
    pub topic: String,
    /// Name of the group.
    pub group: String,
    /// The first partition of the page.
    pub first_partition: PartitionId,
}

/// What a group does with records that fail, and a page of its partitions that have some.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct GroupFailures {
    /// The request this answers.
    pub request: RequestId,
    /// What it does.
    pub redelivery: Redelivery,
    /// Whether there are more after the last of the page.
    pub more: bool,
    /// Partitions with records that have failed, in order of number.
    pub partitions: Vec<FailingPartition>,
}

/// A partition with records that have failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FailingPartition {
    /// The partition.
    pub partition: PartitionId,
    /// Records that are to be delivered again.
    pub records: u32,
    /// The first of them; 0 if there is none.
    pub first: Offset,
    /// How often that one has failed.
    pub failed: u32,
    /// How often it came back without a verdict: its member was gone.
    pub returned: u32,
    /// Milliseconds until it is delivered again.
    pub wait_ms: u32,
    /// Dead letters that are not in the dead-letter topic yet.
    pub letters: u32,
    /// What they wait for, if not only for their turn.
    pub letters_refused: Option<ErrorCode>,
}

impl Message for SetRedelivery {
    const KIND: FrameKind = FrameKind::SetRedelivery;

    fn encode(&self, out: &mut impl BufMut) {
        out.put_u32_le(self.request);
        out.put_text(&self.topic);
        out.put_text(&self.group);
        self.redelivery.encode(out);
    }

    fn decode(reader: &mut Reader<'_>, _body: &Bytes) -> Result<Self, DecodeError> {
        Ok(Self {
            request: reader.u32()?,
            topic: reader.text("topic name", NAME_BYTES_MAX)?,
            group: reader.text("group name", NAME_BYTES_MAX)?,
            redelivery: Redelivery::decode(reader)?,
        })
    }
}

impl Message for DescribeFailures {
    const KIND: FrameKind = FrameKind::DescribeFailures;

    fn encode(&self, out: &mut impl BufMut) {
        out.put_u32_le(self.request);
        out.put_text(&self.topic);
        out.put_text(&self.group);
        out.put_u32_le(self.first_partition.get());
    }

    fn decode(reader: &mut Reader<'_>, _body: &Bytes) -> Result<Self, DecodeError> {
        Ok(Self {
            request: reader.u32()?,
            topic: reader.text("topic name", NAME_BYTES_MAX)?,
            group: reader.text("group name", NAME_BYTES_MAX)?,
            first_partition: PartitionId::new(reader.u32()?),
        })
    }
}

impl Message for GroupFailures {
    const KIND: FrameKind = FrameKind::GroupFailures;

    fn encode(&self, out: &mut impl BufMut) {
        out.put_u32_le(self.request);
        self.redelivery.encode(out);
        out.put_u8(u8::from(self.more));
        out.put_count(self.partitions.len());
        for partition in &self.partitions {
            out.put_u32_le(partition.partition.get());
            out.put_u32_le(partition.records);
            out.put_u64_le(partition.first.get());
            out.put_u32_le(partition.failed);
            out.put_u32_le(partition.returned);
            out.put_u32_le(partition.wait_ms);
            out.put_u32_le(partition.letters);
            out.put_u16_le(partition.letters_refused.map_or(0, ErrorCode::number));
        }
    }

    fn decode(reader: &mut Reader<'_>, _body: &Bytes) -> Result<Self, DecodeError> {
        let request = reader.u32()?;
        let redelivery = Redelivery::decode(reader)?;
        let more = reader.flag("more")?;
        let at = reader.position();
        let count = reader.count("partition count", FailingPartition::BYTES)?;
        if count > PAGE_ENTRIES_MAX as usize {
            let (value, max) = (count as u64, u64::from(PAGE_ENTRIES_MAX));
            return Err(DecodeError::new(at, Problem::TooLarge { what: "partition count", value, max }));
        }
        let partition = |reader: &mut Reader<'_>| {
            Ok(FailingPartition {
                partition: PartitionId::new(reader.u32()?),
                records: reader.u32()?,
                first: reader.offset()?,
                failed: reader.u32()?,
                returned: reader.u32()?,
                wait_ms: reader.u32()?,
                letters: reader.u32()?,
                letters_refused: optional_code(reader)?,
            })
        };
        let partitions = (0..count).map(|_| partition(reader)).collect::<Result<_, _>>()?;
        Ok(Self { request, redelivery, more, partitions })
    }
}

impl FailingPartition {
    /// Length of its encoding.
    pub const BYTES: usize = 4 + 4 + 8 + 4 + 4 + 4 + 4 + 2;
}
