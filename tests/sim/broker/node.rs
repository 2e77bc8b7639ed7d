//! Sessions and node: what arrives goes in, what follows goes out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use harness::Random;
use weir_broker::core::answers::REQUEST_BYTES;
use weir_broker::core::dedup::{Dedup, flush_keys_of};
use weir_broker::core::event::{GroupRequest, Request};
use weir_broker::core::ledger::Pool;
use weir_broker::core::node::NodeFigures;
use weir_broker::core::session::{Heard, Identity, Session, SessionActions};
use weir_broker::core::{Actions, ConnectionId, Event, LaneId, Node, Now, Outgoing, StreamId};
use weir_broker::plan::ANSWERS_KEPT_BYTES;
use weir_broker::pool::BufferPool;
use weir_protocol::frame::take_frame;
use weir_protocol::limits::CONTROL_FRAME_BYTES_MAX;
use weir_protocol::message::{GoAway, GroupList, ListGroups, Message};
use weir_protocol::units::{PartitionKey, Timestamp};
use weir_protocol::{Cursor, ErrorCode};
use weir_storage::dedup::{RECENT_KEY_BYTES, Recent};
use weir_storage::disk::SimDisk;
use weir_storage::disk::sim::SimLock;
use weir_storage::state::PartitionState;
use weir_storage::store::Opened;

use super::keys::FlushedKeys;
use super::storage::{Storage, ToJournal, Trouble};
use super::{Part, Sizes};
use crate::coverage::{Coverage, Situation};
use crate::network::Arrival;
use crate::scheduler::MS;

/// What the process wants of the world.
#[derive(Debug)]
pub(crate) enum Effect {
    /// Bytes, or the end, of a stream.
    Send(ConnectionId, Arrival),
    /// Bytes of a delivery will have left the outbox some time soon.
    Departs(LaneId, u64),
    /// So many bytes of answers will have left some time soon.
    Answers(ConnectionId, u64),
}

/// A client, as its connection's tasks see it.
#[derive(Debug)]
struct Peer {
    session: Session,
    streams: BTreeSet<StreamId>,
    /// What came while there was no memory for it, or for its answer.
    unread: BTreeMap<StreamId, VecDeque<Arrival>>,
}

/// A running broker.
#[derive(Debug)]
pub(crate) struct Process {
    node: Node,
    actions: Actions,
    peers: BTreeMap<ConnectionId, Peer>,
    events: Vec<Event>,
    pool: BufferPool,
    identity: Identity,
    random: Random,
    pub(crate) storage: Storage,
    /// What the group had settled of each partition when the process began.
    pub(crate) cursors: BTreeMap<PartitionKey, Cursor>,
    /// Disk calls take so many times longer than usual.
    pub(crate) slowness: u64,
    /// Since when each part is to have its next turn, and the number of that turn.
    turns: [Option<(u64, u64)>; 4],
    next_turn: u64,
    _lock: SimLock,
}

impl Process {
    pub(crate) fn new(opened: Opened<SimDisk>, sizes: &Sizes, mut random: Random) -> Self {
        let bytes = |key| opened.reader.partition_bytes(key);
        let cursor = |(key, state): (&PartitionKey, &PartitionState)| {
            Some((*key, state.cursors.values().next()?.clone()))
        };
        let cursors = opened.state.partitions.iter().filter_map(cursor).collect();
        let recent = Recent::new(sizes.recent_keys * RECENT_KEY_BYTES);
        let dedup = Dedup::new(opened.key_seed, recent, Box::new(FlushedKeys(opened.reader.clone())));
        let flush_at = (sizes.flush_bytes, flush_keys_of(sizes.recent_keys));
        let seed = (opened.incarnation, random.next());
        let node = Node::recovered(sizes.node, &opened.state, bytes, dedup, seed);
        let identity = Identity {
            incarnation: opened.incarnation,
            node: opened.node.into_bytes(),
            limits: sizes.server,
        };
        Self {
            node,
            actions: Actions::default(),
            peers: BTreeMap::new(),
            events: Vec::new(),
            pool: BufferPool::new(1 << 20),
            identity,
            random,
            storage: Storage::new(opened.journal, opened.flusher, opened.reader, flush_at),
            cursors,
            slowness: 1,
            turns: [None; 4],
            next_turn: 0,
            _lock: opened.lock,
        }
    }

