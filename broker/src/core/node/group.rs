//! Consumer groups of a node: requests and members come in, frames for the journal and answers go out.

use bytes::Bytes;
use weir_protocol::ErrorCode;
use weir_protocol::message::{
    AckRecords, CreateGroup, DeleteGroup, Done, FailingPartition, Failure, GroupInfo, GroupReset, JoinGroup,
    Message, MovedPosition, RecordsAcked, ResetGroup, StartAt, SubscribePartition,
};
use weir_protocol::units::{LeaseEpoch, Offset, PartitionId, PartitionKey};
use weir_storage::frame::{Frame, GroupPositions};

use super::Node;
use crate::core::answers::REQUEST_BYTES;
use crate::core::coordinator::{Refusal, retry_after_ms};
use crate::core::event::{FromMember, GroupRequest};
use crate::core::group::{Effect, PendingAck, PendingLongest};
use crate::core::partition::Partition;
use crate::core::publish::Waiting;
use crate::core::{Actions, LaneId, Now, Outgoing};

/// A change of a group that waits for the journal.
#[derive(Debug)]
pub struct PendingGroup {
    pub(super) lane: LaneId,
    pub(super) request: u32,
    pub(super) what: GroupChange,
}

/// What happens to a group.
#[derive(Debug)]
pub(super) enum GroupChange {
    Created(GroupPositions),
    Moved(GroupPositions, Vec<MovedPosition>),
    Deleted,
    /// What it does with records that fail.
    Redelivery,
}

impl PendingGroup {
    /// Where the answer goes.
    pub(super) const fn lane(&self) -> LaneId {
        self.lane
    }
}

impl Node {
    /// A request about groups.
    pub(super) fn group_request(
        &mut self,
        now: Now,
        lane: LaneId,
        request: GroupRequest,
        actions: &mut Actions,
    ) {
        let (number, done) = match request {
            GroupRequest::Create(create) => (create.request, self.create_group(now, lane, &create, actions)),
            GroupRequest::Delete(delete) => (delete.request, self.delete_group(lane, &delete, actions)),
            GroupRequest::Reset(reset) => (reset.request, self.reset_group(now, lane, &reset, actions)),
            GroupRequest::SetRedelivery(set) => (set.request, self.set_redelivery(lane, &set, actions)),
            GroupRequest::DescribeFailures(describe) => {
                let entries = self.page(lane, FailingPartition::BYTES);
                let described = self.groups.describe_failures(now.wall, (&describe, entries), &self.letters);
                let told = described.map(|described| {
                    actions.outgoing.push(Outgoing::Frames(lane, vec![described.to_frame()]));
                });
                (describe.request, told)
            }
            GroupRequest::List(list) => {
                let entries = self.page(lane, GroupInfo::BYTES_MAX);
                let frame = self.groups.list(&list, entries, &self.partitions).to_frame();
                actions.outgoing.push(Outgoing::Frames(lane, vec![frame]));
                return;
            }
            GroupRequest::Describe(describe) => {
                let waits_for = |lane, partition| self.subscriptions.waits_for(lane, partition);
                let described =
                    self.groups.describe(now.monotonic_us, &describe, &self.partitions, waits_for);
                let told = described.and_then(|described| {
                    let frames: Vec<_> = described.iter().map(Message::to_frame).collect();
                    self.has_room(lane, &frames)?;
                    actions.outgoing.push(Outgoing::Frames(lane, frames));
                    Ok(())
                });
                (describe.request, told)
            }
        };
        if let Err(refusal) = done {
            self.refuse_request((lane, number), refusal, actions);
        }
    }

    /// Refuses a request. Who is told that something is there may use it: whoever makes it may not have its answer yet.
    pub(super) fn refuse_request(
        &mut self,
        (lane, number): (LaneId, u32),
        refusal: Refusal,
        actions: &mut Actions,
    ) {
        let is_there = matches!(refusal.0, ErrorCode::TopicExists | ErrorCode::GroupExists);
        if is_there && self.has_pending(actions) {
            self.requests.begun(lane);
            self.publishing.wait(actions.last_ticket(), Waiting::Refused(lane, number, refusal));
        } else {
            self.fail_request(lane, number, refusal, actions);
        }
    }

