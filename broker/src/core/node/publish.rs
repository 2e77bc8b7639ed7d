//! Batches on their way through a node: offered to their partition, journaled, and answered in order.

use std::collections::VecDeque;

use weir_protocol::ErrorCode;
use weir_protocol::batch::{ProducerBatch, ProducerHeader, Voids};
use weir_protocol::message::{
    AckEntry, Publish, PublishOpen, PublishRejected, RecordException, RecordFate, TopicSettings,
};
use weir_protocol::units::{Durability, Epoch, Offset, Timestamp, TopicId};
use weir_storage::dedup::KeyDigest;
use weir_storage::frame::{Frame, SkippedBatch};
use weir_storage::state::AppendResult;

use super::{Node, refuse_lane};
use crate::core::answers::BATCH_BYTES;
use crate::core::coordinator::{Refusal, retry_after_ms};
use crate::core::dedup::{Decision, Found, Incoming, KeyAnswer, KeyMemory, KeyProbe, Placing};
use crate::core::partition::{Offered, Partition, memory_of};
use crate::core::publish::{Answer, PendingAppend, PublishLane, Waiting, exceptions_bytes};
use crate::core::{Actions, LaneId, Now, Outgoing};

impl Node {
    pub(super) fn publish_opened(&mut self, lane: LaneId, open: PublishOpen, actions: &mut Actions) {
        if let Err(refusal) = self.coordinator.live_by_id(open.topic) {
            refuse_lane(lane, refusal, actions);
            return;
        }
        let state = PublishLane { topic: open.topic, durability: open.durability };
        self.publishing.open(lane, state, self.now.monotonic_us);
        self.ingest.open(lane);
    }

    pub(super) fn publish(
        &mut self,
        now: Now,
        lane: LaneId,
        (publish, bytes): (Publish, u64),
        actions: &mut Actions,
    ) {
        if self.publishing.lane(lane).is_none() {
            self.answers.due(lane.connection, BATCH_BYTES);
            return;
        }
        if !self.ingest.receive(lane, bytes) {
            let detail = format!("a batch of {bytes} bytes came without credit");
            actions.outgoing.push(Outgoing::Close(lane.connection, ErrorCode::CreditExceeded, detail));
            return;
        }
        self.publishing.moved(lane, now.monotonic_us);
        if let Some(incoming) = self.dedup.waiting().follow(Incoming { lane, publish, bytes }) {
            self.offer(now, incoming, None, actions);
        }
    }

    /// The keys that a batch waited for are known: it goes on, and with it those behind it.
    pub(super) fn keys_found(&mut self, now: Now, answer: KeyAnswer, actions: &mut Actions) {
        let Some((batches, is_current)) = self.dedup.take_waiting(answer.partition) else { return };
        match answer.found {
            None => self.go_on(now, batches, Err(keys_unreadable()), actions),
            Some(found) => {
                let found: Found = found.into_iter().map(|entry| (entry.digest, entry)).collect();
                self.go_on(now, batches, Ok(is_current.then_some(&found)), actions);
            }
        }
    }

    /// Keys have left memory: there is room for those that waited for it.
    pub(super) fn keys_released(&mut self, now: Now, actions: &mut Actions) {
        for partition in self.dedup.take_short() {
            if let Some((batches, _)) = self.dedup.take_waiting(partition) {
                self.go_on(now, batches, Ok(None), actions);
            }
        }
    }

    /// The first of these batches goes on, or is refused, and with it those behind it, up to the next that has to wait.
    fn go_on(
        &mut self,
        now: Now,
        mut batches: VecDeque<Incoming>,
        found: Result<Option<&Found>, Refusal>,
        actions: &mut Actions,
    ) {
        let Some(first) = batches.pop_front() else { return };
        match found {
            Err(refusal) => self.refuse(&first, refusal, actions),
            Ok(found) => self.offer(now, first, found, actions),
        }
        for incoming in batches {
            if let Some(incoming) = self.dedup.waiting().follow(incoming) {
                self.offer(now, incoming, None, actions);
            }
        }
    }

