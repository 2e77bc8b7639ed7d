//! Lanes: when they open and close, and what goes out on them.

use weir_protocol::batch::ProducerBatch;
use weir_protocol::message::Publish;
use weir_protocol::units::PartitionId;

use crate::core::producer::lane::Lane;
use crate::core::producer::types::{Completion, LaneId, Outgoing, OutgoingContent};
use crate::core::producer::{Producer, index};
use crate::core::time::Mono;

/// Bytes taken for a lane at once: bounds what a slow stream keeps from being counted as unsent.
const TAKE_BYTES: u64 = 1 << 20;

impl<T> Producer<T> {
    /// A connection was made: partitions are spread over so many lanes while it lasts. All lanes are closed.
    /// At most `unacked_batches` of a partition may be unanswered on it.
    ///
    /// # Panics
    /// If the rules above are broken: a defect of the caller.
    ///
    /// # Panics
    /// If a lane is open.
    pub fn connected(&mut self, lanes: u32, unacked_batches: usize) {
        assert!(
            self.lanes.iter().all(|lane| !lane.is_open),
            "lanes are spread anew on a new connection only"
        );
        self.options.unacked_batches = unacked_batches.max(1);
        let lanes = lanes.clamp(1, self.options.partitions);
        self.lanes.resize_with(lanes as usize, Lane::default);
        self.lanes.iter_mut().for_each(Lane::reset);
        for queue in self.partitions.iter_mut().flatten() {
            queue.scheduled = false;
        }
        for lane in 0..lanes {
            self.wakes.insert(LaneId(lane));
        }
    }

    /// How many lanes there are.
    ///
    /// # Panics
    /// Never: their number came in 32 bits.
    ///
    /// # Panics
    /// If the rules above are broken: a defect of the caller.
    #[must_use]
    pub fn lanes(&self) -> u32 {
        u32::try_from(self.lanes.len()).expect("lanes are few")
    }

    fn partitions_of(&self, lane: LaneId) -> impl Iterator<Item = PartitionId> + use<T> {
        (lane.0..self.options.partitions).step_by(self.lanes.len()).map(PartitionId::new)
    }

    /// Whether a lane has anything to carry, so that its stream is worth opening.
    #[must_use]
    pub fn is_lane_needed(&self, lane: LaneId) -> bool {
        let slot = |partition: PartitionId| self.partitions.get(index(partition)).and_then(Option::as_ref);
        self.partitions_of(lane).any(|partition| slot(partition).is_some_and(|queue| !queue.is_empty()))
    }

    /// Whether no batch on the lane waits for an answer.
    #[must_use]
    pub fn is_lane_idle(&self, lane: LaneId) -> bool {
        let slot = |partition: PartitionId| self.partitions.get(index(partition)).and_then(Option::as_ref);
        self.partitions_of(lane).all(|partition| slot(partition).is_none_or(|queue| !queue.is_awaiting()))
    }

    /// The stream of a lane was opened.
    pub fn lane_opened(&mut self, lane: LaneId) {
        let Some(open) = self.lanes.get_mut(lane.0 as usize) else { return };
        open.open();
        for partition in self.partitions_of(lane) {
            if let Some(queue) = self.queue_mut(partition) {
                queue.scheduled = false;
                self.schedule_later(partition);
            }
        }
    }

    /// The stream of a lane is gone, with the connection or alone. Nothing on it will be answered any more.
    pub fn lane_lost(&mut self, lane: LaneId, now: Mono) {
        let Some(lost) = self.lanes.get_mut(lane.0 as usize) else { return };
        lost.reset();
        for partition in self.partitions_of(lane) {
            if let Some(queue) = self.queue_mut(partition) {
                queue.scheduled = false;
                queue.lane_lost();
            }
        }
        if !self.unresolved.is_empty() {
            self.stalled_since.get_or_insert(now);
        }
    }

