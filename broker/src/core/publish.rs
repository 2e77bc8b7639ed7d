//! Who is owed which result: each batch gets exactly one answer, in order, once what it promises is true.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use weir_protocol::message::{
    AckEntry, Message, PublishAck, PublishExceptions, PublishRejected, RecordException,
};
use weir_protocol::units::{Durability, Offset, PartitionKey, TopicId};

use crate::core::answers::{Answers, BATCH_BYTES};
use crate::core::claims::PendingClaim;
use crate::core::coordinator::Refusal;
use crate::core::group::{PendingAck, PendingFailure, PendingLongest};
use crate::core::node::PendingGroup;
use crate::core::trim::PendingTrim;
use crate::core::{Actions, LaneId, Outgoing, Ticket};
use weir_protocol::limits::{ACK_ENTRIES_MAX, PUBLISH_EXCEPTIONS_MAX};

/// The publish lanes and the frames on their way to the disk.
#[derive(Debug)]
pub struct Publishing {
    lanes: BTreeMap<LaneId, OpenLane>,
    /// In order of ticket.
    pending: VecDeque<Pending>,
    /// How many of `pending`, from the front, the operating system has.
    written: usize,
    /// Results ready to be sent, in order.
    answers: BTreeMap<LaneId, Vec<Answer>>,
    /// Each batch has memory for its answer from before it was heard until this has left.
    memory: Answers,
}

/// A lane and how many of its batches wait for their answer among `pending`.
#[derive(Debug)]
struct OpenLane {
    lane: PublishLane,
    owed: usize,
    /// When a batch or an answer last moved on it.
    moved_us: u64,
    /// It waits for a quota of its client.
    is_throttled: bool,
}

/// The answer to a batch.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Answer {
    /// It is stored, except for the records that are named.
    Stored(AckEntry, Vec<RecordException>),
    /// It is refused.
    Refused(PublishRejected),
}

/// A stream on which batches for one topic come.
#[derive(Clone, Copy, Debug)]
pub struct PublishLane {
    /// The topic.
    pub topic: TopicId,
    /// What its answers promise.
    pub durability: Durability,
}

/// Something that waits for the journal.
#[derive(Debug)]
pub struct Pending {
    /// The frame it waits for.
    pub ticket: Ticket,
    /// What it is.
    pub what: Waiting,
}

/// What waits for the journal.
#[derive(Debug)]
pub enum Waiting {
    /// A batch.
    Append(PendingAppend),
    /// An answer that is known, but not true yet or not next: a batch that had been appended before and is not durable, or
    /// one that is refused while earlier ones wait.
    Answer {
        /// Where it goes.
        lane: LaneId,
        /// The answer; `None` once it has been given.
        answer: Option<Answer>,
        /// Bytes of the frame it came in: they stay held, so that credit bounds how many answers can wait.
        frame_bytes: u64,
    },
    /// A change of a topic.
    Topic(TopicChange),
    /// Records that are given up.
    Trim(PendingTrim),
    /// A change of a consumer group.
    Group(PendingGroup),
    /// How long the leases of a consumer group may last.
    Longest(PendingLongest),
    /// Records that a consumer group has settled.
    Acked(PendingAck),
    /// Records that have failed in a consumer group.
    Failed(PendingFailure),
    /// A name that is claimed.
    Claim(PendingClaim),
    /// A request that was refused for what happens to another one: that is to be true by then.
    Refused(LaneId, u32, Refusal),
}

/// A batch that waits for the journal.
#[derive(Debug)]
pub struct PendingAppend {
    /// Where the answer goes.
    pub lane: LaneId,
    /// The partition.
    pub key: PartitionKey,
    /// The offset after the batch.
    pub end: Offset,
    /// The answer; `None` once it has been given.
    pub answer: Option<Answer>,
    /// Bytes of the frame it came in.
    pub frame_bytes: u64,
    /// Bytes it takes in memory until it is flushed.
    pub memory_bytes: u64,
}

/// A change of a topic that waits for the journal.
#[derive(Clone, Copy, Debug)]
pub struct TopicChange {
    /// Where the answer goes.
    pub lane: LaneId,
    /// The request that is answered.
    pub request: u32,
    /// The topic.
    pub topic: TopicId,
    /// What happens to it.
    pub kind: TopicChangeKind,
}

/// What happens to a topic.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TopicChangeKind {
    /// It is made.
    Create,
    /// It is changed.
    Alter,
    /// It is deleted.
    Delete,
}

impl Answer {
    /// What was promised for it: all it can take, but for the explanation of a refusal.
    pub const fn bytes_max(&self) -> u64 {
        match self {
            Self::Stored(_, exceptions) => BATCH_BYTES + exceptions_bytes(exceptions.len() as u64),
            Self::Refused(rejected) => BATCH_BYTES + rejected.detail.len() as u64,
        }
    }
}

