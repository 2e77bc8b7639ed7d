//! The shell: everything that touches sockets, threads, clocks and certificates.
//!
//! | thread | runs |
//! |---|---|
//! | `weir-node` | QUIC, connections, the node and its machines, metrics |
//! | `weir-journal` | writes and syncs the journal |
//! | `weir-flusher` | segments, checkpoints, retention, merging |
//! | `weir-cold-N` | reads of flushed data |
//! | `weir-scrub` | verifies segments at a low rate |

pub mod clock;
mod cold;
mod connection;
pub mod endpoint;
mod failure;
mod flusher;
pub mod http;
mod journal;
pub(crate) mod keys;
pub mod limits;
pub mod metrics;
mod network;
mod node;
mod scrub;
mod start;
pub mod tls;
pub mod transport;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::JoinHandle;

use weir_storage::journal::JournalError;
use weir_storage::store::FlushError;

use crate::queue::Sender;
use crate::server::failure::Failures;
pub use start::{Server, StartError};

/// Why a broker cannot go on: nothing is acknowledged after it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fatal {
    /// The journal failed: what was written last may not be durable.
    #[error("the journal failed: {0}")]
    Journal(#[from] JournalError),
    /// The last flush failed; a restart finds everything in the journal.
    #[error("segments could not be written: {0}")]
    Flush(#[from] FlushError),
    /// A defect of the broker.
    #[error("{thread} panicked: {message}")]
    Panic {
        /// The thread.
        thread: String,
        /// What it said.
        message: String,
    },
    /// The broker had failed before.
    #[error(transparent)]
    Earlier(std::sync::Arc<Self>),
    /// Stopping took too long.
    #[error("the broker did not stop within {0:?}")]
    StopTimeout(std::time::Duration),
}

/// Starts a named thread whose failure, or panic, is a failure of the broker.
fn spawn<E: Into<Fatal>>(
    name: &str,
    failures: Failures,
    run: impl FnOnce() -> Result<(), E> + Send + 'static,
) -> std::io::Result<JoinHandle<()>> {
    let thread = name.to_owned();
    std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        let failure = match catch_unwind(AssertUnwindSafe(run)) {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.into(),
            Err(panic) => {
                let text = panic.downcast_ref::<&str>().map(ToString::to_string);
                let message = text.or_else(|| panic.downcast_ref::<String>().cloned());
                Fatal::Panic { thread, message: message.unwrap_or_default() }
            }
        };
        failures.report(failure);
    })
}

/// Pushes one message, waiting for room. If the receiver is gone the broker is ending and nobody needs it.
fn push<T>(sender: &mut Sender<T>, message: T) {
    let mut one = vec![message];
    while sender.push_batch(&mut one).is_ok() && !one.is_empty() {
        if sender.room_wait(0, None).is_none_or(|room| room.is_err()) {
            return;
        }
    }
}
