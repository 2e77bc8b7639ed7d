//! What one client may use, whatever others leave: bytes a second in and out, connections, streams.
//!
//! A client is known by its name and address until there is authentication. Rates are kept by waiting, never by
//! refusing what has come: who published too much is granted nothing more, and who read too much is sent nothing more,
//! until that is made good. A client that leaves in debt finds its debt again.

use std::collections::BTreeMap;

use crate::core::bucket::Bucket;

/// Clients remembered at a time. Those that have left and owe nothing are forgotten first.
const CLIENTS_MAX: usize = 8192;

/// Advice to a client that has as many connections or streams as it may: one of its own has to end first.
const RETRY_AFTER_MS: u32 = 1000;

/// What each client may use; `None` for as much as there is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct QuotaLimits {
    /// Bytes of batches published in a second; not 0.
    pub publish_bytes_per_second: Option<u64>,
    /// Bytes delivered in a second; not 0.
    pub read_bytes_per_second: Option<u64>,
    /// Connections at a time.
    pub connections_max: Option<u32>,
    /// Lanes at a time, on all its connections.
    pub streams_max: Option<u32>,
}

/// A client that is inside.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct ClientKey(u64);

/// The quota is used up: nothing was taken.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Throttled {
    /// When another try makes sense, in milliseconds.
    pub retry_after_ms: u32,
    /// Which quota, for people.
    pub detail: String,
}

/// The accounts of all clients.
#[derive(Debug)]
pub struct Quotas {
    limits: QuotaLimits,
    clients: BTreeMap<ClientKey, Client>,
    keys: BTreeMap<String, ClientKey>,
    next_key: u64,
}

#[derive(Debug)]
struct Client {
    connections: u32,
    streams: u32,
    published: Option<Bucket>,
    read: Option<Bucket>,
}

impl Quotas {
    /// Nobody is inside.
    pub const fn new(limits: QuotaLimits) -> Self {
        Self { limits, clients: BTreeMap::new(), keys: BTreeMap::new(), next_key: 0 }
    }

    /// A client with this identity comes in. Each connection that came in leaves by [`Quotas::leave`].
    ///
    /// # Errors
    /// If it has as many connections as it may.
    pub fn enter(&mut self, identity: &str, now_us: u64) -> Result<ClientKey, Throttled> {
        if self.clients.len() >= CLIENTS_MAX && !self.keys.contains_key(identity) {
            self.forget_idle(now_us);
            if self.clients.len() >= CLIENTS_MAX {
                return Err(throttled("too many clients have been here a moment ago".to_owned()));
            }
        }
        let key = *self.keys.entry(identity.to_owned()).or_insert_with(|| {
            self.next_key += 1;
            ClientKey(self.next_key)
        });
        // A second's worth may come at once.
        let bucket = |rate: Option<u64>| rate.map(|rate| Bucket::new(rate, rate));
        let limits = self.limits;
        let client = self.clients.entry(key).or_insert_with(|| Client {
            connections: 0,
            streams: 0,
            published: bucket(limits.publish_bytes_per_second),
            read: bucket(limits.read_bytes_per_second),
        });
        if let Some(max) = limits.connections_max.filter(|max| client.connections >= *max) {
            return Err(throttled(format!("the client has {max} connections, as many as it may")));
        }
        client.connections += 1;
        Ok(key)
    }

    /// A connection of a client has ended.
    pub fn leave(&mut self, key: ClientKey) {
        if let Some(client) = self.clients.get_mut(&key) {
            client.connections -= 1;
        }
    }

    /// A client opens a lane. Each that was opened ends by [`Quotas::close_stream`].
    ///
    /// # Errors
    /// If it has as many as it may.
    pub fn open_stream(&mut self, key: ClientKey) -> Result<(), Throttled> {
        let Some(client) = self.clients.get_mut(&key) else { return Ok(()) };
        if let Some(max) = self.limits.streams_max.filter(|max| client.streams >= *max) {
            return Err(throttled(format!("the client has {max} lanes, as many as it may")));
        }
        client.streams += 1;
        Ok(())
    }

    /// A lane of a client has ended.
    pub fn close_stream(&mut self, key: ClientKey) {
        if let Some(client) = self.clients.get_mut(&key) {
            client.streams -= 1;
        }
    }

    /// A client has published so many bytes.
    pub fn published(&mut self, key: ClientKey, bytes: u64, now_us: u64) {
        if let Some(bucket) = self.clients.get_mut(&key).and_then(|client| client.published.as_mut()) {
            bucket.spend(bytes, now_us);
        }
    }

    /// For how many microseconds a client may be granted nothing more to publish.
    pub fn publish_wait_us(&self, key: ClientKey, now_us: u64) -> u64 {
        let bucket = self.clients.get(&key).and_then(|client| client.published.as_ref());
        bucket.map_or(0, |bucket| bucket.debt_us(now_us))
    }

