//! What failed while sending: counted where the failures arrive, read where the command ends.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::Notify;
use weir_client::{Message, SendError};

use crate::failure::Failure;

/// Counts failures and keeps the first one.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    // Looked at for every record, so it is not behind the lock.
    any: AtomicBool,
    bytes: AtomicU64,
    first: Mutex<Option<Failure>>,
    told: Notify,
}

impl Tally {
    /// Counts a record that has no receipt and will not get one.
    pub(crate) fn failed(&self, error: &SendError) {
        self.count(error, Failure::from(&error.error));
    }

    /// Counts a record of which the number in the input, from 0, is known.
    pub(crate) fn failed_at(&self, number: u64, error: &SendError) {
        let place = format_args!("this is record {number} of the input, counted from 0");
        self.count(error, Failure::from(&error.error).and(place));
    }

    fn count(&self, error: &SendError, failure: Failure) {
        let size = error.message.as_deref().map_or(0, Message::size);
        self.bytes.fetch_add(u64::try_from(size).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.first.lock().expect("nobody panics with the lock").get_or_insert(failure);
        self.any.store(true, Ordering::Release);
        self.told.notify_one();
    }

    /// Whether anything failed.
    pub(crate) fn any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    /// Waits until something fails. One task may wait.
    ///
    /// # Cancel safety
    /// Nothing is lost: a failure before the next call ends that call at once.
    pub(crate) async fn anything(&self) {
        while !self.any() {
            self.told.notified().await;
        }
    }

    /// Bytes of the records that failed.
    pub(crate) fn failed_bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Takes the first failure.
    pub(crate) fn first(&self) -> Option<Failure> {
        self.first.lock().expect("nobody panics with the lock").take()
    }
}
