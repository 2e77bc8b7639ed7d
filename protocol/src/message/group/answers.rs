//! Encodings of what a broker says of groups.

use super::{
    BufMut, Bytes, DecodeError, FrameKind, GROUP_MEMBERS_MAX, GroupDescription, GroupInfo, GroupList,
    GroupPartition, GroupReset, LeaseEpoch, MemberInfo, Message, MovedPosition, NAME_BYTES_MAX, PartitionId,
    Problem, Reader, Timestamp, WaitsFor, Write,
};

impl MovedPosition {
    const BYTES: usize = 4 + 8 + 8;

    fn encode(&self, out: &mut impl BufMut) {
        out.put_u32_le(self.partition.get());
        out.put_u64_le(self.from.get());
        out.put_u64_le(self.to.get());
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { partition: PartitionId::new(reader.u32()?), from: reader.offset()?, to: reader.offset()? })
    }
}

impl GroupInfo {
    /// The longest there is, with names of the longest.
    pub const BYTES_MAX: usize = Self::BYTES_MIN + 2 * NAME_BYTES_MAX;

    const BYTES_MIN: usize = 2 + 2 + 8 + 4 + 4 + 8;

    fn encode(&self, out: &mut impl BufMut) {
        out.put_text(&self.group);
        out.put_text(&self.topic);
        out.put_i64_le(self.created.as_micros());
        out.put_u32_le(self.members);
        out.put_u32_le(self.partitions);
        out.put_u64_le(self.lag);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            group: reader.text("group name", NAME_BYTES_MAX)?,
            topic: reader.text("topic name", NAME_BYTES_MAX)?,
            created: Timestamp::from_micros(reader.i64()?),
            members: reader.u32()?,
            partitions: reader.u32()?,
            lag: reader.u64()?,
        })
    }
}

impl MemberInfo {
    const BYTES_MIN: usize = 2 + 1 + 4 + 4;

    fn encode(&self, out: &mut impl BufMut) {
        out.put_text(&self.member);
        out.put_u8(u8::from(self.connected));
        out.put_u32_le(self.partitions);
        out.put_u32_le(self.lease_left_ms);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            member: reader.text("member name", NAME_BYTES_MAX)?,
            connected: reader.flag("connected")?,
            partitions: reader.u32()?,
            lease_left_ms: reader.u32()?,
        })
    }
}

/// What stands in place of a cause where nothing reads.
const NO_READER: u8 = u8::MAX;

/// What stands in place of an owner where there is none.
const NO_OWNER: u32 = u32::MAX;

impl GroupPartition {
    const BYTES: usize = 4 + 8 + 8 + 8 + 4 + 8 + 1 + 1;

    fn encode(&self, out: &mut impl BufMut) {
        out.put_u32_le(self.partition.get());
        out.put_u64_le(self.committed.get());
        out.put_u64_le(self.end_offset.get());
        out.put_u64_le(self.settled_above);
        let (owner, lease) = self.owner.unwrap_or((NO_OWNER, LeaseEpoch::ZERO));
        out.put_u32_le(owner);
        out.put_u64_le(lease.get());
        out.put_u8(u8::from(self.revoked));
        out.put_u8(self.waits_for.map_or(NO_READER, WaitsFor::number));
    }

    fn decode(reader: &mut Reader<'_>, members: usize) -> Result<Self, DecodeError> {
        let partition = PartitionId::new(reader.u32()?);
        let (committed, end_offset) = (reader.offset()?, reader.offset()?);
        let settled_above = reader.u64()?;
        let at = reader.position();
        let owner = reader.u32()?;
        let lease = LeaseEpoch::new(reader.u64()?);
        let known = owner == NO_OWNER && lease == LeaseEpoch::ZERO || (owner as usize) < members;
        if !known {
            return Err(DecodeError::new(at, Problem::Invalid { what: "owner", value: u64::from(owner) }));
        }
        let owner = (owner != NO_OWNER).then_some((owner, lease));
        let revoked = reader.flag("revoked")?;
        let at = reader.position();
        let waits_for = match reader.u8()? {
            NO_READER => None,
            number => Some(WaitsFor::from_number(number).ok_or_else(|| {
                DecodeError::new(at, Problem::Invalid { what: "cause", value: u64::from(number) })
            })?),
        };
        Ok(Self { partition, committed, end_offset, settled_above, owner, revoked, waits_for })
    }
}

impl Message for GroupReset {
    const KIND: FrameKind = FrameKind::GroupReset;

    fn encode(&self, out: &mut impl BufMut) {
        out.put_u32_le(self.request);
        out.put_count(self.partitions.len());
        self.partitions.iter().for_each(|partition| partition.encode(out));
    }

    fn decode(reader: &mut Reader<'_>, _body: &Bytes) -> Result<Self, DecodeError> {
        let request = reader.u32()?;
        let count = reader.count("partition count", MovedPosition::BYTES)?;
        let partitions = (0..count).map(|_| MovedPosition::decode(reader)).collect::<Result<_, _>>()?;
        Ok(Self { request, partitions })
    }
}

impl Message for GroupList {
    const KIND: FrameKind = FrameKind::GroupList;

    fn encode(&self, out: &mut impl BufMut) {
        out.put_u32_le(self.request);
        out.put_u8(u8::from(self.more));
        out.put_count(self.groups.len());
        self.groups.iter().for_each(|group| group.encode(out));
    }

    fn decode(reader: &mut Reader<'_>, _body: &Bytes) -> Result<Self, DecodeError> {
        let request = reader.u32()?;
        let more = reader.flag("more")?;
        let count = reader.count("group count", GroupInfo::BYTES_MIN)?;
        let groups = (0..count).map(|_| GroupInfo::decode(reader)).collect::<Result<_, _>>()?;
        Ok(Self { request, more, groups })
    }
}

impl Message for GroupDescription {
    const KIND: FrameKind = FrameKind::GroupDescription;

    fn encode(&self, out: &mut impl BufMut) {
        out.put_u32_le(self.request);
        self.group.encode(out);
        out.put_count(self.members.len());
        self.members.iter().for_each(|member| member.encode(out));
        out.put_count(self.partitions.len());
        self.partitions.iter().for_each(|partition| partition.encode(out));
    }

    fn decode(reader: &mut Reader<'_>, _body: &Bytes) -> Result<Self, DecodeError> {
        let request = reader.u32()?;
        let group = GroupInfo::decode(reader)?;
        let at = reader.position();
        let count = reader.count("member count", MemberInfo::BYTES_MIN)?;
        if count > GROUP_MEMBERS_MAX {
            let (value, max) = (count as u64, GROUP_MEMBERS_MAX as u64);
            return Err(DecodeError::new(at, Problem::TooLarge { what: "member count", value, max }));
        }
        let members = (0..count).map(|_| MemberInfo::decode(reader)).collect::<Result<_, _>>()?;
        let partitions = reader.count("partition count", GroupPartition::BYTES)?;
        let partitions =
            (0..partitions).map(|_| GroupPartition::decode(reader, count)).collect::<Result<_, _>>()?;
        Ok(Self { request, group, members, partitions })
    }
}
