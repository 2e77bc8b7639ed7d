//! Random histories of records with keys against a plain map, with crashes, merges, trims, and topics that come and go: where
//! the last record of a key stands is known exactly, for as long as its topic exists.

use std::collections::BTreeMap;

use weir_protocol::batch::{
    BatchBuilder, BatchIdentity, BrokerSection, Compression, RecordInput, StoredBatch, TableRow, Voids,
};
use weir_protocol::units::{Epoch, Offset, PartitionKey, ProducerId, Sequence};

use super::random::Random;
use super::sample::{partition, topic};
use super::*;
use crate::dedup::{Recent, versions};
use crate::disk::SimDisk;
use crate::disk::sim::{Fault, Operation};
use crate::journal::JournalError;

const KEYS: u64 = 60;
const PARTITIONS: u32 = 3;

struct World {
    seed: u64,
    random: Random,
    disk: SimDisk,
    opened: Option<Opened<SimDisk>>,
    recent: Recent,
    /// The offset of the last record of each key that counts.
    model: BTreeMap<(PartitionKey, u64), Offset>,
    /// Where partitions end, with what is not flushed.
    ends: BTreeMap<PartitionKey, Offset>,
    /// The topics there are.
    topics: Vec<u8>,
    merged_bytes: u64,
}

fn record_key(key: u64) -> [u8; 16] {
    u128::from(key + 1).to_le_bytes()
}

/// Records with these keys, of which some are void.
pub(super) fn versioned(partition: PartitionKey, base: Offset, keys: &[u64], void: &[u32]) -> StoredBatch {
    let mut builder = BatchBuilder::new(1 << 16);
    for key in keys {
        let row = TableRow { record_key: Some(record_key(*key)), ..TableRow::default() };
        builder.push(&RecordInput { value: Some(&[1; 20]), row, ..RecordInput::default() }).unwrap();
    }
    let identity = BatchIdentity {
        producer: ProducerId::new(base.get() + 1),
        producer_epoch: Epoch::ZERO,
        sequence: Sequence::ZERO,
        partition,
    };
    let records = u32::try_from(keys.len()).unwrap();
    let voids = Voids::of(records, void.iter().copied());
    let section =
        BrokerSection { base_offset: base, append_time: at(1), partition_epoch: Epoch::ZERO, voids };
    StoredBatch { section, producer: builder.finish(&identity, Compression::None) }
}

pub(super) fn frame(batch: StoredBatch) -> Frame {
    Frame::Append { partition: batch.producer.header().partition, acked_below: Sequence::ZERO, batch }
}

pub(super) fn create(number: u8) -> Frame {
    let mut definition = topic(number);
    definition.settings.keyed_versions = true;
    Frame::Topic(definition)
}

/// What the disk says of a key.
pub(super) fn look(opened: &Opened<SimDisk>, partition: PartitionKey, key: u64) -> Option<Offset> {
    let digest = opened.key_seed.version(partition, record_key(key));
    let found = opened.reader.find_key(digest).unwrap();
    assert!(found.is_none() || opened.reader.may_hold_key(digest), "a filter called a known key new");
    found.map(|entry| entry.place.offset)
}

impl World {
    fn new(seed: u64) -> Self {
        let mut world = Self {
            seed,
            random: Random::new(seed),
            disk: SimDisk::new(),
            opened: None,
            recent: Recent::new(1 << 20),
            model: BTreeMap::new(),
            ends: BTreeMap::new(),
            topics: vec![1, 2],
            merged_bytes: 0,
        };
        world.reopen();
        while !world.commit(vec![create(1), create(2)]) {}
        world
    }

    fn opened(&mut self) -> &mut Opened<SimDisk> {
        self.opened.as_mut().expect("the store is open")
    }

    fn reopen(&mut self) {
        let mut options = small();
        options.keys.filter_bytes = [1 << 20, 3_000, 0][usize::try_from(self.random.below(3)).unwrap()];
        // Now and then they have used up their space, and are swept.
        options.keys.disk_bytes = [64 << 20, 1][usize::try_from(self.random.below(2)).unwrap()];
        let opened = open(self.disk.clone(), data(), options, at(1)).unwrap();
        let state = opened.flusher.state();
        self.ends = state.partitions.iter().map(|(key, state)| (*key, state.end_offset)).collect();
        self.opened = Some(opened);
        self.recent = Recent::new(1 << 20);
    }

