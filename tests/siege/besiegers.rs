//! All misbehaving clients at once, each coming again when it was turned away.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use harness::bare::{Abuse, connect_with};
use quinn::TransportConfig;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

/// Connections that knock together.
const STORM: usize = 30;

/// Longest that one that misbehaves is waited for at the end.
const END_WITHIN: Duration = Duration::from_secs(30);

/// Between two tries of one that misbehaves.
const PAUSE: Duration = Duration::from_millis(100);

/// Misbehaving clients, each on a thread of its own.
pub(crate) struct Besiegers {
    stop: Arc<AtomicBool>,
    abusers: Vec<JoinHandle<u32>>,
    others: Vec<JoinHandle<()>>,
}

impl Besiegers {
    /// Starts one for each way to misbehave.
    pub(crate) fn start(broker: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let abusers = Abuse::ALL.map(|abuse| {
            let stop = Arc::clone(&stop);
            thread::spawn(move || abuse_again_and_again(abuse, broker, &stop))
        });
        let (storm, garbage) = (Arc::clone(&stop), Arc::clone(&stop));
        let others = vec![
            thread::spawn(move || storms(broker, &storm)),
            thread::spawn(move || garbage_datagrams(broker, &garbage)),
        ];
        Self { stop, abusers: abusers.into(), others }
    }

    /// Ends them. Says how often each way of [`Abuse::ALL`] ended with a code.
    pub(crate) fn finish(self) -> Vec<u32> {
        self.stop.store(true, Ordering::Relaxed);
        self.others.into_iter().for_each(|other| other.join().expect("they do not panic"));
        self.abusers.into_iter().map(|abuser| abuser.join().expect("they do not panic")).collect()
    }
}

fn runtime() -> Runtime {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("the system gives a reactor")
}

fn abuse_again_and_again(abuse: Abuse, broker: SocketAddr, stop: &AtomicBool) -> u32 {
    let mut closed = 0;
    runtime().block_on(async {
        while !stop.load(Ordering::Relaxed) {
            if let Ok(Ok(_code)) = tokio::time::timeout(END_WITHIN, abuse.commit(broker)).await {
                closed += 1;
            }
            tokio::time::sleep(PAUSE).await;
        }
    });
    closed
}

fn storms(broker: SocketAddr, stop: &AtomicBool) {
    runtime().block_on(async {
        while !stop.load(Ordering::Relaxed) {
            let mut attempts = JoinSet::new();
            for _ in 0..STORM {
                attempts.spawn(connect_with(broker, b"weir/1", TransportConfig::default()));
            }
            attempts.join_all().await;
            tokio::time::sleep(PAUSE).await;
        }
    });
}

/// Some look like the first packet of a connection, some like one of an unknown version, some like nothing.
fn garbage_datagrams(broker: SocketAddr, stop: &AtomicBool) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("there are sockets");
    let mut number = 0u32;
    while !stop.load(Ordering::Relaxed) {
        number = number.wrapping_add(1);
        let length = 1 + number.wrapping_mul(2_654_435_761) % 1400;
        let mut packet: Vec<u8> = (0..length).map(|at| (at ^ number).to_le_bytes()[0]).collect();
        if let (Some(first), 1 | 2) = (packet.first_mut(), number % 3) {
            *first = 0xc0 | (number.to_le_bytes()[0] & 0x3f);
        }
        if let (Some(version), 1) = (packet.get_mut(1..5), number % 3) {
            version.copy_from_slice(&1u32.to_be_bytes());
        }
        socket.send_to(&packet, broker).ok();
        if number.is_multiple_of(16) {
            thread::sleep(Duration::from_millis(1));
        }
    }
}
