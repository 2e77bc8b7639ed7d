//! How a part that cannot go on tells the whole.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use crate::server::Fatal;

/// The first failure of any part; shared by all.
#[derive(Clone, Debug, Default)]
pub(crate) struct Failures(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    first: Mutex<Option<Arc<Fatal>>>,
    changed: Notify,
}

impl Failures {
    /// A part cannot go on. Only the first failure counts: the others follow from it.
    pub(crate) fn report(&self, failure: Fatal) {
        tracing::error!(error = %failure, "the broker cannot go on");
        let mut first = self.0.first.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert_with(|| Arc::new(failure));
        drop(first);
        self.0.changed.notify_waiters();
    }

    /// The first failure, if there was one.
    pub(crate) fn first(&self) -> Option<Arc<Fatal>> {
        self.0.first.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for the first failure.
    ///
    /// # Cancel safety
    /// Nothing is lost if it is dropped.
    pub(crate) async fn wait(&self) -> Arc<Fatal> {
        loop {
            let changed = self.0.changed.notified();
            if let Some(first) = self.first() {
                return first;
            }
            changed.await;
        }
    }
}
