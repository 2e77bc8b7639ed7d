//! Peers that speak QUIC and frames of the protocol, and are no proper clients: what they do is up to a test.

mod abuse;
mod relay;
mod stalled;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, ConnectionError, Endpoint, RecvStream, SendStream, TransportConfig};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use weir_protocol::message::{Hello, Message, PROTOCOL_VERSION, PublishOpen};
use weir_protocol::units::{Durability, TopicId};

pub use abuse::Abuse;
pub use stalled::{Reading, Stalled};

/// Longest the broker may take to turn a peer away.
const WITHIN: Duration = Duration::from_secs(30);

/// Takes any certificate: a hostile peer does not care.
#[derive(Debug)]
struct AnyCertificate(CryptoProvider);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Runs a peer to its end.
///
/// # Panics
/// If the broker leaves it waiting.
pub fn peer<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let within = async { tokio::time::timeout(WITHIN, future).await.expect("the broker answers in time") };
    runtime.expect("the system gives a reactor").block_on(within)
}

/// Connects to this address with this application protocol and these settings of QUIC.
///
/// # Errors
/// As the broker says.
///
/// # Panics
/// If the system gives no socket.
pub async fn connect_with(
    address: SocketAddr,
    protocol: &[u8],
    transport: TransportConfig,
) -> (Endpoint, Result<Connection, ConnectionError>) {
    let mut tls = rustls::ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the provider knows TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(ring::default_provider())))
        .with_no_client_auth();
    tls.alpn_protocols = vec![protocol.to_vec()];
    let mut endpoint = Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).expect("there are sockets");
    let crypto = QuicClientConfig::try_from(tls).expect("the provider has what QUIC needs");
    let mut config = ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(transport));
    endpoint.set_default_client_config(config);
    let connection = endpoint.connect(address, "localhost").expect("the address is one").await;
    (endpoint, connection)
}

/// The code with which the broker closes a connection.
///
/// # Errors
/// If it ends otherwise.
pub async fn close_code(connection: &Connection) -> anyhow::Result<u64> {
    let ended = connection.closed().await;
    let ConnectionError::ApplicationClosed(close) = ended else { return Err(ended.into()) };
    Ok(close.error_code.into_inner())
}

/// A greeting that speaks this version only.
pub fn hello(version: u16) -> Bytes {
    let hello = Hello {
        version_min: version,
        version_max: version,
        features: 0,
        frame_bytes_max: 1 << 20,
        client_name: "peer".to_owned(),
        client_version: String::new(),
    };
    hello.to_frame()
}

/// What makes a stream a lane of a producer, for a topic that is unknown.
pub fn publish_open() -> Bytes {
    PublishOpen { topic: TopicId::from_bytes([7; 16]), durability: Durability::Durable }.to_frame()
}

/// A peer whose greeting was answered.
#[derive(Debug)]
pub struct Greeted {
    /// Its connection.
    pub connection: Connection,
    /// Where it asks.
    pub control: SendStream,
    /// Where it is answered.
    pub answers: RecvStream,
    /// Its socket.
    pub endpoint: Endpoint,
}

/// A peer that was greeted, with these settings of QUIC.
///
/// # Errors
/// If the broker does not let it in, or not for long enough.
pub async fn greet_with(address: SocketAddr, transport: TransportConfig) -> anyhow::Result<Greeted> {
    let (endpoint, connection) = connect_with(address, b"weir/1", transport).await;
    let connection = connection?;
    let (mut control, mut answers) = connection.open_bi().await?;
    control.write_all(&hello(PROTOCOL_VERSION)).await?;
    answers.read_exact(&mut [0; 8]).await?;
    Ok(Greeted { connection, control, answers, endpoint })
}
