//! Records of a leased partition that come again: nothing behind the first that has to wait is handed out before it.
//!
//! What is handed out goes in order. Once a record has failed, reading stops, and begins anew when the record is due. A turn
//! is the time between two such stops: what was read in an earlier one is not handed out any more.

use std::collections::BTreeMap;
use std::time::Duration;

use weir_protocol::Cursor;
use weir_protocol::message::{FailRecords, FailedRecord, FailingRecord};
use weir_protocol::units::Offset;

use crate::core::time::Mono;

/// When a record may be handed out again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum When {
    /// The broker has not said yet.
    Unknown,
    /// Not before then.
    At(Mono),
    Now,
}

/// The records that come again.
#[derive(Debug, Default)]
pub(super) struct Again {
    records: BTreeMap<Offset, When>,
    /// The number of the next attempt at records that have failed or come back.
    attempts: BTreeMap<Offset, u32>,
    /// Said of records, but not to the broker yet.
    unsaid: Vec<FailedRecord>,
    flight: Option<(u64, Vec<FailedRecord>)>,
    /// Reading has stopped.
    is_held_up: bool,
    turn: u64,
}

/// What is to be done with a record that was read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Pass {
    /// It comes again, now.
    Again,
    /// It is treated as any other.
    AsAny,
    /// It has to wait. Whether reading is to stop.
    Wait(bool),
}

impl Again {
    /// What has failed under earlier leases.
    pub(super) fn of(failing: &[FailingRecord], now: Mono) -> Self {
        let mut again = Self::default();
        for FailingRecord { offset, attempt, wait_ms } in failing {
            again.attempts.insert(*offset, *attempt);
            let due = now.after(Duration::from_millis(u64::from(*wait_ms)));
            again.records.insert(*offset, When::At(due));
        }
        again.pass_time(now);
        again
    }

    /// The turn that it is.
    pub(super) const fn turn(&self) -> u64 {
        self.turn
    }

    /// Whether reading has stopped.
    pub(super) const fn is_held_up(&self) -> bool {
        self.is_held_up
    }

    /// The number of the next attempt at a record.
    pub(super) fn attempt(&self, offset: Offset) -> u32 {
        self.attempts.get(&offset).copied().unwrap_or(1)
    }

    /// Records below an offset that come again.
    pub(super) fn count_below(&self, offset: Offset) -> usize {
        self.records.range(..offset).count()
    }

    /// Takes a record that should have come before this one: it is not there any more.
    pub(super) fn passed_over(&mut self, offset: Offset) -> Option<Offset> {
        let is_gone = |at: Offset, when: When| at < offset && when == When::Now;
        let first = self.records.first_entry().filter(|first| is_gone(*first.key(), *first.get()))?;
        Some(first.remove_entry().0)
    }

    /// A record was read.
    pub(super) fn meet(&mut self, offset: Offset) -> Pass {
        if self.first_waiting().is_some_and(|first| first <= offset) {
            return Pass::Wait(self.hold_up());
        }
        if self.records.remove(&offset).is_some() { Pass::Again } else { Pass::AsAny }
    }

    /// Something is said of a record that was handed out. Says whether reading is to stop.
    pub(super) fn say(&mut self, record: FailedRecord) -> bool {
        self.records.insert(record.offset, When::Unknown);
        self.unsaid.push(record);
        self.hold_up()
    }

    fn hold_up(&mut self) -> bool {
        self.turn += 1;
        !std::mem::replace(&mut self.is_held_up, true)
    }

    fn first_waiting(&self) -> Option<Offset> {
        self.records.iter().find(|(_, when)| **when != When::Now).map(|(offset, _)| *offset)
    }

    /// Whether reading has stopped and is to begin anew. It is taken as begun.
    pub(super) fn begins_anew(&mut self) -> bool {
        let first = self.records.first_key_value().map(|(_, when)| *when);
        let may = self.is_held_up && first.is_none_or(|when| when == When::Now);
        if may {
            self.is_held_up = false;
        }
        may
    }

    /// The broker has said when a record comes again.
    pub(super) fn comes(&mut self, offset: Offset, attempt: u32, due: Mono) {
        self.attempts.insert(offset, attempt);
        if let Some(when) = self.records.get_mut(&offset) {
            *when = When::At(due);
        }
    }

    /// Forgets what is settled.
    pub(super) fn settled(&mut self, cursor: &Cursor) {
        if !self.attempts.is_empty() || !self.records.is_empty() {
            self.records.retain(|offset, _| !cursor.contains(*offset));
            self.attempts.retain(|offset, _| !cursor.contains(*offset));
        }
    }

    /// The time is `now`.
    pub(super) fn pass_time(&mut self, now: Mono) {
        for when in self.records.values_mut() {
            if matches!(when, When::At(due) if *due <= now) {
                *when = When::Now;
            }
        }
    }

    /// When the next record is due.
    pub(super) fn due(&self) -> Option<Mono> {
        let due = self.records.values().filter_map(|when| match when {
            When::At(due) => Some(*due),
            When::Unknown | When::Now => None,
        });
        due.min()
    }

    /// What is to be said now, under this number; nothing while something is under way.
    pub(super) fn take_off(&mut self, number: u64) -> Option<Vec<FailedRecord>> {
        if self.flight.is_some() || self.unsaid.is_empty() {
            return None;
        }
        let mut bytes = 0;
        let mut fits = |record: &&FailedRecord| {
            bytes += record.encoded_bytes();
            bytes <= FailRecords::RECORDS_BYTES_MAX
        };
        let count = self.unsaid.iter().take(FailRecords::RECORDS_AT_ONCE).take_while(&mut fits).count();
        let said: Vec<_> = self.unsaid.drain(..count).collect();
        self.flight = Some((number, said.clone()));
        Some(said)
    }

    /// What was under way is to be said again: the one of this number, or whatever it is.
    pub(super) fn say_again(&mut self, number: Option<u64>) {
        let is_meant = |flight: &mut (u64, Vec<FailedRecord>)| number.is_none_or(|number| flight.0 == number);
        if let Some((_, said)) = self.flight.take_if(is_meant) {
            self.unsaid.splice(..0, said);
        }
    }

    /// What was under way under this number has its answer. Says whether it was.
    pub(super) fn landed(&mut self, number: u64) -> bool {
        self.flight.take_if(|flight| flight.0 == number).is_some()
    }

    pub(super) const fn is_landed(&self) -> bool {
        self.flight.is_none() && self.unsaid.is_empty()
    }
}
