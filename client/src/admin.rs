//! Topics: make, change, delete, trim, list, describe. And snapshots of all of them.

mod dedup;
mod explain;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use uuid::Uuid;
use weir_protocol::ErrorCode;
use weir_protocol::limits::{BATCH_BYTES_MAX_DEFAULT, DEDUP_HORIZON_US_DEFAULT, NUMBER_MAX};
use weir_protocol::message as wire;
use weir_protocol::partitioner::{partition_of, routing_hash};
use weir_protocol::units::{Offset, PartitionId, Timestamp};

use crate::client::ClientHandle;
use crate::core::requests::Repeat;
use crate::error::{Class, ClientCode, Error};
use crate::message::{system_time, timestamp};
use crate::net::shared::{Shared, expect};
pub use dedup::{DedupFigures, DedupStats, KeyedCounts, RememberedKey, TopicDedup};
pub use explain::{Waiting, WaitsFor};

/// Administration of the broker a client is connected to.
///
/// Every call waits for the connection and the answer, at most 30 s.
#[derive(Clone, Debug)]
pub struct Admin {
    client: Arc<ClientHandle>,
}

/// A topic to be made.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TopicSpec {
    pub(crate) name: String,
    pub(crate) settings: TopicSettings,
}

impl TopicSpec {
    /// A topic with one partition that keeps everything.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), settings: TopicSettings::default() }
    }
    /// Number of partitions, 1 to 10,000.
    #[must_use]
    pub fn partitions(mut self, partitions: u32) -> Self {
        self.settings.partitions = partitions;
        self
    }
    /// Records older than this may go.
    #[must_use]
    pub fn retention_age(mut self, age: Duration) -> Self {
        self.settings.retention_age = Some(age);
        self
    }
    /// Bytes kept of each partition.
    #[must_use]
    pub fn retention_bytes(mut self, bytes: u64) -> Self {
        self.settings.retention_bytes = Some(bytes);
        self
    }
    /// Longest batch.
    #[must_use]
    pub fn batch_bytes_max(mut self, bytes: u32) -> Self {
        self.settings.batch_bytes_max = bytes;
        self
    }
    /// Clients choose the partition themselves.
    #[must_use]
    pub fn explicit_partitions(mut self) -> Self {
        self.settings.explicit_partitions = true;
        self
    }

    /// The offset of the last record of each key is remembered, so that messages can expect something of it. It costs some
    /// 60 bytes of the broker's disk for each key, as long as the topic exists, and cannot be chosen later.
    #[must_use]
    pub const fn keyed_versions(mut self) -> Self {
        self.settings.keyed_versions = true;
        self
    }

    /// How many idempotency keys are expected in a second: the broker refuses a horizon that it has no room for then. Without it is
    /// taken to be one.
    #[must_use]
    pub const fn dedup_keys_per_second(mut self, keys: u32) -> Self {
        self.settings.dedup_keys_per_second = Some(keys);
        self
    }

    /// How long idempotency keys are remembered; `None` refuses messages that have one. Ten minutes unless set.
    #[must_use]
    pub const fn dedup_horizon(mut self, horizon: Option<Duration>) -> Self {
        self.settings.dedup_horizon = horizon;
        self
    }
}

/// What is chosen for a topic.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TopicSettings {
    /// Number of partitions.
    pub partitions: u32,
    /// Records older than this may go; `None` keeps them.
    pub retention_age: Option<Duration>,
    /// Bytes kept of each partition; `None` for no limit.
    pub retention_bytes: Option<u64>,
    /// Longest batch in bytes.
    pub batch_bytes_max: u32,
    /// Clients choose the partition themselves.
    pub explicit_partitions: bool,
    /// How long idempotency keys are remembered; `None` refuses messages that have one.
    pub dedup_horizon: Option<Duration>,
    /// The offset of the last record of each key is remembered.
    pub keyed_versions: bool,
    /// How many idempotency keys are expected in a second; `None` for hardly any.
    pub dedup_keys_per_second: Option<u32>,
}

