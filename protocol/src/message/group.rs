//! Consumer groups: made, removed, moved and described by requests on the control stream.
//!
//! A group reads one topic and is named by the topic and a name of its own.

mod answers;

use bytes::{BufMut, Bytes};

use crate::error::{DecodeError, Problem};
use crate::frame::FrameKind;
use crate::limits::{GROUP_MEMBERS_MAX, NAME_BYTES_MAX, START_OFFSETS_MAX};
use crate::message::{Message, RequestId, WaitsFor};
use crate::read::Reader;
use crate::units::{LeaseEpoch, Offset, PartitionId, Timestamp};
use crate::write::Write;

/// Where a group is to stand in its partitions.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum GroupStart {
    /// At the first record that is kept.
    Earliest,
    /// At the next record that becomes visible.
    Latest,
    /// At these offsets, at most [`START_OFFSETS_MAX`], each within what its partition holds. In the other partitions a
    /// new group stands at the first record that is kept; a reset leaves them where they are.
    Offsets(Vec<(PartitionId, Offset)>),
}

/// Makes a group. Answered by `Done` once that is durable.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CreateGroup {
    /// Number of the request.
    pub request: RequestId,
    /// Name of the topic.
    pub topic: String,
    /// Name of the group.
    pub group: String,
    /// Where it starts.
    pub start: GroupStart,
}

/// Removes a group that has no members, with its positions. Answered by `Done` once that is durable.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DeleteGroup {
    /// Number of the request.
    pub request: RequestId,
    /// Name of the topic.
    pub topic: String,
    /// Name of the group.
    pub group: String,
}

/// Moves the positions of a group. Answered by [`GroupReset`] once that is durable.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ResetGroup {
    /// Number of the request.
    pub request: RequestId,
    /// Name of the topic.
    pub topic: String,
    /// Name of the group.
    pub group: String,
    /// Where it is to stand.
    pub to: GroupStart,
    /// Nothing is moved: the answer says what would be.
    pub dry_run: bool,
}

/// Asks for the groups that come after one, in order of their names and their topics' names. Answered by [`GroupList`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ListGroups {
    /// Number of the request.
    pub request: RequestId,
    /// Name of the last group of the page before; empty for the first page.
    pub after_group: String,
    /// Name of its topic.
    pub after_topic: String,
}

/// Asks for a group and its partitions from `first_partition` on. Answered by [`GroupDescription`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DescribeGroup {
    /// Number of the request.
    pub request: RequestId,
    /// Name of the topic.
    pub topic: String,
    /// Name of the group.
    pub group: String,
    /// The first partition of the page.
    pub first_partition: PartitionId,
}

/// Positions were moved.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct GroupReset {
    /// The request this answers.
    pub request: RequestId,
    /// The partitions that were meant, in order of number.
    pub partitions: Vec<MovedPosition>,
}

/// Where a group stood in a partition, and where it stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct MovedPosition {
    /// The partition.
    pub partition: PartitionId,
    /// The first record that was not settled.
    pub from: Offset,
    /// The first record that is not settled now.
    pub to: Offset,
}

/// A page of groups.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct GroupList {
    /// The request this answers.
    pub request: RequestId,
    /// Whether there are more after the last of the page.
    pub more: bool,
    /// The groups, in order of their names and their topics' names.
    pub groups: Vec<GroupInfo>,
}

/// A group in short.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct GroupInfo {
    /// Its name.
    pub group: String,
    /// Name of its topic.
    pub topic: String,
    /// When it was made.
    pub created: Timestamp,
    /// Its members.
    pub members: u32,
    /// Partitions of its topic.
    pub partitions: u32,
    /// Visible records that are not settled.
    pub lag: u64,
}

/// A group and a page of its partitions.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct GroupDescription {
    /// The request this answers.
    pub request: RequestId,
    /// The group.
    pub group: GroupInfo,
    /// Its members, in order of name.
    pub members: Vec<MemberInfo>,
    /// Partitions in order of number; the page ends with the last partition or at the page's limit.
    pub partitions: Vec<GroupPartition>,
}

/// A member of a group.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MemberInfo {
    /// Its name.
    pub member: String,
    /// Whether its stream is open.
    pub connected: bool,
    /// Partitions leased to it.
    pub partitions: u32,
    /// Milliseconds until its leases end if it is not heard of.
    pub lease_left_ms: u32,
}

/// Where a group stands in a partition.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct GroupPartition {
    /// The partition.
    pub partition: PartitionId,
    /// The first record that is not settled, durably.
    pub committed: Offset,
    /// The offset after the last visible record.
    pub end_offset: Offset,
    /// Records above `committed` that are settled.
    pub settled_above: u64,
    /// The owner, as its number among the members, and its lease.
    pub owner: Option<(u32, LeaseEpoch)>,
    /// Whether the owner was asked to give it back.
    pub revoked: bool,
    /// What the owner's reading of it waits for; `None` if nothing reads it.
    pub waits_for: Option<WaitsFor>,
}

