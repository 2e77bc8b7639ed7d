//! Snapshots: a copy of everything the broker holds, made on its own disk.

use bytes::{BufMut, Bytes};

use crate::error::DecodeError;
use crate::frame::FrameKind;
use crate::limits::{NAME_BYTES_MAX, TEXT_BYTES_MAX};
use crate::message::{Message, RequestId};
use crate::read::Reader;
use crate::write::Write;

/// Makes a snapshot of everything acknowledged so far. Answered by [`SnapshotCreated`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CreateSnapshot {
    /// Number of the request.
    pub request: RequestId,
    /// Name of the snapshot. Where it is put is the broker's choice, not the client's.
    pub name: String,
}

/// A snapshot was made and is durable.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SnapshotCreated {
    /// The request this answers.
    pub request: RequestId,
    /// Its directory on the broker's machine.
    pub directory: String,
    /// Segments in it.
    pub segments: u64,
    /// Their bytes, which share the space of the broker's own files.
    pub bytes: u64,
}

impl Message for CreateSnapshot {
    const KIND: FrameKind = FrameKind::CreateSnapshot;

    fn encode(&self, out: &mut impl BufMut) {
        out.put_u32_le(self.request);
        out.put_text(&self.name);
    }

    fn decode(reader: &mut Reader<'_>, _body: &Bytes) -> Result<Self, DecodeError> {
        Ok(Self { request: reader.u32()?, name: reader.text("snapshot name", NAME_BYTES_MAX)? })
    }
}

impl Message for SnapshotCreated {
    const KIND: FrameKind = FrameKind::SnapshotCreated;

    fn encode(&self, out: &mut impl BufMut) {
        out.put_u32_le(self.request);
        out.put_text(&self.directory);
        out.put_u64_le(self.segments);
        out.put_u64_le(self.bytes);
    }

    fn decode(reader: &mut Reader<'_>, _body: &Bytes) -> Result<Self, DecodeError> {
        Ok(Self {
            request: reader.u32()?,
            directory: reader.text("snapshot directory", TEXT_BYTES_MAX)?,
            segments: reader.u64()?,
            bytes: reader.u64()?,
        })
    }
}
