//! One connection: who may say what on which stream.
//!
//! The first stream is the control stream and begins with a greeting; nothing else is heard before that. Every other
//! stream is a lane whose first frame says what for.

mod said;

use std::collections::BTreeMap;

use bytes::Bytes;
use weir_protocol::error::DecodeError;
use weir_protocol::frame::{FRAME_HEADER_BYTES, FrameKind, RawFrame};
use weir_protocol::limits::{BATCH_FRAME_OVERHEAD_BYTES, REQUEST_FRAME_BYTES_MAX};
use weir_protocol::message::{
    Grant, GrantRecords, Hello, JoinGroup, Message, PROTOCOL_VERSION, Publish, PublishOpen, ServerLimits,
    SubscribeOpen, SubscribePartition, UnsubscribePartition, Welcome,
};
use weir_protocol::units::Incarnation;
use weir_protocol::{Credit, ErrorCode, Problem};

use crate::core::answers::{Answers, BATCH_BYTES, READER_BYTES, REQUEST_BYTES};
use crate::core::deframe::{Announced, Deframer, Found};
use crate::core::event::FromMember;
use crate::core::ingest;
use crate::core::ledger::Reservation;
use crate::core::{ConnectionId, Event, LaneId, StreamId};
use crate::pool::BufferPool;
use said::{from_member, request};

/// What a broker tells every client about itself.
#[derive(Clone, Debug)]
pub struct Identity {
    /// How often the data has been opened.
    pub incarnation: Incarnation,
    /// Identity of the data.
    pub node: [u8; 16],
    /// What connections are held to.
    pub limits: ServerLimits,
}

/// The peer broke the protocol: the connection ends.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Violation {
    /// Which rule.
    pub code: ErrorCode,
    /// The facts.
    pub detail: String,
}

/// What a session wants done.
#[derive(Debug, Default)]
pub struct SessionActions {
    /// For the node.
    pub events: Vec<Event>,
    /// Frames for the peer.
    pub frames: Vec<(StreamId, Bytes)>,
    /// Frames that came and change nothing.
    pub idle_frames: u32,
}

/// The state of one connection.
#[derive(Debug)]
pub struct Session {
    connection: ConnectionId,
    identity: Identity,
    pool: BufferPool,
    answers: Answers,
    greeted: bool,
    client_name: String,
    streams: BTreeMap<StreamId, Stream>,
}

#[derive(Debug)]
struct Stream {
    deframer: Deframer,
    role: Role,
    /// A batch that was announced and has no memory yet: nothing more is heard before it has.
    announced: Option<Announced>,
    /// The memory of the batch that is arriving.
    memory: Option<Reservation>,
    /// The memory for the answer to what is arriving.
    promised: u64,
}

/// How far the bytes that arrived were heard.
#[derive(Debug, Eq, PartialEq)]
#[must_use]
pub enum Heard {
    /// All of them.
    All,
    /// These wait for memory for a batch: they are to be heard again, before anything that comes later.
    NoRoom(Bytes),
    /// These wait until the client takes answers, or what was asked before is answered.
    Owed(Bytes),
}

#[derive(Clone, Copy, Debug)]
enum Role {
    /// The first stream, before the greeting.
    Greeting,
    /// The first stream.
    Control,
    /// A stream that has not said what it is for.
    New,
    /// Batches come, within this credit.
    Publish(Credit),
    /// Batches go, within these limits.
    Subscribe(Granted),
    /// A member of a group speaks.
    Member,
}

/// What a lane of a subscription may be sent in all.
#[derive(Clone, Copy, Debug)]
struct Granted {
    bytes: u64,
    /// `None` as long as records have no limit.
    records: Option<u64>,
}

