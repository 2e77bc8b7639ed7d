//! Memory of groups: what it is counted by, and what is owed after a start.

use crate::core::ledger::{Ledger, Pool, Reservation};

/// A group without partitions and members, in the node and in storage.
pub(super) const GROUP_BYTES: u64 = 1 << 10;

/// Where a group stands in a partition, in the node and in storage.
pub(super) const POSITION_BYTES: u64 = 256;

/// A member: its name, its times, its stream.
pub(super) const MEMBER_BYTES: u64 = 512;

/// 64 records above the floor of a cursor: a word in the node, and one in storage.
pub(super) const WORD_BYTES: u64 = 16;

/// A record that has failed, in the node and in storage.
pub(super) const FAILING_BYTES: u64 = 256;

/// A dead letter with its reason, in the node and in storage.
pub(super) const LETTER_BYTES: u64 = 1 << 10;

/// The memory of all groups of a node.
///
/// What a start has found is kept, even if a smaller budget has no room for it: that much is owed, and until it is paid
/// off by what ends nothing more is taken.
#[derive(Debug)]
pub(super) struct Memory {
    ledger: Ledger,
    taken: Reservation,
    owed: u64,
}

impl Memory {
    pub(super) fn new(ledger: &Ledger) -> Self {
        Self { ledger: ledger.clone(), taken: ledger.account_of(Pool::Groups), owed: 0 }
    }

    /// Bytes that may be taken.
    pub(super) fn room(&self) -> u64 {
        if self.owed > 0 { 0 } else { self.ledger.room(Pool::Groups) }
    }

    /// Takes what is there already, at a start.
    pub(super) fn found(&mut self, bytes: u64) {
        let taken = bytes.min(self.room());
        assert!(self.taken.grow(taken), "there is room for it");
        self.owed += bytes - taken;
    }

    /// Something takes `now` bytes that took `before`.
    ///
    /// # Panics
    /// If there is no room for that: whoever lets something grow asks before.
    pub(super) fn changed(&mut self, before: u64, now: u64) {
        if now > before {
            assert!(self.taken.grow(now - before), "room was asked for before something grew");
        }
        let back = before.saturating_sub(now);
        let paid = back.min(self.owed);
        self.owed -= paid;
        self.taken.shrink(back - paid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ledger::Budget;
    use crate::plan::{Demand, Plan};

    #[test]
    fn what_is_owed_after_a_start_is_paid_off_before_anything_grows() {
        let nothing = Plan::new(0, &Demand::default()).budget();
        let ledger = Ledger::new(Budget { groups: 100, ..nothing });
        let mut memory = Memory::new(&ledger);
        memory.found(60);
        memory.found(70);
        assert_eq!((ledger.taken(Pool::Groups), memory.room()), (100, 0));
        memory.changed(30, 10);
        assert_eq!((ledger.taken(Pool::Groups), memory.room()), (100, 0), "20 of 30 are paid");
        memory.changed(30, 0);
        assert_eq!((ledger.taken(Pool::Groups), memory.room()), (80, 20));
        memory.changed(0, 20);
        drop(memory);
        assert_eq!(ledger.taken(Pool::Groups), 0);
    }
}
