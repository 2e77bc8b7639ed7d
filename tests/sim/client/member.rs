//! A client that is a member of a group: the member's machine beside the consumer's, and an application that acknowledges in
//! its own order and time.

use std::collections::BTreeMap;
use std::time::Duration;

use harness::Random;
use harness::check::Event;
use weir_broker::core::StreamId;
use weir_client::core::consumer::{Consumer, ConsumerOptions};
use weir_client::core::member::{Member, Say, Told};
use weir_protocol::ErrorCode;
use weir_protocol::frame::{FrameKind, RawFrame};
use weir_protocol::message::{
    Failure, Heartbeat, JoinGroup, LeaveGroup, Message, PartitionAssigned, PartitionFailures, PartitionLost,
    PartitionRevoked, RecordsAcked, RecordsFailed,
};
use weir_protocol::units::{LeaseEpoch, Offset, PartitionId};

use super::reading::{ReadPlan, Reading};
use super::{Context, Output, Peer, micros};
use crate::coverage::Situation;
use crate::network::Arrival;
use crate::scheduler::{MS, SECOND};

/// The group of a world, as histories know it.
pub(crate) const GROUP: u32 = 1;

/// Its name.
pub(crate) const GROUP_NAME: &str = "group";

/// The lane that stands for the stream of the member itself.
pub(super) const MEMBER_LANE: u32 = u32::MAX;

/// As in the real client.
const REJOIN_AFTER: u64 = 200 * MS;

/// What the application of a member does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MemberPlan {
    pub(crate) read: ReadPlan,
    pub(crate) lease_ms: u32,
    pub(crate) grace_ms: u32,
    /// Longest time from a record to its acknowledgement.
    pub(crate) work: u64,
    /// How many times of a hundred it leaves the group instead of taking a frame.
    pub(crate) leaves: u64,
}

/// The membership of a reader.
#[derive(Debug)]
pub(super) struct Membership {
    plan: MemberPlan,
    random: Random,
    name: u32,
    member: String,
    machine: Member,
    stream: Option<StreamId>,
    /// When it may join again.
    join_at: u64,
    /// What was handed out and is not settled: when that is due.
    at_work: BTreeMap<(PartitionId, LeaseEpoch, Offset), u64>,
    /// What was settled, and the step that makes it durable.
    settled: BTreeMap<(PartitionId, LeaseEpoch), Vec<(u64, Offset)>>,
    /// Partitions to be given back of which the application will be told then.
    revoking: BTreeMap<PartitionId, (LeaseEpoch, u64)>,
}

/// A reader whose partitions come and go.
pub(super) fn reading(plan: MemberPlan, mut random: Random, context: &mut Context<'_>) -> Reading {
    let options = ConsumerOptions {
        topic: context.topic,
        partitions: Vec::new(),
        window_bytes: plan.read.window_bytes,
        window_records: plan.read.window_records,
        frame_bytes_max: plan.read.frame_bytes_max,
        to_end: false,
    };
    let machine = Consumer::of_member(options, context.partitions);
    let name = u32::try_from(context.number()).unwrap_or(u32::MAX);
    let membership = Membership {
        plan,
        random: random.fork(),
        name,
        member: format!("member-{}", context.client),
        machine: Member::new(Duration::from_millis(u64::from(plan.lease_ms))),
        stream: None,
        join_at: 0,
        at_work: BTreeMap::new(),
        settled: BTreeMap::new(),
        revoking: BTreeMap::new(),
    };
    Reading::of_machine(plan.read, random, (name, machine), Some(Box::new(membership)))
}

impl Membership {
    pub(super) fn calm(&mut self) {
        self.plan.leaves = 0;
        self.plan.work = 100 * MS;
        self.at_work.values_mut().for_each(|due| *due = 0);
    }

    /// Whether everything it got is settled durably.
    pub(super) fn is_idle(&self) -> bool {
        self.at_work.is_empty() && self.machine.is_settled()
    }

    /// A record is about to be handed out. Says whether it may be.
    pub(super) fn hand_out(
        &mut self,
        (partition, lease): (PartitionId, Option<LeaseEpoch>),
        (offset, value): (Offset, Option<u64>),
        context: &mut Context<'_>,
    ) -> bool {
        let turn = self.machine.turn_of(partition).filter(|(current, _)| lease == Some(*current));
        let Some((lease, turn)) = turn else { return false };
        if self.machine.hand_out(partition, (lease, turn), offset).is_none() {
            return false;
        }
        let due = context.now + self.random.below(self.plan.work + 1);
        self.at_work.insert((partition, lease, offset), due);
        context.history.push(Event::Handed {
            group: GROUP,
            partition: partition.get(),
            member: self.name,
            lease: lease.get(),
            offset: offset.get(),
            value,
        });
        true
    }

