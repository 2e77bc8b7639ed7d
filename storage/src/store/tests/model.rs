//! Random histories against a model, with crashes: what was acknowledged is readable, in the same bytes, for ever.

use std::collections::BTreeMap;

use weir_protocol::Redelivery;
use weir_protocol::units::{GroupId, Offset, PartitionKey, Timestamp, TopicId};

use super::outside::Model;
use super::random::Random;
use super::sample::{Sample, partition, topic};
use super::*;
use crate::checkpoint::{Paths, read_slot};
use crate::disk::SimDisk;
use crate::disk::sim::{Fault, Operation};
use crate::frame::{
    DeadLetter, DeadLetters, FailedRecords, FailingRecord, ForwardedLetters, GroupDefinition, GroupPositions,
    SettledRecords,
};
use crate::journal::JournalError;
use crate::state::NodeState;

const TOPICS: u8 = 3;
const PARTITIONS: u64 = 4;
const PRODUCERS: u64 = 3;

struct World {
    seed: u64,
    random: Random,
    disk: SimDisk,
    opened: Option<Opened<SimDisk>>,
    model: Model,
    /// Frames of a commit that failed: nobody knows whether they are there.
    doubtful: Vec<Frame>,
    /// The newest manifest was damaged since the last start.
    rotten: bool,
    /// The next identity of a topic: never used again.
    next_topic: u8,
    now: i64,
    opens: u32,
    merged_bytes: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut world = Self {
            seed,
            random: Random::new(seed),
            disk: SimDisk::new(),
            opened: None,
            model: Model::default(),
            doubtful: Vec::new(),
            rotten: false,
            next_topic: 1,
            now: 0,
            opens: 0,
            merged_bytes: 0,
        };
        world.reopen();
        world
    }

    fn now(&self) -> Timestamp {
        at(self.now)
    }

    fn opened(&mut self) -> &mut Opened<SimDisk> {
        self.opened.as_mut().expect("the store is open")
    }

    /// Cuts the power or kills the process, and starts again, perhaps several times.
    fn crash(&mut self) {
        loop {
            if self.random.chance(70) {
                let seed = self.random.next();
                self.disk.crash(seed);
            } else {
                self.disk.kill();
            }
            self.opened = None;
            if !self.random.chance(30) {
                self.rot();
                return self.reopen();
            }
            // The next start dies, too.
            let changes = self.random.below(40);
            self.disk.halt_after(changes);
            if let Ok(opened) = open(self.disk.clone(), data(), small(), self.now()) {
                self.opened = Some(opened);
            }
        }
    }

    /// Now and then damages the newest manifest, if the older one is whole.
    fn rot(&mut self) {
        let paths = Paths::new(data());
        let found = [0, 1].map(|slot| read_slot(&self.disk, &paths.slot(slot)).unwrap());
        let generations = found.each_ref().map(|found| found.manifest().filter(|found| found.born));
        if let [Some(first), Some(second)] = generations.map(|found| found.map(|found| found.generation))
            && self.random.chance(40)
        {
            self.disk.flip(&paths.slot(usize::from(second > first)), 70, 1);
            self.rotten = true;
        }
    }

    fn reopen(&mut self) {
        let opened = open(self.disk.clone(), data(), small(), self.now())
            .unwrap_or_else(|error| panic!("seed {}: cannot reopen: {error}", self.seed));
        self.opens += 1;
        assert!(opened.report.unknown_files.is_empty(), "seed {}: {:?}", self.seed, opened.report);
        self.adopt(&opened.state);
        self.rotten = false;
        self.opened = Some(opened);
        self.check();
    }

    /// Finds out how much of a failed commit has survived; the rest of the state must be what was acknowledged.
    fn adopt(&mut self, state: &NodeState) {
        let doubtful = std::mem::take(&mut self.doubtful);
        let mut candidate = self.model.clone();
        for survived in 0..=doubtful.len() {
            if survived > 0 {
                candidate.apply(&doubtful[survived - 1]);
            }
            let mut expected = candidate.state.clone();
            for (partition, expected) in &mut expected.partitions {
                // Retention may have gone on; a log start never goes back.
                if let Some(found) = state.partitions.get(partition) {
                    // What only the newest manifest said of retention is lost with it.
                    assert!(
                        found.log_start >= expected.log_start || self.rotten,
                        "seed {}: log start of {partition} went back from {} to {}",
                        self.seed,
                        expected.log_start,
                        found.log_start
                    );
                    expected.log_start = found.log_start;
                }
            }
            if expected == *state {
                candidate.state = expected;
                self.model = candidate;
                return;
            }
        }
        panic!("seed {}: state\n{state:#?}\nis not\n{:#?}", self.seed, self.model.state);
    }

    /// Everything in segments reads back as it was written.
    fn check(&mut self) {
        let sizes = [1, 500, 5_000, 100_000];
        let bytes_max = sizes[usize::try_from(self.random.below(4)).unwrap()];
        let model = &self.model;
        let opened = self.opened.as_ref().expect("the store is open");
        for partition in model.state.partitions.keys() {
            let reader = &opened.reader;
            let (log_start, end) = (reader.log_start(*partition), reader.flushed_end(*partition));
            let expected = model.bytes(*partition, log_start, end);
            let found = read_all(reader, *partition, bytes_max);
            assert!(found == expected, "seed {}: partition {partition} reads other bytes", self.seed);
        }
    }

    fn step(&mut self) {
        self.now += i64::try_from(self.random.below(3)).unwrap();
        if self.disk.is_halted() {
            return self.crash();
        }
        match self.random.below(100) {
            0..50 => self.commit(),
            50..70 => self.flush(),
            70..90 => self.maintain(),
            90..93 => self.plan_fault(),
            93..97 => self.check(),
            _ => self.crash(),
        }
    }

    fn plan_fault(&mut self) {
        let operations =
            [Operation::Write, Operation::Sync, Operation::Create, Operation::Name, Operation::SyncDirectory];
        let paths = ["segments", "state", "manifest", "idx", ""];
        let operation = operations[usize::try_from(self.random.below(5)).unwrap()];
        let path = paths[usize::try_from(self.random.below(5)).unwrap()];
        let fault = Fault::next(operation).on(path).after(self.random.below(6));
        let times = 1 + self.random.below(4);
        let written_before = usize::try_from(self.random.below(2) * 1000).unwrap();
        self.disk.plan(Fault { times, written_before, ..fault });
    }

    fn commit(&mut self) {
        let mut frames = self.frames();
        if self.random.chance(3) {
            let changes = self.random.below(12);
            self.disk.halt_after(changes);
        }
        if self.opened().journal.prepare_spare().is_err() {
            return self.crash();
        }
        match self.opened().journal.commit(&mut frames) {
            Ok(committed) => {
                frames.truncate(committed.written);
                frames.iter().for_each(|frame| self.model.apply(frame));
                self.opened().flusher.accept(frames, committed.end);
            }
            Err(JournalError::Full) => self.flush(),
            Err(error) => {
                assert!(!matches!(error, JournalError::TooLarge { .. }), "seed {}: {error}", self.seed);
                self.doubtful = frames;
                self.crash();
            }
        }
    }

    /// Frames that follow what is there, control frames first.
    fn frames(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        let mut model = self.model.state.clone();
        if model.topics.len() < usize::from(TOPICS) && self.random.chance(30) {
            let mut definition = topic(self.next_topic);
            self.next_topic += 1;
            definition.settings.retention_bytes = self.random.chance(50).then_some(20_000);
            definition.settings.retention_age_us = self.random.chance(30).then_some(60_000_000);
            frames.push(Frame::Topic(definition));
        } else if self.random.chance(2) {
            frames.extend(self.any_topic(&model).map(Frame::TopicDeleted));
        }
        if self.random.chance(10)
            && let Some(topic) = self.any_topic(&model)
        {
            let partition = self.any_partition(topic);
            let end = model.partitions.get(&partition).map_or(0, |state| state.end_offset.get());
            let log_start = Offset::new(self.random.below(end + 1));
            frames.push(Frame::Trim { partition, log_start });
        }
        frames.iter().for_each(|frame| model.apply(frame));
        if self.random.chance(25)
            && let Some(frame) = self.group_frame(&model)
        {
            model.apply(&frame);
            frames.push(frame);
        }
        for _ in 0..self.random.below(8) {
            let Some(topic) = self.any_topic(&model) else {
                break;
            };
            let partition = self.any_partition(topic);
            let frame = self.append(&model, partition);
            model.apply(&frame);
            frames.push(frame);
        }
        frames
    }

    /// A group is made, moved or removed, or settles records.
    fn group_frame(&mut self, state: &NodeState) -> Option<Frame> {
        let topic = self.any_topic(state)?;
        let partition = self.any_partition(topic);
        let id = GroupId::new(u64::from(topic.to_bytes()[0]) * 3 + self.random.below(3));
        let end = state.partitions.get(&partition).map_or(0, |state| state.end_offset.get());
        let from = Offset::new(self.random.below(end + 1));
        Some(match self.random.below(10) {
            0 => Frame::GroupDeleted { topic, group: id },
            1..3 => {
                let created = self.now();
                let (name, redelivery) = (format!("group-{id}"), Redelivery::default());
                let longest_lease_ms = u32::try_from(self.random.below(3)).unwrap() * 10_000;
                let definition = GroupDefinition { id, topic, name, created, redelivery, longest_lease_ms };
                Frame::Group(GroupPositions { definition, positions: vec![(partition.partition, from)] })
            }
            3..6 => self.failure_frame(partition, id, from),
            _ => {
                let ranges = vec![(from, from.advance(1 + self.random.below(5)))];
                Frame::Settled(SettledRecords { partition, group: id, ranges })
            }
        })
    }

    /// Records have failed, were given up, or are in the dead-letter topic.
    fn failure_frame(&mut self, partition: PartitionKey, group: GroupId, offset: Offset) -> Frame {
        let failed = u32::try_from(self.random.below(9)).unwrap();
        let (first, last) = (self.now(), self.now());
        match self.random.below(3) {
            0 => {
                let record = FailingRecord { failed, first, last, ..FailingRecord::default() };
                Frame::Failed(FailedRecords { partition, group, records: vec![(offset, record)] })
            }
            1 => {
                let letter = DeadLetter { failed, returned: 0, first, last, reason: format!("{first}") };
                Frame::DeadLetters(DeadLetters { partition, group, letters: vec![(offset, letter)] })
            }
            _ => Frame::Forwarded(ForwardedLetters { partition, group, offsets: vec![offset] }),
        }
    }

    fn append(&mut self, state: &NodeState, partition: PartitionKey) -> Frame {
        let present = state.partitions.get(&partition).cloned().unwrap_or_default();
        let producer = 1 + self.random.below(PRODUCERS);
        let windows: BTreeMap<_, _> = present.producers.iter().collect();
        let window = windows.get(&weir_protocol::units::ProducerId::new(producer));
        let value_bytes = if self.random.chance(5) { 4_000 } else { self.random.below(300) };
        Sample {
            partition,
            base_offset: present.end_offset.get(),
            records: u32::try_from(1 + self.random.below(5)).unwrap(),
            value_bytes: usize::try_from(value_bytes).unwrap(),
            producer,
            sequence: window.map_or(0, |window| window.next().get()),
            append_time: self.now().max(present.last_append_time),
        }
        .frame()
    }

    fn any_topic(&mut self, state: &NodeState) -> Option<TopicId> {
        let count = u64::try_from(state.topics.len()).unwrap();
        let index = usize::try_from(self.random.below(count.max(1))).unwrap();
        state.topics.keys().nth(index).copied()
    }

    fn any_partition(&mut self, topic: TopicId) -> PartitionKey {
        let number = u32::try_from(self.random.below(PARTITIONS)).unwrap();
        PartitionKey { topic, ..partition(0, number) }
    }

    fn flush(&mut self) {
        if self.random.chance(5) {
            let changes = self.random.below(30);
            self.disk.halt_after(changes);
        }
        let now = self.now();
        let end = self.opened().journal.end();
        match self.opened().flusher.flush(now) {
            Ok(flushed) => {
                assert!(flushed.release <= end);
                self.opened().journal.release(flushed.release);
                self.note(&flushed.log_starts);
                for (partition, state) in &self.model.state.partitions {
                    let reader = &self.opened.as_ref().expect("the store is open").reader;
                    assert_eq!(reader.flushed_end(*partition), state.end_offset, "seed {}", self.seed);
                    assert!(reader.log_start(*partition) >= state.log_start, "seed {}", self.seed);
                }
            }
            Err(_) if self.disk.is_halted() => self.crash(),
            Err(error) => assert!(error.is_retryable()),
        }
    }

    fn maintain(&mut self) {
        if self.random.chance(5) {
            let changes = self.random.below(30);
            self.disk.halt_after(changes);
        }
        for _ in 0..=self.random.below(10) {
            let now = self.now();
            match self.opened().flusher.maintain(now) {
                Ok(maintained) => {
                    self.merged_bytes += maintained.bytes;
                    self.opened().journal.release(maintained.release);
                    self.note(&maintained.log_starts);
                    if !maintained.more {
                        break;
                    }
                }
                Err(_) if self.disk.is_halted() => return self.crash(),
                Err(error) => assert!(error.is_retryable()),
            }
        }
    }

    fn note(&mut self, log_starts: &[(PartitionKey, Offset)]) {
        for (partition, log_start) in log_starts {
            if let Some(state) = self.model.state.partitions.get_mut(partition) {
                // A trim that was not flushed yet may be further on.
                state.trim(*log_start);
            }
        }
    }

    /// In the end no file is left that nothing needs.
    fn settle(&mut self) {
        self.disk.crash(self.seed);
        self.opened = None;
        self.reopen();
        let now = self.now();
        let flushed = self.opened().flusher.flush(now).unwrap();
        self.note(&flushed.log_starts);
        for _ in 0..1000 {
            let maintained = self.opened().flusher.maintain(now).unwrap();
            self.note(&maintained.log_starts);
            self.merged_bytes += maintained.bytes;
            if !maintained.more {
                break;
            }
        }
        self.check();
        let root = data().join("segments");
        let names = self.disk.list(&root).unwrap();
        let live = self.opened().flusher.live_segments();
        let keys = names.iter().filter(|entry| entry.name.ends_with(".key")).count();
        assert_eq!(names.len(), live * 2 + keys, "seed {}: files are left over: {names:?}", self.seed);
        let opened = self.opened.take().expect("the store is open");
        opened.flusher.close(now).unwrap();
        drop((opened.journal, opened.reader, opened.lock));
        self.reopen();
    }
}

fn run(seeds: std::ops::Range<u64>, steps: u32) {
    let mut merged_bytes = 0;
    for seed in seeds {
        let mut world = World::new(seed);
        for _ in 0..steps {
            world.step();
        }
        world.settle();
        merged_bytes += world.merged_bytes;
    }
    assert!(merged_bytes > 0, "histories that never merge anything test too little");
}

#[test]
fn what_was_acknowledged_survives_any_history() {
    let seeds = std::env::var("WEIR_SEEDS").ok().map_or(40, |seeds| seeds.parse().unwrap());
    let first = std::env::var("WEIR_SEED").ok().map_or(0, |seed| seed.parse().unwrap());
    run(first..first + seeds, 200);
}
