//! A broker that is asked to stop does so in time, whatever its clients do, and loses nothing.

use std::time::{Duration, Instant};

use harness::{Broker, Lines};
use rustix::process::Signal;

use crate::data::values;

/// Promised longest time from SIGTERM to the end.
const STOP_WITHIN: Duration = Duration::from_secs(10);

const LIMIT: Duration = Duration::from_secs(60);

/// Stops the broker in time and with success.
fn stop(broker: &mut Broker) {
    let asked = Instant::now();
    broker.terminate().expect_code(0);
    assert!(asked.elapsed() < STOP_WITHIN, "it took {:?}", asked.elapsed());
}

#[test]
fn a_broker_without_clients_stops_on_either_signal() {
    let mut broker = Broker::start();
    stop(&mut broker);
    broker.restart();
    let asked = Instant::now();
    broker.process().signal(Signal::INT);
    broker.terminate().expect_code(0);
    assert!(asked.elapsed() < STOP_WITHIN, "it took {:?}", asked.elapsed());
}

#[test]
fn idle_clients_do_not_hold_it_up() {
    // given
    let mut broker = Broker::start();
    broker.text(&["send", "orders", "hello", "--create"]);
    let readers: Vec<_> =
        (0..3).map(|_| broker.client(&["tail", "orders", "--from", "earliest", "-f", "%v\\n"])).collect();
    for reader in &readers {
        assert_eq!(reader.stdout().next_line(LIMIT).as_deref(), Some("hello"));
    }
    // when
    stop(&mut broker);
    // then: they wait for it to come back
    broker.restart();
    broker.text(&["send", "orders", "again"]);
    for reader in &readers {
        assert_eq!(reader.stdout().next_line(LIMIT).as_deref(), Some("again"));
    }
}

#[test]
fn a_busy_client_does_not_hold_it_up_and_goes_on_afterwards() {
    // given
    let mut broker = Broker::start();
    broker.text(&["topic", "create", "orders"]);
    let lines = Lines::numbered(0, 300_000);
    let file = broker.file("lines.txt", lines.text().as_bytes());
    let sender = broker.client(&["send", "orders", "--file", &file, "--receipts", "--timeout", "60s"]);
    for _ in 0..1000 {
        sender.stdout().next_line(LIMIT).expect("a receipt");
    }
    // when
    stop(&mut broker);
    broker.restart();
    // then
    sender.finish().expect_code(0);
    assert!(values(&broker, "orders") == lines.text(), "what is stored is not what was sent");
}

#[test]
fn a_stopped_client_that_reads_nothing_does_not_hold_it_up() {
    // given: a reader that is stopped in the middle of a large topic
    let mut broker = Broker::start();
    let lines = Lines::numbered(0, 200_000);
    let file = broker.file("lines.txt", lines.text().as_bytes());
    broker.text(&["send", "orders", "--create", "--file", &file]);
    let reader = broker.client(&["tail", "orders", "--from", "earliest", "-f", "%v\\n"]);
    reader.stdout().next_line(LIMIT).expect("a first line");
    reader.signal(Signal::STOP);
    // when, then
    stop(&mut broker);
}
