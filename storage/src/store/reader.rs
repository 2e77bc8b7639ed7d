//! Reads batches back from segments.

use std::sync::Arc;

use bytes::Bytes;
use weir_protocol::units::{Offset, PartitionKey, SegmentId, Timestamp};

use super::catalog::{Absent, Extent};
use super::scrub::Scrub;
use super::shared::{OpenSegment, Shared};
use crate::disk::{Context, Disk, DiskError, File};
use crate::segment::{SegmentError, walk_sections};

mod keys;
mod pick;

pub use keys::{FoundKey, KeyFigures};
use pick::Pick;

/// Longest single read, unless one batch is longer.
const READ_BYTES_MAX: usize = 4 << 20;

/// Shortest single read: a broker section of any length fits in.
const READ_BYTES_MIN: usize = 16 << 10;

/// What is read more when the batch must be searched for: the distance of two entries of an index.
const SEARCH_BYTES: usize = 64 << 10;

/// How often a look-up is repeated because the extent was moved by a merge meanwhile. Once is usual.
const LOOKUPS_MAX: usize = 8;

/// Reads flushed batches. Cheap to clone; may be used from any thread; all calls block on the disk.
#[derive(Debug)]
pub struct Reader<D: Disk> {
    shared: Arc<Shared<D>>,
}

impl<D: Disk> Clone for Reader<D> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

/// Some consecutive batches of a partition.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Chunk {
    /// Whole stored batches, back to back, verified.
    pub bytes: Bytes,
    /// Offset of the first record. May lie before the one that was asked for: batches are not divided.
    pub base_offset: Offset,
    /// The offset after the last record.
    pub end_offset: Offset,
}

/// Why nothing was read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The records were given up.
    #[error("the offset lies outside of {start}..{end}")]
    OutOfRange {
        /// Offset of the first record that is kept.
        start: Offset,
        /// The offset after the last record in segments.
        end: Offset,
    },
    /// The records are not in segments yet.
    #[error("the offset is not in segments yet")]
    NotFlushed,
    /// The records were damaged on the disk. What follows them can be read.
    #[error("records {from}..{to} are damaged on the disk")]
    Corrupt {
        /// The offset that was asked for.
        from: Offset,
        /// The next offset that may be readable.
        to: Offset,
    },
    /// Keys were damaged on the disk, or are missing: which ones were used is not known.
    #[error("generation {generation} of keys is damaged on the disk")]
    KeysLost {
        /// The number of its file.
        generation: SegmentId,
    },
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl ReadError {
    /// Whether the same call can succeed later.
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::NotFlushed | Self::Disk(_) => true,
            Self::OutOfRange { .. } | Self::Corrupt { .. } | Self::KeysLost { .. } => false,
        }
    }
}

impl<D: Disk> Reader<D> {
    pub(super) const fn new(shared: Arc<Shared<D>>) -> Self {
        Self { shared }
    }

    /// A scrub of all segments, from the first on.
    pub fn scrub(&self) -> Scrub<D> {
        Scrub::new(Arc::clone(&self.shared))
    }

