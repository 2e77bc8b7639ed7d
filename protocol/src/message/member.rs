//! Membership: one stream of a member carries its heartbeats, its leases and its acknowledgements.
//!
//! The client opens the stream with [`JoinGroup`] and says [`Heartbeat`] from time to time; the broker repeats each. It
//! leases partitions with [`PartitionAssigned`]; records of a leased partition come on a reading lane that was told to
//! start with the lease. What is settled goes back in [`AckRecords`], and counts only while the lease lasts.

use bytes::{BufMut, Bytes};

use crate::code::ErrorCode;
use crate::cursor::Cursor;
use crate::error::{DecodeError, Problem};
use crate::frame::FrameKind;
use crate::limits::{ACK_RANGES_MAX, NAME_BYTES_MAX};
use crate::message::Message;
use crate::message::failure::read_code;
use crate::read::Reader;
use crate::units::{LeaseEpoch, Offset, PartitionId, TopicId};
use crate::write::Write;

/// Makes the stream that of a member of a group.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct JoinGroup {
    /// The topic.
    pub topic: TopicId,
    /// Name of the group.
    pub group: String,
    /// Name of the member, unique in the group; whoever comes back under it gets its partitions back.
    pub member: String,
    /// Number of this consumer under the name, higher for later ones: the same one comes back to its leases, another one
    /// replaces it.
    pub instance: u64,
    /// Milliseconds for which the member keeps its partitions without being heard of.
    pub lease_ms: u32,
    /// Milliseconds for which its partitions wait for it after it has left.
    pub grace_ms: u32,
}

/// The member is there. The broker answers with the same number: everything leased then is leased for as long again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Heartbeat {
    /// Number of the heartbeat.
    pub number: u64,
}

/// A partition is leased to the member from now on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PartitionAssigned {
    /// The partition.
    pub partition: PartitionId,
    /// The lease.
    pub lease: LeaseEpoch,
    /// What the group has settled of it.
    pub cursor: Cursor,
}

/// The member is to finish what it has of a partition and give it back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PartitionRevoked {
    /// The partition.
    pub partition: PartitionId,
    /// The lease.
    pub lease: LeaseEpoch,
    /// Milliseconds until the lease ends by itself. Heartbeats do not prolong it any more.
    pub deadline_ms: u32,
}

/// Gives a partition back: the member has done with it, or the broker was started again and does not know the lease.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ReleasePartition {
    /// The partition.
    pub partition: PartitionId,
    /// The lease.
    pub lease: LeaseEpoch,
}

/// A lease has ended without the member's doing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PartitionLost {
    /// The partition.
    pub partition: PartitionId,
    /// The lease.
    pub lease: LeaseEpoch,
    /// Why.
    pub code: ErrorCode,
}

/// Records are settled. Answered by [`RecordsAcked`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AckRecords {
    /// Number of the acknowledgement.
    pub number: u64,
    /// The partition.
    pub partition: PartitionId,
    /// The lease under which they were delivered.
    pub lease: LeaseEpoch,
    /// Ranges of offsets, none empty: first, and the one after the last.
    pub ranges: Vec<(Offset, Offset)>,
}

/// What became of an acknowledgement: durable, or refused as a whole.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RecordsAcked {
    /// Number of the acknowledgement.
    pub number: u64,
    /// The partition.
    pub partition: PartitionId,
    /// Why it was refused; `None` if it is durable.
    pub refused: Option<ErrorCode>,
    /// The first record that is not settled, durably; 0 if it was refused.
    pub committed: Offset,
}

/// The member leaves; its partitions are given back, or wait for it as long as it asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LeaveGroup;

impl Message for JoinGroup {
    const KIND: FrameKind = FrameKind::JoinGroup;

    fn encode(&self, out: &mut impl BufMut) {
        out.put_slice(&self.topic.to_bytes());
        out.put_text(&self.group);
        out.put_text(&self.member);
        out.put_u64_le(self.instance);
        out.put_u32_le(self.lease_ms);
        out.put_u32_le(self.grace_ms);
    }

    fn decode(reader: &mut Reader<'_>, _body: &Bytes) -> Result<Self, DecodeError> {
        Ok(Self {
            topic: TopicId::from_bytes(reader.bytes16()?),
            group: reader.text("group name", NAME_BYTES_MAX)?,
            member: reader.text("member name", NAME_BYTES_MAX)?,
            instance: reader.u64()?,
            lease_ms: reader.u32()?,
            grace_ms: reader.u32()?,
        })
    }
}

impl Message for Heartbeat {
    const KIND: FrameKind = FrameKind::Heartbeat;

    fn encode(&self, out: &mut impl BufMut) {
        out.put_u64_le(self.number);
    }

    fn decode(reader: &mut Reader<'_>, _body: &Bytes) -> Result<Self, DecodeError> {
        Ok(Self { number: reader.u64()? })
    }
}

