//! Lanes of subscriptions: each reader gets the next records in order, as far as its lane's credit goes.
//!
//! An idle reader costs a position. A partition with news queues the lanes that wait for it; a lane takes its
//! partitions in turn, so that one of them cannot starve the others.

mod lane;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use weir_protocol::message::{
    Deliver, Gap, GapReason, Message, PartitionEnded, PartitionStarted, StartAt, Wait, WaitId, WaitsFor,
};
use weir_protocol::units::{Offset, PartitionId, PartitionKey, TopicId};
use weir_protocol::{Credit, ErrorCode, RecordCredit};

use lane::{Cursor, Lane, State};

use crate::core::answers::Answers;
use crate::core::event::ColdWant;
use crate::core::group::Reading;
use crate::core::ledger::{Ledger, Pool};
use crate::core::partition::{Partition, TimeLookup};
use crate::core::{Actions, ColdAnswer, ColdRead, ColdResult, LaneId, Now, Outgoing, StreamId};
use crate::plan::CURSOR_BYTES;

/// Partitions by key.
pub type Partitions = BTreeMap<PartitionKey, Partition>;

/// Reads of flushed data that may be under way before no reader may begin. Each costs some 100 bytes; a peer that begins
/// reads and leaves could queue any number of them.
pub const COLD_READS_MAX: usize = 1 << 16;

/// Bounds on what is read and sent at a time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DeliveryLimits {
    /// Bytes of batches in one frame, unless a single batch is longer.
    pub frame_bytes: u64,
    /// Bytes asked of a segment at a time.
    pub cold_bytes: u64,
    /// Bytes of a lane that may wait to leave.
    pub outbox_bytes: u64,
    /// Partitions one lane may read, and reads of flushed data it may have under way, abandoned ones included.
    pub cursors_per_lane_max: usize,
}

/// All lanes of subscriptions.
#[derive(Debug)]
pub struct Subscriptions {
    limits: DeliveryLimits,
    ledger: Ledger,
    answers: Answers,
    lanes: BTreeMap<LaneId, Lane>,
    /// Lanes that may have something to send; a lane is in it at most once.
    queue: VecDeque<LaneId>,
    /// Reads of flushed data under way, those of lanes that have ended included.
    reads: usize,
    /// Lanes that wait for memory, in turn; a lane is in it at most once.
    short: VecDeque<LaneId>,
    /// Lanes that wait for a quota of their client.
    throttled: BTreeSet<LaneId>,
}

/// Lanes that waited for memory and are tried in one turn of the node: enough that some of them may go on, and few
/// enough that thousands of them cost nothing.
const SHORT_LANES_TRIED: usize = 16;

impl Subscriptions {
    /// No lane.
    pub fn new(limits: DeliveryLimits, answers: Answers) -> Self {
        Self {
            limits,
            ledger: answers.ledger().clone(),
            answers,
            lanes: BTreeMap::new(),
            queue: VecDeque::new(),
            short: VecDeque::new(),
            throttled: BTreeSet::new(),
            reads: 0,
        }
    }

