//! What waits to be sent on the streams of a connection.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::core::ConnectionId;
use crate::core::answers::Answers;

/// Pieces given to the transport at a time.
const PIECES: usize = 64;

/// Pieces taken from the transport at a time on a stream that never had more waiting: most streams are idle, and all of
/// them together cost memory.
pub(super) const FIRST_PIECES: usize = 4;

/// Makes room for as many pieces as there may be, where all there was room for came.
pub(super) fn widen(pieces: &mut Vec<Bytes>, came: usize) {
    if came == pieces.len() {
        pieces.resize(PIECES, Bytes::new());
    }
}

/// The answers that a connection is owed.
#[derive(Debug)]
pub(super) struct Owed {
    connection: ConnectionId,
    answers: Answers,
    /// Some have left.
    left: Notify,
}

/// What waits to be sent on one stream.
#[derive(Debug)]
pub(super) struct Outbox {
    owed: Rc<Owed>,
    waiting: RefCell<Waiting>,
    /// Something was added.
    filled: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    frames: VecDeque<(Vec<Bytes>, Kind)>,
    /// The latest word about the credit of the peer: an earlier one that has not left says nothing more.
    credit: Option<Bytes>,
    finish: bool,
}

/// What memory a frame takes until it has left.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// That for answers.
    Answer,
    /// That for deliveries.
    Delivery,
    /// Some of the stream's or the connection's own: there is one of its sort at a time.
    Own,
}

/// What is being sent, in bytes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Taken {
    pub(super) answers: u64,
    pub(super) deliveries: u64,
}

/// Time after which a stream looks again whether it may be heard: what was asked before may have had no answer.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(100);

impl Owed {
    pub(super) fn new(connection: ConnectionId, answers: Answers) -> Self {
        Self { connection, answers, left: Notify::new() }
    }

    /// Waits until less is owed.
    pub(super) async fn less(&self) {
        // Either way it is looked at again.
        let _elapsed = timeout(LOOK_AGAIN_AFTER, self.left.notified()).await;
    }

    /// Answers have left, or there is nobody any more to whom they could go.
    pub(super) fn leave(&self, bytes: u64) {
        if bytes > 0 {
            self.answers.left(self.connection, bytes);
            self.left.notify_waiters();
        }
    }
}

impl Outbox {
    pub(super) fn new(owed: &Rc<Owed>) -> Self {
        Self { owed: Rc::clone(owed), waiting: RefCell::default(), filled: Notify::new() }
    }

    /// Adds a frame.
    pub(super) fn add(&self, pieces: Vec<Bytes>, kind: Kind) {
        self.waiting.borrow_mut().frames.push_back((pieces, kind));
        self.filled.notify_one();
    }

    /// Adds a frame about the credit of the peer, instead of an earlier one that still waits.
    pub(super) fn set_credit(&self, frame: Bytes) {
        self.waiting.borrow_mut().credit = Some(frame);
        self.filled.notify_one();
    }

    /// Nothing more will be said on the stream.
    pub(super) fn finish(&self) {
        self.waiting.borrow_mut().finish = true;
        self.filled.notify_one();
    }

    /// Takes what is to be sent next. `None` at the end.
    pub(super) async fn next(&self, pieces: &mut Vec<Bytes>) -> Option<Taken> {
        loop {
            if let Some(taken) = self.take(pieces) {
                return Some(taken);
            }
            if self.waiting.borrow().finish {
                return None;
            }
            self.filled.notified().await;
        }
    }

    fn take(&self, pieces: &mut Vec<Bytes>) -> Option<Taken> {
        let mut waiting = self.waiting.borrow_mut();
        let mut taken = Taken::default();
        pieces.extend(waiting.credit.take());
        while pieces.len() < PIECES
            && let Some((frame, kind)) = waiting.frames.pop_front()
        {
            taken.count(&frame, kind);
            pieces.extend(frame);
        }
        (!pieces.is_empty()).then_some(taken)
    }

    /// What was taken is gone.
    pub(super) fn left(&self, taken: Taken) {
        self.owed.leave(taken.answers);
    }
}

impl Taken {
    fn count(&mut self, frame: &[Bytes], kind: Kind) {
        let bytes = length(frame);
        match kind {
            Kind::Answer => self.answers += bytes,
            Kind::Delivery => self.deliveries += bytes,
            Kind::Own => {}
        }
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        let mut waiting = Taken::default();
        for (frame, kind) in &self.waiting.get_mut().frames {
            waiting.count(frame, *kind);
        }
        self.owed.leave(waiting.answers);
    }
}

/// Bytes of a frame.
pub(super) fn length(pieces: &[Bytes]) -> u64 {
    pieces.iter().map(|piece| piece.len() as u64).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ledger::{Budget, Ledger};
    use crate::core::{LaneId, Outgoing, StreamId};

    const CONNECTION: ConnectionId = ConnectionId(1);

    /// What the node owes a connection, on two streams.
    fn owed() -> (Answers, Outbox, Outbox) {
        let budget = Budget { control: 1 << 20, ..Budget::default() };
        let answers = Answers::new(Ledger::new(budget));
        answers.open(CONNECTION);
        let owed = Rc::new(Owed::new(CONNECTION, answers.clone()));
        (answers, Outbox::new(&owed), Outbox::new(&owed))
    }

    fn answer(answers: &Answers, outbox: &Outbox, bytes: usize) {
        let pieces = vec![Bytes::from(vec![0; bytes])];
        let lane = LaneId { connection: CONNECTION, stream: StreamId(0) };
        answers.settle(&[Outgoing::Frames(lane, pieces.clone())]);
        outbox.add(pieces, Kind::Answer);
    }

    #[test]
    fn answers_of_all_streams_count_together_until_they_have_left_or_their_stream_ends() {
        let (answers, first, second) = owed();
        answer(&answers, &first, 100);
        answer(&answers, &second, 200);
        second.add(vec![Bytes::from_static(&[0; 50])], Kind::Delivery);
        assert_eq!(answers.held(CONNECTION), 300, "deliveries are bounded elsewhere");
        drop(second);
        let mut pieces = Vec::new();
        let taken = first.take(&mut pieces).unwrap();
        assert_eq!((pieces.len(), taken), (1, Taken { answers: 100, deliveries: 0 }));
        assert_eq!(answers.held(CONNECTION), 100, "it is being sent");
        first.left(taken);
        assert_eq!(answers.held(CONNECTION), 0);
    }

    #[test]
    fn of_words_about_credit_only_the_latest_waits() {
        let (_answers, outbox, _other) = owed();
        for word in 0..100u8 {
            outbox.set_credit(Bytes::from(vec![word]));
        }
        let mut pieces = Vec::new();
        assert_eq!(outbox.take(&mut pieces), Some(Taken::default()));
        assert_eq!(pieces, [Bytes::from_static(&[99])]);
        pieces.clear();
        assert_eq!(outbox.take(&mut pieces), None);
    }
}
