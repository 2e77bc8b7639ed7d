//! What can go wrong on a simulated disk, and when.

use std::io::{Error, ErrorKind};
use std::path::Path;

/// A kind of call that can fail.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Operation {
    /// [`super::super::Disk::create`].
    Create,
    /// [`super::super::Disk::open`].
    Open,
    /// [`super::super::File::read_exact_at`].
    Read,
    /// [`super::super::File::write_all_at`], [`super::super::File::set_length`].
    Write,
    /// [`super::super::File::sync_data`]. What was not synced is then lost, but still read until the cache is dropped.
    Sync,
    /// [`super::super::Disk::sync_directory`].
    SyncDirectory,
    /// [`super::super::Disk::rename`], `link` and `remove`.
    Name,
}

/// A failure to come.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fault {
    /// Which calls it hits.
    pub operation: Operation,
    /// Only those on paths that contain this text; empty for all.
    pub path_contains: String,
    /// How many such calls still succeed before.
    pub after: u64,
    /// How many calls fail.
    pub times: u64,
    /// With what.
    pub kind: ErrorKind,
    /// For writes: how many bytes still reach the cache.
    pub written_before: usize,
}

impl Fault {
    /// The next call of that kind fails once with an input/output error.
    pub const fn next(operation: Operation) -> Self {
        Self {
            operation,
            path_contains: String::new(),
            after: 0,
            times: 1,
            kind: ErrorKind::Other,
            written_before: 0,
        }
    }

    /// Only on paths that contain `text`.
    #[must_use]
    pub fn on(self, text: &str) -> Self {
        Self { path_contains: text.to_owned(), ..self }
    }

    /// Only after `calls` calls have succeeded.
    #[must_use]
    pub fn after(self, calls: u64) -> Self {
        Self { after: calls, ..self }
    }
}

/// The failures to come, and the count of what has been done.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults {
    planned: Vec<Fault>,
    /// Bytes the disk holds; `None` for no limit.
    pub(super) capacity_bytes: Option<u64>,
    /// Calls that changed something, since the disk was made.
    pub(super) changes: u64,
    /// Syncs of files, since the disk was made.
    pub(super) syncs: u64,
    /// When [`Faults::changes`] has reached this, nothing works until the next crash.
    pub(super) halt_at: Option<u64>,
}

impl Faults {
    pub(super) fn plan(&mut self, fault: Fault) {
        self.planned.push(fault);
    }

    /// Whether nothing works until the next crash.
    pub(super) fn is_halted(&self) -> bool {
        self.halt_at.is_some_and(|halt| self.changes >= halt)
    }

    /// Called before each call; says how it fails, and how much is written before.
    pub(super) fn strike(&mut self, operation: Operation, path: &Path) -> Result<(), (Error, usize)> {
        if self.is_halted() {
            return Err((Error::other("the simulated machine has halted"), 0));
        }
        match operation {
            Operation::Open | Operation::Read => {}
            Operation::Sync => {
                self.syncs += 1;
                self.changes += 1;
            }
            Operation::Create | Operation::Write | Operation::SyncDirectory | Operation::Name => {
                self.changes += 1
            }
        }
        let text = path.to_string_lossy();
        for fault in &mut self.planned {
            if fault.operation != operation || fault.times == 0 || !text.contains(&fault.path_contains) {
                continue;
            }
            if fault.after > 0 {
                fault.after -= 1;
                continue;
            }
            fault.times -= 1;
            return Err((Error::new(fault.kind, "simulated failure"), fault.written_before));
        }
        Ok(())
    }

    /// After a crash everything works again, but for the size of the disk.
    pub(super) fn restart(&mut self) {
        self.planned.clear();
        self.halt_at = None;
    }
}
