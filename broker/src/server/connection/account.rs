//! What the client of a connection may use: its quotas, the grants that wait for them, and memory for its streams.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::core::LaneId;
use crate::core::ledger::{Ledger, Pool, Reservation};
use crate::core::quota::{ClientKey, Quotas, Throttled};
use crate::plan::STREAM_BYTES;
use crate::server::clock::Clock;
use crate::server::metrics::Metrics;

/// After which time a client tries again for whose stream there was no memory.
const NO_MEMORY_RETRY_MS: u32 = 1000;

/// The quotas of all clients, shared by all connections.
pub(crate) type SharedQuotas = Rc<RefCell<Quotas>>;

/// The client's part of a connection.
#[derive(Debug)]
pub(super) struct Account {
    quotas: SharedQuotas,
    ledger: Ledger,
    clock: Clock,
    standing: Cell<Standing>,
    /// Grants that wait until the client may publish again: the latest limit of each lane.
    held: RefCell<BTreeMap<LaneId, u64>>,
    due: Cell<Option<Instant>>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Standing {
    Stranger,
    Inside(ClientKey),
    Refused,
}

/// A stream that counts for its client, and has its memory, until this is dropped.
#[derive(Debug)]
pub(super) struct Slot {
    client: Option<(SharedQuotas, ClientKey)>,
    _memory: Reservation,
}

/// A stream among the open ones, until this is dropped.
#[derive(Debug)]
pub(super) struct Open(Arc<Metrics>);

impl Open {
    /// One more is open.
    pub(super) fn count(metrics: &Arc<Metrics>) -> Self {
        metrics.streams_opened.increment();
        metrics.streams.add(1);
        Self(Arc::clone(metrics))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.streams.subtract(1);
    }
}

impl Account {
    /// The connection of a stranger.
    pub(super) fn new(quotas: &SharedQuotas, ledger: Ledger, clock: Clock) -> Self {
        Self {
            quotas: Rc::clone(quotas),
            ledger,
            clock,
            standing: Cell::new(Standing::Stranger),
            held: RefCell::default(),
            due: Cell::new(None),
        }
    }

    /// The client has said who it is.
    pub(super) fn enter(&self, identity: &str) -> Result<(), Throttled> {
        let entered = self.quotas.borrow_mut().enter(identity, self.now_us());
        self.standing.set(entered.as_ref().map_or(Standing::Refused, |key| Standing::Inside(*key)));
        entered.map(drop)
    }

    /// Whether the client was not let in.
    pub(super) fn is_refused(&self) -> bool {
        self.standing.get() == Standing::Refused
    }

    /// The client opens a stream. That of a stranger does not count: it carries the greeting, and its memory is part of
    /// the connection's.
    pub(super) fn open_stream(&self) -> Result<Slot, Throttled> {
        let mut memory = self.ledger.account_of(Pool::Connections);
        let Some(key) = self.key() else { return Ok(Slot { client: None, _memory: memory }) };
        if !memory.grow(STREAM_BYTES) {
            let detail = "the broker has no memory for more streams".to_owned();
            return Err(Throttled { retry_after_ms: NO_MEMORY_RETRY_MS, detail });
        }
        self.quotas.borrow_mut().open_stream(key)?;
        Ok(Slot { client: Some((Rc::clone(&self.quotas), key)), _memory: memory })
    }

    /// So many bytes came on publish lanes.
    pub(super) fn published(&self, bytes: u64) {
        if let Some(key) = self.key() {
            self.quotas.borrow_mut().published(key, bytes, self.now_us());
        }
    }

    /// So many bytes of deliveries went. Says how long no more may go.
    pub(super) fn read(&self, bytes: u64) -> Duration {
        let wait = self.key().map(|key| self.quotas.borrow_mut().read(key, bytes, self.now_us()));
        Duration::from_micros(wait.unwrap_or(0))
    }

    /// Keeps a grant back if the client has published more than it may. Says for how long, the first time for a lane.
    pub(super) fn hold(&self, lane: LaneId, limit_bytes: u64) -> Held {
        let wait = self.publish_wait();
        let mut held = self.held.borrow_mut();
        if wait.is_zero() && !held.contains_key(&lane) {
            return Held::No;
        }
        self.due.set(Some(Instant::now() + wait));
        match held.insert(lane, limit_bytes) {
            None => Held::Since(wait),
            Some(_) => Held::Still,
        }
    }

    /// Waits until grants that were kept back may go. For ever if there are none.
    ///
    /// # Cancel safety
    /// Nothing is lost if it is dropped.
    pub(super) async fn due(&self) {
        match self.due.get() {
            Some(due) => sleep_until(due).await,
            None => std::future::pending().await,
        }
    }

    /// The grants that may go now.
    pub(super) fn release(&self) -> BTreeMap<LaneId, u64> {
        let wait = self.publish_wait();
        if !wait.is_zero() {
            self.due.set(Some(Instant::now() + wait));
            return BTreeMap::new();
        }
        self.due.set(None);
        self.held.take()
    }

    fn publish_wait(&self) -> Duration {
        let wait = self.key().map(|key| self.quotas.borrow().publish_wait_us(key, self.now_us()));
        Duration::from_micros(wait.unwrap_or(0))
    }

    fn key(&self) -> Option<ClientKey> {
        match self.standing.get() {
            Standing::Inside(key) => Some(key),
            Standing::Stranger | Standing::Refused => None,
        }
    }

    fn now_us(&self) -> u64 {
        self.clock.now().monotonic_us
    }
}

/// Whether a grant was kept back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Held {
    /// It may go.
    No,
    /// It waits, as those of its lane did before.
    Still,
    /// It waits from now on, for about so long.
    Since(Duration),
}

impl Drop for Account {
    fn drop(&mut self) {
        if let Some(key) = self.key() {
            self.quotas.borrow_mut().leave(key);
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some((quotas, key)) = self.client.take() {
            quotas.borrow_mut().close_stream(key);
        }
    }
}
