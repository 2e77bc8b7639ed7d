//! The socket, and the door: who gets in, how many, and how long they may take.

mod places;

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use quinn::{AsyncUdpSocket, Endpoint, Incoming, Runtime, TokioRuntime};
use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::options::ConnectionLimits;
use crate::server::clock::Clock;
use crate::server::limits as fixed;
use crate::server::metrics::{Metrics, Refusal};
use crate::server::transport::{Profile, Transports};
pub use places::Place;
use places::Places;
pub(crate) use places::counted_address;

/// Why a broker cannot listen.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BindError {
    /// Another process has the port.
    #[error(
        "{address} is in use by another process ({protocol}): choose another port, or port 0 for a free one"
    )]
    InUse {
        /// Where it should listen.
        address: SocketAddr,
        /// UDP or TCP.
        protocol: &'static str,
    },
    /// The machine does not have the address.
    #[error("{address} is not an address of this machine")]
    NotAvailable {
        /// Where it should listen.
        address: SocketAddr,
    },
    /// The port needs a privilege.
    #[error("no permission to listen on {address}: ports below 1024 need a privilege")]
    Denied {
        /// Where it should listen.
        address: SocketAddr,
    },
    /// Anything else.
    #[error("cannot listen on {address}: {source}")]
    Other {
        /// Where it should listen.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

impl BindError {
    pub(crate) fn new(address: SocketAddr, protocol: &'static str, source: io::Error) -> Self {
        #[expect(clippy::wildcard_enum_match_arm, reason = "the system has many errors")]
        match source.kind() {
            io::ErrorKind::AddrInUse => Self::InUse { address, protocol },
            io::ErrorKind::AddrNotAvailable => Self::NotAvailable { address },
            io::ErrorKind::PermissionDenied => Self::Denied { address },
            _ => Self::Other { address, source },
        }
    }
}

/// What brings the datagrams of clients.
#[derive(Debug)]
pub enum Carrier {
    /// A socket of the system that is bound already.
    Socket(UdpSocket),
    /// Anything that passes datagrams on, such as a network inside a test, with the clock and the timers by which QUIC
    /// lives on it.
    Other {
        /// Takes and gives datagrams.
        socket: Arc<dyn AsyncUdpSocket>,
        /// Tells the time. Its tasks must run on tokio's current runtime.
        runtime: Arc<dyn Runtime>,
    },
}

impl Carrier {
    /// Where it receives.
    ///
    /// # Errors
    /// What the system said.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Socket(socket) => socket.local_addr(),
            Self::Other { socket, .. } => socket.local_addr(),
        }
    }
}

/// Opens the socket.
///
/// `[::]` listens on IPv4 too; any other address on its own family only.
///
/// # Errors
/// Why it cannot listen there.
pub fn bind(address: SocketAddr) -> Result<UdpSocket, BindError> {
    open_socket(address).map_err(|source| BindError::new(address, "UDP", source))
}

/// Serves QUIC on a socket. Nobody gets in before [`Door::run`]. Needs a runtime.
///
/// # Errors
/// What the system said.
pub fn serve(carrier: Carrier, transports: &Transports) -> io::Result<Endpoint> {
    let config = transports.endpoint_config();
    let server = Some(transports.server_config(Profile::Network).as_ref().clone());
    match carrier {
        Carrier::Socket(socket) => Endpoint::new(config, server, socket, Arc::new(TokioRuntime)),
        Carrier::Other { socket, runtime } => {
            Endpoint::new_with_abstract_socket(config, server, socket, runtime)
        }
    }
}

fn open_socket(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_recv_buffer_size(fixed::SOCKET_BUFFER_BYTES)?;
    socket.set_send_buffer_size(fixed::SOCKET_BUFFER_BYTES)?;
    socket.bind(&address.into())?;
    let (receive_bytes, send_bytes) = (socket.recv_buffer_size()?, socket.send_buffer_size()?);
    if receive_bytes.min(send_bytes) < fixed::SOCKET_BUFFER_BYTES {
        tracing::warn!(
            receive_bytes,
            send_bytes,
            wanted_bytes = fixed::SOCKET_BUFFER_BYTES,
            "the system limits socket buffers, packets may be lost under load: raise net.core.rmem_max and \
             net.core.wmem_max"
        );
    }
    Ok(socket.into())
}

/// How many may be inside.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DoorLimits {
    /// Connections of all peers together, those in the handshake included.
    pub connections_max: usize,
    /// Connections from one address; does not hold for the machine itself.
    pub connections_per_address_max: usize,
    /// Handshakes begun in a second. One address gets a quarter, unless it is the machine itself.
    pub handshakes_per_second: u32,
    /// Handshakes under way.
    pub handshakes_max: usize,
    /// Handshakes under way above which a peer must first prove its address.
    pub handshakes_unproven_max: usize,
    /// Time for a handshake.
    pub handshake_within: Duration,
}

impl Default for DoorLimits {
    fn default() -> Self {
        Self::from(&ConnectionLimits::default())
    }
}