impl Granted {
    /// Takes a grant. Says what happened; nothing if it changes nothing.
    fn raise(&mut self, lane: LaneId, frame: &RawFrame) -> Result<Option<Event>, DecodeError> {
        if frame.kind == FrameKind::Grant {
            let limit_bytes = Grant::from_frame(frame)?.limit_bytes;
            let raises = limit_bytes > self.bytes;
            self.bytes = self.bytes.max(limit_bytes);
            return Ok(raises.then_some(Event::Granted(lane, limit_bytes)));
        }
        let limit_records = GrantRecords::from_frame(frame)?.limit_records;
        let raises = self.records.is_none_or(|records| limit_records > records);
        self.records = self.records.max(Some(limit_records));
        Ok(raises.then_some(Event::GrantedRecords(lane, limit_records)))
    }
}

impl Session {
    /// A connection that has said nothing yet.
    pub fn new(connection: ConnectionId, identity: Identity, (pool, answers): (BufferPool, Answers)) -> Self {
        answers.open(connection);
        Self {
            connection,
            identity,
            pool,
            answers,
            greeted: false,
            client_name: String::new(),
            streams: BTreeMap::new(),
        }
    }

    /// Whether the greeting is done.
    pub const fn is_greeted(&self) -> bool {
        self.greeted
    }

    /// The name the client gave itself.
    pub fn client_name(&self) -> &str {
        &self.client_name
    }

    /// The peer opened a stream. The transport bounds how many there can be.
    pub fn opened(&mut self, stream: StreamId) {
        let role = if self.streams.is_empty() && !self.greeted { Role::Greeting } else { Role::New };
        let deframer = Deframer::default();
        let state = Stream { deframer, role, announced: None, memory: None, promised: 0 };
        self.streams.insert(stream, state);
    }

    /// A stream has ended, in whatever way.
    pub fn ended(&mut self, stream: StreamId, actions: &mut SessionActions) {
        let Some(ended) = self.streams.remove(&stream) else { return };
        self.answers.withdraw(self.connection, ended.promised);
        match ended.role {
            Role::Publish(_) | Role::Subscribe(_) | Role::Member => {
                actions.events.push(Event::LaneClosed(self.lane(stream)))
            }
            Role::Greeting | Role::Control | Role::New => {}
        }
    }

    /// The connection has ended: all its streams end with it.
    pub fn disconnected(&mut self, actions: &mut SessionActions) {
        let streams: Vec<StreamId> = self.streams.keys().copied().collect();
        for stream in streams {
            self.ended(stream, actions);
        }
        actions.events.push(Event::Disconnected(self.connection));
    }

    /// Whether a stream should not be read while there is no memory for batches: they come on it, and none is arriving.
    /// One that is arriving has its memory already.
    pub fn needs_memory(&self, stream: StreamId) -> bool {
        let state = self.streams.get(&stream);
        state.is_some_and(|state| matches!(state.role, Role::Publish(_)) && state.memory.is_none())
    }

    /// Whether batches come on a stream.
    pub fn is_publish_lane(&self, stream: StreamId) -> bool {
        self.streams.get(&stream).is_some_and(|stream| matches!(stream.role, Role::Publish(_)))
    }

    /// Whether a stream is in the middle of a frame, or has not said yet what it is for.
    pub fn is_midway(&self, stream: StreamId) -> bool {
        self.streams
            .get(&stream)
            .is_some_and(|stream| matches!(stream.role, Role::New) || !stream.deframer.is_between_frames())
    }

    /// Bytes promised for the answers to frames that are arriving.
    pub fn promised(&self) -> u64 {
        self.streams.values().map(|stream| stream.promised).sum()
    }

    /// The node lets a publish lane send more. Gives the frame that tells the peer.
    pub fn grant(&mut self, stream: StreamId, limit_bytes: u64) -> Option<Bytes> {
        let Role::Publish(credit) = &mut self.streams.get_mut(&stream)?.role else { return None };
        credit.grant(limit_bytes).then(|| Grant { limit_bytes }.to_frame())
    }

