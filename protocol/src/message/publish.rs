//! Publishing: a producer's identity, and the lanes on which its batches go.
//!
//! A lane is a stream. The client opens it with [`PublishOpen`]; the broker grants bytes with [`Grant`]; each
//! [`Publish`] is answered, in the order in which they were sent for one partition, by an entry of a
//! [`PublishAck`] or by a [`PublishRejected`].

use bytes::{BufMut, Bytes};

use crate::batch::ProducerBatch;
use crate::code::ErrorCode;
use crate::error::{DecodeError, Problem};
use crate::frame::{FRAME_HEADER_BYTES, FrameKind, put_header};
use crate::limits::TEXT_BYTES_MAX;
use crate::message::failure::{bounded_text, read_code};
use crate::message::{Message, RequestId};
use crate::read::Reader;
use crate::units::{Durability, Epoch, Offset, PartitionId, ProducerId, Sequence, Timestamp, TopicId};
use crate::write::Write;

/// Asks for a producer identity. Answered by [`ProducerOpened`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct OpenProducer {
    /// Number of the request.
    pub request: RequestId,
}

/// A new producer identity.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ProducerOpened {
    /// The request this answers.
    pub request: RequestId,
    /// The identity: never given out again.
    pub producer: ProducerId,
    /// Its first epoch.
    pub epoch: Epoch,
}

/// Makes a stream a lane for publishing to one topic.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PublishOpen {
    /// The topic.
    pub topic: TopicId,
    /// What an acknowledgement on this lane shall promise.
    pub durability: Durability,
}

/// One batch for one partition. Its bytes count against the lane's credit, frame header included.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Publish {
    /// The producer has seen the results of all batches of this partition below this sequence.
    pub acked_below: Sequence,
    /// The batch; its header names producer, sequence and partition.
    pub batch: ProducerBatch,
}

/// Results of batches, each for good.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PublishAck {
    /// One entry a batch.
    pub entries: Vec<AckEntry>,
}

/// The result of one batch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AckEntry {
    /// The partition.
    pub partition: PartitionId,
    /// The batch.
    pub sequence: Sequence,
    /// Offset of its first record.
    pub base_offset: Offset,
    /// When it was appended.
    pub append_time: Timestamp,
    /// Generation of the partition's owner.
    pub partition_epoch: Epoch,
    /// What has been reached: never more than the truth.
    pub durability: Durability,
    /// The batch had been stored before; this is the first result again.
    pub duplicate: bool,
}

/// A batch was not taken; nothing of it is stored.
///
/// A rejection never uses up the sequence. After a code of class `Retry` the producer sends this batch and all later
/// ones of the partition again, once each of them has been answered. After any other code the batch has failed and
/// the later ones are sent again, renumbered.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PublishRejected {
    /// The partition.
    pub partition: PartitionId,
    /// The batch.
    pub sequence: Sequence,
    /// Why.
    pub code: ErrorCode,
    /// Milliseconds after which another try makes sense; 0 for at once.
    pub retry_after_ms: u32,
    /// The facts, for people.
    pub detail: String,
}

/// Raises what may be sent on the stream.
///
/// From the broker on a publish lane it counts bytes of [`Publish`] frames; from the client on a lane of a
/// subscription it counts bytes of `Deliver` frames. Frame headers count.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Grant {
    /// Bytes that may have been sent since the stream began.
    pub limit_bytes: u64,
}

/// The client has published more than its quota: the next [`Grant`] comes when that is made good.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Throttled {
    /// About how many milliseconds that takes.
    pub retry_after_ms: u32,
}

pub(crate) fn read_durability(reader: &mut Reader<'_>) -> Result<Durability, DecodeError> {
    let at = reader.position();
    match reader.u8()? {
        0 => Ok(Durability::Written),
        1 => Ok(Durability::Durable),
        other => {
            let problem = Problem::Invalid { what: "durability", value: u64::from(other) };
            Err(DecodeError::new(at, problem))
        }
    }
}

const fn durability_number(durability: Durability) -> u8 {
    match durability {
        Durability::Written => 0,
        Durability::Durable => 1,
    }
}

impl Message for OpenProducer {
    const KIND: FrameKind = FrameKind::OpenProducer;

    fn encode(&self, out: &mut impl BufMut) {
        out.put_u32_le(self.request);
    }

    fn decode(reader: &mut Reader<'_>, _body: &Bytes) -> Result<Self, DecodeError> {
        Ok(Self { request: reader.u32()? })
    }
}

impl Message for ProducerOpened {
    const KIND: FrameKind = FrameKind::ProducerOpened;

    fn encode(&self, out: &mut impl BufMut) {
        out.put_u32_le(self.request);
        out.put_u64_le(self.producer.get());
        out.put_u32_le(self.epoch.get());
    }

    fn decode(reader: &mut Reader<'_>, _body: &Bytes) -> Result<Self, DecodeError> {
        Ok(Self {
            request: reader.u32()?,
            producer: ProducerId::new(reader.u64()?),
            epoch: Epoch::new(reader.u32()?),
        })
    }
}