impl From<&ConnectionLimits> for DoorLimits {
    fn from(limits: &ConnectionLimits) -> Self {
        Self {
            connections_max: limits.connections_max.map_or(fixed::CONNECTIONS_MAX, at_most),
            connections_per_address_max: limits.connections_per_address_max,
            handshakes_per_second: limits.handshakes_per_second,
            handshakes_max: fixed::HANDSHAKES_MAX,
            handshakes_unproven_max: fixed::HANDSHAKES_UNPROVEN_MAX,
            handshake_within: limits.handshake_within,
        }
    }
}

fn at_most(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// A peer that came in.
#[derive(Debug)]
pub struct Accepted {
    /// Its connection. It has one stream until [`crate::server::transport::admit`] is called, which is due once its
    /// greeting was answered, and small windows until more is moved through them.
    pub connection: quinn::Connection,
    /// Its place. To be dropped when the connection has ended: it is counted until then.
    pub place: Place,
    /// How it is carried.
    pub profile: Profile,
}

/// Lets peers in.
#[derive(Debug)]
pub struct Door {
    endpoint: Endpoint,
    transports: Transports,
    limits: DoorLimits,
    places: Places,
    clock: Clock,
    metrics: Arc<Metrics>,
}

impl Door {
    /// The door of this endpoint, which was made by [`bind`] with the same transports.
    pub fn new(
        endpoint: Endpoint,
        transports: Transports,
        limits: DoorLimits,
        metrics: Arc<Metrics>,
    ) -> Self {
        let places = Places::new(&limits);
        Self { endpoint, transports, limits, places, clock: Clock::start(), metrics }
    }

    /// Lets peers in and hands them to `on_connection`, which must not block, until `stop` is cancelled. From then
    /// on everybody is refused, so that clients look elsewhere at once; who is inside stays. Ends when the endpoint is
    /// closed.
    ///
    /// Each handshake runs in a task of its own, so that a peer that stalls keeps nobody waiting.
    ///
    /// # Cancel safety
    /// Handshakes under way end if it is dropped.
    pub async fn run(self, stop: CancellationToken, mut on_connection: impl FnMut(Accepted)) {
        let mut handshakes = JoinSet::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                Some(ended) = handshakes.join_next(), if !handshakes.is_empty() => {
                    if let Some(accepted) = self.finish(ended) {
                        on_connection(accepted);
                    }
                }
                incoming = self.endpoint.accept() => match incoming {
                    Some(incoming) => self.knock(incoming, &mut handshakes),
                    None => break,
                },
            }
        }
        handshakes.shutdown().await;
        while let Some(incoming) = self.endpoint.accept().await {
            self.refuse(incoming, Refusal::Draining);
        }
    }

    fn refuse(&self, incoming: Incoming, reason: Refusal) {
        self.metrics.connections_refused.increment(reason);
        incoming.refuse();
    }

    /// Somebody wants in.
    fn knock(&self, incoming: Incoming, handshakes: &mut JoinSet<Option<Accepted>>) {
        if handshakes.len() >= self.limits.handshakes_max {
            return self.refuse(incoming, Refusal::Handshakes);
        }
        if handshakes.len() >= self.limits.handshakes_unproven_max && !incoming.remote_address_validated() {
            self.metrics.connections_refused.increment(Refusal::Unproven);
            // An address that is not proven may always be asked for proof.
            let _never = incoming.retry();
            return;
        }
        let peer = incoming.remote_address();
        let place =
            match self.places.take(peer.ip(), &self.limits, self.clock.now().monotonic_us, &self.metrics) {
                Ok(place) => place,
                Err(reason) => return self.refuse(incoming, reason),
            };
        let profile = self.transports.profile_for(peer);
        let config = Arc::clone(self.transports.server_config(profile));
        let within = self.limits.handshake_within;
        handshakes.spawn(async move {
            let connection = handshake(incoming, config, within).await?;
            Some(Accepted { connection, place, profile })
        });
    }

    fn finish(&self, ended: Result<Option<Accepted>, JoinError>) -> Option<Accepted> {
        match ended {
            Ok(Some(accepted)) => {
                self.metrics.connections_accepted.increment();
                Some(accepted)
            }
            Ok(None) => {
                self.metrics.handshakes_failed.increment();
                None
            }
            Err(error) => {
                if error.is_panic() {
                    self.metrics.panics.increment();
                    tracing::error!(%error, "a handshake panicked");
                }
                None
            }
        }
    }
}

async fn handshake(
    incoming: Incoming,
    config: Arc<quinn::ServerConfig>,
    within: Duration,
) -> Option<quinn::Connection> {
    let peer = incoming.remote_address();
    let connected = async { incoming.accept_with(config)?.await };
    match tokio::time::timeout(within, connected).await {
        Ok(Ok(connection)) => Some(connection),
        Ok(Err(error)) => {
            tracing::debug!(%peer, %error, "the handshake failed");
            None
        }
        Err(_elapsed) => {
            tracing::debug!(%peer, "the handshake took too long");
            None
        }
    }
}

#[cfg(test)]
mod tests;
