//! Random interleavings against a model of the broker.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;
use weir_protocol::units::{Durability, Offset, Sequence, Timestamp};

use super::*;

const PARTITIONS: u32 = 3;
const LANES: u32 = 2;
const UNACKED: usize = 4;

/// What a broker does with the batches of one partition.
#[derive(Default)]
struct Log {
    records: Vec<u64>,
    /// Next sequence and results of each producer.
    producers: BTreeMap<u64, Vec<(u64, u32)>>,
    /// Producers that were forgotten. The real broker forgets only who has been silent for long, so that a first batch
    /// whose answer was lost is still known.
    forgotten: BTreeSet<u64>,
}

enum Answer {
    Ack(AckEntry, ProducerId),
    Reject(PublishRejected),
}

#[derive(Default)]
struct Stream {
    to_broker: VecDeque<(Sequence, ProducerBatch)>,
    to_client: VecDeque<Answer>,
    limit: u64,
    sent: u64,
    /// Unanswered batches of each partition, as the client must count them.
    unanswered: BTreeMap<u32, usize>,
    /// The sequence that must come next, for each partition.
    next: BTreeMap<u32, u64>,
}

struct World {
    producer: Producer<u64>,
    now: Mono,
    streams: Option<Vec<Stream>>,
    logs: Vec<Log>,
    next_id: u64,
    next_producer: u64,
    partition_of: BTreeMap<u64, u32>,
    /// Result of each record: offset if stored, else whether it may be stored.
    results: BTreeMap<u64, Result<u64, bool>>,
    known_results: BTreeMap<(u64, u32), u64>,
}

impl World {
    fn new() -> Self {
        let options = ProducerOptions {
            unacked_batches: UNACKED,
            batch_records: 3,
            delivery_timeout: Duration::from_secs(5),
            ..options(PARTITIONS)
        };
        Self {
            producer: Producer::new(options, IDENTITY, 7),
            now: Mono::ZERO,
            streams: None,
            logs: (0..PARTITIONS).map(|_| Log::default()).collect(),
            next_id: 0,
            next_producer: IDENTITY.producer.get() + 1,
            partition_of: BTreeMap::new(),
            results: BTreeMap::new(),
            known_results: BTreeMap::new(),
        }
    }

    fn enqueue(&mut self, choice: u32) {
        let routing = match choice % 5 {
            partition @ 0..PARTITIONS => Routing::Partition(PartitionId::new(partition)),
            _ => Routing::Any,
        };
        let id = self.next_id;
        let partition = put(&mut self.producer, routing, id, 0, self.now).unwrap();
        self.next_id += 1;
        self.partition_of.insert(id, partition.get());
    }

    #[expect(clippy::cast_possible_truncation, reason = "numbers of a test are small")]
    fn complete(&mut self, out: Vec<Completion<u64>>) {
        for done in out {
            let (batch, stored) = match done.outcome {
                Outcome::Stored(entry, _, batch) => (batch, Ok(entry)),
                Outcome::Failed(failed) => (failed.batch, Err(failed.maybe_stored)),
            };
            let all = ids(&batch);
            assert_eq!((all.len(), all[0]), (done.records as usize, done.ticket));
            for (index, id) in all.into_iter().enumerate() {
                let result = stored.map(|entry| entry.base_offset.get() + index as u64);
                assert!(self.results.insert(id, result).is_none(), "record {id} has two results");
                if let Ok(offset) = result {
                    let log = &self.logs[self.partition_of[&id] as usize];
                    assert_eq!(log.records.get(offset as usize), Some(&id), "a receipt names another record");
                }
            }
        }
    }

    fn connect(&mut self) {
        if self.streams.is_none() {
            self.producer.connected(LANES, UNACKED);
            (0..LANES).for_each(|lane| self.producer.lane_opened(LaneId(lane)));
            self.streams = Some((0..LANES).map(|_| Stream::default()).collect());
        }
    }

