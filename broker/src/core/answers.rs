//! Memory for answers, so that they move when all else is full.
//!
//! Invariant: no frame is heard that has an answer before there is memory for the shortest answer it can have. Each
//! connection has some of its own, which nobody else can take; what it is owed beyond that is taken from the control
//! pool, and an answer that can be shorter (a page, an explanation) is as long as that allows. So a connection that does not
//! take its answers is heard no more, and all others are answered whatever pool is full.
//!
//! What a reader is told without having asked (that records are gone, that its topic is) is covered by the memory of its
//! position. It may stand beyond what the pool has left; then nothing is heard on its connection until it has gone.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::core::ledger::{Ledger, Pool, Reservation};
use crate::core::{ConnectionId, LaneId, Outgoing};
use crate::plan::ANSWERS_KEPT_BYTES;

/// The shortest answer to any request: a page of one entry with the longest names.
pub const REQUEST_BYTES: u64 = 512;

/// The shortest answer to a batch: a frame with one entry, or a refusal without explanation.
pub const BATCH_BYTES: u64 = 64;

/// The shortest answer to a reader's start: where it is, or a refusal without explanation.
pub const READER_BYTES: u64 = 64;

/// Part of the control pool that one connection can have, and part of what is left that a page takes.
const PART_OF_POOL: u64 = 2;
const PART_OF_ROOM: u64 = 4;

/// The answers of all connections. Clones share them.
#[derive(Clone, Debug)]
pub struct Answers {
    ledger: Ledger,
    book: Rc<RefCell<Book>>,
}

#[derive(Debug, Default)]
struct Book {
    accounts: BTreeMap<ConnectionId, Account>,
    /// Connections with something in `due`.
    turn: Vec<ConnectionId>,
}

/// The answers of one connection, in bytes.
#[derive(Debug)]
struct Account {
    /// To what was heard and has no answer yet.
    promised: u64,
    /// To what is answered in this turn of the node.
    due: u64,
    /// Answers that have not left.
    owed: u64,
    /// What all of that takes from the pool.
    memory: Reservation,
}

impl Answers {
    /// No connection.
    pub fn new(ledger: Ledger) -> Self {
        Self { ledger, book: Rc::default() }
    }

    /// The memory they are taken from.
    pub const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// A connection is there. What is said of others counts for nothing.
    pub fn open(&self, connection: ConnectionId) {
        let memory = self.ledger.account_of(Pool::Control);
        let account = Account { promised: 0, due: 0, owed: 0, memory };
        self.book.borrow_mut().accounts.insert(connection, account);
    }

    /// A connection is gone, with all it was owed.
    pub fn close(&self, connection: ConnectionId) {
        self.book.borrow_mut().accounts.remove(&connection);
    }

    /// Takes memory for an answer, before what it answers is heard; nothing is taken if there is none.
    #[must_use]
    pub fn promise(&self, connection: ConnectionId, bytes: u64) -> bool {
        self.with(connection, |account| {
            let fits = account.room(self.pool_max()) >= bytes;
            if fits {
                account.promised += bytes;
                account.cover();
            }
            fits
        })
        .unwrap_or(true)
    }

    /// What was promised is answered in this turn, or needs no answer any more.
    ///
    /// # Panics
    /// If more is answered than was promised.
    pub fn due(&self, connection: ConnectionId, bytes: u64) {
        self.with(connection, |account| {
            assert!(account.promised >= bytes, "only what was promised is due");
            account.promised -= bytes;
            account.due += bytes;
        });
        self.book.borrow_mut().turn.push(connection);
    }

    /// Part of what was promised is not needed.
    ///
    /// # Panics
    /// If it was not promised.
    pub fn withdraw(&self, connection: ConnectionId, bytes: u64) {
        self.with(connection, |account| {
            assert!(account.promised >= bytes, "only what was promised is withdrawn");
            account.promised -= bytes;
            account.cover();
        });
    }

    /// What was due in this turn has to wait for something.
    ///
    /// # Panics
    /// If it was not due.
    pub fn wait(&self, connection: ConnectionId, bytes: u64) {
        self.with(connection, |account| {
            assert!(account.due >= bytes, "only what is due can wait");
            account.due -= bytes;
            account.promised += bytes;
        });
    }

