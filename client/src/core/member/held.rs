//! A partition that is leased to a member.

use weir_protocol::Cursor;
use weir_protocol::limits::ACK_RANGES_MAX;
use weir_protocol::message::FailedRecord;
use weir_protocol::units::{LeaseEpoch, Offset};

use super::again::{Again, Pass};
use crate::core::time::Mono;

/// What is to become of a lease.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Phase {
    Held,
    /// It is to be given back, once the application was told and has settled what it has.
    Revoking {
        until: Mono,
        is_heard: bool,
    },
}

/// What follows from a record that was read.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Handed {
    /// It is handed out, as this attempt.
    pub(super) attempt: Option<u32>,
    /// Offsets before it were passed over.
    pub(super) has_passed: bool,
    /// Reading is to stop: it comes too early.
    pub(super) stops: bool,
}

/// Ranges of offsets on their way to the broker.
#[derive(Debug)]
struct Flight {
    number: u64,
    step: u64,
    ranges: Vec<(Offset, Offset)>,
}

#[derive(Debug)]
pub(super) struct Held {
    pub(super) lease: LeaseEpoch,
    /// What is settled, here or at the broker.
    cursor: Cursor,
    /// Everything below was handed out or passed over.
    handed: Offset,
    /// Settled, and not said yet.
    unsaid: Vec<(Offset, Offset)>,
    /// What goes next goes with this step.
    step: u64,
    /// Everything up to this step is durable.
    landed: u64,
    flight: Option<Flight>,
    /// The broker had no memory for what lies ahead of the floor: the lowest range goes alone until one is taken.
    is_careful: bool,
    pub(super) phase: Phase,
    /// Whether the broker has named the lease on this stream.
    pub(super) is_confirmed: bool,
    /// Records that have failed, and come again.
    pub(super) again: Again,
}

impl Held {
    pub(super) const fn new(lease: LeaseEpoch, cursor: Cursor, again: Again) -> Self {
        Self {
            lease,
            handed: cursor.floor(),
            cursor,
            unsaid: Vec::new(),
            step: 1,
            landed: 0,
            flight: None,
            is_careful: false,
            phase: Phase::Held,
            is_confirmed: true,
            again,
        }
    }

    /// The stream is a new one: what was under way is said again.
    pub(super) fn reopened(&mut self) {
        self.is_confirmed = false;
        self.again.say_again(None);
        if let Some(flight) = self.flight.take() {
            self.unsaid.splice(..0, flight.ranges);
        }
    }

    /// What was under way under this number is to be said again.
    pub(super) fn refused(&mut self, number: u64) {
        if let Some(flight) = self.flight.take_if(|flight| flight.number == number) {
            self.unsaid.splice(..0, flight.ranges);
            self.is_careful = true;
        }
    }

    /// A record was read in a turn: what follows.
    pub(super) fn hand_out(&mut self, turn: u64, offset: Offset) -> Handed {
        if turn != self.again.turn() || self.phase != Phase::Held {
            return Handed::default();
        }
        // What has failed may have been removed since: reading goes in order.
        let mut has_passed = false;
        while let Some(gone) = self.again.passed_over(offset) {
            has_passed |= self.settle(Some(gone), gone.advance(1)).is_some();
        }
        let pass = self.again.meet(offset);
        if let Pass::Wait(stops) = pass {
            return Handed { attempt: None, has_passed, stops };
        }
        let is_new = offset >= self.handed;
        if !is_new && pass == Pass::AsAny {
            return Handed { has_passed, ..Handed::default() };
        }
        has_passed |= self.pass(turn, offset);
        self.handed = self.handed.max(offset.advance(1));
        let attempt = (!self.cursor.contains(offset)).then(|| self.again.attempt(offset));
        Handed { attempt, has_passed, stops: false }
    }

    /// Offsets up to here will not come any more. Says whether any of them had not been handed out. Where a partition is to
    /// be given back, or in an earlier turn, that says nothing: records have come that were not handed out.
    pub(super) fn pass(&mut self, turn: u64, offset: Offset) -> bool {
        if offset <= self.handed || self.phase != Phase::Held || turn != self.again.turn() {
            return false;
        }
        let from = std::mem::replace(&mut self.handed, offset);
        self.settle(Some(from), offset).is_some()
    }

    pub(super) fn settle(&mut self, from: Option<Offset>, to: Offset) -> Option<u64> {
        if to > self.handed {
            return None;
        }
        let from = from.unwrap_or_else(|| self.cursor.floor());
        if self.cursor.settle(from, to).ok()? {
            self.again.settled(&self.cursor);
            match self.unsaid.last_mut() {
                Some(last) if last.1 == from => last.1 = to,
                Some(_) | None => self.unsaid.push((from, to)),
            }
            return Some(self.step);
        }
        // Settled already: durable when what was said last is.
        Some(if self.unsaid.is_empty() { self.step - 1 } else { self.step })
    }

    /// What is to be said now, under this number; nothing while something is under way.
    pub(super) fn take_off(&mut self, number: u64) -> Option<Vec<(Offset, Offset)>> {
        if self.flight.is_some() || self.unsaid.is_empty() {
            return None;
        }
        if self.is_careful {
            self.unsaid.sort_unstable();
        }
        let count = if self.is_careful { 1 } else { self.unsaid.len().min(ACK_RANGES_MAX) };
        let ranges: Vec<_> = self.unsaid.drain(..count).collect();
        // The step is done only when all of it was said, also what had to be said again.
        let step = if self.unsaid.is_empty() { self.step } else { self.landed };
        if self.unsaid.is_empty() {
            self.step += 1;
        }
        self.flight = Some(Flight { number, step, ranges: ranges.clone() });
        Some(ranges)
    }

    /// What was under way under this number has its answer. Gives its step.
    pub(super) fn landed(&mut self, number: u64) -> Option<u64> {
        let flight = self.flight.take_if(|flight| flight.number == number)?;
        self.is_careful = false;
        self.landed = flight.step;
        Some(flight.step)
    }

    pub(super) const fn is_landed(&self) -> bool {
        self.flight.is_none() && self.unsaid.is_empty() && self.again.is_landed()
    }

    /// Something is said of a record that was handed out and is not settled. Says whether reading is to stop; `None` if there
    /// is nothing to say of it.
    pub(super) fn fail(&mut self, record: FailedRecord) -> Option<bool> {
        if record.offset >= self.handed || self.cursor.contains(record.offset) {
            return None;
        }
        Some(self.again.say(record))
    }

    /// The broker has settled a record: it is in no need of an acknowledgement.
    pub(super) fn settled(&mut self, offset: Offset) {
        self.cursor.settle(offset, offset.advance(1)).ok();
        self.again.settled(&self.cursor);
    }

    /// Whether it can be given back.
    pub(super) fn has_done(&self) -> bool {
        let is_asked = matches!(self.phase, Phase::Revoking { is_heard: true, .. });
        let above = self.handed.get().saturating_sub(self.cursor.floor().get());
        // What comes again comes to the next owner.
        let known = self.cursor.settled_above() + self.again.count_below(self.handed) as u64;
        is_asked && self.is_landed() && above <= known
    }

    /// When the lease ends.
    pub(super) fn until(&self, valid_until: Mono) -> Mono {
        match self.phase {
            Phase::Held => valid_until,
            Phase::Revoking { until, .. } => until,
        }
    }
}