fn leased(reader: &mut Reader<'_>) -> Result<(PartitionId, LeaseEpoch), DecodeError> {
    Ok((PartitionId::new(reader.u32()?), LeaseEpoch::new(reader.u64()?)))
}

impl Message for PartitionAssigned {
    const KIND: FrameKind = FrameKind::PartitionAssigned;

    fn encode(&self, out: &mut impl BufMut) {
        out.put_u32_le(self.partition.get());
        out.put_u64_le(self.lease.get());
        self.cursor.encode(out);
    }

    fn decode(reader: &mut Reader<'_>, _body: &Bytes) -> Result<Self, DecodeError> {
        let (partition, lease) = leased(reader)?;
        Ok(Self { partition, lease, cursor: Cursor::decode(reader)? })
    }
}

impl Message for PartitionRevoked {
    const KIND: FrameKind = FrameKind::PartitionRevoked;

    fn encode(&self, out: &mut impl BufMut) {
        out.put_u32_le(self.partition.get());
        out.put_u64_le(self.lease.get());
        out.put_u32_le(self.deadline_ms);
    }

    fn decode(reader: &mut Reader<'_>, _body: &Bytes) -> Result<Self, DecodeError> {
        let (partition, lease) = leased(reader)?;
        Ok(Self { partition, lease, deadline_ms: reader.u32()? })
    }
}

impl Message for ReleasePartition {
    const KIND: FrameKind = FrameKind::ReleasePartition;

    fn encode(&self, out: &mut impl BufMut) {
        out.put_u32_le(self.partition.get());
        out.put_u64_le(self.lease.get());
    }

    fn decode(reader: &mut Reader<'_>, _body: &Bytes) -> Result<Self, DecodeError> {
        let (partition, lease) = leased(reader)?;
        Ok(Self { partition, lease })
    }
}

impl Message for PartitionLost {
    const KIND: FrameKind = FrameKind::PartitionLost;

    fn encode(&self, out: &mut impl BufMut) {
        out.put_u32_le(self.partition.get());
        out.put_u64_le(self.lease.get());
        out.put_u16_le(self.code.number());
    }

    fn decode(reader: &mut Reader<'_>, _body: &Bytes) -> Result<Self, DecodeError> {
        let (partition, lease) = leased(reader)?;
        Ok(Self { partition, lease, code: read_code(reader)? })
    }
}

impl Message for AckRecords {
    const KIND: FrameKind = FrameKind::AckRecords;

    fn encode(&self, out: &mut impl BufMut) {
        out.put_u64_le(self.number);
        out.put_u32_le(self.partition.get());
        out.put_u64_le(self.lease.get());
        out.put_count(self.ranges.len());
        for (from, to) in &self.ranges {
            out.put_u64_le(from.get());
            out.put_u64_le(to.get());
        }
    }

    fn decode(reader: &mut Reader<'_>, _body: &Bytes) -> Result<Self, DecodeError> {
        let number = reader.u64()?;
        let (partition, lease) = leased(reader)?;
        let at = reader.position();
        let count = reader.count("range count", 16)?;
        if count > ACK_RANGES_MAX {
            let (value, max) = (count as u64, ACK_RANGES_MAX as u64);
            return Err(DecodeError::new(at, Problem::TooLarge { what: "range count", value, max }));
        }
        let range = |reader: &mut Reader<'_>| {
            let from = reader.offset()?;
            let at = reader.position();
            let to = reader.offset()?;
            if to <= from {
                return Err(DecodeError::new(
                    at,
                    Problem::Invalid { what: "end of a range", value: to.get() },
                ));
            }
            Ok((from, to))
        };
        let ranges = (0..count).map(|_| range(reader)).collect::<Result<_, _>>()?;
        Ok(Self { number, partition, lease, ranges })
    }
}

impl Message for RecordsAcked {
    const KIND: FrameKind = FrameKind::RecordsAcked;

    fn encode(&self, out: &mut impl BufMut) {
        out.put_u64_le(self.number);
        out.put_u32_le(self.partition.get());
        out.put_u16_le(self.refused.map_or(0, ErrorCode::number));
        out.put_u64_le(self.committed.get());
    }

    fn decode(reader: &mut Reader<'_>, _body: &Bytes) -> Result<Self, DecodeError> {
        let number = reader.u64()?;
        let partition = PartitionId::new(reader.u32()?);
        let is_durable = reader.clone().u16()? == 0;
        let refused = if is_durable { reader.u16().map(|_| None)? } else { Some(read_code(reader)?) };
        Ok(Self { number, partition, refused, committed: reader.offset()? })
    }
}

impl Message for LeaveGroup {
    const KIND: FrameKind = FrameKind::LeaveGroup;

    fn encode(&self, _out: &mut impl BufMut) {}

    fn decode(_reader: &mut Reader<'_>, _body: &Bytes) -> Result<Self, DecodeError> {
        Ok(Self)
    }
}