    /// What remains of a batch will not come.
    pub(super) fn pass(&mut self, partition: PartitionId, lease: Option<LeaseEpoch>, offset: Offset) {
        let turn = self.machine.turn_of(partition).filter(|(current, _)| lease == Some(*current));
        if let Some(turn) = turn {
            self.machine.pass(partition, turn, offset);
        }
    }

    /// The broker could not read a partition: it is tried again.
    pub(super) fn failed(&mut self, partition: PartitionId) {
        self.machine.failed(partition);
    }

    /// The connection is gone, or the stream of the member.
    pub(super) fn lost(&mut self, now: u64) {
        self.stream = None;
        self.machine.closed();
        self.join_at = now + REJOIN_AFTER;
    }

    /// Something came on the stream of the member.
    #[expect(clippy::wildcard_enum_match_arm, reason = "all other kinds break the protocol")]
    pub(super) fn frame(&mut self, frame: &RawFrame, context: &mut Context<'_>) -> Result<(), String> {
        let bad = |error: weir_protocol::DecodeError| error.to_string();
        match frame.kind {
            FrameKind::Heartbeat => {
                self.machine.answered(context.mono(), Heartbeat::from_frame(frame).map_err(bad)?);
            }
            FrameKind::PartitionAssigned => {
                self.machine.assigned(context.mono(), PartitionAssigned::from_frame(frame).map_err(bad)?);
            }
            FrameKind::PartitionRevoked => {
                let revoked = PartitionRevoked::from_frame(frame).map_err(bad)?;
                self.machine.revoked(context.mono(), &revoked);
            }
            FrameKind::PartitionLost => {
                self.machine.lost(&PartitionLost::from_frame(frame).map_err(bad)?);
            }
            FrameKind::PartitionFailures => {
                self.machine.failing(PartitionFailures::from_frame(frame).map_err(bad)?);
            }
            FrameKind::RecordsFailed => {
                let failed = RecordsFailed::from_frame(frame).map_err(bad)?;
                self.machine.decided(context.mono(), &failed);
            }
            FrameKind::RecordsAcked => {
                let acked = RecordsAcked::from_frame(frame).map_err(bad)?;
                self.acked(&acked, context);
            }
            FrameKind::Failure => {
                let failure = Failure::from_frame(frame).map_err(bad)?;
                // Where what is settled ahead takes all memory, an application tries again to join.
                let passes = [ErrorCode::Fenced, ErrorCode::GoingAway, ErrorCode::TooManyGroups];
                if !passes.contains(&failure.code) {
                    return Err(format!("a member was refused: {failure:?}"));
                }
                self.lost(context.now);
            }
            other => return Err(format!("{other:?} on the stream of a member")),
        }
        Ok(())
    }

    fn acked(&mut self, acked: &RecordsAcked, context: &mut Context<'_>) {
        match acked.refused {
            Some(ErrorCode::Fenced) => context.coverage.saw(Situation::AckFenced),
            Some(ErrorCode::Throttled) => context.coverage.saw(Situation::AckThrottled),
            Some(code) => context.defect(|| format!("an acknowledgement is refused with {code:?}")),
            None => {}
        }
        if let (None, Some(lease)) = (acked.refused, self.machine.lease_of(acked.partition)) {
            context.history.push(Event::Committed {
                group: GROUP,
                partition: acked.partition.get(),
                lease: lease.get(),
                offset: acked.committed.get(),
            });
        }
        self.machine.acked(acked);
    }

    /// Does what follows from what the machine says, and settles what is due.
    pub(super) fn turn(&mut self, consumer: &mut Consumer, context: &mut Context<'_>) {
        self.machine.pass_time(context.mono());
        self.work(context);
        let heard = self.revoking.iter().filter(|(_, (_, due))| *due <= context.now);
        for (partition, (lease, _)) in
            heard.map(|(partition, heard)| (*partition, *heard)).collect::<Vec<_>>()
        {
            self.revoking.remove(&partition);
            self.machine.heard(partition, lease);
        }
        for told in self.machine.told() {
            self.follow(told, consumer, context);
        }
        let dues = self.at_work.values().chain(self.revoking.values().map(|(_, due)| due));
        if let Some(due) = dues.min() {
            context.wake(*due);
        }
    }

