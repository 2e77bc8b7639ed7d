//! The node's memory: named pools, and what is taken from each.
//!
//! Invariant: of no pool more is taken than it has, and what was taken comes back exactly once. Everything that grows
//! with what clients do is taken here before a byte is read or anything is promised.
//!
//! The parts that share a ledger run on one thread, so cells do and it costs next to nothing: batches are counted
//! once when they arrive, once when they are durable and once when they are flushed, never by record.

use std::cell::Cell;
use std::rc::Rc;

/// What memory is for.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Pool {
    /// Batches that arrive, and those that are not durable yet.
    Ingest,
    /// Durable batches that are in no segment yet.
    Unflushed,
    /// Flushed batches, for readers near the end.
    HotCache,
    /// Deliveries that have not left, and reads for them.
    Delivery,
    /// Connections: their state, windows and streams, and readers' positions.
    Connections,
    /// Producers and keys that are remembered to recognise what is sent again.
    Dedup,
    /// Consumer groups: their members, their positions, and what they have settled ahead of them.
    Groups,
    /// Answers, beside those that each connection has memory for.
    Control,
}

impl Pool {
    /// Every pool.
    pub const ALL: [Self; 8] = [
        Self::Ingest,
        Self::Unflushed,
        Self::HotCache,
        Self::Delivery,
        Self::Connections,
        Self::Dedup,
        Self::Groups,
        Self::Control,
    ];

    /// Its name in reports and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Unflushed => "unflushed",
            Self::HotCache => "hot-cache",
            Self::Delivery => "delivery",
            Self::Connections => "connections",
            Self::Dedup => "dedup",
            Self::Groups => "groups",
            Self::Control => "control",
        }
    }
}

/// Bytes each pool has.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Budget {
    /// Of [`Pool::Ingest`].
    pub ingest: u64,
    /// Of [`Pool::Unflushed`]. What is in flight must fit in as well: it comes here next.
    pub unflushed: u64,
    /// Of [`Pool::HotCache`].
    pub hot_cache: u64,
    /// Of [`Pool::Delivery`].
    pub delivery: u64,
    /// Of [`Pool::Connections`].
    pub connections: u64,
    /// Of [`Pool::Dedup`].
    pub dedup: u64,
    /// Of [`Pool::Groups`].
    pub groups: u64,
    /// Of [`Pool::Control`].
    pub control: u64,
}

impl Budget {
    /// Bytes of a pool.
    pub const fn of(&self, pool: Pool) -> u64 {
        match pool {
            Pool::Ingest => self.ingest,
            Pool::Unflushed => self.unflushed,
            Pool::HotCache => self.hot_cache,
            Pool::Delivery => self.delivery,
            Pool::Connections => self.connections,
            Pool::Dedup => self.dedup,
            Pool::Groups => self.groups,
            Pool::Control => self.control,
        }
    }

    /// Bytes of all pools.
    pub fn total(&self) -> u64 {
        Pool::ALL.iter().map(|pool| self.of(*pool)).sum()
    }
}

/// The accounts of a node. Clones share them.
#[derive(Clone, Debug)]
pub struct Ledger(Rc<Accounts>);

#[derive(Debug)]
struct Accounts {
    budget: Budget,
    taken: [Cell<u64>; Pool::ALL.len()],
}

impl Ledger {
    /// Nothing is taken.
    pub fn new(budget: Budget) -> Self {
        Self(Rc::new(Accounts { budget, taken: Default::default() }))
    }

    /// Takes memory if the pool has it; nothing is taken otherwise.
    #[must_use]
    pub fn try_take(&self, pool: Pool, bytes: u64) -> bool {
        let fits = bytes <= self.room(pool);
        if fits {
            self.account(pool).set(self.taken(pool) + bytes);
        }
        fits
    }

    /// Takes memory that is given back when the result is dropped.
    pub fn reserve(&self, pool: Pool, bytes: u64) -> Option<Reservation> {
        let mut reservation = self.account_of(pool);
        reservation.grow(bytes).then_some(reservation)
    }

    /// A reservation of nothing, that may grow.
    pub fn account_of(&self, pool: Pool) -> Reservation {
        Reservation { ledger: self.clone(), pool, bytes: 0 }
    }

    /// Gives memory back.
    ///
    /// # Panics
    /// If more is given back than was taken.
    pub fn give_back(&self, pool: Pool, bytes: u64) {
        let taken = self.taken(pool);
        assert!(taken >= bytes, "{bytes} bytes come back to the {} pool, {taken} were taken", pool.name());
        self.account(pool).set(taken - bytes);
    }

    /// What was taken from one pool is from now on held by another.
    ///
    /// # Panics
    /// If that much was not taken, or the other has no room: whoever moves made sure of both.
    pub fn shift(&self, from: Pool, to: Pool, bytes: u64) {
        self.give_back(from, bytes);
        assert!(self.try_take(to, bytes), "room in the {} pool was not kept", to.name());
    }

    /// Bytes a pool still has.
    pub fn room(&self, pool: Pool) -> u64 {
        self.limit(pool) - self.taken(pool)
    }

    /// Bytes that are taken from a pool.
    pub fn taken(&self, pool: Pool) -> u64 {
        self.account(pool).get()
    }

    /// Bytes of a pool.
    pub fn limit(&self, pool: Pool) -> u64 {
        self.0.budget.of(pool)
    }

