//! The ring of files: which part of the journal lies in which, and which can be used again.
//!
//! Owns the invariant that at all times some file, with a synced header, holds or ends at the end of the journal, and that
//! the file before names it: so missing files are always noticed. Files are made whole under another name, filled with zeros, synced and renamed;
//! from then on their length never changes.

use std::collections::VecDeque;
use std::io::{ErrorKind, IoSlice};
use std::path::{Path, PathBuf};

use weir_protocol::units::JournalPosition;

use super::file::{self, FileHeader, HEADER_PAGE_BYTES, RingFile};
use super::{JournalError, JournalId};
use crate::disk::{BLOCK_BYTES, Context, Disk, DiskError, File, Mode};
use crate::limits::{
    JOURNAL_FILE_BYTES_DEFAULT, JOURNAL_FILES_DEFAULT, JOURNAL_FILES_LIMIT, JOURNAL_FILES_MAX_DEFAULT,
    JOURNAL_FILES_MIN, JOURNAL_PREPARE_BYTES, JOURNAL_RESERVE_BYTES_DEFAULT, WRITE_BYTES_MAX,
};

/// Sizes of a journal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct JournalOptions {
    /// Length of a new file, a multiple of 4096, at least 16 KiB. Bounds the longest frame. Default 32 MiB.
    pub file_bytes: u64,
    /// Files the ring starts with, at least 2. Default 4.
    pub files: u32,
    /// Files the ring may grow to when the flusher lags, at most 10,000. Default 32.
    pub files_max: u32,
    /// Space that only control frames may use. Default 1 MiB.
    pub reserve_bytes: u64,
}

impl Default for JournalOptions {
    fn default() -> Self {
        Self {
            file_bytes: JOURNAL_FILE_BYTES_DEFAULT,
            files: JOURNAL_FILES_DEFAULT,
            files_max: JOURNAL_FILES_MAX_DEFAULT,
            reserve_bytes: JOURNAL_RESERVE_BYTES_DEFAULT,
        }
    }
}

impl JournalOptions {
    /// # Panics
    /// If the sizes make no ring: configuration is checked before it comes here.
    fn check(&self) {
        assert!(self.file_bytes.is_multiple_of(BLOCK_BYTES), "journal files are whole blocks");
        assert!(self.file_bytes >= 4 * BLOCK_BYTES, "a journal file holds a header and some blocks");
        assert!(self.files >= JOURNAL_FILES_MIN, "a ring has at least two files");
        assert!(self.files <= self.files_max, "the ring starts within its bounds");
        assert!(self.files_max <= JOURNAL_FILES_LIMIT, "names of journal files have four digits");
        let smallest = u64::from(self.files) * (self.file_bytes - HEADER_PAGE_BYTES);
        assert!(self.reserve_bytes <= smallest / 2, "the reserve leaves room for data");
    }
}

/// Whether there is more to prepare.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Prepared {
    /// Nothing is needed for now.
    Done,
    /// Another step is useful.
    More,
    /// The ring should grow, but the disk is full. The journal goes on with the files it has.
    DiskFull,
}

/// The files of a journal.
#[derive(Debug)]
pub(super) struct Ring<D: Disk> {
    disk: D,
    directory: PathBuf,
    journal: JournalId,
    pub(super) options: JournalOptions,
    /// Files with a place in the journal, in order, without gaps; never empty.
    pub(super) live: VecDeque<RingFile<D::File>>,
    /// Files that can take the next place, the one that was freed first in front.
    spare: VecDeque<RingFile<D::File>>,
    unfinished: Option<Unfinished<D::File>>,
    next_number: u32,
}

/// A file that is being filled with zeros.
#[derive(Debug)]
struct Unfinished<F> {
    file: RingFile<F>,
    zeroed: u64,
}

impl<D: Disk> Ring<D> {
    /// Makes the first file of a new journal.
    pub(super) fn create(
        disk: D,
        directory: &Path,
        journal: JournalId,
        options: JournalOptions,
    ) -> Result<Self, JournalError> {
        options.check();
        disk.create_directory(directory).context("make", directory)?;
        remove_abandoned(&disk, directory)?;
        let mut ring = Self::empty(disk, directory, journal, options);
        let mut first = ring.begin_file()?;
        while !ring.fill(&mut first)? {}
        let first = ring.finish_file(first, Some(JournalPosition::ZERO))?;
        ring.live.push_back(first);
        if let Some(parent) = directory.parent() {
            ring.disk.sync_directory(parent).context("sync", parent)?;
        }
        Ok(ring)
    }

