//! What a broker remembers of idempotency keys: of a single one, and in figures.

use bytes::{BufMut, Bytes};

use crate::error::DecodeError;
use crate::frame::FrameKind;
use crate::limits::{IDEMPOTENCY_KEY_BYTES_MAX, NAME_BYTES_MAX};
use crate::message::{Message, RequestId};
use crate::read::Reader;
use crate::units::{Offset, PartitionId, Timestamp};
use crate::write::Write;

/// Asks what is remembered of an idempotency key. Answered by [`KeyFound`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FindKey {
    /// Number of the request.
    pub request: RequestId,
    /// The topic.
    pub name: String,
    /// The hash of the routing key it was sent with.
    pub routing_hash: u64,
    /// The key, of at most 64 bytes: decoding checks it.
    pub key: Vec<u8>,
}

/// What is remembered of an idempotency key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct KeyFound {
    /// The request this answers.
    pub request: RequestId,
    /// Nothing if the key is free.
    pub key: Option<RememberedKey>,
}

/// A key that is remembered, and the record it belongs to.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct RememberedKey {
    /// The partition of the record.
    pub partition: PartitionId,
    /// Its offset.
    pub offset: Offset,
    /// When it was appended.
    pub append_time: Timestamp,
    /// What tells it from another record under the same key.
    pub fingerprint: [u8; 16],
    /// The key is remembered for so many microseconds more, at least.
    pub remaining_us: u64,
    /// The record is in no segment yet, and its key in memory.
    pub is_recent: bool,
}

/// Asks for figures of all keys, and of those of topics. Answered by [`DedupDescription`], a page at a time.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DescribeDedup {
    /// Number of the request.
    pub request: RequestId,
    /// Only this topic; all of them if empty.
    pub name: String,
    /// The last name of the page before; empty for the first page.
    pub after: String,
}

/// Figures of all keys, and a page of topics.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DedupDescription {
    /// The request this answers.
    pub request: RequestId,
    /// Whether there are more topics behind the last of the page.
    pub more: bool,
    /// All keys of the node.
    pub keys: DedupFigures,
    /// Topics in order of name.
    pub topics: Vec<TopicDedup>,
}

/// The keys of a node, and what they take.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct DedupFigures {
    /// Keys in memory, of batches that are in no segment yet.
    pub recent_keys: u64,
    /// How many of these there is memory for.
    pub recent_keys_max: u64,
    /// Keys on the disk.
    pub flushed_keys: u64,
    /// The files they stand in.
    pub generations: u64,
    /// How many of these have a filter of half the width.
    pub narrow_filters: u64,
    /// How many have none: each new key is looked for in them on the disk.
    pub missing_filters: u64,
    /// How many cannot be read: keys that may be in them are refused.
    pub lost_generations: u64,
    /// Memory of filters in bytes.
    pub filter_bytes: u64,
    /// How much that may be.
    pub filter_bytes_max: u64,
    /// Bytes of keys on the disk.
    pub disk_bytes: u64,
    /// At so many no more keys are taken.
    pub disk_bytes_max: u64,
}

/// What became of the records with keys that were sent to a topic.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TopicDedup {
    /// Its name.
    pub name: String,
    /// For so many microseconds a key is remembered, at least; 0 if the topic takes none.
    pub horizon_us: u64,
    /// Counted since the broker started.
    pub counts: KeyedCounts,
}

/// Records with keys, by what became of them.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct KeyedCounts {
    /// They were new.
    pub stored: u64,
    /// They had been stored before.
    pub duplicates: u64,
    /// Their key belonged to another record.
    pub conflicts: u64,
    /// Their key was too old.
    pub expired: u64,
    /// There was no room for their key.
    pub full: u64,
}

impl Message for FindKey {
    const KIND: FrameKind = FrameKind::FindKey;

    /// # Panics
    /// If the key is longer than its limit: whoever asks checks it first.
    fn encode(&self, out: &mut impl BufMut) {
        assert!(self.key.len() <= IDEMPOTENCY_KEY_BYTES_MAX, "an idempotency key is within its limit");
        out.put_u32_le(self.request);
        out.put_text(&self.name);
        out.put_u64_le(self.routing_hash);
        out.put_u8(u8::try_from(self.key.len()).expect("checked above"));
        out.put_slice(&self.key);
    }

    fn decode(reader: &mut Reader<'_>, _body: &Bytes) -> Result<Self, DecodeError> {
        let (request, name) = (reader.u32()?, reader.text("topic name", NAME_BYTES_MAX)?);
        let routing_hash = reader.u64()?;
        let at = reader.position();
        let length = usize::from(reader.u8()?);
        if length > IDEMPOTENCY_KEY_BYTES_MAX {
            let (value, max) = (length as u64, IDEMPOTENCY_KEY_BYTES_MAX as u64);
            let what = "idempotency key length";
            return Err(DecodeError::new(at, crate::Problem::TooLarge { what, value, max }));
        }
        Ok(Self { request, name, routing_hash, key: reader.take(length)?.to_vec() })
    }
}

