//! What a history says, by value, place and partition: gathered once for all checks.

use std::collections::BTreeMap;

use super::{Event, Level, VOID};

/// A record that was sent.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// By whom.
    pub client: u32,
    /// Whereto.
    pub partition: u32,
    /// How safe it was to be.
    pub level: Level,
    /// When, as an index of the history.
    pub index: usize,
}

/// What became of a record, as its sender knows it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// It is stored.
    Stored {
        /// Where.
        offset: u64,
        /// How safe the answer said it was.
        level: Level,
        /// Whether the answer said that it had been stored before.
        duplicate: bool,
        /// Whether the promise was bound to a cache that was lost since.
        void: bool,
    },
    /// It is not stored.
    Failed,
    /// Nobody knows.
    InDoubt,
}

/// A value that was seen at an offset of a partition.
#[derive(Clone, Copy, Debug)]
pub struct Sighting {
    /// The partition.
    pub partition: u32,
    /// The offset.
    pub offset: u64,
    /// The value; `None` for bytes that nobody sent.
    pub value: Option<u64>,
}

/// What a partition held at the end.
#[derive(Clone, Debug)]
pub struct Final {
    /// The first offset that was kept.
    pub start: u64,
    /// The values from there on.
    pub values: Vec<Option<u64>>,
}

/// A history and what follows from it.
#[derive(Debug)]
pub struct Facts<'a> {
    /// The history.
    pub history: &'a [Event],
    /// What was sent, by value.
    pub sent: BTreeMap<u64, Sent>,
    /// What became of it, by value; the first answer counts.
    pub outcomes: BTreeMap<u64, Outcome>,
    /// What readers got.
    pub delivered: Vec<Sighting>,
    /// What was there at the end, by partition.
    pub finals: BTreeMap<u32, Final>,
}

impl<'a> Facts<'a> {
    /// Walks through a history once.
    pub fn gather(history: &'a [Event]) -> Self {
        let last_loss = history.iter().rposition(|event| *event == Event::CacheLost);
        let mut facts = Self {
            history,
            sent: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            delivered: Vec::new(),
            finals: BTreeMap::new(),
        };
        for (index, event) in history.iter().enumerate() {
            match event {
                &Event::Send { client, partition, value, level } => {
                    facts.sent.insert(value, Sent { client, partition, level, index });
                }
                &Event::Stored { value, offset, level, duplicate } => {
                    // An answer may have been on its way when the cache was lost.
                    let sent = facts.sent.get(&value).map_or(0, |sent| sent.index);
                    let void = level == Level::Written && last_loss.is_some_and(|loss| loss > sent);
                    facts.outcomes.entry(value).or_insert(Outcome::Stored { offset, level, duplicate, void });
                }
                &Event::Failed { value } => {
                    facts.outcomes.entry(value).or_insert(Outcome::Failed);
                }
                &Event::InDoubt { value } => {
                    facts.outcomes.entry(value).or_insert(Outcome::InDoubt);
                }
                Event::Delivered { value: Some(VOID), .. } => {}
                &Event::Delivered { partition, offset, value, .. }
                | &Event::Handed { partition, offset, value, .. } => {
                    facts.delivered.push(Sighting { partition, offset, value });
                }
                Event::Final { partition, start, values } => {
                    facts.finals.insert(*partition, Final { start: *start, values: values.clone() });
                }
                Event::Keyed { .. }
                | Event::KeyStored { .. }
                | Event::KeyConflict { .. }
                | Event::Counted { .. }
                | Event::Start { .. }
                | Event::Missing { .. }
                | Event::Stop { .. }
                | Event::Grouped { .. }
                | Event::Acked { .. }
                | Event::Committed { .. }
                | Event::Position { .. }
                | Event::Limit { .. }
                | Event::Spent { .. }
                | Event::RecordLimit { .. }
                | Event::RecordsSpent { .. }
                | Event::CacheLost
                | Event::Held { .. }
                | Event::Settled => {}
            }
        }
        facts
    }

    /// What was acknowledged for good: value, partition, offset, and whether as a duplicate.
    pub fn acknowledged(&self) -> impl Iterator<Item = (u64, Sighting, bool)> + '_ {
        self.outcomes.iter().filter_map(|(value, outcome)| match outcome {
            Outcome::Stored { offset, duplicate, void: false, .. } => {
                let partition = self.sent.get(value)?.partition;
                Some((*value, Sighting { partition, offset: *offset, value: Some(*value) }, *duplicate))
            }
            Outcome::Stored { .. } | Outcome::Failed | Outcome::InDoubt => None,
        })
    }

    /// What was there at the end, place by place, as far as it counts.
    pub fn kept(&self) -> impl Iterator<Item = Sighting> + '_ {
        self.finals.iter().flat_map(|(partition, last)| {
            let places = (last.start..).zip(&last.values).filter(|(_, value)| **value != Some(VOID));
            places.map(|(offset, value)| Sighting { partition: *partition, offset, value: *value })
        })
    }

    /// What readers got and what was there at the end.
    pub fn seen(&self) -> impl Iterator<Item = Sighting> + '_ {
        self.delivered.iter().copied().chain(self.kept())
    }
}

impl Final {
    /// What was at an offset at the end. `Ok(None)` for nothing, `Err` if the offset is not kept any more.
    ///
    /// # Errors
    /// If the offset lies below the first that is kept.
    pub fn at(&self, offset: u64) -> Result<Option<Option<u64>>, Trimmed> {
        let index = offset.checked_sub(self.start).ok_or(Trimmed)?;
        Ok(usize::try_from(index).ok().and_then(|index| self.values.get(index)).copied())
    }

    /// The offset after the last.
    pub fn end(&self) -> u64 {
        self.start + self.values.len() as u64
    }
}

/// An offset that retention has removed.
#[derive(Clone, Copy, Debug)]
pub struct Trimmed;