    /// Takes up to so many bytes for an answer of this turn that can be longer than promised. Says how many.
    pub fn longer(&self, connection: ConnectionId, bytes: u64) -> u64 {
        let part = self.ledger.room(Pool::Control) / PART_OF_ROOM;
        let given = self.with(connection, |account| {
            let own = ANSWERS_KEPT_BYTES.saturating_sub(account.held());
            let given = bytes.min(own.max(part)).min(account.room(self.pool_max()));
            account.due += given;
            account.cover();
            given
        });
        self.book.borrow_mut().turn.push(connection);
        given.unwrap_or(bytes)
    }

    /// Everything that is answered in this turn is on its way: it takes what it is long, until it has left.
    pub fn settle(&self, outgoing: &[Outgoing]) {
        let book = &mut *self.book.borrow_mut();
        for outgoing in outgoing {
            let Outgoing::Frames(LaneId { connection, .. }, pieces) = outgoing else { continue };
            if let Some(account) = book.accounts.get_mut(connection) {
                account.owed += pieces.iter().map(|piece| piece.len() as u64).sum::<u64>();
                book.turn.push(*connection);
            }
        }
        for connection in book.turn.drain(..) {
            if let Some(account) = book.accounts.get_mut(&connection) {
                account.due = 0;
                account.cover();
            }
        }
    }

    /// Answers have left.
    ///
    /// # Panics
    /// If more has left than was owed.
    pub fn left(&self, connection: ConnectionId, bytes: u64) {
        self.with(connection, |account| {
            assert!(account.owed >= bytes, "only what is owed leaves");
            account.owed -= bytes;
            account.cover();
        });
    }

    /// Bytes of answers, promised ones included, that a connection has.
    pub fn held(&self, connection: ConnectionId) -> u64 {
        self.with(connection, |account| account.held()).unwrap_or(0)
    }

    fn pool_max(&self) -> u64 {
        self.ledger.limit(Pool::Control) / PART_OF_POOL
    }

    fn with<T>(&self, connection: ConnectionId, change: impl FnOnce(&mut Account) -> T) -> Option<T> {
        self.book.borrow_mut().accounts.get_mut(&connection).map(change)
    }
}

impl Account {
    const fn held(&self) -> u64 {
        self.promised + self.due + self.owed
    }

    /// What can still be taken.
    fn room(&self, pool_max: u64) -> u64 {
        let pool = pool_max.saturating_sub(self.memory.bytes()).min(self.memory.room());
        (ANSWERS_KEPT_BYTES + self.memory.bytes() + pool).saturating_sub(self.held())
    }

