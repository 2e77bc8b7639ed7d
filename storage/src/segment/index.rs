//! The sparse index of a segment: for each run, a batch every 64 KiB with its offset, append time and position.
//!
//! ```text
//! index  = header (64 bytes) , first entry of each run u32 , entries
//! header = magic (8) , version u32 , run count u32 , entry count u32 , reserved u32 , segment id u64 , directory hash u64 ,
//!          reserved u64 , hash of what follows the header u64 , hash of the 56 bytes before u64
//! entry  = base offset u64 , append time i64 , position u64
//! ```
//!
//! It repeats what stands in the segment, and names it by the hash of its run directory: an index that is missing or
//! damaged is made again. The first batch of a run has no entry: the run itself says where it is.

use std::io::IoSlice;
use std::ops::{Deref, Range};
use std::path::Path;

use bytes::BufMut;
use weir_protocol::DecodeError;
use weir_protocol::read::Reader;
use weir_protocol::units::{Offset, Timestamp};

use super::walk::walk_sections;
use super::{
    INDEX_INTERVAL_BYTES, Run, SegmentError, SegmentFile, SegmentIdentity, index_name, unfinished_index_name,
};
use crate::disk::{Context, Disk, DiskError, File, Mode};
use crate::dump::{DumpError, Item, Sink};

/// Where a batch stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct IndexEntry {
    /// Offset of its first record.
    pub(crate) base_offset: Offset,
    /// When it was appended.
    pub(crate) append_time: Timestamp,
    /// Its first byte in the segment.
    pub(crate) position: u64,
}

/// Collects the entries of a segment while its batches pass by.
#[derive(Debug, Default)]
pub(crate) struct IndexBuilder {
    /// For each run, the number of its first entry.
    firsts: Vec<u32>,
    entries: Vec<IndexEntry>,
    /// Position of the last entry, or of the run's start.
    last_position: u64,
}

impl IndexBuilder {
    /// A run begins.
    pub(crate) fn begin_run(&mut self, position: u64) {
        self.firsts.push(count(self.entries.len()));
        self.last_position = position;
    }

    /// A batch passes by.
    pub(crate) fn note(&mut self, entry: IndexEntry) {
        if entry.position - self.last_position >= INDEX_INTERVAL_BYTES {
            self.last_position = entry.position;
            self.entries.push(entry);
        }
    }

    /// The whole file.
    pub(crate) fn encode(&self, identity: &SegmentIdentity, directory_hash: u64) -> Vec<u8> {
        let mut body = Vec::with_capacity(self.firsts.len() * 4 + self.entries.len() * ENTRY_BYTES);
        for first in &self.firsts {
            body.put_u32_le(*first);
        }
        for entry in &self.entries {
            body.put_u64_le(entry.base_offset.get());
            body.put_i64_le(entry.append_time.as_micros());
            body.put_u64_le(entry.position);
        }
        let mut out = Vec::with_capacity(HEADER_BYTES + body.len());
        out.put_slice(&MAGIC);
        out.put_u32_le(VERSION);
        out.put_u32_le(count(self.firsts.len()));
        out.put_u32_le(count(self.entries.len()));
        out.put_u32_le(0);
        out.put_u64_le(identity.segment.get());
        out.put_u64_le(directory_hash);
        out.put_u64_le(0);
        out.put_u64_le(identity.hash(&body));
        out.put_u64_le(identity.hash(&out));
        assert!(out.len() == HEADER_BYTES, "the fields fill the header");
        out.extend_from_slice(&body);
        out
    }
}

/// Writes an index under a name of its own and syncs it.
pub(super) fn write<D: Disk>(disk: &D, path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
    let file = disk.create(path, Mode::Write, 0).context("make", path)?;
    file.write_all_at(&[IoSlice::new(bytes)], 0).context("write", path)?;
    file.sync_data().context("sync", path)
}

/// The index of a sealed segment.
#[derive(Debug)]
pub(crate) struct Index<M> {
    bytes: Content<M>,
    run_count: usize,
    entry_count: usize,
}

#[derive(Debug)]
enum Content<M> {
    /// The file, mapped.
    Mapped(M),
    /// As it was made again.
    Rebuilt(Vec<u8>),
}

impl<M: Deref<Target = [u8]>> Index<M> {
    /// Maps the index of a segment; `None` if it is missing or damaged.
    pub(crate) fn map<D: Disk<Map = M>>(
        disk: &D,
        segment: &SegmentFile<D::File>,
        directory_hash: u64,
    ) -> Result<Option<Self>, DiskError> {
        let path = directory_of(segment).join(index_name(segment.identity.segment));
        match disk.map(&path) {
            Ok(map) => {
                let counts = verify(&map, &segment.identity, directory_hash);
                let index = counts.map(|(run_count, entry_count)| Self {
                    bytes: Content::Mapped(map),
                    run_count,
                    entry_count,
                });
                Ok(index)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).context("map", &path),
        }
    }

