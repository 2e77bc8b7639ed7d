//! What can go wrong with a journal.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

use weir_protocol::DecodeError;
use weir_protocol::units::{JournalPosition, VirtualShard};

use crate::disk::DiskError;
use crate::frame::FrameSequence;

/// Why frames were not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// There is no room until the flusher releases some. Nothing was written.
    #[error("the journal is full")]
    Full,
    /// The frame would not fit the journal if it were empty. Nothing was written.
    #[error("a frame of {bytes} bytes exceeds the {max} that a journal file holds")]
    TooLarge {
        /// Length of the frame.
        bytes: u64,
        /// The longest frame that fits.
        max: u64,
    },
    /// There is a journal in the directory already.
    #[error("{} holds journal data already", path.display())]
    Exists {
        /// The file that was written to.
        path: PathBuf,
    },
    /// The disk failed. What was being written may or may not be there: the journal takes nothing more.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A write or sync failed before; what is on the disk is known only after a new start.
    #[error("an earlier write to the journal failed: it takes nothing more before a restart")]
    Poisoned,
}

impl JournalError {
    /// Whether the same call can succeed later.
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Full => true,
            Self::TooLarge { .. } | Self::Exists { .. } | Self::Disk(_) | Self::Poisoned => false,
        }
    }
}

/// Why a journal cannot be replayed. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// Bytes that had been durable are not what they were: acknowledged frames are lost or unreadable.
    #[error("{0}")]
    Corrupt(Box<Damage>),
    /// A file that had been durable is not there.
    #[error("no file in {} holds journal position {position}; proof that there was one: {proof}", directory.display())]
    Missing {
        /// Where the journal's files are.
        directory: PathBuf,
        /// The first position that is missing.
        position: JournalPosition,
        /// How it is known that there was such a file.
        proof: Proof,
    },
    /// A file was written by a later version that this one does not understand.
    #[error("{} needs features this version does not know: version {version}, bits {features:#x}", path.display())]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Its format version.
        version: u32,
        /// The unknown feature bits.
        features: u64,
    },
    /// A file belongs to another journal.
    #[error("{} belongs to another journal; it was put here by mistake", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// Frames are whole, but one is missing between them.
    #[error(
        "{}: at journal position {position} virtual shard {shard} goes on with frame {}, but {} is next",
        path.display(), found.get(), expected.get()
    )]
    Gap {
        /// The file.
        path: PathBuf,
        /// Position of the block.
        position: JournalPosition,
        /// The virtual shard.
        shard: VirtualShard,
        /// The sequence that should follow.
        expected: FrameSequence,
        /// The sequence that follows.
        found: FrameSequence,
    },
    /// A block is whole, but its frames make no sense: a fault of the program that wrote it.
    #[error("{}: the block at journal position {position} cannot be read: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Position of the block.
        position: JournalPosition,
        /// What is wrong, counted from the block's first frame.
        error: DecodeError,
    },
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// Acknowledged bytes that are damaged, and how that is known.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Damage {
    /// Which bytes cannot be trusted.
    pub parts: Vec<DamagedPart>,
    /// Which part of the journal that is.
    pub positions: Range<JournalPosition>,
    /// How it is known that the part had been durable.
    pub proof: Proof,
}

/// Bytes of one file that cannot be trusted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DamagedPart {
    /// The file.
    pub path: PathBuf,
    /// Where in the file.
    pub bytes: Range<u64>,
}

/// How it is known that a part of the journal had been durable.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Proof {
    /// A later block says so.
    Block {
        /// The file it stands in.
        path: PathBuf,
        /// Its position.
        position: JournalPosition,
        /// How far the journal was durable when it was written.
        durable_end: JournalPosition,
    },
    /// The header of a file says so: it was synced before the file was used.
    FileHeader {
        /// The file.
        path: PathBuf,
    },
    /// The file before names it as the one that goes on: that was synced before it was used.
    Link {
        /// The file before.
        path: PathBuf,
        /// The file that it names.
        next: PathBuf,
    },
    /// The checkpoint says so.
    Recorded {
        /// How far the journal was durable.
        durable_end: JournalPosition,
    },
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("acknowledged data is damaged: ")?;
        for part in &self.parts {
            write!(f, "bytes {}..{} of {}, ", part.bytes.start, part.bytes.end, part.path.display())?;
        }
        let Range { start, end } = self.positions;
        write!(f, "journal positions {start}..{end}; proof: {}", self.proof)
    }
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Block { path, position, durable_end } => write!(
                f,
                "the block at position {position} in {} was written when all below {durable_end} was durable",
                path.display()
            ),
            Self::FileHeader { path } => {
                write!(f, "the header of {}, which was synced before the file was used", path.display())
            }
            Self::Link { path, next } => {
                write!(f, "{} says that {} goes on behind it", path.display(), next.display())
            }
            Self::Recorded { durable_end } => {
                write!(f, "the checkpoint recorded that all below {durable_end} was durable")
            }
        }
    }
}
