//! Topics: make, change, delete, list, describe.

use std::time::{Duration, SystemTime};

use uuid::Uuid;

use crate::error::Error;

/// Administration of a broker.
#[derive(Clone, Debug)]
pub struct Admin {}

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
}

impl Default for TopicSettings {
    fn default() -> Self {
        Self {
            partitions: 1,
            retention_age: None,
            retention_bytes: None,
            batch_bytes_max: weir_protocol::limits::BATCH_BYTES_MAX_DEFAULT,
            explicit_partitions: false,
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

impl Admin {
    /// Makes a topic.
    pub async fn create_topic(&self, _spec: TopicSpec) -> Result<TopicInfo, Error> {
        Err(Error::closed("client"))
    }
    /// Makes a topic unless it is there.
    pub async fn ensure_topic(&self, _spec: TopicSpec) -> Result<Ensured, Error> {
        Err(Error::closed("client"))
    }
    /// Changes a topic's settings.
    pub async fn alter_topic(&self, _name: &str, _change: TopicChange) -> Result<TopicInfo, Error> {
        Err(Error::closed("client"))
    }
    /// Deletes a topic and its records.
    pub async fn delete_topic(&self, _name: &str) -> Result<(), Error> {
        Err(Error::closed("client"))
    }
    /// All topics, in order of name.
    pub async fn list_topics(&self) -> Result<Vec<TopicSummary>, Error> {
        Err(Error::closed("client"))
    }
    /// A topic with all its partitions.
    pub async fn describe_topic(&self, _name: &str) -> Result<TopicDescription, Error> {
        Err(Error::closed("client"))
    }
}
