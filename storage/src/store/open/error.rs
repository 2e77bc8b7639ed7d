//! Why a data directory cannot be opened.

use std::path::PathBuf;

use crate::disk::DiskError;
use crate::journal::{JournalError, ReplayError};
use crate::segment::SegmentError;
use crate::state::ApplyError;

/// Why a data directory cannot be opened. Nothing in it was changed, but for files that no checkpoint needs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process uses it.
    #[error("{} is in use by another broker; stop it, or choose another data directory", directory.display())]
    Locked {
        /// The directory.
        directory: PathBuf,
    },
    /// A later version wrote it.
    #[error(
        "{} was written by a later version of Weir (format {version}, unknown feature bits {features:#x}); \
         run that version",
        path.display()
    )]
    NewerFormat {
        /// The file that says so.
        path: PathBuf,
        /// Its format version.
        version: u32,
        /// The unknown feature bits.
        features: u64,
    },
    /// It has files, but none of Weir's.
    #[error(
        "{} is no data directory of Weir, but it is not empty either (it holds {found}); choose an empty one",
        directory.display()
    )]
    NotADataDirectory {
        /// The directory.
        directory: PathBuf,
        /// One of the files in it.
        found: String,
    },
    /// There is nothing in it.
    #[error("{} holds no data of Weir", directory.display())]
    Empty {
        /// The directory.
        directory: PathBuf,
    },
    /// It lies where a broker puts its snapshots, and there is no whole one in it.
    #[error(
        "{} is no whole snapshot: it has no manifest, which is written last. Make another one (under any name); \
         for a new broker, choose a directory that is not in snapshots/ of another one",
        directory.display()
    )]
    UnfinishedSnapshot {
        /// The directory.
        directory: PathBuf,
    },
    /// Both manifests are missing or damaged, though there is data.
    #[error(
        "{} has no readable manifest, but there is data ({}); nothing was changed: \
         restore manifest-0 or manifest-1 from a copy",
        directory.display(), found.display()
    )]
    NoManifest {
        /// The directory.
        directory: PathBuf,
        /// One of the files with data.
        found: PathBuf,
    },
    /// A file that the checkpoint names is missing or damaged.
    #[error("{} is damaged ({what}); nothing was changed: run `weir verify` to see what is affected", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The journal and the checkpoint do not fit together.
    #[error("the journal does not go on where the checkpoint ends: {0}")]
    Apply(#[from] ApplyError),
    /// The journal cannot be replayed.
    #[error("{0}; nothing was changed: run `weir verify` to see what is affected")]
    Replay(#[from] ReplayError),
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl OpenError {
    /// Whether the same call can succeed later, without anything being done.
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Locked { .. } => true,
            Self::NewerFormat { .. }
            | Self::NotADataDirectory { .. }
            | Self::Empty { .. }
            | Self::UnfinishedSnapshot { .. }
            | Self::NoManifest { .. }
            | Self::Damaged { .. }
            | Self::Apply(_)
            | Self::Replay(_)
            | Self::Journal(_)
            | Self::Disk(_) => false,
        }
    }

    /// Whether an older checkpoint may be free of the trouble.
    pub(super) const fn concerns_checkpoint(&self) -> bool {
        match self {
            Self::Damaged { .. } => true,
            Self::Locked { .. }
            | Self::NewerFormat { .. }
            | Self::NotADataDirectory { .. }
            | Self::Empty { .. }
            | Self::UnfinishedSnapshot { .. }
            | Self::NoManifest { .. }
            | Self::Apply(_)
            | Self::Replay(_)
            | Self::Journal(_)
            | Self::Disk(_) => false,
        }
    }
}

impl From<SegmentError> for OpenError {
    fn from(error: SegmentError) -> Self {
        match error {
            SegmentError::Damaged { path, what, bytes } => {
                Self::Damaged { path, what: format!("{what} at bytes {}..{}", bytes.start, bytes.end) }
            }
            SegmentError::NewerFormat { path, version, features } => {
                Self::NewerFormat { path, version, features }
            }
            SegmentError::Disk(error) => Self::Disk(error),
        }
    }
}
