//! Who is owed which result: each batch gets exactly one answer, in order, once what it promises is true.

use std::collections::{BTreeMap, VecDeque};

use weir_protocol::message::{AckEntry, Message, PublishAck};
use weir_protocol::units::{Durability, Offset, PartitionKey, TopicId};

use crate::core::trim::PendingTrim;
use crate::core::{Actions, LaneId, Outgoing, Ticket};
use weir_protocol::limits::ACK_ENTRIES_MAX;

/// The publish lanes and the frames on their way to the disk.
#[derive(Debug, Default)]
pub struct Publishing {
    lanes: BTreeMap<LaneId, PublishLane>,
    /// In order of ticket.
    pending: VecDeque<Pending>,
    /// How many of `pending`, from the front, the operating system has.
    written: usize,
    /// Results ready to be sent.
    acks: BTreeMap<LaneId, Vec<AckEntry>>,
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
    /// A batch that had been appended before, but is not durable yet.
    Duplicate {
        /// Where the answer goes.
        lane: LaneId,
        /// The answer.
        entry: AckEntry,
    },
    /// A change of a topic.
    Topic(TopicChange),
    /// Records that are given up.
    Trim(PendingTrim),
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
    pub entry: Option<AckEntry>,
    /// Bytes of the frame it came in.
    pub frame_bytes: u64,
    /// Bytes it takes stored.
    pub stored_bytes: u64,
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

impl Publishing {
    /// A stream became a publish lane.
    pub fn open(&mut self, lane: LaneId, state: PublishLane) {
        self.lanes.insert(lane, state);
    }

    /// A lane has ended; results owed to it are dropped when their time comes.
    pub fn close(&mut self, lane: LaneId) {
        self.lanes.remove(&lane);
        self.acks.remove(&lane);
    }

    /// The lane, if it is open.
    pub fn lane(&self, lane: LaneId) -> Option<PublishLane> {
        self.lanes.get(&lane).copied()
    }

    /// Something waits for a frame, which must not be earlier than those of all that wait already.
    ///
    /// # Panics
    /// If it is.
    pub fn wait(&mut self, ticket: Ticket, what: Waiting) {
        assert!(self.pending.back().is_none_or(|last| last.ticket <= ticket), "tickets only grow");
        self.pending.push_back(Pending { ticket, what });
    }

    /// A result can be sent.
    pub fn ack(&mut self, lane: LaneId, entry: AckEntry) {
        if self.lanes.contains_key(&lane) {
            self.acks.entry(lane).or_default().push(entry);
        }
    }

    /// The operating system has every frame up to `through`: answers that promise no more can go.
    pub fn written(&mut self, through: Ticket) {
        while let Some(pending) = self.pending.get_mut(self.written) {
            if pending.ticket > through {
                break;
            }
            self.written += 1;
            let Waiting::Append(append) = &mut pending.what else { continue };
            let lane = append.lane;
            let wants = self.lanes.get(&lane).map(|lane| lane.durability);
            if wants == Some(Durability::Written)
                && let Some(mut entry) = append.entry.take()
            {
                entry.durability = Durability::Written;
                self.acks.entry(lane).or_default().push(entry);
            }
        }
    }

    /// The next of what waited for frames up to `through`, all of them durable now.
    pub fn next_durable(&mut self, through: Ticket) -> Option<Waiting> {
        let pending = self.pending.pop_front_if(|pending| pending.ticket <= through)?;
        self.written = self.written.saturating_sub(1);
        Some(pending.what)
    }

    /// Sends the results that are ready, one frame for each lane.
    pub fn send_acks(&mut self, actions: &mut Actions) {
        while let Some((lane, mut entries)) = self.acks.pop_first() {
            while !entries.is_empty() {
                let rest = entries.split_off(entries.len().min(ACK_ENTRIES_MAX));
                let frame = PublishAck { entries }.to_frame();
                actions.outgoing.push(Outgoing::Frames(lane, vec![frame]));
                entries = rest;
            }
        }
    }

    /// How much waits for the journal.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }
}
