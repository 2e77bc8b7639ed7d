//! A relay between sockets of the test, one of which plays the broker.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use super::*;

/// Far longer than anything takes that comes at all.
const LONG: Duration = Duration::from_secs(30);

/// So few that no buffer overflows, however busy the machine is.
const DATAGRAMS: u8 = 200;

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(LONG)).unwrap();
    socket
}

/// A client, a broker, and the relay between them.
fn relayed(seed: u64) -> (UdpSocket, UdpSocket, Relay) {
    let broker = socket();
    let relay = Relay::start(seed, broker.local_addr().unwrap());
    (socket(), broker, relay)
}

/// The next datagram, and from where it came.
fn next(socket: &UdpSocket) -> (u8, SocketAddr) {
    let mut bytes = [0; 1];
    let (_, from) = socket.recv_from(&mut bytes).unwrap();
    (bytes[0], from)
}

/// What arrives of numbered datagrams from a client, in the order of arrival.
fn arrivals(seed: u64, way: Way) -> Vec<u8> {
    let (client, broker, relay) = relayed(seed);
    relay.set(Direction::ToBroker, way);
    for number in 0..DATAGRAMS {
        client.send_to(&[number], relay.address()).unwrap();
    }
    let mut fates = Fates::new(Random::new(seed).fork());
    let count = |fate| match fate {
        Fate::Lost => 0,
        Fate::Once(_) => 1,
        Fate::Twice(..) => 2,
    };
    let expected: usize = (0..DATAGRAMS).map(|_| count(fates.next(&way))).sum();
    let came = (0..expected).map(|_| next(&broker).0).collect();
    // The last datagrams may be lost ones, of which nothing is seen here.
    let began = Instant::now();
    let is_told = |counts: Counts| u64::from(DATAGRAMS) + counts.doubled == counts.passed + counts.lost;
    while !is_told(relay.counts()) && began.elapsed() < LONG {
        thread::yield_now();
    }
    let counts = relay.counts();
    assert!(is_told(counts), "{counts:?}");
    assert_eq!(counts.passed, expected as u64);
    came
}

#[test]
fn a_seed_loses_and_doubles_the_same_datagrams_each_time() {
    let way = Way { loss: 30, double: 20, ..Way::default() };
    let came = arrivals(7, way);
    assert_eq!(came, arrivals(7, way));
    assert_ne!(came, arrivals(8, way));
    assert!(came.is_sorted(), "a way without delays keeps the order");
}

#[test]
fn late_datagrams_are_overtaken_and_none_is_lost() {
    let mut came = arrivals(7, Way { late: 20, late_by: 200, delay: (0, 3), ..Way::default() });
    assert!(!came.is_sorted());
    came.sort_unstable();
    assert_eq!(came, (0..DATAGRAMS).collect::<Vec<_>>());
}

#[test]
fn a_cut_in_one_direction_lets_the_other_through_and_can_be_healed() {
    let (client, broker, relay) = relayed(7);
    relay.set(Direction::ToClients, Way::CUT);
    client.send_to(&[1], relay.address()).unwrap();
    let (number, seen) = next(&broker);
    assert_eq!(number, 1);
    broker.send_to(&[2], seen).unwrap();
    let began = Instant::now();
    while relay.counts().lost == 0 {
        assert!(began.elapsed() < LONG);
        thread::yield_now();
    }
    relay.heal();
    broker.send_to(&[3], seen).unwrap();
    assert_eq!(next(&client), (3, relay.address()));
}

#[test]
fn the_broker_sees_another_port_after_a_rebind_and_reaches_the_client_there() {
    let (client, broker, relay) = relayed(7);
    client.send_to(&[1], relay.address()).unwrap();
    let (_, before) = next(&broker);
    client.send_to(&[2], relay.address()).unwrap();
    assert_eq!(next(&broker), (2, before));
    relay.rebind();
    client.send_to(&[3], relay.address()).unwrap();
    let (_, after) = next(&broker);
    assert_ne!(after, before);
    broker.send_to(&[4], before).unwrap();
    broker.send_to(&[5], after).unwrap();
    assert_eq!(next(&client).0, 5, "nothing is left at the old port");
    assert_eq!(relay.counts().rebound, 1);
}

#[test]
fn clients_are_told_apart_and_strangers_are_not_heard() {
    let (client, broker, relay) = relayed(7);
    let other = socket();
    client.send_to(&[1], relay.address()).unwrap();
    let (_, of_client) = next(&broker);
    other.send_to(&[2], relay.address()).unwrap();
    let (_, of_other) = next(&broker);
    assert_ne!(of_client, of_other);
    socket().send_to(&[9], of_client).unwrap();
    broker.send_to(&[3], of_client).unwrap();
    broker.send_to(&[4], of_other).unwrap();
    assert_eq!((next(&client).0, next(&other).0), (3, 4));
}