    /// Loses the connection; some of what was under way still arrives.
    fn disconnect(&mut self, arriving: usize) {
        for lane in 0..LANES {
            self.process(lane, arriving, 0);
        }
        if self.streams.take().is_some() {
            (0..LANES).for_each(|lane| self.producer.lane_lost(LaneId(lane), self.now));
        }
    }

    fn send(&mut self, lane: u32) {
        let Some(streams) = &mut self.streams else { return };
        let stream = &mut streams[lane as usize];
        let mut out = Vec::new();
        for (outgoing, batch) in send(&mut self.producer, LaneId(lane), &mut out) {
            let header = batch.header();
            let partition = header.partition.partition.get();
            assert_eq!((partition, partition % LANES), (outgoing.partition.get(), lane));
            stream.sent += (Publish::OVERHEAD_BYTES + batch.length()) as u64;
            assert!(stream.sent <= stream.limit, "credit exceeded");
            let unanswered = stream.unanswered.entry(partition).or_default();
            *unanswered += 1;
            assert!(*unanswered <= UNACKED, "too many unanswered");
            let sequence = header.sequence.get();
            let next = stream.next.entry(partition).or_insert_with(|| outgoing.acked_below.get());
            // A rewind or a new identity starts over at the first that has no result.
            assert!(
                sequence == *next || sequence == outgoing.acked_below.get(),
                "sequence {sequence}, not {next}"
            );
            *next = sequence + 1;
            let known = self.known_results.get(&(header.producer.get(), partition)).copied().unwrap_or(0);
            assert!(outgoing.acked_below.get() <= known, "acked_below is more than the truth");
            stream.to_broker.push_back((outgoing.acked_below, batch));
        }
        self.complete(out);
    }

    fn process(&mut self, lane: u32, count: usize, fault: u32) {
        let Some(streams) = &mut self.streams else { return };
        let stream = &mut streams[lane as usize];
        for position in 0..count {
            let Some((_, batch)) = stream.to_broker.pop_front() else { return };
            // Only one batch is refused at random: what follows from it are the broker's rules.
            let fault = if position == 0 { fault } else { 0 };
            let answer = self.logs[batch.header().partition.partition.get() as usize].publish(&batch, fault);
            stream.to_client.push_back(answer);
        }
    }