impl GroupStart {
    fn encode(&self, out: &mut impl BufMut) {
        let (kind, offsets) = match self {
            Self::Earliest => (START_EARLIEST, &[][..]),
            Self::Latest => (START_LATEST, &[][..]),
            Self::Offsets(offsets) => (START_OFFSETS, &offsets[..]),
        };
        out.put_u8(kind);
        out.put_count(offsets.len());
        for (partition, offset) in offsets {
            out.put_u32_le(partition.get());
            out.put_u64_le(offset.get());
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let at = reader.position();
        let kind = reader.u8()?;
        let count_at = reader.position();
        let count = reader.count("offset count", 12)?;
        if count > START_OFFSETS_MAX {
            let (value, max) = (count as u64, START_OFFSETS_MAX as u64);
            return Err(DecodeError::new(count_at, Problem::TooLarge { what: "offset count", value, max }));
        }
        let entry = |reader: &mut Reader<'_>| Ok((PartitionId::new(reader.u32()?), reader.offset()?));
        match kind {
            START_EARLIEST | START_LATEST if count > 0 => {
                let problem = Problem::Invalid { what: "offset count", value: count as u64 };
                Err(DecodeError::new(count_at, problem))
            }
            START_EARLIEST => Ok(Self::Earliest),
            START_LATEST => Ok(Self::Latest),
            START_OFFSETS => Ok(Self::Offsets((0..count).map(|_| entry(reader)).collect::<Result<_, _>>()?)),
            other => {
                let problem = Problem::Invalid { what: "group start", value: u64::from(other) };
                Err(DecodeError::new(at, problem))
            }
        }
    }
}

const START_EARLIEST: u8 = 0;
const START_LATEST: u8 = 1;
const START_OFFSETS: u8 = 2;

/// Reads the names of a topic and of a group.
fn names(reader: &mut Reader<'_>) -> Result<(String, String), DecodeError> {
    Ok((reader.text("topic name", NAME_BYTES_MAX)?, reader.text("group name", NAME_BYTES_MAX)?))
}

impl Message for CreateGroup {
    const KIND: FrameKind = FrameKind::CreateGroup;

    fn encode(&self, out: &mut impl BufMut) {
        out.put_u32_le(self.request);
        out.put_text(&self.topic);
        out.put_text(&self.group);
        self.start.encode(out);
    }

    fn decode(reader: &mut Reader<'_>, _body: &Bytes) -> Result<Self, DecodeError> {
        let request = reader.u32()?;
        let (topic, group) = names(reader)?;
        Ok(Self { request, topic, group, start: GroupStart::decode(reader)? })
    }
}

impl Message for DeleteGroup {
    const KIND: FrameKind = FrameKind::DeleteGroup;

    fn encode(&self, out: &mut impl BufMut) {
        out.put_u32_le(self.request);
        out.put_text(&self.topic);
        out.put_text(&self.group);
    }

    fn decode(reader: &mut Reader<'_>, _body: &Bytes) -> Result<Self, DecodeError> {
        let request = reader.u32()?;
        let (topic, group) = names(reader)?;
        Ok(Self { request, topic, group })
    }
}

impl Message for ResetGroup {
    const KIND: FrameKind = FrameKind::ResetGroup;

    fn encode(&self, out: &mut impl BufMut) {
        out.put_u32_le(self.request);
        out.put_text(&self.topic);
        out.put_text(&self.group);
        self.to.encode(out);
        out.put_u8(u8::from(self.dry_run));
    }

    fn decode(reader: &mut Reader<'_>, _body: &Bytes) -> Result<Self, DecodeError> {
        let request = reader.u32()?;
        let (topic, group) = names(reader)?;
        Ok(Self { request, topic, group, to: GroupStart::decode(reader)?, dry_run: reader.flag("dry run")? })
    }
}

impl Message for ListGroups {
    const KIND: FrameKind = FrameKind::ListGroups;

    fn encode(&self, out: &mut impl BufMut) {
        out.put_u32_le(self.request);
        out.put_text(&self.after_group);
        out.put_text(&self.after_topic);
    }

    fn decode(reader: &mut Reader<'_>, _body: &Bytes) -> Result<Self, DecodeError> {
        Ok(Self {
            request: reader.u32()?,
            after_group: reader.text("group name", NAME_BYTES_MAX)?,
            after_topic: reader.text("topic name", NAME_BYTES_MAX)?,
        })
    }
}

impl Message for DescribeGroup {
    const KIND: FrameKind = FrameKind::DescribeGroup;

    fn encode(&self, out: &mut impl BufMut) {
        out.put_u32_le(self.request);
        out.put_text(&self.topic);
        out.put_text(&self.group);
        out.put_u32_le(self.first_partition.get());
    }

    fn decode(reader: &mut Reader<'_>, _body: &Bytes) -> Result<Self, DecodeError> {
        let request = reader.u32()?;
        let (topic, group) = names(reader)?;
        Ok(Self { request, topic, group, first_partition: PartitionId::new(reader.u32()?) })
    }
}
