//! Chooses what is read, and starts reading.

use std::collections::BTreeSet;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use weir_protocol::ErrorCode;
use weir_protocol::frame::FRAME_HEADER_BYTES;
use weir_protocol::limits::BATCH_FRAME_OVERHEAD_BYTES;
use weir_protocol::message::{StartAt, TopicInfo};
use weir_protocol::units::{Offset, PartitionId, TopicId};

use crate::admin;
use crate::client::ClientHandle;
use crate::consumer::assignment::{AssignmentListener, Listener};
use crate::consumer::membership::Membership;
use crate::consumer::reading::Reading;
use crate::consumer::{BoundedRead, Consumer};
use crate::core::consumer::{Consumer as Machine, ConsumerOptions};
use crate::error::Error;
use crate::message::timestamp;
use crate::net::subscribe::{self, ConsumerShared};
use crate::options::{OnDrop, Redelivery, Start};

/// Chooses what a [`Consumer`] or [`BoundedRead`] reads.
#[derive(Clone)]
#[must_use = "nothing happens before subscribe() or read_to_end()"]
pub struct ConsumerBuilder {
    pub(super) client: Arc<ClientHandle>,
    pub(super) topic: String,
    partitions: Option<BTreeSet<u32>>,
    pub(super) start: Option<Start>,
    group: Option<Membership>,
    pub(super) messages: Option<NonZeroU32>,
    bytes: usize,
}

