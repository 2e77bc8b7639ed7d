//! The world: one broker, its clients, the network between them, and what goes wrong, all from one seed.

mod clients;
mod end;
mod life;
mod nemesis;
mod trace;

use std::collections::BTreeMap;

use harness::Random;
use harness::check::Event as Seen;
use weir_broker::core::event::{GroupRequest, Request};
use weir_broker::core::{ConnectionId, LaneId};
use weir_protocol::frame::{FrameKind, RawFrame, take_frame};
use weir_protocol::limits::CONTROL_FRAME_BYTES_MAX;
use weir_protocol::message::{CreateGroup, CreateTopic, GroupStart, Message, TopicInfo};
use weir_protocol::units::{Epoch, ProducerId, Timestamp, TopicId};

use crate::broker::{Broker, Effect, Part, Trouble};
use crate::client::{Client, GROUP, GROUP_NAME, Work};
use crate::coverage::{Coverage, Situation};
use crate::extent::Extent;
use crate::faults::{Class, Faults};
use crate::network::{Arrival, Direction, Network, Transit};
use crate::scheduler::{MS, SECOND, Scheduler};
use crate::workload::{Plan, Workload};
use trace::Trace;

/// The moment the world begins, in microseconds since 1970.
const EPOCH_US: i64 = 1_800_000_000_000_000;

/// Something that happens.
#[derive(Debug)]
enum Event {
    /// Something arrives at an end of a connection.
    Arrives(Transit),
    /// The broker hears of a new connection.
    Accepted(ConnectionId),
    /// A client's try to connect has ended.
    Connected(usize, Option<ConnectionId>),
    /// Bytes of a delivery leave the broker of that life.
    Departs(u32, LaneId, u64),
    /// Bytes of answers leave the broker of that life.
    Answers(u32, ConnectionId, u64),
    /// A part of the broker of that life has its turn.
    Turn(u32, Part, u64),
    /// The broker starts, unless it runs.
    Starts,
    /// The broker of that life has given its clients time to leave.
    Closes(u32),
    /// A client wakes.
    Wakes(usize),
    /// A fault of a class strikes.
    Strikes(Class),
    /// The disk has space again, and is as fast as ever.
    DiskMends,
}

/// What came of a world.
#[derive(Debug)]
pub(crate) struct Report {
    /// Events that happened.
    pub(crate) events: u64,
    /// Records that producers sent.
    pub(crate) records: u64,
    /// A number that stands for all of them in their order.
    pub(crate) trace: u64,
    pub(crate) coverage: Coverage,
    pub(crate) classes: Vec<Class>,
    /// The invariant that was broken, how, and after which event.
    pub(crate) failure: Option<(String, String, u64)>,
    pub(crate) history: Vec<Seen>,
    /// A line for each event, if they were to be written down.
    pub(crate) steps: Vec<String>,
}

/// A defect that was seen while the world ran.
pub(crate) type Defect = String;

pub(crate) struct World {
    scheduler: Scheduler<Event>,
    random: Random,
    network: Network,
    broker: Broker,
    clients: Vec<Client>,
    /// Until when each client stands still.
    paused: Vec<u64>,
    /// When each client will be woken.
    wakes: Vec<u64>,
    broker_paused: u64,
    /// How far the wall clock is off, in microseconds.
    clock_off: i64,
    faults: Faults,
    /// Since when nothing has gone wrong any more.
    healed_at: u64,
    history: Vec<Seen>,
    coverage: Coverage,
    topic: TopicId,
    partitions: u32,
    has_group: bool,
    next_number: u64,
    /// Producers that the broker made, and their epochs.
    identities: BTreeMap<ProducerId, Epoch>,
    plan: Plan,
    extent: Extent,
    /// Records that producers may still send.
    records_left: u64,
    events: u64,
    trace: Trace,
    steps: Vec<String>,
}

impl World {
    /// The world of a seed, before anything has happened.
    pub(crate) fn new(seed: u64, workload: &Workload, extent: &Extent) -> Self {
        let mut random = Random::new(seed);
        let plan = (workload.draw)(&mut random.fork());
        let faults = Faults::draw(random.fork(), &extent.without);
        Self {
            scheduler: Scheduler::new(),
            network: Network::new(random.fork()),
            broker: Broker::new(plan.sizes, random.fork()),
            clients: Vec::new(),
            paused: vec![0; plan.clients.len()],
            wakes: vec![u64::MAX; plan.clients.len()],
            broker_paused: 0,
            clock_off: 0,
            faults,
            healed_at: u64::MAX,
            history: Vec::new(),
            coverage: Coverage::default(),
            topic: TopicId::default(),
            partitions: plan.topic.partitions,
            has_group: false,
            next_number: 0,
            identities: BTreeMap::new(),
            plan,
            extent: extent.clone(),
            records_left: extent.records,
            events: 0,
            trace: Trace::default(),
            steps: Vec::new(),
            random,
        }
    }

