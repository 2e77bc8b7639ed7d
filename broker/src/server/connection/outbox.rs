//! What waits to be sent on the streams of a connection.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use bytes::Bytes;
use tokio::sync::Notify;

/// Bytes of answers that may wait on a connection before no more of its requests are heard: two of the longest pages.
/// Deliveries do not count: they are bounded by the node.
const ANSWERS_BYTES_MAX: usize = 1 << 20;

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

/// The answers that wait on all streams of a connection.
#[derive(Debug, Default)]
pub(super) struct Answers {
    bytes: Cell<usize>,
    /// Some have left.
    left: Notify,
}

/// What waits to be sent on one stream.
#[derive(Debug)]
pub(super) struct Outbox {
    answers: Rc<Answers>,
    waiting: RefCell<Waiting>,
    /// Something was added.
    filled: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    frames: VecDeque<(Vec<Bytes>, u64)>,
    finish: bool,
}

impl Answers {
    /// Waits until the answers on this connection are being taken.
    pub(super) async fn room(&self) {
        while self.bytes.get() > ANSWERS_BYTES_MAX {
            self.left.notified().await;
        }
    }

    fn leave(&self, bytes: usize) {
        self.bytes.set(self.bytes.get() - bytes);
        if bytes > 0 {
            self.left.notify_waiters();
        }
    }
}

impl Outbox {
    pub(super) fn new(answers: &Rc<Answers>) -> Self {
        Self { answers: Rc::clone(answers), waiting: RefCell::default(), filled: Notify::new() }
    }

    /// Adds a frame; so many bytes of it are deliveries, which is all or nothing.
    pub(super) fn add(&self, pieces: Vec<Bytes>, delivered: u64) {
        if delivered == 0 {
            self.answers.bytes.set(self.answers.bytes.get() + length(&pieces));
        }
        self.waiting.borrow_mut().frames.push_back((pieces, delivered));
        self.filled.notify_one();
    }

    /// Nothing more will be said on the stream.
    pub(super) fn finish(&self) {
        self.waiting.borrow_mut().finish = true;
        self.filled.notify_one();
    }

    /// Takes what is to be sent next, and says how many bytes of it are deliveries. `None` at the end.
    pub(super) async fn next(&self, pieces: &mut Vec<Bytes>) -> Option<u64> {
        loop {
            if let Some(delivered) = self.take(pieces) {
                return Some(delivered);
            }
            if self.waiting.borrow().finish {
                return None;
            }
            self.filled.notified().await;
        }
    }

    fn take(&self, pieces: &mut Vec<Bytes>) -> Option<u64> {
        let (mut delivered, mut answered, mut any) = (0, 0, false);
        while pieces.len() < PIECES
            && let Some((frame, bytes)) = self.waiting.borrow_mut().frames.pop_front()
        {
            any = true;
            delivered += bytes;
            if bytes == 0 {
                answered += length(&frame);
            }
            pieces.extend(frame);
        }
        self.answers.leave(answered);
        any.then_some(delivered)
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        let frames = std::mem::take(&mut self.waiting.get_mut().frames);
        self.answers
            .leave(frames.iter().filter(|(_, bytes)| *bytes == 0).map(|(frame, _)| length(frame)).sum());
    }
}

fn length(pieces: &[Bytes]) -> usize {
    pieces.iter().map(Bytes::len).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_ready(future: impl Future) -> bool {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        std::pin::pin!(future).poll(&mut context).is_ready()
    }

    #[test]
    fn answers_of_all_streams_count_together_until_they_leave_or_their_stream_ends() {
        let answers = Rc::new(Answers::default());
        let (first, second) = (Outbox::new(&answers), Outbox::new(&answers));
        let half = Bytes::from(vec![0; ANSWERS_BYTES_MAX / 2 + 1]);
        first.add(vec![half.clone()], 0);
        second.add(vec![half.clone()], half.len() as u64);
        assert!(is_ready(answers.room()), "deliveries are bounded elsewhere");
        second.add(vec![half], 0);
        assert!(!is_ready(answers.room()));
        drop(second);
        assert!(is_ready(answers.room()));
        let mut pieces = Vec::new();
        assert_eq!(first.take(&mut pieces), Some(0));
        assert_eq!((answers.bytes.get(), pieces.len()), (0, 1));
    }
}
