//! A bounded mailbox: many senders, one receiver, never more in it than its bounds allow.
//!
//! A buffer behind a short lock that the receiver swaps out whole. Pushing and draining many items costs one lock
//! each; the buffers go round, so nothing is allocated once they have grown. Lock-free rings measured no better
//! on few cores and are far harder to prove.

use std::collections::BTreeMap;
use std::fmt;
use std::task::Waker;

use thiserror::Error;

use super::receiver::Receiver;
use super::sender::Sender;
use super::sync::{Arc, Mutex, MutexGuard, lock};

/// A mailbox of at most `bound` items.
///
/// # Panics
/// If `bound` is zero.
pub fn mailbox<T>(bound: usize) -> (Sender<T>, Receiver<T>) {
    mailbox_weighing(bound, usize::MAX)
}

/// A mailbox of at most `bound` items which together weigh at most `weight_bound`, as told by who pushes them.
///
/// A single item heavier than `weight_bound` is let in when the mailbox is empty: it could never be sent
/// otherwise. So the weight inside is at most the larger of the bound and the heaviest item.
///
/// # Panics
/// If `bound` is zero.
pub fn mailbox_weighing<T>(bound: usize, weight_bound: usize) -> (Sender<T>, Receiver<T>) {
    assert!(bound > 0, "a mailbox without room would never deliver");
    let state = State {
        items: Vec::new(),
        weight: 0,
        closed: false,
        senders: 1,
        sender_next: 1,
        receiver: None,
        waiting: BTreeMap::new(),
    };
    let shared = Arc::new(Shared { state: Mutex::new(state), bound, weight_bound });
    (Sender::first(Arc::clone(&shared)), Receiver::of(shared))
}

/// Why an item was not taken; it comes back.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum Rejected<T> {
    /// No room at present.
    #[error("the mailbox is full")]
    Full(T),
    /// The mailbox was closed or its receiver is gone.
    #[error("the mailbox is closed")]
    Closed(T),
}

impl<T> Rejected<T> {
    /// The item.
    pub fn into_item(self) -> T {
        match self {
            Self::Full(item) | Self::Closed(item) => item,
        }
    }
}

/// The other side is gone: nothing more will come of waiting.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("closed")]
pub struct Closed;

/// What both sides hold.
pub(super) struct Shared<T> {
    state: Mutex<State<T>>,
    bound: usize,
    weight_bound: usize,
}

/// What is behind the lock.
pub(super) struct State<T> {
    pub(super) items: Vec<T>,
    /// Weight of all items.
    pub(super) weight: usize,
    pub(super) closed: bool,
    /// Senders alive.
    pub(super) senders: usize,
    /// Number for the next sender.
    pub(super) sender_next: u64,
    /// The sleeping receiver. Whoever takes the waker out wakes it, once per sleep.
    pub(super) receiver: Option<Waker>,
    /// Who waits for room, at most one task per sender.
    pub(super) waiting: BTreeMap<u64, Waker>,
}

impl<T> Shared<T> {
    pub(super) fn lock(&self) -> MutexGuard<'_, State<T>> {
        lock(&self.state)
    }

    /// Whether an item of this weight may come in.
    pub(super) fn admits(&self, state: &State<T>, weight: usize) -> bool {
        state.items.is_empty() || self.fits(state.items.len(), state.weight, weight).is_some()
    }

    /// The weight with one item more, if the bounds allow it.
    fn fits(&self, items: usize, present: usize, weight: usize) -> Option<usize> {
        let sum = present.checked_add(weight)?;
        (items < self.bound && sum <= self.weight_bound).then_some(sum)
    }

    /// How many from the front of `batch` may come in, and the weight of all items with them.
    pub(super) fn admits_of(
        &self,
        state: &State<T>,
        batch: &[T],
        weigh: impl Fn(&T) -> usize,
    ) -> (usize, usize) {
        let (mut items, mut weight) = (state.items.len(), state.weight);
        for item in batch {
            let own = weigh(item);
            weight = match self.fits(items, weight, own) {
                Some(sum) => sum,
                None if items == 0 => own,
                None => break,
            };
            items += 1;
        }
        (items - state.items.len(), weight)
    }

    /// Ends the mailbox for senders; what is inside can still be drained.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let receiver = state.receiver.take();
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        wake(receiver);
        wake(waiting.into_values());
    }
}

/// Wakes tasks. Never called under the lock: a waker may run foreign code. For the same reason no waker is dropped
/// under it: dropping a task's last waker may drop what the task owns, even a sender of this mailbox.
pub(super) fn wake(wakers: impl IntoIterator<Item = Waker>) {
    wakers.into_iter().for_each(Waker::wake);
}

impl<T> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox")
            .field("bound", &self.bound)
            .field("weight_bound", &self.weight_bound)
            .finish_non_exhaustive()
    }
}