    /// A stream became a lane of a subscription.
    pub fn open(&mut self, lane: LaneId, (topic, limit_bytes): (TopicId, u64), now_us: u64) {
        let state = Lane {
            topic,
            credit: Credit::new(limit_bytes),
            records: RecordCredit::default(),
            outbox: self.ledger.account_of(Pool::Delivery),
            positions: self.ledger.account_of(Pool::Connections),
            moved_us: now_us,
            sent_before: 0,
            short: false,
            listed: false,
            reserved_bytes: 0,
            reads: 0,
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
        self.short.retain(|short| *short != lane);
        self.throttled.remove(&lane);
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

    /// The client lets more records be sent.
    pub fn grant_records(&mut self, lane: LaneId, limit_records: u64) {
        if let Some(state) = self.lanes.get_mut(&lane)
            && state.records.grant(limit_records)
        {
            self.enqueue(lane);
        }
    }

    /// A lane waits for a quota of its client, or does so no more.
    pub fn throttled(&mut self, lane: LaneId, waits: bool) {
        if waits && self.lanes.contains_key(&lane) {
            self.throttled.insert(lane);
        } else {
            self.throttled.remove(&lane);
        }
    }

    /// Bytes of a lane have left.
    ///
    /// # Panics
    /// If more left than was sent.
    pub fn sent(&mut self, lane: LaneId, bytes: u64) {
        if let Some(state) = self.lanes.get_mut(&lane) {
            state.outbox.shrink(bytes);
            self.enqueue(lane);
        }
    }

    /// Starts reading a partition on a lane, or moves it. `leased` tells where a lease starts, if it lasts.
    pub fn start(
        &mut self,
        lane: LaneId,
        (id, generation, start, leased): (PartitionId, u32, StartAt, Option<Reading>),
        partitions: &mut Partitions,
        actions: &mut Actions,
    ) {
        let cursors_max = self.limits.cursors_per_lane_max;
        let reader = Reader { lane, partition: id, generation };
        let Some(state) = self.lanes.get_mut(&lane) else { return };
        let key = key(state.topic, id);
        state.drop_cursor(id);
        // What was set aside for a read of the earlier start is there for others, whatever comes of this one.
        self.enqueue(lane);
        let Some(state) = self.lanes.get_mut(&lane) else { return };
        let Some(partition) = partitions.get_mut(&key) else {
            let detail = format!("topic {} has no partition {id}", state.topic);
            end(&self.answers, reader, (ErrorCode::PartitionNotFound, detail), None, actions);
            return;
        };
        partition.forget(lane);
        if state.cursors.len() >= cursors_max {
            let detail = format!("a lane reads at most {cursors_max} partitions");
            end(&self.answers, reader, (ErrorCode::TooManySubscriptions, detail), Some(partition), actions);
            return;
        }
        if self.reads >= COLD_READS_MAX || state.reads >= cursors_max {
            let detail = "too many reads of stored records are under way".to_owned();
            end(&self.answers, reader, (ErrorCode::Throttled, detail), Some(partition), actions);
            return;
        }
        if !state.positions.grow(CURSOR_BYTES) {
            let detail = "the broker has no memory for more readers".to_owned();
            end(&self.answers, reader, (ErrorCode::Throttled, detail), Some(partition), actions);
            return;
        }
        if let Some(Reading { position, bound }) = leased {
            self.begin(lane, (id, generation, position, Some(bound)), partitions, actions);
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
                state.positions.shrink(CURSOR_BYTES);
                end(&self.answers, reader, (ErrorCode::OffsetOutOfRange, detail), Some(partition), actions);
                return;
            }
            StartAt::Lease(lease) => {
                let detail = format!("lease {lease} has ended");
                state.positions.shrink(CURSOR_BYTES);
                end(&self.answers, reader, (ErrorCode::Fenced, detail), Some(partition), actions);
                return;
            }
            StartAt::Time(time) => match partition.offset_at(time) {
                TimeLookup::Known(offset) => offset,
                TimeLookup::InSegments { otherwise } => {
                    let cursor =
                        Cursor { generation, position: otherwise, bound: None, state: State::Locating };
                    state.cursors.insert(id, cursor);
                    state.reads += 1;
                    self.reads += 1;
                    let want = ColdWant::OffsetAt(time);
                    actions.cold_reads.push(ColdRead { lane, key, generation, want });
                    return;
                }
            },
        };
        self.begin(lane, (id, generation, position, None), partitions, actions);
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
                state.positions.shrink(CURSOR_BYTES);
                if let State::Reading(reserved) = cursor.state {
                    state.release(reserved);
                }
                let refusal = (ErrorCode::TopicDeleted, "the topic was deleted".to_owned());
                let reader = Reader { lane: *lane, partition: id, generation: cursor.generation };
                end(&self.answers, reader, refusal, None, actions);
            }
        }
    }

    /// A read of flushed data has ended.
    ///
    /// # Panics
    /// Never: what is available can be spent.
    pub fn answer(&mut self, answer: &ColdAnswer, partitions: &Partitions, actions: &mut Actions) {
        let ColdRead { lane, key, generation, want: _ } = answer.read;
        let id = key.partition;
        self.reads -= 1;
        // Its place may be what another reader of the lane waits for.
        self.enqueue(lane);
        let Some(state) = self.lanes.get_mut(&lane) else { return };
        state.reads -= 1;
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
        cursor.state = State::Ready;
        state.ready.push_back(id);
        state.release(reserved);
        let available = state.available();
        let Some(cursor) = state.cursors.get_mut(&id) else { return };
        let Some(partition) = partitions.get(&key) else { return };
        match &answer.result {
            ColdResult::Batches { bytes, end } => {
                let (bytes, end) = cursor.below_bound(bytes, *end);
                let found = Found::within(&state.records, &bytes, end);
                if state.records.is_limited() && found.bytes.is_empty() {
                    // Others of the lane have used up the records it may be sent: it is read again when there are more.
                    return self.enqueue(lane);
                }
                let frame_bytes = (Deliver::OVERHEAD_BYTES + found.bytes.len()) as u64;
                // The read may be of an earlier start of the same number, with more set aside.
                if frame_bytes > available || !state.outbox.grow(frame_bytes) {
                    cursor.state = State::Starved(frame_bytes);
                    return self.enqueue(lane);
                }
                cursor.position = cursor.position.max(found.end);
                state.credit.spend(frame_bytes).expect("it is available");
                state.records.spend(found.records).expect("found within the credit");
                let high_watermark = partition.high_watermark();
                let front = Deliver::front(id, generation, high_watermark, found.bytes.len());
                let pieces = vec![Bytes::copy_from_slice(&front), found.bytes];
                actions.outgoing.push(Outgoing::Delivery(lane, pieces));
            }
            // Others of the lane may go before it until it is its turn.
            ColdResult::Longer(bytes) => {
                cursor.state = State::Starved(Deliver::OVERHEAD_BYTES as u64 + bytes);
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
                let reader = Reader { lane, partition: id, generation };
                let refusal = (ErrorCode::Internal, "the disk failed to read records".to_owned());
                end(&self.answers, reader, refusal, Some(partition), actions);
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
            | ColdResult::Longer(_)
            | ColdResult::Trimmed { .. }
            | ColdResult::NotFlushed
            | ColdResult::Corrupt { .. }
            | ColdResult::Failed => {
                if let Some(state) = self.lanes.get_mut(&lane) {
                    state.drop_cursor(key.partition);
                }
                let reader = Reader { lane, partition: key.partition, generation };
                let refusal = (ErrorCode::Internal, "the time index cannot be read".to_owned());
                end(&self.answers, reader, refusal, Some(partition), actions);
                return;
            }
        };
        let position = found.clamp(log_start, high_watermark);
        self.begin(lane, (key.partition, generation, position, None), partitions, actions);
    }

    /// A reader's position is known: it is told, and queued.
    fn begin(
        &mut self,
        lane: LaneId,
        (id, generation, position, bound): (PartitionId, u32, Offset, Option<Offset>),
        partitions: &Partitions,
        actions: &mut Actions,
    ) {
        let Some(state) = self.lanes.get_mut(&lane) else { return };
        let Some(partition) = partitions.get(&key(state.topic, id)) else { return };
        state.cursors.insert(id, Cursor { generation, position, bound, state: State::Ready });
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

    /// The offset that comes next on a lane that reads a partition.
    pub fn position(&self, lane: LaneId, id: PartitionId) -> Option<Offset> {
        Some(self.lanes.get(&lane)?.cursors.get(&id)?.position)
    }

    /// The number of the start since which a lane reads a partition.
    pub fn generation(&self, lane: LaneId, id: PartitionId) -> Option<u32> {
        Some(self.lanes.get(&lane)?.cursors.get(&id)?.generation)
    }

    /// The topic of a lane.
    pub fn topic(&self, lane: LaneId) -> Option<TopicId> {
        self.lanes.get(&lane).map(|state| state.topic)
    }

    /// A group has settled more: batches that begin below `bound` may be delivered.
    pub fn raise_bound(&mut self, lane: LaneId, id: PartitionId, bound: Offset) {
        let Some(state) = self.lanes.get_mut(&lane) else { return };
        let Some(cursor) = state.cursors.get_mut(&id) else { return };
        cursor.bound = cursor.bound.map(|old| old.max(bound));
        if cursor.state == State::Held && cursor.position < bound {
            cursor.state = State::Ready;
            state.ready.push_back(id);
            self.enqueue(lane);
        }
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
    pub fn pump(&mut self, now_us: u64, partitions: &mut Partitions, actions: &mut Actions) {
        for _ in 0..self.short.len().min(SHORT_LANES_TRIED) {
            if let Some(lane) = self.short.pop_front() {
                if let Some(state) = self.lanes.get_mut(&lane) {
                    state.listed = false;
                }
                self.enqueue(lane);
            }
        }
        while let Some(lane) = self.queue.pop_front() {
            let alone = self.is_alone(lane);
            let Some(state) = self.lanes.get_mut(&lane) else { continue };
            state.queued = false;
            let before = state.reads;
            state.pump(lane, (&self.limits, &self.ledger, alone), partitions, actions);
            self.reads += state.reads - before;
            if state.short && !std::mem::replace(&mut state.listed, true) {
                self.short.push_back(lane);
            }
            if state.credit.sent() != state.sent_before {
                state.sent_before = state.credit.sent();
                state.moved_us = now_us;
            }
        }
    }

    /// Whether nothing of the other lanes of its connection waits to leave. Only asked where memory is scarce.
    fn is_alone(&self, lane: LaneId) -> bool {
        if self.ledger.room(Pool::Delivery) > self.ledger.limit(Pool::Delivery) / 2 {
            return true;
        }
        let stream = |number| LaneId { connection: lane.connection, stream: StreamId(number) };
        let mut of_connection = self.lanes.range(stream(0)..=stream(u64::MAX));
        of_connection.all(|(other, state)| *other == lane || state.outbox.bytes() == 0)
    }

    /// What the readers of a topic, or of all, wait for, in order; their clients' names are left empty.
    pub fn waits(
        &self,
        topic: Option<TopicId>,
        partitions: &Partitions,
        now: Now,
    ) -> impl Iterator<Item = Wait> {
        let lanes =
            self.lanes.iter().filter(move |(_, state)| topic.is_none_or(|topic| topic == state.topic));
        lanes.flat_map(move |(lane, state)| {
            state.cursors.iter().map(move |(id, cursor)| {
                let partition = partitions.get(&key(state.topic, *id));
                let end = partition.map_or(Offset::ZERO, Partition::high_watermark);
                let cause = state.cause(cursor, &self.limits);
                let is_throttled = self.throttled.contains(lane) && cause != WaitsFor::Records;
                let has_all = cause == WaitsFor::RecordsCredit && cursor.position >= end;
                let cause = if has_all { WaitsFor::Records } else { cause };
                let waits_for = if is_throttled && !has_all { WaitsFor::ReadQuota } else { cause };
                let since_us = now.monotonic_us.saturating_sub(state.moved_us);
                Wait {
                    id: WaitId {
                        is_reader: true,
                        connection: lane.connection.0,
                        stream: lane.stream.0,
                        partition: *id,
                    },
                    client_name: String::new(),
                    waits_for,
                    since_us,
                    credit_bytes: state.available(),
                    held_bytes: state.outbox.bytes(),
                    lag_records: end.get().saturating_sub(cursor.position.get()),
                }
            })
        })
    }

    /// What the reading of a partition on a lane waits for, if it is read there.
    pub fn waits_for(&self, lane: LaneId, partition: PartitionId) -> Option<WaitsFor> {
        let state = self.lanes.get(&lane)?;
        Some(state.cause(state.cursors.get(&partition)?, &self.limits))
    }

    /// Lanes there are.
    pub fn lanes(&self) -> usize {
        self.lanes.len()
    }
}

/// What was found in segments, as far as it can be sent.
struct Found {
    bytes: Bytes,
    records: u64,
    end: Offset,
}

impl Found {
    /// The batches at the front that are within the credit.
    fn within(credit: &RecordCredit, bytes: &Bytes, end: Offset) -> Self {
        if !credit.is_limited() {
            let records = Deliver::measures(bytes).map(|batch| u64::from(batch.records)).sum();
            return Self { bytes: bytes.clone(), records, end };
        }
        let (mut length, mut records, mut until) = (0, 0, end);
        for batch in Deliver::measures(bytes) {
            if !credit.may_send_behind(records) {
                break;
            }
            length += batch.bytes;
            records += u64::from(batch.records);
            until = batch.end_offset();
        }
        Self { bytes: bytes.slice(..length), records, end: until }
    }
}

const fn key(topic: TopicId, partition: PartitionId) -> PartitionKey {
    PartitionKey { topic, partition }
}

/// Who reads: what it is told names the start it belongs to.
#[derive(Clone, Copy)]
struct Reader {
    lane: LaneId,
    partition: PartitionId,
    generation: u32,
}

/// Tells a reader that it ends, with as much of an explanation as there is memory for.
fn end(
    answers: &Answers,
    Reader { lane, partition, generation }: Reader,
    (code, detail): (ErrorCode, String),
    known: Option<&Partition>,
    actions: &mut Actions,
) {
    let length = detail.len() as u64;
    let is_told = answers.longer(lane.connection, length) >= length;
    let detail = if is_told { detail } else { String::new() };
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
