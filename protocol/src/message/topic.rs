//! Topics: make, change, delete, list and describe them.

use bytes::{BufMut, Bytes};

use crate::error::DecodeError;
use crate::frame::FrameKind;
use crate::limits::{DEDUP_HORIZON_US_DEFAULT, NAME_BYTES_MAX};
use crate::message::{Message, RequestId};
use crate::read::Reader;
use crate::units::{Epoch, Offset, PartitionId, Timestamp, TopicId};
use crate::write::Write;

/// What can be chosen for a topic.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TopicSettings {
    /// Number of partitions, 1 to 10,000.
    pub partitions: u32,
    /// Records older than this many microseconds may go; `None` keeps them.
    pub retention_age_us: Option<u64>,
    /// Bytes kept of each partition; `None` for no limit.
    pub retention_bytes: Option<u64>,
    /// Longest producer part of a batch.
    pub batch_bytes_max: u32,
    /// Clients choose the partition themselves; such topics cannot be split.
    pub explicit_partitions: bool,
    /// Microseconds for which idempotency keys are remembered; `None` refuses records that have one.
    pub dedup_horizon_us: Option<u64>,
    /// The offset of the last record of each key is remembered.
    pub keyed_versions: bool,
    /// Idempotency keys that are expected in a second, of all partitions: the horizon is held to what there is room for.
    /// `None` for hardly any.
    pub dedup_keys_per_second: Option<u32>,
    /// Keys that say that they were made before were forgotten, perhaps, under a shorter horizon: they have expired. The broker's
    /// business; what a client says of it does not count.
    pub dedup_since: Timestamp,
}

const SETTING_AGE: u8 = 1;
const SETTING_BYTES: u8 = 1 << 1;
const SETTING_EXPLICIT: u8 = 1 << 2;
const SETTING_DEDUP_OFF: u8 = 1 << 3;
const SETTING_VERSIONS: u8 = 1 << 4;

impl TopicSettings {
    /// Bytes of the fields that are always there.
    const FIELDS_BYTES: u16 = 4 + 1 + 8 + 8 + 4;

    /// Bytes of the rate of keys and what follows.
    const MORE_BYTES: u16 = 4 + 8;

    /// Bytes of the shortest settings: their length and the fields that are always there.
    const BYTES_MIN: usize = 2 + Self::FIELDS_BYTES as usize;

    /// Writes the settings, with their length in front so that later versions may add some. What comes last is left out where
    /// it says nothing that a reader would not assume.
    pub fn encode(&self, out: &mut impl BufMut) {
        let flag = |on: bool, bit: u8| if on { bit } else { 0 };
        let rate = self.dedup_keys_per_second.unwrap_or(0);
        let has_more = rate > 0 || self.dedup_since != Timestamp::ZERO;
        let horizon = self.dedup_horizon_us.unwrap_or(DEDUP_HORIZON_US_DEFAULT);
        let has_horizon = has_more || horizon != DEDUP_HORIZON_US_DEFAULT;
        let more = if has_horizon { 8 } else { 0 } + if has_more { Self::MORE_BYTES } else { 0 };
        out.put_u16_le(Self::FIELDS_BYTES + more);
        out.put_u32_le(self.partitions);
        out.put_u8(
            flag(self.retention_age_us.is_some(), SETTING_AGE)
                | flag(self.retention_bytes.is_some(), SETTING_BYTES)
                | flag(self.explicit_partitions, SETTING_EXPLICIT)
                | flag(self.dedup_horizon_us.is_none(), SETTING_DEDUP_OFF)
                | flag(self.keyed_versions, SETTING_VERSIONS),
        );
        out.put_u64_le(self.retention_age_us.unwrap_or(0));
        out.put_u64_le(self.retention_bytes.unwrap_or(0));
        out.put_u32_le(self.batch_bytes_max);
        if has_horizon {
            out.put_u64_le(horizon);
        }
        if has_more {
            out.put_u32_le(rate);
            out.put_i64_le(self.dedup_since.as_micros());
        }
    }

    /// Reads settings; what a later version added is skipped.
    ///
    /// # Errors
    /// [`crate::Problem::Truncated`].
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let length = usize::from(reader.u16()?);
        let at = reader.position();
        let mut fields = Reader::new(reader.take(length)?);
        Self::decode_fields(&mut fields).map_err(|error| error.shifted(at))
    }

    fn decode_fields(fields: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let partitions = fields.u32()?;
        let flags = fields.u8()?;
        let age = fields.u64()?;
        let bytes = fields.u64()?;
        let batch_bytes_max = fields.u32()?;
        let horizon = if fields.remaining() >= 8 { fields.u64()? } else { DEDUP_HORIZON_US_DEFAULT };
        let has_more = fields.remaining() >= usize::from(Self::MORE_BYTES);
        let (rate, since) = if has_more { (fields.u32()?, fields.i64()?) } else { (0, 0) };
        Ok(Self {
            partitions,
            retention_age_us: (flags & SETTING_AGE != 0).then_some(age),
            retention_bytes: (flags & SETTING_BYTES != 0).then_some(bytes),
            batch_bytes_max,
            explicit_partitions: flags & SETTING_EXPLICIT != 0,
            dedup_horizon_us: (flags & SETTING_DEDUP_OFF == 0).then_some(horizon),
            keyed_versions: flags & SETTING_VERSIONS != 0,
            dedup_keys_per_second: (rate > 0).then_some(rate),
            dedup_since: Timestamp::from_micros(since),
        })
    }
}

