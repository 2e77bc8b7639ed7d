//! Chooses how a producer works, and makes it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use weir_protocol::limits::{BATCH_BYTES_LIMIT, BATCH_RECORDS_MAX, UNACKED_BATCHES_MAX};

use crate::admin;
use crate::client::ClientHandle;
use crate::core::producer::{Producer as Machine, ProducerOptions};
use crate::delivery::OnFailure;
use crate::error::Error;
use crate::failure::SendError;
use crate::net::publish::{self, Parts, ProducerShared};
use crate::net::runtime::seed;
use crate::net::shared::lock;
use crate::options::{Compression, Durability, Retry};
use crate::producer::Producer;

/// Smallest batch that can be asked for: headers and a small record.
const BATCH_BYTES_MIN: usize = 1 << 10;

/// Chooses how a [`Producer`] works. The defaults suit most: nothing has to be tuned first.
#[must_use = "nothing happens before build()"]
pub struct ProducerBuilder {
    client: Arc<ClientHandle>,
    topic: String,
    linger: Duration,
    batch: (usize, usize),
    in_flight: (usize, usize),
    durability: Durability,
    compression: Compression,
    delivery_timeout: Duration,
    on_failure: Option<OnFailure>,
    retry: Option<Retry>,
    claim: Option<String>,
}

impl fmt::Debug for ProducerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProducerBuilder")
            .field("topic", &self.topic)
            .field("linger", &self.linger)
            .field("batch", &self.batch)
            .field("in_flight", &self.in_flight)
            .field("durability", &self.durability)
            .field("compression", &self.compression)
            .field("delivery_timeout", &self.delivery_timeout)
            .field("claim", &self.claim)
            .finish_non_exhaustive()
    }
}

impl ProducerBuilder {
    pub(crate) fn new(client: Arc<ClientHandle>, topic: &str) -> Self {
        Self {
            client,
            topic: topic.to_owned(),
            linger: Duration::ZERO,
            batch: (256 << 10, BATCH_RECORDS_MAX as usize),
            in_flight: (16 << 20, 500_000),
            durability: Durability::Durable,
            compression: Compression::None,
            delivery_timeout: Duration::from_secs(120),
            on_failure: None,
            retry: None,
            claim: None,
        }
    }

    /// Least time a batch waits for more messages before it is sent. None by default: a message is sent at once if its
    /// partition has nothing under way, and joins a batch while it has.
    pub const fn linger(mut self, time: Duration) -> Self {
        self.linger = time;
        self
    }

    /// A batch is closed at this size. 256 KiB and 65,536 messages by default, which is also the most messages. A larger
    /// message gets a batch of its own, up to the limit of the topic.
    pub const fn max_batch(mut self, bytes: usize, messages: usize) -> Self {
        self.batch = (bytes, messages);
        self
    }

    /// Bound on messages without a result, in bytes of their content and in number. 16 MiB and 500,000 by default. The
    /// memory in use can be about twice that.
    pub const fn max_in_flight(mut self, bytes: usize, messages: usize) -> Self {
        self.in_flight = (bytes, messages);
        self
    }

    /// What a receipt shall promise. [`Durability::Durable`] by default: the message survives a power cut.
    pub const fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// How batches are compressed. Not at all by default; it costs more than it saves on a fast network.
    pub const fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// Longest time from taking a message to its result, and from asking for room to getting it. 2 min by default.
    pub const fn delivery_timeout(mut self, time: Duration) -> Self {
        self.delivery_timeout = time;
        self
    }

    /// Called with each message that failed and whose [`Delivery`](crate::Delivery) nobody holds any more. By default such a
    /// failure is logged. It runs on the client's network thread and must not block.
    pub fn on_failure(mut self, report: impl Fn(SendError) + Send + Sync + 'static) -> Self {
        self.on_failure = Some(Arc::new(report));
        self
    }

    /// When to send again what the broker could not take. As the client does, by default.
    pub const fn retry(mut self, retry: Retry) -> Self {
        self.retry = Some(retry);
        self
    }

    /// Claims a name among the producers of the topic, so that of all that claim it only the last one writes: whoever had it
    /// before gets `WEIR-3005` for everything that was not taken yet, and ends. [`Producer::token`] tells holders apart.
    ///
    /// If the broker does not accept the producer's identity any more, because another one has the name or for any other reason,
    /// the producer ends, too, and the name has to be claimed again.
    pub fn claim(mut self, name: &str) -> Self {
        self.claim = Some(name.to_owned());
        self
    }

    /// Asks the broker for the topic and an identity, and makes the producer.
    ///
    /// Waits for the connection, at most 30 s.
    ///
    /// # Errors
    /// If an option makes no sense, the topic does not exist, or the broker cannot be asked.
    ///
    /// # Cancel safety
    /// If dropped before completion nothing happened that matters.
    pub async fn build(self) -> Result<Producer, Error> {
        let (batch_bytes, batch_records) = self.batch;
        if batch_bytes < BATCH_BYTES_MIN || batch_records == 0 {
            return Err(Error::invalid("a batch has at least 1024 bytes and one message"));
        }
        if self.in_flight.0 == 0 || self.in_flight.1 == 0 {
            return Err(Error::invalid("at least one byte and one message must be allowed in flight"));
        }
        let shared = Arc::clone(&self.client.shared);
        let topic = admin::topic(&shared, &self.topic).await?;
        let identity = match &self.claim {
            Some(name) => publish::claim(&shared, topic.id, name).await?,
            None => publish::open_identity(&shared).await?,
        };
        let limits = shared.current.borrow().as_ref().map(|live| live.welcome.limits);
        let record_bytes_max = limits.map_or(BATCH_BYTES_LIMIT, |limits| limits.record_bytes_max);
        let batch_bytes_max = topic.settings.batch_bytes_max.min(BATCH_BYTES_LIMIT) as usize;
        let options = ProducerOptions {
            topic: topic.id,
            partitions: topic.settings.partitions.max(1),
            batch_bytes: batch_bytes.min(batch_bytes_max),
            batch_bytes_max,
            batch_records: u32::try_from(batch_records).unwrap_or(u32::MAX).min(BATCH_RECORDS_MAX),
            linger: self.linger,
            in_flight_bytes: self.in_flight.0 as u64,
            in_flight_messages: self.in_flight.1 as u64,
            unacked_batches: UNACKED_BATCHES_MAX,
            delivery_timeout: self.delivery_timeout,
            retry: self.retry.unwrap_or(shared.options.retry),
            is_claimed: self.claim.is_some(),
        };
        let name = self.topic.clone();
        let log = move |failed: SendError| tracing::error!(error = %failed.error, topic = name, "a message was not delivered");
        let parts = Parts {
            client: Arc::clone(&shared),
            topic: self.topic,
            durability: self.durability,
            compression: self.compression,
            record_bytes_max: record_bytes_max as usize,
            keyed_versions: topic.settings.keyed_versions,
            token: self.claim.is_some().then(|| u64::from(identity.epoch.get())),
            on_failure: self.on_failure.unwrap_or_else(|| Arc::new(log)),
        };
        let producer = Arc::new(ProducerShared::new(parts, Machine::new(options, identity, seed())));
        {
            let mut producers = lock(&shared.producers);
            producers.retain(|producer| producer.strong_count() > 0);
            producers.push(Arc::downgrade(&producer));
        }
        let (task, keep) = (Arc::clone(&producer), Arc::clone(&self.client));
        shared.tasks.spawn_on(
            async move {
                publish::run(task).await;
                drop(keep);
            },
            &shared.runtime,
        );
        Ok(Producer::new(producer, self.client))
    }
}
