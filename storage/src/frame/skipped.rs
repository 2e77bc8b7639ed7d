//! A batch of which nothing was stored.

use bytes::BufMut;
use weir_protocol::DecodeError;
use weir_protocol::read::Reader;
use weir_protocol::units::{Epoch, PartitionId, PartitionKey, ProducerId, Sequence, TopicId};

/// All records of a batch were void: none got an offset. What remains is that its sequence is used up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SkippedBatch {
    /// The partition it was sent to.
    pub partition: PartitionKey,
    /// By whom.
    pub producer: ProducerId,
    /// In which generation.
    pub producer_epoch: Epoch,
    /// Its sequence.
    pub sequence: Sequence,
    /// The producer has seen the answers to all its batches below this sequence.
    pub acked_below: Sequence,
    /// How many records it had.
    pub record_count: u32,
}

impl SkippedBatch {
    /// Length of the body.
    pub(super) const BYTES: usize = 16 + 4 + 4 + 8 + 8 + 4 + 4;

    /// Writes the body. What was acknowledged stands in the header of the frame.
    pub(super) fn encode(&self, out: &mut impl BufMut) {
        out.put_slice(&self.partition.topic.to_bytes());
        out.put_u32_le(self.partition.partition.get());
        out.put_u32_le(self.producer_epoch.get());
        out.put_u64_le(self.producer.get());
        out.put_u64_le(self.sequence.get());
        out.put_u32_le(self.record_count);
        out.put_u32_le(0);
    }

    /// Reads the body.
    pub(super) fn decode(reader: &mut Reader<'_>, acked_below: Sequence) -> Result<Self, DecodeError> {
        let topic = TopicId::from_bytes(reader.bytes16()?);
        let partition = PartitionKey { topic, partition: PartitionId::new(reader.u32()?) };
        let producer_epoch = Epoch::new(reader.u32()?);
        let producer = ProducerId::new(reader.u64()?);
        let sequence = reader.sequence()?;
        let record_count = reader.u32()?;
        reader.u32()?;
        Ok(Self { partition, producer, producer_epoch, sequence, acked_below, record_count })
    }
}
