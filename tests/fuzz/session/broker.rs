//! A node with its connections, over storage that does what it is told; and what must hold of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use weir_broker::core::coordinator::TopicLimits;
use weir_broker::core::dedup::{Dedup, OlderKeys};
use weir_broker::core::event::{Flushed, FlushedPartition, SnapshotMade};
use weir_broker::core::ingest::IngestLimits;
use weir_broker::core::ledger::{Budget, Pool};
use weir_broker::core::session::{Heard, Identity, Session, SessionActions};
use weir_broker::core::subscription::DeliveryLimits;
use weir_broker::core::{
    Actions, ColdAnswer, ColdRead, ConnectionId, Event, LaneId, Node, NodeLimits, Now, Outgoing, StreamId,
    Ticket, ToWrite,
};
use weir_broker::pool::BufferPool;
use weir_protocol::ErrorCode;
use weir_protocol::message::ServerLimits;
use weir_protocol::units::{Incarnation, PartitionKey, ProducerId, Sequence, Timestamp, TopicId};
use weir_storage::dedup::{KeyDigest, KeySeed, RECENT_KEY_BYTES, Recent, entries, versions};
use weir_storage::frame::Frame;
use weir_storage::state::NodeState;
use weir_storage::store::KeyFigures;

use super::peer::Peer;
use super::stored::{Stored, answer};

/// Connections there may be.
pub(super) const PEERS: usize = 3;

/// Streams of each.
pub(super) const STREAMS: usize = 5;

/// Longest batch.
const BATCH_BYTES_MAX: u32 = 8 << 10;

const INGEST: IngestLimits = IngestLimits {
    window_bytes_min: (BATCH_BYTES_MAX as u64) + (16 << 10),
    window_bytes_max: 32 << 10,
    turn_bytes: 8 << 10,
};

const MEMORY: Budget = Budget {
    ingest: 48 << 10,
    unflushed: 96 << 10,
    hot_cache: 512,
    delivery: 64 << 10,
    connections: 64 << 10,
    dedup: 0,
    groups: 16 << 10,
    control: 64 << 10,
};

const LIMITS: NodeLimits = NodeLimits {
    memory: MEMORY,
    ingest: INGEST,
    topics: TopicLimits {
        topics_max: 3,
        partitions_max: 64,
        batch_bytes_max: BATCH_BYTES_MAX,
        key_disk_bytes: 1 << 40,
    },
    delivery: DeliveryLimits {
        frame_bytes: 4 << 10,
        cold_bytes: 8 << 10,
        outbox_bytes: 16 << 10,
        cursors_per_lane_max: 2,
    },
};

/// Steps that bringing everything to its end may take.
const END_STEPS_MAX: usize = 10_000;

#[derive(Debug)]
pub(super) struct Broker {
    node: Node,
    actions: Actions,
    pool: BufferPool,
    peers: [Option<Peer>; PEERS],
    connections: u64,
    now: u64,
    /// Frames that were given to the journal and are not durable.
    journal: VecDeque<ToWrite>,
    stored: BTreeMap<PartitionKey, Stored>,
    topics: BTreeMap<String, TopicId>,
    sequences: BTreeMap<(ProducerId, PartitionKey), u64>,
    reads: VecDeque<ColdRead>,
    /// Idempotency keys of durable batches.
    keys: u64,
    snapshot: bool,
    full: bool,
    /// What happened at all.
    pub(super) reached: BTreeSet<(&'static str, u64)>,
}

/// Keys that are not in memory are forgotten.
#[derive(Debug)]
struct NoKeys;

impl OlderKeys for NoKeys {
    fn may_hold(&self, _digest: KeyDigest) -> bool {
        false
    }

    fn is_full(&self) -> bool {
        false
    }

    fn is_full_of_versions(&self) -> bool {
        false
    }