    /// Takes a batch, refuses it, or lets it wait for older keys. `found` are those it has waited for.
    pub(super) fn offer(
        &mut self,
        now: Now,
        incoming: Incoming,
        found: Option<&Found>,
        actions: &mut Actions,
    ) {
        let Some(PublishLane { topic, .. }) = self.publishing.lane(incoming.lane) else {
            self.ingest.release(incoming.lane, incoming.bytes, 0);
            self.answers.due(incoming.lane.connection, BATCH_BYTES);
            return;
        };
        let batch = &incoming.publish.batch;
        let key_time = self.dedup.clock().now(now);
        let (partition, settings) = match self.admit(topic, batch) {
            Ok(admitted) => admitted,
            Err(refusal) => return self.refuse(&incoming, refusal, actions),
        };
        let needs_deciding = batch.table().needs_deciding();
        let most = if needs_deciding { batch.header().record_count } else { 0 };
        let Some(tell) = self.promise_to_tell(incoming.lane, most) else {
            return self.refuse(&incoming, no_memory_for_answers(), actions);
        };
        let place = |base_offset: Offset, append_time: Timestamp| Placing {
            partition: batch.header().partition,
            base_offset,
            append_time,
            memory: KeyMemory::of(&settings),
            keyed_versions: settings.keyed_versions,
        };
        match partition.offer(batch.header()) {
            Offered::Refused(code, detail) => {
                tell(0);
                self.refuse(&incoming, (code, detail), actions);
            }
            Offered::Next => {
                let now = if needs_deciding { now.wall.max(key_time) } else { now.wall };
                let placing = place(partition.log_end(), partition.append_time(now));
                let decision = if needs_deciding {
                    self.dedup.decide(batch, &placing, found, &self.partitions)
                } else {
                    Decision::Append(Vec::new())
                };
                tell(decision.told());
                match decision {
                    Decision::Append(exceptions) => {
                        self.append(&incoming, placing.append_time, exceptions, actions);
                    }
                    Decision::Skip(exceptions) => self.skip(&incoming, exceptions, actions),
                    Decision::Probe(digests) => self.probe(incoming, digests, actions),
                    Decision::Wait => self.dedup.wait_for_room(incoming),
                }
            }
            Offered::Duplicate(result) if result.voids.is_empty() => {
                tell(0);
                self.repeat(&incoming, &result, Vec::new(), actions);
            }
            Offered::Duplicate(result) => {
                let placing = place(result.base_offset, result.append_time);
                let decision = self.dedup.decided(batch, &placing, &result.voids, (found, &self.partitions));
                tell(decision.told());
                match decision {
                    Decision::Append(exceptions) | Decision::Skip(exceptions) => {
                        self.repeat(&incoming, &result, exceptions, actions);
                    }
                    Decision::Probe(digests) => self.probe(incoming, digests, actions),
                    Decision::Wait => self.dedup.wait_for_room(incoming),
                }
            }
        }
    }

    /// Takes memory for telling of as many records: all with keys, as it is known only once these are taken how many it will be.
    /// What it returns is told that, and gives the rest back.
    fn promise_to_tell(&self, lane: LaneId, most: u32) -> Option<impl Fn(usize) + use<>> {
        let (answers, bytes) = (self.answers.clone(), exceptions_bytes(u64::from(most)));
        let rest =
            move |told: usize| answers.withdraw(lane.connection, bytes - exceptions_bytes(told as u64));
        self.answers.promise(lane.connection, bytes).then_some(rest)
    }

    /// A batch waits until it is known whether its keys were taken long ago.
    fn probe(&mut self, incoming: Incoming, digests: Vec<KeyDigest>, actions: &mut Actions) {
        let partition = incoming.publish.batch.header().partition;
        self.dedup.wait(incoming);
        actions.key_probes.push(KeyProbe { partition, digests });
    }

