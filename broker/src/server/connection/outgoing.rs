//! What is said to a peer: what the node wants said, and what quotas make of it.

use bytes::Bytes;
use quinn::SendStream;
use weir_protocol::ErrorCode;
use weir_protocol::message::{Failure, GoAway, Message, Throttled};

use super::account::Held;
use super::outbox::{Kind, length};
use super::{GOING_AWAY_WITHIN, Peer};
use crate::core::quota;
use crate::core::session::Violation;
use crate::core::{Event, LaneId, Outgoing, StreamId};
use crate::server::node::ToNode;

impl Peer {
    /// Hands something from the node to the stream it is for. Returns what the node should know of it.
    pub(super) fn send(&self, outgoing: Outgoing) -> Option<Event> {
        match outgoing {
            Outgoing::Frames(lane, pieces) => match self.outboxes.borrow().get(&lane.stream) {
                Some(outbox) => outbox.add(pieces, Kind::Answer),
                None => self.owed.leave(length(&pieces)),
            },
            Outgoing::Delivery(lane, pieces) => {
                if let Some(outbox) = self.outboxes.borrow().get(&lane.stream) {
                    outbox.add(pieces, Kind::Delivery);
                }
            }
            Outgoing::Grant(lane, limit_bytes) => match self.account.hold(lane, limit_bytes) {
                Held::No => self.grant(lane, limit_bytes),
                Held::Still => {}
                Held::Since(wait) => {
                    self.context.metrics.throttled.increment();
                    let retry_after_ms = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX);
                    self.set_credit(lane.stream, Throttled { retry_after_ms }.to_frame());
                    return Some(Event::Throttled(lane, true));
                }
            },
            Outgoing::Finish(lane) => {
                if let Some(outbox) = self.outboxes.borrow().get(&lane.stream) {
                    outbox.finish();
                }
            }
            Outgoing::Close(_, code, detail) => self.violated(&Violation { code, detail }),
        }
        None
    }

    /// Ends a connection whose client has not greeted by now, or was refused and is still there.
    pub(super) fn expect_greeting(&self) {
        if !self.session.borrow().is_greeted() {
            self.close(ErrorCode::TimedOut, "no greeting came");
        } else if self.account.is_refused() {
            self.close(ErrorCode::Throttled, "the client has as many connections as it may");
        }
    }

    /// Lets publish lanes send more that waited for a quota. Returns what the node should know of it.
    pub(super) fn release(&self) -> Vec<ToNode> {
        let released = self.account.release().into_iter();
        let release = |(lane, limit_bytes)| {
            self.grant(lane, limit_bytes);
            ToNode::Event(Event::Throttled(lane, false))
        };
        released.map(release).collect()
    }

    /// Lets a publish lane send more.
    pub(super) fn grant(&self, lane: LaneId, limit_bytes: u64) {
        let frame = self.session.borrow_mut().grant(lane.stream, limit_bytes);
        if let Some(frame) = frame {
            self.set_credit(lane.stream, frame);
        }
    }

    /// The frame that tells a client of a quota.
    pub(super) fn failure(&self, throttled: &quota::Throttled) -> Bytes {
        self.context.metrics.throttled.increment();
        let quota::Throttled { retry_after_ms, detail } = throttled.clone();
        Failure { request: 0, code: ErrorCode::Throttled, retry_after_ms, detail }.to_frame()
    }

    /// Says something that the node knows nothing of: once in the life of a connection or stream.
    pub(super) fn say(&self, stream: StreamId, frame: Bytes) {
        if let Some(outbox) = self.outboxes.borrow().get(&stream) {
            outbox.add(vec![frame], Kind::Own);
        }
    }

    fn set_credit(&self, stream: StreamId, frame: Bytes) {
        if let Some(outbox) = self.outboxes.borrow().get(&stream) {
            outbox.set_credit(frame);
        }
    }

    pub(super) fn go_away(&self) {
        let deadline_ms = u32::try_from(GOING_AWAY_WITHIN.as_millis()).unwrap_or(u32::MAX);
        let frame = GoAway { code: ErrorCode::GoingAway, deadline_ms }.to_frame();
        self.say(StreamId(0), frame);
    }
}

/// Says on a stream why it cannot be used.
pub(super) async fn turn_away(mut send: SendStream, why: Bytes) {
    // A stream that the peer has stopped needs no reason.
    if send.write_chunk(why).await.is_ok() {
        let _stopped = send.finish();
    }
}
