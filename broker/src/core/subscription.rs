//! Lanes of subscriptions: each reader gets the next records in order, as far as its lane's credit goes.
//!
//! An idle reader costs a position. A partition with news queues the lanes that wait for it; a lane takes its
//! partitions in turn, so that one of them cannot starve the others.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Bytes, BytesMut};
use weir_protocol::batch::StoredBatch;
use weir_protocol::message::{Deliver, Gap, GapReason, Message, PartitionEnded, PartitionStarted, StartAt};
use weir_protocol::units::{Offset, PartitionId, PartitionKey, TopicId};
use weir_protocol::{Credit, ErrorCode};

use crate::core::event::ColdWant;
use crate::core::partition::{Partition, TimeLookup};
use crate::core::{Actions, ColdAnswer, ColdRead, ColdResult, LaneId, Outgoing};

/// Partitions by key.
pub type Partitions = BTreeMap<PartitionKey, Partition>;

/// Bounds on what is read and sent at a time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DeliveryLimits {
    /// Bytes of batches in one frame, unless a single batch is longer.
    pub frame_bytes: u64,
    /// Bytes asked of a segment at a time.
    pub cold_bytes: u64,
    /// Bytes of a lane that may wait to leave.
    pub outbox_bytes: u64,
    /// Partitions one lane may read.
    pub cursors_per_lane_max: usize,
}

/// All lanes of subscriptions.
#[derive(Debug)]
pub struct Subscriptions {
    limits: DeliveryLimits,
    lanes: BTreeMap<LaneId, Lane>,
    /// Lanes that may have something to send; a lane is in it at most once.
    queue: VecDeque<LaneId>,
}

#[derive(Debug)]
struct Lane {
    topic: TopicId,
    credit: Credit,
    /// Bytes sent that have not left, and bytes being read for it.
    outbox_bytes: u64,
    cursors: BTreeMap<PartitionId, Cursor>,
    /// Partitions that may have something to send, in turn.
    ready: VecDeque<PartitionId>,
    queued: bool,
}

#[derive(Debug)]
struct Cursor {
    generation: u32,
    position: Offset,
    state: State,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    /// In the lane's ready queue.
    Ready,
    /// Ready, but the next batch needs this much credit.
    Starved(u64),
    /// Everything visible has been sent.
    Waiting,
    /// Flushed data is being read; so many bytes of the outbox are set aside for it.
    Reading(u64),
    /// Its start is being looked up in segments; the position is where it starts if nothing is found there.
    Locating,
}

impl Subscriptions {
    /// No lane.
    pub const fn new(limits: DeliveryLimits) -> Self {
        Self { limits, lanes: BTreeMap::new(), queue: VecDeque::new() }
    }

    /// A stream became a lane of a subscription.
    pub fn open(&mut self, lane: LaneId, topic: TopicId, limit_bytes: u64) {
        let state = Lane {
            topic,
            credit: Credit::new(limit_bytes),
            outbox_bytes: 0,
            cursors: BTreeMap::new(),
            ready: VecDeque::new(),
            queued: false,
        };
        self.lanes.insert(lane, state);
    }

    /// A lane has ended.
    pub fn close(&mut self, lane: LaneId, partitions: &mut Partitions) {
        let Some(closed) = self.lanes.remove(&lane) else { return };
        self.queue.retain(|queued| *queued != lane);
        for partition in closed.cursors.keys() {
            if let Some(partition) = partitions.get_mut(&key(closed.topic, *partition)) {
                partition.forget(lane);
            }
        }
    }

    /// The client lets more be sent.
    pub fn grant(&mut self, lane: LaneId, limit_bytes: u64) {
        if let Some(state) = self.lanes.get_mut(&lane)
            && state.credit.grant(limit_bytes)
        {
            self.enqueue(lane);
        }
    }

    /// Bytes of a lane have left.
    ///
    /// # Panics
    /// If more left than was sent.
    pub fn sent(&mut self, lane: LaneId, bytes: u64) {
        if let Some(state) = self.lanes.get_mut(&lane) {
            assert!(state.outbox_bytes >= bytes, "only what was sent can leave");
            state.outbox_bytes -= bytes;
            self.enqueue(lane);
        }
    }