    /// Takes memory for an answer that cannot be shorter.
    fn has_room(&self, lane: LaneId, frames: &[Bytes]) -> Result<(), Refusal> {
        let bytes: u64 = frames.iter().map(|frame| frame.len() as u64).sum();
        let more = bytes.saturating_sub(REQUEST_BYTES);
        if self.answers.longer(lane.connection, more) >= more {
            return Ok(());
        }
        Err((ErrorCode::Throttled, format!("there is no memory for an answer of {bytes} bytes")))
    }

    fn create_group(
        &mut self,
        now: Now,
        lane: LaneId,
        create: &CreateGroup,
        actions: &mut Actions,
    ) -> Result<(), Refusal> {
        let topic = self.coordinator.live(&create.topic)?;
        let placed = self.groups.create(now.wall, topic, (&create.group, &create.start), &self.partitions)?;
        let ticket = actions.append(Frame::Group(placed.clone()), false);
        let what = GroupChange::Created(placed);
        self.requests.begun(lane);
        self.publishing.wait(ticket, Waiting::Group(PendingGroup { lane, request: create.request, what }));
        Ok(())
    }

    fn delete_group(
        &mut self,
        lane: LaneId,
        delete: &DeleteGroup,
        actions: &mut Actions,
    ) -> Result<(), Refusal> {
        let topic = self.coordinator.live(&delete.topic)?;
        let group = self.groups.delete(topic, &delete.group)?;
        let ticket = actions.append(Frame::GroupDeleted { topic: topic.id, group }, false);
        let what = GroupChange::Deleted;
        self.requests.begun(lane);
        self.publishing.wait(ticket, Waiting::Group(PendingGroup { lane, request: delete.request, what }));
        Ok(())
    }

    fn reset_group(
        &mut self,
        now: Now,
        lane: LaneId,
        reset: &ResetGroup,
        actions: &mut Actions,
    ) -> Result<(), Refusal> {
        let topic = self.coordinator.live(&reset.topic)?;
        let (id, moved) = self.groups.plan_reset(topic, (&reset.group, &reset.to), &self.partitions)?;
        if reset.dry_run {
            let frames = vec![GroupReset { request: reset.request, partitions: moved }.to_frame()];
            self.has_room(lane, &frames)?;
            actions.outgoing.push(Outgoing::Frames(lane, frames));
            return Ok(());
        }
        let mut effects = Vec::new();
        // Leases end and the frame is written in one step: no acknowledgement of before comes behind it.
        let placed = self.groups.reset(now.monotonic_us, (id, &moved), &mut effects);
        if let Some(placed) = placed {
            let ticket = actions.append(Frame::Group(placed.clone()), false);
            let what = GroupChange::Moved(placed, moved);
            self.requests.begun(lane);
            self.publishing.wait(ticket, Waiting::Group(PendingGroup { lane, request: reset.request, what }));
        }
        self.carry_out(effects, actions);
        Ok(())
    }

    /// A change of a group is durable.
    pub(super) fn group_durable(&mut self, pending: PendingGroup, actions: &mut Actions) {
        let PendingGroup { lane, request, what } = pending;
        let frame = match what {
            GroupChange::Created(placed) => {
                self.groups.placed(&placed);
                Done { request }.to_frame()
            }
            GroupChange::Moved(placed, partitions) => {
                self.groups.placed(&placed);
                GroupReset { request, partitions }.to_frame()
            }
            GroupChange::Deleted | GroupChange::Redelivery => Done { request }.to_frame(),
        };
        actions.outgoing.push(Outgoing::Frames(lane, vec![frame]));
    }

