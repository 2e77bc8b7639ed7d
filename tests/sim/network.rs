//! The network: reliable ordered streams, as QUIC gives them, over connections that stall, break, or break on one side only.
//!
//! Packets may be lost, doubled or overtake each other; of that, QUIC lets through that bytes come late: what was lost
//! is sent again, and what lies behind it on its stream waits, while other streams go on. Within a stream bytes keep
//! their order, cut anywhere; between streams nothing is promised. What was on its way when a connection broke may arrive
//! or not, as a prefix of each stream.

use std::collections::BTreeMap;

use bytes::Bytes;
use harness::Random;
use weir_broker::core::{ConnectionId, StreamId};

use crate::scheduler::{MS, SECOND};

/// A direction of a stream.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Direction {
    ToBroker,
    ToClient,
}

/// What arrives at an end of a connection.
#[derive(Clone, Debug)]
pub(crate) enum Arrival {
    /// Bytes of a stream.
    Bytes(StreamId, Bytes),
    /// Nothing more comes on a stream.
    End(StreamId),
    /// The connection is gone.
    Lost,
}

/// An arrival on its way: when, where.
#[derive(Debug)]
pub(crate) struct Transit {
    pub(crate) time: u64,
    pub(crate) connection: ConnectionId,
    pub(crate) direction: Direction,
    pub(crate) arrival: Arrival,
}

#[derive(Debug)]
struct Connection {
    client: usize,
    /// When the client has it: what the broker says before waits for that.
    known_from: u64,
    /// When the last piece of each stream arrives: nothing of it comes earlier.
    last: BTreeMap<(StreamId, Direction), u64>,
    /// Whether what is under way in a direction still arrives.
    open: [bool; 2],
    /// No new bytes get through.
    broken: bool,
    /// Whether each end knows that it is gone.
    ended: [bool; 2],
}

/// All connections.
#[derive(Debug)]
pub(crate) struct Network {
    random: Random,
    connections: BTreeMap<ConnectionId, Connection>,
    next: u64,
    /// Longest ordinary delay.
    pub(crate) delay_max: u64,
    /// How many of a hundred pieces are lost, and sent again later.
    pub(crate) loss_percent: u64,
    /// Until when each direction of a client stands still.
    stalled_until: BTreeMap<(usize, Direction), u64>,
}

impl Network {
    pub(crate) const fn new(random: Random) -> Self {
        let connections = BTreeMap::new();
        let stalled_until = BTreeMap::new();
        Self { random, connections, next: 1, delay_max: 2 * MS, loss_percent: 0, stalled_until }
    }

    /// Makes a connection of a client, which has it from a moment on.
    pub(crate) fn connect(&mut self, client: usize, known_from: u64) -> ConnectionId {
        let id = ConnectionId(self.next);
        self.next += 1;
        let (last, open, ended) = (BTreeMap::new(), [true; 2], [false; 2]);
        let connection = Connection { client, known_from, last, open, broken: false, ended };
        self.connections.insert(id, connection);
        id
    }

    pub(crate) fn client_of(&self, connection: ConnectionId) -> Option<usize> {
        self.connections.get(&connection).map(|connection| connection.client)
    }

    /// The connections that work.
    pub(crate) fn working(&self) -> Vec<ConnectionId> {
        let working = self.connections.iter().filter(|(_, connection)| !connection.broken);
        working.map(|(id, _)| *id).collect()
    }

    /// Lets a direction of a client stand still until a moment.
    pub(crate) fn stall(&mut self, of: (usize, Direction), until: u64) {
        let stalled = self.stalled_until.entry(of).or_default();
        *stalled = until.max(*stalled);
    }

    /// Whether a direction of the client stands still.
    pub(crate) fn is_stalled(&self, client: usize, now: u64) -> bool {
        self.stalled_until.iter().any(|((of, _), until)| *of == client && *until > now)
    }

