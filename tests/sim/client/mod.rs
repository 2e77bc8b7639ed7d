//! A client's process: the machines of the real client, driven as its tasks drive them.

mod hearing;
mod member;
mod pauses;
mod publishing;
mod reading;
mod topics;

use std::collections::BTreeMap;

use harness::Random;
use harness::check::{Event, Level};
use weir_broker::core::deframe::Deframer;
use weir_broker::core::{ConnectionId, StreamId};
use weir_broker::pool::BufferPool;
use weir_client::Retry;
use weir_client::core::link::{Cause, Link, Next};
use weir_client::core::requests::Requests;
use weir_client::core::time::Mono;
use weir_protocol::limits::FRAME_BYTES_MAX;
use weir_protocol::message::{Hello, Message, PROTOCOL_VERSION, ServerLimits};
use weir_protocol::units::{Epoch, ProducerId, Timestamp, TopicId};

use crate::coverage::Coverage;
use crate::network::Arrival;
use crate::scheduler::SECOND;
pub(crate) use harness::payload::value_of;
pub(crate) use member::{GROUP, GROUP_NAME, MemberPlan};
pub(crate) use publishing::PublishPlan;
use publishing::{Outbox, Publishing};
pub(crate) use reading::{ReadPlan, Reading};
use topics::Topics;

/// A broker that has not greeted by then is given up.
const GREETING_WITHIN: u64 = 5 * SECOND;

/// What a client does.
#[derive(Clone, Debug)]
pub(crate) enum Work {
    /// Publishes.
    Publish(PublishPlan),
    /// Reads.
    Read(ReadPlan),
    /// Reads as a member of the group.
    Join(MemberPlan),
    /// Makes, changes and deletes topics beside.
    Topics,
}

/// What a client is told of the world, and what it does to it.
pub(crate) struct Context<'a> {
    pub(crate) now: u64,
    /// The client's number.
    pub(crate) client: usize,
    pub(crate) wall: Timestamp,
    /// Since when nothing has gone wrong any more.
    pub(crate) healed_at: u64,
    pub(crate) topic: TopicId,
    pub(crate) partitions: u32,
    /// Longest record.
    pub(crate) record_bytes: u64,
    pub(crate) history: &'a mut Vec<Event>,
    pub(crate) coverage: &'a mut Coverage,
    /// Numbers that are never used twice: values, and names of clients and readers.
    pub(crate) next_number: &'a mut u64,
    /// Records that producers may still send, all of them together.
    pub(crate) records_left: &'a mut u64,
    /// Producers that the broker made, and their epochs.
    pub(crate) identities: &'a mut BTreeMap<ProducerId, Epoch>,
    pub(crate) outputs: Vec<Output>,
    /// Something that must not happen.
    pub(crate) defect: Option<String>,
    /// When it wants to be woken.
    pub(crate) wake_at: u64,
}

/// What a client wants done.
#[derive(Debug)]
pub(crate) enum Output {
    /// Make a connection.
    Connect,
    /// Send on a stream.
    Send(ConnectionId, Arrival),
    /// Close the connection.
    Close(ConnectionId),
}

impl Context<'_> {
    pub(crate) fn mono(&self) -> Mono {
        Mono::new(std::time::Duration::from_micros(self.now))
    }

    fn wake(&mut self, at: u64) {
        self.wake_at = self.wake_at.min(at.max(self.now + 1));
    }

    fn number(&mut self) -> u64 {
        *self.next_number += 1;
        *self.next_number
    }

    fn defect(&mut self, what: impl FnOnce() -> String) {
        self.defect.get_or_insert_with(what);
    }
}

/// Whom an answer on the control stream is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Ask {
    Identity,
    Topic,
}

#[derive(Debug)]
enum State {
    Idle,
    Connecting,
    Open(Peer),
}

/// The broker, as a connection shows it.
#[derive(Debug)]
struct Peer {
    id: ConnectionId,
    greeted: Option<ServerLimits>,
    deadline: u64,
    leaving: bool,
    next_stream: u64,
    streams: BTreeMap<StreamId, Deframer>,
    lanes: BTreeMap<StreamId, u32>,
}

