//! The frame: one change of a node's state, the unit of the journal.
//!
//! ```text
//! frame  = header (32 bytes) , body
//! header = body length u32, kind u8, flags u8, virtual shard u16, virtual shard sequence u64, acked below u64,
//!          reserved u32, crc32 of the 28 bytes before u32
//! body   = Append: the stored batch, as it is   Topic: a topic definition   TopicDeleted: topic id (16)
//!          Trim: topic id (16), partition u32, reserved u32, offset u64
//!          Skipped: topic id (16), partition u32, producer epoch u32, producer u64, sequence u64, record count u32,
//!          reserved u32
//!          Group: a group definition, count u32, positions: partition u32, offset u64
//!          GroupDeleted: topic id (16), group u64
//!          Settled: topic id (16), partition u32, group u64, count u32, ranges: from u64, to u64
//!          Failed: topic id (16), partition u32, group u64, count u32, records: offset u64, failed u32, returned u32,
//!          first i64, last i64, due i64
//!          DeadLetters: topic id (16), partition u32, group u64, count u32, letters: offset u64, failed u32, returned u32,
//!          first i64, last i64, reason length u16, reason
//!          Forwarded: topic id (16), partition u32, group u64, count u32, offsets u64
//!          Claim: topic id (16), producer u64, epoch u32, name
//! ```
//!
//! All numbers are little endian. Within a virtual shard and an incarnation the sequence rises by one from frame to
//! frame, from 0, so that a frame that went missing is noticed.

use bytes::{Buf, BufMut, Bytes};
use weir_protocol::batch::StoredBatch;
use weir_protocol::read::Reader;
use weir_protocol::units::{GroupId, Offset, PartitionId, PartitionKey, Sequence, TopicId, VirtualShard};
use weir_protocol::{DecodeError, Problem};
use xxhash_rust::xxh3::xxh3_64;

use crate::limits::{FRAME_BODY_BYTES_MAX, VIRTUAL_SHARDS};

mod claim;
mod failing;
mod group;
mod skipped;
mod topic;

pub use claim::{Claim, ClaimedName};
pub use failing::{DeadLetter, DeadLetters, FailedRecords, FailingRecord, ForwardedLetters};
pub(crate) use failing::{FAILING_BYTES, LETTER_BYTES_MIN};
pub use group::{GroupDefinition, GroupPositions, SettledRecords};
pub use skipped::SkippedBatch;
pub use topic::TopicDefinition;

/// Length of a frame's header.
pub const FRAME_HEADER_BYTES: usize = 32;

/// One change of a node's state.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Frame {
    /// A batch appended to a partition.
    Append {
        /// The partition; the batch names the same.
        partition: PartitionKey,
        /// The producer has seen the answers to all its batches below this sequence.
        acked_below: Sequence,
        /// The batch in its place.
        batch: StoredBatch,
    },
    /// A topic was created or changed.
    Topic(TopicDefinition),
    /// A topic was deleted. Frames of its partitions may still follow and mean nothing.
    TopicDeleted(TopicId),
    /// Records below an offset are given up.
    Trim {
        /// The partition.
        partition: PartitionKey,
        /// Offset of the first record that is kept.
        log_start: Offset,
    },
    /// A batch used up its sequence, and nothing of it was stored.
    Skipped(SkippedBatch),
    /// A consumer group was made, or was moved in some of its partitions.
    Group(GroupPositions),
    /// A consumer group was removed. Frames of it may still follow and mean nothing.
    GroupDeleted {
        /// Its topic.
        topic: TopicId,
        /// The group.
        group: GroupId,
    },
    /// A consumer group has settled records of a partition.
    Settled(SettledRecords),
    /// Records have failed in a consumer group and are to be delivered again.
    Failed(FailedRecords),
    /// A consumer group has given up records: they are settled, and to be in the dead-letter topic.
    DeadLetters(DeadLetters),
    /// Dead letters are in the dead-letter topic.
    Forwarded(ForwardedLetters),
    /// A producer claimed a name.
    Claim(ClaimedName),
}

/// Number of a frame among those of its virtual shard in one incarnation, from 0.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct FrameSequence(u64);

impl FrameSequence {
    /// From a plain number.
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// The plain number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The number of the frame after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// A frame as it was read, with its place in its virtual shard.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ReadFrame {
    /// The frame.
    pub frame: Frame,
    /// Its number among the frames of its virtual shard.
    pub sequence: FrameSequence,
}

/// What a frame's header says of its place.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FramePlace {
    /// The part of the node's state it changes.
    pub virtual_shard: VirtualShard,
    /// Its number among the frames of that virtual shard.
    pub sequence: FrameSequence,
    /// Length of the frame.
    pub length: usize,
}