    /// Something came from a member.
    pub(super) fn member(&mut self, now: Now, lane: LaneId, said: FromMember, actions: &mut Actions) {
        let time = now.monotonic_us;
        let mut effects = Vec::new();
        match said {
            FromMember::Join(join) => {
                if let Err((code, detail)) = self.join(time, lane, &join, &mut effects) {
                    effects.push(Effect::Fail(lane, code, detail));
                }
            }
            FromMember::Heartbeat(heartbeat) => self.groups.heartbeat(time, lane, heartbeat, &mut effects),
            FromMember::Release(release) => self.groups.release(time, lane, release, &mut effects),
            FromMember::Leave => self.groups.leave(time, lane, &mut effects),
            FromMember::Ack(ack) => self.ack((time, lane), &ack, &mut effects, actions),
            FromMember::Fail(fail) => self.fail((now, lane), &fail, &mut effects, actions),
        }
        self.carry_out(effects, actions);
    }

    fn join(
        &mut self,
        time: u64,
        lane: LaneId,
        join: &JoinGroup,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        if self.going_away {
            return Err((ErrorCode::GoingAway, "the broker is shutting down".to_owned()));
        }
        let topic = self.coordinator.live_by_id(join.topic)?;
        self.groups.join(time, lane, (&topic.name, join), effects)
    }

    fn ack(
        &mut self,
        (time, lane): (u64, LaneId),
        ack: &AckRecords,
        effects: &mut Vec<Effect>,
        actions: &mut Actions,
    ) {
        let reader = self.groups.reader(ack.partition, ack.lease);
        let position = reader.and_then(|reader| self.subscriptions.position(reader, ack.partition));
        let partitions = &self.partitions;
        let log_start = |key: PartitionKey| partitions.get(&key).map_or(Offset::ZERO, Partition::log_start);
        let admitted = self.requests.admit(lane);
        match admitted.and_then(|()| self.groups.ack((time, lane), (ack, position), log_start, effects)) {
            Ok(acked) => {
                let ticket = match acked.frame {
                    Some(frame) => Some(actions.append(frame, false)),
                    None => self.has_pending(actions).then(|| actions.last_ticket()),
                };
                if let Some(ticket) = ticket {
                    self.requests.begun(lane);
                    self.publishing.wait(ticket, Waiting::Acked(acked.pending));
                } else {
                    let (lane, answer) = self.groups.acked(&acked.pending);
                    effects.push(Effect::Tell(lane, answer.to_frame()));
                }
                if let Some((reader, bound)) = acked.reader {
                    self.subscriptions.raise_bound(reader, ack.partition, bound);
                }
            }
            Err((code, _detail)) => {
                let (number, partition) = (ack.number, ack.partition);
                let answer = RecordsAcked { number, partition, refused: Some(code), committed: Offset::ZERO };
                effects.push(Effect::Tell(lane, answer.to_frame()));
            }
        }
    }

    /// Whether something that was given to the journal is not durable.
    pub(super) fn has_pending(&self, actions: &Actions) -> bool {
        self.durable_through < actions.last_ticket()
    }

    /// An acknowledgement is durable.
    pub(super) fn ack_durable(&mut self, pending: &PendingAck, actions: &mut Actions) {
        let (lane, answer) = self.groups.acked(pending);
        self.requests.ended(lane);
        actions.outgoing.push(Outgoing::Frames(lane, vec![answer.to_frame()]));
    }

    /// How long the leases of a group may last is durable: those who join can have theirs.
    pub(super) fn longest_durable(&mut self, pending: PendingLongest, actions: &mut Actions) {
        let mut effects = Vec::new();
        self.groups.longest_durable(self.now.monotonic_us, pending, &mut effects);
        self.carry_out(effects, actions);
    }