    /// Maps the index of a segment; makes it again from the segment if it is missing or damaged. `runs` are only
    /// asked for then.
    pub(crate) fn open<D: Disk<Map = M>>(
        disk: &D,
        segment: &SegmentFile<D::File>,
        directory_hash: u64,
        runs: impl FnOnce() -> Result<Vec<Run>, SegmentError>,
    ) -> Result<Self, SegmentError> {
        if let Some(index) = Self::map(disk, segment, directory_hash)? {
            return Ok(index);
        }
        let bytes = build(segment, &runs()?)?.encode(&segment.identity, directory_hash);
        // Reading goes on without the file: if it cannot be written, it will be made again the next time.
        drop(replace(disk, directory_of(segment), &segment.identity, &bytes));
        let (run_count, entry_count) =
            verify(&bytes, &segment.identity, directory_hash).expect("a new index is right");
        Ok(Self { bytes: Content::Rebuilt(bytes), run_count, entry_count })
    }

    /// The last entry of a run at or before an offset.
    pub(crate) fn at_offset(&self, run: u32, offset: Offset) -> Option<IndexEntry> {
        self.last_where(run, |entry| entry.base_offset <= offset)
    }

    /// The last entry of a run that was appended before a moment.
    pub(crate) fn before_time(&self, run: u32, time: Timestamp) -> Option<IndexEntry> {
        self.last_where(run, |entry| entry.append_time < time)
    }

    /// The first entry of a run behind a position.
    pub(crate) fn after_position(&self, run: u32, position: u64) -> Option<IndexEntry> {
        let entries = self.entries_of(run);
        let index = self.partition_point(entries.clone(), |entry| entry.position <= position);
        if index < entries.end { self.entry(index) } else { None }
    }

    /// The first entry of any run behind a position.
    pub(crate) fn after_position_anywhere(&self, position: u64) -> Option<IndexEntry> {
        let index = self.partition_point(0..self.entry_count, |entry| entry.position <= position);
        if index < self.entry_count { self.entry(index) } else { None }
    }

    fn last_where(&self, run: u32, holds: impl Fn(&IndexEntry) -> bool) -> Option<IndexEntry> {
        let entries = self.entries_of(run);
        let index = self.partition_point(entries.clone(), holds);
        if index > entries.start { self.entry(index - 1) } else { None }
    }

    fn partition_point(&self, mut entries: Range<usize>, holds: impl Fn(&IndexEntry) -> bool) -> usize {
        while entries.start < entries.end {
            let middle = usize::midpoint(entries.start, entries.end);
            if self.entry(middle).is_some_and(|entry| holds(&entry)) {
                entries.start = middle + 1;
            } else {
                entries.end = middle;
            }
        }
        entries.start
    }

    /// Which entries belong to a run.
    fn entries_of(&self, run: u32) -> Range<usize> {
        let run = run as usize;
        let start = self.first_of(run).unwrap_or(self.entry_count).min(self.entry_count);
        let end = self.first_of(run + 1).unwrap_or(self.entry_count).min(self.entry_count);
        start..end.max(start)
    }

    fn first_of(&self, run: usize) -> Option<usize> {
        if run >= self.run_count {
            return None;
        }
        let at = HEADER_BYTES + run * 4;
        Some(Reader::new(self.bytes().get(at..)?).u32().ok()? as usize)
    }

    fn entry(&self, index: usize) -> Option<IndexEntry> {
        let at = HEADER_BYTES + self.run_count * 4 + index * ENTRY_BYTES;
        decode_entry(&mut Reader::new(self.bytes().get(at..)?)).ok()
    }

    fn bytes(&self) -> &[u8] {
        match &self.bytes {
            Content::Mapped(map) => map,
            Content::Rebuilt(bytes) => bytes,
        }
    }
}

fn directory_of<F>(segment: &SegmentFile<F>) -> &Path {
    segment.path.parent().expect("segments lie in a directory")
}

fn decode_entry(reader: &mut Reader<'_>) -> Result<IndexEntry, DecodeError> {
    let base_offset = reader.offset()?;
    let append_time = Timestamp::from_micros(reader.i64()?);
    Ok(IndexEntry { base_offset, append_time, position: reader.u64()? })
}

