//! A file of the ring: its header page, and which part of the journal it holds.
//!
//! ```text
//! file   = header page (4096 bytes) , room for blocks
//! header = magic (8) , version u32 , number u32 , compatible features u64 , read-only compatible features u64 ,
//!          incompatible features u64 , journal id (16) , file length u64 , base position u64 , hash of the 72 bytes
//!          before u64 , zeros , link (see the module `link`) , zeros
//! ```
//!
//! The base is the journal position of the first byte after the header page, or all ones while the file is spare.
//! The header is synced before the file is used; a reused file keeps its old bytes, which never pass for new ones.

use std::io::IoSlice;
use std::ops::Range;
use std::path::{Path, PathBuf};

use bytes::BufMut;
use weir_protocol::read::Reader;
use weir_protocol::units::JournalPosition;
use xxhash_rust::xxh3::xxh3_64;

use super::link::{LINK_AT, LINK_BYTES, Link};
use super::{JournalId, ReplayError};
use crate::disk::{BLOCK_BYTES, Context, Disk, DiskError, File};

/// Length of the header page, and of the page that is written.
pub(super) const HEADER_PAGE_BYTES: u64 = BLOCK_BYTES;

pub(crate) const MAGIC: [u8; 8] = *b"WEIRWAL1";
const VERSION: u32 = 1;
/// Feature bits this version knows; a file with others in the two latter sets is not touched.
const FEATURES_KNOWN: u64 = 0;
/// Where the hash stands, and how much it covers.
const HASH_AT: usize = 72;
const HEADER_BYTES: usize = HASH_AT + 8;
/// The base of a spare file.
const NO_BASE: u64 = u64::MAX;

/// What a file says of itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct FileHeader {
    pub(super) journal: JournalId,
    /// The number in the file's name.
    pub(super) number: u32,
    /// Length of the file.
    pub(super) bytes: u64,
    /// Journal position of the first block; `None` while the file is spare.
    pub(super) base: Option<JournalPosition>,
}

/// A header page that cannot be used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum BadHeader {
    /// Its bytes are not what was written.
    Damaged,
    /// A later version wrote it.
    Newer { version: u32, features: u64 },
}

impl FileHeader {
    /// The header, without the zeros that fill the page.
    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let mut rest = &mut bytes[..];
        rest.put_slice(&MAGIC);
        rest.put_u32_le(VERSION);
        rest.put_u32_le(self.number);
        for features in [0, 0, 0] {
            rest.put_u64_le(features);
        }
        rest.put_slice(&self.journal.to_bytes());
        rest.put_u64_le(self.bytes);
        rest.put_u64_le(self.base.map_or(NO_BASE, JournalPosition::get));
        assert!(rest.len() == 8, "the hash is all that is left");
        let hash = xxh3_64(&bytes[..HASH_AT]);
        bytes[HASH_AT..].copy_from_slice(&hash.to_le_bytes());
        bytes
    }

    /// Reads the header at the start of `page`.
    pub(super) fn decode(page: &[u8]) -> Result<Self, BadHeader> {
        Self::read(page).unwrap_or(Err(BadHeader::Damaged))
    }

    fn read(page: &[u8]) -> Option<Result<Self, BadHeader>> {
        let mut reader = Reader::new(page);
        let hash = xxh3_64(reader.clone().take(HASH_AT).ok()?);
        if reader.take(MAGIC.len()).ok()? != MAGIC {
            return None;
        }
        let version = reader.u32().ok()?;
        let number = reader.u32().ok()?;
        reader.u64().ok()?;
        let features = reader.u64().ok()? | reader.u64().ok()?;
        let journal = JournalId::from_bytes(reader.bytes16().ok()?);
        let bytes = reader.u64().ok()?;
        let base = reader.u64().ok()?;
        if reader.u64().ok()? != hash {
            return None;
        }
        if version != VERSION || features & !FEATURES_KNOWN != 0 {
            return Some(Err(BadHeader::Newer { version, features: features & !FEATURES_KNOWN }));
        }
        let base = (base != NO_BASE).then_some(JournalPosition::new(base));
        // Positions are far from the end of 64 bits; a header that is not is no header of ours.
        let sane = bytes > HEADER_PAGE_BYTES
            && bytes % BLOCK_BYTES == 0
            && base
                .is_none_or(|base| base.get() % BLOCK_BYTES == 0 && base.get().checked_add(bytes).is_some());
        sane.then_some(Ok(Self { journal, number, bytes, base }))
    }
}

/// An open file of the ring.
#[derive(Debug)]
pub(super) struct RingFile<F> {
    pub(super) path: PathBuf,
    pub(super) file: F,
    pub(super) number: u32,
    /// Length of the file.
    pub(super) bytes: u64,
    /// How much of it is there: less only if it was cut.
    pub(super) held: u64,
    /// Journal position of the first block.
    pub(super) base: JournalPosition,
}

impl<F: File> RingFile<F> {
    /// Reads bytes of the file. What was cut off reads as zeros, in which no block is found.
    pub(super) fn read(&self, buffer: &mut [u8], byte: u64) -> Result<(), DiskError> {
        let there = usize::try_from(self.held.saturating_sub(byte)).unwrap_or(usize::MAX).min(buffer.len());
        let (read, missing) = buffer.split_at_mut(there);
        missing.fill(0);
        if read.is_empty() {
            return Ok(());
        }
        self.file.read_exact_at(read, byte).context("read", &self.path)
    }

