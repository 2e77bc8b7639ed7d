//! Random histories of keyed records against a plain map, with crashes, clocks that jump, and horizons that change: within its
//! horizon no key is ever stored twice, and what is found is always the record that was stored under it.

use std::collections::BTreeMap;
use std::time::Duration;

use weir_protocol::batch::{
    BatchBuilder, BatchIdentity, BrokerSection, Compression, RecordInput, StoredBatch, TableRow, Voids,
};
use weir_protocol::units::{Epoch, Offset, PartitionKey, ProducerId, Sequence, TopicId};

use super::random::Random;
use super::sample::{partition, topic};
use super::*;
use crate::dedup::{Entry, Fingerprint, KeyDigest, Recent, RecordPlace, entries, fingerprint_at};
use crate::disk::SimDisk;
use crate::disk::sim::{Fault, Operation};
use crate::journal::JournalError;

mod cases;
mod golden;

const KEYS: u64 = 400;
const TOPICS: u8 = 2;

/// What was stored under a key, and until when it must be remembered, in seconds since the beginning.
type Stored = (RecordPlace, Fingerprint, u64);

struct World {
    seed: u64,
    random: Random,
    disk: SimDisk,
    opened: Option<Opened<SimDisk>>,
    recent: Recent,
    /// Batches in memory, as a broker has them.
    tail: Vec<StoredBatch>,
    model: BTreeMap<(u8, u64), Stored>,
    /// Of each topic, in seconds.
    horizons: BTreeMap<u8, u64>,
    /// Seconds for which a node was running.
    running: u64,
    /// What the clock on the wall says.
    wall: i64,
    merged_bytes: u64,
    forgotten: u64,
}

/// The records with these keys, of which some are void.
fn keyed(partition: PartitionKey, base: Offset, keys: &[u64], void: &[u32], wall: i64) -> StoredBatch {
    let mut builder = BatchBuilder::new(1 << 16);
    for key in keys {
        let idempotency_key = key.to_le_bytes();
        let row = TableRow {
            routing_hash: 7,
            idempotency_key: Some(&idempotency_key),
            fingerprint: fingerprint(*key, base).0,
            ..TableRow::default()
        };
        builder.push(&RecordInput { value: Some(&[1; 20]), row, ..RecordInput::default() }).unwrap();
    }
    let identity = BatchIdentity {
        producer: ProducerId::new(base.get() + 1),
        producer_epoch: Epoch::ZERO,
        sequence: Sequence::ZERO,
        partition,
    };
    let records = u32::try_from(keys.len()).unwrap();
    let section = BrokerSection {
        base_offset: base,
        append_time: at(wall),
        partition_epoch: Epoch::ZERO,
        voids: Voids::of(records, void.iter().copied()),
    };
    StoredBatch { section, producer: builder.finish(&identity, Compression::None) }
}

fn fingerprint(key: u64, base: Offset) -> Fingerprint {
    Fingerprint((u128::from(key) << 64 | u128::from(base.get())).to_le_bytes())
}

fn digest(opened: &Opened<SimDisk>, topic: TopicId, key: u64) -> KeyDigest {
    opened.key_seed.digest(topic, 7, &key.to_le_bytes())
}

fn frame(batch: StoredBatch) -> Frame {
    Frame::Append { partition: batch.producer.header().partition, acked_below: Sequence::ZERO, batch }
}

/// What is known of a key on the disk; a filter that says no must be right.
fn look(opened: &Opened<SimDisk>, digest: KeyDigest) -> Option<Entry> {
    let found = opened.reader.find_key(digest).unwrap();
    assert!(found.is_none() || opened.reader.may_hold_key(digest), "a filter called a known key new");
    found
}

impl World {
    fn new(seed: u64) -> Self {
        let mut world = Self {
            seed,
            random: Random::new(seed),
            disk: SimDisk::new(),
            opened: None,
            recent: Recent::new(40),
            tail: Vec::new(),
            model: BTreeMap::new(),
            horizons: BTreeMap::new(),
            running: 0,
            wall: 1_000_000,
            merged_bytes: 0,
            forgotten: 0,
        };
        world.reopen();
        for number in 1..=TOPICS {
            let horizon = 10 * u64::from(number);
            world.set_horizon(number, horizon);
        }
        world
    }

    fn opened(&mut self) -> &mut Opened<SimDisk> {
        self.opened.as_mut().expect("the store is open")
    }

