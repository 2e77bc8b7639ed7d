//! How QUIC is used: two profiles, chosen for each connection by the address of the peer.
//!
//! On loopback, datagrams are as large as they get: several times the throughput for a third of the work. On a
//! network they have the size of its frames and are cut by the network card.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::congestion::CubicConfig;
use quinn::crypto::HmacKey;
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{EndpointConfig, IdleTimeout, MtuDiscoveryConfig, ServerConfig, TransportConfig, VarInt};
use quinn_proto::HashedConnectionIdGenerator;

use crate::options::{ConnectionLimits, TransportChoice};
use crate::plan::FIRST_WINDOW_BYTES;
use crate::server::limits as fixed;
use crate::server::tls::TlsIdentity;

/// How a connection is carried.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Profile {
    /// Jumbo datagrams, for peers on the same machine.
    Loopback,
    /// Standard datagrams.
    Network,
}

impl Profile {
    /// Its name, as in options and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Loopback => "loopback",
            Self::Network => "network",
        }
    }
}

/// The settings of both profiles.
#[derive(Clone)]
pub struct Transports {
    choice: TransportChoice,
    loopback: Arc<ServerConfig>,
    network: Arc<ServerConfig>,
    reset_key: Arc<dyn HmacKey>,
    connection_id_key: u64,
}

impl std::fmt::Debug for Transports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transports").field("choice", &self.choice).finish_non_exhaustive()
    }
}

impl Transports {
    /// Settings for connections with this handshake.
    pub fn new(choice: TransportChoice, limits: &ConnectionLimits, tls: &TlsIdentity) -> Self {
        let config = |profile| Arc::new(server_config(profile, limits, Arc::clone(tls.crypto())));
        Self {
            choice,
            loopback: config(Profile::Loopback),
            network: config(Profile::Network),
            reset_key: tls.reset_key(),
            connection_id_key: tls.connection_id_key(),
        }
    }

    /// The profile for a peer at this address.
    pub fn profile_for(&self, peer: SocketAddr) -> Profile {
        match self.choice {
            // A socket for both families shows IPv4 addresses as mapped ones.
            TransportChoice::Auto if peer.ip().to_canonical().is_loopback() => Profile::Loopback,
            TransportChoice::Auto | TransportChoice::Network => Profile::Network,
            TransportChoice::Loopback => Profile::Loopback,
        }
    }

    /// The settings of a profile.
    pub const fn server_config(&self, profile: Profile) -> &Arc<ServerConfig> {
        match profile {
            Profile::Loopback => &self.loopback,
            Profile::Network => &self.network,
        }
    }

    /// The settings of the socket that serves all connections.
    pub fn endpoint_config(&self) -> EndpointConfig {
        let mut config = EndpointConfig::new(Arc::clone(&self.reset_key));
        let key = self.connection_id_key;
        config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(key)));
        match self.choice {
            TransportChoice::Auto | TransportChoice::Loopback => accept_jumbo(&mut config),
            TransportChoice::Network => {}
        }
        config
    }
}

fn accept_jumbo(config: &mut EndpointConfig) {
    config.max_udp_payload_size(fixed::DATAGRAM_BYTES_MAX).expect("the largest size there is is allowed");
}

/// Gives a peer whose greeting was answered the streams it may use. Until then it has one. Its windows become wider
/// with what moves through them.
pub fn admit(connection: &quinn::Connection, limits: &ConnectionLimits) {
    connection.set_max_concurrent_bi_streams(limits.streams_max.into());
}

fn server_config(profile: Profile, limits: &ConnectionLimits, crypto: Arc<QuicServerConfig>) -> ServerConfig {
    let mut config = ServerConfig::with_crypto(crypto);
    config
        .transport_config(Arc::new(transport_config(profile, limits)))
        .max_incoming(fixed::HANDSHAKES_MAX)
        .incoming_buffer_size(fixed::INCOMING_BUFFER_BYTES)
        .incoming_buffer_size_total(fixed::INCOMING_BUFFERS_BYTES)
        .retry_token_lifetime(fixed::RETRY_TOKEN_LIFETIME)
        // Nobody leaves loopback; a client behind a router may get another address.
        .migration(match profile {
            Profile::Loopback => false,
            Profile::Network => true,
        });
    config
}

fn transport_config(profile: Profile, limits: &ConnectionLimits) -> TransportConfig {
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(fixed::STREAMS_BEFORE_GREETING.into())
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(fixed::STREAM_WINDOW_BYTES.min(limits.window_bytes).into())
        .receive_window(FIRST_WINDOW_BYTES.into())
        .send_window(FIRST_WINDOW_BYTES.into())
        .datagram_receive_buffer_size(None)
        .max_idle_timeout(Some(
            IdleTimeout::try_from(limits.idle_timeout).expect("a day in milliseconds is small"),
        ))
        // Clients keep a connection alive if they want it: those that are gone must not be kept.
        .keep_alive_interval(None);
    match profile {
        Profile::Loopback => loopback(&mut config),
        Profile::Network => {}
    }
    config
}

fn loopback(config: &mut TransportConfig) {
    let mut discovery = MtuDiscoveryConfig::default();
    discovery
        .upper_bound(fixed::LOOPBACK_DATAGRAM_BYTES_MAX)
        // The last percent is not worth the probes.
        .minimum_change(512)
        // Loss on loopback means a full buffer, not a small frame: look again soon.
        .interval(Duration::from_secs(10))
        .black_hole_cooldown(Duration::from_secs(1));
    let mut congestion = CubicConfig::default();
    congestion.initial_window(fixed::LOOPBACK_INITIAL_WINDOW_BYTES);
    config
        .initial_mtu(fixed::LOOPBACK_DATAGRAM_BYTES_INITIAL)
        .mtu_discovery_config(Some(discovery))
        .congestion_controller_factory(Arc::new(congestion))
        // Ten datagrams are handed to the system at once with it, and more than 64 KiB together are dropped.
        .enable_segmentation_offload(false);
}