    /// A client has connected.
    pub(crate) fn accept(&mut self, connection: ConnectionId) {
        let shared = (self.pool.clone(), self.node.answers().clone());
        let session = Session::new(connection, self.identity.clone(), shared);
        self.peers.insert(connection, Peer { session, streams: BTreeSet::new(), unread: BTreeMap::new() });
    }

    /// Something arrives on a connection.
    pub(crate) fn arrived(
        &mut self,
        connection: ConnectionId,
        arrival: Arrival,
        coverage: &mut Coverage,
    ) -> Result<Vec<Effect>, Trouble> {
        let over = self.node.is_over();
        let Some(peer) = self.peers.get_mut(&connection) else { return Ok(Vec::new()) };
        let (Arrival::Bytes(stream, _) | Arrival::End(stream)) = &arrival else {
            let mut actions = SessionActions::default();
            peer.session.disconnected(&mut actions);
            self.events.append(&mut actions.events);
            self.peers.remove(&connection);
            return Ok(Vec::new());
        };
        let stream = *stream;
        if peer.streams.insert(stream) {
            peer.session.opened(stream);
        }
        let waits = peer.unread.get(&stream).is_some_and(|unread| !unread.is_empty());
        if waits || over && peer.session.needs_memory(stream) {
            coverage.saw(Situation::MemoryFull);
            peer.unread.entry(stream).or_default().push_back(arrival);
            return Ok(Vec::new());
        }
        self.hear(connection, arrival)
    }

    fn hear(&mut self, connection: ConnectionId, arrival: Arrival) -> Result<Vec<Effect>, Trouble> {
        let Some(peer) = self.peers.get_mut(&connection) else { return Ok(Vec::new()) };
        let mut actions = SessionActions::default();
        match arrival {
            Arrival::Bytes(stream, bytes) => {
                let heard = peer.session.receive(stream, bytes, &mut actions).map_err(|violation| {
                    Trouble::Defect(format!("the broker refuses what a client says: {violation:?}"))
                })?;
                if let Heard::NoRoom(rest) | Heard::Owed(rest) = heard {
                    let unread = peer.unread.entry(stream).or_default();
                    unread.push_front(Arrival::Bytes(stream, rest));
                }
            }
            Arrival::End(stream) => peer.session.ended(stream, &mut actions),
            Arrival::Lost => {}
        }
        self.events.append(&mut actions.events);
        let frame = |(stream, frame)| Effect::Send(connection, Arrival::Bytes(stream, frame));
        Ok(actions.frames.into_iter().map(frame).collect())
    }

    /// Bytes of a delivery have left.
    pub(crate) fn departed(&mut self, lane: LaneId, bytes: u64) {
        if self.peers.contains_key(&lane.connection) {
            self.events.push(Event::Sent(lane, bytes));
        }
    }

    /// Answers have left: their connection may be heard again.
    pub(crate) fn answered(&mut self, connection: ConnectionId, bytes: u64) -> Result<Vec<Effect>, Trouble> {
        let mut effects = Vec::new();
        if self.peers.contains_key(&connection) {
            self.node.answers().left(connection, bytes);
            self.read_on(&mut effects)?;
            self.check()?;
        }
        Ok(effects)
    }

    /// Bytes of answers that are owed to somebody.
    pub(crate) fn owed(&self) -> u64 {
        let owed =
            |(id, peer): (&ConnectionId, &Peer)| self.node.answers().held(*id) - peer.session.promised();
        self.peers.iter().map(owed).sum()
    }

    /// A request that comes from no client.
    pub(crate) fn request(&mut self, request: Request) {
        self.events.push(Event::Request(LaneId::default(), request));
    }

    /// The turns of parts that have to be planned now: when, which, and their numbers.
    pub(crate) fn plan(&mut self, now: u64) -> Vec<(u64, Part, u64)> {
        let mut planned = Vec::new();
        for part in Part::ALL {
            let storage = &self.storage;
            let due = match part {
                Part::Node if self.events.is_empty() && storage.done.is_empty() => {
                    self.node.due().map(|due| due.max(now))
                }
                Part::Node => Some(now),
                Part::Journal => storage.journal_due(now),
                Part::Flusher => Some(storage.flusher_due(now)),
                Part::Cold => (!storage.cold.is_empty() || !storage.probes.is_empty()).then_some(now),
            };
            let turn = self.turns.get_mut(part as usize);
            let (Some(due), Some(turn)) = (due, turn) else { continue };
            if turn.is_some_and(|(planned, _)| planned <= due) {
                continue;
            }
            let took = if part == Part::Node { 100 } else { MS * self.slowness };
            let time = due + self.random.between(10, took);
            self.next_turn += 1;
            *turn = Some((due, self.next_turn));
            planned.push((time, part, self.next_turn));
        }
        planned
    }

