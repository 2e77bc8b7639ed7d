//! Lets a plain thread wait for what tasks wait for: a waker that ends the thread's sleep.

use std::sync::Arc as WakerArc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use super::sync::{Condvar, Mutex, lock};

/// Remembers one wake-up. A wake-up before the sleep is not lost: the sleep then ends at once.
#[derive(Debug)]
pub(super) struct Parker {
    woken: Mutex<bool>,
    changed: Condvar,
}

impl Parker {
    pub(super) fn new() -> WakerArc<Self> {
        WakerArc::new(Self { woken: Mutex::new(false), changed: Condvar::new() })
    }

    /// Polls until ready, asleep in between. `None` if `timeout` passes first; without one it waits for ever.
    pub(super) fn poll_until_ready<R>(
        self: &WakerArc<Self>,
        timeout: Option<Duration>,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<R>,
    ) -> Option<R> {
        let waker = Waker::from(WakerArc::clone(self));
        let mut context = Context::from_waker(&waker);
        // The clock is read only if there is something to wait for.
        let mut deadline = None;
        loop {
            if let Poll::Ready(ready) = poll(&mut context) {
                return Some(ready);
            }
            let left = match timeout {
                None => None,
                Some(timeout) => {
                    let now = Instant::now();
                    // A moment beyond the clock's range is never reached.
                    match *deadline.get_or_insert_with(|| now.checked_add(timeout)) {
                        None => None,
                        Some(deadline) if deadline > now => Some(deadline.duration_since(now)),
                        Some(_) => return None,
                    }
                }
            };
            self.park(left);
        }
    }

    /// Sleeps until woken, or until `timeout` has passed; may end early, as the caller polls again anyway.
    fn park(&self, timeout: Option<Duration>) {
        let mut woken = lock(&self.woken);
        if !*woken {
            woken = match timeout {
                None => self.changed.wait(woken).unwrap_or_else(std::sync::PoisonError::into_inner),
                Some(timeout) => {
                    self.changed
                        .wait_timeout(woken, timeout)
                        .unwrap_or_else(std::sync::PoisonError::into_inner)
                        .0
                }
            };
        }
        *woken = false;
    }
}

impl Wake for Parker {
    fn wake(self: WakerArc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &WakerArc<Self>) {
        *lock(&self.woken) = true;
        self.changed.notify_one();
    }
}