/// A topic.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TopicInfo {
    /// The request this answers, or 0 inside a list.
    pub request: RequestId,
    /// Its identity.
    pub id: TopicId,
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
    /// What was chosen for it.
    pub settings: TopicSettings,
}

/// A partition of a topic.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PartitionInfo {
    /// Its number.
    pub partition: PartitionId,
    /// Generation of its owner.
    pub epoch: Epoch,
    /// First hash of its range; the range ends where the next partition's begins.
    pub range_start: u64,
    /// Offset of the first record that is kept.
    pub start_offset: Offset,
    /// The offset after the last visible record.
    pub end_offset: Offset,
    /// Bytes stored.
    pub bytes: u64,
}

/// Makes a topic. Answered by [`TopicInfo`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CreateTopic {
    /// Number of the request.
    pub request: RequestId,
    /// Name of the topic.
    pub name: String,
    /// What is chosen for it.
    pub settings: TopicSettings,
}

/// Changes a topic's settings. Answered by [`TopicInfo`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AlterTopic {
    /// Number of the request.
    pub request: RequestId,
    /// Name of the topic.
    pub name: String,
    /// All settings, changed or not.
    pub settings: TopicSettings,
}

/// Deletes a topic and its records. Answered by [`Done`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DeleteTopic {
    /// Number of the request.
    pub request: RequestId,
    /// Name of the topic.
    pub name: String,
}

/// Asks for the topics whose names come after `after`, in order of name. Answered by [`TopicList`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ListTopics {
    /// Number of the request.
    pub request: RequestId,
    /// The last name of the page before; empty for the first page.
    pub after: String,
}

/// Asks for a topic and its partitions from `first_partition` on. Answered by [`TopicDescription`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DescribeTopic {
    /// Number of the request.
    pub request: RequestId,
    /// Name of the topic.
    pub name: String,
    /// The first partition of the page.
    pub first_partition: PartitionId,
}

/// A request was done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Done {
    /// The request.
    pub request: RequestId,
}

/// A page of topics.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TopicList {
    /// The request this answers.
    pub request: RequestId,
    /// Whether there are more after the last of the page.
    pub more: bool,
    /// The topics, in order of name.
    pub topics: Vec<TopicInfo>,
}

/// A topic and a page of its partitions.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TopicDescription {
    /// The request this answers.
    pub request: RequestId,
    /// The topic.
    pub topic: TopicInfo,
    /// Partitions in order of number; the page ends with the last partition or at the page's limit.
    pub partitions: Vec<PartitionInfo>,
}

impl TopicInfo {
    /// The longest there is, with a name of the longest.
    pub const BYTES_MAX: usize = Self::BYTES_MIN + NAME_BYTES_MAX + 8;

    const BYTES_MIN: usize = 4 + 16 + 2 + 8 + TopicSettings::BYTES_MIN;
}

impl Message for TopicInfo {
    const KIND: FrameKind = FrameKind::TopicInfo;

    fn encode(&self, out: &mut impl BufMut) {
        out.put_u32_le(self.request);
        out.put_slice(&self.id.to_bytes());
        out.put_text(&self.name);
        out.put_i64_le(self.created.as_micros());
        self.settings.encode(out);
    }

    fn decode(reader: &mut Reader<'_>, _body: &Bytes) -> Result<Self, DecodeError> {
        Ok(Self {
            request: reader.u32()?,
            id: TopicId::from_bytes(reader.bytes16()?),
            name: reader.text("topic name", NAME_BYTES_MAX)?,
            created: Timestamp::from_micros(reader.i64()?),
            settings: TopicSettings::decode(reader)?,
        })
    }
}

impl PartitionInfo {
    /// Its length in a page.
    pub const BYTES: usize = 4 + 4 + 8 + 8 + 8 + 8;

    fn encode(&self, out: &mut impl BufMut) {
        out.put_u32_le(self.partition.get());
        out.put_u32_le(self.epoch.get());
        out.put_u64_le(self.range_start);
        out.put_u64_le(self.start_offset.get());
        out.put_u64_le(self.end_offset.get());
        out.put_u64_le(self.bytes);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            partition: PartitionId::new(reader.u32()?),
            epoch: Epoch::new(reader.u32()?),
            range_start: reader.u64()?,
            start_offset: reader.offset()?,
            end_offset: reader.offset()?,
            bytes: reader.u64()?,
        })
    }
}