    /// Whether a turn is the one a part waits for; it does not any more then.
    pub(crate) fn begins(&mut self, part: Part, number: u64) -> bool {
        let turn = self.turns.get_mut(part as usize);
        turn.is_some_and(|turn| turn.take_if(|(_, planned)| *planned == number).is_some())
    }

    /// A part has its turn.
    pub(crate) fn turn(
        &mut self,
        part: Part,
        (now, wall): (u64, Timestamp),
        coverage: &mut Coverage,
    ) -> Result<Vec<Effect>, Trouble> {
        match part {
            Part::Node => return self.node_turn((now, wall), coverage),
            Part::Journal => self.storage.journal_step(now, coverage)?,
            Part::Flusher => self.storage.flusher_step(now, wall, coverage),
            Part::Cold => self.storage.cold_step(coverage),
        }
        Ok(Vec::new())
    }

    fn node_turn(
        &mut self,
        (now, wall): (u64, Timestamp),
        coverage: &mut Coverage,
    ) -> Result<Vec<Effect>, Trouble> {
        let now = Now { monotonic_us: now, wall };
        if self.node.due().is_some_and(|due| due <= now.monotonic_us) {
            self.node.handle(now, Event::TimePassed, &mut self.actions);
        }
        for event in self.storage.done.drain(..).chain(self.events.drain(..)) {
            self.node.handle(now, event, &mut self.actions);
        }
        self.node.settle(&mut self.actions);
        let writes = self.actions.journal.drain(..).map(|write| ToJournal::Write(Box::new(write)));
        self.storage.inbox.extend(writes);
        self.storage.cold.extend(self.actions.cold_reads.drain(..));
        self.storage.probes.extend(self.actions.key_probes.drain(..));
        for code in self.actions.rejections.drain(..) {
            if code == ErrorCode::StorageFull {
                coverage.saw(Situation::DiskFull);
            } else if code == ErrorCode::ProducerFenced {
                coverage.saw(Situation::Fence);
            }
        }
        let mut effects = Vec::new();
        for outgoing in std::mem::take(&mut self.actions.outgoing) {
            self.send(outgoing, &mut effects)?;
        }
        self.read_on(&mut effects)?;
        self.check()?;
        Ok(effects)
    }

    /// What holds after each turn, whatever clients did: no pool is exceeded (C2), and nobody is left unheard whose own memory for
    /// answers is free (C6).
    fn check(&self) -> Result<(), Trouble> {
        let ledger = self.node.ledger();
        let exceeded = Pool::ALL.into_iter().find(|pool| ledger.taken(*pool) > ledger.limit(*pool));
        if let Some(pool) = exceeded {
            return Err(Trouble::Defect(format!("the {} pool is exceeded", pool.name())));
        }
        for (connection, peer) in &self.peers {
            let is_request = |stream: &StreamId| !peer.session.is_publish_lane(*stream);
            let waits = peer.unread.iter().any(|(stream, unread)| is_request(stream) && !unread.is_empty());
            let held = self.node.answers().held(*connection);
            if waits && held + REQUEST_BYTES <= ANSWERS_KEPT_BYTES {
                let what = format!("{connection:?} is owed {held} bytes of answers and is not heard");
                return Err(Trouble::Defect(what));
            }
        }
        Ok(())
    }

    fn send(&mut self, outgoing: Outgoing, effects: &mut Vec<Effect>) -> Result<(), Trouble> {
        let mut bytes = |lane: LaneId, bytes| {
            effects.push(Effect::Send(lane.connection, Arrival::Bytes(lane.stream, bytes)));
        };
        match outgoing {
            Outgoing::Frames(lane, pieces) => {
                let pieces = Bytes::from(pieces.concat());
                let length = pieces.len() as u64;
                bytes(lane, pieces);
                effects.push(Effect::Answers(lane.connection, length));
            }
            Outgoing::Delivery(lane, pieces) => {
                let pieces = Bytes::from(pieces.concat());
                let length = pieces.len() as u64;
                bytes(lane, pieces);
                effects.push(Effect::Departs(lane, length));
            }
            Outgoing::Grant(lane, limit) => {
                let peer = self.peers.get_mut(&lane.connection);
                if let Some(frame) = peer.and_then(|peer| peer.session.grant(lane.stream, limit)) {
                    bytes(lane, frame);
                }
            }
            Outgoing::Finish(lane) => effects.push(Effect::Send(lane.connection, Arrival::End(lane.stream))),
            Outgoing::Close(_, code, detail) => {
                return Err(Trouble::Defect(format!(
                    "the broker closes on a proper client: {code:?} {detail}"
                )));
            }
        }
        Ok(())
    }

