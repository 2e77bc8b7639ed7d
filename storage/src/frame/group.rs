//! What frames say of consumer groups.

use bytes::BufMut;
use weir_protocol::limits::NAME_BYTES_MAX;
use weir_protocol::read::Reader;
use weir_protocol::units::{GroupId, Offset, PartitionId, PartitionKey, Timestamp, TopicId};
use weir_protocol::write::Write;
use weir_protocol::{DecodeError, Redelivery};

/// The whole of what is known of a consumer group, but for its positions.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct GroupDefinition {
    /// Its identity.
    pub id: GroupId,
    /// The topic it reads.
    pub topic: TopicId,
    /// Its name, unique among the groups of the topic.
    pub name: String,
    /// When it was created.
    pub created: Timestamp,
    /// What it does with records that fail.
    pub redelivery: Redelivery,
    /// Milliseconds of the longest lease that a member may have; 0 if none has one.
    pub longest_lease_ms: u32,
}

/// A group, and where it stands from now on in some partitions; nothing above that is settled.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct GroupPositions {
    /// The group.
    pub definition: GroupDefinition,
    /// The first record that is not settled; every partition if the group is new.
    pub positions: Vec<(PartitionId, Offset)>,
}

/// Records that a group has settled.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SettledRecords {
    /// The partition.
    pub partition: PartitionKey,
    /// The group.
    pub group: GroupId,
    /// Ranges of offsets: first, and the one after the last.
    pub ranges: Vec<(Offset, Offset)>,
}

impl GroupDefinition {
    fn length(&self) -> usize {
        let redelivery = if self.has_redelivery() { self.redelivery.encoded_bytes() } else { 0 };
        let lease = if self.longest_lease_ms > 0 { 4 } else { 0 };
        4 + DEFINITION_FIXED_BYTES + self.name.len() + redelivery + lease
    }

    /// Fields at the end are left out if they and all behind them say nothing.
    fn has_redelivery(&self) -> bool {
        self.redelivery != Redelivery::default() || self.longest_lease_ms > 0
    }

    /// Writes the definition, with its length in front so that later versions may add fields.
    ///
    /// # Panics
    /// If the name exceeds its limit, which was checked when the group was made.
    pub fn encode(&self, out: &mut impl BufMut) {
        assert!(self.name.len() <= NAME_BYTES_MAX, "the name of a group is within its limit");
        out.put_count(self.length() - 4);
        out.put_u64_le(self.id.get());
        out.put_slice(&self.topic.to_bytes());
        out.put_i64_le(self.created.as_micros());
        out.put_text(&self.name);
        if self.has_redelivery() {
            self.redelivery.encode(out);
        }
        if self.longest_lease_ms > 0 {
            out.put_u32_le(self.longest_lease_ms);
        }
    }

    /// Reads a definition; what a later version added is skipped.
    ///
    /// # Errors
    /// What is wrong, and at which byte.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let length = reader.count("group definition length", 1)?;
        let at = reader.position();
        let mut fields = Reader::new(reader.take(length)?);
        Self::decode_fields(&mut fields).map_err(|error| error.shifted(at))
    }

    fn decode_fields(fields: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let id = GroupId::new(fields.u64()?);
        let topic = TopicId::from_bytes(fields.bytes16()?);
        let created = Timestamp::from_micros(fields.i64()?);
        let name = fields.text("group name", NAME_BYTES_MAX)?;
        let has_more = fields.remaining() > 0;
        let redelivery = if has_more { Redelivery::decode(fields)? } else { Redelivery::default() };
        let longest_lease_ms = if fields.remaining() > 0 { fields.u32()? } else { 0 };
        Ok(Self { id, topic, created, name, redelivery, longest_lease_ms })
    }
}

impl GroupPositions {
    pub(super) fn length(&self) -> usize {
        self.definition.length() + 4 + self.positions.len() * POSITION_BYTES
    }

    pub(super) fn encode(&self, out: &mut impl BufMut) {
        self.definition.encode(out);
        out.put_count(self.positions.len());
        for (partition, offset) in &self.positions {
            out.put_u32_le(partition.get());
            out.put_u64_le(offset.get());
        }
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let definition = GroupDefinition::decode(reader)?;
        let count = reader.count("position count", POSITION_BYTES)?;
        let position = |_| Ok((PartitionId::new(reader.u32()?), reader.offset()?));
        Ok(Self { definition, positions: (0..count).map(position).collect::<Result<_, _>>()? })
    }
}

impl SettledRecords {
    pub(super) const fn length(&self) -> usize {
        16 + 4 + 8 + 4 + self.ranges.len() * RANGE_BYTES
    }

    pub(super) fn encode(&self, out: &mut impl BufMut) {
        out.put_slice(&self.partition.topic.to_bytes());
        out.put_u32_le(self.partition.partition.get());
        out.put_u64_le(self.group.get());
        out.put_count(self.ranges.len());
        for (from, to) in &self.ranges {
            out.put_u64_le(from.get());
            out.put_u64_le(to.get());
        }
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let topic = TopicId::from_bytes(reader.bytes16()?);
        let partition = PartitionKey { topic, partition: PartitionId::new(reader.u32()?) };
        let group = GroupId::new(reader.u64()?);
        let count = reader.count("range count", RANGE_BYTES)?;
        let ranges = (0..count).map(|_| Ok((reader.offset()?, reader.offset()?)));
        Ok(Self { partition, group, ranges: ranges.collect::<Result<_, _>>()? })
    }
}

/// Identities, creation time and the length of the name.
const DEFINITION_FIXED_BYTES: usize = 8 + 16 + 8 + 2;
const POSITION_BYTES: usize = 4 + 8;
const RANGE_BYTES: usize = 8 + 8;
