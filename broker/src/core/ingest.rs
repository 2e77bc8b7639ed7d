//! Credit for what producers send: bytes each publish lane may still send, shared fairly.
//!
//! Memory is taken from the ledger when a frame is announced, before any of its body is kept ([`admit`]); it is held
//! until the batch is durable, then it counts as unflushed until the batch is in segments. Credit is what lanes are let
//! send, so that they seldom have to wait for that.
//!
//! Lanes that want more are raised in turn by the same number of bytes (deficit round robin): one that sends as fast as
//! it can takes what others leave, and no more. Every lane gets a smallest window, also where idle lanes have been granted
//! all there is: behind them it would starve. These windows may exceed the pool if there are many lanes; what is read never
//! does. They end where little memory is left: that is for lanes that have credit and use it seldom, which would wait with
//! all others once nothing is read any more. It cannot deadlock: the disk needs no reading to go on, and gives memory back.

use std::collections::{BTreeMap, VecDeque};

use weir_protocol::Credit;

use crate::core::LaneId;
use crate::core::ledger::{Ledger, Pool, Reservation};
use crate::pool::capacity_of;

/// What a batch costs beside its bytes, in the tail of its partition, on its way to the journal and to segments. With
/// many small batches this is most of what they cost.
pub const BATCH_STATE_BYTES: u64 = 512;

/// Memory that a batch in a frame of `bytes` takes: its buffer, and what it costs beside.
pub fn footprint(bytes: u64) -> u64 {
    let buffer = usize::try_from(bytes).map_or(usize::MAX, capacity_of);
    buffer as u64 + BATCH_STATE_BYTES
}

/// How lanes share the pool.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct IngestLimits {
    /// Least credit of a lane: it must hold the largest batch.
    pub window_bytes_min: u64,
    /// Most credit of a lane: more than a round trip and a sync can use is only memory.
    pub window_bytes_max: u64,
    /// What a lane is raised by when it is its turn.
    pub turn_bytes: u64,
}

/// Takes memory for a frame of `bytes`, if it can be held now and unflushed later.
pub fn admit(ledger: &Ledger, bytes: u64) -> Option<Reservation> {
    let bytes = footprint(bytes);
    if bytes <= unflushed_room(ledger) { ledger.reserve(Pool::Ingest, bytes) } else { None }
}

/// The lanes that draw on the pool.
#[derive(Debug)]
pub struct Ingest {
    limits: IngestLimits,
    ledger: Ledger,
    lanes: BTreeMap<LaneId, Lane>,
    /// Lanes that want more credit, in turn; a lane is in it at most once.
    waiting: VecDeque<LaneId>,
    /// Lanes that were raised and not told yet; a lane is in it at most once.
    raised: VecDeque<LaneId>,
    granted: u64,
    held: u64,
}

#[derive(Debug, Default)]
struct Lane {
    credit: Credit,
    /// Bytes of its frames that are in memory.
    held: u64,
    /// What it may be raised by before it is the turn of others.
    deficit: u64,
    waits: bool,
    raised: bool,
}

/// How a lane stands.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Standing {
    /// Bytes it may still send.
    pub available_bytes: u64,
    /// Bytes of its frames that are in memory.
    pub held_bytes: u64,
    /// It may need more than it has, and there is none.
    pub is_short: bool,
}

impl Ingest {
    /// No lane.
    ///
    /// # Panics
    /// If the limits contradict each other: configuration is checked before.
    pub fn new(limits: IngestLimits, ledger: Ledger) -> Self {
        assert!(limits.window_bytes_min <= limits.window_bytes_max, "a lane's window has a range");
        assert!(limits.turn_bytes > 0, "a turn without bytes would never end");
        let largest = footprint(limits.window_bytes_min);
        assert!(largest <= ledger.limit(Pool::Ingest), "the largest batch fits the pool");
        assert!(largest <= ledger.limit(Pool::Unflushed), "the largest batch can be unflushed");
        let (waiting, raised) = (VecDeque::new(), VecDeque::new());
        Self { limits, ledger, lanes: BTreeMap::new(), waiting, raised, granted: 0, held: 0 }
    }

    /// A lane was opened. Its first grant comes from [`Ingest::next_grant`].
    ///
    /// # Panics
    /// If it is open already.
    pub fn open(&mut self, lane: LaneId) {
        let earlier = self.lanes.insert(lane, Lane { waits: true, ..Lane::default() });
        assert!(earlier.is_none(), "a lane is opened once");
        self.waiting.push_back(lane);
    }

    /// A lane has ended: what it was granted and did not use is free again. What it sent stays held.
    pub fn close(&mut self, lane: LaneId) {
        if let Some(closed) = self.lanes.remove(&lane) {
            self.granted -= closed.credit.available();
            self.waiting.retain(|waiting| *waiting != lane);
            self.raised.retain(|raised| *raised != lane);
        }
    }

    /// A frame of `bytes` has arrived on a lane, in memory that was taken by [`admit`]. Says whether it was within the
    /// lane's credit; if not, the memory is free again.
    #[must_use]
    pub fn receive(&mut self, lane: LaneId, bytes: u64) -> bool {
        let state = self.lanes.get_mut(&lane);
        let within = state.and_then(|state| state.credit.spend(bytes).is_ok().then_some(state));
        let Some(state) = within else {
            self.ledger.give_back(Pool::Ingest, footprint(bytes));
            return false;
        };
        state.held += bytes;
        self.granted -= bytes;
        self.held += bytes;
        true
    }

