//! Frames on streams: read incrementally within a bound, written in few large pieces.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use quinn::{ReadError, RecvStream};
use thiserror::Error;
use weir_protocol::DecodeError;
use weir_protocol::frame::{FRAME_HEADER_BYTES, FrameKind, RawFrame, peek_header};

use crate::net::pool::BufferPool;

/// Pieces taken from the transport at once.
const PIECES: usize = 16;

/// Smallest buffer a frame of batches is read into, so that buffers fit one another's frames.
const BUFFER_BYTES_MIN: usize = 64 << 10;

/// Why no frame came.
#[derive(Debug, Error)]
pub(crate) enum FrameError {
    /// The stream or connection failed.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// What came is no frame.
    #[error("frame {0}")]
    Decode(#[from] DecodeError),
    /// The stream ended within a frame.
    #[error("the stream ended within a frame")]
    Cut,
}

/// Reads frames from a stream.
///
/// Small frames are slices of what was received. Frames of batches are copied once, into a buffer from the pool: a slice
/// would keep every datagram alive that carried a part of it.
#[derive(Debug)]
pub(crate) struct FrameReader {
    stream: RecvStream,
    body_bytes_max: u32,
    pool: Option<Arc<BufferPool>>,
    pieces: VecDeque<Bytes>,
    received: usize,
    header: Option<(FrameKind, usize)>,
    body: Option<BytesMut>,
}

impl FrameReader {
    /// Reads frames whose body is at most so long; frames of batches into buffers of the pool.
    pub(crate) fn new(stream: RecvStream, body_bytes_max: u32, pool: Option<Arc<BufferPool>>) -> Self {
        let pieces = VecDeque::with_capacity(PIECES);
        Self { stream, body_bytes_max, pool, pieces, received: 0, header: None, body: None }
    }

    /// The next frame; `None` at the end of the stream.
    ///
    /// # Cancel safety
    /// If dropped before completion nothing is lost.
    pub(crate) async fn next(&mut self) -> Result<Option<RawFrame>, FrameError> {
        loop {
            if let Some(frame) = self.take()? {
                return Ok(Some(frame));
            }
            let mut pieces: [Bytes; PIECES] = Default::default();
            match self.stream.read_chunks(&mut pieces).await? {
                Some(count) => {
                    for piece in pieces.into_iter().take(count) {
                        self.received += piece.len();
                        self.pieces.push_back(piece);
                    }
                }
                None if self.received == 0 && self.header.is_none() => return Ok(None),
                None => return Err(FrameError::Cut),
            }
        }
    }

    /// The next frame, if it has come whole.
    fn take(&mut self) -> Result<Option<RawFrame>, FrameError> {
        let (kind, length) = match self.header {
            Some(header) => header,
            None if self.received < FRAME_HEADER_BYTES => return Ok(None),
            None => {
                let mut bytes = [0; FRAME_HEADER_BYTES];
                self.copy(&mut bytes);
                let header = peek_header(&bytes, self.body_bytes_max)?;
                *self.header.insert(header.expect("all bytes of the header are there"))
            }
        };
        let body = match &self.pool {
            Some(_) if kind == FrameKind::Deliver => self.collect(length),
            _ => self.slice(length),
        };
        Ok(body.map(|body| {
            self.header = None;
            RawFrame { kind, body }
        }))
    }

    /// Moves what has come into the buffer of the frame.
    fn collect(&mut self, length: usize) -> Option<Bytes> {
        let pool = self.pool.as_ref()?;
        let capacity = length.next_multiple_of(BUFFER_BYTES_MIN);
        let mut body = self.body.take().unwrap_or_else(|| pool.take(capacity));
        while body.len() < length
            && let Some(piece) = self.pieces.front_mut()
        {
            let wanted = length - body.len();
            if piece.len() > wanted {
                body.extend_from_slice(&piece.split_to(wanted));
                self.received -= wanted;
            } else {
                body.extend_from_slice(piece);
                self.received -= piece.len();
                self.pieces.pop_front();
            }
        }
        if body.len() == length {
            return Some(body.freeze());
        }
        self.body = Some(body);
        None
    }

    /// The next bytes, without copying them if they lie in one piece.
    fn slice(&mut self, length: usize) -> Option<Bytes> {
        if self.received < length {
            return None;
        }
        if let Some(front) = self.pieces.front_mut()
            && front.len() >= length
        {
            self.received -= length;
            let bytes = front.split_to(length);
            if front.is_empty() {
                self.pieces.pop_front();
            }
            return Some(bytes);
        }
        let mut bytes = vec![0; length];
        self.copy(&mut bytes);
        Some(Bytes::from(bytes))
    }

    /// Takes the next bytes, which are there.
    fn copy(&mut self, mut out: &mut [u8]) {
        self.received -= out.len();
        while !out.is_empty()
            && let Some(piece) = self.pieces.front_mut()
        {
            let taken = piece.split_to(piece.len().min(out.len()));
            let (now, later) = out.split_at_mut(taken.len());
            now.copy_from_slice(&taken);
            out = later;
            if piece.is_empty() {
                self.pieces.pop_front();
            }
        }
        assert!(out.is_empty(), "the caller knows that the bytes are there");
    }
}

/// Batches up to this size are copied together with their neighbours: the transport's queue of pieces is searched from the
/// front for each datagram, so many small pieces make it slow.
const COALESCE_BYTES: usize = 16 << 10;

/// Collects what is to be written into few pieces.
#[derive(Debug, Default)]
pub(crate) struct Pieces {
    small: BytesMut,
    pieces: Vec<Bytes>,
}

impl Pieces {
    /// Adds bytes that are copied.
    pub(crate) fn put(&mut self, bytes: &[u8]) {
        self.small.extend_from_slice(bytes);
    }

    /// The buffer that small things are written to.
    pub(crate) const fn small(&mut self) -> &mut BytesMut {
        &mut self.small
    }

    /// Adds bytes that are shared if they are many, and copied if they are few.
    pub(crate) fn share(&mut self, bytes: &Bytes) {
        if bytes.len() < COALESCE_BYTES {
            self.put(bytes);
        } else {
            self.cut();
            self.pieces.push(bytes.clone());
        }
    }

    fn cut(&mut self) {
        if !self.small.is_empty() {
            self.pieces.push(self.small.split().freeze());
        }
    }

    /// Everything added so far.
    pub(crate) fn take(&mut self) -> Vec<Bytes> {
        self.cut();
        std::mem::take(&mut self.pieces)
    }
}