impl Default for TopicSettings {
    fn default() -> Self {
        Self {
            partitions: 1,
            retention_age: None,
            retention_bytes: None,
            batch_bytes_max: BATCH_BYTES_MAX_DEFAULT,
            explicit_partitions: false,
            dedup_horizon: Some(Duration::from_micros(DEDUP_HORIZON_US_DEFAULT)),
            keyed_versions: false,
            dedup_keys_per_second: None,
        }
    }
}

/// Changes to a topic; what is not named stays.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TopicChange {
    /// New number of partitions: as many as there are, or more.
    pub partitions: Option<u32>,
    /// New age limit; `Some(None)` removes it.
    pub retention_age: Option<Option<Duration>>,
    /// New limit of bytes; `Some(None)` removes it.
    pub retention_bytes: Option<Option<u64>>,
    /// New longest batch.
    pub batch_bytes_max: Option<u32>,
    /// How long idempotency keys are remembered from now on; `Some(None)` refuses messages that have one. Those that are remembered
    /// stay so for as long as was promised when they were stored.
    pub dedup_horizon: Option<Option<Duration>>,
    /// The offset of the last record of each key is remembered: that can be given up, and not be taken up again.
    pub keyed_versions: Option<bool>,
    /// How many idempotency keys are expected in a second; `Some(None)` for hardly any.
    pub dedup_keys_per_second: Option<Option<u32>>,
}

/// A topic.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct TopicInfo {
    /// Its name.
    pub name: String,
    /// Its identity.
    pub id: Uuid,
    /// When it was made.
    pub created: SystemTime,
    /// What was chosen for it.
    pub settings: TopicSettings,
}

/// A topic in a list.
pub type TopicSummary = TopicInfo;

/// What became of [`Admin::ensure_topic`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Ensured {
    /// It was made.
    Created,
    /// It was there, as asked for.
    Unchanged,
    /// It was there with other settings, named here; nothing was changed.
    Differs(Vec<String>),
}

/// A topic with its partitions.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct TopicDescription {
    /// Its name.
    pub name: String,
    /// Its identity.
    pub id: Uuid,
    /// When it was made.
    pub created: SystemTime,
    /// What was chosen for it.
    pub settings: TopicSettings,
    /// All partitions, in order of number.
    pub partitions: Vec<PartitionDescription>,
}

/// A partition of a topic.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct PartitionDescription {
    /// Its number.
    pub partition: u32,
    /// Offset of the first record that is kept.
    pub start_offset: u64,
    /// The offset after the last visible record.
    pub end_offset: u64,
    /// Bytes stored.
    pub bytes: u64,
}

/// Which records of a partition are given up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Trim {
    /// The partition.
    pub partition: u32,
    /// The records that stand before this.
    pub before: TrimBefore,
    /// Give up nothing and say what would be.
    pub dry_run: bool,
}

/// A snapshot of everything a broker held.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct SnapshotInfo {
    /// Its directory on the broker's machine.
    pub directory: String,
    /// Segments in it.
    pub segments: u64,
    /// Their bytes, which share the space of the broker's own files.
    pub bytes: u64,
}

/// Where the records begin that a trim keeps.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TrimBefore {
    /// At this offset, which is at most the end.
    Offset(u64),
    /// At the first record appended at or after this moment.
    Time(SystemTime),
}

/// What a trim did, or would do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Trimmed {
    /// The partition.
    pub partition: u32,
    /// Offset of the first record that was kept before.
    pub old_start_offset: u64,
    /// Offset of the first record that is kept now.
    pub start_offset: u64,
    /// The offset after the last visible record.
    pub end_offset: u64,
}