    /// Takes memory for a frame of `bytes` that the node itself sends, on a lane that has no credit. Says whether there was
    /// any.
    #[must_use]
    pub fn receive_own(&mut self, bytes: u64) -> bool {
        let Some(memory) = admit(&self.ledger, bytes) else { return false };
        let _taken = memory.hand_over();
        self.held += bytes;
        true
    }

    /// A frame of `bytes` needs no memory any more, or has become durable as a batch that takes `unflushed` bytes until
    /// it is flushed.
    ///
    /// # Panics
    /// If more is released than is held, or the batch takes more than its frame did.
    pub fn release(&mut self, lane: LaneId, bytes: u64, unflushed: u64) {
        assert!(self.held >= bytes, "only what is held is released");
        let taken = footprint(bytes);
        assert!(unflushed <= taken, "a batch takes no more than the frame it came in");
        self.held -= bytes;
        self.ledger.shift(Pool::Ingest, Pool::Unflushed, unflushed);
        self.ledger.give_back(Pool::Ingest, taken - unflushed);
        let Some(state) = self.lanes.get_mut(&lane) else { return };
        state.held -= bytes;
        if !state.waits && state.credit.available() < self.limits.window_bytes_max / 2 {
            state.waits = true;
            self.waiting.push_back(lane);
        }
    }

    /// The next lane whose limit was raised, with its new limit. Call until it gives none.
    ///
    /// # Panics
    /// If the pool would be exceeded for more than a smallest window.
    pub fn next_grant(&mut self) -> Option<(LaneId, u64)> {
        if self.raised.is_empty() {
            self.share();
        }
        let lane = self.raised.pop_front()?;
        let state = self.lanes.get_mut(&lane).expect("lanes that were raised are open");
        state.raised = false;
        Some((lane, state.credit.limit()))
    }

    /// Raises the lanes that wait, in turn, as far as there is room.
    fn share(&mut self) {
        let (window, scarce) = (self.window(), self.is_scarce());
        let mut in_vain = 0;
        while in_vain < self.waiting.len() {
            let Some(lane) = self.waiting.pop_front() else { return };
            let room = self.room();
            let state = self.lanes.get_mut(&lane).expect("lanes that wait are open");
            let available = state.credit.available();
            let wanted = window.saturating_sub(available + state.held);
            let least = if scarce { 0 } else { self.limits.window_bytes_min.saturating_sub(available) };
            state.deficit = state.deficit.min(self.limits.turn_bytes) + self.limits.turn_bytes;
            let raise = wanted.min(room).min(state.deficit).max(least);
            if raise > 0 {
                state.credit.grant(state.credit.limit() + raise);
                self.granted += raise;
                let fits = self.granted + self.ledger.taken(Pool::Ingest) <= self.ledger.limit(Pool::Ingest);
                assert!(least > 0 || fits, "only a smallest window is granted beyond the pool");
                if !std::mem::replace(&mut state.raised, true) {
                    self.raised.push_back(lane);
                }
            }
            // Without anything under way the smallest window does: it asks again when it has used that.
            let is_short = available + raise < self.limits.window_bytes_min;
            if raise < wanted && (raise > 0 || state.held > 0 || is_short) {
                // It has had its turn, and goes behind the others.
                state.deficit -= raise.min(state.deficit);
                self.waiting.push_back(lane);
                in_vain = if raise > 0 { 0 } else { in_vain + 1 };
            } else {
                // Who wants nothing saves up nothing.
                state.deficit = 0;
                state.waits = false;
            }
        }
    }

    /// Whether what is left is for lanes that have credit: an eighth of a pool, and room for the largest batch beside the one
    /// without which nothing is read.
    fn is_scarce(&self) -> bool {
        let least = 2 * footprint(self.limits.window_bytes_min);
        let kept = |pool| {
            let limit = self.ledger.limit(pool);
            (limit / 8).max(least).min(limit / 2)
        };
        self.ledger.room(Pool::Ingest) <= kept(Pool::Ingest)
            || unflushed_room(&self.ledger) <= kept(Pool::Unflushed)
    }

    /// Whether the largest batch could not be kept now: nothing should be read from publish lanes until it can.
    pub fn is_over(&self) -> bool {
        let largest = footprint(self.limits.window_bytes_min);
        largest > self.ledger.room(Pool::Ingest) || largest > unflushed_room(&self.ledger)
    }

    /// How a lane stands, if it is open.
    pub fn lane(&self, lane: LaneId) -> Option<Standing> {
        let state = self.lanes.get(&lane)?;
        let available_bytes = state.credit.available();
        let is_short = state.waits && available_bytes < self.limits.window_bytes_min;
        Some(Standing { available_bytes, held_bytes: state.held, is_short })
    }

    /// Bytes that lanes may still send.
    pub const fn granted(&self) -> u64 {
        self.granted
    }

    /// Bytes that were sent and are not durable yet.
    pub const fn held(&self) -> u64 {
        self.held
    }

    /// Lanes that wait for memory.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Bytes that can be granted now.
    fn room(&self) -> u64 {
        self.ledger.room(Pool::Ingest).min(unflushed_room(&self.ledger)).saturating_sub(self.granted)
    }

    /// What a lane is raised to: the pool shared by the lanes there are, within the limits.
    fn window(&self) -> u64 {
        let share = self.ledger.limit(Pool::Ingest) / (self.lanes.len() as u64).max(1);
        share.clamp(self.limits.window_bytes_min, self.limits.window_bytes_max)
    }
}

/// What can still be taken for batches so that all of them can become unflushed.
fn unflushed_room(ledger: &Ledger) -> u64 {
    ledger.room(Pool::Unflushed).saturating_sub(ledger.taken(Pool::Ingest))
}

#[cfg(test)]
mod tests;