    fn figures(&self) -> KeyFigures {
        KeyFigures::default()
    }
}

const SEED: KeySeed = KeySeed::from_bytes([3; 16]);

fn dedup() -> Dedup {
    Dedup::new(SEED, Recent::new(100 * RECENT_KEY_BYTES), Box::new(NoKeys))
}

impl Broker {
    pub(super) fn new() -> Self {
        Self {
            node: Node::recovered(LIMITS, &NodeState::default(), |_| 0, dedup(), (Incarnation::new(1), 7)),
            actions: Actions::default(),
            pool: BufferPool::new(1 << 20),
            peers: [const { None }; PEERS],
            connections: 0,
            now: 0,
            journal: VecDeque::new(),
            stored: BTreeMap::new(),
            topics: BTreeMap::new(),
            sequences: BTreeMap::new(),
            reads: VecDeque::new(),
            keys: 0,
            snapshot: false,
            full: false,
            reached: BTreeSet::new(),
        }
    }

    /// The topic that has or last had this name.
    pub(super) fn topic(&self, name: &str) -> TopicId {
        self.topics.get(name).copied().unwrap_or_default()
    }

    pub(super) fn next_sequence(&self, producer: ProducerId, partition: PartitionKey) -> Sequence {
        Sequence::new(self.sequences.get(&(producer, partition)).copied().unwrap_or(0))
    }

    pub(super) fn connect(&mut self, who: usize) {
        self.disconnect(who);
        self.connections += 1;
        let id = ConnectionId(self.connections);
        let limits = ServerLimits {
            frame_bytes_max: BATCH_BYTES_MAX + (16 << 10),
            batch_bytes_max: BATCH_BYTES_MAX,
            record_bytes_max: 4 << 10,
            unacked_batches_max: 64,
            lanes_max: 4,
            streams_max: 5,
        };
        let identity = Identity { incarnation: Incarnation::new(1), node: [7; 16], limits };
        let shared = (self.pool.clone(), self.node.answers().clone());
        self.peers[who] = Some(Peer::new(id, Session::new(id, identity, shared)));
    }

    pub(super) fn disconnect(&mut self, who: usize) {
        let Some(mut peer) = self.peers[who].take() else { return };
        let mut actions = SessionActions::default();
        peer.session.disconnected(&mut actions);
        self.handle(actions.events);
    }

    pub(super) fn end_stream(&mut self, who: usize, stream: usize) {
        let Some(peer) = &mut self.peers[who] else { return };
        let mut actions = SessionActions::default();
        peer.end(stream, &mut actions);
        self.handle(actions.events);
    }

    /// Bytes arrive on a stream, unless there is no memory for what they would be.
    pub(super) fn say(&mut self, who: usize, stream: usize, bytes: &[u8]) {
        let over = self.node.is_over();
        let Some(peer) = &mut self.peers[who] else { return };
        let stream = peer.stream(stream);
        if over && peer.session.needs_memory(stream) {
            self.reached.insert(("over", 0));
            return;
        }
        let mut actions = SessionActions::default();
        let heard = peer.session.receive(stream, Bytes::copy_from_slice(bytes), &mut actions);
        for event in &actions.events {
            peer.observe(event);
        }
        self.handle(actions.events);
        if let Ok(Heard::NoRoom(_) | Heard::Owed(_)) = heard {
            // It would be heard later; here the peer is lost first.
            self.reached.insert(("over", 1));
            self.disconnect(who);
        } else if let Err(violation) = heard {
            assert_ne!(
                violation.code,
                ErrorCode::Internal,
                "a peer's fault is not the broker's: {violation:?}"
            );
            self.reached.insert(("violation", u64::from(violation.code.number())));
            self.disconnect(who);
        }
    }

    fn handle(&mut self, events: Vec<Event>) {
        self.now += 1;
        let wall = Timestamp::from_micros(i64::try_from(self.now).expect("inputs are short"));
        for event in events {
            self.node.handle(Now { monotonic_us: self.now, wall }, event, &mut self.actions);
        }
        self.node.settle(&mut self.actions);
        self.dispatch();
    }

