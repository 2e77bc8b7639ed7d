//! A connection as the broker's tasks see it, with what its client was promised.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Bytes, BytesMut};
use weir_broker::core::session::{Session, SessionActions};
use weir_broker::core::{ConnectionId, Event, LaneId, Outgoing, StreamId};
use weir_protocol::frame::{FrameKind, take_frame};
use weir_protocol::limits::FRAME_BYTES_MAX;
use weir_protocol::message::{Failure, Message};
use weir_protocol::read::Reader;

use super::broker::{STREAMS, stream_id};

/// Requests of one connection that may wait for an answer, for the test's own sake.
type Owed = BTreeMap<u32, usize>;

#[derive(Debug)]
pub(super) struct Peer {
    pub(super) id: ConnectionId,
    pub(super) session: Session,
    slots: [Option<StreamId>; STREAMS],
    streams: u64,
    /// How many answers are due to each request number.
    owed: BTreeMap<StreamId, Owed>,
    /// Bytes of deliveries allowed and sent, by lane.
    credit: BTreeMap<StreamId, (u64, u64)>,
    /// Bytes of deliveries that have not left.
    leaving: Vec<(LaneId, u64)>,
    /// Bytes of answers that have not left.
    answers: u64,
}

impl Peer {
    pub(super) const fn new(id: ConnectionId, session: Session) -> Self {
        Self {
            id,
            session,
            slots: [None; STREAMS],
            streams: 0,
            owed: BTreeMap::new(),
            credit: BTreeMap::new(),
            leaving: Vec::new(),
            answers: 0,
        }
    }

    /// The stream in a slot, which is opened if there is none.
    pub(super) fn stream(&mut self, slot: usize) -> StreamId {
        *self.slots[slot].get_or_insert_with(|| {
            let stream = stream_id(self.streams);
            self.streams += 1;
            self.session.opened(stream);
            stream
        })
    }

    pub(super) fn end(&mut self, slot: usize, actions: &mut SessionActions) {
        if let Some(stream) = self.slots[slot].take() {
            self.session.ended(stream, actions);
            self.credit.remove(&stream);
            self.leaving.retain(|(lane, _)| lane.stream != stream);
        }
    }

    /// Takes note of what the client is owed, and of what it allows.
    pub(super) fn observe(&mut self, event: &Event) {
        match event {
            Event::Request(lane, request) => {
                *self.owed.entry(lane.stream).or_default().entry(request.number()).or_default() += 1;
            }
            Event::SubscribeOpened(lane, open) => {
                self.credit.insert(lane.stream, (open.limit_bytes, 0));
            }
            Event::Granted(lane, limit) => {
                if let Some((allowed, _)) = self.credit.get_mut(&lane.stream) {
                    *allowed = (*allowed).max(*limit);
                }
            }
            _ => {}
        }
    }

    /// Something is sent to the client.
    pub(super) fn hear(
        &mut self,
        lane: LaneId,
        outgoing: Outgoing,
        reached: &mut BTreeSet<(&'static str, u64)>,
    ) {
        match outgoing {
            Outgoing::Frames(_, pieces) => {
                self.answers += pieces.iter().map(|piece| piece.len() as u64).sum::<u64>();
                self.frames(lane, &pieces, reached);
            }
            Outgoing::Delivery(_, pieces) => {
                let bytes = pieces.iter().map(|piece| piece.len() as u64).sum();
                reached.insert(("delivered", 0));
                if let Some((allowed, sent)) = self.credit.get_mut(&lane.stream) {
                    *sent += bytes;
                    assert!(sent <= allowed, "{sent} bytes were sent where {allowed} are allowed");
                    self.leaving.push((lane, bytes));
                }
            }
            Outgoing::Grant(_, limit) => {
                let granted = self.session.grant(lane.stream, limit);
                reached.insert(("grant", u64::from(granted.is_some())));
            }
            Outgoing::Finish(_) | Outgoing::Close(..) => {}
        }
    }

    fn frames(&mut self, lane: LaneId, pieces: &[Bytes], reached: &mut BTreeSet<(&'static str, u64)>) {
        let whole: BytesMut = pieces.iter().flat_map(|piece| piece.iter().copied()).collect();
        let mut rest = whole.freeze();
        while !rest.is_empty() {
            let frame = take_frame(&mut rest, FRAME_BYTES_MAX).expect("the broker's frames are right");
            let frame = frame.expect("the broker's frames are whole");
            reached.insert(("said", u64::from(frame.kind.number())));
            if frame.kind == FrameKind::Failure {
                let failure = Failure::from_frame(&frame).expect("the broker's frames are right");
                reached.insert(("failed", u64::from(failure.code.number())));
            }
            let Some(owed) = self.owed.get_mut(&lane.stream) else { continue };
            let request = Reader::new(&frame.body).u32().expect("an answer begins with its request");
            let due = owed.get_mut(&request).filter(|due| **due > 0);
            *due.unwrap_or_else(|| panic!("nobody asked {request}: {:?}", frame.kind)) -= 1;
        }
    }

    pub(super) fn let_leave(&mut self) -> Vec<(LaneId, u64)> {
        std::mem::take(&mut self.leaving)
    }

    pub(super) const fn is_sending(&self) -> bool {
        !self.leaving.is_empty() || self.answers > 0
    }

    /// Takes the answers: their bytes.
    pub(super) const fn take_answers(&mut self) -> u64 {
        std::mem::replace(&mut self.answers, 0)
    }

    pub(super) fn check_answered(&self) {
        let open = |stream: &StreamId| self.slots.contains(&Some(*stream));
        for (stream, owed) in self.owed.iter().filter(|(stream, _)| open(stream)) {
            assert!(owed.values().all(|due| *due == 0), "requests on {stream:?} have no answer: {owed:?}");
        }
    }
}
