//! A name that a producer of a topic has claimed.

use bytes::BufMut;
use weir_protocol::DecodeError;
use weir_protocol::limits::NAME_BYTES_MAX;
use weir_protocol::read::Reader;
use weir_protocol::units::{Epoch, ProducerId, TopicId};
use weir_protocol::write::Write;

/// Who has a name from now on. Whoever had it before, under a lower epoch, writes nothing more.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClaimedName {
    /// The topic.
    pub topic: TopicId,
    /// The name, which is unique within the topic.
    pub name: String,
    /// Whoever has the name.
    pub claim: Claim,
}

/// Who may write under a name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Claim {
    /// The producer: the same for every holder of the name.
    pub producer: ProducerId,
    /// Tells the holders apart: each claim raises it.
    pub epoch: Epoch,
}

impl ClaimedName {
    /// Bytes beside the name.
    const FIXED_BYTES: usize = 16 + 8 + 4 + 2;

    /// Length of the body.
    pub(crate) fn length(&self) -> usize {
        Self::FIXED_BYTES + self.name.len()
    }

    /// Writes the body.
    ///
    /// # Panics
    /// If the name is longer than its limit, which was checked when it was claimed.
    pub(crate) fn encode(&self, out: &mut impl BufMut) {
        assert!(self.name.len() <= NAME_BYTES_MAX, "a claimed name is within its limit");
        out.put_slice(&self.topic.to_bytes());
        out.put_u64_le(self.claim.producer.get());
        out.put_u32_le(self.claim.epoch.get());
        out.put_text(&self.name);
    }

    /// Reads the body.
    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let topic = TopicId::from_bytes(reader.bytes16()?);
        let claim = Claim { producer: ProducerId::new(reader.u64()?), epoch: Epoch::new(reader.u32()?) };
        Ok(Self { topic, name: reader.text("producer name", NAME_BYTES_MAX)?, claim })
    }
}