    /// Bytes have arrived on a stream.
    ///
    /// # Errors
    /// The rule that the peer broke: the connection must be closed.
    pub fn receive(
        &mut self,
        stream: StreamId,
        mut bytes: Bytes,
        actions: &mut SessionActions,
    ) -> Result<Heard, Violation> {
        loop {
            let Some(state) = self.streams.get_mut(&stream) else { return Ok(Heard::All) };
            if let Some(announced) = state.announced {
                let answer = answer_bytes(announced.kind);
                if state.promised == 0 && !self.answers.promise(self.connection, answer) {
                    return Ok(Heard::Owed(bytes));
                }
                state.promised = answer;
                if announced.kind == FrameKind::Publish {
                    state.memory = ingest::admit(self.answers.ledger(), announced.frame_bytes());
                    if state.memory.is_none() {
                        return Ok(Heard::NoRoom(bytes));
                    }
                }
                state.announced = None;
            }
            let max = state.role.frame_bytes_max(&self.identity.limits);
            let found =
                state.deframer.next(&mut bytes, max, &self.pool).map_err(|error| bad(stream, error))?;
            match found {
                Found::Nothing => return Ok(Heard::All),
                Found::Header(announced) => state.announced = state.role.admit(announced)?,
                Found::Frame(frame) => {
                    self.frame(stream, &frame, actions).map_err(|violation| match violation {
                        Bad::Decode(error) => bad(stream, error),
                        Bad::Rule(violation) => violation,
                    })?
                }
            }
        }
    }

    fn frame(&mut self, stream: StreamId, frame: &RawFrame, actions: &mut SessionActions) -> Result<(), Bad> {
        let lane = self.lane(stream);
        let Some(state) = self.streams.get_mut(&stream) else { return Ok(()) };
        // From here on the node answers for it.
        state.promised = 0;
        let event = match (state.role, frame.kind) {
            (Role::Greeting, FrameKind::Hello) => {
                let welcome = greet(&Hello::from_frame(frame)?, &self.identity)?;
                self.client_name = Hello::from_frame(frame)?.client_name;
                self.greeted = true;
                state.role = Role::Control;
                actions.frames.push((stream, welcome.to_frame()));
                Event::Greeted(self.connection, self.client_name.clone())
            }
            (Role::Greeting, _) => {
                return Err(rule(ErrorCode::GreetingExpected, "the first frame must be a greeting"));
            }
            (Role::New, _) if !self.greeted => {
                return Err(rule(ErrorCode::GreetingExpected, "a lane was opened before the greeting"));
            }
            (Role::New, FrameKind::PublishOpen) => {
                state.role = Role::Publish(Credit::default());
                Event::PublishOpened(lane, PublishOpen::from_frame(frame)?)
            }
            (Role::New, FrameKind::SubscribeOpen) => {
                let open = SubscribeOpen::from_frame(frame)?;
                state.role = Role::Subscribe(Granted { bytes: open.limit_bytes, records: None });
                Event::SubscribeOpened(lane, open)
            }
            (Role::New, FrameKind::JoinGroup) => {
                state.role = Role::Member;
                Event::Member(lane, FromMember::Join(JoinGroup::from_frame(frame)?))
            }
            (Role::Member, _) => Event::Member(lane, from_member(frame)?),
            (Role::Publish(_), FrameKind::Publish) => {
                let memory = state.memory.take();
                let publish = Publish::from_frame(frame).map_err(|error| {
                    rule(ErrorCode::BatchCorrupt, &format!("stream {}: {error}", stream.0))
                })?;
                let _taken = memory.map(Reservation::hand_over);
                let bytes = (FRAME_HEADER_BYTES + frame.body.len()) as u64;
                Event::Publish(lane, Box::new(publish), bytes)
            }
            (Role::Subscribe(_), FrameKind::SubscribePartition) => {
                Event::SubscribePartition(lane, SubscribePartition::from_frame(frame)?)
            }
            (Role::Subscribe(_), FrameKind::UnsubscribePartition) => {
                Event::UnsubscribePartition(lane, UnsubscribePartition::from_frame(frame)?)
            }
            (Role::Subscribe(mut granted), FrameKind::Grant | FrameKind::GrantRecords) => {
                let Some(event) = granted.raise(lane, frame)? else {
                    actions.idle_frames += 1;
                    return Ok(());
                };
                state.role = Role::Subscribe(granted);
                event
            }
            (Role::Control, _) => Event::Request(lane, request(frame)?),
            (role, kind) => {
                let detail = format!("a {kind:?} frame has no place on a {} stream", role.name());
                return Err(rule(ErrorCode::Protocol, &detail));
            }
        };
        actions.events.push(event);
        Ok(())
    }

