//! What all parts of a client share: the connection as it is now, the way to ask for one, and the clock.

use super::runtime::Lease;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use quinn::VarInt;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use weir_protocol::ErrorCode;
use weir_protocol::frame::RawFrame;
use weir_protocol::message::{Message, RequestId, Welcome};

use crate::client::ConnStatus;
use crate::core::link::{Link, Phase};
use crate::core::requests::Repeat;
use crate::core::time::Mono;
use crate::error::{ClientCode, Error};
use crate::net::publish::ProducerShared;
use crate::net::transport::Carrier;
use crate::options::{Breaker, Retry, Tls, TransportProfile};
use crate::url::BrokerUrl;

/// How long a request may wait for its answer, connection included.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// What a client was built with.
#[derive(Clone, Debug)]
pub(crate) struct ConnectOptions {
    pub(crate) url: BrokerUrl,
    pub(crate) tls: Tls,
    pub(crate) name: String,
    pub(crate) retry: Retry,
    pub(crate) breaker: Option<Breaker>,
    pub(crate) connect_timeout: Duration,
    pub(crate) transport: TransportProfile,
    pub(crate) carrier: Option<Arc<dyn Carrier>>,
}

/// A connection that is up.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) connection: quinn::Connection,
    pub(crate) welcome: Welcome,
    /// The broker will leave: nothing new is sent on this connection.
    pub(crate) leaving: CancellationToken,
    /// Lanes that have batches under way.
    pub(crate) publishing: TaskTracker,
}

impl Live {
    /// Closes the connection because the broker broke the protocol.
    pub(crate) fn violated(&self, what: &str) {
        tracing::warn!(what, "the broker broke the protocol; closing the connection");
        self.connection.close(VarInt::from(ErrorCode::Protocol.number()), what.as_bytes());
    }
}

/// A request on the control stream.
pub(crate) struct Request {
    pub(crate) frame: Box<dyn FnOnce(RequestId) -> Bytes + Send>,
    pub(crate) repeat: Repeat,
    pub(crate) deadline: Mono,
    pub(crate) reply: oneshot::Sender<Result<RawFrame, Error>>,
}

/// What can be seen of the link from outside its task.
#[derive(Clone, Debug)]
pub(crate) struct LinkView {
    pub(crate) phase: Phase,
    pub(crate) failures: u32,
    pub(crate) failing_for: Duration,
    /// Why there is no connection.
    pub(crate) error: Option<Error>,
}

/// One for each client.
pub(crate) struct Shared {
    pub(crate) options: ConnectOptions,
    origin: Instant,
    /// Where network work runs.
    pub(crate) runtime: Handle,
    /// What keeps that alive, if it is the client's own.
    _lease: Option<Lease>,
    pub(crate) current: watch::Sender<Option<Arc<Live>>>,
    pub(crate) requests: mpsc::Sender<Request>,
    view: Mutex<LinkView>,
    pub(crate) view_changes: watch::Sender<()>,
    circuit_open: AtomicBool,
    /// No new work.
    pub(crate) draining: AtomicBool,
    /// Ends everything at once.
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: TaskTracker,
    /// The producers that may have something to deliver, for [`Client::drain`](crate::Client::drain).
    pub(crate) producers: Mutex<Vec<Weak<ProducerShared>>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("options", &self.options)
            .field("view", &self.view)
            .finish_non_exhaustive()
    }
}

