//! How many bytes may be under way on a connection, in each direction.
//!
//! Invariant: beyond the window every connection comes in with, all of a window is taken from the pool before it is
//! opened. A window that was opened cannot be closed again, as its peer may fill it at any time: its memory comes back
//! when the connection has ended.
//!
//! Windows of full size for every connection would take most of a broker's memory and lie idle. So a window is
//! doubled when as many bytes have moved through it, while there is room: a busy connection has its full window after
//! a few round trips, and one that stands still takes nothing from others.

use crate::core::ledger::{Ledger, Pool, Reservation};
use crate::plan::FIRST_WINDOW_BYTES;

/// A window takes at most this part of what is left at a time, so that busy connections leave some for the streams and
/// windows of others.
const PART_OF_ROOM: u64 = 8;

/// The windows of one connection.
#[derive(Debug)]
pub struct Windows {
    ledger: Ledger,
    /// What they have beyond those the connection came in with.
    memory: Reservation,
    max_bytes: u32,
    receive: Window,
    send: Window,
}

/// One direction.
#[derive(Clone, Copy, Debug)]
struct Window {
    bytes: u32,
    /// Moved since it was last tried to be widened.
    moved_bytes: u64,
}

impl Windows {
    /// The windows a connection comes in with; each becomes at most `max_bytes`.
    pub fn new(ledger: Ledger, max_bytes: u32) -> Self {
        let first = Window { bytes: FIRST_WINDOW_BYTES.min(max_bytes), moved_bytes: 0 };
        let memory = ledger.account_of(Pool::Connections);
        Self { ledger, memory, max_bytes, receive: first, send: first }
    }

    /// So many bytes came. Returns the size of the window if it is to become wider.
    pub fn received(&mut self, bytes: u64) -> Option<u32> {
        let wider = self.receive.moved(bytes, self.max_bytes)?;
        self.widen(wider - self.receive.bytes).then(|| {
            self.receive.bytes = wider;
            wider
        })
    }

    /// So many bytes went. Returns the size of the window if it is to become wider.
    pub fn sent(&mut self, bytes: u64) -> Option<u32> {
        let wider = self.send.moved(bytes, self.max_bytes)?;
        self.widen(wider - self.send.bytes).then(|| {
            self.send.bytes = wider;
            wider
        })
    }

    fn widen(&mut self, bytes: u32) -> bool {
        let bytes = u64::from(bytes);
        bytes <= self.ledger.room(Pool::Connections) / PART_OF_ROOM && self.memory.grow(bytes)
    }
}

impl Window {
    /// What the window would be next, if enough has moved to ask for it.
    fn moved(&mut self, bytes: u64, max_bytes: u32) -> Option<u32> {
        self.moved_bytes = self.moved_bytes.saturating_add(bytes);
        let is_due = self.bytes < max_bytes && self.moved_bytes >= u64::from(self.bytes);
        is_due.then(|| {
            self.moved_bytes = 0;
            self.bytes.saturating_mul(2).min(max_bytes)
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::core::ledger::Budget;

    const MAX: u32 = 2 << 20;

    fn ledger(connections: u64) -> Ledger {
        Ledger::new(Budget {
            ingest: 0,
            unflushed: 0,
            hot_cache: 0,
            delivery: 0,
            connections,
            dedup: 0,
            groups: 0,
            control: 0,
        })
    }

    #[test]
    fn a_window_is_as_wide_as_it_may_be_after_as_many_bytes_and_its_memory_comes_back() {
        let ledger = ledger(32 << 20);
        let mut windows = Windows::new(ledger.clone(), MAX);
        assert_eq!(ledger.taken(Pool::Connections), 0, "those it comes in with belong to its place");
        let mut moved = 0;
        while windows.receive.bytes < MAX {
            windows.received(4096);
            moved += 4096;
        }
        assert!(moved < u64::from(MAX), "{moved}");
        assert_eq!(windows.send.bytes, FIRST_WINDOW_BYTES, "the other direction has not moved");
        assert_eq!(ledger.taken(Pool::Connections), u64::from(MAX - FIRST_WINDOW_BYTES));
        drop(windows);
        assert_eq!(ledger.taken(Pool::Connections), 0);
    }

    #[test]
    fn a_window_that_had_no_room_is_widened_once_there_is_some() {
        let ledger = ledger(1 << 20);
        let mut windows = Windows::new(ledger.clone(), MAX);
        let others = ledger.reserve(Pool::Connections, 1 << 20);
        assert_eq!(windows.sent(1 << 30), None);
        drop(others);
        assert_eq!(windows.sent(u64::from(FIRST_WINDOW_BYTES)), Some(2 * FIRST_WINDOW_BYTES));
    }

    proptest! {
        /// Whatever moves on however many connections: windows are covered by the pool, and some of it is left.
        #[test]
        fn windows_are_covered_and_leave_room_for_others(moves in vec((0usize..40, any::<bool>(), 0u64..(8 << 20)), 0..600)) {
            let ledger = ledger(32 << 20);
            let mut all: Vec<_> = (0..40).map(|_| Windows::new(ledger.clone(), MAX)).collect();
            for (connection, comes, bytes) in moves {
                let windows = &mut all[connection];
                let _wider = if comes { windows.received(bytes) } else { windows.sent(bytes) };
                let beyond = |windows: &Windows| {
                    u64::from(windows.receive.bytes - FIRST_WINDOW_BYTES) + u64::from(windows.send.bytes - FIRST_WINDOW_BYTES)
                };
                prop_assert_eq!(all.iter().map(beyond).sum::<u64>(), ledger.taken(Pool::Connections));
                prop_assert!(ledger.room(Pool::Connections) >= 7 * u64::from(FIRST_WINDOW_BYTES), "room for streams");
            }
            drop(all);
            prop_assert_eq!(ledger.taken(Pool::Connections), 0);
        }
    }
}
