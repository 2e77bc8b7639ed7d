//! Records that fail: they come back after a while, or are given up.
//!
//! How often a record has failed is a frame of the journal, and so is that it was given up: in the frame that settles it.

use weir_protocol::limits::{BACKOFF_MS_MAX, FAILURES_PER_FRAME_MAX};
use weir_protocol::message::{
    AfterFailure, FailRecords, FailedRecord, FailureOutcome, RecordsFailed, Verdict,
};
use weir_protocol::units::{GroupId, Offset, PartitionId, PartitionKey, Timestamp, TopicId};
use weir_protocol::{ErrorCode, Redelivery};
use weir_storage::frame::{
    DeadLetter, DeadLetters, FailedRecords, FailingRecord, ForwardedLetters, Frame, GroupPositions,
};

use super::member::{bound, fenced};
use super::memory::{FAILING_BYTES, LETTER_BYTES};
use super::share::{Share, attempt, wait_ms};
use super::{Effect, Groups};
use crate::core::coordinator::Refusal;
use crate::core::{LaneId, Now};

/// A dead letter, by where its record was.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct LetterId {
    /// The group that gave it up.
    pub group: GroupId,
    /// The partition of the group's topic.
    pub partition: PartitionId,
    /// The record.
    pub offset: Offset,
}

/// A statement about failures that waits for the journal.
#[derive(Debug)]
pub struct PendingFailure {
    lane: LaneId,
    group: GroupId,
    floor: Offset,
    answer: RecordsFailed,
}

/// What a statement about failures leads to.
#[derive(Debug)]
pub struct Failed {
    /// For the journal.
    pub frames: Vec<Frame>,
    /// To be answered once these and everything before are durable.
    pub pending: PendingFailure,
    /// The lane that reads the partition, and its new bound.
    pub reader: Option<(LaneId, Offset)>,
}

/// A letter as it is to be sent, and from whom.
#[derive(Clone, Debug)]
pub struct Letter {
    /// The topic of its record.
    pub topic: TopicId,
    /// Name of the topic.
    pub topic_name: String,
    /// Name of the group.
    pub group_name: String,
    /// Where it is to go; `None` if the group has no dead-letter topic any more.
    pub dead_letter: Option<String>,
    /// What is known of it.
    pub letter: DeadLetter,
}

/// What becomes of the records of a statement.
#[derive(Default)]
struct Sorted {
    failed: Vec<(Offset, FailingRecord)>,
    letters: Vec<(Offset, DeadLetter)>,
    outcomes: Vec<FailureOutcome>,
}

impl Groups {
    /// Records have failed. `takes` tells whether the dead-letter topic takes letters now. Whoever says so must hold the lease
    /// now: the check and the frames for the journal are one step.
    ///
    /// # Errors
    /// [`ErrorCode::Fenced`] if the lease has ended, [`ErrorCode::NotDelivered`] if a record was never delivered under it,
    /// [`ErrorCode::TooManyFailures`] or [`ErrorCode::Throttled`] if there is no room to remember more. Nothing has
    /// changed then.
    pub fn fail(
        &mut self,
        (now, lane): (Now, LaneId),
        (fail, position): (&FailRecords, Option<Offset>),
        takes: Result<(), ErrorCode>,
        out: &mut Vec<Effect>,
    ) -> Result<Failed, Refusal> {
        let FailRecords { number, partition, lease: epoch, ref records } = *fail;
        let refused = || fenced(partition, epoch);
        let (group, name) = self.members.get(&lane).cloned().ok_or_else(refused)?;
        let definition = self.groups.get(&group).ok_or_else(refused)?.definition.clone();
        let key = PartitionKey { topic: definition.topic, partition };
        let room = self.memory.room();
        let done = self.change(now.monotonic_us, group, out, |sharing, _, _| {
            let lease = sharing.lease(partition, epoch).filter(|lease| lease.owner == name);
            let lease = lease.ok_or_else(refused)?;
            lease.delivered = lease.delivered.max(position.unwrap_or(Offset::ZERO));
            let (delivered, reader) = (lease.delivered, lease.reader);
            if let Some(above) = records.iter().find(|record| record.offset >= delivered) {
                let offset = above.offset;
                let detail = format!("partition {partition}: offset {offset} was never delivered");
                return Err((ErrorCode::NotDelivered, detail));
            }
            let share = sharing.share(partition).ok_or_else(refused)?;
            let sorted = sort(share, &definition.redelivery, (now.wall, records), takes);
            let room = room_for(share, &sorted, room)?;
            let settled: Vec<_> =
                sorted.letters.iter().map(|(offset, _)| (*offset, offset.advance(1))).collect();
            sharing.settle(partition, &settled, room)?;
            sharing.remember(partition, |failures| {
                failures.records.extend(sorted.failed.iter().copied());
                for (offset, letter) in &sorted.letters {
                    failures.give_up(*offset, letter.clone());
                }
            });
            let cursor = &sharing.share(partition).ok_or_else(refused)?.cursor;
            Ok((sorted, cursor.floor(), reader.map(|reader| (reader, bound(cursor)))))
        });
        let (sorted, floor, reader) = done.ok_or_else(refused)??;
        let Sorted { failed, letters, outcomes } = sorted;
        let mut frames = Vec::new();
        if !failed.is_empty() {
            frames.push(Frame::Failed(FailedRecords { partition: key, group, records: failed }));
        }
        if !letters.is_empty() {
            frames.push(Frame::DeadLetters(DeadLetters { partition: key, group, letters }));
        }
        let answer = RecordsFailed { number, partition, refused: None, outcomes };
        Ok(Failed { frames, pending: PendingFailure { lane, group, floor, answer }, reader })
    }