impl Message for PublishOpen {
    const KIND: FrameKind = FrameKind::PublishOpen;

    fn encode(&self, out: &mut impl BufMut) {
        out.put_slice(&self.topic.to_bytes());
        out.put_u8(durability_number(self.durability));
    }

    fn decode(reader: &mut Reader<'_>, _body: &Bytes) -> Result<Self, DecodeError> {
        Ok(Self { topic: TopicId::from_bytes(reader.bytes16()?), durability: read_durability(reader)? })
    }
}

impl Publish {
    /// Bytes in front of the batch, frame header included.
    pub const OVERHEAD_BYTES: usize = FRAME_HEADER_BYTES + 8;

    /// The frame header and the fields in front of the batch, so that the batch itself need not be copied: send
    /// these bytes, then the batch's.
    pub fn front(&self) -> [u8; Self::OVERHEAD_BYTES] {
        let mut front = [0; Self::OVERHEAD_BYTES];
        let mut out = front.as_mut_slice();
        put_header(FrameKind::Publish, 8 + self.batch.length(), &mut out);
        out.put_u64_le(self.acked_below.get());
        front
    }
}

impl Message for Publish {
    const KIND: FrameKind = FrameKind::Publish;

    fn encode(&self, out: &mut impl BufMut) {
        out.put_u64_le(self.acked_below.get());
        out.put_slice(self.batch.bytes());
    }

    fn decode(reader: &mut Reader<'_>, body: &Bytes) -> Result<Self, DecodeError> {
        let acked_below = reader.sequence()?;
        let at = reader.position();
        let batch =
            ProducerBatch::decode(body.slice_ref(reader.rest())).map_err(|error| error.shifted(at))?;
        Ok(Self { acked_below, batch })
    }
}

impl AckEntry {
    const BYTES: usize = 4 + 8 + 8 + 8 + 4 + 1 + 1;

    fn encode(&self, out: &mut impl BufMut) {
        out.put_u32_le(self.partition.get());
        out.put_u64_le(self.sequence.get());
        out.put_u64_le(self.base_offset.get());
        out.put_i64_le(self.append_time.as_micros());
        out.put_u32_le(self.partition_epoch.get());
        out.put_u8(durability_number(self.durability));
        out.put_u8(u8::from(self.duplicate));
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            partition: PartitionId::new(reader.u32()?),
            sequence: reader.sequence()?,
            base_offset: reader.offset()?,
            append_time: Timestamp::from_micros(reader.i64()?),
            partition_epoch: Epoch::new(reader.u32()?),
            durability: read_durability(reader)?,
            duplicate: reader.flag("duplicate")?,
        })
    }
}

impl Message for PublishAck {
    const KIND: FrameKind = FrameKind::PublishAck;

    fn encode(&self, out: &mut impl BufMut) {
        out.put_count(self.entries.len());
        self.entries.iter().for_each(|entry| entry.encode(out));
    }

    fn decode(reader: &mut Reader<'_>, _body: &Bytes) -> Result<Self, DecodeError> {
        let count = reader.count("entry count", AckEntry::BYTES)?;
        let entries = (0..count).map(|_| AckEntry::decode(reader)).collect::<Result<_, _>>()?;
        Ok(Self { entries })
    }
}

impl Message for PublishRejected {
    const KIND: FrameKind = FrameKind::PublishRejected;

    fn encode(&self, out: &mut impl BufMut) {
        out.put_u32_le(self.partition.get());
        out.put_u64_le(self.sequence.get());
        out.put_u16_le(self.code.number());
        out.put_u32_le(self.retry_after_ms);
        out.put_text(bounded_text(&self.detail));
    }

    fn decode(reader: &mut Reader<'_>, _body: &Bytes) -> Result<Self, DecodeError> {
        Ok(Self {
            partition: PartitionId::new(reader.u32()?),
            sequence: reader.sequence()?,
            code: read_code(reader)?,
            retry_after_ms: reader.u32()?,
            detail: reader.text("detail", TEXT_BYTES_MAX)?,
        })
    }
}

impl Message for Throttled {
    const KIND: FrameKind = FrameKind::Throttled;

    fn encode(&self, out: &mut impl BufMut) {
        out.put_u32_le(self.retry_after_ms);
    }

    fn decode(reader: &mut Reader<'_>, _body: &Bytes) -> Result<Self, DecodeError> {
        Ok(Self { retry_after_ms: reader.u32()? })
    }
}

impl Message for Grant {
    const KIND: FrameKind = FrameKind::Grant;

    fn encode(&self, out: &mut impl BufMut) {
        out.put_u64_le(self.limit_bytes);
    }

    fn decode(reader: &mut Reader<'_>, _body: &Bytes) -> Result<Self, DecodeError> {
        Ok(Self { limit_bytes: reader.u64()? })
    }
}