impl Message for KeyFound {
    const KIND: FrameKind = FrameKind::KeyFound;

    fn encode(&self, out: &mut impl BufMut) {
        out.put_u32_le(self.request);
        out.put_u8(u8::from(self.key.is_some()));
        if let Some(key) = &self.key {
            out.put_u32_le(key.partition.get());
            out.put_u64_le(key.offset.get());
            out.put_i64_le(key.append_time.as_micros());
            out.put_slice(&key.fingerprint);
            out.put_u64_le(key.remaining_us);
            out.put_u8(u8::from(key.is_recent));
        }
    }

    fn decode(reader: &mut Reader<'_>, _body: &Bytes) -> Result<Self, DecodeError> {
        let request = reader.u32()?;
        let is_known = reader.flag("found")?;
        let key = is_known.then(|| RememberedKey::decode(reader)).transpose()?;
        Ok(Self { request, key })
    }
}

impl RememberedKey {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            partition: PartitionId::new(reader.u32()?),
            offset: reader.offset()?,
            append_time: Timestamp::from_micros(reader.i64()?),
            fingerprint: reader.bytes16()?,
            remaining_us: reader.u64()?,
            is_recent: reader.flag("recent")?,
        })
    }
}

impl Message for DescribeDedup {
    const KIND: FrameKind = FrameKind::DescribeDedup;

    fn encode(&self, out: &mut impl BufMut) {
        out.put_u32_le(self.request);
        out.put_text(&self.name);
        out.put_text(&self.after);
    }

    fn decode(reader: &mut Reader<'_>, _body: &Bytes) -> Result<Self, DecodeError> {
        Ok(Self {
            request: reader.u32()?,
            name: reader.text("topic name", NAME_BYTES_MAX)?,
            after: reader.text("topic name", NAME_BYTES_MAX)?,
        })
    }
}

impl Message for DedupDescription {
    const KIND: FrameKind = FrameKind::DedupDescription;

    fn encode(&self, out: &mut impl BufMut) {
        out.put_u32_le(self.request);
        out.put_u8(u8::from(self.more));
        self.keys.encode(out);
        out.put_count(self.topics.len());
        self.topics.iter().for_each(|topic| topic.encode(out));
    }

    fn decode(reader: &mut Reader<'_>, _body: &Bytes) -> Result<Self, DecodeError> {
        let (request, more) = (reader.u32()?, reader.flag("more")?);
        let keys = DedupFigures::decode(reader)?;
        let count = reader.count("topic count", TopicDedup::BYTES_MIN)?;
        let topics = (0..count).map(|_| TopicDedup::decode(reader)).collect::<Result<_, _>>()?;
        Ok(Self { request, more, keys, topics })
    }
}

impl DedupFigures {
    fn encode(&self, out: &mut impl BufMut) {
        for figure in [
            self.recent_keys,
            self.recent_keys_max,
            self.flushed_keys,
            self.generations,
            self.narrow_filters,
            self.missing_filters,
            self.lost_generations,
            self.filter_bytes,
            self.filter_bytes_max,
            self.disk_bytes,
            self.disk_bytes_max,
        ] {
            out.put_u64_le(figure);
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            recent_keys: reader.u64()?,
            recent_keys_max: reader.u64()?,
            flushed_keys: reader.u64()?,
            generations: reader.u64()?,
            narrow_filters: reader.u64()?,
            missing_filters: reader.u64()?,
            lost_generations: reader.u64()?,
            filter_bytes: reader.u64()?,
            filter_bytes_max: reader.u64()?,
            disk_bytes: reader.u64()?,
            disk_bytes_max: reader.u64()?,
        })
    }
}

impl TopicDedup {
    /// Bytes with an empty name.
    const BYTES_MIN: usize = 2 + 8 + 5 * 8;

    fn encode(&self, out: &mut impl BufMut) {
        let KeyedCounts { stored, duplicates, conflicts, expired, full } = self.counts;
        out.put_text(&self.name);
        for figure in [self.horizon_us, stored, duplicates, conflicts, expired, full] {
            out.put_u64_le(figure);
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            name: reader.text("topic name", NAME_BYTES_MAX)?,
            horizon_us: reader.u64()?,
            counts: KeyedCounts {
                stored: reader.u64()?,
                duplicates: reader.u64()?,
                conflicts: reader.u64()?,
                expired: reader.u64()?,
                full: reader.u64()?,
            },
        })
    }
}
