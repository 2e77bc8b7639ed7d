//! Puts a block together from pieces, without copying what producers sent.

use std::io::IoSlice;
use std::ops::Range;

use bytes::BufMut;
use xxhash_rust::xxh3::Xxh3;

use super::block::BLOCK_HEADER_BYTES;
use super::file::ZEROS;
use crate::frame::{Frame, FrameSequence};
use crate::limits::WRITE_PIECE_BYTES_MIN;

/// Memory for what a block holds besides the producers' bytes, used again for each block.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// Block header, frame headers, broker sections, bodies of control frames, and short payloads.
    bytes: Vec<u8>,
    /// What follows what: pieces of `bytes`, and payloads of frames.
    pieces: Vec<Piece>,
    /// Length of all frames.
    payload_bytes: usize,
    /// How many frames were put in.
    frames: usize,
}

impl Scratch {
    /// Leaves space for the header of the block.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.resize(BLOCK_HEADER_BYTES, 0);
        self.pieces.clear();
        self.pieces.push(Piece::Copied(0..BLOCK_HEADER_BYTES));
        self.payload_bytes = 0;
        self.frames = 0;
    }

    /// Puts a frame in.
    pub(super) fn push(&mut self, frame: &Frame, sequence: FrameSequence) {
        let start = self.bytes.len();
        frame.encode_head(sequence, &mut self.bytes);
        let payload = frame.payload();
        if let Some(payload) = payload.filter(|payload| payload.len() < WRITE_PIECE_BYTES_MIN) {
            self.bytes.put_slice(payload);
        }
        let copied = start..self.bytes.len();
        match self.pieces.last_mut() {
            Some(Piece::Copied(last)) => last.end = copied.end,
            Some(Piece::Payload(_)) | None => self.pieces.push(Piece::Copied(copied)),
        }
        if payload.is_some_and(|payload| payload.len() >= WRITE_PIECE_BYTES_MIN) {
            self.pieces.push(Piece::Payload(self.frames));
        }
        self.payload_bytes += frame.length();
        self.frames += 1;
    }

    /// Puts the header into its space.
    pub(super) fn put_header(&mut self, header: &[u8; BLOCK_HEADER_BYTES]) {
        let space = self.bytes.first_chunk_mut().expect("the scratch starts with the space for the header");
        *space = *header;
    }

    /// Length of all frames.
    pub(super) const fn payload_bytes(&self) -> usize {
        self.payload_bytes
    }

    fn piece<'a>(&'a self, piece: &Piece, frames: &'a [Frame]) -> &'a [u8] {
        match piece {
            Piece::Copied(range) => self.bytes.get(range.clone()).expect("pieces lie within the scratch"),
            Piece::Payload(frame) => {
                let payload = frames.get(*frame).and_then(Frame::payload);
                payload.expect("payload pieces are of frames with a payload")
            }
        }
    }

    /// Hash of all frames.
    pub(super) fn hash(&self, frames: &[Frame], seed: u64) -> u64 {
        let mut hash = Xxh3::with_seed(seed);
        let mut skip = BLOCK_HEADER_BYTES;
        for piece in &self.pieces {
            let bytes = self.piece(piece, frames);
            hash.update(bytes.get(skip..).expect("the first piece starts with the block's header"));
            skip = 0;
        }
        hash.digest()
    }

    /// All of the block, filled up to its length.
    pub(super) fn slices<'a>(&'a self, frames: &'a [Frame], length: u64) -> Vec<IoSlice<'a>> {
        let mut slices = Vec::with_capacity(self.pieces.len() + 1);
        slices.extend(self.pieces.iter().map(|piece| IoSlice::new(self.piece(piece, frames))));
        let padding = length - (BLOCK_HEADER_BYTES + self.payload_bytes) as u64;
        let padding = usize::try_from(padding).expect("padding is less than a page");
        slices.push(IoSlice::new(ZEROS.get(..padding).expect("padding is less than a page")));
        slices
    }
}

#[derive(Clone, Debug)]
enum Piece {
    /// These bytes of the scratch memory.
    Copied(Range<usize>),
    /// The payload of the frame with this number in the block.
    Payload(usize),
}