    /// A lane is to read a partition, as anybody may or under a lease.
    pub(super) fn subscribe(
        &mut self,
        now: Now,
        lane: LaneId,
        subscribe: SubscribePartition,
        actions: &mut Actions,
    ) {
        let SubscribePartition { partition, generation, start } = subscribe;
        self.note_delivered(lane, partition);
        let leased = match (start, self.subscriptions.topic(lane)) {
            (StartAt::Lease(lease), Some(topic))
                if !self.is_overtaken(lane, (partition, generation, lease)) =>
            {
                let key = PartitionKey { topic, partition };
                // What another lane has delivered under the lease may still be settled. It reads on if this one may not.
                if let Some(before) = self.groups.reader(partition, lease) {
                    self.note_reached(before, partition);
                }
                let mut effects = Vec::new();
                let reading = self.groups.read(now.monotonic_us, lane, (key, lease), &mut effects).ok();
                self.carry_out(effects, actions);
                reading
            }
            _ => None,
        };
        let start = (partition, generation, start, leased);
        self.subscriptions.start(lane, start, &mut self.partitions, actions);
    }

    /// Whether a later start of the same client came first, on another of its streams: that one reads on.
    fn is_overtaken(
        &self,
        lane: LaneId,
        (partition, generation, lease): (PartitionId, u32, LeaseEpoch),
    ) -> bool {
        let reader = self.groups.reader(partition, lease);
        let other = reader.filter(|reader| *reader != lane && reader.connection == lane.connection);
        let started = other.and_then(|other| self.subscriptions.generation(other, partition));
        started.is_some_and(|later| later > generation)
    }

    /// Remembers how far a lane got that will read a partition no longer.
    pub(super) fn note_delivered(&mut self, lane: LaneId, partition: PartitionId) {
        if let Some(position) = self.subscriptions.position(lane, partition) {
            self.groups.stopped(lane, partition, position);
        }
    }

    /// Remembers how far a lane got that may be about to end reading a partition by itself.
    pub(super) fn note_reached(&mut self, lane: LaneId, partition: PartitionId) {
        if let Some(position) = self.subscriptions.position(lane, partition) {
            self.groups.reached(lane, partition, position);
        }
    }

    /// A stream has ended that may have been a member's, or have read for one.
    pub(super) fn group_lane_closed(&mut self, now: Now, lane: LaneId, actions: &mut Actions) {
        for partition in self.groups.read_by(lane) {
            self.note_delivered(lane, partition);
        }
        let mut effects = Vec::new();
        self.groups.closed(now.monotonic_us, lane, &mut effects);
        self.carry_out(effects, actions);
    }

    /// Leases that have run out end.
    pub(super) fn pass_time(&mut self, now: Now, actions: &mut Actions) {
        for (reader, partition) in self.groups.lapsing(now.monotonic_us) {
            self.note_reached(reader, partition);
        }
        let mut effects = Vec::new();
        self.groups.pass_time(now.monotonic_us, &mut effects);
        self.carry_out(effects, actions);
    }

    /// Does what follows for others from what happened to a group.
    pub(super) fn carry_out(&mut self, effects: Vec<Effect>, actions: &mut Actions) {
        for effect in effects {
            match effect {
                Effect::Tell(lane, frame) => actions.outgoing.push(Outgoing::Frames(lane, vec![frame])),
                Effect::Fail(lane, code, detail) => {
                    let failure = Failure { request: 0, code, retry_after_ms: retry_after_ms(code), detail };
                    actions.outgoing.push(Outgoing::Frames(lane, vec![failure.to_frame()]));
                    actions.outgoing.push(Outgoing::Finish(lane));
                }
                Effect::Finish(lane) => actions.outgoing.push(Outgoing::Finish(lane)),
                Effect::Stop(lane, partition, lease) => {
                    if let Some(position) = self.subscriptions.position(lane, partition) {
                        self.groups.delivered(lane, (partition, lease), position);
                    }
                    self.subscriptions.stop(lane, partition, &mut self.partitions);
                }
                Effect::Journal(frame) => {
                    actions.append(*frame, false);
                }
                Effect::Longest(pending) => {
                    if let Some(frame) = self.groups.longest(pending) {
                        let ticket = actions.append(frame, false);
                        self.publishing.wait(ticket, Waiting::Longest(pending));
                    }
                }
                // The group has taken note.
                Effect::Leased(..) | Effect::Ended(_) | Effect::Lapsed(_) => {}
            }
        }
    }
}