/// Numbers of runs and entries of an index, if it is that of this segment and whole.
fn verify(bytes: &[u8], identity: &SegmentIdentity, directory_hash: u64) -> Option<(usize, usize)> {
    let (header, body) = bytes.split_at_checked(HEADER_BYTES)?;
    let (covered, hash) = header.split_last_chunk::<8>()?;
    if identity.hash(covered) != u64::from_le_bytes(*hash) {
        return None;
    }
    let mut reader = Reader::new(header);
    if reader.take(MAGIC.len()).ok()? != MAGIC || reader.u32().ok()? != VERSION {
        return None;
    }
    let (runs, entries) = (reader.u32().ok()? as usize, reader.u32().ok()? as usize);
    reader.u32().ok()?;
    let is_this = reader.u64().ok()? == identity.segment.get() && reader.u64().ok()? == directory_hash;
    reader.u64().ok()?;
    let whole = body.len() == runs.checked_mul(4)?.checked_add(entries.checked_mul(ENTRY_BYTES)?)?
        && reader.u64().ok()? == identity.hash(body);
    (is_this && whole).then_some((runs, entries))
}

/// Shows an index as it stands there. Without the segment's identity its hashes cannot be checked.
pub(super) fn show(
    bytes: &[u8],
    identity: Option<&SegmentIdentity>,
    sink: &mut Sink<'_>,
) -> Result<(), DumpError> {
    let item = Item::new(0, "index", 0..bytes.len().min(HEADER_BYTES) as u64);
    let mut reader = Reader::new(bytes.get(12..HEADER_BYTES).unwrap_or(&[]));
    let (Ok(runs), Ok(entries), Ok(_), Ok(segment), Ok(directory_hash)) =
        (reader.u32(), reader.u32(), reader.u32(), reader.u64(), reader.u64())
    else {
        return sink.put(item.damaged("shorter than its header"));
    };
    let mut item = item.number("segment", segment).number("runs", runs).number("entries", entries);
    item = match identity {
        Some(identity) => item.unless(
            verify(bytes, identity, directory_hash).is_some(),
            "its hashes are wrong; it will be made again",
        ),
        None => item.text("unchecked", "the salt of its hashes is in the segment, which is not here"),
    };
    sink.put(item)?;
    let first = (HEADER_BYTES + runs as usize * 4).min(bytes.len());
    for number in 0..entries as usize {
        let at = first + number * ENTRY_BYTES;
        let Some(entry) = bytes.get(at..at + ENTRY_BYTES) else {
            let rest = at as u64..bytes.len() as u64;
            return sink.put(Item::new(1, "entry", rest).damaged("the file ends before its last entry"));
        };
        let item = Item::new(1, "entry", at as u64..(at + ENTRY_BYTES) as u64);
        sink.put(match decode_entry(&mut Reader::new(entry)) {
            Ok(entry) => item
                .number("base_offset", entry.base_offset.get())
                .moment("append_time", entry.append_time)
                .number("position", entry.position),
            Err(error) => item.damaged(error),
        })?;
    }
    Ok(())
}

/// Collects the entries from the segment itself. Stops a run where it is damaged.
fn build<F: File>(segment: &SegmentFile<F>, runs: &[Run]) -> Result<IndexBuilder, SegmentError> {
    let mut builder = IndexBuilder::default();
    for run in runs {
        builder.begin_run(run.position);
        let walked = walk_sections(segment, run.range(), |section, position| {
            let (base_offset, append_time) = (section.base_offset, section.append_time);
            builder.note(IndexEntry { base_offset, append_time, position });
            None::<()>
        })?;
        if walked.is_err() {
            // What lies behind the damage cannot be found without the index that is gone.
            continue;
        }
    }
    Ok(builder)
}

/// Puts an index in the place of one that is missing or damaged.
fn replace<D: Disk>(
    disk: &D,
    directory: &Path,
    identity: &SegmentIdentity,
    bytes: &[u8],
) -> Result<(), DiskError> {
    let unfinished = directory.join(unfinished_index_name(identity.segment));
    let path = directory.join(index_name(identity.segment));
    let written = write(disk, &unfinished, bytes)
        .and_then(|()| disk.rename(&unfinished, &path).context("rename", &unfinished));
    if written.is_err() {
        // It may be the name of an attempt that died; the next attempt finds it free.
        drop(disk.remove(&unfinished));
    }
    written
}

fn count(count: usize) -> u32 {
    u32::try_from(count).expect("entries of one segment are limited to 32 bits")
}

pub(crate) const MAGIC: [u8; 8] = *b"WEIRIDX1";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 64;
const ENTRY_BYTES: usize = 24;
