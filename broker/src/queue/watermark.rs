//! A watermark: a number that only grows, published by one thread and awaited by many.
//!
//! Waiters are woken exactly when what they wait for is reached, in order of what they wait for; when the
//! publisher goes away all are.

use std::collections::BTreeMap;
use std::fmt;
use std::future::poll_fn;
use std::sync::Arc as ParkerArc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::mailbox::{Closed, wake};
use super::parker::Parker;
use super::sync::{Arc, Mutex, lock};

/// A watermark at `start` and a first watcher of it.
pub fn watermark(start: u64) -> (Watermark, Watcher) {
    let level = Level { value: start, closed: false, watcher_next: 1, waiting: BTreeMap::new() };
    let shared = Arc::new(Mutex::new(level));
    let watcher = Watcher { shared: Arc::clone(&shared), number: 0, target: None, parker: None };
    (Watermark { shared }, watcher)
}

/// The publishing side. Dropping it closes the watermark.
pub struct Watermark {
    shared: Arc<Mutex<Level>>,
}

/// The waiting side. Each watcher can await one number at a time; clone it to await several.
pub struct Watcher {
    shared: Arc<Mutex<Level>>,
    number: u64,
    /// What this watcher waits for, if it does: the key of its entry, together with its number.
    target: Option<u64>,
    parker: Option<ParkerArc<Parker>>,
}

struct Level {
    value: u64,
    closed: bool,
    watcher_next: u64,
    /// By what they wait for, then by watcher: at most one entry each.
    waiting: BTreeMap<(u64, u64), Waker>,
}

impl Watermark {
    /// Raises the watermark and wakes all who waited for it or less.
    ///
    /// # Panics
    /// If it would go down.
    pub fn advance(&mut self, to: u64) {
        let mut level = lock(&self.shared);
        assert!(to >= level.value, "a watermark would go down");
        level.value = to;
        let reached = match to.checked_add(1) {
            Some(beyond) => {
                let further = level.waiting.split_off(&(beyond, 0));
                std::mem::replace(&mut level.waiting, further)
            }
            None => std::mem::take(&mut level.waiting),
        };
        drop(level);
        wake(reached.into_values());
    }

    /// Where it stands.
    pub fn current(&self) -> u64 {
        lock(&self.shared).value
    }
}

impl Drop for Watermark {
    fn drop(&mut self) {
        let mut level = lock(&self.shared);
        level.closed = true;
        let waiting = std::mem::take(&mut level.waiting);
        drop(level);
        wake(waiting.into_values());
    }
}

impl Watcher {
    /// Where the watermark stands.
    pub fn current(&self) -> u64 {
        lock(&self.shared).value
    }

    /// Answers where the watermark stands if that is `target` or more, or arranges to be woken when it is. Only
    /// the last poll of a watcher counts.
    pub fn poll_reached(&mut self, context: &mut Context<'_>, target: u64) -> Poll<Result<u64, Closed>> {
        let mut level = lock(&self.shared);
        let answer = if level.value >= target {
            Poll::Ready(Ok(level.value))
        } else if level.closed {
            Poll::Ready(Err(Closed))
        } else {
            Poll::Pending
        };
        let next = answer.is_pending().then_some(target);
        let mut replaced = match self.target {
            Some(earlier) if Some(earlier) != next => level.waiting.remove(&(earlier, self.number)),
            Some(_) | None => None,
        };
        if let Some(target) = next {
            let key = (target, self.number);
            match level.waiting.get(&key) {
                Some(present) if present.will_wake(context.waker()) => {}
                Some(_) => replaced = level.waiting.insert(key, context.waker().clone()),
                None => {
                    level.waiting.insert(key, context.waker().clone());
                }
            }
        }
        self.target = next;
        drop(level);
        drop(replaced);
        answer
    }

    /// Waits until the watermark stands at `target` or more, and answers where.
    ///
    /// # Errors
    /// [`Closed`] if the publisher went away before.
    ///
    /// # Cancel safety
    /// Dropping it changes nothing.
    pub async fn reached(&mut self, target: u64) -> Result<u64, Closed> {
        poll_fn(|context| self.poll_reached(context, target)).await
    }

    /// Blocks the thread until the watermark stands at `target` or more; as [`Watcher::reached`], for threads that
    /// run no tasks. Waits at most for `timeout`, if there is one, and answers `None` then.
    ///
    /// # Errors
    /// [`Closed`] if the publisher went away before.
    pub fn reached_wait(&mut self, target: u64, timeout: Option<Duration>) -> Option<Result<u64, Closed>> {
        let parker = ParkerArc::clone(self.parker.get_or_insert_with(Parker::new));
        parker.poll_until_ready(timeout, |context| self.poll_reached(context, target))
    }
}

impl Clone for Watcher {
    fn clone(&self) -> Self {
        let mut level = lock(&self.shared);
        let number = level.watcher_next;
        level.watcher_next += 1;
        drop(level);
        Self { shared: Arc::clone(&self.shared), number, target: None, parker: None }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        if let Some(target) = self.target {
            let own = lock(&self.shared).waiting.remove(&(target, self.number));
            drop(own);
        }
    }
}

impl fmt::Debug for Watermark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watermark").field("current", &self.current()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watcher")
            .field("current", &self.current())
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}