    fn dispatch(&mut self) {
        for write in self.actions.journal.drain(..) {
            match &write.frame {
                Frame::Topic(definition) => drop(self.topics.insert(definition.name.clone(), definition.id)),
                Frame::Append { partition, batch, .. } => {
                    let header = batch.producer.header();
                    let next = header.sequence.get() + 1;
                    self.sequences.insert((header.producer, *partition), next);
                }
                Frame::TopicDeleted(_)
                | Frame::Trim { .. }
                | Frame::Skipped(_)
                | Frame::Group(_)
                | Frame::GroupDeleted { .. }
                | Frame::Settled(_)
                | Frame::Claim(_)
                | Frame::Failed(_)
                | Frame::DeadLetters(_)
                | Frame::Forwarded(_) => {}
            }
            self.journal.push_back(write);
        }
        self.reads.extend(self.actions.cold_reads.drain(..));
        if self.actions.snapshot.take().is_some() {
            assert!(!self.snapshot, "two snapshots are made at once");
            self.snapshot = true;
        }
        for code in self.actions.rejections.drain(..) {
            self.reached.insert(("rejected", u64::from(code.number())));
        }
        let mut closed = Vec::new();
        for outgoing in std::mem::take(&mut self.actions.outgoing) {
            let (connection, lane) = match &outgoing {
                Outgoing::Frames(lane, _)
                | Outgoing::Delivery(lane, _)
                | Outgoing::Grant(lane, _)
                | Outgoing::Finish(lane) => (lane.connection, Some(*lane)),
                Outgoing::Close(connection, code, _) => {
                    self.reached.insert(("closed", u64::from(code.number())));
                    closed.push(*connection);
                    (*connection, None)
                }
            };
            let peer = self.peers.iter_mut().flatten().find(|peer| peer.id == connection);
            if let (Some(peer), Some(lane)) = (peer, lane) {
                peer.hear(lane, outgoing, &mut self.reached);
            }
        }
        for who in 0..PEERS {
            if self.peers[who].as_ref().is_some_and(|peer| closed.contains(&peer.id)) {
                self.disconnect(who);
            }
        }
    }

    /// The operating system has some more frames.
    pub(super) fn write(&mut self, count: usize) {
        if let Some(last) = self.journal.get(count).or_else(|| self.journal.back()) {
            let through = last.ticket;
            self.handle(vec![Event::Written(through)]);
        }
    }

    /// Some more frames are durable, or all of them.
    pub(super) fn sync(&mut self, count: usize) {
        let count = if count == 7 { usize::MAX } else { count }.min(self.journal.len());
        let mut through = Ticket(0);
        for ToWrite { ticket, frame, .. } in self.journal.drain(..count) {
            through = ticket;
            match frame {
                Frame::Append { partition, batch, .. } => {
                    self.keys += entries(&SEED, partition.topic, &batch).count() as u64;
                    self.keys += versions(&SEED, partition, &batch).count() as u64;
                    self.stored.entry(partition).or_default().append(batch);
                }
                Frame::Trim { partition, log_start } => {
                    self.stored.entry(partition).or_default().trim(log_start);
                }
                Frame::TopicDeleted(topic) => self.stored.retain(|key, _| key.topic != topic),
                Frame::Topic(_)
                | Frame::Skipped(_)
                | Frame::Group(_)
                | Frame::GroupDeleted { .. }
                | Frame::Settled(_)
                | Frame::Claim(_)
                | Frame::Failed(_)
                | Frame::DeadLetters(_)
                | Frame::Forwarded(_) => {}
            }
        }
        if through > Ticket(0) {
            self.handle(vec![Event::Durable(through)]);
        }
    }

    /// All that is durable goes to segments.
    pub(super) fn flush(&mut self) {
        let flushed = |(key, stored): (&PartitionKey, &mut Stored)| {
            let (flushed_end, log_start, bytes) = stored.flush();
            FlushedPartition { key: *key, flushed_end, log_start, bytes }
        };
        let partitions = self.stored.iter_mut().map(flushed).collect();
        self.handle(vec![Event::Flushed(Flushed { partitions, keys: self.keys })]);
    }

    /// Some reads of segments come to their end, in a way.
    pub(super) fn answer_reads(&mut self, count: usize, how: u8) {
        for _ in 0..=count {
            let Some(read) = self.reads.pop_front() else { return };
            let result = answer(self.stored.get(&read.key), &read, how);
            self.handle(vec![Event::ColdAnswer(ColdAnswer { read, result })]);
        }
    }