    /// Nothing stands still any more, nothing is slow, nothing is lost.
    pub(crate) fn heal(&mut self) {
        self.stalled_until.clear();
        self.delay_max = 2 * MS;
        self.loss_percent = 0;
    }

    /// Sends something on a stream, cut into up to three pieces.
    pub(crate) fn send(
        &mut self,
        now: u64,
        (id, direction): (ConnectionId, Direction),
        arrival: Arrival,
    ) -> Vec<Transit> {
        let mut transits = Vec::new();
        let Some(connection) = self.connections.get_mut(&id).filter(|connection| !connection.broken) else {
            return transits;
        };
        let stalled = self.stalled_until.get(&(connection.client, direction)).copied().unwrap_or(0);
        let (stream, mut rest) = match &arrival {
            Arrival::Bytes(stream, bytes) => (*stream, bytes.clone()),
            Arrival::End(stream) => (*stream, Bytes::new()),
            Arrival::Lost => return transits,
        };
        let mut last = connection.last.get(&(stream, direction)).copied().unwrap_or(0);
        if direction == Direction::ToClient {
            last = last.max(connection.known_from + 1);
        }
        let mut moment = |random: &mut Random| {
            let delay = if random.percent(90) { self.delay_max / 10 } else { self.delay_max };
            let again =
                if random.percent(self.loss_percent) { random.between(50 * MS, 2 * SECOND) } else { 0 };
            last = last.max(now.max(stalled) + again + random.between(50, delay.max(51)));
            last
        };
        while rest.len() > 1 && self.random.percent(15) && transits.len() < 2 {
            let length = usize::try_from(self.random.between(1, rest.len() as u64 - 1)).unwrap_or(1);
            let piece = Arrival::Bytes(stream, rest.split_to(length));
            transits.push(Transit {
                time: moment(&mut self.random),
                connection: id,
                direction,
                arrival: piece,
            });
        }
        let arrival = if rest.is_empty() { arrival } else { Arrival::Bytes(stream, rest) };
        transits.push(Transit { time: moment(&mut self.random), connection: id, direction, arrival });
        connection.last.insert((stream, direction), last);
        transits
    }

    /// Whether what was under way still gets to its end.
    pub(crate) fn arrives(&self, id: ConnectionId, direction: Direction) -> bool {
        self.connections.get(&id).is_some_and(|connection| connection.open[direction as usize])
    }

    /// An end knows that a connection is gone: nothing comes to it any more.
    pub(crate) fn end(&mut self, id: ConnectionId, at: Direction) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.broken = true;
            connection.open[at as usize] = false;
            connection.ended[at as usize] = true;
            if connection.ended == [true; 2] {
                self.connections.remove(&id);
            }
        }
    }

    /// Breaks a connection. Each end learns of it some time later: at once, after seconds of silence, or, where it is
    /// half open, after the idle time-out.
    pub(crate) fn lose(&mut self, now: u64, id: ConnectionId, half_open: bool) -> Vec<Transit> {
        let Some(connection) = self.connections.get_mut(&id).filter(|connection| !connection.broken) else {
            return Vec::new();
        };
        connection.broken = true;
        let mut ends = [Direction::ToBroker, Direction::ToClient];
        if self.random.percent(50) {
            ends.reverse();
        }
        let waits = if half_open { [10 * MS, 30 * SECOND] } else { [2 * MS, 3 * SECOND] };
        ends.into_iter()
            .zip(waits)
            .map(|(direction, most)| {
                // What still arrives does so within a second; a client hears nothing for longer than it waits.
                let most = if direction == Direction::ToClient { most.min(3 * SECOND) } else { most };
                let time = now + self.random.between(MS, most);
                Transit { time, connection: id, direction, arrival: Arrival::Lost }
            })
            .collect()
    }

    /// What is under way on a broken connection is dropped in one direction or both.
    pub(crate) fn drop_transit(&mut self, id: ConnectionId) {
        let keep = [self.random.percent(50), self.random.percent(50)];
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.open[0] &= keep[0];
            connection.open[1] &= keep[1];
        }
    }
}
