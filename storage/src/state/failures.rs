//! Records that a group could not process: those that come back, and those on their way to the dead-letter topic.
//!
//! What is settled does not come back: a record stands in one of the two lists, or in none.

use std::collections::BTreeMap;

use bytes::BufMut;
use weir_protocol::read::Reader;
use weir_protocol::units::{GroupId, Offset};
use weir_protocol::write::Write;
use weir_protocol::{Cursor, DecodeError};

use super::{Applied, NodeState, PartitionState};
use crate::frame::{
    DeadLetter, DeadLetters, FAILING_BYTES, FailedRecords, FailingRecord, ForwardedLetters, LETTER_BYTES_MIN,
};

/// The records of a partition that have failed in a group.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Failures {
    /// Records that are to be delivered again.
    pub records: BTreeMap<Offset, FailingRecord>,
    /// Records that are settled and not yet known to be in the dead-letter topic.
    pub letters: BTreeMap<Offset, DeadLetter>,
}

impl Failures {
    /// Whether nothing has failed.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.letters.is_empty()
    }

    /// Forgets records that are settled.
    pub fn settled(&mut self, cursor: &Cursor) {
        if !self.records.is_empty() {
            self.records.retain(|offset, _| !cursor.contains(*offset));
        }
    }

    /// A record is given up.
    pub fn give_up(&mut self, offset: Offset, letter: DeadLetter) {
        self.records.remove(&offset);
        self.letters.insert(offset, letter);
    }

    fn encode(&self, out: &mut impl BufMut) {
        out.put_count(self.records.len());
        for (offset, record) in &self.records {
            out.put_u64_le(offset.get());
            record.encode(out);
        }
        out.put_count(self.letters.len());
        for (offset, letter) in &self.letters {
            out.put_u64_le(offset.get());
            letter.encode(out);
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let count = reader.count("failing record count", FAILING_BYTES)?;
        let records = (0..count).map(|_| Ok((reader.offset()?, FailingRecord::decode(reader)?)));
        let records = records.collect::<Result<_, DecodeError>>()?;
        let count = reader.count("dead letter count", LETTER_BYTES_MIN)?;
        let letters = (0..count).map(|_| Ok((reader.offset()?, DeadLetter::decode(reader)?)));
        Ok(Self { records, letters: letters.collect::<Result<_, DecodeError>>()? })
    }
}

/// Writes what has failed of a partition: count, then group and lists.
pub(super) fn encode_all(failures: &BTreeMap<GroupId, Failures>, out: &mut impl BufMut) {
    out.put_count(failures.len());
    for (group, failures) in failures {
        out.put_u64_le(group.get());
        failures.encode(out);
    }
}

/// Reads what has failed of a partition.
pub(super) fn decode_all(reader: &mut Reader<'_>) -> Result<BTreeMap<GroupId, Failures>, DecodeError> {
    let count = reader.count("failure count", 8 + 4 + 4)?;
    (0..count).map(|_| Ok((GroupId::new(reader.u64()?), Failures::decode(reader)?))).collect()
}

impl NodeState {
    /// Records have failed.
    pub(super) fn fail(&mut self, failed: &FailedRecords) -> Applied {
        let Some(state) = self.partitions.get_mut(&failed.partition) else { return Applied::Nothing };
        let Some(cursor) = state.cursors.get(&failed.group) else { return Applied::Nothing };
        let failures = state.failures.entry(failed.group).or_default();
        failures.records.extend(failed.records.iter().copied());
        failures.settled(cursor);
        state.forget_empty(failed.group);
        Applied::Partition(failed.partition)
    }

    /// Records are given up: settled, and on their way to the dead-letter topic.
    pub(super) fn give_up_records(&mut self, dead: &DeadLetters) -> Applied {
        let Some(state) = self.partitions.get_mut(&dead.partition) else { return Applied::Nothing };
        let Some(cursor) = state.cursors.get_mut(&dead.group) else { return Applied::Nothing };
        let failures = state.failures.entry(dead.group).or_default();
        for (offset, letter) in &dead.letters {
            // Whoever wrote the frame had settled the same in an equal cursor: nothing is beyond its window.
            cursor.settle(*offset, offset.advance(1)).ok();
            failures.give_up(*offset, letter.clone());
        }
        failures.settled(cursor);
        Applied::Partition(dead.partition)
    }

    /// Dead letters have arrived.
    pub(super) fn forwarded(&mut self, forwarded: &ForwardedLetters) -> Applied {
        let state = self.partitions.get_mut(&forwarded.partition);
        let Some(state) = state.filter(|state| state.failures.contains_key(&forwarded.group)) else {
            return Applied::Nothing;
        };
        if let Some(failures) = state.failures.get_mut(&forwarded.group) {
            failures.letters.retain(|offset, _| !forwarded.offsets.contains(offset));
        }
        state.forget_empty(forwarded.group);
        Applied::Partition(forwarded.partition)
    }
}

impl PartitionState {
    /// A group of which nothing has failed is not mentioned.
    pub(super) fn forget_empty(&mut self, group: GroupId) {
        if self.failures.get(&group).is_some_and(Failures::is_empty) {
            self.failures.remove(&group);
        }
    }
}
