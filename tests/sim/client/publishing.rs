//! A client that publishes: the producer's machine, its lanes, and an application that enqueues records.

mod application;
mod counters;
mod keys;
mod sending;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use harness::Random;
use harness::check::Event;
use weir_broker::core::StreamId;
use weir_client::Retry;
use weir_client::core::producer::{Completion, Identity, LaneId, Outgoing, Producer, ProducerOptions, Why};
use weir_client::core::requests::{Repeat, Requests};
use weir_client::core::window::Ticket;
use weir_protocol::frame::{FrameKind, RawFrame};
use weir_protocol::message::{
    Grant, Message, OpenProducer, ProducerOpened, PublishAck, PublishExceptions, PublishRejected,
    ServerLimits,
};
use weir_protocol::units::{Durability, Epoch};

pub(super) use keys::Outbox;

use super::pauses::Pauses;
use super::{Ask, Context, Peer, micros};
use crate::coverage::Situation;
use application::complete;
use counters::Seen;

/// What a producer's application does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PublishPlan {
    /// Most records at a time.
    pub(crate) burst: u64,
    /// Longest pause between two bursts.
    pub(crate) pause: u64,
    /// A batch of so many bytes goes out at once.
    pub(crate) batch_bytes: usize,
    /// How safe answers are to be.
    pub(crate) durability: Durability,
    /// Bytes and messages without a result.
    pub(crate) window: (u64, u64),
    /// Longest time to a result.
    pub(crate) timeout: Duration,
    /// Least time a batch waits for more records.
    pub(crate) linger: Duration,
    /// Records have idempotency keys, and are sent again until they have a result.
    pub(crate) keyed: bool,
    /// Records are of one of so many counters; none if that is 0.
    pub(crate) counters: u64,
}

/// A lane with its stream.
#[derive(Debug)]
struct Stream {
    id: StreamId,
    credit: u64,
    limit: u64,
    spent: u64,
    /// Taken, and not sealed yet.
    taken: VecDeque<Outgoing>,
}

/// A producer.
#[derive(Debug)]
pub(crate) struct Publishing {
    plan: PublishPlan,
    random: Random,
    name: u32,
    machine: Option<Producer<()>>,
    /// An identity was asked for.
    pub(super) asked: bool,
    streams: BTreeMap<LaneId, Stream>,
    /// Lanes that were told that they have something to do.
    woken: BTreeSet<LaneId>,
    /// Lanes that wait before they are opened again.
    pauses: Pauses,
    next_burst: u64,
    /// Nothing new is sent any more.
    calm: bool,
    /// A record that waits for room: its place in the queue, and what it counts for.
    waiting: Option<(Ticket, u64)>,
    pub(super) outbox: Outbox,
    seen: Seen,
}

impl Publishing {
    pub(super) fn new(plan: PublishPlan, random: Random, context: &mut Context<'_>) -> Self {
        let name = u32::try_from(context.number()).unwrap_or(u32::MAX);
        Self {
            plan,
            random,
            name,
            machine: None,
            asked: false,
            streams: BTreeMap::new(),
            woken: BTreeSet::new(),
            pauses: Pauses::default(),
            next_burst: 0,
            calm: false,
            waiting: None,
            outbox: Outbox::default(),
            seen: Seen::new(),
        }
    }

    fn options(&self, context: &Context<'_>) -> ProducerOptions {
        ProducerOptions {
            topic: context.topic,
            partitions: context.partitions,
            batch_bytes: self.plan.batch_bytes,
            batch_bytes_max: 8 << 10,
            batch_records: 16,
            linger: self.plan.linger,
            in_flight_bytes: self.plan.window.0,
            in_flight_messages: self.plan.window.1,
            unacked_batches: 64,
            delivery_timeout: self.plan.timeout,
            retry: Retry::default(),
            is_claimed: false,
        }
    }

    /// The broker gave an identity: the first one begins the machine.
    pub(super) fn identified(
        &mut self,
        frame: &RawFrame,
        limits: Option<&ServerLimits>,
        context: &mut Context<'_>,
    ) -> Result<(), String> {
        self.asked = false;
        if frame.kind != FrameKind::ProducerOpened {
            return Err(format!("no identity, but {:?}", frame.kind));
        }
        let opened = ProducerOpened::from_frame(frame).map_err(|error| error.to_string())?;
        let identity = Identity { producer: opened.producer, epoch: opened.epoch };
        context.identities.insert(identity.producer, identity.epoch);
        if let Some(machine) = &mut self.machine {
            context.coverage.saw(Situation::NewIdentity);
            machine.identified(identity);
            return Ok(());
        }
        self.machine = Some(Producer::new(self.options(context), identity, self.random.next()));
        limits.into_iter().for_each(|limits| self.connected(limits));
        Ok(())
    }

    /// Begins under the identity of a producer that may live, with a higher epoch.
    pub(super) fn take_over(&mut self, context: &mut Context<'_>) {
        let chosen = usize::try_from(self.random.below(context.identities.len() as u64)).unwrap_or(0);
        let Some((producer, epoch)) = context.identities.iter_mut().nth(chosen) else { return };
        *epoch = Epoch::new(epoch.get() + 1);
        let identity = Identity { producer: *producer, epoch: *epoch };
        self.machine = Some(Producer::new(self.options(context), identity, self.random.next()));
    }