/// Locks a mutex whose holders do not panic half-way; if one did all the same, what it left is as good as any.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(crate) fn new(
        options: ConnectOptions,
        (runtime, lease): (Handle, Option<Lease>),
        requests: mpsc::Sender<Request>,
        stop: CancellationToken,
        tasks: TaskTracker,
    ) -> Self {
        let view =
            LinkView { phase: Phase::Connecting, failures: 0, failing_for: Duration::ZERO, error: None };
        Self {
            options,
            origin: Instant::now(),
            runtime,
            _lease: lease,
            current: watch::Sender::new(None),
            requests,
            view: Mutex::new(view),
            view_changes: watch::Sender::new(()),
            circuit_open: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            stop,
            tasks,
            producers: Mutex::default(),
        }
    }

    /// The time on the client's clock.
    pub(crate) fn now(&self) -> Mono {
        Mono::new(self.origin.elapsed())
    }

    /// A moment of the client's clock, for timers.
    pub(crate) fn instant(&self, at: Mono) -> tokio::time::Instant {
        (self.origin + at.since(Mono::ZERO)).into()
    }

    /// A timer that works under any runtime of the caller.
    pub(crate) fn sleep_until(&self, at: Mono) -> tokio::time::Sleep {
        let _inside = self.runtime.enter();
        tokio::time::sleep_until(self.instant(at))
    }

    pub(crate) fn view(&self) -> LinkView {
        lock(&self.view).clone()
    }

    /// Shows how the link is.
    pub(crate) fn show(&self, link: &Link, error: Option<Error>) {
        let phase = link.phase().clone();
        self.circuit_open.store(matches!(phase, Phase::CircuitOpen(_)), Ordering::Relaxed);
        let failing_for = link.failing_for(self.now());
        *lock(&self.view) = LinkView { phase, failures: link.failures(), failing_for, error };
        self.view_changes.send_replace(());
    }

    /// The error of an open breaker, if it is open.
    pub(crate) fn circuit_error(&self) -> Option<Error> {
        if !self.circuit_open.load(Ordering::Relaxed) {
            return None;
        }
        let Phase::CircuitOpen(until) = self.view().phase else { return None };
        let after = until.since(self.now());
        let detail = format!("the breaker for {} is open", self.options.url);
        Some(Error::client(ClientCode::CircuitOpen, detail).with_retry_after(after))
    }

    pub(crate) fn status(&self) -> ConnStatus {
        let view = self.view();
        let now = self.now();
        let live = self.current.borrow().clone();
        if self.draining.load(Ordering::Relaxed) && view.phase != Phase::Closed {
            return ConnStatus::Draining;
        }
        match (view.phase, live) {
            (Phase::Ready | Phase::Leaving, Some(live)) => {
                ConnStatus::Ready { server: live.welcome.server_version.clone(), rtt: live.connection.rtt() }
            }
            (Phase::Waiting(until), _) if view.failures > 0 || view.error.is_some() => ConnStatus::Retrying {
                attempt: view.failures,
                next: until.since(now),
                cause: view.error.map(|error| error.detail().to_owned()).unwrap_or_default(),
            },
            (Phase::CircuitOpen(until), _) => ConnStatus::CircuitOpen { until: until.since(now) },
            (Phase::Closed, _) => ConnStatus::Closed,
            (Phase::Connecting | Phase::Ready | Phase::Leaving | Phase::Waiting(_), _) => {
                ConnStatus::Connecting
            }
        }
    }

    /// The error of someone who waited for a connection in vain.
    pub(crate) fn unreachable(&self) -> Error {
        let view = self.view();
        let url = format!("weir://{}", self.options.url.authority());
        match view.error {
            Some(error) if matches!(view.phase, Phase::Closed) && !error.is_retryable() => error,
            Some(error) => {
                let (tries, time) = (view.failures.max(1), view.failing_for.as_secs_f32());
                let word = if tries == 1 { "try" } else { "tries" };
                let detail =
                    format!("cannot reach {url} after {tries} {word} in {time:.1} s: {}", error.detail());
                Error::client(ClientCode::Unreachable, detail)
            }
            None => Error::client(ClientCode::Unreachable, format!("cannot reach {url}: no answer yet")),
        }
    }

    /// Makes a request and waits for the answer.
    ///
    /// # Cancel safety
    /// If dropped before completion the request may have been done.
    pub(crate) async fn request<M>(
        &self,
        make: impl FnOnce(RequestId) -> M + Send + 'static,
        repeat: Repeat,
    ) -> Result<RawFrame, Error>
    where
        M: Message,
    {
        if self.draining.load(Ordering::Relaxed) {
            return Err(Error::closed("client"));
        }
        if let Some(error) = self.circuit_error() {
            return Err(error);
        }
        let (reply, answer) = oneshot::channel();
        let frame = Box::new(move |number| make(number).to_frame());
        let deadline = self.now().after(REQUEST_TIMEOUT);
        let request = Request { frame, repeat, deadline, reply };
        if self.requests.send(request).await.is_err() {
            return Err(Error::closed("client"));
        }
        answer.await.unwrap_or_else(|_gone| Err(Error::closed("client")))
    }
}

/// Decodes the answer to a request: the expected message, or something that makes no sense.
pub(crate) fn expect<M: Message>(frame: &RawFrame) -> Result<M, Error> {
    let wrong = |what: String| Error::broker(ErrorCode::Protocol, what);
    if frame.kind != M::KIND {
        return Err(wrong(format!("the answer is {:?}, not {:?}", frame.kind, M::KIND)));
    }
    M::from_frame(frame).map_err(|error| wrong(format!("{:?} {error}", frame.kind)))
}
