//! One lane of a subscription: its readers take turns, as far as the lane's credit and its outbox go.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Bytes, BytesMut};
use weir_protocol::Credit;
use weir_protocol::batch::StoredBatch;
use weir_protocol::message::{Deliver, Gap, GapReason, Message};
use weir_protocol::units::{Offset, PartitionId, TopicId};

use super::{DeliveryLimits, Partitions, key};
use crate::core::event::ColdWant;
use crate::core::partition::Partition;
use crate::core::{Actions, ColdRead, LaneId, Outgoing};

#[derive(Debug)]
pub(super) struct Lane {
    pub(super) topic: TopicId,
    pub(super) credit: Credit,
    /// Bytes sent that have not left, and what is set aside for reads under way.
    pub(super) outbox_bytes: u64,
    /// Credit that is set aside for reads under way: what they find can be sent.
    pub(super) reserved_bytes: u64,
    /// Reads of flushed data under way, those that nobody waits for any more included.
    pub(super) reads: usize,
    pub(super) cursors: BTreeMap<PartitionId, Cursor>,
    /// Partitions that may have something to send, in turn.
    pub(super) ready: VecDeque<PartitionId>,
    pub(super) queued: bool,
}

#[derive(Debug)]
pub(super) struct Cursor {
    pub(super) generation: u32,
    pub(super) position: Offset,
    pub(super) state: State,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum State {
    /// In the lane's ready queue.
    Ready,
    /// Ready, but the next batch needs this much credit.
    Starved(u64),
    /// Everything visible has been sent.
    Waiting,
    /// Flushed data is being read; so many bytes of the credit and of the outbox are set aside for it.
    Reading(u64),
    /// Its start is being looked up in segments; the position is where it starts if nothing is found there.
    Locating,
}

impl Lane {
    pub(super) fn drop_cursor(&mut self, id: PartitionId) {
        if let Some(cursor) = self.cursors.remove(&id) {
            self.ready.retain(|ready| *ready != id);
            if let State::Reading(reserved) = cursor.state {
                self.release(reserved);
            }
        }
    }

    /// Credit that is not set aside for reads under way.
    pub(super) fn available(&self) -> u64 {
        self.credit.available() - self.reserved_bytes
    }

    /// Sets credit and room in the outbox aside for a read.
    fn reserve(&mut self, bytes: u64) {
        self.reserved_bytes += bytes;
        self.outbox_bytes += bytes;
    }

    /// A read has ended, or nobody waits for it any more.
    pub(super) fn release(&mut self, bytes: u64) {
        self.reserved_bytes -= bytes;
        self.outbox_bytes -= bytes;
    }

    pub(super) fn pump(
        &mut self,
        lane: LaneId,
        limits: &DeliveryLimits,
        partitions: &mut Partitions,
        actions: &mut Actions,
    ) {
        while self.outbox_bytes < limits.outbox_bytes {
            let Some(id) = self.ready.pop_front() else { return };
            let Some(cursor) = self.cursors.get_mut(&id) else { continue };
            let Some(partition) = partitions.get_mut(&key(self.topic, id)) else { continue };
            let available = self.credit.available() - self.reserved_bytes;
            if let State::Starved(needed) = cursor.state
                && available < needed
            {
                self.ready.push_front(id);
                return;
            }
            cursor.state = State::Ready;
            if cursor.position < partition.log_start() {
                let (from, to) = (cursor.position, partition.log_start());
                cursor.position = to;
                let reason = GapReason::Retention;
                let gap = Gap { partition: id, generation: cursor.generation, from, to, reason };
                actions.outgoing.push(Outgoing::Frames(lane, vec![gap.to_frame()]));
            }
            if cursor.position >= partition.high_watermark() {
                cursor.state = State::Waiting;
                partition.wait(lane);
                continue;
            }
            let in_memory = partition.tail().start().is_some_and(|start| start <= cursor.position);
            if !in_memory {
                if available <= Deliver::OVERHEAD_BYTES as u64 || self.reads >= limits.cursors_per_lane_max {
                    self.ready.push_front(id);
                    return;
                }
                let bytes_max = limits.cold_bytes.min(available - Deliver::OVERHEAD_BYTES as u64);
                let reserved = bytes_max + Deliver::OVERHEAD_BYTES as u64;
                cursor.state = State::Reading(reserved);
                self.reads += 1;
                let want = ColdWant::Batches { from: cursor.position, bytes_max };
                let key = key(self.topic, id);
                actions.cold_reads.push(ColdRead { lane, key, generation: cursor.generation, want });
                self.reserve(reserved);
                continue;
            }
            let room = limits.frame_bytes.min(available.saturating_sub(Deliver::OVERHEAD_BYTES as u64));
            match gather(partition, cursor, id, (room, available)) {
                Ok((pieces, frame_bytes)) => {
                    self.credit.spend(frame_bytes).expect("gathered within the credit");
                    self.outbox_bytes += frame_bytes;
                    actions.outgoing.push(Outgoing::Delivery(lane, pieces));
                    self.ready.push_back(id);
                }
                Err(needed) => {
                    cursor.state = State::Starved(needed);
                    self.ready.push_front(id);
                    return;
                }
            }
        }
    }
}

/// Batches up to this length are copied together: the transport is slow with many small pieces.
const COPIED_BYTES_MAX: usize = 4 << 10;

/// A frame of visible batches from the cursor's position on. Fails with the credit the first batch needs.
fn gather(
    partition: &Partition,
    cursor: &mut Cursor,
    id: PartitionId,
    (room, available): (u64, u64),
) -> Result<(Vec<Bytes>, u64), u64> {
    let high_watermark = partition.high_watermark();
    let mut total = 0;
    let mut end = cursor.position;
    let mut count = 0;
    for batch in partition.tail().from(cursor.position) {
        let length = batch.length() as u64;
        let fits =
            total + length <= room || (count == 0 && length + Deliver::OVERHEAD_BYTES as u64 <= available);
        if batch.end_offset() > high_watermark || !fits {
            if count == 0 {
                return Err(length + Deliver::OVERHEAD_BYTES as u64);
            }
            break;
        }
        total += length;
        count += 1;
        end = batch.end_offset();
    }
    let batches_bytes = usize::try_from(total).expect("bounded by the credit");
    let front = Deliver::front(id, cursor.generation, high_watermark, batches_bytes);
    let mut pieces = Vec::new();
    let mut copied = BytesMut::from(&front[..]);
    for batch in partition.tail().from(cursor.position).take(count) {
        append(batch, &mut copied, &mut pieces);
    }
    if !copied.is_empty() {
        pieces.push(copied.freeze());
    }
    cursor.position = end;
    Ok((pieces, total + Deliver::OVERHEAD_BYTES as u64))
}

fn append(batch: &StoredBatch, copied: &mut BytesMut, pieces: &mut Vec<Bytes>) {
    if batch.length() <= COPIED_BYTES_MAX {
        batch.encode(copied);
    } else {
        batch.section.encode(batch.producer.length(), copied);
        pieces.push(copied.split().freeze());
        pieces.push(batch.producer.bytes().clone());
    }
}