    /// The dead-letter topic of the group whose member's lane it is.
    pub fn dead_letter(&self, lane: LaneId) -> Option<&str> {
        let (id, _) = self.members.get(&lane)?;
        self.groups.get(id)?.definition.redelivery.dead_letter.as_deref()
    }

    /// A statement about failures is durable. Gives the answer, where it goes, and the letters that can be forwarded.
    pub fn failed(&mut self, pending: PendingFailure) -> (LaneId, RecordsFailed, Vec<LetterId>) {
        let PendingFailure { lane, group, floor, answer } = pending;
        let partition = answer.partition;
        let sharing = self.groups.get_mut(&group).map(|group| &mut group.sharing);
        if let Some(share) = sharing.and_then(|sharing| sharing.share_mut(partition)) {
            share.committed = share.committed.max(floor);
        }
        let dead = answer.outcomes.iter().filter(|outcome| outcome.next == AfterFailure::DeadLetter);
        let letters = dead.map(|outcome| LetterId { group, partition, offset: outcome.offset }).collect();
        (lane, answer, letters)
    }

    /// The first record of a partition that is not settled comes back: its member was not heard of in time. Gives the frame
    /// for the journal.
    pub(super) fn came_back(&self, group: GroupId, partition: PartitionId) -> Option<Frame> {
        let known = self.groups.get(&group)?;
        let share = known.sharing.share(partition)?;
        let offset = share.cursor.floor();
        let record = *share.failures.records.get(&offset)?;
        let partition = PartitionKey { topic: known.definition.topic, partition };
        Some(Frame::Failed(FailedRecords { partition, group, records: vec![(offset, record)] }))
    }

    /// Changes what a group does with records that fail. Gives the frame for the journal; nothing if it is so already.
    ///
    /// # Errors
    /// No such group, or a redelivery that contradicts itself.
    pub fn set_redelivery(
        &mut self,
        (topic, name): (&str, &str),
        redelivery: &Redelivery,
    ) -> Result<Option<Frame>, Refusal> {
        if let Some(fault) = redelivery.fault() {
            return Err((ErrorCode::InvalidSetting, fault));
        }
        let id = self.live(topic, name)?;
        let Some(group) = self.groups.get_mut(&id) else { return Ok(None) };
        if group.definition.redelivery == *redelivery {
            return Ok(None);
        }
        group.definition.redelivery = redelivery.clone();
        let definition = group.definition.clone();
        Ok(Some(Frame::Group(GroupPositions { definition, positions: Vec::new() })))
    }

    /// All letters that are not known to be in their dead-letter topic.
    pub fn letters(&self) -> impl Iterator<Item = LetterId> {
        self.groups.iter().flat_map(|(group, known)| {
            let shares = super::share::numbered(&known.sharing.shares);
            shares.flat_map(move |(partition, share)| {
                let offsets = share.failures.letters.keys();
                offsets.map(move |offset| LetterId { group: *group, partition, offset: *offset })
            })
        })
    }

    /// A letter, as long as it is not known to be in its dead-letter topic.
    pub fn letter(&self, id: LetterId) -> Option<Letter> {
        let group = self.groups.get(&id.group)?;
        let letter = group.sharing.share(id.partition)?.failures.letters.get(&id.offset)?;
        Some(Letter {
            topic: group.definition.topic,
            topic_name: group.topic.clone(),
            group_name: group.definition.name.clone(),
            dead_letter: group.definition.redelivery.dead_letter.clone(),
            letter: letter.clone(),
        })
    }