    /// Takes over the files of a replayed journal. The last file that has a place, whose header is given, keeps it,
    /// so that a later start finds where the journal goes on; all others are spare.
    pub(super) fn resume(
        disk: D,
        directory: &Path,
        last: FileHeader,
        options: JournalOptions,
    ) -> Result<Self, JournalError> {
        options.check();
        let mut ring = Self::empty(disk, directory, last.journal, options);
        for entry in ring.disk.list(directory).context("list", directory)? {
            if file::is_unfinished(&entry.name) {
                let path = directory.join(&entry.name);
                ring.disk.remove(&path).context("remove", &path)?;
            }
        }
        for (path, number, length) in file::list(&ring.disk, directory)? {
            ring.take_over(path, number, length, &last)?;
        }
        // A killed process may have given a file its name without having made the name durable.
        ring.disk.sync_directory(directory).context("sync", directory)?;
        assert!(ring.live.len() == 1, "the last file of a replayed journal is there");
        while ring.spare.is_empty() && ring.prepare(ring.assigned_end())? == Prepared::More {}
        Ok(ring)
    }

    fn take_over(
        &mut self,
        path: PathBuf,
        number: u32,
        length: u64,
        last: &FileHeader,
    ) -> Result<(), DiskError> {
        let is_last = number == last.number;
        if !is_last && (length < self.options.file_bytes || !length.is_multiple_of(BLOCK_BYTES)) {
            // It was cut, or the options have changed. A whole file of zeros takes its place when one is needed.
            return self.disk.remove(&path).context("remove", &path);
        }
        self.next_number = self.next_number.max(number + 1);
        let file = self.disk.open(&path, Mode::Write).context("open", &path)?;
        if is_last {
            if length < last.bytes {
                // It was cut where nothing of it was needed. Its length is synced with its next header.
                file.set_length(last.bytes).context("extend", &path)?;
            }
            let base = last.base.expect("the last file of a journal has a place");
            self.live.push_back(RingFile { path, file, number, bytes: last.bytes, held: last.bytes, base });
        } else {
            let base = JournalPosition::ZERO;
            self.spare.push_back(RingFile { path, file, number, bytes: length, held: length, base });
        }
        Ok(())
    }

    fn empty(disk: D, directory: &Path, journal: JournalId, options: JournalOptions) -> Self {
        Self {
            disk,
            directory: directory.to_owned(),
            journal,
            options,
            live: VecDeque::new(),
            spare: VecDeque::new(),
            unfinished: None,
            next_number: 0,
        }
    }

    /// The position after the last that has a file.
    pub(super) fn assigned_end(&self) -> JournalPosition {
        self.live.back().expect("a ring has at least one live file").end()
    }

    /// The position after the last that the files can hold without another release.
    pub(super) fn limit(&self) -> JournalPosition {
        self.assigned_end().advance(self.spare.iter().map(RingFile::capacity).sum())
    }

    /// Lengths of journal that the spare files will hold, in the order in which they are used.
    pub(super) fn spare_capacities(&self) -> impl Iterator<Item = u64> {
        self.spare.iter().map(RingFile::capacity)
    }

    /// Gives the next spare file a place behind the last one.
    pub(super) fn assign(&mut self) -> Result<(), DiskError> {
        let base = self.assigned_end();
        let mut file = self.spare.pop_front().expect("there is a spare file to assign");
        file.base = base;
        file.write_header(self.journal, Some(base))?;
        let last = self.live.back().expect("a ring has at least one live file");
        last.write_link(self.journal, file.number)?;
        self.live.push_back(file);
        Ok(())
    }

    /// Frees files that lie wholly below a position, but none from the one with index `keep` on.
    pub(super) fn release(&mut self, below: JournalPosition, keep: usize) {
        // A file that ends at the end of the journal is one that is kept: until the next one is written to, it is the
        // one that holds the end.
        let until = self.live.get(keep).map_or(below, |file| file.base.min(below));
        while let Some(first) = self.live.front()
            && first.end() <= until
        {
            let freed = self.live.pop_front().expect("the first file was just looked at");
            self.spare.push_back(freed);
        }
    }

    /// One bounded step: a file gets its place ahead of time, or some zeros of a new file are written and synced.
    pub(super) fn prepare(&mut self, end: JournalPosition) -> Result<Prepared, DiskError> {
        if let Some(unfinished) = self.unfinished.take() {
            return self.prepare_unfinished(unfinished);
        }
        let last = self.live.back().expect("a ring has at least one live file");
        if end > last.base.advance(last.capacity() / 2) && !self.spare.is_empty() {
            self.assign()?;
            return Ok(Prepared::More);
        }
        if !self.wants_file(end) {
            return Ok(Prepared::Done);
        }
        match self.begin_file() {
            Ok(unfinished) => {
                self.unfinished = Some(unfinished);
                Ok(Prepared::More)
            }
            Err(error) => self.without_space(error),
        }
    }

