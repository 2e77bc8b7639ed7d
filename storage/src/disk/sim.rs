//! A disk in memory that fails as real ones do, from a seed.
//!
//! Bytes, lengths and names become durable only by the sync that covers them. A [`SimDisk::crash`] keeps an
//! arbitrary part of what was not synced, sector by sector; a failed sync loses what it should have written,
//! while reads still show it until [`super::File::drop_cache`]. All clones are one disk.

use std::io::{ErrorKind, Result};
use std::ops::{Deref, Range};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Disk, Entry, Mode};

mod fault;
mod file;
mod pages;
mod random;
mod state;

pub use fault::{Fault, Operation};
pub use file::SimFile;
use random::Random;
use state::{FileId, Node, State};

/// A simulated disk.
#[derive(Clone, Debug)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

/// The lock of a directory of a simulated disk.
#[derive(Debug)]
pub struct SimLock {
    disk: SimDisk,
    directory: PathBuf,
    generation: u64,
}

/// The bytes of a whole file of a simulated disk.
#[derive(Debug)]
pub struct SimMap(Vec<u8>);

impl Default for SimDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl SimDisk {
    /// An empty disk of unlimited size.
    pub fn new() -> Self {
        Self { state: Arc::new(Mutex::new(State::new())) }
    }

    /// Another disk with the same content, on which nothing is open. Unlike a clone it goes its own way.
    #[must_use]
    pub fn copy(&self) -> Self {
        let mut state = self.state().clone();
        state.kill();
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Cuts the power: what is open is dead, and of what was not synced an arbitrary part survives, by the seed.
    /// Sectors have 512 or 4096 bytes, by the seed.
    pub fn crash(&self, seed: u64) {
        let mut random = Random::new(seed);
        let sector_bytes = if random.below(2) == 0 { 512 } else { 4096 };
        self.state().crash(&mut random, sector_bytes);
    }

    /// Kills the programs: what is open is dead, but nothing that was written is lost.
    pub fn kill(&self) {
        self.state().kill();
    }

    /// Plans a failure. A crash or kill forgets those that have not come.
    pub fn plan(&self, fault: Fault) {
        self.state().faults.plan(fault);
    }

    /// Forgets the failures that have not come, and lets a disk that was to halt go on.
    pub fn mend(&self) {
        self.state().faults.restart();
    }

    /// After `changes` more calls that change something, no call works until the next crash or kill.
    pub fn halt_after(&self, changes: u64) {
        let mut state = self.state();
        state.faults.halt_at = Some(state.faults.changes + changes);
    }

    /// Whether the disk has halted, as [`SimDisk::halt_after`] asked.
    pub fn is_halted(&self) -> bool {
        self.state().faults.is_halted()
    }

    /// How many calls have tried to change something.
    pub fn changes(&self) -> u64 {
        self.state().faults.changes
    }

    /// How many files have been synced.
    pub fn syncs(&self) -> u64 {
        self.state().faults.syncs
    }

    /// Lets the disk hold this many bytes; `None` for no limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state().faults.capacity_bytes = bytes;
    }

    /// Bytes that are taken.
    pub fn used_bytes(&self) -> u64 {
        self.state().used_bytes()
    }

    /// Rot: flips the bits of `mask` in a durable byte.
    ///
    /// # Panics
    /// If there is no such byte.
    pub fn flip(&self, path: &Path, position: u64, mask: u8) {
        self.damage(path, |node| {
            let mut byte = [0];
            assert!(node.durable.read(&mut byte, position), "the file ends before the byte to flip");
            node.durable.write(&[byte[0] ^ mask], position);
        });
    }

    /// Rot: durable bytes become zero.
    ///
    /// # Panics
    /// If there is no such file.
    pub fn zero(&self, path: &Path, range: Range<u64>) {
        let length = usize::try_from(range.end - range.start).expect("tests damage what fits memory");
        self.damage(path, |node| node.durable.write(&vec![0; length], range.start));
    }

    /// Rot: the file ends here.
    ///
    /// # Panics
    /// If there is no such file.
    pub fn cut(&self, path: &Path, length: u64) {
        self.damage(path, |node| node.durable.set_length(length));
    }

    /// The whole content of a file, as programs see it.
    ///
    /// # Panics
    /// If there is no such file.
    pub fn content(&self, path: &Path) -> Vec<u8> {
        let state = self.state();
        let node = state.names.get(path).and_then(|id| state.files.get(id));
        content(node.expect("the file to look at exists"))
    }

    fn damage(&self, path: &Path, change: impl FnOnce(&mut Node)) {
        let mut state = self.state();
        let id = *state.names.get(path).expect("the file to damage exists");
        let node = state.files.get_mut(&id).expect("names lead to files");
        change(node);
        node.drop_cache();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic of a test in another thread leaves the state whole: every change is one call.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handle(&self, state: &mut State, id: FileId, path: &Path, mode: Mode) -> SimFile {
        state.files.get_mut(&id).expect("names lead to files").handles += 1;
        SimFile::new(self.clone(), id, (path.to_owned(), mode), state.generation)
    }
}

impl Disk for SimDisk {
    type File = SimFile;
    type Lock = SimLock;
    type Map = SimMap;

