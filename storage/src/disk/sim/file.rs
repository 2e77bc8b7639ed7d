//! An open file of a simulated disk.

use std::io::{Error, ErrorKind, IoSlice, Result};
use std::path::PathBuf;
use std::sync::MutexGuard;

use super::state::{FileId, State};
use super::{Operation, SimDisk, check_space, grow, strike};
use crate::disk::{BLOCK_BYTES, File, Mode};

/// An open file of a simulated disk. Dead after a crash.
#[derive(Debug)]
pub struct SimFile {
    disk: SimDisk,
    id: FileId,
    path: PathBuf,
    mode: Mode,
    generation: u64,
}

impl SimFile {
    /// A handle, counted already, of a file that was opened in a generation.
    pub(super) fn new(disk: SimDisk, id: FileId, (path, mode): (PathBuf, Mode), generation: u64) -> Self {
        Self { disk, id, path, mode, generation }
    }

    /// The state, if the file was opened since the last crash.
    fn live(&self) -> Result<MutexGuard<'_, State>> {
        let state = self.disk.state();
        if state.generation == self.generation {
            return Ok(state);
        }
        Err(Error::other("the simulated machine has crashed since the file was opened"))
    }

    fn writable(&self) -> Result<()> {
        match self.mode {
            Mode::Read => Err(ErrorKind::PermissionDenied.into()),
            Mode::Write | Mode::WriteDirect => Ok(()),
        }
    }

    /// Direct writes are of whole blocks.
    fn check_alignment(&self, slices: &[IoSlice<'_>], position: u64) -> Result<()> {
        if self.mode != Mode::WriteDirect {
            return Ok(());
        }
        let block = usize::try_from(BLOCK_BYTES).expect("a block fits every memory");
        let aligned = |slice: &IoSlice<'_>| {
            slice.len().is_multiple_of(block) && slice.as_ptr().align_offset(block) == 0
        };
        if position.is_multiple_of(BLOCK_BYTES) && slices.iter().all(aligned) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::InvalidInput, "a direct write is not aligned"))
    }
}

impl File for SimFile {
    fn read_exact_at(&self, buffer: &mut [u8], position: u64) -> Result<()> {
        let mut state = self.live()?;
        strike(&mut state, Operation::Read, &self.path)?;
        let node = state.files.get(&self.id).expect("open files are kept");
        if node.cached.read(buffer, position) { Ok(()) } else { Err(ErrorKind::UnexpectedEof.into()) }
    }

    fn write_all_at(&self, slices: &[IoSlice<'_>], position: u64) -> Result<()> {
        self.writable()?;
        self.check_alignment(slices, position)?;
        let mut bytes = Vec::with_capacity(slices.iter().map(|slice| slice.len()).sum());
        slices.iter().for_each(|slice| bytes.extend_from_slice(slice));
        let mut state = self.live()?;
        let struck = state.faults.strike(Operation::Write, &self.path);
        if let Err((_, written_before)) = &struck {
            bytes.truncate(*written_before);
        }
        if !bytes.is_empty() {
            let end = position + bytes.len() as u64;
            let length = state.files.get(&self.id).expect("open files are kept").cached.length();
            check_space(&state, end.saturating_sub(length))?;
            state.files.get_mut(&self.id).expect("open files are kept").write(position, bytes);
        }
        struck.map_err(|(error, _)| error)
    }

    fn sync_data(&self) -> Result<()> {
        let mut state = self.live()?;
        let halted = state.faults.is_halted();
        let struck = strike(&mut state, Operation::Sync, &self.path);
        let node = state.files.get_mut(&self.id).expect("open files are kept");
        match &struck {
            Ok(()) => node.sync(),
            // A machine that stands still loses nothing yet.
            Err(_) if halted => {}
            Err(_) => node.sync_lost(),
        }
        struck
    }

    fn length(&self) -> Result<u64> {
        let state = self.live()?;
        Ok(state.files.get(&self.id).expect("open files are kept").cached.length())
    }

    fn set_length(&self, bytes: u64) -> Result<()> {
        self.writable()?;
        let mut state = self.live()?;
        strike(&mut state, Operation::Write, &self.path)?;
        grow(&mut state, self.id, bytes)
    }

    fn drop_cache(&self) -> Result<()> {
        let mut state = self.live()?;
        state.files.get_mut(&self.id).expect("open files are kept").drop_cache();
        Ok(())
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.generation != self.generation {
            return;
        }
        if let Some(node) = state.files.get_mut(&self.id) {
            node.handles -= 1;
        }
        state.collect(self.id);
    }
}