    fn account(&self, pool: Pool) -> &Cell<u64> {
        let [ingest, unflushed, hot_cache, delivery, connections, dedup, groups, control] = &self.0.taken;
        match pool {
            Pool::Ingest => ingest,
            Pool::Unflushed => unflushed,
            Pool::HotCache => hot_cache,
            Pool::Delivery => delivery,
            Pool::Connections => connections,
            Pool::Dedup => dedup,
            Pool::Groups => groups,
            Pool::Control => control,
        }
    }
}

/// Memory that was taken, given back when this is dropped.
#[derive(Debug)]
pub struct Reservation {
    ledger: Ledger,
    pool: Pool,
    bytes: u64,
}

impl Reservation {
    /// Leaves the memory taken: whoever gets the number gives it back.
    #[must_use]
    pub fn hand_over(mut self) -> u64 {
        std::mem::take(&mut self.bytes)
    }
}

impl Reservation {
    /// Takes more, if the pool has it; nothing changes otherwise.
    #[must_use]
    pub fn grow(&mut self, bytes: u64) -> bool {
        let fits = self.ledger.try_take(self.pool, bytes);
        if fits {
            self.bytes += bytes;
        }
        fits
    }

    /// Gives part of it back.
    ///
    /// # Panics
    /// If that is more than there is.
    pub fn shrink(&mut self, bytes: u64) {
        assert!(self.bytes >= bytes, "only what was taken comes back");
        self.bytes -= bytes;
        self.ledger.give_back(self.pool, bytes);
    }

    /// What is taken.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What the pool still has.
    pub fn room(&self) -> u64 {
        self.ledger.room(self.pool)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.ledger.give_back(self.pool, self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    const BUDGET: Budget = Budget {
        ingest: 100,
        unflushed: 200,
        hot_cache: 50,
        delivery: 70,
        connections: 10,
        dedup: 0,
        groups: 0,
        control: 1,
    };

    #[test]
    fn a_reservation_comes_back_once_unless_it_is_handed_over() {
        let ledger = Ledger::new(BUDGET);
        let first = ledger.reserve(Pool::Delivery, 60).expect("there is room");
        assert!(ledger.reserve(Pool::Delivery, 11).is_none(), "more than is left");
        assert_eq!(ledger.taken(Pool::Delivery), 60);
        drop(first);
        let second = ledger.reserve(Pool::Delivery, 70).expect("all of it is back");
        assert_eq!(second.hand_over(), 70);
        assert_eq!(ledger.room(Pool::Delivery), 0);
        ledger.give_back(Pool::Delivery, 70);
        assert_eq!(ledger.taken(Pool::Delivery), 0);
    }

    #[test]
    #[should_panic(expected = "5 bytes come back to the ingest pool, 4 were taken")]
    fn what_was_not_taken_cannot_come_back() {
        let ledger = Ledger::new(BUDGET);
        assert!(ledger.try_take(Pool::Ingest, 4));
        ledger.give_back(Pool::Ingest, 5);
    }

    #[test]
    #[should_panic(expected = "room in the hot-cache pool was not kept")]
    fn memory_moves_only_where_there_is_room() {
        let ledger = Ledger::new(BUDGET);
        assert!(ledger.try_take(Pool::Unflushed, 51));
        ledger.shift(Pool::Unflushed, Pool::HotCache, 51);
    }

    proptest! {
        /// Against plain sums: nothing is taken beyond a pool, pools do not touch each other, and all comes back.
        #[test]
        fn pools_are_never_exceeded_and_everything_returns_model(
            steps in vec((0u8..4, select(&Pool::ALL[..]), select(&Pool::ALL[..]), 0u64..120), 0..300),
        ) {
            let ledger = Ledger::new(BUDGET);
            let mut held: Vec<Reservation> = Vec::new();
            let mut sums = std::collections::BTreeMap::<Pool, u64>::new();
            for (step, pool, other, bytes) in steps {
                let before = sums.get(&pool).copied().unwrap_or_default();
                match step {
                    0 | 1 => {
                        let reservation = ledger.reserve(pool, bytes);
                        prop_assert_eq!(reservation.is_some(), before + bytes <= BUDGET.of(pool));
                        if reservation.is_some() { *sums.entry(pool).or_default() += bytes; }
                        held.extend(reservation);
                    }
                    2 => if let Some(at) = held.iter().position(|one| one.pool == pool) {
                        let back = held.swap_remove(at);
                        *sums.entry(pool).or_default() -= back.bytes;
                    },
                    _ => if let Some(at) = held.iter().position(|one| one.pool == pool)
                        && held[at].bytes <= ledger.room(other)
                        && other != pool
                    {
                        let moved = held.swap_remove(at).hand_over();
                        ledger.shift(pool, other, moved);
                        held.push(Reservation { ledger: ledger.clone(), pool: other, bytes: moved });
                        *sums.entry(pool).or_default() -= moved;
                        *sums.entry(other).or_default() += moved;
                    },
                }
                for pool in Pool::ALL {
                    prop_assert_eq!(ledger.taken(pool), sums.get(&pool).copied().unwrap_or_default());
                    prop_assert!(ledger.taken(pool) <= BUDGET.of(pool));
                }
            }
            drop(held);
            prop_assert!(Pool::ALL.iter().all(|pool| ledger.taken(*pool) == 0));
        }
    }
}
