//! Memory that starts on a block boundary, as direct writes need it.

use std::ops::Range;

use super::BLOCK_BYTES;

/// A buffer of fixed size whose first byte lies on a [`BLOCK_BYTES`] boundary: filled from the front, written, used again.
///
/// Direct writes also need a length that is a multiple of the block: see [`AlignedBuffer::pad`].
pub struct AlignedBuffer {
    memory: Box<[u8]>,
    /// The aligned part of `memory`; what is filled lies within.
    aligned: Range<usize>,
    filled: usize,
}

impl AlignedBuffer {
    /// An empty buffer that holds at least `bytes`, rounded up to whole blocks.
    pub fn new(bytes: usize) -> Self {
        let capacity = bytes.next_multiple_of(BLOCK);
        // Zeroed by the allocator, and never moved again: the box does not grow.
        let memory = vec![0u8; capacity + BLOCK].into_boxed_slice();
        let skip = memory.as_ptr().align_offset(BLOCK);
        Self { memory, aligned: skip..skip + capacity, filled: 0 }
    }

    /// How many bytes it can hold.
    pub fn capacity(&self) -> usize {
        self.aligned.len()
    }

    /// How many more bytes fit.
    pub fn room(&self) -> usize {
        self.capacity() - self.filled
    }

    /// The bytes put in so far.
    pub fn filled(&self) -> &[u8] {
        let end = self.aligned.start + self.filled;
        self.memory.get(self.aligned.start..end).unwrap_or(&[])
    }

    /// Puts in as much of `bytes` as fits and returns the rest.
    pub fn fill<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let (taken, rest) = bytes.split_at(bytes.len().min(self.room()));
        let start = self.aligned.start + self.filled;
        if let Some(target) = self.memory.get_mut(start..start + taken.len()) {
            target.copy_from_slice(taken);
            self.filled += taken.len();
        }
        rest
    }

    /// Fills up with zeros to a whole number of blocks.
    pub fn pad(&mut self) {
        let padding = self.filled.next_multiple_of(BLOCK) - self.filled;
        let start = self.aligned.start + self.filled;
        if let Some(target) = self.memory.get_mut(start..start + padding) {
            target.fill(0);
            self.filled += padding;
        }
    }

    /// Forgets what was put in.
    pub fn clear(&mut self) {
        self.filled = 0;
    }
}

impl std::fmt::Debug for AlignedBuffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AlignedBuffer")
            .field("capacity", &self.capacity())
            .field("filled", &self.filled)
            .finish()
    }
}

#[expect(clippy::cast_possible_truncation, reason = "4096 fits every usize")]
const BLOCK: usize = BLOCK_BYTES as usize;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filled_bytes_are_aligned_and_padded_to_whole_blocks() {
        for bytes in [1, 4095, 4096, 4097, 100_000] {
            let mut buffer = AlignedBuffer::new(bytes);
            assert!(buffer.fill(&vec![7; bytes]).is_empty());
            buffer.pad();
            assert_eq!(buffer.filled().as_ptr().align_offset(4096), 0);
            assert_eq!(buffer.filled().len(), bytes.next_multiple_of(4096));
            assert!(buffer.filled().iter().skip(bytes).all(|&byte| byte == 0));
        }
    }

    #[test]
    fn what_does_not_fit_is_given_back() {
        let mut buffer = AlignedBuffer::new(4096);
        assert_eq!(buffer.fill(&[1; 5000]).len(), 904);
        assert_eq!(buffer.room(), 0);
        buffer.clear();
        assert_eq!(buffer.room(), 4096);
        assert!(buffer.filled().is_empty());
    }
}