impl TopicSettings {
    /// The partition of the records with a key; `None` if producers choose it.
    #[must_use]
    pub fn partition_of(&self, key: &[u8]) -> Option<u32> {
        let partition = partition_of(routing_hash(key), self.partitions.max(1));
        (!self.explicit_partitions).then_some(partition.get())
    }

    pub(crate) fn from_wire(settings: &wire::TopicSettings) -> Self {
        Self {
            partitions: settings.partitions,
            retention_age: settings.retention_age_us.map(Duration::from_micros),
            retention_bytes: settings.retention_bytes,
            batch_bytes_max: settings.batch_bytes_max,
            explicit_partitions: settings.explicit_partitions,
            dedup_horizon: settings.dedup_horizon_us.map(Duration::from_micros),
            keyed_versions: settings.keyed_versions,
            dedup_keys_per_second: settings.dedup_keys_per_second,
        }
    }

    fn to_wire(self) -> wire::TopicSettings {
        let micros = |age: Duration| u64::try_from(age.as_micros()).unwrap_or(u64::MAX);
        wire::TopicSettings {
            partitions: self.partitions,
            retention_age_us: self.retention_age.map(micros),
            retention_bytes: self.retention_bytes,
            batch_bytes_max: self.batch_bytes_max,
            explicit_partitions: self.explicit_partitions,
            dedup_horizon_us: self.dedup_horizon.map(micros),
            keyed_versions: self.keyed_versions,
            dedup_keys_per_second: self.dedup_keys_per_second,
            dedup_since: Timestamp::ZERO,
        }
    }

    /// The names of the settings in which `other` differs.
    fn differences(&self, other: &Self) -> Vec<String> {
        let differs = [
            ("partitions", self.partitions != other.partitions),
            ("retention_age", self.retention_age != other.retention_age),
            ("retention_bytes", self.retention_bytes != other.retention_bytes),
            ("batch_bytes_max", self.batch_bytes_max != other.batch_bytes_max),
            ("explicit_partitions", self.explicit_partitions != other.explicit_partitions),
            ("dedup_horizon", self.dedup_horizon != other.dedup_horizon),
            ("keyed_versions", self.keyed_versions != other.keyed_versions),
            ("dedup_keys_per_second", self.dedup_keys_per_second != other.dedup_keys_per_second),
        ];
        differs.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name.to_owned()).collect()
    }

    fn changed(mut self, change: &TopicChange) -> Self {
        self.partitions = change.partitions.unwrap_or(self.partitions);
        self.retention_age = change.retention_age.unwrap_or(self.retention_age);
        self.retention_bytes = change.retention_bytes.unwrap_or(self.retention_bytes);
        self.batch_bytes_max = change.batch_bytes_max.unwrap_or(self.batch_bytes_max);
        self.dedup_horizon = change.dedup_horizon.unwrap_or(self.dedup_horizon);
        self.keyed_versions = change.keyed_versions.unwrap_or(self.keyed_versions);
        self.dedup_keys_per_second = change.dedup_keys_per_second.unwrap_or(self.dedup_keys_per_second);
        self
    }
}

impl TopicInfo {
    fn from_wire(info: wire::TopicInfo) -> Self {
        Self {
            name: info.name,
            id: Uuid::from_bytes(info.id.to_bytes()),
            created: system_time(info.created),
            settings: TopicSettings::from_wire(&info.settings),
        }
    }
}

impl Admin {
    pub(crate) const fn new(client: Arc<ClientHandle>) -> Self {
        Self { client }
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.client.shared
    }

    /// Makes a topic.
    ///
    /// # Errors
    /// `WEIR-2002` if there is one of that name, `WEIR-2003` and `WEIR-2004` if name or settings are not allowed,
    /// `WEIR-1028` if the connection was lost before the answer came: then it may have been made.
    ///
    /// # Cancel safety
    /// If dropped before completion the topic may have been made.
    pub async fn create_topic(&self, spec: TopicSpec) -> Result<TopicInfo, Error> {
        let TopicSpec { name, settings } = spec;
        let make = move |request| wire::CreateTopic { request, name, settings: settings.to_wire() };
        let answer = self.shared().request(make, Repeat::Never).await?;
        expect(&answer).map(TopicInfo::from_wire)
    }

