use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, ConnectionError, EndpointConfig, PathStats, TransportConfig};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::*;
use crate::options::TransportChoice;
use crate::server::limits;
use crate::server::tls::{ALPN, TlsIdentity};
use crate::server::transport::admit;

const PATIENCE: Duration = Duration::from_secs(30);

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it happens soon")
}

fn localhost() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

/// A door with a certificate of its own.
struct Served {
    address: SocketAddr,
    directory: PathBuf,
    metrics: Arc<Metrics>,
    endpoint: Endpoint,
    accepted: mpsc::Receiver<Accepted>,
    stop: CancellationToken,
    door: JoinHandle<()>,
}

impl Served {
    fn start(address: SocketAddr, choice: TransportChoice, limits: DoorLimits) -> Self {
        let directory = std::env::temp_dir().join(format!("weir-door-{}", uuid::Uuid::new_v4()));
        let tls = TlsIdentity::load(&directory, None, None).unwrap();
        let transports = Transports::new(choice, &ConnectionLimits::default(), &tls);
        let endpoint = serve(Carrier::Socket(bind(address).unwrap()), &transports).unwrap();
        let metrics = Arc::new(Metrics::default());
        let stop = CancellationToken::new();
        let (sender, accepted) = mpsc::channel(64);
        let door = Door::new(endpoint.clone(), transports, limits, Arc::clone(&metrics));
        let door = tokio::spawn(door.run(stop.clone(), move |new| {
            sender.try_send(new).expect("no test opens so many");
        }));
        let address = endpoint.local_addr().unwrap();
        Self { address, directory, metrics, endpoint, accepted, stop, door }
    }

    fn with_limits(limits: DoorLimits) -> Self {
        Self::start(localhost(), TransportChoice::Auto, limits)
    }

    /// A client that trusts the certificate, with this protocol and with datagrams of any size.
    fn client(&self, alpn: &[&[u8]]) -> Endpoint {
        self.client_with(alpn, TransportConfig::default())
    }

    fn client_with(&self, alpn: &[&[u8]], transport: TransportConfig) -> Endpoint {
        let certificate = CertificateDer::from_pem_file(self.directory.join("cert.pem")).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificate).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut crypto = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        crypto.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(crypto).unwrap()));
        config.transport_config(Arc::new(transport));
        let mut jumbo = EndpointConfig::default();
        jumbo.max_udp_payload_size(65_527).unwrap();
        let socket = open_socket(localhost()).unwrap();
        let mut client = Endpoint::new(jumbo, None, socket, Arc::new(TokioRuntime)).unwrap();
        client.set_default_client_config(config);
        client
    }

    async fn connect(&self, client: &Endpoint) -> Result<quinn::Connection, ConnectionError> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.address.port()));
        soon(client.connect(address, "localhost").unwrap()).await
    }

    async fn next(&mut self) -> Accepted {
        soon(self.accepted.recv()).await.unwrap()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.directory).unwrap();
    }
}

fn assert_refused(connected: Result<quinn::Connection, ConnectionError>) {
    match connected {
        Err(ConnectionError::ConnectionClosed(close)) => {
            assert_eq!(close.error_code, quinn::TransportErrorCode::CONNECTION_REFUSED);
        }
        other => panic!("it should have been refused: {other:?}"),
    }
}

#[tokio::test]
async fn a_peer_comes_in_and_its_place_is_free_again_when_it_has_left() {
    let mut served = Served::with_limits(DoorLimits::default());
    let client = served.client(&[ALPN]);

    let connection = served.connect(&client).await.unwrap();
    let accepted = served.next().await;

    assert_eq!(accepted.profile, Profile::Loopback);
    assert_eq!(accepted.connection.remote_address(), client.local_addr().unwrap());
    assert_eq!((served.metrics.connections.value(), served.metrics.connections_accepted.value()), (1, 1));
    drop(connection);
    drop(accepted);
    assert_eq!(served.metrics.connections.value(), 0);
}

#[tokio::test]
async fn a_peer_with_another_protocol_or_none_is_turned_away() {
    let mut served = Served::with_limits(DoorLimits::default());
    let other: &[&[u8]] = &[b"h3"];
    for alpn in [other, &[]] {
        let error = served.connect(&served.client(alpn)).await.unwrap_err();
        // The TLS alert for it is 120.
        let ConnectionError::ConnectionClosed(close) = error else { panic!("{error:?}") };
        assert_eq!(u64::from(close.error_code), 0x178);
    }
    served.connect(&served.client(&[b"h3", ALPN])).await.unwrap();
    served.next().await;
    assert_eq!(served.metrics.connections_accepted.value(), 1);
}