    /// Whether the ring is smaller than it starts with, or nearly full.
    fn wants_file(&self, end: JournalPosition) -> bool {
        let files = u32::try_from(self.live.len() + self.spare.len()).expect("limited to four digits");
        if files >= self.options.files_max || self.next_number >= JOURNAL_FILES_LIMIT {
            return false;
        }
        files < self.options.files || self.limit().since(end) < 2 * self.options.file_bytes
    }

    fn prepare_unfinished(&mut self, mut unfinished: Unfinished<D::File>) -> Result<Prepared, DiskError> {
        match self.fill(&mut unfinished) {
            Ok(false) => {
                self.unfinished = Some(unfinished);
                Ok(Prepared::More)
            }
            Ok(true) => {
                let file = self.finish_file(unfinished, None)?;
                self.spare.push_back(file);
                Ok(Prepared::More)
            }
            Err(error) => self.without_space(error),
        }
    }

    /// Takes back what was begun if there was no space for it.
    fn without_space(&mut self, error: DiskError) -> Result<Prepared, DiskError> {
        if !error.is_full() {
            return Err(error);
        }
        self.next_number -= 1;
        let path = self.directory.join(file::unfinished_name(self.next_number));
        match self.disk.remove(&path) {
            // There may not even have been space for the name.
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error).context("remove", &path),
            Ok(()) | Err(_) => Ok(Prepared::DiskFull),
        }
    }

    fn begin_file(&mut self) -> Result<Unfinished<D::File>, DiskError> {
        let number = self.next_number;
        self.next_number += 1;
        let bytes = self.options.file_bytes;
        let path = self.directory.join(file::unfinished_name(number));
        let file = self.disk.create(&path, Mode::Write, bytes).context("make", &path)?;
        let file = RingFile { path, file, number, bytes, held: bytes, base: JournalPosition::ZERO };
        Ok(Unfinished { file, zeroed: 0 })
    }

    /// Writes and syncs some zeros: blocks that were written before are written again at half the cost of blocks
    /// that are only reserved. Says whether the file is full.
    fn fill(&self, unfinished: &mut Unfinished<D::File>) -> Result<bool, DiskError> {
        let RingFile { path, file, bytes, .. } = &unfinished.file;
        let until = (unfinished.zeroed + JOURNAL_PREPARE_BYTES).min(*bytes);
        while unfinished.zeroed < until {
            let left = usize::try_from(until - unfinished.zeroed).expect("a step fits memory");
            let (zeros, _) = ZEROS.split_at(left.min(ZEROS.len()));
            file.write_all_at(&[IoSlice::new(zeros)], unfinished.zeroed).context("write", path)?;
            unfinished.zeroed += zeros.len() as u64;
        }
        file.sync_data().context("sync", path)?;
        Ok(unfinished.zeroed == *bytes)
    }

    /// Gives a file of zeros its header and its name.
    fn finish_file(
        &self,
        unfinished: Unfinished<D::File>,
        base: Option<JournalPosition>,
    ) -> Result<RingFile<D::File>, DiskError> {
        let mut file = unfinished.file;
        file.base = base.unwrap_or_default();
        file.write_header(self.journal, base)?;
        let path = self.directory.join(file::file_name(file.number));
        self.disk.rename(&file.path, &path).context("rename", &file.path)?;
        self.disk.sync_directory(&self.directory).context("sync", &self.directory)?;
        file.path = path;
        Ok(file)
    }
}

static ZEROS: [u8; WRITE_BYTES_MAX] = [0; WRITE_BYTES_MAX];

/// Removes what a first start left behind when it died before anything was written to its journal.
fn remove_abandoned<D: Disk>(disk: &D, directory: &Path) -> Result<(), JournalError> {
    let mut abandoned = Vec::new();
    for (path, _, length) in file::list(disk, directory)? {
        let handle = disk.open(&path, Mode::Read).context("open", &path)?;
        if !is_zero(&handle, HEADER_PAGE_BYTES, length).context("read", &path)? {
            return Err(JournalError::Exists { path });
        }
        abandoned.push(path);
    }
    for entry in disk.list(directory).context("list", directory)? {
        if file::is_unfinished(&entry.name) {
            abandoned.push(directory.join(&entry.name));
        }
    }
    for path in abandoned {
        disk.remove(&path).context("remove", &path)?;
    }
    Ok(())
}

/// Whether a file was never written to between two bytes, but for zeros.
fn is_zero<F: File>(file: &F, from: u64, to: u64) -> std::io::Result<bool> {
    let mut buffer = vec![0; WRITE_BYTES_MAX];
    let mut position = from;
    while position < to {
        let left = usize::try_from(to - position).unwrap_or(usize::MAX);
        let (read, _) = buffer.split_at_mut(left.min(WRITE_BYTES_MAX));
        file.read_exact_at(read, position)?;
        if read.iter().any(|&byte| byte != 0) {
            return Ok(false);
        }
        position += read.len() as u64;
    }
    Ok(true)
}
