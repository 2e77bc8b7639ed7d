//! Wire and batch format of Weir: types, codec and limits.
//!
//! No I/O, no clock, no async. Decoders never panic and never allocate more than what has arrived; their errors
//! say at which byte what was wrong.

pub mod batch;
pub mod code;
pub mod credit;
pub mod cursor;
pub mod error;
pub mod frame;
pub mod lifetime;
pub mod limits;
pub mod message;
pub mod partitioner;
pub mod read;
pub mod redelivery;
pub mod units;
pub mod write;

pub use code::{ErrorClass, ErrorCode};
pub use credit::{Credit, CreditExceeded, RecordCredit};
pub use cursor::{BeyondWindow, Cursor};
pub use error::{DecodeError, Problem};
pub use redelivery::Redelivery;
