//! The journal: every change of a node's state, in one order, durable before it is acknowledged.
//!
//! A ring of preallocated files that are written over again and again. Frames are written in *blocks* that start
//! on 4 KiB boundaries, one data sync for all that arrived meanwhile. A block says how far the journal was durable
//! when it was written: that is the evidence by which [`Replay`] tells a torn tail, which nobody was promised, from
//! damage to what was acknowledged.
//!
//! Life of a journal: [`Journal::create`] once; at each later start [`Replay::open`], then, when all its frames are
//! durable elsewhere and the incarnation has been raised, [`Journal::resume`].

mod block;
mod chain;
pub(crate) mod dump;
mod error;
mod file;
mod link;
mod placement;
mod quarantine;
mod replay;
mod ring;
mod salvage;
mod scan;
mod scratch;
mod writer;

pub use error::{Damage, DamagedPart, JournalError, Proof, ReplayError};
pub use replay::{Replay, ReplayFrom, Tail};
pub use ring::{JournalOptions, Prepared};
pub(crate) use salvage::Hole;
pub use writer::{Committed, Journal, control_first};

use weir_protocol::units::Incarnation;
use xxhash_rust::xxh3::xxh3_64;

/// Identity of a journal, drawn at random when it is made. It salts all blocks and is never told to anybody.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct JournalId([u8; 16]);

/// Which blocks are a journal's own: those of this identity and this incarnation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Identity {
    /// The journal.
    pub journal: JournalId,
    /// Which start of the node writes, or wrote, the blocks.
    pub incarnation: Incarnation,
}

impl JournalId {
    /// From the 16 bytes of a random UUID.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The 16 bytes.
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0
    }
}

impl std::fmt::Debug for JournalId {
    /// Shows only that two differ: who knows the salt can forge blocks.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "JournalId(#{:04x})", xxh3_64(&self.0) & 0xffff)
    }
}

#[cfg(test)]
mod tests;
