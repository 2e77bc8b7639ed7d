//! The client: one connection to a broker, and what is made on it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use weir_protocol::limits::NAME_BYTES_MAX;

use crate::admin::Admin;
use crate::consumer::{ConsumerBuilder, KeyHistory};
use crate::context;
use crate::core::link::Phase;
use crate::core::requests::REQUESTS_MAX;
use crate::error::{ClientCode, Error};
use crate::message::Message;
use crate::net::shared::{ConnectOptions, Shared, lock};
use crate::net::transport::Carrier;
use crate::net::{link, runtime, tls};
use crate::options::{Breaker, Retry, Tls, TransportProfile};
use crate::producer::{self, ProducerBuilder};
use crate::url::BrokerUrl;
use crate::watch::Watch;

/// A connection to a broker. Clones are the same connection.
///
/// It comes back by itself when it is lost. When the last clone and everything made from it have been dropped, and what
/// producers had taken is delivered, it is closed; [`Client::drain`] waits for that.
#[derive(Clone, Debug)]
pub struct Client(Arc<ClientHandle>);

/// Keeps a connection as long as somebody needs it.
#[derive(Debug)]
pub(crate) struct ClientHandle {
    pub(crate) shared: Arc<Shared>,
}

impl Drop for ClientHandle {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}

/// How the connection is.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum ConnStatus {
    /// A connection is being made.
    Connecting,
    /// Connected.
    Ready {
        /// Version of the broker.
        server: String,
        /// Time to the broker and back, as measured last.
        rtt: Duration,
    },
    /// The connection was lost or could not be made; the next try comes.
    Retrying {
        /// Failed tries in a row.
        attempt: u32,
        /// Time until the next.
        next: Duration,
        /// Why the last failed.
        cause: String,
    },
    /// The breaker is open: calls fail at once.
    CircuitOpen {
        /// Time until the next try.
        until: Duration,
    },
    /// No new work is taken.
    Draining,
    /// Closed for good.
    Closed,
}

/// What became of everything when a producer or client was closed.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct DrainReport {
    /// Messages that were stored, since the producer was made.
    pub delivered: u64,
    /// Messages that failed, since the producer was made; those in `undelivered` among them.
    pub failed: u64,
    /// Messages that had no result when the time was up. Some may be stored all the same.
    pub undelivered: Vec<Message>,
    /// Acknowledgements sent at the end. 0 for plain readers.
    pub acks_flushed: u64,
    /// Whether the time was up before everything was done.
    pub timed_out: bool,
}

impl Client {
    /// Connects to a broker: `weir://HOST:PORT[?pin=sha256:HEX][&ca=FILE]`.
    ///
    /// Waits until the broker has answered, at most 10 s; see [`ClientBuilder`] for more.
    ///
    /// # Errors
    /// `WEIR-1021` if the URL makes no sense, `WEIR-1022` if the certificate is not the expected one, `WEIR-1004` if the
    /// broker cannot be reached.
    ///
    /// # Cancel safety
    /// If dropped before completion the connection is closed.
    pub async fn connect(url: &str) -> Result<Self, Error> {
        Self::builder(url).connect().await
    }

    /// Connects to the broker that the variable `WEIR_URL` names, else the current context of the command line.
    ///
    /// # Errors
    /// As [`Client::connect`]; `WEIR-1029` if no broker is named.
    ///
    /// # Cancel safety
    /// If dropped before completion the connection is closed.
    pub async fn from_env() -> Result<Self, Error> {
        Self::connect(&context::current_url()?).await
    }

    /// Chooses how to connect.
    pub fn builder(url: &str) -> ClientBuilder {
        ClientBuilder::new(url)
    }

    /// A producer to a topic.
    pub fn producer(&self, topic: &str) -> ProducerBuilder {
        ProducerBuilder::new(Arc::clone(&self.0), topic)
    }

    /// A reader of a topic.
    pub fn consumer(&self, topic: &str) -> ConsumerBuilder {
        ConsumerBuilder::new(Arc::clone(&self.0), topic)
    }

    /// The records with a key that a topic keeps, in order, up to the end that is seen now. All of the key's partition is
    /// read.
    ///
    /// # Errors
    /// `WEIR-2001` if there is no such topic, `WEIR-1027` if its producers choose the partition of each record.
    ///
    /// # Cancel safety
    /// If dropped before completion nothing is read.
    pub async fn read_key(&self, topic: &str, key: impl Into<Bytes>) -> Result<KeyHistory, Error> {
        KeyHistory::open(Arc::clone(&self.0), topic, key.into()).await
    }

    /// Topics: make, change, delete, list, describe.
    #[must_use]
    pub fn admin(&self) -> Admin {
        Admin::new(Arc::clone(&self.0))
    }

    /// How the connection is, to be looked at or watched.
    #[must_use]
    pub fn status(&self) -> Watch<ConnStatus> {
        let shared = Arc::clone(&self.0.shared);
        let changes = shared.view_changes.subscribe();
        Watch::new(Arc::new(move || shared.status()), changes)
    }

