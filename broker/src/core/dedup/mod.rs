//! Idempotency keys and expectations: which records of a batch are new and meet what they expect, and what becomes of the others.
//!
//! Invariants: a record counts only if its key is known to nobody else; what is answered as a duplicate names a record with
//! that key and payload; a key is taken in the same step in which its record gets its offset, so nothing that is not
//! appended leaves a key behind.
//!
//! Keys of batches in memory are in [`Recent`]; those of flushed ones are asked for with a [`KeyProbe`], and only if a filter
//! cannot exclude them. Until the answer is there, the batch and all later ones of its partition wait; so they do while there is
//! no room for more keys in memory, which a flush makes. Where the last record of a key stands, its *version*, is kept in the
//! same way, under a digest of its own.

mod clock;
mod counts;
mod decide;
mod uuid;
mod versions;
mod waiting;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Debug;

use weir_protocol::batch::{ProducerBatch, TableRow};
use weir_protocol::message::DedupFigures;
use weir_protocol::units::{PartitionKey, Timestamp, TopicId};
use weir_storage::dedup::{Entry, KeyDigest, KeySeed, Recent, RecordPlace};
use weir_storage::store::{FoundKey, KeyFigures};

use crate::core::LaneId;

pub use clock::KeyClock;
pub use counts::KeyCounts;
pub use decide::{Decision, KeyMemory, Placing};
pub use waiting::{Incoming, Waiting};

/// What is known, without I/O, of the keys that are no longer in memory.
pub trait OlderKeys: Debug + Send {
    /// Whether there may be such a key. `false` is certain.
    fn may_hold(&self, digest: KeyDigest) -> bool;

    /// Marks those of some keys that there may be.
    fn mark(&self, digests: &[KeyDigest], marks: &mut [bool]) {
        for (digest, mark) in digests.iter().zip(marks) {
            *mark |= self.may_hold(*digest);
        }
    }

    /// Whether no more keys can be kept.
    fn is_full(&self) -> bool;

    /// Whether no more versions of keys can be kept.
    fn is_full_of_versions(&self) -> bool;

    /// How many there are, and what they take.
    fn figures(&self) -> KeyFigures;
}

/// Wanted: keys that may be among the older ones.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyProbe {
    /// The partition that waits.
    pub partition: PartitionKey,
    /// The keys.
    pub digests: Vec<KeyDigest>,
}

/// The answer to a [`KeyProbe`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyAnswer {
    /// The partition that waits.
    pub partition: PartitionKey,
    /// What is known of the keys: of those that are not named, nothing is. `None` if they could not be read.
    pub found: Option<Vec<Entry>>,
}

/// Wanted: what is known of a key, for somebody who asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct KeyLookup {
    /// Where the answer goes.
    pub lane: LaneId,
    /// The request that is answered.
    pub request: u32,
    /// The key.
    pub digest: KeyDigest,
}

/// The answer to a [`KeyLookup`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct KeyLookupAnswer {
    /// Where the answer goes.
    pub lane: LaneId,
    /// The request that is answered.
    pub request: u32,
    /// What is known, if anything is. `None` if it could not be read.
    pub found: Option<Option<FoundKey>>,
}

/// What is known of a key without I/O.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KeyKnown {
    /// Nobody has it.
    Free,
    /// A record has it whose batch is in no segment yet.
    Recent {
        /// Where that record stands.
        place: RecordPlace,
        /// When it was appended.
        append_time: Timestamp,
        /// What tells it from others.
        fingerprint: [u8; 16],
    },
    /// It takes a look at the disk.
    Unsure(KeyDigest),
}

/// Of so many keys that fit memory, this many are flushed at the latest. A batch with no more keys than that finds room for sure
/// if it waits.
pub const fn flush_keys_of(keys_max: u64) -> u64 {
    keys_max / 2
}

/// What a probe has found, by key.
pub type Found = BTreeMap<KeyDigest, Entry>;

/// The keys a node remembers.
#[derive(Debug)]
pub struct Dedup {
    seed: KeySeed,
    recent: Recent,
    /// How many keys have left `recent`.
    released: u64,
    older: Box<dyn OlderKeys>,
    clock: KeyClock,
    waiting: Waiting,
    counted: KeyCounts,
    /// Records that were refused because what they expected was not so.
    unmet_expectations: u64,
    /// Of each topic there is.
    counted_by_topic: BTreeMap<TopicId, KeyCounts>,
    /// The keys of the batch that is decided, kept for its memory.
    digests: Vec<KeyDigest>,
    /// Which of them may be older ones.
    marks: Vec<bool>,
    /// The partitions that wait for room in memory, not for older keys.
    short: BTreeSet<PartitionKey>,
    /// The records' own keys of that batch, as far as it names them.
    versions: Vec<KeyDigest>,
}