#[tokio::test]
async fn garbage_is_ignored() {
    let mut served = Served::with_limits(DoorLimits::default());
    let garbage = UdpSocket::bind(localhost()).unwrap();
    for length in [1, 20, 1200, 1472, 9000, 60_000] {
        for byte in [0x00, 0x40, 0xc0, 0xff] {
            garbage.send_to(&vec![byte; length], served.address).unwrap();
        }
    }
    served.connect(&served.client(&[ALPN])).await.unwrap();
    served.next().await;
}

#[tokio::test]
async fn a_stranger_has_one_stream_until_it_is_admitted() {
    let mut served = Served::with_limits(DoorLimits::default());
    let client = served.client(&[ALPN]);
    let connection = served.connect(&client).await.unwrap();
    let accepted = served.next().await;

    let mut control = connection.open_bi().await.unwrap();
    let mut second = Box::pin(connection.open_bi());
    control.0.write_all(b"hello").await.unwrap();
    // By the time the bytes have come and gone the second stream would have been opened.
    let (mut answer, mut greeting) = soon(accepted.connection.accept_bi()).await.unwrap();
    let mut bytes = [0; 5];
    soon(greeting.read_exact(&mut bytes)).await.unwrap();
    answer.write_all(b"hello").await.unwrap();
    tokio::select! {
        biased;
        _ = &mut second => panic!("a stranger got a second stream"),
        read = control.1.read_exact(&mut bytes) => read.unwrap(),
    }

    admit(&accepted.connection, &ConnectionLimits::default());
    let mut streams = vec![soon(second).await.unwrap()];
    for _ in 2..ConnectionLimits::default().streams_max {
        streams.push(soon(connection.open_bi()).await.unwrap());
    }
    assert!(soon(connection.open_uni()).now_or_never().is_none(), "nobody needs streams of one direction");
}

trait NowOrNever: Future + Sized {
    /// The output, if it is ready at once.
    fn now_or_never(self) -> Option<Self::Output> {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match std::pin::pin!(self).poll(&mut context) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        }
    }
}

impl<F: Future> NowOrNever for F {}

#[tokio::test]
async fn no_more_than_all_places_are_taken() {
    let limits = DoorLimits { connections_max: 1, ..DoorLimits::default() };
    let mut served = Served::with_limits(limits);
    let client = served.client(&[ALPN]);
    let _first = served.connect(&client).await.unwrap();
    let first = served.next().await;

    assert_refused(served.connect(&client).await);
    assert_eq!(served.metrics.connections_refused.value(Refusal::Connections), 1);

    drop(first);
    served.connect(&client).await.unwrap();
    served.next().await;
}

#[tokio::test]
async fn too_many_handshakes_are_refused() {
    let served = Served::with_limits(DoorLimits { handshakes_max: 0, ..DoorLimits::default() });
    assert_refused(served.connect(&served.client(&[ALPN])).await);
    assert_eq!(served.metrics.connections_refused.value(Refusal::Handshakes), 1);
}

#[tokio::test]
async fn a_storm_of_connections_is_refused_at_the_door_and_passes() {
    let mut served = Served::with_limits(DoorLimits { handshakes_per_second: 1, ..DoorLimits::default() });
    let client = served.client(&[ALPN]);
    served.connect(&client).await.unwrap();
    served.next().await;
    assert_refused(served.connect(&client).await);
    let refused = served.metrics.connections_refused.value(Refusal::Rate);
    assert!(refused >= 1);
    let later = async { while served.connect(&client).await.is_err() {} };
    soon(later).await;
    served.next().await;
}

#[tokio::test]
async fn under_load_a_peer_proves_its_address_and_comes_in() {
    let mut served = Served::with_limits(DoorLimits { handshakes_unproven_max: 0, ..DoorLimits::default() });
    served.connect(&served.client(&[ALPN])).await.unwrap();
    served.next().await;
    assert_eq!(served.metrics.connections_refused.value(Refusal::Unproven), 1);
}