impl fmt::Debug for ConsumerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsumerBuilder")
            .field("topic", &self.topic)
            .field("partitions", &self.partitions)
            .field("start", &self.start)
            .field("group", &self.group)
            .field("messages", &self.messages)
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
            start: None,
            group: None,
            messages: None,
            bytes: 8 << 20,
        }
    }

    /// Only these partitions. All by default, or the one that [`Start::Offset`] names.
    pub fn partitions(mut self, partitions: impl IntoIterator<Item = u32>) -> Self {
        self.partitions = Some(partitions.into_iter().collect());
        self
    }

    /// Where to start. [`Start::Latest`] by default. A group is made there if it does not exist; one that does goes on where
    /// it stands.
    pub fn start(mut self, start: Start) -> Self {
        self.start = Some(start);
        self
    }

    /// As a member of a group: partitions are shared out among its members, and what is acknowledged is not delivered to the
    /// group again. Without a [`start`](Self::start) the group must exist.
    pub fn group(mut self, group: &str) -> Self {
        self.membership().group = group.to_owned();
        self
    }

    /// Name of this member, unique in its group: whoever joins again under it, within `grace` after it left, gets its
    /// partitions back. Only one process at a time may use a name: a later one replaces an earlier. By default a name is
    /// made up, and nothing waits for a member that left.
    pub fn member(mut self, name: &str, grace: Duration) -> Self {
        let membership = self.membership();
        (membership.member, membership.grace) = (name.to_owned(), grace);
        self
    }

    /// How long a member keeps its partitions without being heard of: 10 s by default, at least 100 ms.
    pub fn lease(mut self, time: Duration) -> Self {
        self.membership().lease = time;
        self
    }

    /// Who has a say when partitions come and go.
    pub fn assignment(mut self, listener: impl AssignmentListener) -> Self {
        self.membership().listener = Some(Listener::new(listener));
        self
    }

    /// What the group does with records that fail. It is stored with the group: where its members differ, the last to join has
    /// said so.
    pub fn redelivery(mut self, redelivery: Redelivery) -> Self {
        self.membership().redelivery = Some(redelivery);
        self
    }

    /// What becomes of records that are dropped without a word. [`OnDrop::Redeliver`] by default.
    pub fn on_drop(mut self, on_drop: OnDrop) -> Self {
        self.membership().on_drop = on_drop;
        self
    }

    fn membership(&mut self) -> &mut Membership {
        self.group.get_or_insert_with(Membership::default)
    }

    /// How much is read ahead: what the broker may send before the application takes it.
    ///
    /// `bytes` is 8 MiB by default, but at least one largest frame for each lane. `messages` has no limit by default, and also
    /// bounds what one `recv_batch` returns. Messages come in batches that are not divided: a batch comes while one message is
    /// left, so that on each lane the last batch may exceed it. Each lane has its share of both.
    pub fn credit(mut self, messages: NonZeroU32, bytes: usize) -> Self {
        self.messages = Some(messages);
        self.bytes = bytes;
        self
    }

    /// Starts reading, without an end. Returns once every partition has its starting point: with [`Start::Latest`], what is
    /// published from then on is read.
    ///
    /// # Errors
    /// `WEIR-2001` and `WEIR-2005` if there is no such topic or partition, `WEIR-4001` with both bounds if a partition does not
    /// hold the offset, `WEIR-1027` if the start makes no sense, `WEIR-4101` if there is no such group and no start was given.
    ///
    /// # Cancel safety
    /// If dropped before completion nothing is read.
    pub async fn subscribe(self) -> Result<Consumer, Error> {
        match self.group.clone() {
            Some(membership) => membership.open(self).await.map(Consumer),
            None => self.open(false).await.map(Consumer),
        }
    }

    /// Reads to the end that is seen at the start: the records that are there now, and no later ones.
    ///
    /// # Errors
    /// As [`ConsumerBuilder::subscribe`].
    ///
    /// # Cancel safety
    /// If dropped before completion nothing is read.
    pub async fn read_to_end(self) -> Result<BoundedRead, Error> {
        if self.group.is_some() {
            return Err(Error::invalid("a member of a group has no end to read to"));
        }
        self.open(true).await.map(BoundedRead)
    }

    async fn open(self, to_end: bool) -> Result<Reading, Error> {
        let shared = Arc::clone(&self.client.shared);
        let topic = admin::topic(&shared, &self.topic).await?;
        let partitions = self.choose(topic.settings.partitions)?;
        let starts = starts(self.start.as_ref().unwrap_or(&Start::Latest), topic.id, &partitions)?;
        let (options, pool_bytes) = self.options(&topic, starts, to_end);
        let machine = Machine::new(options);
        let consumer = Arc::new(ConsumerShared::new(Arc::clone(&shared), &self.topic, machine, pool_bytes));
        shared.tasks.spawn_on(subscribe::run(Arc::clone(&consumer)), &shared.runtime);
        let most = self.messages_max();
        let reading = Reading::new(consumer, self.client, topic.id, most);
        reading.started().await?;
        Ok(reading)
    }

    /// How many messages are returned at a time.
    pub(super) fn messages_max(&self) -> usize {
        self.messages.map_or(usize::MAX, |messages| usize::try_from(messages.get()).unwrap_or(usize::MAX))
    }

    /// How the machine is to read, and how much memory its frames may take.
    pub(super) fn options(
        &self,
        topic: &TopicInfo,
        partitions: Vec<(PartitionId, StartAt)>,
        to_end: bool,
    ) -> (ConsumerOptions, usize) {
        let batch_bytes_max = topic.settings.batch_bytes_max;
        let frame_bytes_max =
            FRAME_HEADER_BYTES as u64 + u64::from(BATCH_FRAME_OVERHEAD_BYTES) + u64::from(batch_bytes_max);
        let window_bytes = self.bytes as u64;
        let pool_bytes = self.bytes.max(usize::try_from(frame_bytes_max).unwrap_or(usize::MAX));
        let window_records = self.messages.map(|messages| u64::from(messages.get()));
        let options = ConsumerOptions {
            topic: topic.id,
            partitions,
            window_bytes,
            window_records,
            frame_bytes_max,
            to_end,
        };
        (options, pool_bytes)
    }

    fn choose(&self, count: u32) -> Result<Vec<PartitionId>, Error> {
        let chosen: Vec<u32> = match (&self.partitions, self.start.as_ref()) {
            (Some(partitions), _) => partitions.iter().copied().collect(),
            (None, Some(Start::Offset(partition, _))) => vec![*partition],
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
