//! Divides frames into blocks, and the free space of the ring among them. Writes nothing.

use std::ops::Range;

use weir_protocol::units::JournalPosition;

use super::block::block_length;
use super::ring::Ring;
use crate::disk::Disk;
use crate::frame::Frame;
use crate::limits::{JOURNAL_BLOCK_BYTES_TARGET, JOURNAL_BLOCK_PAYLOAD_BYTES_MAX};

/// Some frames that go into one block.
#[derive(Clone, Copy, Debug)]
pub(super) struct PlannedBlock {
    pub(super) position: JournalPosition,
    /// How many.
    pub(super) frames: usize,
}

/// Where blocks would go: the free space as a list of stretches that no block may cross.
pub(super) struct Placement {
    /// Free stretches, the next one in front; positions count on from one to the next.
    free: Vec<Range<JournalPosition>>,
    /// Index of the stretch that is being used.
    at: usize,
    limit: JournalPosition,
}

impl Placement {
    /// The free space of a ring behind `end`, which lies in the live file with index `current`.
    pub(super) fn new<D: Disk>(ring: &Ring<D>, current: usize, end: JournalPosition) -> Self {
        let mut free = Vec::with_capacity(ring.options.files as usize);
        for file in ring.live.range(current..) {
            free.push(file.base.max(end)..file.end());
        }
        let mut base = ring.assigned_end();
        for capacity in ring.spare_capacities() {
            free.push(base..base.advance(capacity));
            base = base.advance(capacity);
        }
        Self { free, at: 0, limit: base }
    }

    /// How much journal there is from a position on.
    pub(super) fn left(&self, from: JournalPosition) -> u64 {
        self.limit.since(from)
    }

    /// The first place where `bytes` fit without crossing the end of a file.
    pub(super) fn place(&mut self, bytes: u64) -> Option<JournalPosition> {
        while let Some(stretch) = self.free.get(self.at) {
            if stretch.end.since(stretch.start) >= bytes {
                return Some(stretch.start);
            }
            self.at += 1;
        }
        None
    }

    /// Takes frames from the front of `frames` for one block; `None` if there is no room even for the first. Data
    /// frames leave `reserve` bytes.
    pub(super) fn next_block(&mut self, frames: &[Frame], reserve: u64) -> Option<PlannedBlock> {
        let first = frames.first()?;
        if first.length() > JOURNAL_BLOCK_PAYLOAD_BYTES_MAX as usize {
            return None;
        }
        let before = self.at;
        let position = self.place(block_length(first.length() as u64))?;
        let stretch = self.free.get_mut(self.at)?;
        let mut payload = 0;
        let mut taken = 0;
        for frame in frames {
            let with_frame = payload + frame.length();
            let end = block_length(with_frame as u64);
            let kept = if frame.is_control() { 0 } else { reserve };
            let fits = end <= stretch.end.since(position)
                && end + kept <= self.limit.since(position)
                && (taken == 0 || with_frame <= JOURNAL_BLOCK_BYTES_TARGET);
            if !fits {
                break;
            }
            payload = with_frame;
            taken += 1;
        }
        if taken == 0 {
            self.at = before;
            return None;
        }
        stretch.start = position.advance(block_length(payload as u64));
        Some(PlannedBlock { position, frames: taken })
    }
}
