//! The disk of the operating system: `std::fs` and what it lacks.
//!
//! Every call goes through the C library, so that fault-injecting shims see all of them.

use std::fs;
use std::io::{self, ErrorKind, IoSlice, Result};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{Advice, FallocateFlags, FlockOperation, OFlags};

use super::map::OsMap;
use super::{BLOCK_BYTES, Disk, Entry, File, Mode};
use crate::limits::{WRITE_BYTES_MAX, WRITE_DIRECT_BYTES_MAX, WRITE_SLICES_MAX};

/// The operating system's files.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsDisk;

/// An open file of the operating system.
#[derive(Debug)]
pub struct OsFile {
    file: fs::File,
    /// Longest single write.
    write_bytes_max: usize,
}

/// The lock of a directory, held while its lock file is open.
#[derive(Debug)]
pub struct OsLock(#[expect(dead_code, reason = "the lock lives as long as the open file")] Option<fs::File>);

/// The file whose lock stands for the directory's.
const LOCK: &str = "lock";

fn flock(file: fs::File) -> Result<Option<OsLock>> {
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(OsLock(Some(file)))),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

impl Disk for OsDisk {
    type File = OsFile;
    type Lock = OsLock;
    type Map = OsMap;

    fn create_directory(&self, path: &Path) -> Result<()> {
        fs::create_dir_all(path)
    }

    fn create(&self, path: &Path, mode: Mode, bytes: u64) -> Result<OsFile> {
        let file = open(path, mode, true)?;
        if bytes > 0 {
            reserve(&file.file, bytes)?;
        }
        Ok(file)
    }

    fn open(&self, path: &Path, mode: Mode) -> Result<OsFile> {
        open(path, mode, false)
    }

    fn map(&self, path: &Path) -> Result<OsMap> {
        OsMap::open(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        fs::rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> Result<()> {
        fs::hard_link(from, to)
    }

    fn remove(&self, path: &Path) -> Result<()> {
        fs::remove_file(path)
    }

    fn list(&self, path: &Path) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if metadata.is_file() {
                let name = entry.file_name().to_string_lossy().into_owned();
                entries.push(Entry { name, length: metadata.len() });
            }
        }
        entries.sort();
        Ok(entries)
    }

    fn sync_directory(&self, path: &Path) -> Result<()> {
        fs::File::open(path)?.sync_all()
    }

    fn lock(&self, directory: &Path) -> Result<Option<OsLock>> {
        let mut options = fs::OpenOptions::new();
        flock(options.read(true).write(true).create(true).truncate(false).open(directory.join(LOCK))?)
    }

    fn lock_existing(&self, directory: &Path) -> Result<Option<OsLock>> {
        match fs::File::open(directory.join(LOCK)) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                fs::metadata(directory)?;
                Ok(Some(OsLock(None)))
            }
            opened => flock(opened?),
        }
    }

    fn free_bytes(&self, path: &Path) -> Result<u64> {
        let statistics = rustix::fs::statvfs(path)?;
        Ok(statistics.f_bavail.saturating_mul(statistics.f_frsize))
    }
}

impl File for OsFile {
    fn read_exact_at(&self, buffer: &mut [u8], position: u64) -> Result<()> {
        self.file.read_exact_at(buffer, position)
    }

    fn write_all_at(&self, slices: &[IoSlice<'_>], position: u64) -> Result<()> {
        write_all_at(slices, position, self.write_bytes_max, |slices, position| {
            Ok(rustix::io::pwritev(&self.file, slices, position)?)
        })
    }

    fn sync_data(&self) -> Result<()> {
        self.file.sync_data()
    }

    fn length(&self) -> Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn set_length(&self, bytes: u64) -> Result<()> {
        self.file.set_len(bytes)
    }

    fn drop_cache(&self) -> Result<()> {
        Ok(rustix::fs::fadvise(&self.file, 0, None, Advice::DontNeed)?)
    }
}

/// Opens or makes a file; one that cannot be written past the page cache is opened to be written through it.
fn open(path: &Path, mode: Mode, new: bool) -> Result<OsFile> {
    let mut options = fs::OpenOptions::new();
    options.read(true).write(new || mode != Mode::Read).create_new(new);
    if mode != Mode::WriteDirect {
        return Ok(OsFile { file: options.open(path)?, write_bytes_max: WRITE_BYTES_MAX });
    }
    let mut direct = options.clone();
    direct.custom_flags(OFlags::DIRECT.bits().cast_signed());
    match direct.open(path) {
        Ok(file) => Ok(OsFile { file, write_bytes_max: WRITE_DIRECT_BYTES_MAX }),
        Err(error) if error.kind() == ErrorKind::InvalidInput => {
            // The file may have been made before the flag was refused.
            let file = options.create_new(false).create(new).open(path)?;
            Ok(OsFile { file, write_bytes_max: WRITE_BYTES_MAX })
        }
        Err(error) => Err(error),
    }
}

/// Reserves space, or at least sets the length where space cannot be reserved.
fn reserve(file: &fs::File, bytes: u64) -> Result<()> {
    loop {
        return match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, bytes) {
            Ok(()) => Ok(()),
            Err(rustix::io::Errno::INTR) => continue,
            Err(rustix::io::Errno::OPNOTSUPP) => file.set_len(bytes),
            Err(error) => Err(error.into()),
        };
    }
}

/// Writes all slices with as many calls as it takes: a call has at most [`WRITE_SLICES_MAX`] slices and
/// `bytes_max` bytes, may be interrupted, and may write less than it was given.
fn write_all_at(
    slices: &[IoSlice<'_>],
    position: u64,
    bytes_max: usize,
    write: impl Fn(&[IoSlice<'_>], u64) -> Result<usize>,
) -> Result<()> {
    let mut left = Remaining { slices, skip: 0 };
    let mut position = position;
    let mut call = Vec::with_capacity(slices.len().min(WRITE_SLICES_MAX));
    loop {
        call.clear();
        left.gather(bytes_max, &mut call);
        if call.is_empty() {
            return Ok(());
        }
        match write(&call, position) {
            Ok(0) => return Err(io::Error::new(ErrorKind::WriteZero, "the system took no bytes")),
            Ok(written) => {
                left.advance(written);
                position += written as u64;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// What is still to be written of some slices.
struct Remaining<'a> {
    slices: &'a [IoSlice<'a>],
    /// Bytes of the first slice that are written already.
    skip: usize,
}

impl<'a> Remaining<'a> {
    /// Puts the slices of the next call into `call`: whole ones, but for the first and the last.
    fn gather(&self, bytes_max: usize, call: &mut Vec<IoSlice<'a>>) {
        let mut budget = bytes_max;
        let mut skip = self.skip;
        for slice in self.slices {
            let slice: &'a [u8] = slice;
            let bytes = slice.get(skip..).unwrap_or(&[]);
            skip = 0;
            let (taken, _) = bytes.split_at(bytes.len().min(budget));
            if !taken.is_empty() {
                call.push(IoSlice::new(taken));
                budget -= taken.len();
            }
            if budget == 0 || call.len() == WRITE_SLICES_MAX {
                return;
            }
        }
    }

    fn advance(&mut self, written: usize) {
        self.skip += written;
        while let Some((first, rest)) = self.slices.split_first()
            && self.skip >= first.len()
        {
            self.skip -= first.len();
            self.slices = rest;
        }
    }
}

const _: () = assert!(
    (WRITE_DIRECT_BYTES_MAX as u64).is_multiple_of(BLOCK_BYTES),
    "a direct write must be cut on block boundaries"
);

#[cfg(test)]
mod tests;
