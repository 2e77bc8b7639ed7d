//! A client that reads: the consumer's machine, its lanes, and an application that takes records at its own pace.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use harness::Random;
use harness::check::{Event, VOID};
use weir_broker::core::StreamId;
use weir_client::core::consumer::{Command, Consumer, ConsumerOptions, Ended, Frame, LaneId, Step, Taken};
use weir_protocol::ErrorCode;
use weir_protocol::batch::StoredBatch;
use weir_protocol::frame::{FrameKind, RawFrame};
use weir_protocol::message::{
    Deliver, Gap, Grant, GrantRecords, Message, PartitionEnded, PartitionStarted, ServerLimits, StartAt,
    UnsubscribePartition,
};
use weir_protocol::units::{Offset, PartitionId};

use super::member::{MEMBER_LANE, Membership};
use super::pauses::Pauses;
use super::{Context, Output, Peer, value_of};
use crate::coverage::Situation;
use crate::network::Arrival;
use crate::scheduler::{MS, SECOND};

/// A reader comes back so long after the broker could not read for it.
const RETRY_AFTER: u64 = SECOND;

/// What a reader's application does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadPlan {
    /// Longest pause between two frames.
    pub(crate) pause: u64,
    /// Bytes that may wait for it.
    pub(crate) window_bytes: u64,
    /// Records that may wait for it, if they are limited.
    pub(crate) window_records: Option<u64>,
    /// Longest frame that it takes.
    pub(crate) frame_bytes_max: u64,
    /// How many times of a hundred it moves to another offset before it takes a frame.
    pub(crate) seeks: u64,
}

/// A reader.
#[derive(Debug)]
pub(crate) struct Reading {
    plan: ReadPlan,
    random: Random,
    name: u32,
    machine: Consumer,
    streams: BTreeMap<LaneId, (StreamId, u64)>,
    pauses: Pauses,
    /// What each lane may be sent, and was sent.
    credit: BTreeMap<u64, (u64, u64)>,
    /// Partitions whose start is known.
    started: BTreeSet<PartitionId>,
    /// A frame that is being taken apart.
    open: Option<(Frame, Bytes)>,
    next_take: u64,
    /// Partitions to be read again after the broker could not.
    again: BTreeMap<PartitionId, (u64, StartAt)>,
    /// What a member of a group has beside.
    pub(super) group: Option<Box<Membership>>,
}

impl Reading {
    pub(super) fn new(plan: ReadPlan, mut random: Random, context: &mut Context<'_>) -> Self {
        let start = match random.below(6) {
            0 => StartAt::Latest,
            1 => StartAt::Last(random.below(50)),
            2 => StartAt::Time(context.wall),
            _ => StartAt::Earliest,
        };
        let partitions = (0..context.partitions).map(|id| (PartitionId::new(id), start)).collect();
        let options = ConsumerOptions {
            topic: context.topic,
            partitions,
            window_bytes: plan.window_bytes,
            window_records: plan.window_records,
            frame_bytes_max: plan.frame_bytes_max,
            to_end: false,
        };
        let name = u32::try_from(context.number()).unwrap_or(u32::MAX);
        Self::of_machine(plan, random, (name, Consumer::new(options)), None)
    }

    pub(super) fn of_machine(
        plan: ReadPlan,
        random: Random,
        (name, machine): (u32, Consumer),
        group: Option<Box<Membership>>,
    ) -> Self {
        Self {
            plan,
            random,
            name,
            machine,
            streams: BTreeMap::new(),
            pauses: Pauses::default(),
            credit: BTreeMap::new(),
            started: BTreeSet::new(),
            open: None,
            next_take: 0,
            again: BTreeMap::new(),
            group,
        }
    }

    /// The broker has greeted.
    pub(super) fn connected(&mut self, limits: &ServerLimits) {
        self.machine.connected(limits.lanes_max.clamp(1, 64));
        self.pauses.clear();
    }