    /// Which part of the journal the file holds.
    pub(super) fn positions(&self) -> Range<JournalPosition> {
        self.base..self.base.advance(self.capacity())
    }

    /// The position after the last that the file holds.
    pub(super) fn end(&self) -> JournalPosition {
        self.positions().end
    }

    /// How much of the journal the file holds.
    pub(super) fn capacity(&self) -> u64 {
        self.bytes - HEADER_PAGE_BYTES
    }

    /// The byte of the file at a position of the journal.
    pub(super) fn byte(&self, position: JournalPosition) -> u64 {
        HEADER_PAGE_BYTES + position.since(self.base)
    }

    /// The position of the journal at a byte of the file behind the header page.
    pub(super) fn position(&self, byte: u64) -> JournalPosition {
        self.base.advance(byte - HEADER_PAGE_BYTES)
    }

    /// Writes and syncs the header page.
    pub(super) fn write_header(
        &self,
        journal: JournalId,
        base: Option<JournalPosition>,
    ) -> Result<(), DiskError> {
        let header = FileHeader { journal, number: self.number, bytes: self.bytes, base }.encode();
        let zeros = ZEROS.get(header.len()..).expect("the header is shorter than its page");
        self.file
            .write_all_at(&[IoSlice::new(&header), IoSlice::new(zeros)], 0)
            .context("write", &self.path)?;
        self.file.sync_data().context("sync", &self.path)
    }
}

/// A page of zeros, to fill up with.
pub(super) static ZEROS: [u8; 4096] = [0; 4096];

/// A file as it was found.
#[derive(Debug)]
pub(super) struct FoundFile<F> {
    pub(super) path: PathBuf,
    pub(super) number: u32,
    pub(super) file: F,
    /// How long the file is.
    pub(super) length: u64,
    /// `None` if it is damaged.
    pub(super) header: Option<FileHeader>,
    /// Which file goes on behind it, if it says so.
    pub(super) link: Option<Link>,
}

/// Name of the file with a number.
pub(super) fn file_name(number: u32) -> String {
    format!("{number:04}.{EXTENSION}")
}

/// Name of a file that is being made. It never held a block.
pub(super) fn unfinished_name(number: u32) -> String {
    format!("{}{UNFINISHED}", file_name(number))
}

/// Whether this is the name of a file that was being made.
pub(super) fn is_unfinished(name: &str) -> bool {
    name.strip_suffix(UNFINISHED).is_some_and(|name| number_of(name).is_some())
}

fn number_of(name: &str) -> Option<u32> {
    let digits = name.strip_suffix(EXTENSION)?.strip_suffix('.')?;
    let number = digits.parse().ok()?;
    (digits.len() == 4 && file_name(number) == name).then_some(number)
}

const EXTENSION: &str = "wal";
const UNFINISHED: &str = ".new";

/// Paths, numbers and lengths of the ring's files.
pub(super) fn list<D: Disk>(disk: &D, directory: &Path) -> Result<Vec<(PathBuf, u32, u64)>, DiskError> {
    let entries = disk.list(directory).context("list", directory)?;
    let files = entries.into_iter().filter_map(|entry| {
        let number = number_of(&entry.name)?;
        Some((directory.join(&entry.name), number, entry.length))
    });
    Ok(files.collect())
}

/// Opens all files of the ring for reading, from the medium: what the system caches may be what it failed to write.
pub(super) fn find<D: Disk>(
    disk: &D,
    directory: &Path,
    journal: JournalId,
) -> Result<Vec<FoundFile<D::File>>, ReplayError> {
    let mut found = Vec::new();
    for (path, number, length) in list(disk, directory)? {
        let file = disk.open(&path, crate::disk::Mode::Read).context("open", &path)?;
        // What a killed process wrote is still on its way; only what is clean can be dropped.
        file.sync_data().context("sync", &path)?;
        file.drop_cache().context("drop the cache of", &path)?;
        let page = read_page(&file, &path, length)?;
        let link = page.as_ref().and_then(|page| Link::decode(page, journal));
        let header = match page.as_ref().map_or(Err(BadHeader::Damaged), |page| FileHeader::decode(page)) {
            Ok(header) if header.journal != journal => return Err(ReplayError::Foreign { path }),
            // A copy under another name is not the file that was synced under this one.
            Ok(header) if header.number != number => return Err(ReplayError::Foreign { path }),
            Ok(header) => Some(header),
            Err(BadHeader::Damaged) => None,
            Err(BadHeader::Newer { version, features }) => {
                return Err(ReplayError::NewerFormat { path, version, features });
            }
        };
        found.push(FoundFile { path, number, file, length, header, link });
    }
    Ok(found)
}

/// The part of the header page that is used, if the file is long enough to have one.
fn read_page<F: File>(
    file: &F,
    path: &Path,
    length: u64,
) -> Result<Option<[u8; LINK_AT + LINK_BYTES]>, DiskError> {
    if length < HEADER_PAGE_BYTES {
        return Ok(None);
    }
    let mut page = [0; LINK_AT + LINK_BYTES];
    file.read_exact_at(&mut page, 0).context("read", path)?;
    Ok(Some(page))
}