    /// All that happens in the world, to its end.
    pub(crate) fn live(&mut self) -> Result<(), Defect> {
        self.begin()?;
        for class in self.faults.classes.clone() {
            self.plan_fault(class);
        }
        while self.events < self.extent.events
            && let Some(event) = self.scheduler.next(u64::MAX)
        {
            self.happen(event)?;
        }
        self.settle()
    }

    /// What came of it; `Err` with what it said if it panicked.
    pub(crate) fn report(mut self, lived: Result<Result<(), Defect>, String>) -> Report {
        self.trace.note(&[self.history.len() as u64]);
        let failure = match lived {
            Err(panic) => Some(("nothing panics".to_owned(), panic)),
            Ok(Err(defect)) => Some(("nothing happens that must not".to_owned(), defect)),
            Ok(Ok(())) => {
                let broken = harness::check::check(&self.history).into_iter().next();
                broken.map(|(invariant, finding)| (invariant.to_owned(), finding.to_string()))
            }
        };
        Report {
            events: self.events,
            records: self.extent.records - self.records_left,
            trace: self.trace.value(),
            coverage: self.coverage,
            classes: self.faults.classes,
            failure: failure.map(|(invariant, finding)| (invariant, finding, self.events)),
            history: self.history,
            steps: self.steps,
        }
    }

    /// A broker with a topic, and clients that begin.
    fn begin(&mut self) -> Result<(), Defect> {
        self.start()?;
        let create = CreateTopic { request: 1, name: "main".to_owned(), settings: self.plan.topic };
        if let Some(process) = &mut self.broker.process {
            process.request(Request::Create(create));
        }
        self.plan_turns();
        while self.topic == TopicId::default() {
            let event = self.scheduler.next(SECOND).ok_or("the topic is not made")?;
            self.happen(event)?;
        }
        self.make_group()?;
        for (number, work) in self.plan.clients.clone().into_iter().enumerate() {
            let random = self.random.fork();
            let client = self.with_context(number, |_, context| Client::new(work, random, context));
            self.clients.extend(client);
            self.scheduler.after(self.random.below(SECOND), Event::Wakes(number));
        }
        Ok(())
    }

    /// A group that begins with the first record, if the world has members.
    fn make_group(&mut self) -> Result<(), Defect> {
        if !self.plan.clients.iter().any(|work| matches!(work, Work::Join(_))) {
            return Ok(());
        }
        let (topic, group) = ("main".to_owned(), GROUP_NAME.to_owned());
        let create = CreateGroup { request: 2, topic, group, start: GroupStart::Earliest };
        if let Some(process) = &mut self.broker.process {
            process.request(Request::Group(GroupRequest::Create(create)));
        }
        self.plan_turns();
        while !self.has_group {
            let event = self.scheduler.next(SECOND).ok_or("the group is not made")?;
            self.happen(event)?;
        }
        for partition in 0..self.partitions {
            self.history.push(Seen::Grouped { group: GROUP, partition, offset: 0 });
        }
        Ok(())
    }

    fn wall(&self) -> Timestamp {
        let now = i64::try_from(self.scheduler.now()).unwrap_or(i64::MAX);
        Timestamp::from_micros(EPOCH_US + now + self.clock_off)
    }

    /// One event happens, and what follows from it is planned.
    fn happen(&mut self, event: Event) -> Result<(), Defect> {
        let now = self.scheduler.now();
        if let Some(until) = self.standstill(&event).filter(|until| *until > now) {
            self.scheduler.at(until, event);
            return Ok(());
        }
        self.events += 1;
        self.trace.event(now, &event);
        if self.extent.traced {
            self.steps.push(trace::line(self.events, now, &event));
        }
        match event {
            Event::Arrives(Transit { connection, direction, arrival, .. }) => {
                self.arrives(connection, direction, arrival)?;
            }
            Event::Accepted(connection) => {
                if let Some(process) = &mut self.broker.process {
                    process.accept(connection);
                }
            }
            Event::Connected(client, connection) => {
                self.client(client, |client, context| client.connected(connection, context))?;
            }
            Event::Departs(life, lane, bytes) => {
                if let Some(process) = self.process_of(life) {
                    process.departed(lane, bytes);
                }
            }
            Event::Answers(life, connection, bytes) => {
                let effects = self.process_of(life).map(|process| process.answered(connection, bytes));
                effects.map_or(Ok(()), |effects| self.effects(effects))?;
            }
            Event::Turn(life, part, number) => self.turn(life, part, number)?,
            Event::Starts => self.start()?,
            Event::Closes(life) => self.close(life)?,
            Event::Wakes(client) => {
                if let Some(wake) = self.wakes.get_mut(client) {
                    *wake = u64::MAX;
                }
                self.client(client, |_, _| {})?;
            }
            Event::Strikes(class) => {
                if self.events <= self.extent.strikes && self.healed_at == u64::MAX {
                    self.strike(class)?;
                    self.plan_fault(class);
                }
            }
            Event::DiskMends => self.mend_disk(),
        }
        if self.broker.process.is_some() && self.broker.disk.is_halted() {
            self.coverage.saw(Situation::CrashInCall);
            self.disk_failed();
        }
        self.plan_turns();
        Ok(())
    }