/// The longest that what is told of so many records is.
pub const fn exceptions_bytes(records: u64) -> u64 {
    let frames = records.div_ceil(PUBLISH_EXCEPTIONS_MAX as u64);
    frames * PublishExceptions::OVERHEAD_BYTES as u64 + records * RecordException::BYTES as u64
}

impl Publishing {
    /// No lane.
    pub fn new(memory: Answers) -> Self {
        Self {
            lanes: BTreeMap::new(),
            pending: VecDeque::new(),
            written: 0,
            answers: BTreeMap::new(),
            memory,
        }
    }

    /// A stream became a publish lane.
    pub fn open(&mut self, lane: LaneId, state: PublishLane, now_us: u64) {
        self.lanes.insert(lane, OpenLane { lane: state, owed: 0, moved_us: now_us, is_throttled: false });
    }

    /// A lane has ended; results owed to it are dropped when their time comes.
    pub fn close(&mut self, lane: LaneId) {
        self.lanes.remove(&lane);
        self.answers.remove(&lane);
    }

    /// The lane, if it is open.
    pub fn lane(&self, lane: LaneId) -> Option<PublishLane> {
        self.lanes.get(&lane).map(|open| open.lane)
    }

    /// The lanes of a topic, or all, in order.
    pub fn lanes(&self, topic: Option<TopicId>) -> impl Iterator<Item = LaneId> {
        let of_topic = move |open: &OpenLane| topic.is_none_or(|topic| topic == open.lane.topic);
        self.lanes.iter().filter(move |(_, open)| of_topic(open)).map(|(lane, _)| *lane)
    }

    /// A batch or an answer moved on a lane.
    pub fn moved(&mut self, lane: LaneId, now_us: u64) {
        if let Some(open) = self.lanes.get_mut(&lane) {
            open.moved_us = now_us;
        }
    }

    /// A lane waits for a quota of its client, or does so no more.
    pub fn throttled(&mut self, lane: LaneId, waits: bool) {
        if let Some(open) = self.lanes.get_mut(&lane) {
            open.is_throttled = waits;
        }
    }

    /// Whether a lane waits for a quota of its client.
    pub fn is_throttled(&self, lane: LaneId) -> bool {
        self.lanes.get(&lane).is_some_and(|open| open.is_throttled)
    }

    /// When a batch or an answer last moved on a lane.
    pub fn moved_us(&self, lane: LaneId) -> u64 {
        self.lanes.get(&lane).map_or(0, |open| open.moved_us)
    }

    /// Something waits for a frame, which must not be earlier than those of all that wait already.
    ///
    /// # Panics
    /// If it is.
    pub fn wait(&mut self, ticket: Ticket, what: Waiting) {
        assert!(self.pending.back().is_none_or(|last| last.ticket <= ticket), "tickets only grow");
        if let Some(lane) = what.lane().and_then(|lane| self.lanes.get_mut(&lane)) {
            lane.owed += 1;
        }
        self.pending.push_back(Pending { ticket, what });
    }

    /// An answer is true already. It goes as soon as the lane's earlier batches have theirs; `last` is the ticket of the
    /// last frame ever given to the journal. Says whether it has to wait, with the bytes of its frame.
    pub fn answer(&mut self, lane: LaneId, (answer, frame_bytes): (Answer, u64), last: Ticket) -> bool {
        let waits = self.lanes.get(&lane).is_some_and(|open| open.owed > 0);
        if waits {
            self.wait(last, Waiting::Answer { lane, answer: Some(answer), frame_bytes });
            return true;
        }
        self.memory.due(lane.connection, answer.bytes_max());
        if self.lanes.contains_key(&lane) {
            self.answers.entry(lane).or_default().push(answer);
        }
        false
    }

    /// The answer to a batch that waited can go.
    pub fn give(&mut self, lane: LaneId, answer: Answer) {
        self.memory.due(lane.connection, answer.bytes_max());
        if let Some(open) = self.lanes.get_mut(&lane) {
            open.owed -= 1;
            self.answers.entry(lane).or_default().push(answer);
        }
    }

    /// The operating system has every frame up to `through`: answers that promise no more can go.
    pub fn written(&mut self, through: Ticket) {
        while let Some(pending) = self.pending.get_mut(self.written) {
            if pending.ticket > through {
                break;
            }
            self.written += 1;
            let lane = pending.what.lane();
            let open = lane.and_then(|lane| self.lanes.get(&lane));
            let content = open.is_some_and(|open| open.lane.durability == Durability::Written);
            let early = if content { pending.what.take_early() } else { None };
            if let (Some(lane), Some(answer)) = (lane, early) {
                self.give(lane, answer);
            }
        }
    }

    /// The next of what waited for frames up to `through`, all of them durable now.
    pub fn next_durable(&mut self, through: Ticket) -> Option<Waiting> {
        let pending = self.pending.pop_front_if(|pending| pending.ticket <= through)?;
        self.written = self.written.saturating_sub(1);
        Some(pending.what)
    }