    /// Starts reading a partition on a lane, or moves it.
    pub fn start(
        &mut self,
        lane: LaneId,
        (id, generation, start): (PartitionId, u32, StartAt),
        partitions: &mut Partitions,
        actions: &mut Actions,
    ) {
        let cursors_max = self.limits.cursors_per_lane_max;
        let Some(state) = self.lanes.get_mut(&lane) else { return };
        let key = key(state.topic, id);
        state.drop_cursor(id);
        let Some(partition) = partitions.get_mut(&key) else {
            let detail = format!("topic {} has no partition {id}", state.topic);
            end(lane, (id, generation), (ErrorCode::PartitionNotFound, detail), None, actions);
            return;
        };
        partition.forget(lane);
        if state.cursors.len() >= cursors_max {
            let detail = format!("a lane reads at most {cursors_max} partitions");
            end(lane, (id, generation), (ErrorCode::TooManySubscriptions, detail), Some(partition), actions);
            return;
        }
        let (log_start, high_watermark) = (partition.log_start(), partition.high_watermark());
        let position = match start {
            StartAt::Earliest => log_start,
            StartAt::Latest => high_watermark,
            StartAt::Last(count) => Offset::new(high_watermark.get().saturating_sub(count)).max(log_start),
            StartAt::Offset(offset) if (log_start..=high_watermark).contains(&offset) => offset,
            StartAt::Offset(offset) => {
                let detail = format!("offset {offset} is not within {log_start}..={high_watermark}");
                end(lane, (id, generation), (ErrorCode::OffsetOutOfRange, detail), Some(partition), actions);
                return;
            }
            StartAt::Time(time) => match partition.offset_at(time) {
                TimeLookup::Known(offset) => offset,
                TimeLookup::InSegments { otherwise } => {
                    let cursor = Cursor { generation, position: otherwise, state: State::Locating };
                    state.cursors.insert(id, cursor);
                    let want = ColdWant::OffsetAt(time);
                    actions.cold_reads.push(ColdRead { lane, key, generation, want });
                    return;
                }
            },
        };
        self.begin(lane, (id, generation, position), partitions, actions);
    }

    /// Ends reading a partition.
    pub fn stop(&mut self, lane: LaneId, id: PartitionId, partitions: &mut Partitions) {
        let Some(state) = self.lanes.get_mut(&lane) else { return };
        state.drop_cursor(id);
        if let Some(partition) = partitions.get_mut(&key(state.topic, id)) {
            partition.forget(lane);
        }
        self.enqueue(lane);
    }

    /// A partition has news for a lane that waited for it.
    pub fn wake(&mut self, lane: LaneId, id: PartitionId) {
        let Some(state) = self.lanes.get_mut(&lane) else { return };
        let Some(cursor) = state.cursors.get_mut(&id) else { return };
        if cursor.state == State::Waiting {
            cursor.state = State::Ready;
            state.ready.push_back(id);
            self.enqueue(lane);
        }
    }

    /// A topic is gone: every reader of it is told.
    pub fn topic_deleted(&mut self, topic: TopicId, actions: &mut Actions) {
        for (lane, state) in self.lanes.iter_mut().filter(|(_, state)| state.topic == topic) {
            let cursors = std::mem::take(&mut state.cursors);
            state.ready.clear();
            for (id, cursor) in cursors {
                if let State::Reading(reserved) = cursor.state {
                    state.outbox_bytes -= reserved;
                }
                let refusal = (ErrorCode::TopicDeleted, "the topic was deleted".to_owned());
                end(*lane, (id, cursor.generation), refusal, None, actions);
            }
        }
    }

    /// A read of flushed data has ended.
    pub fn answer(&mut self, answer: &ColdAnswer, partitions: &Partitions, actions: &mut Actions) {
        let ColdRead { lane, key, generation, want: _ } = answer.read;
        let id = key.partition;
        let Some(state) = self.lanes.get_mut(&lane) else { return };
        let Some(cursor) = state.cursors.get_mut(&id) else { return };
        if cursor.generation != generation {
            return;
        }
        if cursor.state == State::Locating {
            let otherwise = cursor.position;
            self.located(answer, otherwise, partitions, actions);
            return;
        }
        let State::Reading(reserved) = cursor.state else { return };
        state.outbox_bytes -= reserved;
        cursor.state = State::Ready;
        state.ready.push_back(id);
        let Some(partition) = partitions.get(&key) else { return };
        match &answer.result {
            ColdResult::Batches { bytes, end } => {
                let frame_bytes = (Deliver::OVERHEAD_BYTES + bytes.len()) as u64;
                if state.credit.spend(frame_bytes).is_err() {
                    cursor.state = State::Starved(frame_bytes);
                    return;
                }
                cursor.position = cursor.position.max(*end);
                state.outbox_bytes += frame_bytes;
                let front = Deliver::front(id, generation, partition.high_watermark(), bytes.len());
                let pieces = vec![Bytes::copy_from_slice(&front), bytes.clone()];
                actions.outgoing.push(Outgoing::Delivery(lane, pieces));
            }
            ColdResult::Corrupt { from, to } => {
                let from = cursor.position.max(*from);
                cursor.position = cursor.position.max(*to);
                let reason = GapReason::Corrupt;
                let gap = Gap { partition: id, generation, from, to: cursor.position, reason };
                actions.outgoing.push(Outgoing::Frames(lane, vec![gap.to_frame()]));
            }
            ColdResult::Failed => {
                state.drop_cursor(id);
                let refusal = (ErrorCode::Internal, "the disk failed to read records".to_owned());
                end(lane, (id, generation), refusal, Some(partition), actions);
            }
            // The partition's own bounds have moved by now: the next turn sees that.
            ColdResult::Trimmed { .. } | ColdResult::NotFlushed | ColdResult::Offset(_) => {}
        }
        self.enqueue(lane);
    }