    /// Until when whoever an event is for stands still.
    fn standstill(&self, event: &Event) -> Option<u64> {
        let client = |client: &usize| self.paused.get(*client).copied();
        match event {
            Event::Arrives(Transit { direction: Direction::ToBroker, .. })
            | Event::Accepted(_)
            | Event::Departs(..)
            | Event::Answers(..)
            | Event::Turn(..)
            | Event::Closes(_) => Some(self.broker_paused),
            Event::Arrives(Transit { connection, .. }) => client(&self.network.client_of(*connection)?),
            Event::Connected(number, _) | Event::Wakes(number) => client(number),
            Event::Starts | Event::Strikes(_) | Event::DiskMends => None,
        }
    }

    fn process_of(&mut self, life: u32) -> Option<&mut crate::broker::Process> {
        let is_same = self.broker.life == life;
        self.broker.process.as_mut().filter(|_| is_same)
    }

    fn arrives(&mut self, id: ConnectionId, to: Direction, arrival: Arrival) -> Result<(), Defect> {
        let is_loss = matches!(arrival, Arrival::Lost);
        if !is_loss && !self.network.arrives(id, to) {
            return Ok(());
        }
        match to {
            Direction::ToBroker => {
                let Some(process) = &mut self.broker.process else { return Ok(()) };
                let effects = process.arrived(id, arrival, &mut self.coverage);
                self.effects(effects)?;
            }
            Direction::ToClient => {
                if let Some(client) = self.network.client_of(id) {
                    self.client(client, |client, context| client.arrived(id, arrival, context))?;
                }
            }
        }
        if is_loss {
            self.network.end(id, to);
        }
        Ok(())
    }

    fn turn(&mut self, life: u32, part: Part, number: u64) -> Result<(), Defect> {
        let at = (self.scheduler.now(), self.wall());
        let is_same = self.broker.life == life;
        let Some(process) = self.broker.process.as_mut().filter(|_| is_same) else { return Ok(()) };
        if process.begins(part, number) {
            let effects = process.turn(part, at, &mut self.coverage);
            self.effects(effects)?;
        }
        Ok(())
    }

    /// Plans the turns the parts of the broker want.
    fn plan_turns(&mut self) {
        let (now, life) = (self.scheduler.now(), self.broker.life);
        let planned = self.broker.process.as_mut().map(|process| process.plan(now)).unwrap_or_default();
        for (time, part, number) in planned {
            self.scheduler.at(time, Event::Turn(life, part, number));
        }
    }

    /// Does what the broker wants, or ends it if it cannot go on.
    fn effects(&mut self, effects: Result<Vec<Effect>, Trouble>) -> Result<(), Defect> {
        let effects = match effects {
            Ok(effects) => effects,
            Err(Trouble::Defect(what)) => return Err(what),
            Err(Trouble::Disk) => {
                let is_halted = self.broker.disk.is_halted();
                self.coverage.saw(if is_halted { Situation::CrashInCall } else { Situation::SyncFailed });
                self.disk_failed();
                return Ok(());
            }
        };
        let now = self.scheduler.now();
        for effect in effects {
            match effect {
                Effect::Send(ConnectionId(0), arrival) => self.made(arrival)?,
                Effect::Send(connection, arrival) => self.send(connection, Direction::ToClient, arrival),
                Effect::Departs(lane, bytes) => {
                    let time = now + self.random.between(10, 5 * MS);
                    self.scheduler.at(time, Event::Departs(self.broker.life, lane, bytes));
                }
                Effect::Answers(connection, bytes) => {
                    let time = now + self.random.between(10, 5 * MS);
                    self.scheduler.at(time, Event::Answers(self.broker.life, connection, bytes));
                }
            }
        }
        Ok(())
    }

    /// The answer to one of the requests that no client made: the topic is there, or the group.
    fn made(&mut self, arrival: Arrival) -> Result<(), Defect> {
        let Arrival::Bytes(_, mut bytes) = arrival else { return Ok(()) };
        let frame = take_frame(&mut bytes, CONTROL_FRAME_BYTES_MAX).ok().flatten();
        let is_made = |frame: &RawFrame| [FrameKind::TopicInfo, FrameKind::Done].contains(&frame.kind);
        let frame = frame.filter(is_made).ok_or("the topic or the group was refused")?;
        if frame.kind == FrameKind::Done {
            self.has_group = true;
            return Ok(());
        }
        self.topic = TopicInfo::from_frame(&frame).map_err(|error| error.to_string())?.id;
        Ok(())
    }

    fn send(&mut self, connection: ConnectionId, direction: Direction, arrival: Arrival) {
        let now = self.scheduler.now();
        for transit in self.network.send(now, (connection, direction), arrival) {
            self.scheduler.at(transit.time, Event::Arrives(transit));
        }
    }
}
