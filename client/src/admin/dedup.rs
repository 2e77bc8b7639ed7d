//! What the broker remembers of idempotency keys.

use std::time::{Duration, SystemTime};

use weir_protocol::ErrorCode;
use weir_protocol::limits::IDEMPOTENCY_KEY_BYTES_MAX;
use weir_protocol::message as wire;
pub use weir_protocol::message::{DedupFigures, KeyedCounts};
use weir_protocol::partitioner::routing_hash;

use super::Admin;
use crate::core::requests::Repeat;
use crate::error::Error;
use crate::message::system_time;
use crate::net::shared::expect;

/// An idempotency key that is remembered, and the record it belongs to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct RememberedKey {
    /// The partition of the record.
    pub partition: u32,
    /// Its offset. The record may have been given up since; the key is remembered nevertheless.
    pub offset: u64,
    /// When the record was appended.
    pub timestamp: SystemTime,
    /// What tells the record from another one under the same key: a hash over routing key, value and headers.
    pub fingerprint: [u8; 16],
    /// The key is remembered for so much longer, at least.
    pub remaining: Duration,
    /// The record is in no segment yet.
    pub is_recent: bool,
}

/// Idempotency keys in figures.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct DedupStats {
    /// The keys of all topics together, and what they take.
    pub keys: DedupFigures,
    /// The topics that were asked for, in order of name.
    pub topics: Vec<TopicDedup>,
}

/// What became of the records with keys that were sent to a topic.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct TopicDedup {
    /// Its name.
    pub name: String,
    /// How long keys are remembered, at least; `None` if the topic takes none.
    pub horizon: Option<Duration>,
    /// Counted since the broker started.
    pub counts: KeyedCounts,
}

impl Admin {
    /// What is remembered of an idempotency key that was sent without a key of the message. `None` if a message with it
    /// would be stored. A message that is on its way while this is asked may be seen or not.
    ///
    /// # Errors
    /// `WEIR-2001` if there is no such topic, `WEIR-3015` for an empty key or one beyond 64 bytes, `WEIR-1009` if what would
    /// tell is damaged.
    ///
    /// # Cancel safety
    /// If dropped before completion nothing happened.
    pub async fn find_idempotency_key(
        &self,
        topic: &str,
        key: impl AsRef<[u8]> + Send,
    ) -> Result<Option<RememberedKey>, Error> {
        let key = key.as_ref();
        self.find_key(topic, key, key).await
    }

    /// As [`Admin::find_idempotency_key`], for one that was sent with a key of the message: that is part of its identity.
    ///
    /// # Errors
    /// As [`Admin::find_idempotency_key`].
    ///
    /// # Cancel safety
    /// If dropped before completion nothing happened.
    pub async fn find_idempotency_key_of(
        &self,
        topic: &str,
        message_key: impl AsRef<[u8]> + Send,
        key: impl AsRef<[u8]> + Send,
    ) -> Result<Option<RememberedKey>, Error> {
        self.find_key(topic, message_key.as_ref(), key.as_ref()).await
    }

    async fn find_key(
        &self,
        topic: &str,
        routing_key: &[u8],
        key: &[u8],
    ) -> Result<Option<RememberedKey>, Error> {
        if !(1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&key.len()) {
            return Err(Error::broker(ErrorCode::KeyInvalid, format!("a key of {} bytes", key.len())));
        }
        let (name, key, routing_hash) = (topic.to_owned(), key.to_vec(), routing_hash(routing_key));
        let make = move |request| wire::FindKey { request, name, routing_hash, key };
        let answer = self.shared().request(make, Repeat::Harmless).await?;
        let found: wire::KeyFound = expect(&answer)?;
        Ok(found.key.map(|key| RememberedKey {
            partition: key.partition.get(),
            offset: key.offset.get(),
            timestamp: system_time(key.append_time),
            fingerprint: key.fingerprint,
            remaining: Duration::from_micros(key.remaining_us),
            is_recent: key.is_recent,
        }))
    }

    /// How many idempotency keys there are and what became of records that had one: of a topic, or of all topics.
    ///
    /// # Errors
    /// `WEIR-2001` if there is no such topic.
    ///
    /// # Cancel safety
    /// If dropped before completion nothing happened.
    pub async fn dedup_stats(&self, topic: Option<&str>) -> Result<DedupStats, Error> {
        let mut topics: Vec<TopicDedup> = Vec::new();
        loop {
            let name = topic.unwrap_or_default().to_owned();
            let after = topics.last().map(|topic| topic.name.clone()).unwrap_or_default();
            let make = move |request| wire::DescribeDedup { request, name, after };
            let answer = self.shared().request(make, Repeat::Harmless).await?;
            let page: wire::DedupDescription = expect(&answer)?;
            let is_last = !page.more || page.topics.is_empty();
            topics.extend(page.topics.into_iter().map(TopicDedup::from_wire));
            if is_last {
                return Ok(DedupStats { keys: page.keys, topics });
            }
        }
    }
}

impl TopicDedup {
    fn from_wire(topic: wire::TopicDedup) -> Self {
        let horizon = (topic.horizon_us > 0).then(|| Duration::from_micros(topic.horizon_us));
        Self { name: topic.name, horizon, counts: topic.counts }
    }
}
