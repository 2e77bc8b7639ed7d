//! Carries datagrams between a peer and the broker, and drops the long ones of the peer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

/// Longest datagram there is.
const DATAGRAM_BYTES_MAX: usize = 1 << 16;

#[derive(Debug)]
pub(super) struct Relay {
    address: SocketAddr,
    /// Longest datagram of the peer that is let through.
    longest: Arc<AtomicU32>,
    dropped: Arc<AtomicU32>,
    task: JoinHandle<()>,
}

impl Relay {
    /// Starts to carry datagrams to this broker.
    pub(super) async fn start(broker: SocketAddr) -> std::io::Result<Self> {
        let peer_side = UdpSocket::bind("127.0.0.1:0").await?;
        let broker_side = UdpSocket::bind("127.0.0.1:0").await?;
        broker_side.connect(broker).await?;
        let address = peer_side.local_addr()?;
        let (longest, dropped) = (Arc::new(AtomicU32::new(u32::MAX)), Arc::new(AtomicU32::new(0)));
        let limits = (Arc::clone(&longest), Arc::clone(&dropped));
        let task = tokio::spawn(carry(peer_side, broker_side, limits));
        Ok(Self { address, longest, dropped, task })
    }

    /// Where the peer is to send.
    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on drops what is longer.
    pub(super) fn drop_longer_than(&self, bytes: u32) {
        self.longest.store(bytes, Ordering::Relaxed);
    }

    /// Datagrams that were dropped.
    pub(super) fn dropped(&self) -> u32 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(
    peer_side: UdpSocket,
    broker_side: UdpSocket,
    (longest, dropped): (Arc<AtomicU32>, Arc<AtomicU32>),
) {
    let mut peer = None;
    let (mut up, mut down) = (vec![0; DATAGRAM_BYTES_MAX], vec![0; DATAGRAM_BYTES_MAX]);
    loop {
        tokio::select! {
            Ok((length, from)) = peer_side.recv_from(&mut up) => {
                peer = Some(from);
                if length > longest.load(Ordering::Relaxed) as usize {
                    dropped.fetch_add(1, Ordering::Relaxed);
                } else {
                    broker_side.send(up.get(..length).unwrap_or_default()).await.ok();
                }
            }
            Ok(length) = broker_side.recv(&mut down) => {
                if let Some(peer) = peer {
                    peer_side.send_to(down.get(..length).unwrap_or_default(), peer).await.ok();
                }
            }
        }
    }
}
