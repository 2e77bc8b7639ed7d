//! Journal, segments, checkpoints and recovery of the Weir broker.
//!
//! Blocking files behind [`disk::Disk`]; no network, no threads of its own. Nothing is acknowledged before
//! [`journal::Journal`] has made it durable; segments and checkpoints only ever repeat what the journal holds.

mod checkpoint;
pub mod dedup;
pub mod disk;
pub mod dump;
pub mod frame;
pub mod journal;
pub mod limits;
mod segment;
pub mod state;
pub mod store;
