//! The definition of a topic, as a frame and the state keep it.

use bytes::BufMut;
use weir_protocol::limits::{NAME_BYTES_MAX, TOPIC_PARTITIONS_MAX};
use weir_protocol::message::TopicSettings;
use weir_protocol::read::Reader;
use weir_protocol::units::{Timestamp, TopicId};
use weir_protocol::write::Write;
use weir_protocol::{DecodeError, Problem};

/// The whole of what is known of a topic.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TopicDefinition {
    /// Its identity.
    pub id: TopicId,
    /// Its name, unique among the topics that exist.
    pub name: String,
    /// When it was created.
    pub created: Timestamp,
    /// How often it was changed.
    pub revision: u64,
    /// What was chosen for it.
    pub settings: TopicSettings,
}

impl TopicDefinition {
    /// Length of the encoded definition.
    pub fn length(&self) -> usize {
        let mut settings = Vec::with_capacity(32);
        self.settings.encode(&mut settings);
        4 + DEFINITION_FIXED_BYTES + self.name.len() + settings.len()
    }

    /// Writes the definition, with its length in front so that later versions may add fields.
    ///
    /// # Panics
    /// If the name exceeds its limit, which was checked when the topic was made.
    pub fn encode(&self, out: &mut impl BufMut) {
        assert!(self.name.len() <= NAME_BYTES_MAX, "the name of a topic is within its limit");
        let mut fields = Vec::with_capacity(DEFINITION_FIXED_BYTES + self.name.len() + 32);
        fields.put_slice(&self.id.to_bytes());
        fields.put_i64_le(self.created.as_micros());
        fields.put_u64_le(self.revision);
        fields.put_text(&self.name);
        self.settings.encode(&mut fields);
        out.put_count(fields.len());
        out.put_slice(&fields);
    }

    /// Reads a definition; what a later version added is skipped.
    ///
    /// # Errors
    /// What is wrong, and at which byte.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let length = reader.count("topic definition length", 1)?;
        let at = reader.position();
        let mut fields = Reader::new(reader.take(length)?);
        Self::decode_fields(&mut fields).map_err(|error| error.shifted(at))
    }

    fn decode_fields(fields: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let definition = Self {
            id: TopicId::from_bytes(fields.bytes16()?),
            created: Timestamp::from_micros(fields.i64()?),
            revision: fields.u64()?,
            name: fields.text("topic name", NAME_BYTES_MAX)?,
            settings: TopicSettings::decode(fields)?,
        };
        let (what, value) = ("partition count", u64::from(definition.settings.partitions));
        match u64::from(TOPIC_PARTITIONS_MAX) {
            max if value > max => Err(fields.error(Problem::TooLarge { what, value, max })),
            _ => Ok(definition),
        }
    }
}

/// Id, creation time, revision and the length of the name.
const DEFINITION_FIXED_BYTES: usize = 16 + 8 + 8 + 2;
