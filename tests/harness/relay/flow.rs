//! The datagrams of one client, there and back.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{DATAGRAM_BYTES_MAX, Direction, Fate, Shared, bind};

/// A flow without a datagram from its client for so long is forgotten. Longer than any idle time-out of a connection.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(120);

/// Datagrams under way. More are lost, as in any router.
const UNDER_WAY_MAX: usize = 4096;

pub(super) struct Flow {
    shared: Arc<Shared>,
    /// The socket that clients send to, and the client.
    way_back: (Arc<UdpSocket>, SocketAddr),
    /// What the broker sees as the client.
    back: UdpSocket,
    /// How many of the relay's rebinds this port has seen.
    rebinds: u64,
    /// By the moment they are due, and in the order in which they came.
    under_way: BTreeMap<(Instant, u64), (Direction, Vec<u8>)>,
    count: u64,
}

impl Flow {
    pub(super) fn new(shared: Arc<Shared>, way_back: (Arc<UdpSocket>, SocketAddr), back: UdpSocket) -> Self {
        let rebinds = shared.rebinds.load(Ordering::Relaxed);
        Self { shared, way_back, back, rebinds, under_way: BTreeMap::new(), count: 0 }
    }

    pub(super) async fn run(mut self, mut from_client: mpsc::Receiver<Vec<u8>>) {
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
        let mut heard = Instant::now();
        loop {
            let due = self.under_way.keys().next().map_or(heard + FORGOTTEN_AFTER, |(due, _)| *due);
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(due) => {
                    if self.under_way.is_empty() {
                        return;
                    }
                    self.send_due().await;
                }
                datagram = from_client.recv() => {
                    let Some(datagram) = datagram else { return };
                    heard = Instant::now();
                    self.rebind();
                    self.take(Direction::ToBroker, datagram).await;
                }
                received = self.back.recv_from(&mut buffer) => {
                    // A broker that is dead shows as an error of the socket.
                    if let Ok((length, from)) = received && from == self.shared.broker {
                        let datagram = buffer.get(..length).unwrap_or_default().to_vec();
                        self.take(Direction::ToClients, datagram).await;
                    }
                }
            }
        }
    }

    /// Replaces the port that the broker sees, if that is due.
    fn rebind(&mut self) {
        let rebinds = self.shared.rebinds.load(Ordering::Relaxed);
        if rebinds != self.rebinds
            && let Ok(back) = bind()
        {
            self.back = back;
            self.rebinds = rebinds;
            self.shared.rebound.fetch_add(1, Ordering::Relaxed);
        }
    }

    async fn take(&mut self, direction: Direction, datagram: Vec<u8>) {
        match self.shared.fate(direction) {
            Fate::Lost => {}
            Fate::Once(after) => self.send_after(after, direction, datagram).await,
            Fate::Twice(first, second) => {
                self.send_after(first, direction, datagram.clone()).await;
                self.send_after(second, direction, datagram).await;
            }
        }
    }

    async fn send_after(&mut self, after: Duration, direction: Direction, datagram: Vec<u8>) {
        if after.is_zero() {
            self.send(direction, &datagram).await;
        } else if self.under_way.len() < UNDER_WAY_MAX {
            self.count += 1;
            self.under_way.insert((Instant::now() + after, self.count), (direction, datagram));
        }
    }

    async fn send_due(&mut self) {
        let now = Instant::now();
        while let Some(first) = self.under_way.first_entry().filter(|first| first.key().0 <= now) {
            let (direction, datagram) = first.remove();
            self.send(direction, &datagram).await;
        }
    }

    /// A datagram that the system does not take is lost, like one that nobody waits for.
    async fn send(&self, direction: Direction, datagram: &[u8]) {
        self.shared.passed.fetch_add(1, Ordering::Relaxed);
        let sent = match direction {
            Direction::ToBroker => self.back.send_to(datagram, self.shared.broker).await,
            Direction::ToClients => self.way_back.0.send_to(datagram, self.way_back.1).await,
        };
        drop(sent);
    }
}