    fn located(
        &mut self,
        answer: &ColdAnswer,
        otherwise: Offset,
        partitions: &Partitions,
        actions: &mut Actions,
    ) {
        let ColdRead { lane, key, generation, want: _ } = answer.read;
        let Some(partition) = partitions.get(&key) else { return };
        let (log_start, high_watermark) = (partition.log_start(), partition.high_watermark());
        let found = match &answer.result {
            ColdResult::Offset(found) => found.unwrap_or(otherwise),
            ColdResult::Batches { .. }
            | ColdResult::Trimmed { .. }
            | ColdResult::NotFlushed
            | ColdResult::Corrupt { .. }
            | ColdResult::Failed => {
                if let Some(state) = self.lanes.get_mut(&lane) {
                    state.drop_cursor(key.partition);
                }
                let refusal = (ErrorCode::Internal, "the time index cannot be read".to_owned());
                end(lane, (key.partition, generation), refusal, Some(partition), actions);
                return;
            }
        };
        let position = found.clamp(log_start, high_watermark);
        self.begin(lane, (key.partition, generation, position), partitions, actions);
    }

    /// A reader's position is known: it is told, and queued.
    fn begin(
        &mut self,
        lane: LaneId,
        (id, generation, position): (PartitionId, u32, Offset),
        partitions: &Partitions,
        actions: &mut Actions,
    ) {
        let Some(state) = self.lanes.get_mut(&lane) else { return };
        let Some(partition) = partitions.get(&key(state.topic, id)) else { return };
        state.cursors.insert(id, Cursor { generation, position, state: State::Ready });
        state.ready.push_back(id);
        let started = PartitionStarted {
            partition: id,
            generation,
            position,
            log_start: partition.log_start(),
            high_watermark: partition.high_watermark(),
        };
        actions.outgoing.push(Outgoing::Frames(lane, vec![started.to_frame()]));
        self.enqueue(lane);
    }

    fn enqueue(&mut self, lane: LaneId) {
        if let Some(state) = self.lanes.get_mut(&lane)
            && !state.queued
            && !state.ready.is_empty()
        {
            state.queued = true;
            self.queue.push_back(lane);
        }
    }

    /// Sends what can be sent on all lanes that may have something.
    ///
    /// # Panics
    /// If a lane would be sent more than its credit.
    pub fn pump(&mut self, partitions: &mut Partitions, actions: &mut Actions) {
        while let Some(lane) = self.queue.pop_front() {
            if let Some(state) = self.lanes.get_mut(&lane) {
                state.queued = false;
                state.pump(lane, &self.limits, partitions, actions);
            }
        }
    }

    /// Lanes there are.
    pub fn lanes(&self) -> usize {
        self.lanes.len()
    }
}

impl Lane {
    fn drop_cursor(&mut self, id: PartitionId) {
        if let Some(cursor) = self.cursors.remove(&id) {
            self.ready.retain(|ready| *ready != id);
            if let State::Reading(reserved) = cursor.state {
                self.outbox_bytes -= reserved;
            }
        }
    }

    fn pump(
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
            let available = self.credit.available();
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
                if available <= Deliver::OVERHEAD_BYTES as u64 {
                    self.ready.push_front(id);
                    return;
                }
                let bytes_max = limits.cold_bytes.min(available - Deliver::OVERHEAD_BYTES as u64);
                cursor.state = State::Reading(bytes_max);
                self.outbox_bytes += bytes_max;
                let want = ColdWant::Batches { from: cursor.position, bytes_max };
                let key = key(self.topic, id);
                actions.cold_reads.push(ColdRead { lane, key, generation: cursor.generation, want });
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

const fn key(topic: TopicId, partition: PartitionId) -> PartitionKey {
    PartitionKey { topic, partition }
}

fn end(
    lane: LaneId,
    (partition, generation): (PartitionId, u32),
    (code, detail): (ErrorCode, String),
    known: Option<&Partition>,
    actions: &mut Actions,
) {
    let ended = PartitionEnded {
        partition,
        generation,
        code,
        log_start: known.map_or(Offset::ZERO, Partition::log_start),
        high_watermark: known.map_or(Offset::ZERO, Partition::high_watermark),
        detail,
    };
    actions.outgoing.push(Outgoing::Frames(lane, vec![ended.to_frame()]));
}