    /// The connection is gone.
    pub(super) fn lost(&mut self, now: u64) {
        self.leave_alone(now);
        self.streams.clear();
        (0..self.machine.lanes()).for_each(|lane| self.machine.lane_lost(LaneId(lane)));
    }

    /// A lane's stream has ended while the connection lasts.
    pub(super) fn lane_ended(&mut self, lane: u32, context: &Context<'_>) {
        if lane == MEMBER_LANE {
            return self.leave_alone(context.now);
        }
        self.streams.remove(&LaneId(lane));
        self.machine.lane_lost(LaneId(lane));
        self.pauses.begin(lane, context.now);
    }

    /// The broker does not hear of the member any more.
    pub(super) fn leave_alone(&mut self, now: u64) {
        if let Some(group) = &mut self.group {
            group.lost(now);
            self.machine.suspend();
        }
    }

    /// The process ends.
    pub(super) fn end(&self, context: &mut Context<'_>) {
        context.history.push(Event::Stop { reader: self.name });
    }

    pub(super) fn calm(&mut self) {
        self.plan.pause = 10 * MS;
        self.plan.seeks = 0;
        self.next_take = 0;
        self.group.iter_mut().for_each(|group| group.calm());
    }

    pub(super) fn positions(&self) -> Vec<(u32, u64)> {
        self.machine.positions().map(|(partition, offset)| (partition.get(), offset.get())).collect()
    }

    /// Something came on a lane.
    #[expect(clippy::wildcard_enum_match_arm, reason = "all other kinds break the protocol")]
    pub(super) fn frame(
        &mut self,
        (lane, credit): (u32, u64),
        frame: &RawFrame,
        context: &mut Context<'_>,
    ) -> Result<(), String> {
        let bad = |error: weir_protocol::DecodeError| error.to_string();
        match frame.kind {
            FrameKind::Deliver => {
                let deliver = Deliver::from_frame(frame).map_err(bad)?;
                let bytes = (Deliver::OVERHEAD_BYTES + deliver.batches.len()) as u64;
                context.history.push(Event::Spent { lane: credit, bytes });
                for batch in Deliver::measures(&deliver.batches) {
                    context
                        .history
                        .push(Event::RecordsSpent { lane: credit, records: u64::from(batch.records) });
                }
                if bytes > self.plan.frame_bytes_max {
                    return Err(format!("a frame of {bytes} bytes"));
                }
                let (limit, spent) = self.credit.entry(credit).or_default();
                *spent += bytes;
                if limit.saturating_sub(*spent) < 4 << 10 {
                    context.coverage.saw(Situation::ReaderOutOfCredit);
                }
                if !self.machine.delivered(LaneId(lane), &deliver) {
                    return Err("more was delivered than granted".to_owned());
                }
            }
            FrameKind::PartitionStarted => {
                self.machine.started(&PartitionStarted::from_frame(frame).map_err(bad)?);
                for (partition, offset) in self.machine.positions() {
                    if self.group.is_none() && self.started.insert(partition) {
                        let (partition, offset) = (partition.get(), offset.get());
                        context.history.push(Event::Start { reader: self.name, partition, offset });
                    }
                }
            }
            FrameKind::Gap => self.machine.gap(Gap::from_frame(frame).map_err(bad)?),
            FrameKind::PartitionEnded => {
                self.machine.ended(&PartitionEnded::from_frame(frame).map_err(bad)?);
            }
            other => return Err(format!("{other:?} on a reading lane")),
        }
        self.tell_missing(context);
        Ok(())
    }

    /// Something came on the stream of the member.
    pub(super) fn of_member(&mut self, frame: &RawFrame, context: &mut Context<'_>) -> Result<(), String> {
        let Some(group) = &mut self.group else { return Err("a member's frame for a reader".to_owned()) };
        group.frame(frame, context)?;
        if frame.kind == FrameKind::Failure {
            self.machine.suspend();
        }
        Ok(())
    }

