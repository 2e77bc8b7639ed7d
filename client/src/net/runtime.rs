//! The thread that a client's network work runs on.

use std::io;

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Starts a thread with a current-thread runtime. It ends after `stop` once all tasks of `tasks` have ended.
pub(crate) fn start(stop: CancellationToken, tasks: TaskTracker) -> io::Result<Handle> {
    let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
    let handle = runtime.handle().clone();
    std::thread::Builder::new().name("weir-client".to_owned()).spawn(move || {
        runtime.block_on(async {
            stop.cancelled().await;
            tasks.close();
            tasks.wait().await;
        });
    })?;
    Ok(handle)
}

/// A seed that differs from client to client: what spreads their retries.
pub(crate) fn seed() -> u64 {
    let (high, low) = uuid::Uuid::new_v4().as_u64_pair();
    high ^ low
}
