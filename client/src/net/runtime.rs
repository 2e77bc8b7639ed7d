//! The thread that a client's network work runs on.

use std::io;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Keeps a runtime alive: its timers are used by callers on other runtimes, too, and must outlive them.
#[derive(Debug)]
pub(crate) struct Lease(#[expect(dead_code, reason = "held to be dropped")] oneshot::Sender<()>);

/// Starts a thread with a current-thread runtime. It ends after `stop` once all tasks of `tasks` have ended and the
/// lease is dropped.
pub(crate) fn start(stop: CancellationToken, tasks: TaskTracker) -> io::Result<(Handle, Lease)> {
    let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
    let handle = runtime.handle().clone();
    let (lease, released) = oneshot::channel();
    std::thread::Builder::new().name("weir-client".to_owned()).spawn(move || {
        runtime.block_on(async {
            stop.cancelled().await;
            tasks.close();
            tasks.wait().await;
            // Nothing is ever sent: this ends when the lease is dropped.
            let _dropped = released.await;
        });
    })?;
    Ok((handle, Lease(lease)))
}

/// A seed that differs from client to client: what spreads their retries.
pub(crate) fn seed() -> u64 {
    let (high, low) = uuid::Uuid::new_v4().as_u64_pair();
    high ^ low
}