    /// Makes a topic unless it is there already. One that is there is not changed.
    ///
    /// # Errors
    /// As [`Admin::create_topic`], but for a topic that is there.
    ///
    /// # Cancel safety
    /// If dropped before completion the topic may have been made.
    pub async fn ensure_topic(&self, spec: TopicSpec) -> Result<Ensured, Error> {
        let (name, wanted) = (spec.name.clone(), spec.settings);
        match self.create_topic(spec).await {
            Ok(_) => Ok(Ensured::Created),
            Err(error) if is_there(&error) => {
                let there = TopicInfo::from_wire(topic(self.shared(), &name).await?);
                let differences = wanted.differences(&there.settings);
                Ok(if differences.is_empty() { Ensured::Unchanged } else { Ensured::Differs(differences) })
            }
            Err(error) => Err(error),
        }
    }

    /// Changes a topic's settings; what the change does not name stays.
    ///
    /// # Errors
    /// `WEIR-2001` if there is no such topic, `WEIR-2004` if a setting is not allowed.
    ///
    /// # Cancel safety
    /// If dropped before completion the change may have been made.
    pub async fn alter_topic(&self, name: &str, change: TopicChange) -> Result<TopicInfo, Error> {
        let there = TopicSettings::from_wire(&topic(self.shared(), name).await?.settings);
        let settings = there.changed(&change);
        let name = name.to_owned();
        let make = move |request| wire::AlterTopic { request, name, settings: settings.to_wire() };
        let answer = self.shared().request(make, Repeat::Harmless).await?;
        expect(&answer).map(TopicInfo::from_wire)
    }

    /// Deletes a topic and its records.
    ///
    /// # Errors
    /// `WEIR-2001` if there is no such topic, `WEIR-1028` if the connection was lost before the answer came: then it may
    /// have been deleted.
    ///
    /// # Cancel safety
    /// If dropped before completion the topic may have been deleted.
    pub async fn delete_topic(&self, name: &str) -> Result<(), Error> {
        let name = name.to_owned();
        let answer =
            self.shared().request(move |request| wire::DeleteTopic { request, name }, Repeat::Never).await?;
        expect::<wire::Done>(&answer).map(|_| ())
    }

    /// Gives up the records of a partition below a point. The answer comes once that is durable; a trim that was done
    /// before changes nothing.
    ///
    /// # Errors
    /// `WEIR-2001` and `WEIR-2005` if there is no such topic or partition, `WEIR-4001` for an offset beyond the end,
    /// `WEIR-1010` if too many trims by time are under way.
    ///
    /// # Cancel safety
    /// If dropped before completion the records may have been given up.
    pub async fn trim(&self, name: &str, trim: Trim) -> Result<Trimmed, Error> {
        let Trim { partition, before, dry_run } = trim;
        let (name, partition) = (name.to_owned(), PartitionId::new(partition));
        let before = match before {
            TrimBefore::Offset(offset) if offset > NUMBER_MAX => {
                return Err(Error::client(ClientCode::Invalid, format!("{offset} is no offset")));
            }
            TrimBefore::Offset(offset) => wire::TrimBefore::Offset(Offset::new(offset)),
            TrimBefore::Time(time) => wire::TrimBefore::Time(timestamp(time)),
        };
        let make = move |request| wire::TrimPartition { request, name, partition, before, dry_run };
        let answer = self.shared().request(make, Repeat::Harmless).await?;
        expect(&answer).map(|trimmed: wire::PartitionTrimmed| Trimmed {
            partition: trimmed.partition.get(),
            old_start_offset: trimmed.old_start_offset.get(),
            start_offset: trimmed.start_offset.get(),
            end_offset: trimmed.end_offset.get(),
        })
    }

