//! The task that keeps a client's connection: makes it, greets, carries requests, notices its end, makes it again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::{ClientConfig, ConnectionError, Endpoint, SendStream, VarInt};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use weir_protocol::ErrorCode;
use weir_protocol::frame::{FrameKind, RawFrame};
use weir_protocol::limits::{CONTROL_FRAME_BYTES_MAX, FRAME_BYTES_MAX};
use weir_protocol::message::{Failure, GoAway, Hello, Message, PROTOCOL_VERSION, Welcome};
use weir_protocol::read::Reader;

use crate::core::link::{Cause, Link, Next};
use crate::core::requests::Requests;
use crate::core::silence::Silence;
use crate::error::{Class, ClientCode, Error};
use crate::net::frames::{FrameError, FrameReader};
use crate::net::shared::{Live, Request, Shared};
use crate::net::{tls, transport};

/// How long one try may take. Short where the peer is near: a broker that comes up meanwhile is met by the next try.
const TRY_TIMEOUT: Duration = Duration::from_secs(5);
const TRY_TIMEOUT_LOOPBACK: Duration = Duration::from_secs(1);

/// How often the driver looks whether the broker still answers.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// What a try or a connection ended with.
struct Trouble {
    error: Error,
    is_final: bool,
}

impl Trouble {
    fn passing(detail: impl Into<String>) -> Self {
        Self { error: Error::client(ClientCode::Unreachable, detail), is_final: false }
    }

    fn cause(&self) -> Cause {
        Cause { text: self.error.detail().to_owned(), is_final: self.is_final }
    }
}

/// A connection with its greeted control stream.
struct Greeted {
    endpoint: Endpoint,
    live: Arc<Live>,
    send: SendStream,
    frames: FrameReader,
}

/// Drives the link until the client is closed.
pub(crate) async fn run(shared: Arc<Shared>, requests: mpsc::Receiver<Request>, seed: u64) {
    let link = Link::new(shared.options.retry, shared.options.breaker, seed);
    let mut driver = Driver { shared, link, requests: Requests::default(), incoming: requests };
    driver.run().await;
}

struct Driver {
    shared: Arc<Shared>,
    link: Link,
    requests: Requests<oneshot::Sender<Result<RawFrame, Error>>>,
    incoming: mpsc::Receiver<Request>,
}

impl Driver {
    async fn run(&mut self) {
        let mut error = None;
        loop {
            let next = self.link.next(self.shared.now());
            self.shared.show(&self.link, error.clone());
            match next {
                Next::Stop => break,
                Next::Wait(until) => {
                    let sleep = tokio::time::sleep_until(self.shared.instant(until));
                    self.attend(sleep).await;
                }
                Next::Connect => {
                    let shared = Arc::clone(&self.shared);
                    error = match self.attend(async move { connect(&shared).await }).await {
                        Some(Ok(greeted)) => Some(self.serve(greeted).await.error),
                        Some(Err(trouble)) => {
                            tracing::debug!(error = %trouble.error, "connecting failed");
                            self.link.failed(self.shared.now(), trouble.cause());
                            Some(trouble.error)
                        }
                        None => None,
                    };
                }
            }
        }
        self.end(error);
    }

    /// Waits for something while requests come in and grow old. `None` if the client was stopped.
    async fn attend<F: Future>(&mut self, work: F) -> Option<F::Output> {
        tokio::pin!(work);
        loop {
            let deadline = self.next_deadline();
            tokio::select! {
                biased;
                () = self.shared.stop.cancelled() => {
                    self.link.close();
                    return None;
                }
                output = &mut work => return Some(output),
                Some(request) = self.incoming.recv() => self.accept(request),
                () = tokio::time::sleep_until(deadline) => self.expire(),
            }
        }
    }

    fn next_deadline(&self) -> tokio::time::Instant {
        let idle = self.shared.now().after(Duration::from_secs(3600));
        self.shared.instant(self.requests.next_deadline().unwrap_or(idle))
    }

    fn accept(&mut self, request: Request) {
        if let Some(error) = self.shared.circuit_error() {
            answer(request.reply, Err(error));
        } else if let Err(reply) =
            self.requests.add(request.frame, request.repeat, request.deadline, request.reply)
        {
            let error =
                Error::broker(ErrorCode::Throttled, "too many requests of this client wait for answers");
            answer(reply, Err(error));
        }
    }

    fn expire(&mut self) {
        let is_connected = self.shared.current.borrow().is_some();
        for (reply, was_sent) in self.requests.expire(self.shared.now()) {
            let error = match (is_connected, was_sent) {
                (false, false) => self.shared.unreachable(),
                (_, was_sent) => {
                    let class = if was_sent { Class::OutcomeUnknown } else { Class::Retryable };
                    Error::client(ClientCode::Timeout, "the broker did not answer in time").with_class(class)
                }
            };
            answer(reply, Err(error));
        }
    }

    /// Uses a connection until it ends.
    async fn serve(&mut self, greeted: Greeted) -> Trouble {
        self.link.connected();
        self.shared.current.send_replace(Some(Arc::clone(&greeted.live)));
        self.shared.show(&self.link, None);
        let live = Arc::clone(&greeted.live);
        let endpoint = greeted.endpoint.clone();
        let trouble = self.control(greeted).await;
        tracing::debug!(error = %trouble.error, "connection lost");
        live.connection.close(VarInt::from_u32(0), b"");
        self.shared.current.send_replace(None);
        self.link.lost(self.shared.now(), trouble.cause());
        let lost = format!("the connection was lost before the answer came: {}", trouble.error.detail());
        for reply in self.requests.connection_lost() {
            answer(reply, Err(Error::client(ClientCode::ConnectionLost, lost.clone())));
        }
        // The close has to go out before the socket is dropped.
        drop(tokio::time::timeout(Duration::from_millis(100), endpoint.wait_idle()).await);
        trouble
    }