    /// A letter is in its dead-letter topic, durably. Gives the frame for the journal.
    pub fn forwarded(&mut self, now: u64, id: LetterId) -> Option<Frame> {
        let LetterId { group, partition, offset } = id;
        let topic = self.groups.get(&group)?.definition.topic;
        self.change(now, group, &mut Vec::new(), |sharing, _, _| {
            sharing.remember(partition, |failures| failures.letters.remove(&offset))
        })??;
        let partition = PartitionKey { topic, partition };
        Some(Frame::Forwarded(ForwardedLetters { partition, group, offsets: vec![offset] }))
    }
}

/// Decides what becomes of each record.
fn sort(
    share: &Share,
    redelivery: &Redelivery,
    (wall, records): (Timestamp, &[FailedRecord]),
    takes: Result<(), ErrorCode>,
) -> Sorted {
    let mut sorted = Sorted::default();
    for said in records {
        let offset = said.offset;
        let mut record = share.known(offset, wall);
        if let Some(next) = heard_before(share, said, (&record, wall)) {
            sorted.outcomes.push(FailureOutcome { offset, next });
            continue;
        }
        record.last = wall;
        match said.verdict {
            Verdict::Return => record.returned = record.returned.saturating_add(1),
            Verdict::Retry | Verdict::RetryAfter(_) | Verdict::Reject => {
                record.failed = record.failed.saturating_add(1);
            }
        }
        let is_over = match said.verdict {
            Verdict::Return => false,
            Verdict::Reject => true,
            Verdict::Retry | Verdict::RetryAfter(_) => redelivery.is_over(record.failed),
        };
        let full = share.failures.letters.len() + sorted.letters.len() >= FAILURES_PER_FRAME_MAX;
        let refused = match takes {
            Ok(()) if full => Some(ErrorCode::DeadLetterFull),
            Ok(()) => None,
            Err(code) => Some(code),
        };
        if is_over && refused.is_none() {
            let FailingRecord { failed, returned, first, last, due: _ } = record;
            let letter = DeadLetter { failed, returned, first, last, reason: said.reason.clone() };
            sorted.letters.push((offset, letter));
            sorted.outcomes.push(FailureOutcome { offset, next: AfterFailure::DeadLetter });
            continue;
        }
        let wait_ms = match said.verdict {
            Verdict::RetryAfter(ms) => ms.min(BACKOFF_MS_MAX),
            Verdict::Return => redelivery.backoff_ms(record.returned.saturating_sub(1)),
            Verdict::Retry | Verdict::Reject => redelivery.backoff_ms(record.failed),
        };
        record.due = wall.saturating_add_micros(i64::from(wait_ms) * 1000);
        let refused = refused.filter(|_| is_over);
        let next = AfterFailure::Again { attempt: attempt(&record), wait_ms, refused };
        sorted.failed.push((offset, record));
        sorted.outcomes.push(FailureOutcome { offset, next });
    }
    sorted
}

/// What became of an attempt that is over already: what is said twice counts once.
fn heard_before(
    share: &Share,
    said: &FailedRecord,
    (record, wall): (&FailingRecord, Timestamp),
) -> Option<AfterFailure> {
    if share.failures.letters.contains_key(&said.offset) {
        return Some(AfterFailure::DeadLetter);
    }
    if share.cursor.contains(said.offset) {
        return Some(AfterFailure::Over);
    }
    let again =
        AfterFailure::Again { attempt: attempt(record), wait_ms: wait_ms(record, wall), refused: None };
    (said.attempt != attempt(record)).then_some(again)
}

/// The memory that is left once what becomes of records is remembered.
fn room_for(share: &Share, sorted: &Sorted, room: u64) -> Result<u64, Refusal> {
    let records = &share.failures.records;
    let new = sorted.failed.iter().filter(|(offset, _)| !records.contains_key(offset)).count();
    if new > 0 && records.len() + new > FAILURES_PER_FRAME_MAX {
        let detail = format!("{} records of the partition have failed", records.len());
        return Err((ErrorCode::TooManyFailures, detail));
    }
    let needed = new as u64 * FAILING_BYTES + sorted.letters.len() as u64 * LETTER_BYTES;
    room.checked_sub(needed).ok_or_else(|| {
        (ErrorCode::Throttled, "the broker has no memory to remember more failures".to_owned())
    })
}
