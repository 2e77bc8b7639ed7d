//! How datagrams are made: sockets and the two profiles.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use quinn::congestion::CubicConfig;
use quinn::{
    AsyncUdpSocket, Endpoint, EndpointConfig, IdleTimeout, MtuDiscoveryConfig, Runtime, TokioRuntime,
    TransportConfig, VarInt,
};
use socket2::{Domain, Protocol, Socket, Type};

use crate::options::TransportProfile;

/// The kernel's buffer of a socket, each way: with its default, a window's worth of datagrams overflows it.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;

/// What may be under way on a connection, each way. Must stay under the socket's buffer.
const CONNECTION_WINDOW_BYTES: u32 = 2 << 20;
const _: () =
    assert!((CONNECTION_WINDOW_BYTES as usize) < SOCKET_BUFFER_BYTES, "nothing may overflow the socket");

/// What may be under way on one stream.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;

/// How soon an idle connection asks whether the broker is still there; one that has come back says no at once.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
const KEEP_ALIVE_LOOPBACK: Duration = Duration::from_secs(1);
const IDLE_TIMEOUT_MS: u32 = 30_000;

/// Largest datagram of the loopback profile. IPv4 and UDP headers leave 65,507.
const LOOPBACK_DATAGRAM_BYTES_MAX: u16 = 65_000;

/// First datagrams of the loopback profile: a handshake packet over 16 KiB breaks an assertion in the library.
const LOOPBACK_DATAGRAM_BYTES_INITIAL: u16 = 16_000;

/// First congestion window of the loopback profile: the default is smaller than one of its datagrams, and would stall.
const LOOPBACK_WINDOW_BYTES: u64 = 1 << 20;

/// First guess of the round trip on loopback, from which lost handshake packets are repeated.
const LOOPBACK_INITIAL_RTT: Duration = Duration::from_millis(20);

/// What takes a client's datagrams to brokers and theirs back, instead of a socket of the system: a tunnel, or a network
/// inside a test.
pub trait Carrier: std::fmt::Debug + Send + Sync {
    /// Opens a way to a broker: what takes and gives datagrams, and the clock and timers by which QUIC lives on it, whose
    /// tasks must run on tokio's current runtime. Called for each try to connect.
    ///
    /// # Errors
    /// Why there is no way. The client tries again.
    fn open(&self, peer: SocketAddr) -> io::Result<(Arc<dyn AsyncUdpSocket>, Arc<dyn Runtime>)>;
}

/// Whether an address is spoken to in the loopback profile.
pub(crate) fn is_loopback(profile: TransportProfile, address: SocketAddr) -> bool {
    match profile {
        TransportProfile::Auto => address.ip().to_canonical().is_loopback(),
        TransportProfile::Loopback => true,
        TransportProfile::Network => false,
    }
}

/// The settings of a connection.
pub(crate) fn config(is_loopback: bool) -> Arc<TransportConfig> {
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES))
        .send_window(u64::from(CONNECTION_WINDOW_BYTES))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .datagram_receive_buffer_size(None)
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE_TIMEOUT_MS))));
    if is_loopback {
        loopback(&mut config);
    }
    Arc::new(config)
}

fn loopback(config: &mut TransportConfig) {
    let mut discovery = MtuDiscoveryConfig::default();
    discovery
        .upper_bound(LOOPBACK_DATAGRAM_BYTES_MAX)
        // The last percent is not worth the probes.
        .minimum_change(512)
        // Loss on loopback means a full buffer, not a small frame: look again soon.
        .interval(Duration::from_secs(10))
        .black_hole_cooldown(Duration::from_secs(1));
    let mut congestion = CubicConfig::default();
    congestion.initial_window(LOOPBACK_WINDOW_BYTES);
    config
        .keep_alive_interval(Some(KEEP_ALIVE_LOOPBACK))
        .initial_rtt(LOOPBACK_INITIAL_RTT)
        .initial_mtu(LOOPBACK_DATAGRAM_BYTES_INITIAL)
        .mtu_discovery_config(Some(discovery))
        .congestion_controller_factory(Arc::new(congestion))
        // Ten datagrams are handed to the system at once with it, and more than 64 KiB together are dropped.
        .enable_segmentation_offload(false);
}

/// An endpoint on what the carrier opens, or on a socket of its own. Needs a tokio runtime around it.
pub(crate) fn endpoint(peer: SocketAddr, carrier: Option<&Arc<dyn Carrier>>) -> io::Result<Endpoint> {
    let mut config = EndpointConfig::default();
    config.max_udp_payload_size(65_527).map_err(io::Error::other)?;
    if let Some(carrier) = carrier {
        let (socket, runtime) = carrier.open(peer)?;
        return Endpoint::new_with_abstract_socket(config, None, socket, runtime);
    }
    let (domain, local): (_, SocketAddr) = match peer {
        SocketAddr::V4(_) => (Domain::IPV4, (Ipv4Addr::UNSPECIFIED, 0).into()),
        SocketAddr::V6(_) => (Domain::IPV6, (Ipv6Addr::UNSPECIFIED, 0).into()),
    };
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    // The system may grant less: slower under load, not wrong.
    drop(socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES));
    drop(socket.set_send_buffer_size(SOCKET_BUFFER_BYTES));
    socket.bind(&local.into())?;
    Endpoint::new(config, None, socket.into(), Arc::new(TokioRuntime))
}

/// Whether nothing listens at a loopback address. The kernel says so at once there, but the QUIC library does not listen to
/// it; without this look every try would take its full time-out.
pub(crate) fn is_refused(peer: SocketAddr) -> bool {
    if !peer.ip().to_canonical().is_loopback() {
        return false;
    }
    let look = || -> io::Result<bool> {
        let local: SocketAddr = match peer {
            SocketAddr::V4(_) => (Ipv4Addr::LOCALHOST, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::LOCALHOST, 0).into(),
        };
        let socket = UdpSocket::bind(local)?;
        socket.connect(peer)?;
        socket.send(&[])?;
        let error = socket.take_error()?;
        Ok(error.is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused))
    };
    look().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_whether_somebody_listens_on_loopback() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        assert!(!is_refused(address));
        drop(socket);
        assert!(is_refused(address));
    }

    #[test]
    fn the_profile_follows_the_address() {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert!(is_loopback(TransportProfile::Auto, address("127.0.0.9:1")));
        assert!(is_loopback(TransportProfile::Auto, address("[::1]:1")));
        assert!(!is_loopback(TransportProfile::Auto, address("10.0.0.1:1")));
        assert!(!is_loopback(TransportProfile::Network, address("127.0.0.1:1")));
    }
}
