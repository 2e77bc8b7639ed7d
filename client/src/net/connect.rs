//! One try to make a connection: name, socket, handshake, greeting.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::{ClientConfig, ConnectionError, Endpoint, SendStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use weir_protocol::ErrorCode;
use weir_protocol::frame::FrameKind;
use weir_protocol::limits::{CONTROL_FRAME_BYTES_MAX, FRAME_BYTES_MAX};
use weir_protocol::message::{Failure, Hello, Message, PROTOCOL_VERSION, Welcome};

use crate::core::link::Cause;
use crate::error::{ClientCode, Error};
use crate::net::frames::FrameReader;
use crate::net::shared::{Live, Shared};
use crate::net::{tls, transport};

/// How long one try may take. Short where the peer is near: a broker that comes up meanwhile is met by the next try.
const TRY_TIMEOUT: Duration = Duration::from_secs(5);
const TRY_TIMEOUT_LOOPBACK: Duration = Duration::from_secs(1);

/// What a try or a connection ended with.
pub(super) struct Trouble {
    pub(super) error: Error,
    pub(super) is_final: bool,
}

impl Trouble {
    pub(super) fn passing(detail: impl Into<String>) -> Self {
        Self { error: Error::client(ClientCode::Unreachable, detail), is_final: false }
    }

    pub(super) fn cause(&self) -> Cause {
        Cause {
            text: self.error.detail().to_owned(),
            is_final: self.is_final,
            retry_after: self.error.retry_after().unwrap_or_default(),
        }
    }
}

/// A connection with its greeted control stream.
pub(super) struct Greeted {
    pub(super) endpoint: Endpoint,
    pub(super) live: Arc<Live>,
    pub(super) send: SendStream,
    pub(super) frames: FrameReader,
}

/// One try: all addresses of the host, one after the other.
pub(super) async fn connect(shared: &Shared) -> Result<Greeted, Trouble> {
    let url = &shared.options.url;
    let resolved = tokio::net::lookup_host((url.host(), url.port())).await;
    let addresses: Vec<SocketAddr> = match resolved {
        Ok(addresses) => addresses.collect(),
        Err(error) => {
            return Err(Trouble::passing(format!("the name {} cannot be resolved: {error}", url.host())));
        }
    };
    let mut last = Trouble::passing(format!("the name {} has no address", url.host()));
    for address in addresses {
        let is_loopback = transport::is_loopback(shared.options.transport, address);
        let limit = if is_loopback { TRY_TIMEOUT_LOOPBACK } else { TRY_TIMEOUT };
        match tokio::time::timeout(limit, connect_to(shared, address, is_loopback)).await {
            Ok(Ok(greeted)) => return Ok(greeted),
            Ok(Err(trouble)) => last = trouble,
            Err(_elapsed) => last = Trouble::passing("no UDP reply"),
        }
    }
    Err(last)
}

async fn connect_to(shared: &Shared, address: SocketAddr, is_loopback: bool) -> Result<Greeted, Trouble> {
    let hard = |error: Error| Trouble { error, is_final: true };
    let carrier = shared.options.carrier.as_ref();
    if carrier.is_none() && transport::is_refused(address) {
        return Err(Trouble::passing("nothing listens there"));
    }
    let crypto = tls::config(&shared.options.tls).map_err(hard)?;
    let mut config = ClientConfig::new(crypto);
    config.transport_config(transport::config(is_loopback));
    let endpoint = transport::endpoint(address, carrier)
        .map_err(|error| Trouble::passing(format!("cannot open a UDP socket: {error}")))?;
    let host = shared.options.url.host();
    let connecting = endpoint.connect_with(config, address, host).map_err(|error| {
        hard(Error::client(ClientCode::Url, format!("cannot connect to {host}: {error}")))
    })?;
    let connection = connecting.await.map_err(|error| connection_trouble(&error))?;
    greet(shared, endpoint, connection).await
}