    /// Commits frames; `false` if nobody knows whether they are there, after a start.
    fn commit(&mut self, mut frames: Vec<Frame>) -> bool {
        while matches!(self.opened().journal.prepare_spare(), Ok(Prepared::More)) {}
        match self.opened().journal.commit(&mut frames) {
            Ok(committed) => {
                self.opened().flusher.accept(frames, committed.end);
                true
            }
            Err(JournalError::Full) => {
                self.flush();
                self.commit(frames)
            }
            Err(_) => {
                self.crash();
                false
            }
        }
    }

    fn check(&self, partition: PartitionKey, key: u64) {
        let opened = self.opened.as_ref().expect("the store is open");
        let digest = opened.key_seed.version(partition, record_key(key));
        let recent = self.recent.get(digest).map(|place| place.offset);
        let found = recent.or_else(|| look(opened, partition, key));
        let expected = self.model.get(&(partition, key)).copied();
        assert_eq!(found, expected, "seed {}: key {key} of {partition}", self.seed);
    }

    fn check_all(&self) {
        let live = self.topics.iter().flat_map(|number| (0..PARTITIONS).map(|at| partition(*number, at)));
        live.for_each(|partition| (0..KEYS).for_each(|key| self.check(partition, key)));
    }

    fn publish(&mut self) {
        let which = self.random.below(self.topics.len() as u64);
        let number = self.topics[usize::try_from(which).unwrap()];
        let partition = partition(number, u32::try_from(self.random.below(u64::from(PARTITIONS))).unwrap());
        let keys: Vec<u64> = (0..=self.random.below(6)).map(|_| self.random.below(KEYS)).collect();
        let count = u32::try_from(keys.len()).unwrap();
        let void: Vec<u32> = (0..count).filter(|_| self.random.chance(20)).collect();
        keys.iter().for_each(|key| self.check(partition, *key));
        let base = self.ends.get(&partition).copied().unwrap_or_default();
        let batch = versioned(partition, base, &keys, &void);
        let is_acknowledged = self.commit(vec![frame(batch.clone())]);
        let is_stored = self.ends.get(&partition).is_some_and(|end| *end > base);
        if !is_acknowledged && !is_stored {
            return;
        }
        self.ends.insert(partition, batch.end_offset());
        let counted = keys.iter().zip(0u32..).filter(|(_, record)| !void.contains(record));
        let seed = self.opened().key_seed;
        for (entry, (key, _)) in versions(&seed, partition, &batch).zip(counted) {
            self.model.insert((partition, *key), entry.place.offset);
            if is_acknowledged {
                self.recent.push(entry.digest, entry.place);
            }
        }
    }

    fn halt_perhaps(&mut self) {
        if self.random.chance(8) {
            let changes = self.random.below(30);
            self.disk.halt_after(changes);
        }
    }

    fn flush(&mut self) {
        self.halt_perhaps();
        match self.opened().flusher.flush(at(1)) {
            Ok(flushed) => {
                self.opened().journal.release(flushed.release);
                self.recent.release(flushed.keys);
                assert!(self.recent.is_empty(), "seed {}", self.seed);
            }
            Err(_) if self.disk.is_halted() => self.crash(),
            Err(error) => assert!(error.is_retryable()),
        }
    }

    fn maintain(&mut self) {
        self.halt_perhaps();
        for _ in 0..=self.random.below(20) {
            match self.opened().flusher.maintain(at(1)) {
                Ok(maintained) => {
                    self.merged_bytes += maintained.bytes;
                    self.opened().journal.release(maintained.release);
                    if !maintained.more {
                        break;
                    }
                }
                Err(_) if self.disk.is_halted() => return self.crash(),
                Err(error) => assert!(error.is_retryable()),
            }
        }
    }

    fn crash(&mut self) {
        if self.random.chance(70) {
            let seed = self.random.next();
            self.disk.crash(seed);
        } else {
            self.disk.kill();
        }
        self.opened = None;
        self.reopen();
    }