    fn receive(&mut self, lane: u32, count: usize) {
        for _ in 0..count {
            let Some(streams) = &mut self.streams else { return };
            let stream = &mut streams[lane as usize];
            let Some(answer) = stream.to_client.pop_front() else { return };
            let mut out = Vec::new();
            let partition = match answer {
                Answer::Ack(entry, producer) => {
                    let known = (producer.get(), entry.partition.get());
                    self.known_results.insert(known, entry.sequence.get() + 1);
                    self.producer.acked(LaneId(lane), &entry, self.now, &mut out).unwrap();
                    entry.partition.get()
                }
                Answer::Reject(rejection) => {
                    let partition = rejection.partition.get();
                    self.producer.rejected(LaneId(lane), rejection, self.now, &mut out).unwrap();
                    partition
                }
            };
            *stream.unanswered.get_mut(&partition).unwrap() -= 1;
            self.complete(out);
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now.after(time);
        let mut out = Vec::new();
        self.producer.tick(self.now, &mut out);
        self.complete(out);
        if self.producer.wants_identity() {
            let producer = ProducerId::new(self.next_producer);
            self.next_producer += 1;
            self.producer.identified(Identity { producer, epoch: Epoch::ZERO });
        }
    }

    fn grant(&mut self, lane: u32, bytes: u64) {
        let Some(streams) = &mut self.streams else { return };
        let stream = &mut streams[lane as usize];
        stream.limit += bytes;
        self.producer.granted(LaneId(lane), stream.limit);
    }

    #[expect(clippy::cast_possible_truncation, reason = "numbers of a test are small")]
    fn step(&mut self, kind: u8, number: u32) {
        let (lane, small) = (number % LANES, (number / 2 % 5) as usize);
        match kind {
            0..=3 => (0..=small).for_each(|record| self.enqueue(number.wrapping_add(record as u32))),
            4 | 5 => self.send(lane),
            6 | 7 => self.process(lane, small, 0),
            8 => self.process(lane, small, 1 + number / 10 % 7),
            9 | 10 => self.receive(lane, small),
            11 => self.grant(lane, u64::from(number % 1500)),
            12 => self.pass(Duration::from_millis(u64::from(number % 100))),
            13 => self.pass(Duration::from_millis(u64::from(number % 3000))),
            14 => self.disconnect(small),
            _ => self.connect(),
        }
    }

    /// Everything works from here on: all must be settled.
    fn settle(&mut self) {
        for round in 0.. {
            assert!(round < 2000, "it does not settle: {:?}", self.producer);
            if self.producer.is_idle() && self.producer.window.messages() == 0 {
                return;
            }
            self.connect();
            for lane in 0..LANES {
                self.grant(lane, 2000);
                self.send(lane);
                self.process(lane, 100, 0);
                self.receive(lane, 100);
            }
            self.pass(Duration::from_millis(50));
        }
    }

    fn check(&self) {
        assert_eq!(self.results.len() as u64, self.next_id, "every record has a result");
        assert_eq!(self.producer.window.bytes(), 0);
        let mut seen = BTreeSet::new();
        for log in &self.logs {
            assert!(log.records.is_sorted(), "records of a partition keep their order: {:?}", log.records);
            for id in &log.records {
                assert!(seen.insert(*id), "record {id} is stored twice");
            }
        }
        for (id, result) in &self.results {
            match result {
                Ok(_) => assert!(seen.contains(id), "an acknowledged record is not there"),
                Err(false) => {
                    assert!(!seen.contains(id), "record {id} is stored although it failed for certain")
                }
                Err(true) => {}
            }
        }
    }
}

impl Log {
    #[expect(clippy::cast_possible_truncation, reason = "numbers of a test are small")]
    fn publish(&mut self, batch: &ProducerBatch, fault: u32) -> Answer {
        batch.verify().unwrap();
        let header = *batch.header();
        let results = self.producers.entry(header.producer.get()).or_default();
        let next = results.len() as u64;
        let sequence = header.sequence.get();
        let reject = |code, retry_after_ms| {
            let (partition, sequence) = (header.partition.partition, header.sequence);
            Answer::Reject(PublishRejected {
                partition,
                sequence,
                code,
                retry_after_ms,
                detail: String::new(),
            })
        };
        if self.forgotten.contains(&header.producer.get()) {
            return reject(ErrorCode::ProducerUnknown, 0);
        }
        match fault {
            1 => return reject(ErrorCode::Throttled, 30),
            2 => return reject(ErrorCode::StorageFull, 0),
            3 if sequence == next => return reject(ErrorCode::BatchTooLarge, 0),
            // A check that comes before the look for duplicates.
            4 => return reject(ErrorCode::BatchTooLarge, 0),
            5 => {
                self.forgotten.insert(header.producer.get());
                return reject(ErrorCode::ProducerUnknown, 0);
            }
            6 => return reject(ErrorCode::SequenceForgotten, 0),
            _ => {}
        }
        if sequence > next {
            return reject(ErrorCode::SequenceGap, 0);
        }
        let duplicate = sequence < next;
        if !duplicate {
            let base = self.records.len() as u64;
            results.push((base, header.record_count));
            self.records.extend(ids(batch));
        }
        let (base, count) = self.producers[&header.producer.get()][sequence as usize];
        assert_eq!(count, header.record_count, "a sequence stands for another batch");
        let entry = AckEntry {
            partition: header.partition.partition,
            sequence: header.sequence,
            base_offset: Offset::new(base),
            append_time: Timestamp::ZERO,
            partition_epoch: Epoch::ZERO,
            durability: Durability::Durable,
            duplicate,
        };
        Answer::Ack(entry, header.producer)
    }
}

proptest! {
    #[test]
    fn every_record_gets_one_true_result_whatever_happens(
        steps in proptest::collection::vec((0u8..16, any::<u32>()), 0..250),
    ) {
        let mut world = World::new();
        for (kind, number) in steps {
            world.step(kind, number);
        }
        world.settle();
        world.check();
    }
}
