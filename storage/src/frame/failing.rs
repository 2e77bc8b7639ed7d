//! What frames say of records that consumer groups could not process.

use bytes::BufMut;
use weir_protocol::DecodeError;
use weir_protocol::limits::REASON_BYTES_MAX;
use weir_protocol::read::Reader;
use weir_protocol::units::{GroupId, Offset, PartitionId, PartitionKey, Timestamp, TopicId};
use weir_protocol::write::Write;

/// A record that is to be delivered again.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct FailingRecord {
    /// How often it has failed.
    pub failed: u32,
    /// How often it came back without a verdict: its member was gone.
    pub returned: u32,
    /// When it failed or came back first.
    pub first: Timestamp,
    /// When it failed or came back last.
    pub last: Timestamp,
    /// It is not delivered before.
    pub due: Timestamp,
}

/// A record that was given up, and is to be in the dead-letter topic.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct DeadLetter {
    /// How often it has failed.
    pub failed: u32,
    /// How often it came back without a verdict.
    pub returned: u32,
    /// When it failed or came back first.
    pub first: Timestamp,
    /// When it failed last.
    pub last: Timestamp,
    /// Why it failed last.
    pub reason: String,
}

/// Records of a partition have failed in a group: this is how they stand from now on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FailedRecords {
    /// The partition.
    pub partition: PartitionKey,
    /// The group.
    pub group: GroupId,
    /// The records.
    pub records: Vec<(Offset, FailingRecord)>,
}

/// A group has given up records of a partition: they are settled, and to be in the dead-letter topic.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DeadLetters {
    /// The partition.
    pub partition: PartitionKey,
    /// The group.
    pub group: GroupId,
    /// The records.
    pub letters: Vec<(Offset, DeadLetter)>,
}

/// Dead letters are in the dead-letter topic.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ForwardedLetters {
    /// The partition in which the records were.
    pub partition: PartitionKey,
    /// The group.
    pub group: GroupId,
    /// Their offsets there.
    pub offsets: Vec<Offset>,
}

impl FailingRecord {
    /// Writes it.
    pub(crate) fn encode(&self, out: &mut impl BufMut) {
        out.put_u32_le(self.failed);
        out.put_u32_le(self.returned);
        out.put_i64_le(self.first.as_micros());
        out.put_i64_le(self.last.as_micros());
        out.put_i64_le(self.due.as_micros());
    }

    /// Reads it.
    ///
    /// # Errors
    /// What is wrong, and at which byte.
    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            failed: reader.u32()?,
            returned: reader.u32()?,
            first: Timestamp::from_micros(reader.i64()?),
            last: Timestamp::from_micros(reader.i64()?),
            due: Timestamp::from_micros(reader.i64()?),
        })
    }
}

impl DeadLetter {
    /// Length of its encoding.
    pub(crate) const fn encoded_bytes(&self) -> usize {
        LETTER_BYTES_MIN - 8 + self.reason.len()
    }

    /// Writes it.
    pub(crate) fn encode(&self, out: &mut impl BufMut) {
        out.put_u32_le(self.failed);
        out.put_u32_le(self.returned);
        out.put_i64_le(self.first.as_micros());
        out.put_i64_le(self.last.as_micros());
        out.put_text(&self.reason);
    }

    /// Reads it.
    ///
    /// # Errors
    /// What is wrong, and at which byte.
    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            failed: reader.u32()?,
            returned: reader.u32()?,
            first: Timestamp::from_micros(reader.i64()?),
            last: Timestamp::from_micros(reader.i64()?),
            reason: reader.text("reason", REASON_BYTES_MAX)?,
        })
    }
}

/// A partition and a group, and how many items follow.
fn encode_front((partition, group): (PartitionKey, GroupId), count: usize, out: &mut impl BufMut) {
    out.put_slice(&partition.topic.to_bytes());
    out.put_u32_le(partition.partition.get());
    out.put_u64_le(group.get());
    out.put_count(count);
}

fn decode_front(
    reader: &mut Reader<'_>,
    what: &'static str,
    item_bytes: usize,
) -> Result<(PartitionKey, GroupId, usize), DecodeError> {
    let topic = TopicId::from_bytes(reader.bytes16()?);
    let partition = PartitionKey { topic, partition: PartitionId::new(reader.u32()?) };
    Ok((partition, GroupId::new(reader.u64()?), reader.count(what, item_bytes)?))
}

impl FailedRecords {
    pub(super) const fn length(&self) -> usize {
        FRONT_BYTES + self.records.len() * FAILING_BYTES
    }

    pub(super) fn encode(&self, out: &mut impl BufMut) {
        encode_front((self.partition, self.group), self.records.len(), out);
        for (offset, record) in &self.records {
            out.put_u64_le(offset.get());
            record.encode(out);
        }
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (partition, group, count) = decode_front(reader, "failed record count", FAILING_BYTES)?;
        let records = (0..count).map(|_| Ok((reader.offset()?, FailingRecord::decode(reader)?)));
        Ok(Self { partition, group, records: records.collect::<Result<_, _>>()? })
    }
}

impl DeadLetters {
    pub(super) fn length(&self) -> usize {
        let letters = self.letters.iter().map(|(_, letter)| 8 + letter.encoded_bytes());
        FRONT_BYTES + letters.sum::<usize>()
    }

    pub(super) fn encode(&self, out: &mut impl BufMut) {
        encode_front((self.partition, self.group), self.letters.len(), out);
        for (offset, letter) in &self.letters {
            out.put_u64_le(offset.get());
            letter.encode(out);
        }
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (partition, group, count) = decode_front(reader, "dead letter count", LETTER_BYTES_MIN)?;
        let letters = (0..count).map(|_| Ok((reader.offset()?, DeadLetter::decode(reader)?)));
        Ok(Self { partition, group, letters: letters.collect::<Result<_, _>>()? })
    }
}

impl ForwardedLetters {
    pub(super) const fn length(&self) -> usize {
        FRONT_BYTES + self.offsets.len() * 8
    }

    pub(super) fn encode(&self, out: &mut impl BufMut) {
        encode_front((self.partition, self.group), self.offsets.len(), out);
        self.offsets.iter().for_each(|offset| out.put_u64_le(offset.get()));
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (partition, group, count) = decode_front(reader, "forwarded letter count", 8)?;
        let offsets = (0..count).map(|_| reader.offset()).collect::<Result<_, _>>()?;
        Ok(Self { partition, group, offsets })
    }
}

/// Topic, partition, group and count.
const FRONT_BYTES: usize = 16 + 4 + 8 + 4;
/// Bytes of a failing record and its offset.
pub(crate) const FAILING_BYTES: usize = 8 + 4 + 4 + 8 + 8 + 8;
/// Bytes of a dead letter without a reason, and of its offset.
pub(crate) const LETTER_BYTES_MIN: usize = 8 + 4 + 4 + 8 + 8 + 2;