    /// Takes the answer to the last lane that has one, if it is one of those: the batch was its only one.
    pub fn take_last_answer(&mut self, is_meant: impl Fn(LaneId) -> bool) -> Option<(LaneId, Answer)> {
        let last = self.answers.last_entry().filter(|last| is_meant(*last.key()))?;
        let (lane, answers) = last.remove_entry();
        answers.into_iter().next().map(|answer| (lane, answer))
    }

    /// Sends the results that are ready, those of a lane in order.
    pub fn send_answers(&mut self, actions: &mut Actions) {
        while let Some((lane, answers)) = self.answers.pop_first() {
            let mut frames = Vec::new();
            let mut entries = Vec::new();
            for answer in answers {
                let is_full = entries.len() == ACK_ENTRIES_MAX;
                let goes_alone = !matches!(&answer, Answer::Stored(_, exceptions) if exceptions.is_empty());
                if is_full || goes_alone && !entries.is_empty() {
                    frames.push(PublishAck { entries: std::mem::take(&mut entries) }.to_frame());
                }
                match answer {
                    Answer::Stored(entry, exceptions) => {
                        frames.extend(exception_frames(&entry, &exceptions));
                        entries.push(entry);
                    }
                    Answer::Refused(rejected) => frames.push(rejected.to_frame()),
                }
            }
            if !entries.is_empty() {
                frames.push(PublishAck { entries }.to_frame());
            }
            actions.outgoing.push(Outgoing::Frames(lane, frames));
        }
    }

    /// How much waits for the journal.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }
}

/// The exceptions of a batch, in as many frames as it takes.
fn exception_frames(entry: &AckEntry, exceptions: &[RecordException]) -> impl Iterator<Item = Bytes> + use<> {
    let (partition, sequence) = (entry.partition, entry.sequence);
    let frames: Vec<Bytes> = exceptions
        .chunks(PUBLISH_EXCEPTIONS_MAX)
        .map(|some| PublishExceptions { partition, sequence, exceptions: some.to_vec() }.to_frame())
        .collect();
    frames.into_iter()
}

impl Waiting {
    /// The lane that is owed an answer.
    const fn lane(&self) -> Option<LaneId> {
        match self {
            Self::Append(append) => Some(append.lane),
            Self::Answer { lane, .. } => Some(*lane),
            Self::Topic(_)
            | Self::Trim(_)
            | Self::Group(_)
            | Self::Acked(_)
            | Self::Failed(_)
            | Self::Longest(_)
            | Self::Claim(_)
            | Self::Refused(..) => None,
        }
    }

    /// Takes the answer for someone who is content once the operating system has the frame.
    fn take_early(&mut self) -> Option<Answer> {
        let answer = match self {
            Self::Append(append) => append.answer.take(),
            Self::Answer { answer, .. } => answer.take(),
            Self::Topic(_)
            | Self::Trim(_)
            | Self::Group(_)
            | Self::Acked(_)
            | Self::Failed(_)
            | Self::Longest(_)
            | Self::Claim(_)
            | Self::Refused(..) => None,
        };
        answer.map(|answer| match answer {
            Answer::Stored(entry, exceptions) => {
                Answer::Stored(AckEntry { durability: Durability::Written, ..entry }, exceptions)
            }
            refused @ Answer::Refused(_) => refused,
        })
    }
}

#[cfg(test)]
mod tests {
    use weir_protocol::frame::take_frame;
    use weir_protocol::limits::CONTROL_FRAME_BYTES_MAX;
    use weir_protocol::message::RecordFate;
    use weir_protocol::units::{Epoch, PartitionId, Sequence, Timestamp};

    use super::*;

    #[test]
    fn many_exceptions_are_told_in_frames_of_bounded_length() {
        let entry = AckEntry {
            partition: PartitionId::ZERO,
            sequence: Sequence::ZERO,
            base_offset: Offset::ZERO,
            append_time: Timestamp::ZERO,
            partition_epoch: Epoch::ZERO,
            durability: Durability::Durable,
            duplicate: false,
        };
        let records = 0..u32::try_from(PUBLISH_EXCEPTIONS_MAX + 1).unwrap();
        let exceptions: Vec<RecordException> =
            records.map(|record| RecordException { record, fate: RecordFate::Expired }).collect();
        let told: Vec<usize> = exception_frames(&entry, &exceptions)
            .map(|mut bytes| {
                let frame = take_frame(&mut bytes, CONTROL_FRAME_BYTES_MAX).unwrap().unwrap();
                PublishExceptions::from_frame(&frame).unwrap().exceptions.len()
            })
            .collect();
        assert_eq!(told, [PUBLISH_EXCEPTIONS_MAX, 1]);
    }
}