    fn reopen(&mut self) {
        let mut options = small();
        // Now and then filters are narrow, or there is no memory for any.
        options.keys.filter_bytes = [1 << 20, 3_000, 0][usize::try_from(self.random.below(3)).unwrap()];
        let opened = open(self.disk.clone(), data(), options, at(self.wall))
            .unwrap_or_else(|error| panic!("seed {}: cannot reopen: {error}", self.seed));
        self.opened = Some(opened);
        self.recent = Recent::new(1 << 20);
        self.tail.clear();
    }

    fn set_horizon(&mut self, number: u8, seconds: u64) {
        let mut definition = topic(number);
        definition.settings.dedup_horizon_us = Some(seconds * 1_000_000);
        // It may have been stored even if nobody was told.
        while !self.commit(vec![Frame::Topic(definition.clone())]) {}
        self.horizons.insert(number, seconds);
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
                self.opened.is_some() && self.commit(frames)
            }
            Err(_) => {
                self.crash();
                false
            }
        }
    }

    /// What a node knows of a key, from memory or from the disk.
    fn find(&self, number: u8, key: u64) -> Option<(RecordPlace, Fingerprint)> {
        let opened = self.opened.as_ref().expect("the store is open");
        let digest = digest(opened, topic(number).id, key);
        match self.recent.get(digest) {
            Some(place) => {
                let holds = |batch: &&StoredBatch| {
                    batch.producer.header().partition == partition(number, place.partition.get())
                        && (batch.base_offset()..batch.end_offset()).contains(&place.offset)
                };
                let batch = self.tail.iter().find(holds).expect("batches of recent keys are in memory");
                Some((place, fingerprint_at(batch, place.offset).unwrap()))
            }
            None => look(opened, digest).map(|entry| (entry.place, entry.fingerprint)),
        }
    }

    /// As [`World::find`], and compares with the model.
    fn check(&self, number: u8, key: u64) -> Option<(RecordPlace, Fingerprint)> {
        let found = self.find(number, key);
        match self.model.get(&(number, key)) {
            Some((place, fingerprint, until)) => {
                let is_due = self.running < *until;
                let (seed, running) = (self.seed, self.running);
                assert!(
                    found.is_some() || !is_due,
                    "seed {seed}: key {key} forgotten at {running} of {until}"
                );
                assert!(
                    found.is_none_or(|found| found == (*place, *fingerprint)),
                    "seed {seed}: key {key} is {found:?}, not {place:?}"
                );
            }
            None => assert!(found.is_none(), "seed {}: key {key} was never stored: {found:?}", self.seed),
        }
        found
    }

    fn publish(&mut self) {
        let number = u8::try_from(1 + self.random.below(u64::from(TOPICS))).unwrap();
        let partition = partition(number, u32::try_from(self.random.below(3)).unwrap());
        let mut keys: Vec<u64> = (0..=self.random.below(6)).map(|_| self.random.below(KEYS)).collect();
        keys.sort_unstable();
        keys.dedup();
        let mut void = Vec::new();
        for (record, key) in (0..).zip(&keys) {
            let known = self.model.contains_key(&(number, *key));
            if self.check(number, *key).is_some() {
                void.push(record);
            } else if known {
                self.forgotten += 1;
            }
        }
        if void.len() == keys.len() {
            return;
        }
        let state = self.opened().flusher.state();
        let flushed = state.partitions.get(&partition).map_or(Offset::ZERO, |state| state.end_offset);
        let ends = self.tail.iter().filter(|batch| batch.producer.header().partition == partition);
        let base = ends.map(StoredBatch::end_offset).max().unwrap_or(flushed).max(flushed);
        let batch = keyed(partition, base, &keys, &void, self.wall);
        let until = self.running + self.horizons[&number];
        let is_acknowledged = self.commit(vec![frame(batch.clone())]);
        // After a crash the log says whether it is there.
        let state = self.opened().flusher.state();
        let is_stored = state.partitions.get(&partition).is_some_and(|state| state.end_offset > base);
        if is_acknowledged || is_stored {
            let seed = self.opened().key_seed;
            for (entry, key) in entries(&seed, partition.topic, &batch).zip(
                keys.iter().zip(0u32..).filter(|(_, record)| !void.contains(record)).map(|(key, _)| *key),
            ) {
                self.model.insert((number, key), (entry.place, entry.fingerprint, until));
                if is_acknowledged {
                    self.recent.push(entry.digest, entry.place);
                }
            }
            if is_acknowledged {
                self.tail.push(batch);
            }
        }
    }

    fn flush(&mut self) {
        if self.random.chance(8) {
            let changes = self.random.below(30);
            self.disk.halt_after(changes);
        }
        let wall = at(self.wall);
        match self.opened().flusher.flush(wall) {
            Ok(flushed) => {
                self.opened().journal.release(flushed.release);
                self.recent.release(flushed.keys);
                assert!(self.recent.is_empty(), "seed {}", self.seed);
                self.tail.clear();
            }
            Err(_) if self.disk.is_halted() => self.crash(),
            Err(error) => assert!(error.is_retryable()),
        }
    }

    fn maintain(&mut self) {
        if self.random.chance(8) {
            let changes = self.random.below(30);
            self.disk.halt_after(changes);
        }
        for _ in 0..=self.random.below(20) {
            let wall = at(self.wall);
            match self.opened().flusher.maintain(wall) {
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

    fn check_all(&self) {
        for number in 1..=TOPICS {
            for key in 0..KEYS {
                self.check(number, key);
            }
        }
    }

    fn step(&mut self) {
        if self.disk.is_halted() {
            return self.crash();
        }
        match self.random.below(100) {
            0..60 => self.publish(),
            60..70 => self.flush(),
            70..82 => self.maintain(),
            82..88 => {
                let seconds = self.random.below(4);
                self.running += seconds;
                self.opened().flusher.elapse(Duration::from_secs(seconds));
            }
            // The clock on the wall is set, by days.
            88..90 => self.wall += i64::try_from(self.random.below(1_000_000)).unwrap() - 500_000,
            90..92 => {
                let seconds = 1 + self.random.below(30);
                let number = u8::try_from(1 + self.random.below(u64::from(TOPICS))).unwrap();
                self.set_horizon(number, seconds);
            }
            92..95 => self.trim(),
            95..97 => self.disk.plan(Fault::next(Operation::Write).on("key").after(self.random.below(4))),
            _ => {
                self.crash();
                self.check_all();
            }
        }
    }

    /// Keys outlive their records.
    fn trim(&mut self) {
        let state = self.opened().flusher.state();
        let partitions: Vec<_> =
            state.partitions.iter().map(|(key, state)| (*key, state.end_offset)).collect();
        for (partition, log_start) in partitions {
            self.commit(vec![Frame::Trim { partition, log_start }]);
        }
    }

    /// A snapshot remembers what the node does; in the end no file is left that nothing needs.
    fn settle(&mut self) {
        self.disk.crash(self.seed);
        self.opened = None;
        self.reopen();
        let wall = at(self.wall);
        for _ in 0..1000 {
            if !self.opened().flusher.maintain(wall).unwrap().more {
                break;
            }
        }
        self.opened().flusher.flush(wall).unwrap();
        self.opened().flusher.snapshot(Path::new("/data/snapshots/one")).unwrap();
        let files = self.disk.list(&data().join("segments")).unwrap();
        let files = files.iter().filter(|entry| entry.name.ends_with(".key"));
        assert_eq!(
            files.count() as u64,
            self.opened().reader.key_figures().generations,
            "seed {}",
            self.seed
        );
        assert!(verify(&self.disk, Path::new("/data/snapshots/one"), &mut |_| {}).unwrap().is_sound());
        let copy = open(self.disk.clone(), Path::new("/data/snapshots/one"), small(), wall).unwrap();
        for number in 1..=TOPICS {
            for key in 0..KEYS {
                let found = self.check(number, key);
                let digest = digest(&copy, topic(number).id, key);
                let copied = look(&copy, digest).map(|entry| (entry.place, entry.fingerprint));
                assert_eq!(copied, found, "seed {}", self.seed);
            }
        }
    }
}

#[test]
fn no_key_is_forgotten_early_or_invented_in_any_history() {
    let seeds = std::env::var("WEIR_SEEDS").ok().map_or(25, |seeds| seeds.parse().unwrap());
    let first = std::env::var("WEIR_SEED").ok().map_or(0, |seed| seed.parse().unwrap());
    let (mut merged_bytes, mut forgotten) = (0, 0);
    for seed in first..first + seeds {
        let mut world = World::new(seed);
        for _ in 0..300 {
            world.step();
        }
        world.settle();
        merged_bytes += world.merged_bytes;
        forgotten += world.forgotten;
    }
    assert!(merged_bytes > 0 && forgotten > 0, "histories without merges or expiry test too little");
}