impl Message for CreateTopic {
    const KIND: FrameKind = FrameKind::CreateTopic;

    fn encode(&self, out: &mut impl BufMut) {
        out.put_u32_le(self.request);
        out.put_text(&self.name);
        self.settings.encode(out);
    }

    fn decode(reader: &mut Reader<'_>, _body: &Bytes) -> Result<Self, DecodeError> {
        Ok(Self {
            request: reader.u32()?,
            name: reader.text("topic name", NAME_BYTES_MAX)?,
            settings: TopicSettings::decode(reader)?,
        })
    }
}

impl Message for AlterTopic {
    const KIND: FrameKind = FrameKind::AlterTopic;

    fn encode(&self, out: &mut impl BufMut) {
        out.put_u32_le(self.request);
        out.put_text(&self.name);
        self.settings.encode(out);
    }

    fn decode(reader: &mut Reader<'_>, _body: &Bytes) -> Result<Self, DecodeError> {
        Ok(Self {
            request: reader.u32()?,
            name: reader.text("topic name", NAME_BYTES_MAX)?,
            settings: TopicSettings::decode(reader)?,
        })
    }
}

impl Message for DeleteTopic {
    const KIND: FrameKind = FrameKind::DeleteTopic;

    fn encode(&self, out: &mut impl BufMut) {
        out.put_u32_le(self.request);
        out.put_text(&self.name);
    }

    fn decode(reader: &mut Reader<'_>, _body: &Bytes) -> Result<Self, DecodeError> {
        Ok(Self { request: reader.u32()?, name: reader.text("topic name", NAME_BYTES_MAX)? })
    }
}

impl Message for ListTopics {
    const KIND: FrameKind = FrameKind::ListTopics;

    fn encode(&self, out: &mut impl BufMut) {
        out.put_u32_le(self.request);
        out.put_text(&self.after);
    }

    fn decode(reader: &mut Reader<'_>, _body: &Bytes) -> Result<Self, DecodeError> {
        Ok(Self { request: reader.u32()?, after: reader.text("topic name", NAME_BYTES_MAX)? })
    }
}

impl Message for DescribeTopic {
    const KIND: FrameKind = FrameKind::DescribeTopic;

    fn encode(&self, out: &mut impl BufMut) {
        out.put_u32_le(self.request);
        out.put_text(&self.name);
        out.put_u32_le(self.first_partition.get());
    }

    fn decode(reader: &mut Reader<'_>, _body: &Bytes) -> Result<Self, DecodeError> {
        Ok(Self {
            request: reader.u32()?,
            name: reader.text("topic name", NAME_BYTES_MAX)?,
            first_partition: PartitionId::new(reader.u32()?),
        })
    }
}

impl Message for Done {
    const KIND: FrameKind = FrameKind::Done;

    fn encode(&self, out: &mut impl BufMut) {
        out.put_u32_le(self.request);
    }

    fn decode(reader: &mut Reader<'_>, _body: &Bytes) -> Result<Self, DecodeError> {
        Ok(Self { request: reader.u32()? })
    }
}

impl Message for TopicList {
    const KIND: FrameKind = FrameKind::TopicList;

    fn encode(&self, out: &mut impl BufMut) {
        out.put_u32_le(self.request);
        out.put_u8(u8::from(self.more));
        out.put_count(self.topics.len());
        self.topics.iter().for_each(|topic| topic.encode(out));
    }

    fn decode(reader: &mut Reader<'_>, body: &Bytes) -> Result<Self, DecodeError> {
        let request = reader.u32()?;
        let more = reader.flag("more")?;
        let count = reader.count("topic count", TopicInfo::BYTES_MIN)?;
        let topics = (0..count).map(|_| TopicInfo::decode(reader, body)).collect::<Result<_, _>>()?;
        Ok(Self { request, more, topics })
    }
}

impl Message for TopicDescription {
    const KIND: FrameKind = FrameKind::TopicDescription;

    fn encode(&self, out: &mut impl BufMut) {
        out.put_u32_le(self.request);
        self.topic.encode(out);
        out.put_count(self.partitions.len());
        self.partitions.iter().for_each(|partition| partition.encode(out));
    }

    fn decode(reader: &mut Reader<'_>, body: &Bytes) -> Result<Self, DecodeError> {
        let request = reader.u32()?;
        let topic = TopicInfo::decode(reader, body)?;
        let count = reader.count("partition count", PartitionInfo::BYTES)?;
        let partitions = (0..count).map(|_| PartitionInfo::decode(reader)).collect::<Result<_, _>>()?;
        Ok(Self { request, topic, partitions })
    }
}