    /// Appends a batch. The answer waits for the journal.
    fn append(
        &mut self,
        incoming: &Incoming,
        append_time: Timestamp,
        exceptions: Vec<RecordException>,
        actions: &mut Actions,
    ) {
        let Incoming { lane, publish: Publish { acked_below, batch }, bytes } = incoming;
        let (lane, header) = (*lane, batch.header());
        let Some(partition) = self.partitions.get_mut(&header.partition) else { return };
        let voids = Voids::of(header.record_count, exceptions.iter().map(|exception| exception.record));
        let (stored, result) = partition.append(batch, *acked_below, append_time, voids);
        let entry = entry(header, partition.epoch(), &result, false);
        let (key, end, memory_bytes) = (header.partition, stored.end_offset(), memory_of(&stored));
        self.counted.batches += 1;
        self.counted.records += u64::from(header.record_count) - exceptions.len() as u64;
        self.counted.bytes += stored.length() as u64;
        self.hot.appended(key);
        let early = self.wants_early(lane);
        let frame = Frame::Append { partition: key, acked_below: *acked_below, batch: stored };
        let ticket = actions.append(frame, early);
        let answer = Some(Answer::Stored(entry, exceptions));
        let append = PendingAppend { lane, key, end, answer, frame_bytes: *bytes, memory_bytes };
        self.publishing.wait(ticket, Waiting::Append(append));
    }

    /// Takes note of a batch of which nothing counts. The answer waits for the journal: the sequence is used up then, and what
    /// the records are duplicates of is durable.
    fn skip(&mut self, incoming: &Incoming, exceptions: Vec<RecordException>, actions: &mut Actions) {
        let Incoming { lane, publish: Publish { acked_below, batch }, bytes } = incoming;
        let (lane, header) = (*lane, batch.header());
        let Some(partition) = self.partitions.get_mut(&header.partition) else { return };
        let result = partition.skip(header, *acked_below);
        let entry = entry(header, partition.epoch(), &result, false);
        let skipped = SkippedBatch {
            partition: header.partition,
            producer: header.producer,
            producer_epoch: header.producer_epoch,
            sequence: header.sequence,
            acked_below: *acked_below,
            record_count: header.record_count,
        };
        let ticket = actions.append(Frame::Skipped(skipped), self.wants_early(lane));
        let answer = Some(Answer::Stored(entry, exceptions));
        self.publishing.wait(ticket, Waiting::Answer { lane, answer, frame_bytes: *bytes });
    }

    /// Answers a batch that was taken before as it was answered then.
    fn repeat(
        &mut self,
        incoming: &Incoming,
        result: &AppendResult,
        exceptions: Vec<RecordException>,
        actions: &Actions,
    ) {
        let (lane, bytes, header) = (incoming.lane, incoming.bytes, incoming.publish.batch.header());
        self.counted.duplicates += 1;
        let Some(partition) = self.partitions.get(&header.partition) else { return };
        let last = actions.last_ticket();
        let is_durable = result.base_offset < partition.high_watermark() && !names_others(&exceptions);
        let answer = Answer::Stored(entry(header, partition.epoch(), result, true), exceptions);
        if !is_durable && self.durable_through < last {
            // The original, or what an exception names, is among the frames given to the journal so far.
            let waiting = Waiting::Answer { lane, answer: Some(answer), frame_bytes: bytes };
            self.publishing.wait(last, waiting);
        } else if !self.publishing.answer(lane, (answer, bytes), last) {
            self.ingest.release(lane, bytes, 0);
        }
    }

    fn wants_early(&self, lane: LaneId) -> bool {
        self.publishing.lane(lane).is_some_and(|lane| lane.durability == Durability::Written)
    }

