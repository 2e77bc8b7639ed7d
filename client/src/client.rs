//! The client: one connection to a broker, and what is made on it.

use std::time::Duration;

use crate::admin::Admin;
use crate::consumer::ConsumerBuilder;
use crate::error::Error;
use crate::message::Message;
use crate::options::{Breaker, Retry, Tls, TransportProfile};
use crate::producer::ProducerBuilder;
use crate::watch::Watch;

/// A connection to a broker that comes back by itself. Clones are the same connection.
#[derive(Clone, Debug)]
pub struct Client {}

/// Chooses how a [`Client`] connects.
#[derive(Clone, Debug)]
pub struct ClientBuilder {
    url: String,
}

/// How the connection is.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum ConnStatus {
    /// The first connection is being made.
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
    /// The breaker is open.
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
    /// Messages that had no answer when the time was up. Some may be stored all the same.
    pub undelivered: Vec<Message>,
    /// Acknowledgements sent at the end. 0 for plain readers.
    pub acks_flushed: u64,
    /// Whether the time was up before everything was done.
    pub timed_out: bool,
}

impl Client {
    /// Connects to a broker.
    pub async fn connect(url: &str) -> Result<Self, Error> {
        Self::builder(url).connect().await
    }
    /// Connects to the broker that `WEIR_URL` or the current context names.
    pub async fn from_env() -> Result<Self, Error> {
        Self::connect(&crate::context::current_url()?).await
    }
    /// Chooses how to connect.
    pub fn builder(url: &str) -> ClientBuilder {
        ClientBuilder { url: url.to_owned() }
    }
    /// A producer to a topic.
    pub fn producer(&self, topic: &str) -> ProducerBuilder {
        ProducerBuilder::new(topic)
    }
    /// A reader of a topic.
    pub fn consumer(&self, topic: &str) -> ConsumerBuilder {
        ConsumerBuilder::new(topic)
    }
    /// Topics: make, change, delete, list.
    pub fn admin(&self) -> Admin {
        Admin {}
    }
    /// How the connection is.
    pub fn status(&self) -> Watch<ConnStatus> {
        let (_, changes) = tokio::sync::watch::channel(());
        Watch::new(std::sync::Arc::new(|| ConnStatus::Connecting), changes)
    }
    /// Closes.
    pub async fn drain(self, deadline: Duration) -> DrainReport {
        let _ = deadline;
        DrainReport::default()
    }
}

impl ClientBuilder {
    /// A name for the broker's logs and metrics.
    #[must_use]
    pub fn name(self, name: &str) -> Self {
        let _ = name;
        self
    }
    /// How the certificate is checked; goes before what the URL says.
    #[must_use]
    pub fn tls(self, tls: Tls) -> Self {
        let _ = tls;
        self
    }
    /// When to try again.
    #[must_use]
    pub fn retry(self, retry: Retry) -> Self {
        let _ = retry;
        self
    }
    /// When to stop asking.
    #[must_use]
    pub fn breaker(self, breaker: Breaker) -> Self {
        let _ = breaker;
        self
    }
    /// How long `connect` may take. 10 s by default.
    #[must_use]
    pub fn connect_timeout(self, time: Duration) -> Self {
        let _ = time;
        self
    }
    /// How datagrams are made.
    #[must_use]
    pub fn transport(self, profile: TransportProfile) -> Self {
        let _ = profile;
        self
    }
    /// Connects.
    pub async fn connect(self) -> Result<Client, Error> {
        Err(Error::invalid(self.url))
    }
    /// Returns at once and connects in the background.
    pub fn connect_lazy(self) -> Result<Client, Error> {
        Err(Error::invalid(self.url))
    }
}