    /// A client was sent so many bytes of deliveries. Returns for how many microseconds it may be sent no more.
    pub fn read(&mut self, key: ClientKey, bytes: u64, now_us: u64) -> u64 {
        let bucket = self.clients.get_mut(&key).and_then(|client| client.read.as_mut());
        bucket.map_or(0, |bucket| bucket.spend(bytes, now_us))
    }

    fn forget_idle(&mut self, now_us: u64) {
        let owes = |bucket: &Option<Bucket>| bucket.as_ref().is_some_and(|bucket| !bucket.is_full(now_us));
        self.clients
            .retain(|_, client| client.connections > 0 || owes(&client.published) || owes(&client.read));
        let clients = &self.clients;
        self.keys.retain(|_, key| clients.contains_key(key));
    }
}

const fn throttled(detail: String) -> Throttled {
    Throttled { retry_after_ms: RETRY_AFTER_MS, detail }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const LIMITS: QuotaLimits = QuotaLimits {
        publish_bytes_per_second: Some(1000),
        read_bytes_per_second: Some(2000),
        connections_max: Some(2),
        streams_max: Some(3),
    };

    #[test]
    fn who_published_too_much_waits_until_that_is_made_good_and_others_do_not() {
        let mut quotas = Quotas::new(LIMITS);
        let (fast, other) = (quotas.enter("fast", 0).unwrap(), quotas.enter("other", 0).unwrap());
        quotas.published(fast, 1000, 0);
        assert_eq!(quotas.publish_wait_us(fast, 0), 0, "a second's worth at once");
        quotas.published(fast, 3000, 0);
        assert_eq!(quotas.publish_wait_us(fast, 0), 3_000_000);
        assert_eq!(quotas.publish_wait_us(fast, 2_000_000), 1_000_000);
        assert_eq!(quotas.publish_wait_us(fast, 3_000_000), 0);
        assert_eq!(quotas.publish_wait_us(other, 0), 0);
        assert_eq!(quotas.read(fast, 3000, 0), 500_000, "reading has a rate of its own");
    }

    #[test]
    fn coming_again_pays_no_debt() {
        let mut quotas = Quotas::new(LIMITS);
        let first = quotas.enter("fast", 0).unwrap();
        quotas.published(first, 5000, 0);
        quotas.leave(first);
        let again = quotas.enter("fast", 1_000_000).unwrap();
        assert_eq!(quotas.publish_wait_us(again, 1_000_000), 3_000_000);
    }

    #[test]
    fn places_of_connections_and_lanes_are_free_again_when_they_end() {
        let mut quotas = Quotas::new(LIMITS);
        let key = quotas.enter("one", 0).unwrap();
        quotas.enter("one", 0).unwrap();
        let refused = quotas.enter("one", 0).unwrap_err();
        assert_eq!((refused.retry_after_ms, refused.detail.contains("2 connections")), (1000, true));
        assert!(quotas.enter("two", 0).is_ok());
        quotas.leave(key);
        assert!(quotas.enter("one", 0).is_ok());
        assert!((0..3).all(|_| quotas.open_stream(key).is_ok()));
        assert!(quotas.open_stream(key).unwrap_err().detail.contains("3 lanes"));
        quotas.close_stream(key);
        assert!(quotas.open_stream(key).is_ok());
    }

    #[test]
    fn without_limits_nobody_waits() {
        let mut quotas = Quotas::new(QuotaLimits::default());
        let key = quotas.enter("one", 0).unwrap();
        quotas.published(key, u64::MAX, 0);
        assert_eq!((quotas.publish_wait_us(key, 0), quotas.read(key, u64::MAX, 0)), (0, 0));
        assert!((0..1000).all(|_| quotas.enter("one", 0).is_ok() && quotas.open_stream(key).is_ok()));
    }

    #[test]
    fn clients_that_owe_nothing_are_forgotten_when_there_are_many() {
        let mut quotas = Quotas::new(LIMITS);
        let debtor = quotas.enter("debtor", 0).unwrap();
        quotas.published(debtor, 1_000_000_000, 0);
        quotas.leave(debtor);
        for number in 0..2 * CLIENTS_MAX {
            let key = quotas.enter(&number.to_string(), 0).unwrap();
            quotas.leave(key);
        }
        assert!(quotas.clients.len() <= CLIENTS_MAX && quotas.keys.len() == quotas.clients.len());
        assert_eq!(quotas.enter("debtor", 0), Ok(debtor), "a debt is not forgotten");
    }

    proptest! {
        #[test]
        fn whoever_waits_as_told_publishes_at_the_rate(pieces in vec(1u64..5000, 1..100)) {
            let mut quotas = Quotas::new(LIMITS);
            let key = quotas.enter("one", 0).unwrap();
            let (mut now, mut published) = (0, 0);
            for piece in pieces {
                now += quotas.publish_wait_us(key, now);
                // All that came before the last piece was within a second's worth and the rate.
                prop_assert!(published <= 1000 + 1000 * now / 1_000_000 + 1);
                quotas.published(key, piece, now);
                published += piece;
            }
        }
    }
}
