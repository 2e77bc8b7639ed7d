//! Claiming a name: one producer has it at a time.

use bytes::{BufMut, Bytes};

use crate::error::DecodeError;
use crate::frame::FrameKind;
use crate::limits::NAME_BYTES_MAX;
use crate::message::{Message, RequestId};
use crate::read::Reader;
use crate::units::TopicId;
use crate::write::Write;

/// Claims a name among the producers of a topic: whoever had it before is fenced. Answered by
/// [`ProducerOpened`](super::ProducerOpened), with the identity of the name and an epoch that is higher than any before.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClaimProducer {
    /// Number of the request.
    pub request: RequestId,
    /// The topic.
    pub topic: TopicId,
    /// The name.
    pub name: String,
}

impl Message for ClaimProducer {
    const KIND: FrameKind = FrameKind::ClaimProducer;

    fn encode(&self, out: &mut impl BufMut) {
        out.put_u32_le(self.request);
        out.put_slice(&self.topic.to_bytes());
        out.put_text(&self.name);
    }

    fn decode(reader: &mut Reader<'_>, _body: &Bytes) -> Result<Self, DecodeError> {
        let request = reader.u32()?;
        let topic = TopicId::from_bytes(reader.bytes16()?);
        Ok(Self { request, topic, name: reader.text("producer name", NAME_BYTES_MAX)? })
    }
}