    /// The records go, where the last ones stood does not.
    fn trim(&mut self) {
        let frames =
            self.ends.iter().map(|(partition, end)| Frame::Trim { partition: *partition, log_start: *end });
        let frames: Vec<Frame> = frames.collect();
        if !frames.is_empty() {
            self.commit(frames);
        }
    }

    /// A topic goes, and another one comes.
    fn replace_topic(&mut self) {
        let gone = self.topics.remove(0);
        while !self.commit(vec![Frame::TopicDeleted(topic(gone).id)]) {}
        let number = self.topics[0] + 1;
        while !self.commit(vec![create(number)]) {}
        self.topics.push(number);
    }

    fn step(&mut self) {
        if self.disk.is_halted() {
            return self.crash();
        }
        match self.random.below(100) {
            0..60 => self.publish(),
            60..75 => self.flush(),
            75..90 => self.maintain(),
            90..92 => self.trim(),
            92..94 => self.disk.plan(Fault::next(Operation::Write).on("key").after(self.random.below(4))),
            94..96 => self.replace_topic(),
            _ => {
                self.crash();
                self.check_all();
            }
        }
    }
}

#[test]
fn the_last_offset_of_each_key_is_known_in_any_history() {
    let seeds = std::env::var("WEIR_SEEDS").ok().map_or(15, |seeds| seeds.parse().unwrap());
    let first = std::env::var("WEIR_SEED").ok().map_or(0, |seed| seed.parse().unwrap());
    let mut merged_bytes = 0;
    for seed in first..first + seeds {
        let mut world = World::new(seed);
        for _ in 0..300 {
            world.step();
        }
        world.crash();
        world.check_all();
        merged_bytes += world.merged_bytes;
    }
    assert!(merged_bytes > 0, "histories without merges test too little");
}

/// Keeps 500 keys of a topic on the disk.
fn fill(opened: &mut Opened<SimDisk>, number: u8) {
    let keys: Vec<u64> = (0..500).collect();
    commit(opened, vec![create(number), frame(versioned(partition(number, 0), Offset::ZERO, &keys, &[3]))]);
    opened.flusher.flush(at(1)).unwrap();
}

#[test]
fn versions_that_use_up_their_space_leave_room_for_keys_and_go_with_their_topic() {
    let disk = SimDisk::new();
    let mut opened = open(disk.clone(), data(), small(), at(0)).unwrap();
    fill(&mut opened, 1);
    let mut options = small();
    options.keys.disk_bytes = 3 * opened.reader.key_figures().disk_bytes;
    drop(opened);
    let mut opened = open(disk, data(), options, at(0)).unwrap();
    assert!(!opened.reader.is_full_of_versions());
    fill(&mut opened, 2);
    assert!(opened.reader.is_full_of_versions() && !opened.reader.is_full_of_keys());
    while opened.flusher.maintain(at(1)).unwrap().more {}
    assert!(opened.reader.is_full_of_versions(), "all of them are needed");

    commit(&mut opened, vec![Frame::TopicDeleted(topic(1).id)]);
    opened.flusher.flush(at(1)).unwrap();
    while opened.flusher.maintain(at(1)).unwrap().more {}
    assert!(!opened.reader.is_full_of_versions());
    assert_eq!(opened.reader.key_figures().keys, 499);
    assert_eq!(look(&opened, partition(2, 0), 499), Some(Offset::new(499)));
    assert_eq!(look(&opened, partition(2, 0), 3), None, "the record was void");
}

#[test]
fn a_topic_that_gave_versions_up_keeps_none() {
    let disk = SimDisk::new();
    let mut opened = open(disk, data(), small(), at(0)).unwrap();
    fill(&mut opened, 1);
    let plain = topic(1);
    let again = versioned(partition(1, 0), Offset::new(500), &[7, 8], &[]);
    commit(&mut opened, vec![Frame::Topic(plain), frame(again)]);
    let flushed = opened.flusher.flush(at(1)).unwrap();
    assert_eq!(flushed.keys, 501, "whoever pushed them as recent ones is told");
    assert_eq!(opened.reader.key_figures().keys, 499);
}
