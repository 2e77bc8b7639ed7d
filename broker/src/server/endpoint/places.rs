//! Who is inside, and who knocks how often.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use super::DoorLimits;
use crate::core::bucket::Bucket;
use crate::server::metrics::{Metrics, Refusal};

/// Addresses remembered at a time. One that has left counts until its handshakes are no reason to refuse it any more.
const ADDRESSES_MAX: usize = 4096;

/// Who is inside.
#[derive(Clone, Debug)]
pub(super) struct Places(Arc<Mutex<Taken>>);

#[derive(Debug)]
struct Taken {
    all: usize,
    handshakes: Bucket,
    /// None for the machine itself.
    by_address: BTreeMap<IpAddr, Address>,
}

#[derive(Debug)]
struct Address {
    connections: usize,
    handshakes: Bucket,
}

/// A place inside, free again when dropped.
#[derive(Debug)]
pub struct Place {
    places: Places,
    address: Option<IpAddr>,
    metrics: Arc<Metrics>,
}

impl Places {
    /// Nobody is inside.
    pub(super) fn new(limits: &DoorLimits) -> Self {
        let rate = u64::from(limits.handshakes_per_second);
        let taken = Taken { all: 0, handshakes: Bucket::new(rate, rate), by_address: BTreeMap::new() };
        Self(Arc::new(Mutex::new(taken)))
    }

    /// Gives a peer a place, or says why it gets none.
    pub(super) fn take(
        &self,
        peer: IpAddr,
        limits: &DoorLimits,
        now_us: u64,
        metrics: &Arc<Metrics>,
    ) -> Result<Place, Refusal> {
        let address = counted_address(peer);
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.all >= limits.connections_max {
            return Err(Refusal::Connections);
        }
        // An address that knocks too often is turned away before it costs others their share.
        if let Some(address) = address {
            taken.knock(address, limits, now_us)?;
        }
        taken.handshakes.take(1, now_us).map_err(|_wait| Refusal::Rate)?;
        if let Some(known) = address.and_then(|address| taken.by_address.get_mut(&address)) {
            known.connections += 1;
        }
        taken.all += 1;
        drop(taken);
        metrics.connections.add(1);
        Ok(Place { places: self.clone(), address, metrics: Arc::clone(metrics) })
    }

    /// Connections from addresses that are counted.
    #[cfg(test)]
    pub(super) fn addresses(&self) -> usize {
        let taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        taken.by_address.values().filter(|address| address.connections > 0).count()
    }
}

impl Taken {
    fn knock(&mut self, address: IpAddr, limits: &DoorLimits, now_us: u64) -> Result<(), Refusal> {
        if self.by_address.len() >= ADDRESSES_MAX {
            self.by_address.retain(|_, known| known.connections > 0 || !known.handshakes.is_full(now_us));
        }
        if self.by_address.len() >= ADDRESSES_MAX && !self.by_address.contains_key(&address) {
            return Err(Refusal::Rate);
        }
        let share = u64::from(limits.handshakes_per_second).div_ceil(4);
        let fresh = || Address { connections: 0, handshakes: Bucket::new(share, share) };
        let known = self.by_address.entry(address).or_insert_with(fresh);
        if known.connections >= limits.connections_per_address_max {
            return Err(Refusal::Address);
        }
        known.handshakes.take(1, now_us).map_err(|_wait| Refusal::Rate)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.0.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all -= 1;
        if let Some(known) = self.address.and_then(|address| taken.by_address.get_mut(&address)) {
            known.connections -= 1;
        }
        drop(taken);
        self.metrics.connections.subtract(1);
    }
}

/// The address a peer is counted under: a host has one IPv4 address, but a whole /64 network of IPv6 addresses.
/// `None` for the machine itself.
pub(crate) fn counted_address(peer: IpAddr) -> Option<IpAddr> {
    match peer.to_canonical() {
        address if address.is_loopback() => None,
        IpAddr::V6(address) => Some(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into()),
        address @ IpAddr::V4(_) => Some(address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: DoorLimits = DoorLimits {
        connections_max: 5,
        connections_per_address_max: 2,
        handshakes_per_second: 100,
        handshakes_max: 1024,
        handshakes_unproven_max: 256,
        handshake_within: std::time::Duration::from_secs(5),
    };

    #[test]
    fn an_address_has_its_share_of_places_and_the_machine_itself_all() {
        let (places, metrics) = (Places::new(&LIMITS), Arc::new(Metrics::default()));
        let take = |peer: &str| places.take(peer.parse().unwrap(), &LIMITS, 0, &metrics);

        let first = take("192.0.2.1").unwrap();
        let _second = take("::ffff:192.0.2.1").unwrap();
        assert_eq!(take("192.0.2.1").unwrap_err(), Refusal::Address);
        let _third = take("2001:db8::1").unwrap();
        let _fourth = take("2001:db8::ffff:0:0:1").unwrap();
        assert_eq!(take("2001:db8::2").unwrap_err(), Refusal::Address, "one host has a whole network");
        let fifth = take("2001:db8:0:1::1").unwrap();
        assert_eq!(take("127.0.0.1").unwrap_err(), Refusal::Connections);
        assert_eq!(metrics.connections.value(), 5);

        drop((first, fifth));
        let own: Vec<_> = (0..2).map(|_| take("::1").unwrap()).collect();
        assert_eq!(take("192.0.2.1").unwrap_err(), Refusal::Connections);
        drop(own);
        take("192.0.2.1").unwrap();
        assert_eq!(metrics.connections.value(), 3);
        assert_eq!(places.addresses(), 2);
    }

    #[test]
    fn an_address_that_knocks_again_and_again_is_turned_away_and_others_come_in() {
        let (places, metrics) = (Places::new(&LIMITS), Arc::new(Metrics::default()));
        let knock =
            |peer: &str, now_us| places.take(peer.parse().unwrap(), &LIMITS, now_us, &metrics).map(drop);

        let let_in = (0..1000).filter(|_| knock("192.0.2.1", 0).is_ok()).count();
        assert_eq!(let_in, 25, "its share of a second");
        assert_eq!(knock("192.0.2.1", 0), Err(Refusal::Rate));
        assert_eq!(knock("192.0.2.2", 0), Ok(()));
        assert_eq!(knock("192.0.2.1", 40_000), Ok(()), "a little later it may come again");
        let of_itself = (0..1000).filter(|_| knock("127.0.0.1", 40_000).is_ok()).count();
        assert_eq!(of_itself, 100 - 25 - 1 - 1 + 4, "everybody together has a limit, too");
    }

    #[test]
    fn addresses_that_have_left_are_forgotten_when_there_are_many() {
        let limits = DoorLimits { handshakes_per_second: 1 << 20, ..LIMITS };
        let (places, metrics) = (Places::new(&limits), Arc::new(Metrics::default()));
        for number in 0..2 * u32::try_from(ADDRESSES_MAX).unwrap() {
            let peer = std::net::Ipv4Addr::from_bits(0x0a00_0000 + number);
            places.take(peer.into(), &limits, u64::from(number) * 1000, &metrics).unwrap();
        }
        assert!(places.0.lock().unwrap().by_address.len() <= ADDRESSES_MAX);
    }
}