    /// Reads whole batches from the one that holds `from`, or follows it, on. As many as fit `bytes_max`, but at least
    /// one; never beyond the end of a run.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn read(&self, partition: PartitionKey, from: Offset, bytes_max: usize) -> Result<Chunk, ReadError> {
        for _ in 0..LOOKUPS_MAX {
            let extent = self.shared.catalog().at_offset(partition, from).map_err(|absent| match absent {
                Absent::BelowStart { start, end } => ReadError::OutOfRange { start, end },
                Absent::Lost { to } => ReadError::Corrupt { from, to },
                Absent::NotFlushed => ReadError::NotFlushed,
            })?;
            if let Some(segment) = self.shared.open(&extent)? {
                let request = Request { partition, from, bytes_max, extent };
                return self.read_extent(&segment, &request);
            }
        }
        Err(ReadError::NotFlushed)
    }

    /// Offset of the first record in segments that was appended at or after a moment, and is still kept. `None` if
    /// there is none: it may be in the journal. Where records right before it cannot be read, the first of those: who
    /// reads from there on is told.
    ///
    /// # Errors
    /// [`ReadError::Corrupt`], [`ReadError::Disk`].
    pub fn offset_at_time(
        &self,
        partition: PartitionKey,
        time: Timestamp,
    ) -> Result<Option<Offset>, ReadError> {
        for _ in 0..LOOKUPS_MAX {
            let Some(extent) = self.shared.catalog().at_time(partition, time) else {
                let end = self.flushed_end(partition);
                return Ok(self.shared.catalog().gap_before(partition, end));
            };
            if let Some(segment) = self.shared.open(&extent)? {
                let found = Self::time_in_extent(&segment, &extent, time)?.max(self.log_start(partition));
                let gap = self.shared.catalog().gap_before(partition, found);
                return Ok(Some(gap.unwrap_or(found)));
            }
        }
        Err(ReadError::NotFlushed)
    }

    /// Bytes of a partition in segments.
    pub fn partition_bytes(&self, partition: PartitionKey) -> u64 {
        self.shared.catalog().partition(partition).map_or(0, |log| log.bytes)
    }

    /// All records of a partition below are in segments, or given up.
    pub fn flushed_end(&self, partition: PartitionKey) -> Offset {
        self.shared.catalog().partition(partition).map_or(Offset::ZERO, |log| log.flushed_end)
    }

    /// Offset of the first record of a partition that is kept.
    pub fn log_start(&self, partition: PartitionKey) -> Offset {
        self.shared.catalog().partition(partition).map_or(Offset::ZERO, |log| log.log_start)
    }

    fn read_extent(&self, segment: &OpenSegment<D>, request: &Request) -> Result<Chunk, ReadError> {
        let Request { from, extent, .. } = request;
        let bytes_max = request.bytes_max.min(READ_BYTES_MAX);
        let (mut at, mut want) = match self.start(segment, request) {
            Start::Exact(position) => (position, bytes_max),
            Start::Before(position) => (position, bytes_max + SEARCH_BYTES),
        };
        loop {
            want = want.max(READ_BYTES_MIN);
            let left = extent.end().saturating_sub(at);
            if left == 0 {
                return Err(ReadError::Corrupt { from: *from, to: extent.end_offset });
            }
            let length = usize::try_from(left).unwrap_or(usize::MAX).min(want);
            let Some(bytes) = self.fetch(segment, at, length)? else {
                return Err(ReadError::Corrupt { from: *from, to: extent.end_offset });
            };
            let is_last = length as u64 == left;
            match pick::pick(&bytes, request, is_last) {
                Pick::Found { range, base_offset, end_offset } => {
                    self.shared.put_place(extent, end_offset, at + range.end as u64);
                    return Ok(Chunk { bytes: keep(&bytes, range), base_offset, end_offset });
                }
                Pick::More { skip, needed } => {
                    at += skip as u64;
                    want = needed;
                }
                Pick::Damaged { at: bad, length } => {
                    at = self.resume(segment, request, at + bad as u64, length)?;
                    want = bytes_max;
                }
            }
        }
    }

    /// Where to start to read.
    fn start(&self, segment: &OpenSegment<D>, request: &Request) -> Start {
        let extent = &request.extent;
        if let Some(position) = self.shared.take_place(extent, request.from) {
            return Start::Exact(position);
        }
        if request.from <= extent.base_offset {
            return Start::Exact(extent.position);
        }
        let entry = segment.index.as_ref().and_then(|index| index.at_offset(extent.run, request.from));
        entry.map_or(Start::Before(extent.position), |entry| Start::Before(entry.position))
    }

    /// Reads bytes of a segment; `None` if the file is too short.
    fn fetch(&self, segment: &OpenSegment<D>, at: u64, length: usize) -> Result<Option<Bytes>, ReadError> {
        let mut buffer = self.shared.buffer(length);
        match segment.file.file.read_exact_at(buffer.as_mut(), at) {
            Ok(()) => Ok(Some(Bytes::from_owner(buffer))),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error).context("read", &segment.file.path).map_err(ReadError::from),
        }
    }

    /// Where to go on behind a damaged batch, if the offset that is asked for may still come.
    fn resume(
        &self,
        segment: &OpenSegment<D>,
        request: &Request,
        bad: u64,
        length: Option<u64>,
    ) -> Result<u64, ReadError> {
        let Request { from, extent, .. } = request;
        let corrupt = |to: Offset| Err(ReadError::Corrupt { from: *from, to });
        // The broker section is whole: the next batch is where it says, and tells its offset itself.
        if let Some(next) = length.map(|length| bad + length).filter(|next| *next < extent.end()) {
            let first =
                walk_sections(&segment.file, next..extent.end(), |section, _| Some(section.base_offset));
            match first.map_err(into_read_error)? {
                Ok(Some(base)) if base > *from => return corrupt(base),
                Ok(_) => return Ok(next),
                Err(_) => {}
            }
        }
        let entry = segment.index.as_ref().and_then(|index| index.after_position(extent.run, bad));
        match entry {
            Some(entry) if entry.base_offset <= *from => Ok(entry.position),
            Some(entry) => corrupt(entry.base_offset),
            None => corrupt(extent.end_offset),
        }
    }

    /// Offset of the first batch of an extent that was appended at or after a moment.
    fn time_in_extent(
        segment: &OpenSegment<D>,
        extent: &Extent,
        time: Timestamp,
    ) -> Result<Offset, ReadError> {
        let entry = segment.index.as_ref().and_then(|index| index.before_time(extent.run, time));
        let (start, from) =
            entry.map_or((extent.position, extent.base_offset), |entry| (entry.position, entry.base_offset));
        let found = walk_sections(&segment.file, start..extent.end(), |section, _| {
            (section.append_time >= time).then_some(section.base_offset)
        });
        match found.map_err(into_read_error)? {
            Ok(Some(offset)) => Ok(offset),
            Ok(None) => Ok(extent.end_offset),
            Err(bad) => {
                let after = segment.index.as_ref().and_then(|index| index.after_position(extent.run, bad));
                Err(ReadError::Corrupt {
                    from,
                    to: after.map_or(extent.end_offset, |entry| entry.base_offset),
                })
            }
        }
    }
}

/// What is asked for.
#[derive(Debug)]
struct Request {
    partition: PartitionKey,
    from: Offset,
    bytes_max: usize,
    extent: Extent,
}

/// Where to start to read.
enum Start {
    /// At the batch that is asked for.
    Exact(u64),
    /// At a batch a little before.
    Before(u64),
}

/// The part that is asked for. Unless it is most of the buffer it is copied: who gets it counts its bytes, and must not keep
/// many more.
fn keep(bytes: &Bytes, range: std::ops::Range<usize>) -> Bytes {
    let part = bytes.slice(range);
    if part.len() < bytes.len() / 4 * 3 { Bytes::copy_from_slice(&part) } else { part }
}

/// Damage is found by the walk itself, so what is left is the disk, or a file that ends too early.
fn into_read_error(error: SegmentError) -> ReadError {
    match error {
        SegmentError::Disk(error) => ReadError::Disk(error),
        SegmentError::Damaged { path, .. } | SegmentError::NewerFormat { path, .. } => {
            let source = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
            ReadError::Disk(DiskError { action: "read", path, source })
        }
    }
}