#[tokio::test]
async fn a_peer_that_stalls_in_the_handshake_holds_up_nobody_and_is_dropped() {
    let mut served = Served::with_limits(DoorLimits {
        connections_max: 2,
        handshake_within: Duration::from_millis(200),
        ..DoorLimits::default()
    });
    // A relay that lets only the first datagram of a client through.
    let relay = tokio::net::UdpSocket::bind(localhost()).await.unwrap();
    let staller = served.client(&[ALPN]);
    let stalled = staller.connect(relay.local_addr().unwrap(), "localhost").unwrap();
    let mut datagram = vec![0; 65_536];
    let (length, _) = soon(relay.recv_from(&mut datagram)).await.unwrap();
    relay.send_to(&datagram[..length], served.address).await.unwrap();
    soon(relay.recv_from(&mut datagram)).await.unwrap();
    assert_eq!(served.metrics.connections.value(), 1, "its handshake is under way");

    let client = served.client(&[ALPN]);
    let _connection = served.connect(&client).await.unwrap();
    let first = served.next().await;
    // Its place is given to another when its time is over.
    let refused_or_in = async {
        loop {
            if let Ok(connection) = served.connect(&client).await {
                return connection;
            }
        }
    };
    // Far less than the time in which a silent connection ends by itself.
    let _second = tokio::time::timeout(ConnectionLimits::default().idle_timeout / 3, refused_or_in)
        .await
        .expect("it is let in");
    assert_eq!(served.metrics.handshakes_failed.value(), 1);
    drop((first, stalled));
}

#[tokio::test]
async fn newcomers_are_refused_after_the_end_and_who_is_inside_stays() {
    let mut served = Served::with_limits(DoorLimits::default());
    let client = served.client(&[ALPN]);
    let connection = served.connect(&client).await.unwrap();
    let accepted = served.next().await;

    served.stop.cancel();

    assert_refused(served.connect(&client).await);
    assert_eq!(served.metrics.connections_refused.value(Refusal::Draining), 1);
    let (mut send, _receive) = connection.open_bi().await.unwrap();
    send.write_all(b"still here").await.unwrap();
    let (_send, mut receive) = soon(accepted.connection.accept_bi()).await.unwrap();
    let mut bytes = [0; 10];
    soon(receive.read_exact(&mut bytes)).await.unwrap();
    assert_eq!(&bytes, b"still here");
    assert!(!served.door.is_finished());

    served.endpoint.close(0_u32.into(), b"");
    soon(&mut served.door).await.unwrap();
    assert_eq!(served.metrics.connections_accepted.value(), 1);
}

/// Admits a peer, and opens the windows of a busy connection.
fn admit_widely(connection: &quinn::Connection) {
    let limits = ConnectionLimits::default();
    admit(connection, &limits);
    connection.set_receive_window(limits.window_bytes.into());
    connection.set_send_window(limits.window_bytes.into());
}

/// Sends from the server for long enough that datagrams grow to what the path takes.
async fn path_after_growth(served: &mut Served) -> PathStats {
    let client = served.client(&[ALPN]);
    let connection = served.connect(&client).await.unwrap();
    let accepted = served.next().await;
    admit_widely(&accepted.connection);
    let (mut send, mut incoming) = connection.open_bi().await.unwrap();
    send.write_all(b"x").await.unwrap();
    let (mut answer, mut receive) = soon(accepted.connection.accept_bi()).await.unwrap();
    soon(receive.read_exact(&mut [0])).await.unwrap();
    let chunk = vec![7; 300_000];
    let mut back = vec![0; chunk.len()];
    for _ in 0..100 {
        let (sent, read) =
            soon(async { tokio::join!(answer.write_all(&chunk), incoming.read_exact(&mut back)) }).await;
        sent.unwrap();
        read.unwrap();
    }
    accepted.connection.stats().path
}

#[tokio::test]
async fn datagrams_grow_to_jumbo_size_on_loopback() {
    let mut served = Served::start(localhost(), TransportChoice::Auto, DoorLimits::default());
    let path = path_after_growth(&mut served).await;
    assert!((60_000..=limits::LOOPBACK_DATAGRAM_BYTES_MAX).contains(&path.current_mtu), "{path:?}");
    assert!(path.lost_packets * 20 <= path.sent_packets, "{path:?}");
}

#[tokio::test]
async fn datagrams_keep_the_size_of_the_network_when_asked() {
    let mut served = Served::start(localhost(), TransportChoice::Network, DoorLimits::default());
    let path = path_after_growth(&mut served).await;
    assert!((1400..=1452).contains(&path.current_mtu), "{path:?}");
}