    /// Makes a snapshot of everything that was acknowledged before the call, in the broker's data directory under
    /// `snapshots/` and this name. A broker can be started from it.
    ///
    /// # Errors
    /// `WEIR-2003` for a name with anything but `A-Z a-z 0-9 . _ -` or a dot in front, `WEIR-6001` if there is one of
    /// that name, `WEIR-6002` if the broker's disk failed, `WEIR-1010` while another one is being made, `WEIR-1028` if
    /// the connection was lost before the answer came: then it may have been made.
    ///
    /// # Cancel safety
    /// If dropped before completion the snapshot may have been made.
    pub async fn create_snapshot(&self, name: &str) -> Result<SnapshotInfo, Error> {
        let name = name.to_owned();
        let make = move |request| wire::CreateSnapshot { request, name };
        let answer = self.shared().request(make, Repeat::Never).await?;
        expect(&answer).map(|created: wire::SnapshotCreated| SnapshotInfo {
            directory: created.directory,
            segments: created.segments,
            bytes: created.bytes,
        })
    }

    /// All topics, in order of name.
    ///
    /// # Errors
    /// If the broker cannot be asked.
    ///
    /// # Cancel safety
    /// If dropped before completion nothing happened.
    pub async fn list_topics(&self) -> Result<Vec<TopicSummary>, Error> {
        let mut topics: Vec<TopicSummary> = Vec::new();
        loop {
            let after = topics.last().map(|topic| topic.name.clone()).unwrap_or_default();
            let make = move |request| wire::ListTopics { request, after };
            let answer = self.shared().request(make, Repeat::Harmless).await?;
            let page: wire::TopicList = expect(&answer)?;
            let is_last = !page.more || page.topics.is_empty();
            topics.extend(page.topics.into_iter().map(TopicInfo::from_wire));
            if is_last {
                return Ok(topics);
            }
        }
    }

    /// A topic with all its partitions.
    ///
    /// # Errors
    /// `WEIR-2001` if there is no such topic.
    ///
    /// # Cancel safety
    /// If dropped before completion nothing happened.
    pub async fn describe_topic(&self, name: &str) -> Result<TopicDescription, Error> {
        let mut page = page(self.shared(), name, PartitionId::ZERO).await?;
        let mut partitions: Vec<PartitionDescription> = Vec::new();
        loop {
            let count = page.partitions.len();
            partitions.extend(page.partitions.iter().map(|info| PartitionDescription {
                partition: info.partition.get(),
                start_offset: info.start_offset.get(),
                end_offset: info.end_offset.get(),
                bytes: info.bytes,
            }));
            let next = u32::try_from(partitions.len()).unwrap_or(u32::MAX);
            if count == 0 || next >= page.topic.settings.partitions {
                break;
            }
            page = self::page(self.shared(), name, PartitionId::new(next)).await?;
        }
        let TopicInfo { name, id, created, settings } = TopicInfo::from_wire(page.topic);
        Ok(TopicDescription { name, id, created, settings, partitions })
    }
}

/// Whether a topic that was to be made is there, or may be, because the answer was lost.
fn is_there(error: &Error) -> bool {
    let is_lost = error.class() == Class::OutcomeUnknown && error.code() == ClientCode::ConnectionLost.text();
    error.broker_code() == Some(ErrorCode::TopicExists) || is_lost
}

async fn page(
    shared: &Shared,
    name: &str,
    first_partition: PartitionId,
) -> Result<wire::TopicDescription, Error> {
    let name = name.to_owned();
    let make = move |request| wire::DescribeTopic { request, name, first_partition };
    expect(&shared.request(make, Repeat::Harmless).await?)
}

/// A topic, without its partitions.
pub(crate) async fn topic(shared: &Shared, name: &str) -> Result<wire::TopicInfo, Error> {
    Ok(page(shared, name, PartitionId::ZERO).await?.topic)
}