    fn create_directory(&self, path: &Path) -> Result<()> {
        let mut state = self.state();
        strike(&mut state, Operation::Create, path)?;
        state.create_directory(path);
        Ok(())
    }

    fn create(&self, path: &Path, mode: Mode, bytes: u64) -> Result<SimFile> {
        let mut state = self.state();
        strike(&mut state, Operation::Create, path)?;
        if state.names.contains_key(path) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        if !state.directories.contains(&state::parent(path)) {
            return Err(ErrorKind::NotFound.into());
        }
        let id = state.create(path);
        let file = self.handle(&mut state, id, path, mode);
        if bytes > 0 {
            // The name stays when there is no space for the bytes, as on a real disk.
            let reserved = grow(&mut state, id, bytes);
            drop(state);
            reserved?;
        }
        Ok(file)
    }

    fn open(&self, path: &Path, mode: Mode) -> Result<SimFile> {
        let mut state = self.state();
        strike(&mut state, Operation::Open, path)?;
        let id = *state.names.get(path).ok_or(ErrorKind::NotFound)?;
        Ok(self.handle(&mut state, id, path, mode))
    }

    fn map(&self, path: &Path) -> Result<SimMap> {
        let mut state = self.state();
        strike(&mut state, Operation::Open, path)?;
        let node = state.names.get(path).and_then(|id| state.files.get(id));
        Ok(SimMap(content(node.ok_or(ErrorKind::NotFound)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        let mut state = self.state();
        strike(&mut state, Operation::Name, from)?;
        let replaced = state.names.get(to).copied();
        if !state.rename(from, to) {
            return Err(ErrorKind::NotFound.into());
        }
        if let Some(id) = replaced {
            state.collect(id);
        }
        Ok(())
    }

    fn link(&self, from: &Path, to: &Path) -> Result<()> {
        let mut state = self.state();
        strike(&mut state, Operation::Name, to)?;
        let id = *state.names.get(from).ok_or(ErrorKind::NotFound)?;
        if state.names.contains_key(to) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        state.link(to, id);
        Ok(())
    }

    fn remove(&self, path: &Path) -> Result<()> {
        let mut state = self.state();
        strike(&mut state, Operation::Name, path)?;
        if !state.names.contains_key(path) {
            return Err(ErrorKind::NotFound.into());
        }
        state.unlink(path);
        Ok(())
    }

    fn list(&self, path: &Path) -> Result<Vec<Entry>> {
        let mut state = self.state();
        strike(&mut state, Operation::Open, path)?;
        if !state.directories.contains(path) {
            return Err(ErrorKind::NotFound.into());
        }
        let mut entries = Vec::new();
        for (name, id) in state.names.iter().filter(|(name, _)| state::parent(name) == path) {
            let name = name.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let length = state.files.get(id).map_or(0, |node| node.cached.length());
            entries.push(Entry { name, length });
        }
        entries.sort();
        Ok(entries)
    }

    fn sync_directory(&self, path: &Path) -> Result<()> {
        let mut state = self.state();
        strike(&mut state, Operation::SyncDirectory, path)?;
        if !state.directories.contains(path) {
            return Err(ErrorKind::NotFound.into());
        }
        state.sync_directory(path);
        Ok(())
    }

    fn lock(&self, directory: &Path) -> Result<Option<SimLock>> {
        let mut state = self.state();
        strike(&mut state, Operation::Open, directory)?;
        if !state.directories.contains(directory) {
            return Err(ErrorKind::NotFound.into());
        }
        if !state.locks.insert(directory.to_owned()) {
            return Ok(None);
        }
        let generation = state.generation;
        drop(state);
        Ok(Some(SimLock { disk: self.clone(), directory: directory.to_owned(), generation }))
    }

    fn lock_existing(&self, directory: &Path) -> Result<Option<SimLock>> {
        self.lock(directory)
    }

    fn free_bytes(&self, _: &Path) -> Result<u64> {
        let state = self.state();
        Ok(state.faults.capacity_bytes.map_or(u64::MAX / 2, |bytes| bytes.saturating_sub(state.used_bytes())))
    }
}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.generation == self.generation {
            state.locks.remove(&self.directory);
        }
    }
}

impl Deref for SimMap {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

fn strike(state: &mut State, operation: Operation, path: &Path) -> Result<()> {
    state.faults.strike(operation, path).map_err(|(error, _)| error)
}

/// Sets a file's length, if there is space.
fn grow(state: &mut State, id: FileId, length: u64) -> Result<()> {
    let now = state.files.get(&id).expect("open files are kept").cached.length();
    check_space(state, length.saturating_sub(now))?;
    state.files.get_mut(&id).expect("open files are kept").set_length(length);
    Ok(())
}

fn check_space(state: &State, bytes: u64) -> Result<()> {
    match state.faults.capacity_bytes {
        Some(capacity) if bytes > 0 && state.used_bytes() + bytes > capacity => {
            Err(ErrorKind::StorageFull.into())
        }
        Some(_) | None => Ok(()),
    }
}

fn content(node: &Node) -> Vec<u8> {
    let length = usize::try_from(node.cached.length()).expect("simulated files fit memory");
    let mut bytes = vec![0; length];
    assert!(node.cached.read(&mut bytes, 0), "a file has the bytes of its length");
    bytes
}

#[cfg(test)]
mod tests;
