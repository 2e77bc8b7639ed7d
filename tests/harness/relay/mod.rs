//! A bad network between real clients and a real broker: a relay for UDP in user space, which needs no privilege.
//!
//! Clients send to the relay's address. It sends on to the broker, from a port of its own for each client, and back. What
//! becomes of each datagram follows from the seed and from how many came before it.

mod fate;
mod flow;

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::Random;
use fate::Fates;

pub use fate::{Fate, Way};

/// Largest datagram there is.
const DATAGRAM_BYTES_MAX: usize = 65_535;

/// Clients that are served at once: each try of a client to connect is one for the relay.
const FLOWS_MAX: usize = 512;

/// Datagrams of one client that wait to be looked at. More are lost, as in any router.
const INBOX: usize = 256;

/// The kernel's buffers of each socket: no more is to be lost than the seed says.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;

/// Whereto a datagram goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Direction {
    /// From clients to the broker.
    ToBroker,
    /// From the broker to clients.
    ToClients,
}

/// What the relay has done so far, in datagrams.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Sent on, copies included.
    pub passed: u64,
    /// Lost because the seed said so.
    pub lost: u64,
    /// Sent twice.
    pub doubled: u64,
    /// Ports towards the broker that were replaced by others.
    pub rebound: u64,
}

/// A relay in front of a broker. It ends when dropped.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    broker: SocketAddr,
    ways: Mutex<Ways>,
    /// How often all ports towards the broker were to be replaced.
    rebinds: AtomicU64,
    passed: AtomicU64,
    lost: AtomicU64,
    doubled: AtomicU64,
    rebound: AtomicU64,
}

#[derive(Debug)]
struct Ways {
    to_broker: (Way, Fates),
    to_clients: (Way, Fates),
}

impl Relay {
    /// Starts a relay on a port of its own that changes nothing yet.
    ///
    /// # Panics
    /// If there is no socket or thread for it.
    pub fn start(seed: u64, broker: SocketAddr) -> Self {
        let mut random = Random::new(seed);
        let mut way = || (Way::default(), Fates::new(random.fork()));
        let ways = Mutex::new(Ways { to_broker: way(), to_clients: way() });
        let zero = || AtomicU64::new(0);
        let (rebinds, passed, lost, doubled, rebound) = (zero(), zero(), zero(), zero(), zero());
        let shared = Arc::new(Shared { broker, ways, rebinds, passed, lost, doubled, rebound });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime can be made");
        let front = runtime.block_on(async { bind() }).expect("a port is free");
        let address = front.local_addr().expect("it is bound");
        let (stop, stopped) = oneshot::channel();
        let served = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = serve(served, Arc::new(front)) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { address, shared, stop: Some(stop), thread: Some(thread) }
    }

    /// Where clients find it.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes the way in one direction.
    pub fn set(&self, direction: Direction, way: Way) {
        self.shared.way(direction, |(current, _)| *current = way);
    }

    /// Makes all well again. What was held back still comes when it was to come.
    pub fn heal(&self) {
        self.set(Direction::ToBroker, Way::default());
        self.set(Direction::ToClients, Way::default());
    }

    /// From the next datagram of each client on, the broker sees it come from another port, as behind a router that has
    /// forgotten it. What the broker sends to the old port is lost.
    pub fn rebind(&self) {
        self.shared.rebinds.fetch_add(1, Ordering::Relaxed);
    }

    /// What it has done so far.
    pub fn counts(&self) -> Counts {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let Shared { passed, lost, doubled, rebound, .. } = &*self.shared;
        Counts { passed: load(passed), lost: load(lost), doubled: load(doubled), rebound: load(rebound) }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

impl Shared {
    fn way<R>(&self, direction: Direction, act: impl FnOnce(&mut (Way, Fates)) -> R) -> R {
        let mut ways = self.ways.lock().unwrap_or_else(PoisonError::into_inner);
        act(match direction {
            Direction::ToBroker => &mut ways.to_broker,
            Direction::ToClients => &mut ways.to_clients,
        })
    }

    fn fate(&self, direction: Direction) -> Fate {
        let fate = self.way(direction, |(way, fates)| fates.next(way));
        match fate {
            Fate::Lost => self.lost.fetch_add(1, Ordering::Relaxed),
            Fate::Once(_) => 0,
            Fate::Twice(..) => self.doubled.fetch_add(1, Ordering::Relaxed),
        };
        fate
    }
}

/// A socket on a free port of the loopback interface.
fn bind() -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    // The system may grant less: then a burst loses more than the seed says, which is no wrong.
    socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES).ok();
    socket.set_send_buffer_size(SOCKET_BUFFER_BYTES).ok();
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    UdpSocket::from_std(socket.into())
}

/// Hands what clients send to the flow of each.
async fn serve(shared: Arc<Shared>, front: Arc<UdpSocket>) {
    let mut flows: BTreeMap<SocketAddr, mpsc::Sender<Vec<u8>>> = BTreeMap::new();
    let mut tasks = JoinSet::new();
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        // A port of the client that is gone shows as an error of the socket, and concerns nobody else.
        let Ok((length, client)) = front.recv_from(&mut buffer).await else { continue };
        let datagram = buffer.get(..length).unwrap_or_default().to_vec();
        while tasks.try_join_next().is_some() {}
        flows.retain(|_, inbox| !inbox.is_closed());
        if !flows.contains_key(&client)
            && flows.len() < FLOWS_MAX
            && let Ok(back) = bind()
        {
            let (inbox, datagrams) = mpsc::channel(INBOX);
            flows.insert(client, inbox);
            let way_back = (Arc::clone(&front), client);
            tasks.spawn(flow::Flow::new(Arc::clone(&shared), way_back, back).run(datagrams));
        }
        if let Some(inbox) = flows.get(&client) {
            inbox.try_send(datagram).ok();
        }
    }
}

#[cfg(test)]
mod tests;
