//! Memory for what producers send: what was received and is not in segments stays near the pool.
//!
//! Credit is reserved memory. What is granted may arrive at any moment, so it counts as used from then on; when it
//! has arrived it is held until it is durable; then it counts as unflushed until it is in segments.
//!
//! Every lane gets a smallest window, whatever the pool says: a lane that could not send one batch would starve
//! behind idle ones. These windows may exceed the pool if there are many lanes; therefore nothing is read from publish
//! lanes while [`Ingest::is_over`]. That cannot deadlock: the disk needs no reading to go on.

use std::collections::{BTreeMap, VecDeque};

use weir_protocol::Credit;

use crate::core::LaneId;

/// What the pool is divided by.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct IngestLimits {
    /// Bytes that may be granted, held and unflushed together.
    pub pool_bytes: u64,
    /// Bytes of the pool that only data in flight may use, so that a slow flusher slows producers before it stops them.
    pub in_flight_bytes: u64,
    /// Least credit of a lane: it must hold the largest batch.
    pub window_bytes_min: u64,
    /// Most credit of a lane: more than a round trip and a sync can use is only memory.
    pub window_bytes_max: u64,
}

/// The pool and the lanes that draw on it.
#[derive(Debug)]
pub struct Ingest {
    limits: IngestLimits,
    lanes: BTreeMap<LaneId, Lane>,
    /// Lanes whose window could not be raised for want of memory, in order of arrival; a lane is in it at most once.
    waiting: VecDeque<LaneId>,
    granted: u64,
    held: u64,
    unflushed: u64,
}

#[derive(Debug)]
struct Lane {
    credit: Credit,
    held: u64,
    waits: bool,
}

impl Ingest {
    /// An unused pool.
    ///
    /// # Panics
    /// If the limits contradict each other: configuration is checked before.
    pub fn new(limits: IngestLimits) -> Self {
        assert!(limits.window_bytes_min <= limits.window_bytes_max, "a lane's window has a range");
        assert!(limits.window_bytes_min <= limits.in_flight_bytes, "the smallest window fits the pool");
        assert!(limits.in_flight_bytes <= limits.pool_bytes, "data in flight is part of the pool");
        Self { limits, lanes: BTreeMap::new(), waiting: VecDeque::new(), granted: 0, held: 0, unflushed: 0 }
    }

    /// A lane was opened. Its first grant comes from [`Ingest::next_grant`].
    ///
    /// # Panics
    /// If it is open already.
    pub fn open(&mut self, lane: LaneId) {
        let earlier = self.lanes.insert(lane, Lane { credit: Credit::default(), held: 0, waits: true });
        assert!(earlier.is_none(), "a lane is opened once");
        self.waiting.push_back(lane);
    }

    /// A lane has ended: what it was granted and did not use is free again. What it sent stays held.
    pub fn close(&mut self, lane: LaneId) {
        if let Some(closed) = self.lanes.remove(&lane) {
            self.granted -= closed.credit.available();
            self.waiting.retain(|waiting| *waiting != lane);
        }
    }

    /// A frame of `bytes` has arrived on a lane. Says whether it was within the lane's credit.
    #[must_use]
    pub fn receive(&mut self, lane: LaneId, bytes: u64) -> bool {
        let Some(state) = self.lanes.get_mut(&lane) else { return false };
        if state.credit.spend(bytes).is_err() {
            return false;
        }
        state.held += bytes;
        self.granted -= bytes;
        self.held += bytes;
        true
    }

    /// A frame of `bytes` needs no memory any more, or has become durable as `unflushed` bytes of data.
    ///
    /// # Panics
    /// If more is released than is held.
    pub fn release(&mut self, lane: LaneId, bytes: u64, unflushed: u64) {
        assert!(self.held >= bytes, "only what is held is released");
        self.held -= bytes;
        self.unflushed += unflushed;
        let Some(state) = self.lanes.get_mut(&lane) else { return };
        state.held -= bytes;
        if !state.waits && state.credit.available() < self.limits.window_bytes_max / 2 {
            state.waits = true;
            self.waiting.push_back(lane);
        }
    }

    /// `bytes` of data have reached segments.
    ///
    /// # Panics
    /// If more is flushed than is unflushed.
    pub fn flushed(&mut self, bytes: u64) {
        assert!(self.unflushed >= bytes, "only what is unflushed is flushed");
        self.unflushed -= bytes;
    }

    /// The next lane whose limit can be raised, with its new limit. Call until it gives none.
    ///
    /// # Panics
    /// If the pool would be exceeded for more than a smallest window.
    pub fn next_grant(&mut self) -> Option<(LaneId, u64)> {
        let room = self.room();
        let window = self.window();
        for _ in 0..self.waiting.len() {
            let lane = self.waiting.pop_front()?;
            let state = self.lanes.get_mut(&lane).expect("lanes that wait are open");
            let wanted = window.saturating_sub(state.credit.available());
            let least = self.limits.window_bytes_min.saturating_sub(state.credit.available());
            let raise = wanted.min(room).max(least);
            if raise == 0 && wanted > 0 {
                // Its window is smaller than wished, but large enough to go on with.
                self.waiting.push_back(lane);
                continue;
            }
            state.waits = false;
            if raise == 0 {
                continue;
            }
            let limit = state.credit.limit() + raise;
            state.credit.grant(limit);
            self.granted += raise;
            let fits = self.granted + self.held <= self.limits.in_flight_bytes;
            assert!(least > 0 || fits, "only a smallest window is granted beyond the pool");
            return Some((lane, limit));
        }
        None
    }

