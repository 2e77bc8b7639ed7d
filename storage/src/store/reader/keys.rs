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
    /// How many of these have a filter of half the width.
    pub narrow_filters: u64,
    /// How many have none: keys are looked for in them on the disk.
    pub missing_filters: u64,
    /// How many are damaged or missing: keys that may be in them are known to nobody.
    pub lost: u64,
    /// Bytes of these files.
    pub disk_bytes: u64,
    /// At so many bytes no more keys are taken.
    pub disk_bytes_max: u64,
    /// Bytes of memory for filters.
    pub memory_bytes: u64,
    /// How many that may be, about.
    pub memory_bytes_max: u64,
}

/// What is known of a key on the disk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FoundKey {
    /// The key and its record.
    pub entry: Entry,
    /// For so many microseconds more the key is remembered, at least.
    pub remaining_us: u64,
}

impl<D: Disk> Reader<D> {
    /// Whether there may be a key among those of flushed batches. If not, there surely is none. Reads no disk.
    pub fn may_hold_key(&self, digest: KeyDigest) -> bool {
        self.shared.may_hold_key(digest)
    }

    /// As [`Reader::may_hold_key`] for many keys, which takes a fraction of the time: marks those that there may be.
    ///
    /// # Panics
    /// If there are not as many marks as keys.
    pub fn mark_keys(&self, digests: &[KeyDigest], marks: &mut [bool]) {
        assert!(digests.len() == marks.len(), "each key has its mark");
        self.shared.keys().mark(digests, marks);
    }

    /// What is known of a key among those of flushed batches. Exact; reads the disk if a filter cannot exclude the key.
    ///
    /// # Errors
    /// [`ReadError::KeysLost`] and [`ReadError::Disk`]: the key may have been used, or not.
    pub fn find_key(&self, digest: KeyDigest) -> Result<Option<Entry>, ReadError> {
        Ok(self.shared.keys().find(digest)?.map(|(entry, _)| entry))
    }

    /// As [`Reader::find_key`], with how long the key is remembered.
    ///
    /// # Errors
    /// As [`Reader::find_key`].
    pub fn look_up_key(&self, digest: KeyDigest) -> Result<Option<FoundKey>, ReadError> {
        let found = self.shared.keys().find(digest)?;
        let remaining = |expires_us: u64| expires_us.saturating_sub(self.shared.running_us());
        Ok(found.map(|(entry, expires_us)| FoundKey { entry, remaining_us: remaining(expires_us) }))
    }

    /// Whether keys have used up their space on the disk: no more are to be taken until some are forgotten.
    pub fn is_full_of_keys(&self) -> bool {
        self.shared.keys().is_full()
    }

    /// Whether versions of records' keys have used up their space on the disk: no more are to be taken until topics that have
    /// them are deleted.
    pub fn is_full_of_versions(&self) -> bool {
        self.shared.keys().is_full_of_versions()
    }

    /// How many keys there are, and what they take.
    pub fn key_figures(&self) -> KeyFigures {
        self.shared.keys().figures()
    }
}