    /// What remains: bytes leave, the disk fills or has room again, a snapshot ends, the broker is to stop.
    pub(super) fn other(&mut self, choice: u8) {
        match choice % 4 {
            0 => self.let_leave(),
            1 => {
                self.full = !self.full;
                self.handle(vec![Event::StorageFull(self.full)]);
            }
            2 => self.end_snapshot(choice > 128),
            _ if choice == 255 => self.node.drain(),
            _ => {}
        }
    }

    fn let_leave(&mut self) {
        for peer in self.peers.iter_mut().flatten() {
            self.node.answers().left(peer.id, peer.take_answers());
        }
        let left: Vec<(LaneId, u64)> = self.peers.iter_mut().flatten().flat_map(Peer::let_leave).collect();
        self.handle(left.into_iter().map(|(lane, bytes)| Event::Sent(lane, bytes)).collect());
    }

    fn end_snapshot(&mut self, made: bool) {
        if std::mem::take(&mut self.snapshot) {
            let made = if made {
                Ok(SnapshotMade { directory: "snapshots/x".to_owned(), segments: 1, bytes: 1 })
            } else {
                Err((ErrorCode::StorageFull, "no room".to_owned()))
            };
            self.handle(vec![Event::SnapshotEnded(made)]);
        }
    }

    /// What must hold at every moment.
    pub(super) fn check_bounds(&self) {
        let figures = self.node.figures();
        let smallest = (PEERS * STREAMS) as u64 * INGEST.window_bytes_min;
        assert!(figures.granted_bytes <= MEMORY.ingest + smallest, "too much is granted: {figures:?}");
        assert!(figures.held_bytes <= MEMORY.ingest, "too much is held: {figures:?}");
        let mut reads: BTreeMap<LaneId, usize> = BTreeMap::new();
        self.reads.iter().for_each(|read| *reads.entry(read.lane).or_default() += 1);
        let control = |lane: &LaneId| lane.stream == stream_id(0);
        for (lane, count) in reads.iter().filter(|(lane, _)| !control(lane)) {
            assert!(*count <= LIMITS.delivery.cursors_per_lane_max, "{count} reads wait for {lane:?}");
        }
        assert!(figures.topics <= LIMITS.topics.topics_max as u64, "too many topics");
        assert!(figures.partitions <= LIMITS.topics.partitions_max, "too many partitions");
    }

    /// Everything comes to its end: what was asked is answered, and what was taken is given back.
    pub(super) fn finish(&mut self) {
        self.handle(vec![Event::StorageFull(false)]);
        for step in 0.. {
            assert!(
                step < END_STEPS_MAX,
                "it never ends: {} reads, {} frames",
                self.reads.len(),
                self.journal.len()
            );
            let busy = !self.journal.is_empty() || !self.reads.is_empty() || self.snapshot;
            let leaving = self.peers.iter().flatten().any(Peer::is_sending);
            if !busy && !leaving {
                break;
            }
            self.sync(7);
            self.flush();
            self.answer_reads(100, 0);
            self.end_snapshot(true);
            self.let_leave();
        }
        for peer in self.peers.iter().flatten() {
            peer.check_answered();
            let held = self.node.answers().held(peer.id) - peer.session.promised();
            assert_eq!(held, 0, "memory for answers is kept although nothing is owed");
        }
        (0..PEERS).for_each(|who| self.disconnect(who));
        self.sync(7);
        self.flush();
        let figures = self.node.figures();
        assert!(self.node.is_quiet(), "something still waits for the journal");
        let left = [
            figures.granted_bytes,
            figures.held_bytes,
            figures.unflushed_bytes,
            figures.waiting_lanes,
            figures.subscription_lanes,
        ];
        assert_eq!(left, [0; 5], "everything was given back: {figures:?}");
        let taken = Pool::ALL.into_iter().zip(figures.taken_bytes);
        let kept = taken.filter(|(pool, bytes)| *bytes > 0 && *pool != Pool::HotCache).count();
        assert_eq!(kept, 0, "memory is given back: {figures:?}");
        let held: u64 = self.stored.values().map(|stored| stored.end().get()).sum();
        self.reached.insert(("records", held.min(4)));
    }
}

/// The stream of a slot.
pub(super) const fn stream_id(number: u64) -> StreamId {
    StreamId(number * 4)
}