    /// Takes from the pool what is beyond the connection's own, as far as there is some, and gives back what is not.
    fn cover(&mut self) {
        let beyond = self.held().saturating_sub(ANSWERS_KEPT_BYTES);
        match beyond.checked_sub(self.memory.bytes()) {
            Some(more) => {
                let _covered = self.memory.grow(more.min(self.memory.room()));
            }
            None => self.memory.shrink(self.memory.bytes() - beyond),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::core::StreamId;
    use crate::core::ledger::Budget;

    const CONNECTIONS: u64 = 4;

    fn answers(control: u64) -> Answers {
        let answers = Answers::new(Ledger::new(Budget { control, ..Budget::default() }));
        (0..CONNECTIONS).map(ConnectionId).for_each(|connection| answers.open(connection));
        answers
    }

    fn frames(connection: ConnectionId, bytes: u64) -> Outgoing {
        let length = usize::try_from(bytes).unwrap();
        let lane = LaneId { connection, stream: StreamId(0) };
        Outgoing::Frames(lane, vec![Bytes::from(vec![0; length])])
    }

    #[test]
    fn a_connection_has_its_own_whatever_others_hold() {
        let answers = answers(8 << 10);
        for connection in (1..CONNECTIONS).map(ConnectionId) {
            while answers.promise(connection, REQUEST_BYTES) {}
        }
        assert_eq!(answers.ledger().room(Pool::Control), 0, "others hold all they can");
        let honest = ConnectionId(0);
        for _ in 0..100 {
            assert!(answers.promise(honest, REQUEST_BYTES));
            answers.due(honest, REQUEST_BYTES);
            assert_eq!(answers.longer(honest, 1 << 20), ANSWERS_KEPT_BYTES - REQUEST_BYTES);
            answers.settle(&[frames(honest, ANSWERS_KEPT_BYTES)]);
            assert!(!answers.promise(honest, REQUEST_BYTES), "who does not take it is heard no more");
            answers.left(honest, ANSWERS_KEPT_BYTES);
        }
    }

    #[test]
    fn one_connection_cannot_have_the_whole_pool() {
        let answers = answers(1 << 20);
        let greedy = ConnectionId(0);
        while answers.promise(greedy, BATCH_BYTES) {}
        assert_eq!(answers.ledger().taken(Pool::Control), (1 << 20) / PART_OF_POOL);
        assert!(answers.promise(ConnectionId(1), ANSWERS_KEPT_BYTES + (1 << 18)));
        answers.close(greedy);
        assert_eq!(answers.ledger().taken(Pool::Control), 1 << 18);
    }

    #[test]
    fn what_nobody_asked_for_stops_hearing_until_it_has_left() {
        let (answers, reader) = (answers(0), ConnectionId(0));
        answers.settle(&[frames(reader, 2 * ANSWERS_KEPT_BYTES)]);
        assert!(!answers.promise(reader, 1));
        assert!(answers.promise(ConnectionId(1), ANSWERS_KEPT_BYTES));
        answers.left(reader, 2 * ANSWERS_KEPT_BYTES);
        assert!(answers.promise(reader, ANSWERS_KEPT_BYTES));
    }

    proptest! {
        /// Against plain sums: what is held beyond each connection's own is taken from the pool, to the byte, nothing is promised
        /// that does not fit, and all of it comes back.
        #[test]
        fn answers_stay_within_the_pool_and_everything_returns_model(
            control in 0u64..20_000,
            steps in vec((0u8..6, 0..CONNECTIONS, 0u64..6000), 0..300),
        ) {
            let answers = answers(control);
            // Promised, and owed.
            let mut model: BTreeMap<ConnectionId, (u64, u64)> = BTreeMap::new();
            for (step, connection, bytes) in steps {
                let connection = ConnectionId(connection);
                let (promised, owed) = model.entry(connection).or_default();
                match step {
                    0 | 1 => if answers.promise(connection, bytes) { *promised += bytes },
                    2 => {
                        let bytes = bytes.min(*promised);
                        answers.withdraw(connection, bytes);
                        *promised -= bytes;
                    }
                    3 => {
                        // An answer that is shorter than promised, or longer.
                        let due = bytes.min(*promised);
                        answers.due(connection, due);
                        let more = answers.longer(connection, bytes);
                        let length = (due + more).saturating_sub(bytes % 7);
                        answers.settle(&[frames(connection, length)]);
                        (*promised, *owed) = (*promised - due, *owed + length);
                    }
                    4 => {
                        let bytes = bytes.min(*promised);
                        answers.due(connection, bytes);
                        answers.wait(connection, bytes);
                        answers.settle(&[]);
                    }
                    _ => {
                        let bytes = bytes.min(*owed);
                        answers.left(connection, bytes);
                        *owed -= bytes;
                    }
                }
                let held: Vec<u64> = model.values().map(|(promised, owed)| promised + owed).collect();
                let beyond: u64 = held.iter().map(|held| held.saturating_sub(ANSWERS_KEPT_BYTES)).sum();
                prop_assert_eq!(answers.ledger().taken(Pool::Control), beyond);
                for (connection, held) in model.keys().zip(held) {
                    prop_assert_eq!(answers.held(*connection), held);
                    let own = ANSWERS_KEPT_BYTES.saturating_sub(held);
                    prop_assert!(answers.promise(*connection, own), "its own cannot be taken by others");
                    answers.withdraw(*connection, own);
                }
            }
            (0..CONNECTIONS).map(ConnectionId).for_each(|connection| answers.close(connection));
            prop_assert_eq!(answers.ledger().taken(Pool::Control), 0);
        }
    }
}
