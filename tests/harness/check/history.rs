//! What can be seen happening, one event at a time; as lines of JSON it can be kept and read again.

use serde::{Deserialize, Serialize};

/// How safe an answer says a record is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// The operating system has it.
    Written,
    /// It is synced.
    Durable,
}

/// What stands for the value of a record that does not count.
pub const VOID: u64 = 0;

/// What stands for the place of the last record of a counter that has none.
pub const LAST_OF_NONE: i64 = -1;

/// Something an observer saw. Partitions are numbered over all topics.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
#[expect(missing_docs, reason = "fields are what their names say: who, where, and which value")]
pub enum Event {
    /// A client sends a record; its value is never used again.
    Send { client: u32, partition: u32, value: u64, level: Level },
    /// The answer: it is stored here.
    Stored { value: u64, offset: u64, level: Level, duplicate: bool },
    /// The answer: it is not stored, for certain.
    Failed { value: u64 },
    /// There will be no answer: it may be stored or not.
    InDoubt { value: u64 },
    /// A client sends a record with a key, for the first time or again.
    Keyed { key: u64, value: u64 },
    /// The answer: the record with this key is here, from now on or since it was sent before.
    KeyStored { key: u64, value: u64, partition: u32, offset: u64 },
    /// The answer: another record has this key, and is here.
    KeyConflict { key: u64, value: u64, partition: u32, offset: u64 },
    /// A client sends a record of a counter; with `last`, it is to be stored only if the last one of the counter stands there.
    Counted { key: u64, value: u64, last: Option<i64> },
    /// A reader begins at an offset.
    Start { reader: u32, partition: u32, offset: u64 },
    /// A reader got a record; without a value, one whose bytes nobody sent.
    Delivered { reader: u32, partition: u32, offset: u64, value: Option<u64> },
    /// A reader was told that offsets are not kept any more.
    Missing { reader: u32, partition: u32, from: u64, to: u64 },
    /// A reader ends.
    Stop { reader: u32 },
    /// A group begins at an offset.
    Grouped { group: u32, partition: u32, offset: u64 },
    /// A member of a group got a record under a lease.
    Handed { group: u32, partition: u32, member: u32, lease: u64, offset: u64, value: Option<u64> },
    /// A member of a group was told that these offsets, which it had settled under a lease, are durably so.
    Acked { group: u32, partition: u32, member: u32, lease: u64, from: u64, to: u64 },
    /// A member of a group was told, under a lease, where the group durably stands.
    Committed { group: u32, partition: u32, lease: u64, offset: u64 },
    /// At the end: where a group stands, and which offsets above it has settled.
    Position { group: u32, partition: u32, floor: u64, settled: Vec<u64> },
    /// Whoever may send on a lane was told how many bytes in all.
    Limit { lane: u64, bytes: u64 },
    /// Bytes were sent on a lane.
    Spent { lane: u64, bytes: u64 },
    /// Whoever may send on a lane was told how many records in all: a batch may go while one is left.
    RecordLimit { lane: u64, records: u64 },
    /// A batch was sent on a lane.
    RecordsSpent { lane: u64, records: u64 },
    /// What was not synced may be gone: a power cut, or a sync that failed.
    CacheLost,
    /// At the end: what a partition holds, from its first kept offset on.
    Final { partition: u32, start: u64, values: Vec<Option<u64>> },
    /// At the end: something that should have been given back was not.
    Held { what: String, amount: u64 },
    /// At the end: everything has had the time to finish.
    Settled,
}

impl Event {
    /// The record it is about, if it is about one.
    pub const fn value(&self) -> Option<u64> {
        match self {
            Self::Send { value, .. }
            | Self::Stored { value, .. }
            | Self::Failed { value }
            | Self::InDoubt { value }
            | Self::Keyed { value, .. }
            | Self::KeyStored { value, .. }
            | Self::KeyConflict { value, .. }
            | Self::Counted { value, .. } => Some(*value),
            Self::Delivered { value, .. } | Self::Handed { value, .. } => *value,
            Self::Start { .. }
            | Self::Missing { .. }
            | Self::Stop { .. }
            | Self::Grouped { .. }
            | Self::Acked { .. }
            | Self::Committed { .. }
            | Self::Position { .. }
            | Self::Limit { .. }
            | Self::Spent { .. }
            | Self::RecordLimit { .. }
            | Self::RecordsSpent { .. }
            | Self::CacheLost
            | Self::Final { .. }
            | Self::Held { .. }
            | Self::Settled => None,
        }
    }

    /// What a partition held at the end: offsets and values.
    pub fn kept(&self) -> impl Iterator<Item = (u64, Option<u64>)> + '_ {
        let (start, values) = if let Self::Final { start, values, .. } = self {
            (*start, values.as_slice())
        } else {
            (0, [].as_slice())
        };
        (start..).zip(values.iter().copied())
    }

    /// As a line of JSON, with its end.
    ///
    /// # Panics
    /// Never: events are plain data.
    pub fn to_line(&self) -> String {
        serde_json::to_string(self).expect("events are plain data") + "\n"
    }
}

/// A history as lines of JSON.
pub fn to_lines(history: &[Event]) -> String {
    history.iter().map(Event::to_line).collect()
}
