//! Virtual time: what happens next is what was planned for the earliest moment, in order of planning.

use std::collections::BTreeMap;

/// A millisecond, in microseconds.
pub(crate) const MS: u64 = 1000;

/// A second, in microseconds.
pub(crate) const SECOND: u64 = 1000 * MS;

/// What is planned. Time is in microseconds since the world began.
#[derive(Debug)]
pub(crate) struct Scheduler<E> {
    now: u64,
    planned: BTreeMap<(u64, u64), E>,
    next: u64,
}

impl<E> Scheduler<E> {
    pub(crate) const fn new() -> Self {
        Self { now: 0, planned: BTreeMap::new(), next: 0 }
    }

    pub(crate) const fn now(&self) -> u64 {
        self.now
    }

    /// Plans an event; what lies in the past happens now.
    pub(crate) fn at(&mut self, time: u64, event: E) {
        self.planned.insert((time.max(self.now), self.next), event);
        self.next += 1;
    }

    /// Plans an event so much later.
    pub(crate) fn after(&mut self, delay: u64, event: E) {
        self.at(self.now.saturating_add(delay), event);
    }

    /// The next event, if it comes before `until`; time moves on to it.
    pub(crate) fn next(&mut self, until: u64) -> Option<E> {
        let entry = self.planned.first_entry().filter(|entry| entry.key().0 < until)?;
        self.now = entry.key().0;
        Some(entry.remove())
    }

    /// Lets time pass although nothing happens.
    pub(crate) fn skip_to(&mut self, time: u64) {
        self.now = self.now.max(time);
    }
}
