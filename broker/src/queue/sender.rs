//! The sending side of a mailbox.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc as ParkerArc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::mailbox::{Closed, Rejected, Shared, wake};
use super::parker::Parker;
use super::sync::Arc;

/// A sending side of a mailbox. Items of one sender arrive in the order they were pushed.
///
/// Pushing never waits: what does not fit comes back. Who wants to wait does so for room, then pushes again. All
/// who wait for room are woken when the receiver has emptied the mailbox; they may find it full again.
pub struct Sender<T> {
    shared: Arc<Shared<T>>,
    number: u64,
    parker: Option<ParkerArc<Parker>>,
}

impl<T> Sender<T> {
    pub(super) const fn first(shared: Arc<Shared<T>>) -> Self {
        Self { shared, number: 0, parker: None }
    }

    /// Puts an item that weighs nothing into the mailbox.
    ///
    /// # Errors
    /// [`Rejected`] with the item, if there is no room or the mailbox is closed.
    pub fn try_push(&self, item: T) -> Result<(), Rejected<T>> {
        self.try_push_weighing(item, 0)
    }

    /// Puts an item of this weight into the mailbox.
    ///
    /// # Errors
    /// [`Rejected`] with the item, if there is no room for it or the mailbox is closed.
    pub fn try_push_weighing(&self, item: T, weight: usize) -> Result<(), Rejected<T>> {
        let mut state = self.shared.lock();
        if state.closed {
            return Err(Rejected::Closed(item));
        }
        if !self.shared.admits(&state, weight) {
            return Err(Rejected::Full(item));
        }
        state.items.push(item);
        state.weight += weight;
        let receiver = state.receiver.take();
        drop(state);
        wake(receiver);
        Ok(())
    }

    /// Moves as many items from the front of `batch` into the mailbox as have room, and says how many. They weigh
    /// nothing.
    ///
    /// # Errors
    /// [`Closed`] if the mailbox is closed; `batch` is then as it was.
    pub fn push_batch(&self, batch: &mut Vec<T>) -> Result<usize, Closed> {
        self.push_batch_weighing(batch, |_| 0)
    }

    /// As [`Sender::push_batch`], with items of the weight that `weigh` tells. It is called under the lock of the
    /// mailbox: it must be short.
    ///
    /// # Errors
    /// [`Closed`] if the mailbox is closed; `batch` is then as it was.
    pub fn push_batch_weighing(
        &self,
        batch: &mut Vec<T>,
        weigh: impl Fn(&T) -> usize,
    ) -> Result<usize, Closed> {
        let mut state = self.shared.lock();
        if state.closed {
            return Err(Closed);
        }
        let (count, weight) = self.shared.admits_of(&state, batch, weigh);
        if count == 0 {
            return Ok(0);
        }
        state.items.extend(batch.drain(..count));
        state.weight = weight;
        let receiver = state.receiver.take();
        drop(state);
        wake(receiver);
        Ok(count)
    }

    /// Says whether an item of this weight would be let in, or arranges to be woken when that may be so.
    ///
    /// One task may wait on each sender: only the one that polled last is woken.
    pub fn poll_room(&mut self, context: &mut Context<'_>, weight: usize) -> Poll<Result<(), Closed>> {
        let mut state = self.shared.lock();
        if state.closed {
            return Poll::Ready(Err(Closed));
        }
        if self.shared.admits(&state, weight) {
            return Poll::Ready(Ok(()));
        }
        let replaced = match state.waiting.get(&self.number) {
            Some(present) if present.will_wake(context.waker()) => None,
            Some(_) | None => state.waiting.insert(self.number, context.waker().clone()),
        };
        drop(state);
        drop(replaced);
        Poll::Pending
    }

    /// Waits until an item of this weight would be let in. Another sender may take the room first: push, and wait
    /// again if it does not fit.
    ///
    /// # Errors
    /// [`Closed`] if the mailbox is closed.
    ///
    /// # Cancel safety
    /// Dropping it changes nothing.
    pub async fn room(&mut self, weight: usize) -> Result<(), Closed> {
        poll_fn(|context| self.poll_room(context, weight)).await
    }

    /// Blocks the thread until an item of this weight would be let in; as [`Sender::room`], for threads that run
    /// no tasks.
    ///
    /// Waits at most for `timeout`, if there is one, and answers `None` then.
    ///
    /// # Errors
    /// [`Closed`] if the mailbox is closed.
    pub fn room_wait(&mut self, weight: usize, timeout: Option<Duration>) -> Option<Result<(), Closed>> {
        let parker = ParkerArc::clone(self.parker.get_or_insert_with(Parker::new));
        parker.poll_until_ready(timeout, |context| self.poll_room(context, weight))
    }

    /// Refuses whatever any sender pushes from now on. What is inside can still be drained.
    pub fn close(&self) {
        self.shared.close();
    }

    /// Whether pushing can never succeed again.
    pub fn is_closed(&self) -> bool {
        self.shared.lock().closed
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        let mut state = self.shared.lock();
        let number = state.sender_next;
        state.sender_next += 1;
        state.senders += 1;
        drop(state);
        Self { shared: Arc::clone(&self.shared), number, parker: None }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.senders -= 1;
        let own = state.waiting.remove(&self.number);
        let receiver = if state.senders == 0 { state.receiver.take() } else { None };
        drop(state);
        drop(own);
        wake(receiver);
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("number", &self.number).field("mailbox", &self.shared).finish()
    }
}