    fn follow(&mut self, told: Told, consumer: &mut Consumer, context: &mut Context<'_>) {
        match told {
            Told::Assigned { partition, lease, .. }
            | Told::Confirmed { partition, lease }
            | Told::ReadAnew { partition, lease } => {
                consumer.lease(partition, lease);
            }
            Told::HeldUp { partition } => consumer.leave(partition),
            Told::Failed { .. } => {}
            Told::Revoking { partition, lease, .. } => {
                context.coverage.saw(Situation::Revoked);
                let slow = self.random.percent(30);
                let due = context.now + if slow { self.random.below(2 * SECOND) } else { 0 };
                self.revoking.insert(partition, (lease, due));
                context.wake(due);
            }
            Told::Ended { partition, lease, lost } => {
                if lost.is_some() {
                    context.coverage.saw(Situation::LeaseLost);
                }
                consumer.leave(partition);
                self.at_work.retain(|(of, under, _), _| (*of, *under) != (partition, lease));
                self.settled.remove(&(partition, lease));
            }
            Told::Settled { partition, lease, step, refused } => {
                let Some(settled) = self.settled.get_mut(&(partition, lease)) else { return };
                let done = settled.extract_if(.., |(under, _)| *under <= step);
                for (_, offset) in done.filter(|_| refused.is_none()).collect::<Vec<_>>() {
                    context.history.push(Event::Acked {
                        group: GROUP,
                        partition: partition.get(),
                        member: self.name,
                        lease: lease.get(),
                        from: offset.get(),
                        to: offset.get() + 1,
                    });
                }
            }
        }
    }

    /// The application settles what it has done: one record, or all up to it.
    fn work(&mut self, context: &Context<'_>) {
        let due = self.at_work.iter().filter(|(_, due)| **due <= context.now).map(|(record, _)| *record);
        for (partition, lease, offset) in due.collect::<Vec<_>>() {
            if !self.at_work.contains_key(&(partition, lease, offset)) {
                continue;
            }
            let from = (!self.random.percent(20)).then_some(offset);
            let Some(step) = self.machine.settle(partition, lease, (from, offset.advance(1))) else {
                continue;
            };
            let lowest = from.unwrap_or(Offset::ZERO);
            let done = self
                .at_work
                .extract_if((partition, lease, lowest)..=(partition, lease, offset), |_, _| true)
                .map(|((_, _, offset), _)| (step, offset));
            self.settled.entry((partition, lease)).or_default().extend(done);
        }
    }

    /// Joins, leaves, and says what there is to say.
    pub(super) fn speak(&mut self, peer: &mut Peer, consumer: &mut Consumer, context: &mut Context<'_>) {
        if self.stream.is_none() {
            if context.now < self.join_at {
                return context.wake(self.join_at);
            }
            let stream = peer.open(MEMBER_LANE);
            self.stream = Some(stream);
            let join = JoinGroup {
                topic: context.topic,
                group: GROUP_NAME.to_owned(),
                member: self.member.clone(),
                instance: u64::from(self.name),
                lease_ms: self.plan.lease_ms,
                grace_ms: self.plan.grace_ms,
            };
            context.outputs.push(Output::Send(peer.id, Arrival::Bytes(stream, join.to_frame())));
            self.machine.opened(context.mono());
        }
        let Some(stream) = self.stream else { return };
        for said in self.machine.say(context.mono()) {
            let frame = match said {
                Say::Heartbeat(heartbeat) => heartbeat.to_frame(),
                Say::Ack(ack) => ack.to_frame(),
                Say::Fail(fail) => fail.to_frame(),
                Say::Release(release) => release.to_frame(),
            };
            context.outputs.push(Output::Send(peer.id, Arrival::Bytes(stream, frame)));
        }
        for told in self.machine.told() {
            self.follow(told, consumer, context);
        }
        if let Some(due) = self.machine.due() {
            context.wake(micros(due));
        }
    }

    /// Leaves in order, now and then. Says whether it did.
    pub(super) fn leave(&mut self, peer: &mut Peer, context: &mut Context<'_>) -> bool {
        let Some(stream) = self.stream.filter(|_| self.machine.is_joined()) else { return false };
        if !self.random.percent(self.plan.leaves) {
            return false;
        }
        context.coverage.saw(Situation::Left);
        context.outputs.push(Output::Send(peer.id, Arrival::Bytes(stream, LeaveGroup.to_frame())));
        context.outputs.push(Output::Send(peer.id, Arrival::End(stream)));
        peer.lanes.remove(&stream);
        true
    }
}
