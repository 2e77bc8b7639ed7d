//! Segments: files of batches that are written once and never change.
//!
//! ```text
//! segment = header page (4096 bytes) , runs , run directory , zeros , trailer (64 bytes)
//! run     = stored batches of one partition, back to back, as they are everywhere
//! ```
//!
//! A file is whole before anything refers to it, so there is no "active" segment and nothing to repair: it was
//! written and synced, or it does not count. Header, directory and trailer are salted with the identity of node and
//! segment, so that a misplaced copy never passes. Beside each segment stands an index, which can be made again.

use std::ops::Range;
use std::path::{Path, PathBuf};

use bytes::BufMut;
use weir_protocol::units::{Epoch, Offset, PartitionKey, SegmentId, Timestamp};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::dedup::generation;
use crate::disk::DiskError;

mod directory;
pub(crate) mod dump;
mod index;
mod resume;
mod salvage;
mod walk;
mod writer;

pub(crate) use directory::{SegmentFile, rebuild};
pub(crate) use index::Index;
pub(crate) use resume::Source;
pub(crate) use salvage::salvage;
pub(crate) use walk::{Step, Walk, batch_length, walk_sections};
pub(crate) use writer::{SegmentPlan, SegmentWriter, WrittenSegment};

/// Distance of two entries of an index: what has to be read to find a batch.
const INDEX_INTERVAL_BYTES: u64 = 64 << 10;

/// Which segment of which node a file is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct SegmentIdentity {
    /// The node's UUID.
    pub(crate) node: [u8; 16],
    /// The segment.
    pub(crate) segment: SegmentId,
}

impl SegmentIdentity {
    /// Hash of a part of the segment or of its index.
    pub(crate) fn hash(&self, bytes: &[u8]) -> u64 {
        let mut salt = [0u8; 24];
        let mut rest = &mut salt[..];
        rest.put_slice(&self.node);
        rest.put_u64_le(self.segment.get());
        xxh3_64_with_seed(bytes, xxhash_rust::xxh3::xxh3_64(&salt))
    }
}

/// Consecutive batches of one partition in one segment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Run {
    /// The partition.
    pub(crate) partition: PartitionKey,
    /// Epoch of the last batch.
    pub(crate) epoch: Epoch,
    /// Offset of the first record.
    pub(crate) base_offset: Offset,
    /// The offset after the last record.
    pub(crate) end_offset: Offset,
    /// Where the first batch starts.
    pub(crate) position: u64,
    /// Length of all batches.
    pub(crate) bytes: u64,
    /// How many records there are.
    pub(crate) record_count: u64,
    /// When the first batch was appended.
    pub(crate) first_append_time: Timestamp,
    /// When the last batch was appended.
    pub(crate) last_append_time: Timestamp,
}

impl Run {
    /// The bytes of the file.
    pub(crate) fn range(&self) -> Range<u64> {
        self.position..self.position + self.bytes
    }
}

/// Why a sealed file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SegmentError {
    /// Its bytes are not what was written.
    #[error("{} is damaged: {what} at bytes {}..{}", path.display(), bytes.start, bytes.end)]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Which part of it.
        what: &'static str,
        /// Where that lies.
        bytes: Range<u64>,
    },
    /// A later version wrote it.
    #[error("{} needs features this version does not know: version {version}, bits {features:#x}", path.display())]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Its format version.
        version: u32,
        /// The unknown feature bits.
        features: u64,
    },
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl SegmentError {
    fn damaged(path: &Path, what: &'static str, bytes: Range<u64>) -> Self {
        Self::Damaged { path: path.to_owned(), what, bytes }
    }
}

/// Name of a segment's file.
pub(crate) fn segment_name(segment: SegmentId) -> String {
    format!("{:020}.{SEGMENT_EXTENSION}", segment.get())
}

/// Name of a segment's index.
pub(crate) fn index_name(segment: SegmentId) -> String {
    format!("{:020}.{INDEX_EXTENSION}", segment.get())
}

/// Which segment a file or its index belongs to, or which generation of keys a file is; `None` if the name is no such name.
/// They share their numbers.
pub(crate) fn segment_of_name(name: &str) -> Option<SegmentId> {
    let (digits, extension) = name.split_once('.')?;
    let id = SegmentId::new(digits.parse().ok()?);
    let known = match extension {
        SEGMENT_EXTENSION => segment_name(id) == name,
        INDEX_EXTENSION => index_name(id) == name,
        UNFINISHED_INDEX_EXTENSION => true,
        generation::EXTENSION => generation::generation_name(id) == name,
        _ => false,
    };
    known.then_some(id)
}

/// Name of an index that is being made again.
fn unfinished_index_name(segment: SegmentId) -> String {
    format!("{:020}.{UNFINISHED_INDEX_EXTENSION}", segment.get())
}

const SEGMENT_EXTENSION: &str = "seg";
const INDEX_EXTENSION: &str = "idx";
const UNFINISHED_INDEX_EXTENSION: &str = "idx.new";

/// Length of the header page.
const HEADER_PAGE_BYTES: u64 = crate::disk::BLOCK_BYTES;

pub(crate) const HEADER_MAGIC: [u8; 8] = *b"WEIRSEG1";
const TRAILER_MAGIC: [u8; 8] = *b"WEIRSEGE";
const VERSION: u32 = 1;
/// Feature bits this version knows; a file with others is not touched.
const FEATURES_KNOWN: u64 = 0;

/// Length of the header without the zeros that fill its page.
const HEADER_BYTES: usize = 80;
/// Length of one run in the directory.
const RUN_BYTES: usize = 88;
/// Length of the trailer.
const TRAILER_BYTES: usize = 64;

#[cfg(test)]
mod tests;