impl Frame {
    /// The part of the node's state that the frame changes.
    pub fn virtual_shard(&self) -> VirtualShard {
        match self {
            Self::Append { partition, .. } | Self::Trim { partition, .. } => virtual_shard_of(*partition),
            Self::Skipped(skipped) => virtual_shard_of(skipped.partition),
            Self::Settled(settled) => virtual_shard_of(settled.partition),
            Self::Failed(failed) => virtual_shard_of(failed.partition),
            Self::DeadLetters(dead) => virtual_shard_of(dead.partition),
            Self::Forwarded(forwarded) => virtual_shard_of(forwarded.partition),
            Self::Topic(_)
            | Self::TopicDeleted(_)
            | Self::Group(_)
            | Self::GroupDeleted { .. }
            | Self::Claim(_) => VirtualShard::ZERO,
        }
    }

    /// Whether the frame may use the journal's reserve: it is small, and without it nothing could be freed.
    pub const fn is_control(&self) -> bool {
        match self {
            // It must not overtake the batches before it.
            Self::Append { .. } | Self::Skipped(_) => false,
            Self::Topic(_)
            | Self::TopicDeleted(_)
            | Self::Trim { .. }
            | Self::Group(_)
            | Self::GroupDeleted { .. }
            | Self::Settled(_)
            | Self::Failed(_)
            | Self::DeadLetters(_)
            | Self::Forwarded(_) => true,
            // Nothing is freed by it.
            Self::Claim(_) => false,
        }
    }

    /// Length of the frame in the journal.
    pub fn length(&self) -> usize {
        FRAME_HEADER_BYTES + self.body_length()
    }

    /// Writes the header and the body up to [`Frame::payload`], which follows.
    ///
    /// # Panics
    /// If the frame exceeds the format's limits.
    pub fn encode_head(&self, sequence: FrameSequence, out: &mut impl BufMut) {
        let body = u32::try_from(self.body_length()).expect("bodies are limited to 32 bits");
        assert!(body <= FRAME_BODY_BYTES_MAX, "a frame of {body} bytes exceeds the format's limit");
        let acked_below = match self {
            Self::Append { acked_below, .. } => *acked_below,
            Self::Skipped(skipped) => skipped.acked_below,
            Self::Topic(_)
            | Self::TopicDeleted(_)
            | Self::Trim { .. }
            | Self::Group(_)
            | Self::GroupDeleted { .. }
            | Self::Settled(_)
            | Self::Claim(_)
            | Self::Failed(_)
            | Self::DeadLetters(_)
            | Self::Forwarded(_) => Sequence::ZERO,
        };
        let mut header = [0u8; FRAME_HEADER_BYTES];
        let mut rest = &mut header[..];
        rest.put_u32_le(body);
        rest.put_u8(self.kind());
        rest.put_u8(0);
        rest.put_u16_le(self.virtual_shard().get());
        rest.put_u64_le(sequence.get());
        rest.put_u64_le(acked_below.get());
        rest.put_u32_le(0);
        let checksum = crc32fast::hash(&header[..CHECKSUM_AT]);
        header[CHECKSUM_AT..].copy_from_slice(&checksum.to_le_bytes());
        out.put_slice(&header);
        self.encode_body_head(out);
    }

    /// The end of the body, as it came: the producer part of a batch; nothing for other frames.
    pub const fn payload(&self) -> Option<&Bytes> {
        match self {
            Self::Append { batch, .. } => Some(batch.producer.bytes()),
            Self::Topic(_)
            | Self::TopicDeleted(_)
            | Self::Trim { .. }
            | Self::Skipped(_)
            | Self::Group(_)
            | Self::GroupDeleted { .. }
            | Self::Settled(_)
            | Self::Claim(_)
            | Self::Failed(_)
            | Self::DeadLetters(_)
            | Self::Forwarded(_) => None,
        }
    }

    /// Writes the whole frame.
    ///
    /// # Panics
    /// If the frame exceeds the format's limits.
    pub fn encode(&self, sequence: FrameSequence, out: &mut impl BufMut) {
        self.encode_head(sequence, out);
        if let Some(payload) = self.payload() {
            out.put_slice(payload);
        }
    }