    /// The broker raised the credit of a lane.
    pub fn granted(&mut self, lane: LaneId, limit: u64) {
        if let Some(granted) = self.lanes.get_mut(lane.0 as usize) {
            granted.grant(limit);
            self.wakes.insert(lane);
        }
    }

    /// The broker grants no more on a lane until a quota allows it.
    pub fn throttled(&mut self, lane: LaneId) {
        if let Some(throttled) = self.lanes.get_mut(lane.0 as usize) {
            throttled.is_throttled = true;
        }
    }

    /// Takes what may be sent on a lane now: whole batches, in turns of the partitions, within its credit.
    ///
    /// # Panics
    /// If a partition changes its mind within the call: our bug.
    ///
    /// # Panics
    /// If the rules above are broken: a defect of the caller.
    pub fn take(&mut self, lane_id: LaneId, out: &mut Vec<Outgoing>) {
        let unacked_max = self.options.unacked_batches;
        let mut taken = 0;
        while taken < TAKE_BYTES {
            let Some(lane) = self.lanes.get_mut(lane_id.0 as usize).filter(|lane| lane.is_open) else {
                return;
            };
            let Some(partition) = lane.first() else { return };
            let slot = self.partitions.get_mut(index(partition)).and_then(Option::as_deref_mut);
            let Some(queue) = slot.filter(|queue| queue.is_sendable(unacked_max)) else {
                lane.advance();
                if let Some(queue) = self.queue_mut(partition) {
                    queue.scheduled = false;
                }
                continue;
            };
            let reserved = queue.next_length();
            if !lane.reserve(reserved) {
                return;
            }
            lane.advance();
            queue.scheduled = false;
            let incarnation = lane.incarnation();
            let (number, acked_below, content, was_open) =
                queue.take().expect("the queue said it is sendable");
            if was_open {
                self.leave(partition);
            }
            taken += reserved;
            let mut outgoing = Outgoing { incarnation, reserved, number, partition, acked_below, content };
            if let OutgoingContent::Sealed(batch) = &outgoing.content {
                let actual = (Publish::OVERHEAD_BYTES + batch.length()) as u64;
                self.spend(lane_id, &mut outgoing, actual);
            }
            out.push(outgoing);
            // More of the same partition comes after the others had their turn; the caller takes until nothing comes.
            self.schedule(partition);
        }
    }

    fn spend(&mut self, lane: LaneId, outgoing: &mut Outgoing, actual: u64) -> bool {
        let lane = self.lanes.get_mut(lane.0 as usize);
        let Some(lane) = lane.filter(|lane| lane.incarnation() == outgoing.incarnation) else { return false };
        lane.spend(std::mem::take(&mut outgoing.reserved), actual);
        true
    }

    /// Keeps a batch that was taken unsealed, now that it is sealed. Says whether it is to be written to the lane: not if
    /// the lane was lost or the producer ended in the meantime.
    ///
    /// # Panics
    /// If the batch was sealed before, or grew when it was sealed.
    ///
    /// # Panics
    /// If the rules above are broken: a defect of the caller.
    pub fn sealed(
        &mut self,
        lane: LaneId,
        outgoing: &mut Outgoing,
        batch: &ProducerBatch,
        out: &mut Vec<Completion<T>>,
    ) -> bool {
        let partition = outgoing.partition;
        let ended = self.ended.clone();
        let Some(queue) = self.queue_mut(partition) else { return false };
        if !queue.sealed(outgoing.number, batch) {
            return false;
        }
        if let Some(why) = ended {
            let identity = queue.first_identity();
            let ended = queue.remove(outgoing.number).and_then(|batch| batch.end(why, &identity));
            ended.into_iter().for_each(|ended| self.end_batch(ended, out));
            return false;
        }
        let actual = (Publish::OVERHEAD_BYTES + batch.length()) as u64;
        let is_current = self.spend(lane, outgoing, actual);
        if !is_current {
            self.schedule_later(partition);
        }
        is_current
    }
}
