//! One lane of a subscription: its readers take turns, as far as the lane's credit and its outbox go.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Bytes, BytesMut};
use weir_protocol::batch::{BrokerSection, StoredBatch};
use weir_protocol::message::{Deliver, Gap, GapReason, Message, WaitsFor};
use weir_protocol::units::{Offset, PartitionId, TopicId};
use weir_protocol::{Credit, RecordCredit};

use super::{DeliveryLimits, Partitions, key};
use crate::core::event::ColdWant;
use crate::core::ledger::{Ledger, Pool, Reservation};
use crate::core::partition::Partition;
use crate::core::{Actions, ColdRead, LaneId, Outgoing};
use crate::plan::CURSOR_BYTES;

#[derive(Debug)]
pub(super) struct Lane {
    pub(super) topic: TopicId,
    pub(super) credit: Credit,
    pub(super) records: RecordCredit,
    /// Bytes sent that have not left, and what is set aside for reads under way.
    pub(super) outbox: Reservation,
    /// Credit that is set aside for reads under way: what they find can be sent.
    pub(super) reserved_bytes: u64,
    /// Reads of flushed data under way, those that nobody waits for any more included.
    pub(super) reads: usize,
    /// Memory of its readers' positions.
    pub(super) positions: Reservation,
    /// When something was last sent on it, and how much had been sent then.
    pub(super) moved_us: u64,
    pub(super) sent_before: u64,
    pub(super) cursors: BTreeMap<PartitionId, Cursor>,
    /// Partitions that may have something to send, in turn.
    pub(super) ready: VecDeque<PartitionId>,
    pub(super) queued: bool,
    /// It could be sent something if there were memory for it, and whether it is among those that wait for that.
    pub(super) short: bool,
    pub(super) listed: bool,
}

#[derive(Debug)]
pub(super) struct Cursor {
    pub(super) generation: u32,
    pub(super) position: Offset,
    /// Batches that begin here or later are held back; without a lease, none.
    pub(super) bound: Option<Offset>,
    pub(super) state: State,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum State {
    /// In the lane's ready queue.
    Ready,
    /// Ready, but the next batch needs this much credit, and memory.
    Starved(u64),
    /// Everything visible has been sent.
    Waiting,
    /// Everything below the bound has been sent.
    Held,
    /// Flushed data is being read; so many bytes of the credit and of the outbox are set aside for it.
    Reading(u64),
    /// Its start is being looked up in segments; the position is where it starts if nothing is found there.
    Locating,
}

impl Cursor {
    /// Whether a batch that begins there is held back.
    fn holds(&self, base: Offset) -> bool {
        self.bound.is_some_and(|bound| base >= bound)
    }

