//! What threads of the broker share: mailboxes and watermarks, and nothing else.
//!
//! Everything here is a small state behind one short lock. No lock is held while foreign code runs: wakers are
//! called and dropped after it is released. Every promise has a loom model in `models`, and a run at real sizes in
//! `sizes`, under interleavings that shuttle draws; they run by
//!
//! ```text
//! RUSTFLAGS="--cfg weir_loom" cargo test -p weir-broker --lib --release --no-default-features queue
//! RUSTFLAGS="--cfg weir_shuttle" cargo test -p weir-broker --lib --release --no-default-features queue
//! ```

mod mailbox;
mod parker;
mod receiver;
mod sender;
mod sync;
mod watermark;

#[cfg(all(test, weir_loom))]
mod models;
#[cfg(all(test, weir_shuttle))]
mod sizes;
#[cfg(all(test, not(any(weir_loom, weir_shuttle))))]
mod tests;

pub use mailbox::{Closed, Rejected, mailbox, mailbox_weighing};
pub use receiver::{Drained, Receiver};
pub use sender::Sender;
pub use watermark::{Watcher, Watermark, watermark};