    /// Reads what waited for memory, as long as there is some.
    fn read_on(&mut self, effects: &mut Vec<Effect>) -> Result<(), Trouble> {
        let waiting = |(id, peer): (&ConnectionId, &Peer)| {
            let streams = peer.unread.iter().filter(|(_, unread)| !unread.is_empty());
            streams.map(|(stream, _)| (*id, *stream)).collect::<Vec<_>>()
        };
        for (connection, stream) in self.peers.iter().flat_map(waiting).collect::<Vec<_>>() {
            let peer = self.peers.get_mut(&connection);
            // What needs no memory for a batch goes on whatever waits for some.
            if self.node.is_over() && peer.as_ref().is_some_and(|peer| peer.session.needs_memory(stream)) {
                continue;
            }
            let mut unread = peer.and_then(|peer| peer.unread.remove(&stream)).unwrap_or_default();
            while let Some(arrival) = unread.pop_front() {
                effects.append(&mut self.hear(connection, arrival)?);
                let peer = self.peers.get_mut(&connection);
                if let Some(waiting) = peer.and_then(|peer| peer.unread.get_mut(&stream)) {
                    waiting.append(&mut unread);
                }
            }
        }
        Ok(())
    }

    /// Takes nothing new any more, and says so.
    pub(crate) fn go_away(&mut self) -> Vec<Effect> {
        self.node.drain();
        let frame = GoAway { code: ErrorCode::GoingAway, deadline_ms: 2000 }.to_frame();
        let tell = |id: &ConnectionId| Effect::Send(*id, Arrival::Bytes(StreamId(0), frame.clone()));
        self.peers.keys().map(tell).collect()
    }

    /// Writes everything out. Says whether the disk let it.
    pub(crate) fn close(
        mut self,
        now: u64,
        wall: Timestamp,
        coverage: &mut Coverage,
    ) -> Result<bool, Trouble> {
        for _ in 0..1000 {
            self.node_turn((now, wall), coverage)?;
            if self.storage.journal_due(now) != Some(now) {
                break;
            }
            match self.storage.journal_step(now, coverage) {
                Err(Trouble::Disk) => return Ok(false),
                other => other?,
            }
        }
        self.storage.flusher_step(now, wall, coverage);
        Ok(self.storage.flusher.close(wall).is_ok())
    }

    /// Ends all connections. Gives the figures after that.
    pub(crate) fn without_peers(
        &mut self,
        at: (u64, Timestamp),
        coverage: &mut Coverage,
    ) -> Result<NodeFigures, Trouble> {
        for connection in self.peers.keys().copied().collect::<Vec<_>>() {
            self.arrived(connection, Arrival::Lost, coverage)?;
        }
        self.node_turn(at, coverage)?;
        Ok(self.figures())
    }

    /// Figures of the node.
    pub(crate) fn figures(&self) -> NodeFigures {
        self.node.figures()
    }

    /// Records that the group has not settled.
    pub(crate) fn group_lag(&mut self, (now, wall): (u64, Timestamp)) -> Option<u64> {
        let list = ListGroups { request: 3, after_group: String::new(), after_topic: String::new() };
        let request = Request::Group(GroupRequest::List(list));
        let mut actions = Actions::default();
        let event = Event::Request(LaneId::default(), request);
        self.node.handle(Now { monotonic_us: now, wall }, event, &mut actions);
        let Some(Outgoing::Frames(_, pieces)) = actions.outgoing.pop() else { return None };
        let frame = take_frame(&mut Bytes::from(pieces.concat()), CONTROL_FRAME_BYTES_MAX).ok()??;
        Some(GroupList::from_frame(&frame).ok()?.groups.first()?.lag)
    }

    /// Whether the node owes nobody an answer.
    pub(crate) fn is_quiet(&self) -> bool {
        self.node.is_quiet() && self.events.is_empty() && self.storage.done.is_empty()
    }
}