    /// Closes everything: producers deliver what they have taken, at most so long; consumers end; then the connection is
    /// closed. Reports what became of the messages of all producers that still had some.
    ///
    /// # Cancel safety
    /// If dropped before completion, no new work is taken, and what was taken goes on.
    pub async fn drain(self, deadline: Duration) -> DrainReport {
        let shared = &self.0.shared;
        let until = shared.now().after(deadline);
        let producers: Vec<_> = lock(&shared.producers).iter().filter_map(std::sync::Weak::upgrade).collect();
        producers.iter().for_each(|producer| producer.close());
        let mut sum = DrainReport::default();
        for producer in producers {
            let left = until.since(shared.now());
            let report = producer::close(&producer, left).await;
            sum.delivered += report.delivered;
            sum.failed += report.failed;
            sum.undelivered.extend(report.undelivered);
            sum.timed_out |= report.timed_out;
        }
        shared.draining.store(true, Ordering::Relaxed);
        shared.view_changes.send_replace(());
        shared.stop.cancel();
        shared.tasks.close();
        let grace = shared.now().after(CLOSE_GRACE);
        tokio::select! {
            biased;
            () = shared.tasks.wait() => {}
            () = shared.sleep_until(grace) => {}
        }
        sum
    }
}

/// How long closing the connection may take.
const CLOSE_GRACE: Duration = Duration::from_secs(1);

/// Chooses how a [`Client`] connects.
#[derive(Clone, Debug)]
#[must_use = "nothing happens before connect()"]
pub struct ClientBuilder {
    url: String,
    name: String,
    tls: Option<Tls>,
    retry: Retry,
    breaker: Option<Breaker>,
    connect_timeout: Duration,
    transport: TransportProfile,
    carrier: Option<Arc<dyn Carrier>>,
    on_current_runtime: bool,
}

impl ClientBuilder {
    fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            name: String::new(),
            tls: None,
            retry: Retry::default(),
            breaker: None,
            connect_timeout: Duration::from_secs(10),
            transport: TransportProfile::Auto,
            carrier: None,
            on_current_runtime: false,
        }
    }

    /// A name for the broker's logs and metrics, of at most 128 bytes. Empty by default.
    pub fn name(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// How the broker's certificate is checked. Goes before what the URL says.
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// When to try again. From 20 ms to 2 s with full jitter, for ever, by default.
    pub const fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// When to fail at once instead of waiting for a broker that does not answer. Never by default.
    pub const fn breaker(mut self, breaker: Breaker) -> Self {
        self.breaker = Some(breaker);
        self
    }

    /// How long [`ClientBuilder::connect`] may take. 10 s by default.
    pub const fn connect_timeout(mut self, time: Duration) -> Self {
        self.connect_timeout = time;
        self
    }

    /// How datagrams are made. By the broker's address by default.
    pub const fn transport(mut self, profile: TransportProfile) -> Self {
        self.transport = profile;
        self
    }

    /// Sends datagrams on what this opens instead of a socket of the system.
    pub fn carrier(mut self, carrier: Arc<dyn Carrier>) -> Self {
        self.carrier = Some(carrier);
        self
    }

    /// Does network work on the runtime that calls `connect`, instead of on a thread of its own. That runtime must be tokio's,
    /// with I/O and time, and must not be blocked. Meant for programs with very many clients.
    pub const fn on_current_runtime(mut self) -> Self {
        self.on_current_runtime = true;
        self
    }

    /// Connects, and returns once the broker has answered.
    ///
    /// # Errors
    /// As [`Client::connect`].
    ///
    /// # Cancel safety
    /// If dropped before completion the connection is closed.
    pub async fn connect(self) -> Result<Client, Error> {
        let client = self.connect_lazy()?;
        let shared = &client.0.shared;
        let mut changes = shared.view_changes.subscribe();
        let timeout = shared.sleep_until(shared.now().after(shared.options.connect_timeout));
        tokio::pin!(timeout);
        loop {
            match shared.view().phase {
                Phase::Ready | Phase::Leaving => break,
                Phase::Closed => return Err(shared.unreachable()),
                Phase::Connecting | Phase::Waiting(_) | Phase::CircuitOpen(_) => {}
            }
            tokio::select! {
                _ = changes.changed() => {}
                () = &mut timeout => return Err(shared.unreachable()),
            }
        }
        Ok(client)
    }

    /// Returns at once and connects in the background. Calls on the client wait for the connection.
    ///
    /// # Errors
    /// `WEIR-1021` if the URL makes no sense, `WEIR-1022` if certificates cannot be read, `WEIR-1027` if another option makes
    /// no sense.
    pub fn connect_lazy(self) -> Result<Client, Error> {
        let url: BrokerUrl = self.url.parse()?;
        if self.name.len() > NAME_BYTES_MAX {
            return Err(Error::invalid(format!("a client's name has at most {NAME_BYTES_MAX} bytes")));
        }
        let tls = self.tls.unwrap_or_else(|| url.tls().clone());
        // Read here once, so that a missing file is this call's error.
        tls::config(&tls)?;
        let options = ConnectOptions {
            url,
            tls,
            name: self.name,
            retry: self.retry,
            breaker: self.breaker,
            connect_timeout: self.connect_timeout,
            transport: self.transport,
            carrier: self.carrier,
        };
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let cannot = |error: &dyn std::fmt::Display| {
            Error::client(ClientCode::Invalid, format!("the network work cannot be started: {error}"))
        };
        let runtime = if self.on_current_runtime {
            (Handle::try_current().map_err(|error| cannot(&error))?, None)
        } else {
            let (handle, lease) =
                runtime::start(stop.clone(), tasks.clone()).map_err(|error| cannot(&error))?;
            (handle, Some(lease))
        };
        let (requests, incoming) = mpsc::channel(REQUESTS_MAX);
        let shared = Arc::new(Shared::new(options, runtime, requests, stop, tasks));
        shared.tasks.spawn_on(link::run(Arc::clone(&shared), incoming, runtime::seed()), &shared.runtime);
        Ok(Client(Arc::new(ClientHandle { shared })))
    }
}
