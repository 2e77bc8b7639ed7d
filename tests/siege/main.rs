//! The real binary with little memory, while clients do what they can to take more: it lives, it holds no more than it was
//! given, and those who behave lose nothing.
//!
//! `WEIR_MEMORY=512MiB cargo test -p tests --test siege` is the same with 10,000 subscriptions that stand still, for longer.
//! Where the system lets us make a control group, the broker lives in one of 1.25 times its memory.

#![expect(clippy::unwrap_used, reason = "a panic in a test is a failure with a line number")]

mod besiegers;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use harness::bare::{Abuse, Reading, Stalled};
use harness::{Broker, Cage, Watch};
use weir_protocol::units::TopicId;

use besiegers::Besiegers;

/// Longest that subscriptions may take until they are open.
const OPEN_WITHIN: Duration = Duration::from_secs(60);

/// How much of everything there is.
struct Size {
    memory: String,
    connections_max: &'static str,
    /// Connections with subscriptions that stand still, of each kind, and how many each of them has.
    stalled: (usize, usize),
    seconds: u64,
    /// Records in a second of a producer whose records are read as they come.
    rate: u64,
}

impl Size {
    fn chosen() -> Self {
        match std::env::var("WEIR_MEMORY") {
            Ok(memory) => {
                Self { memory, connections_max: "200", stalled: (50, 100), seconds: 60, rate: 2000 }
            }
            Err(_) => Self {
                memory: "96MiB".to_owned(),
                connections_max: "80",
                stalled: (10, 30),
                seconds: 10,
                rate: 500,
            },
        }
    }

    fn memory_bytes(&self) -> u64 {
        let mebibytes: u64 = self.memory.strip_suffix("MiB").unwrap().parse().unwrap();
        mebibytes << 20
    }
}

/// A topic with records in batches of some size.
fn topic(broker: &Broker, name: &str, batch: &str) -> (SocketAddr, TopicId) {
    broker.text(&["topic", "create", name]);
    broker.text(&["bench", "send", "--records", "10000", "--topic", name, "--batch", batch]);
    (broker.address(), broker.topic_id(name))
}

#[test]
fn whatever_clients_do_the_broker_keeps_to_its_memory_and_honest_ones_lose_nothing() {
    let size = Size::chosen();
    let memory_bytes = size.memory_bytes();
    let broker = Broker::start_with(
        &[
            &["--memory", &size.memory, "--connections-max", size.connections_max][..],
            &["--stalled-timeout", "2s", "--handshake-timeout", "1s"],
        ]
        .concat(),
    );
    let id = broker.process().id();
    let cage = Cage::around(id, memory_bytes / 4 * 5);
    let watch = Watch::over(id);

    // Some take what they were granted, others were granted too little for a single batch.
    let (small, large) = (topic(&broker, "small", "16KiB"), topic(&broker, "large", "512KiB"));
    let (connections, lanes) = size.stalled;
    let still =
        [small, large].map(|topic| Stalled::open(topic, (connections, lanes), Reading::Granted(64 << 10)));
    let slow = Stalled::open(large, (4, 10), Reading::ByteByByte);
    let deaf = Stalled::open(large, (4, 10), Reading::Never);
    still.iter().for_each(|still| still.wait_for(connections * lanes, OPEN_WITHIN));
    slow.wait_for(40, OPEN_WITHIN);

    let besiegers = Besiegers::start(broker.address());
    let until = Instant::now() + Duration::from_secs(size.seconds);
    let (records, rate) = ((size.rate * size.seconds).to_string(), format!("{}/s", size.rate));
    let steady = broker.client(&["bench", "e2e", "--topic", "small", "--records", &records, "--rate", &rate]);
    let mut rounds = 0;
    while Instant::now() < until || !steady.has_ended() {
        // Each reads back what it sent, and fails if anything is missing.
        broker.text(&["bench", "send", "--records", "30000"]);
        broker.text(&["bench", "tail", "--records", "10000", "--producers", "4", "--partitions", "4"]);
        rounds += 1;
    }
    steady.finish().expect_code(0);
    let ended = besiegers.finish();
    let left: usize = still.iter().map(Stalled::lanes).sum();
    assert_eq!(left, 2 * connections * lanes, "who stands still within what was granted to it stays");
    drop((still, slow, deaf));
    broker.text(&["bench", "e2e", "--records", "1000"]);

    let held = watch.finish();
    let enforced = cage.as_ref().map_or("nothing", Cage::version);
    println!(
        "{rounds} rounds; {enforced} enforces the limit; most of {} looks: {} bytes; closed: {ended:?}",
        held.looks, held.peak_bytes
    );
    assert!(!broker.process().has_ended(), "the broker lives");
    assert_eq!(cage.as_ref().map_or(0, Cage::kills), 0);
    assert!(held.peak_bytes <= memory_bytes, "{} bytes of {memory_bytes}", held.peak_bytes);
    for (abuse, times) in Abuse::ALL.iter().zip(&ended) {
        assert!(*times > 0, "{abuse:?} was never closed with a code: {ended:?}");
    }
    drop(broker);
    drop(cage);
}
