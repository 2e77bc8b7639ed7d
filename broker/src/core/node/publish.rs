//! Batches on their way through a node: offered to their partition, journaled, and answered in order.

use weir_protocol::ErrorCode;
use weir_protocol::batch::ProducerBatch;
use weir_protocol::message::{AckEntry, Publish, PublishOpen, PublishRejected};
use weir_protocol::units::{Durability, Epoch, PartitionId, Sequence, TopicId};
use weir_storage::frame::Frame;
use weir_storage::state::AppendResult;

use super::{Node, refuse_lane};
use crate::core::coordinator::Refusal;
use crate::core::partition::{Offered, Partition, memory_of};
use crate::core::publish::{Answer, PendingAppend, PublishLane, Waiting};
use crate::core::{Actions, LaneId, Now, Outgoing};

/// Advice to a producer that met a full disk.
const STORAGE_FULL_RETRY_MS: u32 = 1000;

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
        let Some(state) = self.publishing.lane(lane) else { return };
        if !self.ingest.receive(lane, bytes) {
            let detail = format!("a batch of {bytes} bytes came without credit");
            actions.outgoing.push(Outgoing::Close(lane.connection, ErrorCode::CreditExceeded, detail));
            return;
        }
        self.publishing.moved(lane, now.monotonic_us);
        let Publish { acked_below, batch } = publish;
        let header = *batch.header();
        let (offered, partition_epoch) = match self.admit(state.topic, &batch) {
            Err((code, detail)) => (Offered::Refused(code, detail), Epoch::ZERO),
            Ok(partition) => (partition.offer(&batch, acked_below, now.wall), partition.epoch()),
        };
        let entry = |result: AppendResult, duplicate: bool| AckEntry {
            partition: header.partition.partition,
            sequence: header.sequence,
            base_offset: result.base_offset,
            append_time: result.append_time,
            partition_epoch,
            durability: Durability::Durable,
            duplicate,
        };
        match offered {
            Offered::Appended { batch, result } => {
                let key = header.partition;
                let (end, stored_bytes) = (batch.end_offset(), batch.length() as u64);
                let memory_bytes = memory_of(&batch);
                self.counted.batches += 1;
                self.counted.records += u64::from(header.record_count);
                self.counted.bytes += stored_bytes;
                self.hot.appended(key);
                let entry = Some(entry(result, false));
                let early = state.durability == Durability::Written;
                let ticket = actions.append(Frame::Append { partition: key, acked_below, batch }, early);
                let append = PendingAppend { lane, key, end, entry, frame_bytes: bytes, memory_bytes };
                self.publishing.wait(ticket, Waiting::Append(append));
            }
            Offered::Duplicate { result, durable } => {
                self.counted.duplicates += 1;
                let answer = Answer::Stored(entry(result, true));
                let last = actions.last_ticket();
                if !durable {
                    // The original is among the frames given to the journal so far.
                    let waiting = Waiting::Answer { lane, answer: Some(answer), frame_bytes: bytes };
                    self.publishing.wait(last, waiting);
                } else if !self.publishing.answer(lane, (answer, bytes), last) {
                    self.ingest.release(lane, bytes, 0);
                }
            }
            Offered::Refused(code, detail) => {
                let place = (header.partition.partition, header.sequence);
                if !self.reject((lane, bytes), place, (code, detail), actions) {
                    self.ingest.release(lane, bytes, 0);
                }
            }
        }
    }

    /// The partition a batch is for, if the batch may go there.
    fn admit(&mut self, topic: TopicId, batch: &ProducerBatch) -> Result<&mut Partition, Refusal> {
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
        if batch.table().rows().any(|row| row.deliver_at.is_some() || row.time_to_live_us.is_some()) {
            let detail = "delayed delivery and time to live are not supported".to_owned();
            return Err((ErrorCode::Unsupported, detail));
        }
        if self.going_away {
            return Err((ErrorCode::GoingAway, "the broker is shutting down".to_owned()));
        }
        if self.storage_full {
            return Err((ErrorCode::StorageFull, "the disk is full".to_owned()));
        }
        let (partition, count) = (header.partition.partition, definition.settings.partitions);
        let detail = || format!("topic '{name}' has partitions 0 to {}, not {partition}", count - 1);
        self.partitions.get_mut(&header.partition).ok_or_else(|| (ErrorCode::PartitionNotFound, detail()))
    }

    /// Refuses a batch, once those before it have their answers. Says whether that has to wait, with the batch's bytes.
    fn reject(
        &mut self,
        (lane, frame_bytes): (LaneId, u64),
        (partition, sequence): (PartitionId, Sequence),
        (code, detail): Refusal,
        actions: &mut Actions,
    ) -> bool {
        let retry_after_ms = if code == ErrorCode::StorageFull { STORAGE_FULL_RETRY_MS } else { 0 };
        actions.rejections.push(code);
        let rejected = PublishRejected { partition, sequence, code, retry_after_ms, detail };
        self.publishing.answer(lane, (Answer::Refused(rejected), frame_bytes), actions.last_ticket())
    }

    pub(super) fn append_durable(&mut self, append: PendingAppend) {
        self.publishing.moved(append.lane, self.now.monotonic_us);
        if let Some(entry) = append.entry {
            self.publishing.give(append.lane, Answer::Stored(entry));
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
