//! What waits for the journal: frames that free space come first, and nothing counts as done while an earlier one waits.

use weir_storage::frame::Frame;

use crate::core::{Ticket, ToWrite};

/// Frames that wait to be written, those that free space first.
#[derive(Debug, Default)]
pub struct CommitQueue {
    frames: Vec<Frame>,
    tickets: Vec<Ticket>,
    /// Control frames at the front.
    controls: usize,
    /// The last ticket that ever was in the queue.
    last: Ticket,
    /// Somebody is content once the operating system has the frames.
    early: bool,
}

impl CommitQueue {
    /// Adds a frame behind those of its kind.
    pub fn push(&mut self, write: ToWrite) {
        self.last = write.ticket;
        self.early |= write.early;
        let at = if write.frame.is_control() { self.controls } else { self.frames.len() };
        self.controls += usize::from(write.frame.is_control());
        self.frames.insert(at, write.frame);
        self.tickets.insert(at, write.ticket);
    }

    /// The frames, for the journal to write some from the front.
    pub const fn frames(&mut self) -> &mut Vec<Frame> {
        &mut self.frames
    }

    /// Whether nothing waits.
    pub const fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Takes the first `count` frames, and the ticket up to which nothing is left behind.
    pub fn take(&mut self, count: usize) -> (Vec<Frame>, Ticket) {
        let rest = self.frames.split_off(count);
        self.tickets.drain(..count);
        self.controls = self.controls.saturating_sub(count);
        let first_left = self.tickets.iter().min();
        let through = first_left.map_or(self.last, |first| Ticket(first.0 - 1));
        (std::mem::replace(&mut self.frames, rest), through)
    }

    /// Whether somebody wants to hear that the operating system has what was taken. Asked once after each take.
    pub const fn take_early(&mut self) -> bool {
        let early = self.early;
        self.early = early && !self.is_empty();
        early
    }
}

#[cfg(test)]
mod tests {
    use weir_protocol::units::{Offset, PartitionId, PartitionKey, Sequence, TopicId};

    use super::*;

    fn write(ticket: u64, frame: Frame) -> ToWrite {
        ToWrite { ticket: Ticket(ticket), frame, early: false }
    }

    fn trim(offset: u64) -> Frame {
        let partition = PartitionKey { topic: TopicId::default(), partition: PartitionId::ZERO };
        Frame::Trim { partition, log_start: Offset::new(offset) }
    }

    #[test]
    fn nothing_counts_as_durable_behind_a_frame_that_is_left() {
        let mut queue = CommitQueue::default();
        let batch = crate::core::node::tests::stored_batch();
        let partition = batch.producer.header().partition;
        let append = Frame::Append { partition, acked_below: Sequence::ZERO, batch };
        queue.push(write(1, append.clone()));
        queue.push(write(2, append));
        queue.push(write(3, trim(1)));
        queue.push(write(4, trim(2)));
        assert!(queue.frames[0].is_control() && queue.frames[1].is_control());
        assert_eq!(queue.take(2).1, Ticket(0), "the first data frame is left");
        assert_eq!(queue.take(1).1, Ticket(1));
        assert_eq!(queue.take(1).1, Ticket(4));
    }
}
