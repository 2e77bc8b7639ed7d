//! Compression of batch bodies: done and undone by clients only.

use bytes::Bytes;

use crate::error::{DecodeError, Problem};
use crate::read::Reader;

/// How a body is compressed. The codes are those of Kafka's batches.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// LZ4 frame format: cheap.
    Lz4,
    /// Zstandard, level 1: dense.
    Zstd,
}

impl Compression {
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let at = reader.position();
        match reader.u8()? {
            0 => Ok(Self::None),
            3 => Ok(Self::Lz4),
            4 => Ok(Self::Zstd),
            other => {
                let problem = Problem::Invalid { what: "compression", value: u64::from(other) };
                Err(DecodeError::new(at, problem))
            }
        }
    }

    /// The name used in errors and options.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "uncompressed",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// Compresses `body`, or returns `None` where that would not make it smaller.
    #[cfg(feature = "compression")]
    pub(crate) fn compress(self, body: &[u8]) -> Option<Vec<u8>> {
        use std::io::Write as _;
        let compressed = match self {
            Self::None => return None,
            Self::Lz4 => {
                let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::with_capacity(body.len() / 2));
                encoder.write_all(body).ok()?;
                encoder.finish().ok()?
            }
            Self::Zstd => zstd::bulk::compress(body, 1).ok()?,
        };
        (compressed.len() < body.len()).then_some(compressed)
    }

    /// Without the feature `compression` every body stays as it is.
    #[cfg(not(feature = "compression"))]
    pub(crate) fn compress(self, _body: &[u8]) -> Option<Vec<u8>> {
        None
    }

    /// Restores a body to exactly `uncompressed_bytes`, never allocating more than that.
    pub(crate) fn decompress(self, body: Bytes, uncompressed_bytes: u32) -> Result<Bytes, DecodeError> {
        if self == Self::None {
            return Ok(body);
        }
        self.restore(&body, uncompressed_bytes as usize)
            .ok_or_else(|| DecodeError::new(super::PRODUCER_HEADER_BYTES, Problem::Compression(self.name())))
    }

    #[cfg(feature = "compression")]
    fn restore(self, body: &[u8], uncompressed_bytes: usize) -> Option<Bytes> {
        use std::io::Read as _;
        let restored = match self {
            Self::None => return None,
            Self::Lz4 => {
                let mut restored = Vec::with_capacity(uncompressed_bytes);
                let limit = uncompressed_bytes as u64 + 1;
                lz4_flex::frame::FrameDecoder::new(body).take(limit).read_to_end(&mut restored).ok()?;
                restored
            }
            Self::Zstd => zstd::bulk::decompress(body, uncompressed_bytes).ok()?,
        };
        (restored.len() == uncompressed_bytes).then(|| Bytes::from(restored))
    }

    #[cfg(not(feature = "compression"))]
    const fn restore(self, _body: &[u8], _uncompressed_bytes: usize) -> Option<Bytes> {
        None
    }
}