impl Dedup {
    /// With no key in memory.
    pub fn new(seed: KeySeed, recent: Recent, older: Box<dyn OlderKeys>) -> Self {
        Self {
            seed,
            recent,
            released: 0,
            older,
            clock: KeyClock::default(),
            waiting: Waiting::default(),
            counted: KeyCounts::default(),
            unmet_expectations: 0,
            counted_by_topic: BTreeMap::new(),
            digests: Vec::new(),
            marks: Vec::new(),
            short: BTreeSet::new(),
            versions: Vec::new(),
        }
    }

    /// The time by which keys age.
    pub const fn clock(&mut self) -> &mut KeyClock {
        &mut self.clock
    }

    /// The batches that wait for older keys.
    pub const fn waiting(&mut self) -> &mut Waiting {
        &mut self.waiting
    }

    /// Whether no batch waits for older keys.
    pub fn is_quiet(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The first `count` keys ever taken are among the older ones now.
    pub fn flushed(&mut self, count: u64) {
        self.released = count;
        self.recent.release(count);
    }

    /// A batch waits for older keys.
    pub fn wait(&mut self, incoming: Incoming) {
        self.waiting.begin(incoming, self.released);
    }

    /// A batch waits for room for its keys.
    pub fn wait_for_room(&mut self, incoming: Incoming) {
        self.short.insert(incoming.publish.batch.header().partition);
        self.waiting.begin(incoming, self.released);
    }

    /// The partitions that have waited for room.
    pub fn take_short(&mut self) -> BTreeSet<PartitionKey> {
        std::mem::take(&mut self.short)
    }

    /// Whether a batch with so many keys should wait: there is no room for them, but soon will be.
    fn is_short(&self, keys: usize) -> bool {
        let flushed_at = usize::try_from(flush_keys_of(self.recent.capacity() as u64)).unwrap_or(0);
        self.recent.room() < keys && keys <= flushed_at
    }

    /// Takes the batches of a partition out whose keys have been looked for, and says whether what was found still holds: not
    /// if keys have become older ones meanwhile, which were not looked for.
    pub fn take_waiting(&mut self, partition: PartitionKey) -> Option<(VecDeque<Incoming>, bool)> {
        let (batches, released) = self.waiting.take(partition)?;
        Some((batches, released == self.released))
    }

    /// Keys in memory.
    pub fn recent(&self) -> usize {
        self.recent.len()
    }

    /// What was counted since the start.
    pub const fn counted(&self) -> KeyCounts {
        self.counted
    }

    /// Records that were refused since the start because what they expected was not so.
    pub const fn unmet_expectations(&self) -> u64 {
        self.unmet_expectations
    }

    /// What was counted of a topic since the start.
    pub fn counted_of(&self, topic: TopicId) -> KeyCounts {
        self.counted_by_topic.get(&topic).copied().unwrap_or_default()
    }

    /// A topic is gone, and what was counted of it.
    pub fn topic_removed(&mut self, topic: TopicId) {
        self.counted_by_topic.remove(&topic);
    }

    /// How many keys there are, and what they take.
    pub fn figures(&self) -> DedupFigures {
        let older = self.older.figures();
        DedupFigures {
            recent_keys: self.recent.len() as u64,
            recent_keys_max: (self.recent.len() + self.recent.room()) as u64,
            flushed_keys: older.keys,
            generations: older.generations,
            narrow_filters: older.narrow_filters,
            missing_filters: older.missing_filters,
            lost_generations: older.lost,
            filter_bytes: older.memory_bytes,
            filter_bytes_max: older.memory_bytes_max,
            disk_bytes: older.disk_bytes,
            disk_bytes_max: older.disk_bytes_max,
        }
    }

    /// The digests of a batch's keys, in order; they stand in `digests` and `versions` until the next call.
    fn digest_all(&mut self, batch: &ProducerBatch) {
        self.digests.clear();
        self.versions.clear();
        let (seed, table, partition) = (self.seed, batch.table(), batch.header().partition);
        if table.has_idempotency_keys() {
            let topic = partition.topic;
            let key = |row: TableRow<'_>| Some(seed.digest(topic, row.routing_hash, row.idempotency_key?));
            self.digests.extend(table.rows().filter_map(key));
        }
        if table.has_record_keys() {
            self.versions
                .extend(table.rows().filter_map(|row| Some(seed.version(partition, row.record_key?))));
        }
    }
}