    /// The batches of a read that are not held back, and where they end.
    pub(super) fn below_bound(&self, bytes: &Bytes, end: Offset) -> (Bytes, Offset) {
        let mut at = 0;
        while let Some((base, length)) = BrokerSection::place(bytes.get(at..).unwrap_or(&[])) {
            if at > 0 && self.holds(base) {
                return (bytes.slice(..at), base);
            }
            at += length;
        }
        (bytes.clone(), end)
    }
}

impl State {
    /// Credit without which nothing can be sent.
    const fn needed(self) -> u64 {
        match self {
            Self::Starved(needed) => needed,
            Self::Ready | Self::Held | Self::Waiting | Self::Reading(_) | Self::Locating => 0,
        }
    }
}

impl Lane {
    pub(super) fn drop_cursor(&mut self, id: PartitionId) {
        if let Some(cursor) = self.cursors.remove(&id) {
            self.positions.shrink(CURSOR_BYTES);
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

    /// Sets credit and memory aside for a read, if there is memory.
    fn reserve(&mut self, bytes: u64) -> bool {
        let fits = self.outbox.grow(bytes);
        if fits {
            self.reserved_bytes += bytes;
        }
        fits
    }

    /// Memory it may take. The last quarter is for connections of which nothing waits to leave: no reader stands still
    /// because others do not take what is theirs.
    fn memory(&self, ledger: &Ledger, alone: bool) -> u64 {
        let first = alone && self.outbox.bytes() == 0;
        let kept = if first { 0 } else { ledger.limit(Pool::Delivery) / 4 };
        ledger.room(Pool::Delivery).saturating_sub(kept)
    }

    /// A read has ended, or nobody waits for it any more.
    pub(super) fn release(&mut self, bytes: u64) {
        self.reserved_bytes -= bytes;
        self.outbox.shrink(bytes);
    }

    pub(super) fn pump(
        &mut self,
        lane: LaneId,
        (limits, ledger, alone): (&DeliveryLimits, &Ledger, bool),
        partitions: &mut Partitions,
        actions: &mut Actions,
    ) {
        self.short = false;
        while self.outbox.bytes() < limits.outbox_bytes && self.records.may_send() {
            let memory = self.memory(ledger, alone);
            let Some(id) = self.ready.pop_front() else { return };
            let Some(cursor) = self.cursors.get_mut(&id) else { continue };
            let Some(partition) = partitions.get_mut(&key(self.topic, id)) else { continue };
            let available = self.credit.available() - self.reserved_bytes;
            // The others of the lane wait with it: small batches of theirs could use up for ever what it waits for. A window has
            // room for the longest frame once the client has taken what it was sent, so its turn comes.
            let needed = cursor.state.needed();
            if available < needed {
                self.ready.push_front(id);
                return;
            }
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
            if cursor.holds(cursor.position) {
                cursor.state = State::Held;
                continue;
            }
            let in_memory = partition.tail().start().is_some_and(|start| start <= cursor.position);
            if !in_memory {
                // Where records are limited, what one read finds may be all that can be sent.
                let reads_max = if self.records.is_limited() { 1 } else { limits.cursors_per_lane_max };
                if available <= Deliver::OVERHEAD_BYTES as u64 || self.reads >= reads_max {
                    self.ready.push_front(id);
                    return;
                }
                let overhead = Deliver::OVERHEAD_BYTES as u64;
                let reserved = (limits.cold_bytes + overhead).max(needed).min(available);
                let bytes_max = reserved - overhead;
                let fits = reserved <= memory && self.reserve(reserved);
                let Some(cursor) = self.cursors.get_mut(&id) else { continue };
                if !fits {
                    return self.wait_for_memory(id);
                }
                cursor.state = State::Reading(reserved);
                self.reads += 1;
                let want = ColdWant::Batches { from: cursor.position, bytes_max };
                let key = key(self.topic, id);
                actions.cold_reads.push(ColdRead { lane, key, generation: cursor.generation, want });
                continue;
            }
            let most = available.min(memory);
            let room = limits.frame_bytes.min(most.saturating_sub(Deliver::OVERHEAD_BYTES as u64));
            match gather(partition, cursor, id, (room, most, &self.records)) {
                Ok((pieces, frame_bytes, records)) => {
                    cursor.state = State::Ready;
                    self.credit.spend(frame_bytes).expect("gathered within the credit");
                    self.records.spend(records).expect("gathered within the credit");
                    assert!(self.outbox.grow(frame_bytes), "gathered within the memory");
                    actions.outgoing.push(Outgoing::Delivery(lane, pieces));
                    self.ready.push_back(id);
                }
                Err(needed) if needed <= available => return self.wait_for_memory(id),
                Err(needed) => {
                    cursor.state = State::Starved(needed);
                    self.ready.push_front(id);
                    return;
                }
            }
        }
    }

    fn wait_for_memory(&mut self, id: PartitionId) {
        self.ready.push_front(id);
        self.short = true;
    }

    /// What a reader waits for.
    pub(super) fn cause(&self, cursor: &Cursor, limits: &DeliveryLimits) -> WaitsFor {
        match cursor.state {
            State::Waiting => WaitsFor::Records,
            State::Reading(_) => WaitsFor::ColdRead,
            State::Locating => WaitsFor::Start,
            State::Ready | State::Starved(_) if self.outbox.bytes() >= limits.outbox_bytes => {
                WaitsFor::Connection
            }
            State::Ready | State::Starved(_) if !self.records.may_send() => WaitsFor::RecordsCredit,
            State::Held => WaitsFor::Application,
            State::Starved(needed) if self.available() < needed => WaitsFor::Application,
            State::Ready | State::Starved(_) if self.short => WaitsFor::DeliveryMemory,
            State::Ready | State::Starved(_) if self.is_starved() => WaitsFor::Application,
            State::Ready | State::Starved(_) => WaitsFor::Turn,
        }
    }

    /// Whether its turn is one's that needs more credit than there is.
    fn is_starved(&self) -> bool {
        let next = self.ready.front().and_then(|id| self.cursors.get(id));
        next.is_some_and(|next| self.available() < next.state.needed())
            || self.available() <= Deliver::OVERHEAD_BYTES as u64
    }
}

/// Batches up to this length are copied together: the transport is slow with many small pieces.
const COPIED_BYTES_MAX: usize = 4 << 10;

/// A frame of visible batches from the cursor's position on, its length, and how many records it holds. Fails with the credit
/// the first batch needs.
fn gather(
    partition: &Partition,
    cursor: &mut Cursor,
    id: PartitionId,
    (room, available, credit): (u64, u64, &RecordCredit),
) -> Result<(Vec<Bytes>, u64, u64), u64> {
    let high_watermark = partition.high_watermark();
    let mut total = 0;
    let mut end = cursor.position;
    let (mut count, mut records) = (0, 0);
    for batch in partition.tail().from(cursor.position) {
        let length = batch.length() as u64;
        let fits =
            total + length <= room || (count == 0 && length + Deliver::OVERHEAD_BYTES as u64 <= available);
        let is_held = count > 0 && cursor.holds(batch.base_offset());
        if batch.end_offset() > high_watermark || !fits || is_held {
            if count == 0 {
                return Err(length + Deliver::OVERHEAD_BYTES as u64);
            }
            break;
        }
        if !credit.may_send_behind(records) {
            break;
        }
        records += u64::from(batch.producer.header().record_count);
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
    Ok((pieces, total + Deliver::OVERHEAD_BYTES as u64, records))
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
