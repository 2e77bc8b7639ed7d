//! The receiving side of a mailbox: takes all that is inside at once.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc as ParkerArc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::mailbox::{Shared, State, wake};
use super::parker::Parker;
use super::sync::{Arc, MutexGuard};

/// The receiving side of a mailbox. There is one. Dropping it closes the mailbox and drops what is inside.
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
    parker: Option<ParkerArc<Parker>>,
}

/// What came of draining a mailbox.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Drained {
    /// There are new items.
    Items,
    /// Everything was drained, and nothing will come any more: the mailbox was closed or all senders are gone.
    Closed,
}

impl<T> Receiver<T> {
    pub(super) const fn of(shared: Arc<Shared<T>>) -> Self {
        Self { shared, parker: None }
    }

    /// Takes all items, in order, or arranges to be woken when there are some.
    ///
    /// The items are put behind those in `out`. If `out` is empty the buffers are exchanged, which costs nothing
    /// and lets both go on being used: hand in the same vector each time. Only the task that polled last is woken.
    pub fn poll_drain(&mut self, context: &mut Context<'_>, out: &mut Vec<T>) -> Poll<Drained> {
        let mut state = self.shared.lock();
        if !state.items.is_empty() {
            take_all(state, out);
            return Poll::Ready(Drained::Items);
        }
        if state.closed || state.senders == 0 {
            return Poll::Ready(Drained::Closed);
        }
        let replaced = match &state.receiver {
            Some(present) if present.will_wake(context.waker()) => None,
            Some(_) | None => state.receiver.replace(context.waker().clone()),
        };
        drop(state);
        drop(replaced);
        Poll::Pending
    }

    /// Waits until there are items and takes them all, as [`Receiver::poll_drain`] does.
    ///
    /// # Cancel safety
    /// Nothing is taken if dropped before completion.
    pub async fn drain(&mut self, out: &mut Vec<T>) -> Drained {
        poll_fn(|context| self.poll_drain(context, out)).await
    }

    /// Takes all items that are there, without waiting. Says whether there were any.
    pub fn drain_now(&mut self, out: &mut Vec<T>) -> bool {
        let state = self.shared.lock();
        let some = !state.items.is_empty();
        if some {
            take_all(state, out);
        }
        some
    }

    /// Blocks the thread until there are items and takes them all, as [`Receiver::poll_drain`] does. For threads
    /// that run no tasks.
    ///
    /// Waits at most for `timeout`, if there is one, and answers `None` then. A `timeout` of zero does not wait.
    pub fn drain_wait(&mut self, out: &mut Vec<T>, timeout: Option<Duration>) -> Option<Drained> {
        let parker = ParkerArc::clone(self.parker.get_or_insert_with(Parker::new));
        parker.poll_until_ready(timeout, |context| self.poll_drain(context, out))
    }

    /// Refuses whatever is pushed from now on. What is inside can still be drained.
    pub fn close(&mut self) {
        self.shared.close();
    }
}

/// Empties the mailbox into `out`, releases the lock, and wakes all who wait for room.
fn take_all<T>(mut state: MutexGuard<'_, State<T>>, out: &mut Vec<T>) {
    if out.is_empty() {
        std::mem::swap(&mut state.items, out);
    } else {
        out.append(&mut state.items);
    }
    state.weight = 0;
    let waiting = std::mem::take(&mut state.waiting);
    drop(state);
    wake(waiting.into_values());
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.shared.close();
        let mut items = Vec::new();
        self.drain_now(&mut items);
        // Items are dropped here, outside the lock: they may own senders of this mailbox.
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Receiver").field(&self.shared).finish()
    }
}