impl Peer {
    fn open(&mut self, lane: u32) -> StreamId {
        let stream = StreamId(self.next_stream);
        self.next_stream += 4;
        self.lanes.insert(stream, lane);
        stream
    }

    /// A number for a lane that no other lane of the world has.
    const fn credit_of(&self, stream: StreamId) -> u64 {
        self.id.0 << 20 | stream.0
    }
}

#[derive(Debug)]
enum App {
    Publish(Box<Publishing>),
    Read(Box<Reading>),
    Topics(Topics),
}

/// A client.
#[derive(Debug)]
pub(crate) struct Client {
    work: Work,
    random: Random,
    link: Link,
    requests: Requests<Ask>,
    state: State,
    app: App,
    pool: BufferPool,
}

impl Client {
    pub(crate) fn new(work: Work, mut random: Random, context: &mut Context<'_>) -> Self {
        let app = match &work {
            Work::Publish(plan) => App::Publish(Box::new(Publishing::new(*plan, random.fork(), context))),
            Work::Read(plan) => App::Read(Box::new(Reading::new(*plan, random.fork(), context))),
            Work::Join(plan) => App::Read(Box::new(member::reading(*plan, random.fork(), context))),
            Work::Topics => App::Topics(Topics::new(random.fork())),
        };
        let link = Link::new(Retry::default(), None, random.next());
        let (requests, state) = (Requests::default(), State::Idle);
        Self { work, random, link, requests, state, app, pool: BufferPool::new(1 << 16) }
    }

    /// The process dies and another one takes its place.
    pub(crate) fn restart(&mut self, context: &mut Context<'_>) {
        if let State::Open(peer) = &self.state {
            context.outputs.push(Output::Close(peer.id));
        }
        let random = self.random.fork();
        match &mut self.app {
            App::Publish(app) => app.end(context),
            App::Read(app) => app.end(context),
            App::Topics(_) => {}
        }
        let outbox = match &mut self.app {
            App::Publish(app) => std::mem::take(&mut app.outbox),
            App::Read(_) | App::Topics(_) => Outbox::default(),
        };
        *self = Self::new(self.work.clone(), random, context);
        if let App::Publish(app) = &mut self.app {
            app.outbox = outbox.take_over();
        }
    }

    /// Goes on under the identity of another producer, who must not be heard any more.
    pub(crate) fn take_over(&mut self, context: &mut Context<'_>) {
        if let App::Publish(app) = &mut self.app {
            app.take_over(context);
        }
    }

    /// A connection was made, or not.
    pub(crate) fn connected(&mut self, id: Option<ConnectionId>, context: &mut Context<'_>) {
        if !matches!(self.state, State::Connecting) {
            context.outputs.extend(id.map(Output::Close));
            return;
        }
        let Some(id) = id else {
            self.state = State::Idle;
            self.link.failed(context.mono(), cause("no connection"));
            return;
        };
        let hello = Hello {
            version_min: PROTOCOL_VERSION,
            version_max: PROTOCOL_VERSION,
            features: 0,
            frame_bytes_max: FRAME_BYTES_MAX,
            client_name: "sim".to_owned(),
            client_version: String::new(),
        };
        context.outputs.push(Output::Send(id, Arrival::Bytes(StreamId(0), hello.to_frame())));
        self.state = State::Open(Peer {
            id,
            greeted: None,
            deadline: context.now + GREETING_WITHIN,
            leaving: false,
            next_stream: 4,
            streams: BTreeMap::new(),
            lanes: BTreeMap::new(),
        });
    }

    fn lost(&mut self, context: &mut Context<'_>) {
        let state = std::mem::replace(&mut self.state, State::Idle);
        if matches!(&state, State::Open(peer) if peer.greeted.is_some()) {
            self.link.lost(context.mono(), cause("lost"));
        } else {
            self.link.failed(context.mono(), cause("lost while greeting"));
        }
        for ask in self.requests.connection_lost() {
            self.unanswered(ask);
        }
        match &mut self.app {
            App::Publish(app) => app.lost(context),
            App::Read(app) => app.lost(context.now),
            App::Topics(_) => {}
        }
    }

