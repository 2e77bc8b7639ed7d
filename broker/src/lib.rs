//! The Weir broker: machines without I/O, the mailboxes between them, and the QUIC server around them.

pub mod core;
pub mod options;
pub mod plan;
pub mod pool;
pub mod queue;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "testing")]
pub mod testing;

pub use core::quota::QuotaLimits;
pub use options::{ConnectionLimits, OptionsError, ServeOptions, TransportChoice};
#[cfg(feature = "server")]
pub use server::{Fatal, Server, StartError};