    /// The partition a batch is for, if the batch may go there, and what was chosen for its topic.
    fn admit(&self, topic: TopicId, batch: &ProducerBatch) -> Result<(&Partition, TopicSettings), Refusal> {
        let definition = self.coordinator.live_by_id(topic)?;
        let header = batch.header();
        let name = &definition.name;
        if header.partition.topic != topic {
            let detail = format!("the lane is for topic {topic}, the batch for {}", header.partition.topic);
            return Err((ErrorCode::PartitionNotFound, detail));
        }
        let max = definition.settings.batch_bytes_max as usize;
        if batch.length() > max {
            let detail = format!("{} bytes; topic '{name}' takes at most {max}", batch.length());
            return Err((ErrorCode::BatchTooLarge, detail));
        }
        if batch.table().has_delivery_times() {
            let detail = "delayed delivery and time to live are not supported".to_owned();
            return Err((ErrorCode::Unsupported, detail));
        }
        if definition.settings.keyed_versions && !batch.table().has_record_keys() {
            let detail =
                format!("topic '{name}' keeps versions of keys, and the client does not name its keys");
            return Err((ErrorCode::Unsupported, detail));
        }
        self.claims.check(header)?;
        if self.going_away {
            return Err((ErrorCode::GoingAway, "the broker is shutting down".to_owned()));
        }
        if self.storage_full {
            return Err((ErrorCode::StorageFull, "the disk is full".to_owned()));
        }
        let (partition, count) = (header.partition.partition, definition.settings.partitions);
        let detail = || format!("topic '{name}' has partitions 0 to {}, not {partition}", count - 1);
        let found = self.partitions.get(&header.partition);
        let partition = found.ok_or_else(|| (ErrorCode::PartitionNotFound, detail()))?;
        Ok((partition, definition.settings))
    }

    /// Refuses a batch, once those before it have their answers.
    fn refuse(&mut self, incoming: &Incoming, (code, detail): Refusal, actions: &mut Actions) {
        let (lane, bytes, header) = (incoming.lane, incoming.bytes, incoming.publish.batch.header());
        let (partition, sequence) = (header.partition.partition, header.sequence);
        let retry_after_ms = retry_after_ms(code);
        let detail =
            if self.answers.promise(lane.connection, detail.len() as u64) { detail } else { String::new() };
        actions.rejections.push(code);
        let rejected = PublishRejected { partition, sequence, code, retry_after_ms, detail };
        if !self.publishing.answer(lane, (Answer::Refused(rejected), bytes), actions.last_ticket()) {
            self.ingest.release(lane, bytes, 0);
        }
    }

    pub(super) fn append_durable(&mut self, append: PendingAppend) {
        self.publishing.moved(append.lane, self.now.monotonic_us);
        if let Some(answer) = append.answer {
            self.publishing.give(append.lane, answer);
        }
        match self.partitions.get_mut(&append.key) {
            Some(partition) => {
                self.ingest.release(append.lane, append.frame_bytes, append.memory_bytes);
                for lane in partition.durable(append.end) {
                    self.subscriptions.wake(lane, append.key.partition);
                }
            }
            None => self.ingest.release(append.lane, append.frame_bytes, 0),
        }
    }
}

fn entry(header: &ProducerHeader, epoch: Epoch, result: &AppendResult, duplicate: bool) -> AckEntry {
    AckEntry {
        partition: header.partition.partition,
        sequence: header.sequence,
        base_offset: result.base_offset,
        append_time: result.append_time,
        partition_epoch: epoch,
        durability: Durability::Durable,
        duplicate,
    }
}

pub(super) fn no_memory_for_answers() -> Refusal {
    let detail = "the client has not taken the answers it was sent, and there is no memory for more";
    (ErrorCode::Throttled, detail.to_owned())
}

/// Whether the answer says where the last record of a key stands, which may be one that is on its way.
fn names_others(exceptions: &[RecordException]) -> bool {
    exceptions.iter().any(|exception| matches!(exception.fate, RecordFate::Unmet(_)))
}

fn keys_unreadable() -> Refusal {
    (ErrorCode::Internal, "the keys of older records cannot be read".to_owned())
}
