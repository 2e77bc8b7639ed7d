//! Wire and batch format of Weir: types, codec and limits.
//!
//! No I/O, no clock, no async. Decoders never panic and never allocate more than what has arrived; their errors
//! say at which byte what was wrong.

pub mod batch;
pub mod error;
pub mod limits;
pub mod partitioner;
pub mod read;
pub mod units;
pub mod write;

pub use error::{DecodeError, Problem};