    fn unanswered(&mut self, ask: Ask) {
        match (ask, &mut self.app) {
            (Ask::Identity, App::Publish(app)) => app.asked = false,
            (Ask::Topic, App::Topics(app)) => app.gave_up(),
            (_, _) => {}
        }
    }

    fn lane_ended(&mut self, lane: u32, context: &mut Context<'_>) {
        match &mut self.app {
            App::Publish(app) => app.lane_ended(lane, context),
            App::Read(app) => app.lane_ended(lane, context),
            App::Topics(_) => {}
        }
    }

    /// Does what can be done now, and says when to be woken.
    pub(crate) fn turn(&mut self, context: &mut Context<'_>) {
        if matches!(self.state, State::Idle) {
            match self.link.next(context.mono()) {
                Next::Connect => {
                    self.state = State::Connecting;
                    context.outputs.push(Output::Connect);
                }
                Next::Wait(until) => context.wake(micros(until)),
                Next::Stop => context.defect(|| "a link gave up for good".to_owned()),
            }
        }
        for (ask, _) in self.requests.expire(context.mono()) {
            self.unanswered(ask);
        }
        let mut peer = match &mut self.state {
            State::Open(peer) if peer.greeted.is_some() => Some(peer),
            State::Open(peer) if peer.deadline <= context.now => {
                context.outputs.push(Output::Close(peer.id));
                self.lost(context);
                context.wake(context.now + 1);
                return;
            }
            State::Open(peer) => {
                context.wake(peer.deadline);
                None
            }
            State::Idle | State::Connecting => None,
        };
        match &mut self.app {
            App::Publish(app) => app.turn(peer.as_deref_mut(), &mut self.requests, context),
            App::Read(app) => app.turn(peer.as_deref_mut(), context),
            App::Topics(app) => app.turn(&mut self.requests, context),
        }
        if let Some(peer) = peer {
            for frame in self.requests.unsent() {
                context.outputs.push(Output::Send(peer.id, Arrival::Bytes(StreamId(0), frame)));
            }
        }
        if let Some(deadline) = self.requests.next_deadline() {
            context.wake(micros(deadline));
        }
    }

    /// No new work from now on; what is under way is to end.
    pub(crate) fn calm(&mut self) {
        match &mut self.app {
            App::Publish(app) => app.calm(),
            App::Read(app) => app.calm(),
            App::Topics(app) => app.calm(),
        }
    }

    /// Whether nothing is under way.
    pub(crate) fn is_idle(&self) -> bool {
        match &self.app {
            App::Publish(app) => app.is_idle(),
            App::Read(app) => app.group.as_ref().is_none_or(|group| group.is_idle()),
            App::Topics(_) => self.requests.is_empty(),
        }
    }

    /// Whether it reads everything.
    pub(crate) fn reads(&self) -> bool {
        matches!(&self.app, App::Read(app) if app.group.is_none())
    }

    /// The reader's next offset in each partition.
    pub(crate) fn positions(&self) -> Vec<(u32, u64)> {
        match &self.app {
            App::Read(app) => app.positions(),
            App::Publish(_) | App::Topics(_) => Vec::new(),
        }
    }

    /// What a producer has not given back although nothing is under way.
    pub(crate) fn held(&self) -> u64 {
        match &self.app {
            App::Publish(app) => app.held(),
            App::Read(_) | App::Topics(_) => 0,
        }
    }
}

/// The time since the world began.
fn micros(time: Mono) -> u64 {
    u64::try_from(time.since(Mono::ZERO).as_micros()).unwrap_or(u64::MAX)
}

fn cause(text: &str) -> Cause {
    Cause { text: text.to_owned(), is_final: false, retry_after: std::time::Duration::ZERO }
}

/// As histories know it.
const fn level_of(durability: weir_protocol::units::Durability) -> Level {
    match durability {
        weir_protocol::units::Durability::Written => Level::Written,
        weir_protocol::units::Durability::Durable => Level::Durable,
    }
}