    /// The broker has greeted.
    pub(super) fn connected(&mut self, limits: &ServerLimits) {
        if let Some(machine) = &mut self.machine {
            let unacked = usize::try_from(limits.unacked_batches_max).unwrap_or(1);
            machine.connected(limits.lanes_max.clamp(1, 64), unacked.max(1));
        }
        self.pauses.clear();
    }

    /// The connection is gone.
    pub(super) fn lost(&mut self, context: &mut Context<'_>) {
        let lanes = self.machine.as_ref().map_or(0, Producer::lanes);
        (0..lanes).for_each(|lane| self.lose(LaneId(lane), context));
    }

    /// A lane's stream has ended while the connection lasts.
    pub(super) fn lane_ended(&mut self, lane: u32, context: &mut Context<'_>) {
        self.lose(LaneId(lane), context);
        self.pauses.begin(lane, context.now);
    }

    fn lose(&mut self, lane: LaneId, context: &mut Context<'_>) {
        // The real client seals what it has taken before it looks at the stream again.
        while let Some(outgoing) = self.streams.get_mut(&lane).and_then(|stream| stream.taken.pop_front()) {
            self.seal(lane, outgoing, context);
        }
        self.streams.remove(&lane);
        let Some(machine) = &mut self.machine else { return };
        if !machine.is_lane_idle(lane) {
            context.coverage.saw(Situation::ReconnectInFlight);
        }
        machine.lane_lost(lane, context.mono());
    }

    /// The process ends: whatever has no result gets one.
    pub(super) fn end(&mut self, context: &mut Context<'_>) {
        self.lost(context);
        let mut done = Vec::new();
        if let Some(machine) = &mut self.machine {
            machine.end(&Why::Closed, &mut done);
            if !done.is_empty() {
                context.coverage.saw(Situation::ClientRestart);
            }
        }
        self.complete(done, context);
    }

    pub(super) const fn calm(&mut self) {
        self.calm = true;
    }

    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_none() && self.machine.as_ref().is_none_or(Producer::is_idle)
    }

    pub(super) fn held(&self) -> u64 {
        self.machine.as_ref().map_or(0, |machine| machine.window.bytes() + machine.window.messages())
    }

    /// Something came on a lane.
    #[expect(clippy::wildcard_enum_match_arm, reason = "all other kinds break the protocol")]
    pub(super) fn frame(
        &mut self,
        (lane, credit): (u32, u64),
        frame: &RawFrame,
        context: &mut Context<'_>,
    ) -> Result<(), String> {
        let lane = LaneId(lane);
        let now = context.mono();
        let Some(machine) = &mut self.machine else { return Err("an answer before any batch".to_owned()) };
        let mut done = Vec::new();
        match frame.kind {
            FrameKind::Grant => {
                let grant = Grant::from_frame(frame).map_err(|error| error.to_string())?;
                context.history.push(Event::Limit { lane: credit, bytes: grant.limit_bytes });
                machine.granted(lane, grant.limit_bytes);
                if let Some(stream) = self.streams.get_mut(&lane) {
                    stream.limit = grant.limit_bytes;
                }
            }
            FrameKind::PublishAck => {
                let ack = PublishAck::from_frame(frame).map_err(|error| error.to_string())?;
                for entry in &ack.entries {
                    machine.acked(lane, entry, now, &mut done).map_err(|error| error.to_string())?;
                }
            }
            FrameKind::PublishExceptions => {
                let told = PublishExceptions::from_frame(frame).map_err(|error| error.to_string())?;
                machine.excepted(lane, told).map_err(|error| error.to_string())?;
            }
            FrameKind::PublishRejected => {
                let rejected = PublishRejected::from_frame(frame).map_err(|error| error.to_string())?;
                machine.rejected(lane, rejected, now, &mut done).map_err(|error| error.to_string())?;
            }
            other => return Err(format!("{other:?} on a publishing lane")),
        }
        self.complete(done, context);
        Ok(())
    }

    fn complete(&mut self, done: Vec<Completion<()>>, context: &mut Context<'_>) {
        if self.plan.keyed {
            self.complete_keyed(done, context);
        } else if self.plan.counters > 0 {
            self.complete_counted(done, context);
        } else {
            complete(done, context);
        }
    }

    /// Does what can be done now.
    pub(super) fn turn(
        &mut self,
        peer: Option<&mut Peer>,
        requests: &mut Requests<Ask>,
        context: &mut Context<'_>,
    ) {
        let now = context.mono();
        let mut done = Vec::new();
        let wants_identity = self.machine.as_ref().is_none_or(Producer::wants_identity);
        if wants_identity && !self.asked {
            let frame = |request| OpenProducer { request }.to_frame();
            let deadline = now.after(Duration::from_secs(10));
            self.asked = requests.add(frame, Repeat::Harmless, deadline, Ask::Identity).is_ok();
        }
        let Some(machine) = &mut self.machine else { return };
        machine.tick(now, &mut done);
        self.complete(done, context);
        self.enqueue(context);
        if let Some(machine) = &mut self.machine {
            self.woken.extend(machine.wakes());
        }
        if let Some(peer) = peer {
            self.open_lanes(peer, context);
            self.send(peer, context);
        }
        if let Some(machine) = &mut self.machine {
            self.woken.extend(machine.wakes());
            if let Some(timer) = machine.next_timer() {
                context.wake(micros(timer));
            }
            if machine.window.has_news() {
                context.wake(context.now + 1);
            }
        }
    }
}