    /// Takes one frame from the front of `bytes`. A batch keeps a share of them.
    ///
    /// # Errors
    /// What is wrong, and at which byte; `bytes` is then unchanged.
    pub fn decode(bytes: &mut Bytes) -> Result<ReadFrame, DecodeError> {
        let header = Header::decode(bytes)?;
        let end = FRAME_HEADER_BYTES + header.body_bytes;
        if bytes.len() < end {
            let available = bytes.len() - FRAME_HEADER_BYTES;
            let problem = Problem::Truncated { needed: header.body_bytes, available };
            return Err(DecodeError::new(FRAME_HEADER_BYTES, problem));
        }
        let body = bytes.slice(FRAME_HEADER_BYTES..end);
        let frame = Self::decode_body(&header, body).map_err(|error| error.shifted(FRAME_HEADER_BYTES))?;
        if frame.virtual_shard() != header.virtual_shard {
            let (value, expected) = (header.virtual_shard.get(), frame.virtual_shard().get());
            let (value, expected) = (u64::from(value), u64::from(expected));
            let problem = Problem::Mismatch { what: "virtual shard", value, expected };
            return Err(DecodeError::new(SHARD_AT, problem));
        }
        bytes.advance(end);
        Ok(ReadFrame { frame, sequence: header.sequence })
    }

    /// The place of the frame at the front of `bytes` in its virtual shard, and the frame's length, without looking
    /// at its body.
    ///
    /// # Errors
    /// What is wrong with the header, and at which byte.
    pub fn peek(bytes: &[u8]) -> Result<FramePlace, DecodeError> {
        let header = Header::decode(bytes)?;
        if header.virtual_shard.get() >= VIRTUAL_SHARDS {
            let value = u64::from(header.virtual_shard.get());
            return Err(DecodeError::new(SHARD_AT, Problem::Invalid { what: "virtual shard", value }));
        }
        Ok(FramePlace {
            virtual_shard: header.virtual_shard,
            sequence: header.sequence,
            length: FRAME_HEADER_BYTES + header.body_bytes,
        })
    }

    const fn kind(&self) -> u8 {
        match self {
            Self::Append { .. } => KIND_APPEND,
            Self::Topic(_) => KIND_TOPIC,
            Self::TopicDeleted(_) => KIND_TOPIC_DELETED,
            Self::Trim { .. } => KIND_TRIM,
            Self::Skipped(_) => KIND_SKIPPED,
            Self::Group(_) => KIND_GROUP,
            Self::GroupDeleted { .. } => KIND_GROUP_DELETED,
            Self::Settled(_) => KIND_SETTLED,
            Self::Failed(_) => KIND_FAILED,
            Self::DeadLetters(_) => KIND_DEAD_LETTERS,
            Self::Forwarded(_) => KIND_FORWARDED,
            Self::Claim(_) => KIND_CLAIM,
        }
    }

    fn body_length(&self) -> usize {
        match self {
            Self::Append { batch, .. } => batch.length(),
            Self::Topic(definition) => definition.length(),
            Self::TopicDeleted(_) => TOPIC_DELETED_BYTES,
            Self::Trim { .. } => TRIM_BYTES,
            Self::Skipped(_) => SkippedBatch::BYTES,
            Self::Group(group) => group.length(),
            Self::GroupDeleted { .. } => GROUP_DELETED_BYTES,
            Self::Settled(settled) => settled.length(),
            Self::Failed(failed) => failed.length(),
            Self::DeadLetters(dead) => dead.length(),
            Self::Forwarded(forwarded) => forwarded.length(),
            Self::Claim(claimed) => claimed.length(),
        }
    }

    fn encode_body_head(&self, out: &mut impl BufMut) {
        match self {
            Self::Append { partition, batch, .. } => {
                assert!(
                    *partition == batch.producer.header().partition,
                    "a batch is appended to the partition it names"
                );
                batch.section.encode(batch.producer.length(), out);
            }
            Self::Topic(definition) => definition.encode(out),
            Self::TopicDeleted(topic) => out.put_slice(&topic.to_bytes()),
            Self::Trim { partition, log_start } => {
                out.put_slice(&partition.topic.to_bytes());
                out.put_u32_le(partition.partition.get());
                out.put_u32_le(0);
                out.put_u64_le(log_start.get());
            }
            Self::Skipped(skipped) => skipped.encode(out),
            Self::Group(group) => group.encode(out),
            Self::GroupDeleted { topic, group } => {
                out.put_slice(&topic.to_bytes());
                out.put_u64_le(group.get());
            }
            Self::Settled(settled) => settled.encode(out),
            Self::Failed(failed) => failed.encode(out),
            Self::DeadLetters(dead) => dead.encode(out),
            Self::Forwarded(forwarded) => forwarded.encode(out),
            Self::Claim(claimed) => claimed.encode(out),
        }
    }