    const fn lane(&self, stream: StreamId) -> LaneId {
        LaneId { connection: self.connection, stream }
    }
}

impl Role {
    const fn name(self) -> &'static str {
        match self {
            Self::Greeting => "greeting",
            Self::Control => "control",
            Self::New => "new",
            Self::Publish(_) => "publish",
            Self::Subscribe(_) => "subscribe",
            Self::Member => "member",
        }
    }

    const fn frame_bytes_max(self, limits: &ServerLimits) -> u32 {
        match self {
            Self::Greeting | Self::New | Self::Control | Self::Subscribe(_) | Self::Member => {
                REQUEST_FRAME_BYTES_MAX
            }
            Self::Publish(_) => limits.batch_bytes_max + BATCH_FRAME_OVERHEAD_BYTES,
        }
    }

    /// Decides on a frame by its header. Gives it back if memory is to be taken for its body or its answer.
    fn admit(&mut self, announced: Announced) -> Result<Option<Announced>, Violation> {
        let Self::Publish(credit) = self else {
            let is_answered = match self {
                Self::Control | Self::Member => true,
                Self::New => announced.kind == FrameKind::JoinGroup,
                Self::Subscribe(_) => announced.kind == FrameKind::SubscribePartition,
                Self::Greeting | Self::Publish(_) => false,
            };
            return Ok(is_answered.then_some(announced));
        };
        if announced.kind != FrameKind::Publish {
            let detail = format!("a {:?} frame has no place on a publish stream", announced.kind);
            return Err(Violation { code: ErrorCode::Protocol, detail });
        }
        credit
            .spend(announced.frame_bytes())
            .map_err(|error| Violation { code: ErrorCode::CreditExceeded, detail: error.to_string() })?;
        Ok(Some(announced))
    }
}

/// The shortest answer to a frame that has one.
#[expect(clippy::wildcard_enum_match_arm, reason = "all other frames with an answer are requests")]
const fn answer_bytes(kind: FrameKind) -> u64 {
    match kind {
        FrameKind::Publish => BATCH_BYTES,
        FrameKind::SubscribePartition => READER_BYTES,
        _ => REQUEST_BYTES,
    }
}

/// What is wrong with a frame.
enum Bad {
    Decode(DecodeError),
    Rule(Violation),
}

impl From<DecodeError> for Bad {
    fn from(error: DecodeError) -> Self {
        Self::Decode(error)
    }
}

fn rule(code: ErrorCode, detail: &str) -> Bad {
    Bad::Rule(Violation { code, detail: detail.to_owned() })
}

#[expect(clippy::wildcard_enum_match_arm, reason = "one problem has a code of its own")]
fn bad(stream: StreamId, error: DecodeError) -> Violation {
    let code = match error.problem {
        Problem::TooLarge { what: "frame length", .. } => ErrorCode::FrameTooLarge,
        _ => ErrorCode::Protocol,
    };
    Violation { code, detail: format!("stream {}: {error}", stream.0) }
}

/// Chooses the version and features both sides know.
fn greet(hello: &Hello, identity: &Identity) -> Result<Welcome, Bad> {
    let (least, most) = (hello.version_min, hello.version_max);
    if !(least..=most).contains(&PROTOCOL_VERSION) {
        let detail = format!("the client speaks {least} to {most}, the broker {PROTOCOL_VERSION}");
        return Err(rule(ErrorCode::UnsupportedVersion, &detail));
    }
    Ok(Welcome {
        version: PROTOCOL_VERSION,
        features: 0,
        incarnation: identity.incarnation,
        node: identity.node,
        limits: identity.limits,
        server_version: env!("CARGO_PKG_VERSION").to_owned(),
    })
}