/// What a client on the same machine uses.
fn jumbo() -> TransportConfig {
    let mut transport = TransportConfig::default();
    let mut discovery = quinn::MtuDiscoveryConfig::default();
    discovery.upper_bound(limits::LOOPBACK_DATAGRAM_BYTES_MAX);
    let mut congestion = quinn::congestion::CubicConfig::default();
    congestion.initial_window(limits::LOOPBACK_INITIAL_WINDOW_BYTES);
    transport
        .initial_mtu(limits::LOOPBACK_DATAGRAM_BYTES_INITIAL)
        .mtu_discovery_config(Some(discovery))
        .congestion_controller_factory(Arc::new(congestion))
        .send_window(ConnectionLimits::default().window_bytes.into())
        .enable_segmentation_offload(false);
    transport
}

#[tokio::test]
async fn many_streams_with_jumbo_datagrams_overrun_no_buffer() {
    const STREAMS: usize = 8;
    const BYTES: usize = 16 << 20;
    let mut served = Served::with_limits(DoorLimits::default());
    let client = served.client_with(&[ALPN], jumbo());
    let connection = served.connect(&client).await.unwrap();
    let accepted = served.next().await;
    admit_widely(&accepted.connection);

    let mut senders = JoinSet::new();
    for _ in 0..STREAMS {
        let connection = connection.clone();
        senders.spawn(async move {
            let (mut send, _receive) = connection.open_bi().await.unwrap();
            for _ in 0..BYTES >> 16 {
                send.write_chunk(bytes::Bytes::from_static(&[7; 1 << 16])).await.unwrap();
            }
            send.finish().unwrap();
            send.stopped().await.unwrap();
        });
    }
    let mut receivers = JoinSet::new();
    for _ in 0..STREAMS {
        let (_send, mut receive) = soon(accepted.connection.accept_bi()).await.unwrap();
        receivers.spawn(async move {
            let mut bytes = 0;
            while let Some(chunk) = receive.read_chunk(usize::MAX, true).await.unwrap() {
                bytes += chunk.bytes.len();
            }
            bytes
        });
    }

    let received: usize = soon(receivers.join_all()).await.into_iter().sum();
    soon(senders.join_all()).await;
    assert_eq!(received, STREAMS * BYTES);
    let path = connection.stats().path;
    assert_eq!(path.black_holes_detected, 0, "{path:?}");
    assert!(path.current_mtu >= 60_000, "{path:?}");
    let probe = Socket::from(open_socket(localhost()).unwrap());
    if probe.recv_buffer_size().unwrap() < limits::SOCKET_BUFFER_BYTES {
        eprintln!("SKIP: this system allows no socket buffer large enough to lose nothing");
        return;
    }
    assert!(path.lost_packets * 100 <= path.sent_packets, "{path:?}");
}

#[tokio::test]
async fn a_socket_for_both_families_knows_loopback_when_it_sees_it() {
    let mut served = Served::start("[::]:0".parse().unwrap(), TransportChoice::Auto, DoorLimits::default());
    served.connect(&served.client(&[ALPN])).await.unwrap();
    assert_eq!(served.next().await.profile, Profile::Loopback);
}

#[tokio::test]
async fn a_place_where_it_cannot_listen_is_an_error_that_says_why() {
    let served = Served::with_limits(DoorLimits::default());

    let error = bind(served.address).unwrap_err();
    assert!(matches!(error, BindError::InUse { protocol: "UDP", .. }), "{error}");
    assert!(error.to_string().contains(&served.address.to_string()), "{error}");
    let error = bind("192.0.2.1:7400".parse().unwrap()).unwrap_err();
    assert!(matches!(error, BindError::NotAvailable { .. }), "{error}");
}

#[test]
fn profiles_follow_the_address_unless_one_is_forced() {
    let directory = std::env::temp_dir().join(format!("weir-door-{}", uuid::Uuid::new_v4()));
    let tls = TlsIdentity::load(&directory, None, None).unwrap();
    std::fs::remove_dir_all(&directory).unwrap();
    let profile = |choice, peer: &str| {
        Transports::new(choice, &ConnectionLimits::default(), &tls)
            .profile_for(SocketAddr::new(peer.parse().unwrap(), 1))
    };
    for peer in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
        assert_eq!(profile(TransportChoice::Auto, peer), Profile::Loopback, "{peer}");
        assert_eq!(profile(TransportChoice::Network, peer), Profile::Network, "{peer}");
    }
    for peer in ["192.0.2.1", "::ffff:192.0.2.1", "2001:db8::1"] {
        assert_eq!(profile(TransportChoice::Auto, peer), Profile::Network, "{peer}");
        assert_eq!(profile(TransportChoice::Loopback, peer), Profile::Loopback, "{peer}");
    }
}