#[expect(clippy::wildcard_enum_match_arm, reason = "only three kinds make sense")]
async fn greet(
    shared: &Shared,
    endpoint: Endpoint,
    connection: quinn::Connection,
) -> Result<Greeted, Trouble> {
    let (mut send, recv) = connection.open_bi().await.map_err(|error| connection_trouble(&error))?;
    let hello = Hello {
        version_min: PROTOCOL_VERSION,
        version_max: PROTOCOL_VERSION,
        features: 0,
        frame_bytes_max: FRAME_BYTES_MAX,
        client_name: shared.options.name.clone(),
        client_version: concat!("weir-client ", env!("CARGO_PKG_VERSION")).to_owned(),
    };
    let failed = |error: &dyn std::fmt::Display| match connection.close_reason() {
        Some(reason) => connection_trouble(&reason),
        None => Trouble::passing(format!("the greeting failed: {error}")),
    };
    send.write_all(&hello.to_frame()).await.map_err(|error| failed(&error))?;
    let mut frames = FrameReader::new(recv, CONTROL_FRAME_BYTES_MAX, None);
    let frame = match frames.next().await {
        Ok(Some(frame)) => frame,
        Ok(None) => return Err(failed(&"the stream ended")),
        Err(error) => return Err(failed(&error)),
    };
    let welcome = match frame.kind {
        FrameKind::Welcome => Welcome::from_frame(&frame).map_err(|error| failed(&error))?,
        FrameKind::Failure => {
            let failure = Failure::from_frame(&frame).map_err(|error| failed(&error))?;
            let is_final = failure.code == ErrorCode::UnsupportedVersion;
            return Err(Trouble { error: failure_error(&failure), is_final });
        }
        FrameKind::GoAway => return Err(Trouble::passing("the broker is leaving")),
        _ => return Err(failed(&format!("it was answered with {:?}", frame.kind))),
    };
    if welcome.version != PROTOCOL_VERSION {
        let error =
            Error::broker(ErrorCode::UnsupportedVersion, format!("the broker speaks {}", welcome.version));
        return Err(Trouble { error, is_final: true });
    }
    let live =
        Live { connection, welcome, leaving: CancellationToken::new(), publishing: TaskTracker::new() };
    Ok(Greeted { endpoint, live: Arc::new(live), send, frames })
}

/// The error a failure stands for.
pub(crate) fn failure_error(failure: &Failure) -> Error {
    let error = Error::broker(failure.code, failure.detail.clone());
    match failure.retry_after_ms {
        0 => error,
        ms => error.with_retry_after(Duration::from_millis(u64::from(ms))),
    }
}

/// First and last number of the codes that stand for an alert of TLS.
const CRYPTO_CODES: std::ops::RangeInclusive<u64> = 0x100..=0x1ff;

#[expect(clippy::wildcard_enum_match_arm, reason = "a foreign enum, of which few cases have more to say")]
pub(super) fn connection_trouble(error: &ConnectionError) -> Trouble {
    let tls = |text: String| Trouble { error: Error::client(ClientCode::Tls, text), is_final: true };
    match error {
        ConnectionError::TimedOut => Trouble::passing("no UDP reply"),
        ConnectionError::TransportError(inner) if CRYPTO_CODES.contains(&u64::from(inner.code)) => {
            tls(format!("the broker's certificate was not accepted: {}", inner.reason))
        }
        ConnectionError::ConnectionClosed(close) if CRYPTO_CODES.contains(&u64::from(close.error_code)) => {
            tls(format!("the broker refused the handshake: {close}"))
        }
        ConnectionError::ApplicationClosed(close) => {
            let number = u16::try_from(close.error_code.into_inner()).unwrap_or(0);
            let reason = String::from_utf8_lossy(&close.reason).into_owned();
            match ErrorCode::from_number(number) {
                Some(code @ ErrorCode::UnsupportedVersion) => {
                    Trouble { error: Error::broker(code, reason), is_final: true }
                }
                Some(code) => {
                    Trouble::passing(format!("the broker closed the connection: {} {reason}", code.text()))
                }
                None => Trouble::passing(format!("the broker closed the connection: {reason}")),
            }
        }
        other => Trouble::passing(other.to_string()),
    }
}
