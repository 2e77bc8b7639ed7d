//! A value that changes, for whoever wants to look at it or wait for the next change.

use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;

/// A value that changes over time. Clones watch on their own.
#[derive(Clone)]
pub struct Watch<T> {
    read: Arc<dyn Fn() -> T + Send + Sync>,
    changes: watch::Receiver<()>,
}

impl<T> Watch<T> {
    /// A watch over what `read` returns, told of changes through `changes`.
    pub(crate) fn new(read: Arc<dyn Fn() -> T + Send + Sync>, changes: watch::Receiver<()>) -> Self {
        Self { read, changes }
    }

    /// The value now.
    #[must_use]
    pub fn get(&self) -> T {
        (self.read)()
    }

    /// Waits until the value has changed since this watch was made or last waited, and returns it. Changes in quick
    /// succession are seen as one. After the last change it waits for ever.
    ///
    /// # Cancel safety
    /// If dropped before completion no change is lost.
    pub async fn changed(&mut self) -> T {
        if self.changes.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        self.get()
    }
}

impl<T: fmt::Debug> fmt::Debug for Watch<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Watch").field(&self.get()).finish()
    }
}
