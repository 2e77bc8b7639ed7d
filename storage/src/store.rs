//! The store: what the journal said, moved to segments, kept there, and read again.
//!
//! [`open`] recovers a data directory and gives its parts to those who work with them: the [`Flusher`] to one thread,
//! [`Reader`]s to as many as like to read, the journal to the one that commits.

mod buffers;
mod catalog;
mod checkpointer;
mod flusher;
mod keys;
mod merge;
mod open;
mod reader;
mod repair;
mod retain;
mod scrub;
mod shared;
mod verify;

pub use flusher::{FlushError, Flushed, Flusher, Maintained, Snapshot, SnapshotError};
pub use keys::{KEY_DISK_BYTES, KeyOptions};
pub use open::{OpenError, OpenOptions, Opened, RecoveryReport, RecoveryVerdict, open};
pub use reader::{Chunk, FoundKey, KeyFigures, ReadError, Reader};
pub use repair::{AffectedRecords, Finding, Loss, ParseLossError, RepairError, RepairPlan, Repaired, repair};
pub use scrub::{Scrub, Scrubbed};
pub use verify::{DamagedRange, PartitionVerdict, Progress, VerifyReport, verify, verify_and_plan};

/// Where a broker puts its snapshots, in the data directory. No new node is ever made in there.
pub const SNAPSHOTS_DIRECTORY: &str = "snapshots";

/// Sizes that decide how batches are laid out in segments.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SegmentOptions {
    /// A run of at least this length gets a file of its own. Default 8 MiB.
    pub own_file_bytes: u64,
    /// A file ends with the run that reaches this length. Default 1 GiB.
    pub file_bytes_max: u64,
    /// So many files of similar size are merged into one. Default 8.
    pub merge_files: usize,
    /// Files whose runs are shorter on average are merged. Default 256 KiB.
    pub merge_run_bytes: u64,
    /// Bytes copied by one step of a merge, about. Default 8 MiB.
    pub merge_step_bytes: u64,
}

impl Default for SegmentOptions {
    fn default() -> Self {
        Self {
            own_file_bytes: 8 << 20,
            file_bytes_max: 1 << 30,
            merge_files: 8,
            merge_run_bytes: 256 << 10,
            merge_step_bytes: 8 << 20,
        }
    }
}

#[cfg(test)]
mod tests;