    /// The control stream: requests out, answers in.
    async fn control(&mut self, greeted: Greeted) -> Trouble {
        let Greeted { live, mut send, mut frames, .. } = greeted;
        let mut look = tokio::time::interval(LOOK_INTERVAL);
        let mut silence = Silence::default();
        let departure = departure(Arc::clone(&live));
        tokio::pin!(departure);
        loop {
            for frame in self.requests.unsent().collect::<Vec<_>>() {
                if let Err(error) = send.write_all(&frame).await {
                    return ended(&live, &error);
                }
            }
            let deadline = self.next_deadline();
            tokio::select! {
                biased;
                () = self.shared.stop.cancelled() => {
                    self.link.close();
                    return Trouble::passing("the client was closed");
                }
                frame = frames.next() => match self.received(&live, frame) {
                    Ok(()) => {}
                    Err(trouble) => return trouble,
                },
                error = live.connection.closed() => return connection_trouble(&error),
                Some(request) = self.incoming.recv() => self.accept(request),
                () = tokio::time::sleep_until(deadline) => self.expire(),
                () = &mut departure => return Trouble::passing("the broker left"),
                _ = look.tick() => {
                    let stats = live.connection.stats();
                    let (sent, received) = (stats.udp_tx.datagrams, stats.udp_rx.datagrams);
                    if silence.observe(self.shared.now(), sent, received) {
                        return Trouble::passing("the broker does not answer any more");
                    }
                }
            }
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "all other answers are handled alike")]
    fn received(&mut self, live: &Live, frame: Result<Option<RawFrame>, FrameError>) -> Result<(), Trouble> {
        let frame = match frame {
            Ok(Some(frame)) => frame,
            Ok(None) => return Err(Trouble::passing("the broker closed the control stream")),
            Err(FrameError::Read(error)) => return Err(ended(live, &error)),
            Err(error @ (FrameError::Decode(_) | FrameError::Cut)) => {
                return Err(violation(live, &error.to_string()));
            }
        };
        match frame.kind {
            FrameKind::GoAway => {
                let goaway =
                    GoAway::from_frame(&frame).map_err(|error| violation(live, &error.to_string()))?;
                tracing::debug!(
                    code = goaway.code.number(),
                    deadline_ms = goaway.deadline_ms,
                    "the broker will leave"
                );
                self.link.leaving();
                self.shared.show(&self.link, None);
                live.leaving.cancel();
            }
            FrameKind::Failure => {
                let failure =
                    Failure::from_frame(&frame).map_err(|error| violation(live, &error.to_string()))?;
                if failure.request == 0 {
                    let error = failure_error(&failure);
                    return Err(Trouble { is_final: false, error });
                }
                if let Some(reply) = self.requests.answered(failure.request) {
                    answer(reply, Err(failure_error(&failure)));
                }
            }
            // Every other answer begins with the number of its request.
            _ => {
                let request =
                    Reader::new(&frame.body).u32().map_err(|error| violation(live, &error.to_string()))?;
                if let Some(reply) = self.requests.answered(request) {
                    answer(reply, Ok(frame));
                }
            }
        }
        Ok(())
    }

    fn end(&mut self, error: Option<Error>) {
        self.link.close();
        self.shared.current.send_replace(None);
        self.shared.show(&self.link, error.clone());
        self.incoming.close();
        let mut replies = self.requests.fail_all();
        while let Ok(request) = self.incoming.try_recv() {
            replies.push(request.reply);
        }
        for reply in replies {
            answer(reply, Err(error.clone().unwrap_or_else(|| Error::closed("client"))));
        }
        self.shared.stop.cancel();
    }
}

/// Whoever asked may have gone.
fn answer(reply: oneshot::Sender<Result<RawFrame, Error>>, result: Result<RawFrame, Error>) {
    drop(reply.send(result));
}

/// After the broker said that it leaves: waits until nothing that it owes an answer for is under way.
async fn departure(live: Arc<Live>) {
    live.leaving.cancelled().await;
    live.publishing.close();
    live.publishing.wait().await;
}

/// The error a failure stands for.
pub(crate) fn failure_error(failure: &Failure) -> Error {
    let error = Error::broker(failure.code, failure.detail.clone());
    match failure.retry_after_ms {
        0 => error,
        ms => error.with_retry_after(Duration::from_millis(u64::from(ms))),
    }
}

fn violation(live: &Live, what: &str) -> Trouble {
    live.violated(what);
    Trouble { error: Error::broker(ErrorCode::Protocol, what), is_final: false }
}

/// Why the connection ended, if that is known better than the stream's error.
fn ended(live: &Live, error: &dyn std::fmt::Display) -> Trouble {
    match live.connection.close_reason() {
        Some(reason) => connection_trouble(&reason),
        None => Trouble::passing(error.to_string()),
    }
}

/// First and last number of the codes that stand for an alert of TLS.
const CRYPTO_CODES: std::ops::RangeInclusive<u64> = 0x100..=0x1ff;

#[expect(clippy::wildcard_enum_match_arm, reason = "a foreign enum, of which few cases have more to say")]
fn connection_trouble(error: &ConnectionError) -> Trouble {
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

/// One try: all addresses of the host, one after the other.
async fn connect(shared: &Shared) -> Result<Greeted, Trouble> {
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
    if transport::is_refused(address) {
        return Err(Trouble::passing("nothing listens there"));
    }
    let crypto = tls::config(&shared.options.tls).map_err(hard)?;
    let mut config = ClientConfig::new(crypto);
    config.transport_config(transport::config(is_loopback));
    let endpoint = transport::endpoint(address)
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
