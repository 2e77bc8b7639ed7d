//! The handlers of a consumer: which record is dealt with next, and when none is.
//!
//! Invariant: of the records with one key one is dealt with at a time, in the order in which they came; of all records
//! never more than the handlers that were chosen.
//!
//! A record that has failed comes again. What waits behind it on its track is given back, so that it comes behind it again. If
//! too many fail in a row, or what a handler needs is down, the circuit opens: nothing is begun and nothing asked for until it
//! has cooled down, and then a single record tries whether the trouble has passed.

use std::collections::{BTreeMap, BTreeSet};

use crate::core::time::Mono;
use crate::options::Breaker;

/// A record that was taken: later ones are higher.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Ticket(u64);

/// What the order of a record depends on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Order {
    /// Records with an equal key are dealt with one after the other. Without one it waits for none.
    pub key: Option<u64>,
    /// What stands still after a failure until its record comes again: what waits behind it on the same track is given back.
    pub track: u64,
}

/// The machine of a consumer's handlers.
#[derive(Debug)]
pub struct Work<T> {
    concurrency: usize,
    next: u64,
    running: BTreeMap<Ticket, Order>,
    /// Keys of records that are being dealt with.
    busy: BTreeSet<u64>,
    waiting: BTreeMap<Ticket, (Order, T)>,
    breaker: Breaker,
    circuit: Circuit,
    /// Failures since the last record that was dealt with.
    failures: u32,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Circuit {
    Closed,
    /// Nothing is begun before.
    Open(Mono),
    /// One record is tried.
    Probing,
}

impl<T> Work<T> {
    /// For so many handlers at a time, at least one.
    #[must_use]
    pub fn new(concurrency: usize, breaker: Breaker) -> Self {
        Self {
            concurrency: concurrency.max(1),
            next: 0,
            running: BTreeMap::new(),
            busy: BTreeSet::new(),
            waiting: BTreeMap::new(),
            breaker,
            circuit: Circuit::Closed,
            failures: 0,
        }
    }

    /// The time is `now`.
    pub fn pass_time(&mut self, now: Mono) {
        if matches!(self.circuit, Circuit::Open(until) if until <= now) {
            self.circuit = Circuit::Probing;
        }
    }

    /// Whether another record is wanted: as many may wait as are dealt with at a time.
    #[must_use]
    pub fn wants(&self) -> bool {
        match self.circuit {
            Circuit::Open(_) => false,
            Circuit::Probing => self.waiting.is_empty() && self.running.is_empty(),
            Circuit::Closed => self.waiting.len() < self.concurrency,
        }
    }

    /// When the circuit will have cooled down, if it is open.
    #[must_use]
    pub const fn open_until(&self) -> Option<Mono> {
        match self.circuit {
            Circuit::Open(until) => Some(until),
            Circuit::Closed | Circuit::Probing => None,
        }
    }

    /// A record has come.
    pub fn offer(&mut self, order: Order, record: T) {
        self.next += 1;
        self.waiting.insert(Ticket(self.next), (order, record));
    }

    /// The next record to deal with, if a handler is free for it.
    pub fn begin(&mut self) -> Option<(Ticket, T)> {
        let free = match self.circuit {
            Circuit::Open(_) => 0,
            Circuit::Probing => 1,
            Circuit::Closed => self.concurrency,
        };
        if self.running.len() >= free {
            return None;
        }
        let is_free = |order: &Order| order.key.is_none_or(|key| !self.busy.contains(&key));
        let (&ticket, _) = self.waiting.iter().find(|(_, (order, _))| is_free(order))?;
        let (order, record) = self.waiting.remove(&ticket)?;
        self.busy.extend(order.key);
        self.running.insert(ticket, order);
        Some((ticket, record))
    }

    /// A record has been dealt with.
    pub fn done(&mut self, ticket: Ticket) {
        self.has_worked();
        self.end(ticket);
    }

    /// A record was found to be no good: the handler works. Returns what is to be given back.
    #[must_use]
    pub fn rejected(&mut self, ticket: Ticket) -> Vec<T> {
        self.has_worked();
        self.end(ticket).map_or_else(Vec::new, |order| self.behind(ticket, order.track))
    }

    /// A handler has failed. Returns what is to be given back.
    #[must_use]
    pub fn failed(&mut self, now: Mono, ticket: Ticket) -> Vec<T> {
        self.failures = self.failures.saturating_add(1);
        if self.circuit == Circuit::Probing || self.failures >= self.breaker.failures {
            self.open(now);
        }
        self.end(ticket).map_or_else(Vec::new, |order| self.behind(ticket, order.track))
    }

    /// What the handler of a record needs is down: the record waits in its place.
    pub fn unavailable(&mut self, now: Mono, ticket: Ticket, record: T) {
        self.open(now);
        if let Some(order) = self.end(ticket) {
            self.waiting.insert(ticket, (order, record));
        }
    }

    /// A record is not to be dealt with any more; that says nothing of its handler.
    pub fn dropped(&mut self, ticket: Ticket) {
        self.end(ticket);
    }

    /// Takes what waits and is not to be kept.
    pub fn give_back(&mut self, mut is_kept: impl FnMut(&T) -> bool) -> Vec<T> {
        self.waiting
            .extract_if(.., |_, (_, record)| !is_kept(record))
            .map(|(_, (_, record))| record)
            .collect()
    }

    /// Records that are being dealt with.
    #[must_use]
    pub fn running(&self) -> usize {
        self.running.len()
    }

    const fn open(&mut self, now: Mono) {
        self.circuit = Circuit::Open(now.after(self.breaker.cool_down));
    }

    fn has_worked(&mut self) {
        self.failures = 0;
        if self.circuit == Circuit::Probing {
            self.circuit = Circuit::Closed;
        }
    }

    fn end(&mut self, ticket: Ticket) -> Option<Order> {
        let order = self.running.remove(&ticket)?;
        if let Some(key) = order.key {
            self.busy.remove(&key);
        }
        Some(order)
    }

    /// Takes what waits behind a record on its track.
    fn behind(&mut self, ticket: Ticket, track: u64) -> Vec<T> {
        let behind = self.waiting.extract_if(ticket.., |_, (order, _)| order.track == track);
        behind.map(|(_, (_, record))| record).collect()
    }
}

#[cfg(test)]
mod tests;
