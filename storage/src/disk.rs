//! What storage asks of a disk: two traits with two implementations, the operating system and a simulation.
//!
//! All calls block. Nothing is durable before the sync that covers it: [`File::sync_data`] for bytes and
//! length, [`Disk::sync_directory`] for names.

use std::fmt::Debug;
use std::io::{IoSlice, Result};
use std::ops::Deref;
use std::path::{Path, PathBuf};

pub mod aligned;
pub mod map;
pub mod os;
#[cfg(feature = "sim")]
pub mod sim;

pub use aligned::AlignedBuffer;
pub use os::OsDisk;
#[cfg(feature = "sim")]
pub use sim::SimDisk;

/// How a file is opened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    /// For reading only.
    Read,
    /// For reading and writing through the page cache.
    Write,
    /// For writing past the page cache: positions, lengths and memory are multiples of [`BLOCK_BYTES`]. A disk that
    /// cannot do that opens the file as [`Mode::Write`].
    WriteDirect,
}

/// Unit of alignment of direct writes and of journal blocks: a page, and a multiple of every sector size.
pub const BLOCK_BYTES: u64 = 4096;

/// A name in a directory.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Entry {
    /// Name of the file, without its directory.
    pub name: String,
    /// Its length in bytes.
    pub length: u64,
}

/// A file system, as far as storage needs one.
#[expect(clippy::missing_errors_doc, reason = "each call fails as the system's own does")]
pub trait Disk: Clone + Debug + Send + Sync + 'static {
    /// An open file. Closed when dropped.
    type File: File;
    /// The lock of a directory; released when dropped.
    type Lock: Debug + Send + Sync + 'static;
    /// The bytes of a whole file that will never change.
    type Map: Deref<Target = [u8]> + Debug + Send + Sync + 'static;

    /// Makes a directory, and those above it. It may exist already.
    fn create_directory(&self, path: &Path) -> Result<()>;
    /// Makes a file that must not exist, with `bytes` of space reserved (0 for none).
    fn create(&self, path: &Path, mode: Mode, bytes: u64) -> Result<Self::File>;
    /// Opens a file that must exist.
    fn open(&self, path: &Path, mode: Mode) -> Result<Self::File>;
    /// Maps a sealed file that will never be changed or truncated, only unlinked.
    fn map(&self, path: &Path) -> Result<Self::Map>;
    /// Gives a file another name, in place of a file that may have it.
    fn rename(&self, from: &Path, to: &Path) -> Result<()>;
    /// Gives a file one more name, which must be free.
    fn link(&self, from: &Path, to: &Path) -> Result<()>;
    /// Takes a name away.
    fn remove(&self, path: &Path) -> Result<()>;
    /// The files of a directory, sorted by name.
    fn list(&self, path: &Path) -> Result<Vec<Entry>>;
    /// Makes the names of a directory durable.
    fn sync_directory(&self, path: &Path) -> Result<()>;
    /// Locks a directory against every other process, or says that it is locked.
    fn lock(&self, directory: &Path) -> Result<Option<Self::Lock>>;
    /// As [`Disk::lock`], but changes nothing: what nobody has ever locked needs no lock.
    fn lock_existing(&self, directory: &Path) -> Result<Option<Self::Lock>>;
    /// Bytes that can still be written.
    fn free_bytes(&self, path: &Path) -> Result<u64>;
}

/// An open file.
#[expect(clippy::missing_errors_doc, reason = "each call fails as the system's own does")]
pub trait File: Debug + Send + Sync + 'static {
    /// Fills `buffer` from `position` on; an error if the file ends before.
    fn read_exact_at(&self, buffer: &mut [u8], position: u64) -> Result<()>;
    /// Writes all slices, one after the other, from `position` on.
    fn write_all_at(&self, slices: &[IoSlice<'_>], position: u64) -> Result<()>;
    /// Makes all earlier writes of this file durable, with the length they need.
    fn sync_data(&self) -> Result<()>;
    /// Length in bytes.
    fn length(&self) -> Result<u64>;
    /// Cuts or extends (with zeros) the file.
    fn set_length(&self, bytes: u64) -> Result<()>;
    /// Drops what the operating system caches of the file, so that the next read comes from the medium.
    fn drop_cache(&self) -> Result<()>;
}

/// What was done to which file when it failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}", path.display())]
pub struct DiskError {
    /// What was tried, as a verb: "sync", "open".
    pub action: &'static str,
    /// On which file or directory.
    pub path: PathBuf,
    /// What the system said.
    pub source: std::io::Error,
}

impl DiskError {
    /// Whether there was no space.
    pub fn is_full(&self) -> bool {
        matches!(self.source.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
    }
}

/// Adds to a result what was tried on which path.
pub trait Context<T> {
    /// Names the action and the path of a failure.
    ///
    /// # Errors
    /// The failure, with both.
    fn context(self, action: &'static str, path: &Path) -> std::result::Result<T, DiskError>;
}

impl<T> Context<T> for Result<T> {
    fn context(self, action: &'static str, path: &Path) -> std::result::Result<T, DiskError> {
        self.map_err(|source| DiskError { action, path: path.to_owned(), source })
    }
}
