//! Looks keys up that are not in memory any more.

use super::{ReadError, Reader};
use crate::dedup::{Entry, KeyDigest};
use crate::disk::Disk;

/// Keys on the disk, and what of them is in memory.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct KeyFigures {
    /// Keys that are remembered.
    pub keys: u64,
    /// Their files.
    pub generations: u64,
    /// Bytes of these files.
    pub disk_bytes: u64,
    /// Bytes of memory for filters.
    pub memory_bytes: u64,
}

impl<D: Disk> Reader<D> {
    /// Whether there may be a key among those of flushed batches. If not, there surely is none. Reads no disk.
    pub fn may_hold_key(&self, digest: KeyDigest) -> bool {
        self.shared.may_hold_key(digest)
    }

    /// What is known of a key among those of flushed batches. Exact; reads the disk if a filter cannot exclude the key.
    ///
    /// # Errors
    /// [`ReadError::KeysLost`] and [`ReadError::Disk`]: the key may have been used, or not.
    pub fn find_key(&self, digest: KeyDigest) -> Result<Option<Entry>, ReadError> {
        self.shared.keys().find(digest)
    }

    /// Whether keys have used up their space on the disk: no more are to be taken until some are forgotten.
    pub fn is_full_of_keys(&self) -> bool {
        self.shared.keys().is_full()
    }

    /// How many keys there are, and what they take.
    pub fn key_figures(&self) -> KeyFigures {
        self.shared.keys().figures()
    }
}
