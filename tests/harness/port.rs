//! Ports of brokers under test that nobody else gets, also while a broker is dead.
//!
//! A port that the system chose would be free again after a kill, and the system could give it to a client's socket before
//! the broker is back. So ports are taken from outside of the range the system chooses from, and the TCP port of the same
//! number is held as a token against other tests.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};

/// First port tried: those below belong to well-known services.
const FIRST: u16 = 10_000;

/// A UDP port of 127.0.0.1, as long as this lives.
#[derive(Debug)]
pub(crate) struct Port {
    number: u16,
    _token: TcpListener,
}

impl Port {
    /// A port that nobody uses.
    ///
    /// # Panics
    /// If there is none.
    pub(crate) fn reserve() -> Self {
        static TAKEN: AtomicU16 = AtomicU16::new(0);
        let candidates =
            candidates(&fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default());
        // Tests of different processes begin at different places, and each goes on behind its last port.
        let begin = std::process::id() as usize * 61 + usize::from(TAKEN.fetch_add(1, Ordering::Relaxed));
        let tried =
            (0..candidates.len()).filter_map(|step| candidates.get((begin + step) % candidates.len()));
        let mut free = tried.filter_map(|number| {
            let token = TcpListener::bind((Ipv4Addr::LOCALHOST, *number)).ok()?;
            UdpSocket::bind((Ipv4Addr::LOCALHOST, *number)).ok()?;
            Some(Self { number: *number, _token: token })
        });
        free.next().expect("some port is free")
    }

    pub(crate) const fn number(&self) -> u16 {
        self.number
    }
}

/// Ports the system gives to nobody by itself. All, where it would give any: then a broker's port could be lost after all.
fn candidates(range: &str) -> Vec<u16> {
    let mut bounds = range.split_whitespace().filter_map(|bound| bound.parse::<u16>().ok());
    let (low, high) = (bounds.next().unwrap_or(u16::MAX), bounds.next().unwrap_or(u16::MAX));
    let outside: Vec<u16> = (FIRST..=u16::MAX).filter(|port| !(low..=high).contains(port)).collect();
    if outside.is_empty() { (FIRST..=u16::MAX).collect() } else { outside }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_lie_outside_of_the_range_the_system_chooses_from() {
        let usual = candidates("32768\t60999\n");
        assert_eq!((usual.first(), usual.last()), (Some(&10_000), Some(&65_535)));
        assert!(!usual.contains(&32_768) && !usual.contains(&60_999));
        assert!(usual.contains(&32_767) && usual.contains(&61_000));
        assert_eq!(candidates("1024 65535").len(), 55_536, "any is better than none");
    }

    #[test]
    fn a_reserved_port_is_free_for_a_broker_and_for_no_other_test() {
        let ports: Vec<Port> = (0..20).map(|_| Port::reserve()).collect();
        let mut numbers: Vec<u16> = ports.iter().map(Port::number).collect();
        for number in &numbers {
            UdpSocket::bind((Ipv4Addr::LOCALHOST, *number)).unwrap();
        }
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), ports.len());
    }
}