    fn decode_body(header: &Header, mut body: Bytes) -> Result<Self, DecodeError> {
        if header.kind == KIND_APPEND {
            let length = body.len();
            let batch = StoredBatch::decode(&mut body)?;
            if !body.is_empty() {
                return Err(DecodeError::new(length - body.len(), Problem::Trailing(body.len())));
            }
            let partition = batch.producer.header().partition;
            return Ok(Self::Append { partition, acked_below: header.acked_below, batch });
        }
        let mut reader = Reader::new(&body);
        let frame = match header.kind {
            KIND_TOPIC => Self::Topic(TopicDefinition::decode(&mut reader)?),
            KIND_TOPIC_DELETED => Self::TopicDeleted(TopicId::from_bytes(reader.bytes16()?)),
            KIND_TRIM => {
                let topic = TopicId::from_bytes(reader.bytes16()?);
                let partition = PartitionKey { topic, partition: PartitionId::new(reader.u32()?) };
                reader.u32()?;
                Self::Trim { partition, log_start: Offset::new(reader.u64()?) }
            }
            KIND_SKIPPED => Self::Skipped(SkippedBatch::decode(&mut reader, header.acked_below)?),
            KIND_GROUP => Self::Group(GroupPositions::decode(&mut reader)?),
            KIND_GROUP_DELETED => Self::GroupDeleted {
                topic: TopicId::from_bytes(reader.bytes16()?),
                group: GroupId::new(reader.u64()?),
            },
            KIND_SETTLED => Self::Settled(SettledRecords::decode(&mut reader)?),
            KIND_FAILED => Self::Failed(FailedRecords::decode(&mut reader)?),
            KIND_DEAD_LETTERS => Self::DeadLetters(DeadLetters::decode(&mut reader)?),
            KIND_FORWARDED => Self::Forwarded(ForwardedLetters::decode(&mut reader)?),
            KIND_CLAIM => Self::Claim(ClaimedName::decode(&mut reader)?),
            kind => return Err(reader.error(Problem::Invalid { what: "frame kind", value: u64::from(kind) })),
        };
        reader.finish()?;
        Ok(frame)
    }
}

/// The part of the node's state that a partition belongs to.
pub fn virtual_shard_of(partition: PartitionKey) -> VirtualShard {
    let mut key = [0u8; 20];
    let mut rest = &mut key[..];
    rest.put_slice(&partition.topic.to_bytes());
    rest.put_u32_le(partition.partition.get());
    let [low, ..] = xxh3_64(&key).to_le_bytes();
    VirtualShard::new(u16::from(low) % VIRTUAL_SHARDS)
}

/// A frame's header, verified.
struct Header {
    body_bytes: usize,
    kind: u8,
    virtual_shard: VirtualShard,
    sequence: FrameSequence,
    acked_below: Sequence,
}

impl Header {
    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let mut reader = Reader::new(reader.take(FRAME_HEADER_BYTES)?);
        let computed = crc32fast::hash(reader.clone().take(CHECKSUM_AT)?);
        let body_bytes = reader.u32()?;
        let kind = reader.u8()?;
        reader.u8()?;
        let virtual_shard = VirtualShard::new(reader.u16()?);
        let sequence = FrameSequence(reader.u64()?);
        let acked_below = Sequence::new(reader.u64()?);
        reader.u32()?;
        let stored = reader.u32()?;
        if stored != computed {
            let problem = Problem::Checksum { what: "frame header", stored, computed };
            return Err(DecodeError::new(CHECKSUM_AT, problem));
        }
        if body_bytes > FRAME_BODY_BYTES_MAX {
            let (value, max) = (u64::from(body_bytes), u64::from(FRAME_BODY_BYTES_MAX));
            return Err(DecodeError::new(0, Problem::TooLarge { what: "frame length", value, max }));
        }
        Ok(Self { body_bytes: body_bytes as usize, kind, virtual_shard, sequence, acked_below })
    }
}

const _: () = assert!(256 % VIRTUAL_SHARDS == 0, "the low byte of a hash spreads evenly");

const KIND_APPEND: u8 = 1;
const KIND_TOPIC: u8 = 2;
const KIND_TOPIC_DELETED: u8 = 3;
const KIND_TRIM: u8 = 4;
const KIND_SKIPPED: u8 = 5;
const KIND_GROUP: u8 = 13;
const KIND_GROUP_DELETED: u8 = 14;
const KIND_SETTLED: u8 = 15;
const KIND_FAILED: u8 = 16;
const KIND_DEAD_LETTERS: u8 = 17;
const KIND_FORWARDED: u8 = 20;
const KIND_CLAIM: u8 = 18;

/// Where the virtual shard stands in the header.
const SHARD_AT: usize = 6;
/// Where the checksum stands in the header, and how much it covers.
const CHECKSUM_AT: usize = 28;

const TOPIC_DELETED_BYTES: usize = 16;
const TRIM_BYTES: usize = 32;
const GROUP_DELETED_BYTES: usize = 24;

#[cfg(test)]
pub(crate) mod samples;
#[cfg(test)]
mod tests;