    fn tell_missing(&mut self, context: &mut Context<'_>) {
        for missing in self.machine.missing() {
            context.coverage.saw(Situation::Gap);
            let (partition, from, to) = (missing.partition.get(), missing.from.get(), missing.to.get());
            if self.group.is_none() {
                context.history.push(Event::Missing { reader: self.name, partition, from, to });
            }
        }
    }

    /// Does what can be done now.
    pub(super) fn turn(&mut self, peer: Option<&mut Peer>, context: &mut Context<'_>) {
        if let Some(group) = &mut self.group {
            group.turn(&mut self.machine, context);
        }
        self.take(context);
        let due = self.again.iter().filter(|(_, (time, _))| *time <= context.now);
        for partition in due.map(|(partition, _)| *partition).collect::<Vec<_>>() {
            if let Some((_, start)) = self.again.remove(&partition) {
                self.machine.seek(partition, start);
            }
        }
        if let Some(time) = self.again.values().map(|(time, _)| *time).min() {
            context.wake(time);
        }
        let Some(peer) = peer else { return };
        if let Some(group) = &mut self.group {
            if group.leave(peer, context) {
                self.leave_alone(context.now);
            } else {
                group.speak(peer, &mut self.machine, context);
            }
        }
        for lane in (0..self.machine.lanes()).map(LaneId) {
            self.carry(lane, peer, context);
        }
    }

    /// Opens a lane's stream if it is needed, and says on it what the machine wants.
    fn carry(&mut self, lane: LaneId, peer: &mut Peer, context: &mut Context<'_>) {
        if self.pauses.hold(lane.0, context) {
            return;
        }
        let is_needed = self.machine.is_lane_needed(lane);
        if is_needed && !self.streams.contains_key(&lane) {
            let id = peer.open(lane.0);
            let credit = peer.credit_of(id);
            self.streams.insert(lane, (id, credit));
            let open = self.machine.lane_opened(lane);
            self.limit(credit, open.limit_bytes, context);
            context.outputs.push(Output::Send(peer.id, Arrival::Bytes(id, open.to_frame())));
        }
        let Some((id, credit)) = self.streams.get(&lane).copied() else { return };
        for command in self.machine.commands(lane) {
            let frame = match command {
                Command::Subscribe(subscribe) => subscribe.to_frame(),
                Command::Unsubscribe(partition) => UnsubscribePartition { partition }.to_frame(),
                Command::Grant(limit_bytes) => {
                    self.limit(credit, limit_bytes, context);
                    Grant { limit_bytes }.to_frame()
                }
                Command::GrantRecords(limit_records) => {
                    context.history.push(Event::RecordLimit { lane: credit, records: limit_records });
                    GrantRecords { limit_records }.to_frame()
                }
            };
            context.outputs.push(Output::Send(peer.id, Arrival::Bytes(id, frame)));
        }
        if !is_needed {
            context.outputs.push(Output::Send(peer.id, Arrival::End(id)));
            self.streams.remove(&lane);
            peer.lanes.remove(&id);
            self.machine.lane_lost(lane);
        }
    }

    fn limit(&mut self, credit: u64, bytes: u64, context: &mut Context<'_>) {
        self.credit.entry(credit).or_default().0 = bytes;
        context.history.push(Event::Limit { lane: credit, bytes });
    }

    /// The application takes what is there, in its own time.
    fn take(&mut self, context: &mut Context<'_>) {
        while context.now >= self.next_take {
            if self.random.percent(self.plan.seeks) {
                self.seek();
            }
            if self.open.is_none() {
                let taken = self.machine.take();
                self.tell_missing(context);
                match taken {
                    None => return,
                    Some(Taken::Ended(ended)) => {
                        self.ended(&ended, context);
                        continue;
                    }
                    Some(Taken::Frame(frame)) => self.open = Some((frame.clone(), frame.batches)),
                }
            }
            let is_whole = self.random.percent(70);
            while self.batch(context) && is_whole {}
            let pause = if self.random.percent(50) { 1 } else { self.random.between(1, self.plan.pause) };
            self.next_take = context.now + pause;
        }
        context.wake(self.next_take);
    }

