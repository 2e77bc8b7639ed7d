//! The first exchange of a connection: versions, features and limits of both sides.

use bytes::{BufMut, Bytes};

use crate::error::{DecodeError, Problem};
use crate::frame::FrameKind;
use crate::limits::{NAME_BYTES_MAX, TEXT_BYTES_MAX};
use crate::message::Message;
use crate::read::Reader;
use crate::units::Incarnation;
use crate::write::Write;

/// The version of the protocol described here.
pub const PROTOCOL_VERSION: u16 = 1;

/// First bytes of a client's first frame body.
const MAGIC: u32 = u32::from_le_bytes(*b"WEIR");

/// Opens a connection: the first frame on its first stream.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Hello {
    /// Lowest protocol version the client speaks.
    pub version_min: u16,
    /// Highest protocol version the client speaks.
    pub version_max: u16,
    /// Features the client knows, as bits. None is defined yet.
    pub features: u64,
    /// Longest body of a frame the client takes.
    pub frame_bytes_max: u32,
    /// A name for logs and metrics; may be empty.
    pub client_name: String,
    /// Version of the client software.
    pub client_version: String,
}

/// What a broker holds a connection to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ServerLimits {
    /// Longest body of a frame the broker takes.
    pub frame_bytes_max: u32,
    /// Longest producer part of a batch, unless the topic allows less.
    pub batch_bytes_max: u32,
    /// Longest key, value and headers of a record together.
    pub record_bytes_max: u32,
    /// Batches of a producer that may be unacknowledged in one partition.
    pub unacked_batches_max: u32,
    /// Streams one producer or subscription may use.
    pub lanes_max: u32,
    /// Streams a connection may have open.
    pub streams_max: u32,
}

/// Accepts a connection.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Welcome {
    /// The version both will speak.
    pub version: u16,
    /// The features both will use.
    pub features: u64,
    /// How often the broker's data has been opened: a change tells a client that the broker was restarted.
    pub incarnation: Incarnation,
    /// Identity of the broker's data.
    pub node: [u8; 16],
    /// What the broker holds the connection to.
    pub limits: ServerLimits,
    /// Version of the broker software.
    pub server_version: String,
}

impl Message for Hello {
    const KIND: FrameKind = FrameKind::Hello;

    fn encode(&self, out: &mut impl BufMut) {
        out.put_u32_le(MAGIC);
        out.put_u16_le(self.version_min);
        out.put_u16_le(self.version_max);
        out.put_u64_le(self.features);
        out.put_u32_le(self.frame_bytes_max);
        out.put_text(&self.client_name);
        out.put_text(&self.client_version);
    }

    fn decode(reader: &mut Reader<'_>, _body: &Bytes) -> Result<Self, DecodeError> {
        let magic = reader.u32()?;
        if magic != MAGIC {
            let problem =
                Problem::Mismatch { what: "magic", value: u64::from(magic), expected: u64::from(MAGIC) };
            return Err(DecodeError::new(0, problem));
        }
        Ok(Self {
            version_min: reader.u16()?,
            version_max: reader.u16()?,
            features: reader.u64()?,
            frame_bytes_max: reader.u32()?,
            client_name: reader.text("client name", NAME_BYTES_MAX)?,
            client_version: reader.text("client version", TEXT_BYTES_MAX)?,
        })
    }
}

impl Message for Welcome {
    const KIND: FrameKind = FrameKind::Welcome;

    fn encode(&self, out: &mut impl BufMut) {
        out.put_u16_le(self.version);
        out.put_u64_le(self.features);
        out.put_u64_le(self.incarnation.get());
        out.put_slice(&self.node);
        out.put_u32_le(self.limits.frame_bytes_max);
        out.put_u32_le(self.limits.batch_bytes_max);
        out.put_u32_le(self.limits.record_bytes_max);
        out.put_u32_le(self.limits.unacked_batches_max);
        out.put_u32_le(self.limits.lanes_max);
        out.put_u32_le(self.limits.streams_max);
        out.put_text(&self.server_version);
    }

    fn decode(reader: &mut Reader<'_>, _body: &Bytes) -> Result<Self, DecodeError> {
        Ok(Self {
            version: reader.u16()?,
            features: reader.u64()?,
            incarnation: Incarnation::new(reader.u64()?),
            node: reader.bytes16()?,
            limits: ServerLimits {
                frame_bytes_max: reader.u32()?,
                batch_bytes_max: reader.u32()?,
                record_bytes_max: reader.u32()?,
                unacked_batches_max: reader.u32()?,
                lanes_max: reader.u32()?,
                streams_max: reader.u32()?,
            },
            server_version: reader.text("server version", TEXT_BYTES_MAX)?,
        })
    }
}