    /// Whether more is held than the pool allows: nothing should be read from publish lanes until that has changed.
    pub const fn is_over(&self) -> bool {
        self.held > self.limits.in_flight_bytes || self.held + self.unflushed > self.limits.pool_bytes
    }

    /// Bytes that lanes may still send.
    pub const fn granted(&self) -> u64 {
        self.granted
    }

    /// Bytes that were sent and are not durable yet.
    pub const fn held(&self) -> u64 {
        self.held
    }

    /// Durable bytes that are not in segments yet.
    pub const fn unflushed(&self) -> u64 {
        self.unflushed
    }

    /// Lanes that wait for memory.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Bytes that can be granted now.
    const fn room(&self) -> u64 {
        let in_flight = self.limits.in_flight_bytes.saturating_sub(self.granted + self.held);
        let all = self.limits.pool_bytes.saturating_sub(self.granted + self.held + self.unflushed);
        if in_flight < all { in_flight } else { all }
    }

    /// What a lane is raised to: half the pool shared by the lanes there are, within the limits.
    fn window(&self) -> u64 {
        let share = self.limits.in_flight_bytes / 2 / (self.lanes.len() as u64).max(1);
        share.clamp(self.limits.window_bytes_min, self.limits.window_bytes_max)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::core::{ConnectionId, StreamId};

    const LIMITS: IngestLimits = IngestLimits {
        pool_bytes: 2000,
        in_flight_bytes: 1000,
        window_bytes_min: 100,
        window_bytes_max: 400,
    };

    fn lane(number: u64) -> LaneId {
        LaneId { connection: ConnectionId(1), stream: StreamId(number) }
    }

    #[test]
    fn every_lane_gets_a_smallest_window_and_reading_stops_when_too_much_came() {
        let mut ingest = Ingest::new(LIMITS);
        for number in 0..12 {
            ingest.open(lane(number));
        }
        let granted: Vec<_> = std::iter::from_fn(|| ingest.next_grant()).collect();
        assert_eq!(granted.len(), 12, "also those that do not fit 1000");
        for number in 0..12 {
            assert_eq!(ingest.is_over(), number > 10);
            assert!(ingest.receive(lane(number), 100));
        }
        ingest.release(lane(0), 100, 0);
        ingest.release(lane(1), 100, 0);
        assert!(!ingest.is_over());
    }

    #[test]
    fn unflushed_data_stops_reading_and_flushing_resumes_it() {
        let mut ingest = Ingest::new(LIMITS);
        ingest.open(lane(0));
        let mut sent = 0;
        while !ingest.is_over() {
            let (_, limit) = ingest.next_grant().expect("the lane has used its window up");
            let bytes = limit - sent;
            assert!(ingest.receive(lane(0), bytes));
            ingest.release(lane(0), bytes, bytes);
            sent = limit;
        }
        assert!(ingest.is_over());
        let over = ingest.unflushed();
        assert!(over > 2000 && over <= 2000 + LIMITS.window_bytes_max, "{over}");
        ingest.flushed(1500);
        assert!(!ingest.is_over());
    }

    proptest! {
        #[test]
        fn everything_returns_and_grants_stay_near_the_pool(
            steps in proptest::collection::vec((0u8..6, 0u64..6, 1u64..300), 0..400),
        ) {
            let mut ingest = Ingest::new(LIMITS);
            let mut open: BTreeMap<LaneId, (u64, u64)> = BTreeMap::new();
            let mut held: VecDeque<(LaneId, u64)> = VecDeque::new();
            let mut unflushed = 0;
            for (step, number, bytes) in steps {
                let lane = lane(number);
                match step {
                    0 if !open.contains_key(&lane) => { ingest.open(lane); open.insert(lane, (0, 0)); }
                    1 if held.iter().all(|(held, _)| *held != lane) => { ingest.close(lane); open.remove(&lane); }
                    2 | 3 => if let Some((sent, limit)) = open.get_mut(&lane) {
                        let fits = *sent + bytes <= *limit;
                        prop_assert_eq!(ingest.receive(lane, bytes), fits);
                        if fits { *sent += bytes; held.push_back((lane, bytes)); }
                    },
                    4 => if let Some((lane, bytes)) = held.pop_front() {
                        ingest.release(lane, bytes, bytes / 2);
                        unflushed += bytes / 2;
                    },
                    _ => { ingest.flushed(unflushed); unflushed = 0; }
                }
                while let Some((lane, limit)) = ingest.next_grant() {
                    let known = open.get_mut(&lane).expect("only open lanes are granted");
                    prop_assert!(limit > known.1);
                    known.1 = limit;
                }
                let smallest = open.len() as u64 * LIMITS.window_bytes_min;
                prop_assert!(ingest.granted() <= LIMITS.in_flight_bytes + smallest);
            }
            for (lane, bytes) in held { ingest.release(lane, bytes, 0); }
            for lane in open.keys() { ingest.close(*lane); }
            ingest.flushed(unflushed);
            prop_assert_eq!((ingest.granted(), ingest.held(), ingest.unflushed(), ingest.waiting()), (0, 0, 0, 0));
        }
    }
}