    /// The application moves to an offset it has passed.
    fn seek(&mut self) {
        let positions: Vec<_> = self.machine.positions().collect();
        let chosen = usize::try_from(self.random.below(positions.len() as u64)).unwrap_or(0);
        let Some((partition, position)) = positions.get(chosen) else { return };
        if !self.again.contains_key(partition) {
            self.started.remove(partition);
            let back = Offset::new(self.random.below(position.get() + 1));
            self.machine.seek(*partition, StartAt::Offset(back));
        }
    }

    /// Takes one batch of the open frame. Says whether there may be another.
    fn batch(&mut self, context: &mut Context<'_>) -> bool {
        let Some((frame, rest)) = &mut self.open else { return false };
        if rest.is_empty() {
            let frame = frame.clone();
            self.machine.consumed(&frame);
            self.open = None;
            return false;
        }
        let partition = frame.partition.get();
        let Ok(stored) = StoredBatch::decode(rest) else {
            context.defect(|| format!("a batch of partition {partition} is damaged"));
            return false;
        };
        let step = self.machine.begin_batch(frame, stored.base_offset(), stored.end_offset());
        let lease = self.machine.lease_of(frame.partition);
        let frame = frame.clone();
        self.tell_missing(context);
        match step {
            Step::Skip => {}
            Step::Stale => {
                if let Some((_, rest)) = &mut self.open {
                    rest.clear();
                }
            }
            Step::Deliver { from, until } => {
                let Ok(records) = stored.producer.records() else { return false };
                for (offset, record) in (stored.base_offset().get()..).zip(records.flatten()) {
                    if (from..until).contains(&Offset::new(offset)) {
                        let bytes = record.value.unwrap_or_default();
                        let number = u32::try_from(offset - stored.base_offset().get()).unwrap_or(u32::MAX);
                        let is_void = stored.section.voids.contains(number);
                        let value = if is_void { Some(VOID) } else { value_of(&bytes, context.record_bytes) };
                        let Some(group) = &mut self.group else {
                            let reader = self.name;
                            context.history.push(Event::Delivered { reader, partition, offset, value });
                            continue;
                        };
                        if !is_void {
                            group.hand_out((frame.partition, lease), (Offset::new(offset), value), context);
                        }
                    }
                }
                if let Some(group) = &mut self.group {
                    group.pass(frame.partition, lease, until);
                }
            }
        }
        true
    }

    /// Reading a partition has ended: the application comes back where it was.
    fn ended(&mut self, ended: &Ended, context: &mut Context<'_>) {
        if let (Some(group), ErrorCode::Internal) = (&mut self.group, ended.code) {
            context.coverage.saw(Situation::ReadFailed);
            return group.failed(ended.partition);
        }
        let position = self.machine.positions().find(|(partition, _)| *partition == ended.partition);
        let start = match (ended.code, position) {
            (ErrorCode::Internal, position) => {
                context.coverage.saw(Situation::ReadFailed);
                position.map_or(StartAt::Earliest, |(_, offset)| StartAt::Offset(offset))
            }
            // It had been asked for where the broker could not read before, and retention was faster.
            (ErrorCode::OffsetOutOfRange, None)
                if ended.asked.is_some_and(|asked| asked < ended.log_start) =>
            {
                self.started.remove(&ended.partition);
                StartAt::Earliest
            }
            (code, _) => {
                return context.defect(|| format!("reading ended with {code:?}: {ended:?}"));
            }
        };
        self.again.insert(ended.partition, (context.now + RETRY_AFTER, start));
        context.wake(context.now + RETRY_AFTER);
    }
}
