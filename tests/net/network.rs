//! Datagrams from socket to socket, through whatever weather there is.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use harness::Random;
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, Runtime, UdpPoller};
use tokio::time::{Instant, Sleep};
use weir_client::Carrier;

use crate::time::{Fast, scaled};

/// Datagrams that may be under way to one socket: more are lost, as in any router.
const QUEUE_MAX: usize = 4096;

/// What happens to datagrams.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    /// How long one takes, at least and at most: one that takes longer is overtaken by others.
    pub(crate) delay_ms: (u64, u64),
    /// How many of a hundred are lost.
    pub(crate) loss: u64,
    /// How many of a hundred arrive twice.
    pub(crate) doubled: u64,
}

/// The network. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Network(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    random: Random,
    weather: Weather,
    is_cut: bool,
    /// Sockets by the address they are seen at.
    sockets: BTreeMap<SocketAddr, Queue>,
    next_port: u16,
    /// Where each client's socket is seen now, by its first address.
    seen_at: BTreeMap<SocketAddr, SocketAddr>,
    sent: u64,
}

/// When it arrives, its number, whom it is from, and its bytes.
type Datagram = (Instant, u64, SocketAddr, Vec<u8>);

/// What is under way to a socket.
#[derive(Debug, Default)]
struct Queue {
    datagrams: BinaryHeap<Reverse<Datagram>>,
    receiver: Option<Waker>,
}

impl Network {
    pub(crate) fn new(seed: u64, weather: Weather) -> Self {
        Self(Arc::new(Mutex::new(State {
            random: Random::new(seed),
            weather,
            is_cut: false,
            sockets: BTreeMap::new(),
            next_port: 1000,
            seen_at: BTreeMap::new(),
            sent: 0,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("nobody panics with it")
    }

    /// A socket that is seen at an address.
    pub(crate) fn socket(&self, address: SocketAddr) -> Arc<dyn AsyncUdpSocket> {
        let mut state = self.state();
        state.sockets.insert(address, Queue::default());
        state.seen_at.insert(address, address);
        drop(state);
        Arc::new(Socket { network: self.clone(), address, timer: Mutex::new(None) })
    }

    /// Lets nothing through any more, or everything again.
    pub(crate) fn cut(&self, is_cut: bool) {
        self.state().is_cut = is_cut;
    }

    /// All clients get another address, as from a router that has forgotten them. What is under way to the old one is lost.
    pub(crate) fn rebind(&self) {
        let mut state = self.state();
        let clients: Vec<SocketAddr> =
            state.seen_at.keys().copied().filter(|address| address.port() != BROKER_PORT).collect();
        for client in clients {
            let fresh = state.fresh_address();
            if let Some(old) = state.seen_at.insert(client, fresh)
                && let Some(mut queue) = state.sockets.remove(&old)
            {
                queue.datagrams.clear();
                state.sockets.insert(fresh, queue);
            }
        }
    }
}

/// The port brokers have; clients have others.
pub(crate) const BROKER_PORT: u16 = 7400;

impl State {
    fn fresh_address(&mut self) -> SocketAddr {
        self.next_port += 1;
        if self.next_port == BROKER_PORT {
            self.next_port += 1;
        }
        SocketAddr::from(([10, 0, 0, 2], self.next_port))
    }

    fn send(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        let Weather { delay_ms: (least, most), loss, doubled } = self.weather;
        let Some(from) = self.seen_at.get(&from).copied() else { return };
        let copies = 1 + u32::from(self.random.percent(doubled));
        for _ in 0..copies {
            self.sent += 1;
            let delay = Duration::from_millis(self.random.between(least, most));
            let is_lost = self.random.percent(loss) || self.is_cut;
            let Some(queue) = self.sockets.get_mut(&to) else { return };
            if is_lost || queue.datagrams.len() >= QUEUE_MAX {
                continue;
            }
            let due = Instant::now() + scaled(delay);
            queue.datagrams.push(Reverse((due, self.sent, from, bytes.to_vec())));
            if let Some(receiver) = queue.receiver.take() {
                receiver.wake();
            }
        }
    }
}

#[derive(Debug)]
struct Socket {
    network: Network,
    /// Its address as it sees it itself.
    address: SocketAddr,
    /// When the next datagram arrives.
    timer: Mutex<Option<Pin<Box<Sleep>>>>,
}

impl Drop for Socket {
    fn drop(&mut self) {
        let mut state = self.network.state();
        if let Some(seen_at) = state.seen_at.remove(&self.address) {
            state.sockets.remove(&seen_at);
        }
    }
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Writable)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.network.state().send(self.address, transmit.destination, transmit.contents);
        Ok(())
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.network.state();
        let seen_at = state.seen_at.get(&self.address).copied().unwrap_or(self.address);
        let Some(queue) = state.sockets.get_mut(&seen_at) else { return Poll::Pending };
        let now = Instant::now();
        if let Some(due) = queue.datagrams.peek().map(|Reverse((due, ..))| *due) {
            if due <= now
                && let Some(Reverse((_, _, from, bytes))) = queue.datagrams.pop()
            {
                let length = bytes.len().min(buffers[0].len());
                buffers[0][..length].copy_from_slice(&bytes[..length]);
                meta[0] = RecvMeta { addr: from, len: length, stride: length, ecn: None, dst_ip: None };
                return Poll::Ready(Ok(1));
            }
            let mut timer = Box::pin(tokio::time::sleep_until(due));
            if timer.as_mut().poll(context).is_ready() {
                context.waker().wake_by_ref();
            }
            *self.timer.lock().expect("nobody panics with it") = Some(timer);
        }
        queue.receiver = Some(context.waker().clone());
        Poll::Pending
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }

    fn may_fragment(&self) -> bool {
        false
    }
}

/// Datagrams can always be sent.
#[derive(Debug)]
struct Writable;

impl UdpPoller for Writable {
    fn poll_writable(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Carrier for Network {
    fn open(&self, _peer: SocketAddr) -> io::Result<(Arc<dyn AsyncUdpSocket>, Arc<dyn Runtime>)> {
        let address = self.state().fresh_address();
        Ok((self.socket(address), Arc::new(Fast)))
    }
}
