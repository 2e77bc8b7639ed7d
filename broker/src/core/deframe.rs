//! Finds frames in the bytes of one stream: each byte is copied at most once, and no more memory is taken than a
//! frame that was allowed needs.

use bytes::Bytes;
use weir_protocol::error::DecodeError;
use weir_protocol::frame::{FRAME_HEADER_BYTES, FrameKind, RawFrame, peek_header};

use crate::pool::{Buffer, BufferPool};

/// A frame header that has arrived; the body may follow.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Announced {
    /// What the frame says.
    pub kind: FrameKind,
    /// Length of its body.
    pub body_bytes: usize,
}

impl Announced {
    /// Length of the whole frame.
    pub const fn frame_bytes(&self) -> u64 {
        (FRAME_HEADER_BYTES + self.body_bytes) as u64
    }
}

/// What a deframer found next.
#[derive(Debug)]
pub enum Found {
    /// A header: decide whether the body is welcome before any memory is taken for it.
    Header(Announced),
    /// A whole frame.
    Frame(RawFrame),
    /// Nothing more in the bytes that have arrived.
    Nothing,
}

/// The state between two pieces of a stream.
#[derive(Debug)]
pub struct Deframer {
    header: [u8; FRAME_HEADER_BYTES],
    header_filled: usize,
    body: Option<Body>,
}

#[derive(Debug)]
struct Body {
    kind: FrameKind,
    length: usize,
    /// Taken when the first byte of the body arrives.
    partial: Option<Partial>,
}

#[derive(Debug)]
struct Partial {
    buffer: Buffer,
    filled: usize,
}

impl Default for Deframer {
    fn default() -> Self {
        Self { header: [0; FRAME_HEADER_BYTES], header_filled: 0, body: None }
    }
}

impl Deframer {
    /// Goes on through `bytes` until something is found. Call it again until it finds [`Found::Nothing`].
    ///
    /// # Errors
    /// A header that makes no sense or announces more than `body_bytes_max`.
    ///
    /// # Panics
    /// Never: a body that is full is there.
    pub fn next(
        &mut self,
        bytes: &mut Bytes,
        body_bytes_max: u32,
        pool: &BufferPool,
    ) -> Result<Found, DecodeError> {
        let Some(body) = &mut self.body else {
            return self.next_header(bytes, body_bytes_max);
        };
        let Some(partial) = &mut body.partial else {
            if bytes.is_empty() && body.length > 0 {
                return Ok(Found::Nothing);
            }
            let kind = body.kind;
            // A small frame that is all there is decoded on the spot: no copy. Batches are copied, else a few
            // bytes would keep a whole receive buffer of the transport alive.
            if bytes.len() >= body.length && kind != FrameKind::Publish {
                let body = bytes.split_to(body.length);
                self.body = None;
                return Ok(Found::Frame(RawFrame { kind, body }));
            }
            body.partial = Some(Partial { buffer: pool.take(body.length), filled: 0 });
            return self.next(bytes, body_bytes_max, pool);
        };
        let (_, room) = partial.buffer.as_mut_slice().split_at_mut(partial.filled);
        let count = room.len().min(bytes.len());
        let (target, _) = room.split_at_mut(count);
        target.copy_from_slice(&bytes.split_to(count));
        partial.filled += count;
        if partial.filled < body.length {
            return Ok(Found::Nothing);
        }
        let kind = body.kind;
        let whole = self.body.take().and_then(|body| body.partial).expect("the body was just filled");
        Ok(Found::Frame(RawFrame { kind, body: whole.buffer.freeze() }))
    }

    fn next_header(&mut self, bytes: &mut Bytes, body_bytes_max: u32) -> Result<Found, DecodeError> {
        let (_, room) = self.header.split_at_mut(self.header_filled);
        let count = room.len().min(bytes.len());
        let (target, _) = room.split_at_mut(count);
        target.copy_from_slice(&bytes.split_to(count));
        self.header_filled += count;
        if self.header_filled < FRAME_HEADER_BYTES {
            return Ok(Found::Nothing);
        }
        self.header_filled = 0;
        match peek_header(&self.header, body_bytes_max)? {
            Some((kind, length)) => {
                self.body = Some(Body { kind, length, partial: None });
                Ok(Found::Header(Announced { kind, body_bytes: length }))
            }
            None => Ok(Found::Nothing),
        }
    }

    /// Whether the stream stands between two frames.
    pub const fn is_between_frames(&self) -> bool {
        self.header_filled == 0 && self.body.is_none()
    }
}

#[cfg(test)]
mod tests {
    use bytes::{BufMut, BytesMut};
    use weir_protocol::frame::put_header;

    use super::*;

    fn stream(bodies: &[(FrameKind, usize)]) -> Bytes {
        let mut out = BytesMut::new();
        for (number, (kind, length)) in bodies.iter().enumerate() {
            put_header(*kind, *length, &mut out);
            out.put_bytes(u8::try_from(number).unwrap(), *length);
        }
        out.freeze()
    }

    #[test]
    fn frames_come_out_whole_however_the_stream_is_cut() {
        let bodies = [
            (FrameKind::Grant, 8),
            (FrameKind::Publish, 40_000),
            (FrameKind::Grant, 0),
            (FrameKind::Publish, 3),
        ];
        let whole = stream(&bodies);
        let pool = BufferPool::new(1 << 20);
        for piece_bytes in [1, 3, 7, 8, 9, 1000, 39_999, 100_000] {
            let mut deframer = Deframer::default();
            let mut found = Vec::new();
            let mut rest = whole.clone();
            while !rest.is_empty() {
                let mut piece = rest.split_to(piece_bytes.min(rest.len()));
                loop {
                    match deframer.next(&mut piece, 1 << 20, &pool).unwrap() {
                        Found::Header(_) => {}
                        Found::Frame(frame) => found.push(frame),
                        Found::Nothing => break,
                    }
                }
                assert!(piece.is_empty());
            }
            let kinds: Vec<_> = found.iter().map(|frame| (frame.kind, frame.body.len())).collect();
            assert_eq!(kinds, bodies, "in pieces of {piece_bytes}");
            for (number, frame) in found.iter().enumerate() {
                assert!(frame.body.iter().all(|byte| usize::from(*byte) == number));
            }
            assert!(deframer.is_between_frames());
        }
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_before_memory_is_taken() {
        let mut bytes = stream(&[(FrameKind::Publish, 1001)]);
        let pool = BufferPool::new(0);
        assert!(Deframer::default().next(&mut bytes, 1000, &pool).is_err());
    }
}
