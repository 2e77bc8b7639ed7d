//! Chooses what is read, and starts reading.

use std::collections::BTreeSet;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;

use weir_protocol::ErrorCode;
use weir_protocol::frame::FRAME_HEADER_BYTES;
use weir_protocol::limits::BATCH_FRAME_OVERHEAD_BYTES;
use weir_protocol::message::StartAt;
use weir_protocol::units::{Offset, PartitionId, TopicId};

use crate::admin;
use crate::client::ClientHandle;
use crate::consumer::reading::Reading;
use crate::consumer::{BoundedRead, Consumer};
use crate::core::consumer::{Consumer as Machine, ConsumerOptions};
use crate::error::Error;
use crate::message::timestamp;
use crate::net::subscribe::{self, ConsumerShared};
use crate::options::Start;

/// Chooses what a [`Consumer`] or [`BoundedRead`] reads.
#[derive(Clone)]
#[must_use = "nothing happens before subscribe() or read_to_end()"]
pub struct ConsumerBuilder {
    client: Arc<ClientHandle>,
    topic: String,
    partitions: Option<BTreeSet<u32>>,
    start: Start,
    messages: usize,
    bytes: usize,
}

impl fmt::Debug for ConsumerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsumerBuilder")
            .field("topic", &self.topic)
            .field("partitions", &self.partitions)
            .field("start", &self.start)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl ConsumerBuilder {
    pub(crate) fn new(client: Arc<ClientHandle>, topic: &str) -> Self {
        Self {
            client,
            topic: topic.to_owned(),
            partitions: None,
            start: Start::Latest,
            messages: usize::MAX,
            bytes: 8 << 20,
        }
    }

    /// Only these partitions. All by default, or the one that [`Start::Offset`] names.
    pub fn partitions(mut self, partitions: impl IntoIterator<Item = u32>) -> Self {
        self.partitions = Some(partitions.into_iter().collect());
        self
    }

    /// Where to start. [`Start::Latest`] by default.
    pub fn start(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// How much is read ahead: `bytes` is what the broker may send before the application takes it, 8 MiB by default, but at
    /// least one largest frame for each lane. `messages` bounds what one `recv_batch` returns.
    pub fn credit(mut self, messages: NonZeroU32, bytes: usize) -> Self {
        self.messages = usize::try_from(messages.get()).unwrap_or(usize::MAX);
        self.bytes = bytes;
        self
    }

    /// Starts reading, without an end. Returns once every partition has its starting point: with [`Start::Latest`], what is
    /// published from then on is read.
    ///
    /// # Errors
    /// `WEIR-2001` and `WEIR-2005` if there is no such topic or partition, `WEIR-4001` with both bounds if a partition does not
    /// hold the offset, `WEIR-1027` if the start makes no sense.
    ///
    /// # Cancel safety
    /// If dropped before completion nothing is read.
    pub async fn subscribe(self) -> Result<Consumer, Error> {
        self.open(false).await.map(Consumer)
    }

    /// Reads to the end that is seen at the start: the records that are there now, and no later ones.
    ///
    /// # Errors
    /// As [`ConsumerBuilder::subscribe`].
    ///
    /// # Cancel safety
    /// If dropped before completion nothing is read.
    pub async fn read_to_end(self) -> Result<BoundedRead, Error> {
        self.open(true).await.map(BoundedRead)
    }

    async fn open(self, to_end: bool) -> Result<Reading, Error> {
        let shared = Arc::clone(&self.client.shared);
        let topic = admin::topic(&shared, &self.topic).await?;
        let partitions = self.choose(topic.settings.partitions)?;
        let batch_bytes_max = topic.settings.batch_bytes_max;
        let frame_bytes_max =
            FRAME_HEADER_BYTES as u64 + u64::from(BATCH_FRAME_OVERHEAD_BYTES) + u64::from(batch_bytes_max);
        let options = ConsumerOptions {
            topic: topic.id,
            partitions: starts(&self.start, topic.id, &partitions)?,
            window_bytes: self.bytes as u64,
            frame_bytes_max,
            to_end,
        };
        let pool_bytes = self.bytes.max(usize::try_from(frame_bytes_max).unwrap_or(usize::MAX));
        let machine = Machine::new(options);
        let consumer = Arc::new(ConsumerShared::new(Arc::clone(&shared), &self.topic, machine, pool_bytes));
        shared.tasks.spawn_on(subscribe::run(Arc::clone(&consumer)), &shared.runtime);
        let reading = Reading::new(consumer, self.client, topic.id, self.messages);
        reading.started().await?;
        Ok(reading)
    }

    fn choose(&self, count: u32) -> Result<Vec<PartitionId>, Error> {
        let chosen: Vec<u32> = match (&self.partitions, &self.start) {
            (Some(partitions), _) => partitions.iter().copied().collect(),
            (None, Start::Offset(partition, _)) => vec![*partition],
            (None, _) => (0..count).collect(),
        };
        if chosen.is_empty() {
            return Err(Error::invalid("no partition is to be read"));
        }
        match chosen.iter().find(|partition| **partition >= count) {
            Some(partition) => {
                let text = format!("topic '{}' has {count} partitions, no number {partition}", self.topic);
                Err(Error::broker(ErrorCode::PartitionNotFound, text))
            }
            None => Ok(chosen.into_iter().map(PartitionId::new).collect()),
        }
    }
}

/// Where each of the partitions starts.
pub(super) fn starts(
    start: &Start,
    topic: TopicId,
    partitions: &[PartitionId],
) -> Result<Vec<(PartitionId, StartAt)>, Error> {
    let all = |start: StartAt| Ok(partitions.iter().map(|partition| (*partition, start)).collect());
    match start {
        Start::Earliest => all(StartAt::Earliest),
        Start::Latest => all(StartAt::Latest),
        Start::Timestamp(time) => all(StartAt::Time(timestamp(*time))),
        Start::Last(count) => all(StartAt::Last(*count)),
        Start::Offset(partition, offset) => {
            let partition = PartitionId::new(*partition);
            if !partitions.contains(&partition) {
                return Err(Error::invalid(format!(
                    "partition {partition} is not among those that are read"
                )));
            }
            Ok(vec![(partition, StartAt::Offset(Offset::new(*offset)))])
        }
        Start::Resume(checkpoint) => {
            if !checkpoint.fits(topic) {
                return Err(Error::invalid("the checkpoint is of another topic"));
            }
            let start = |partition| checkpoint.start_of(partition).map_or(StartAt::Earliest, StartAt::Offset);
            Ok(partitions.iter().map(|partition| (*partition, start(*partition))).collect())
        }
    }
}
