//! What a check found: a sentence, and which events of the history it is about.

use std::fmt;

use super::Event;

/// Something that events of a history can be about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Subject {
    /// A record: sent, answered, read, there at the end.
    Value(u64),
    /// What is at an offset of a partition.
    Place {
        /// The partition.
        partition: u32,
        /// The offset.
        offset: u64,
    },
    /// A reader at an offset of a partition, and where it began there.
    Reading {
        /// The reader.
        reader: u32,
        /// The partition.
        partition: u32,
        /// The offset.
        offset: u64,
    },
    /// What happened to a partition of a group under a lease.
    Lease {
        /// The group.
        group: u32,
        /// The partition.
        partition: u32,
        /// The lease.
        lease: u64,
    },
    /// An offset of a partition that a group got and settled.
    Settling {
        /// The group.
        group: u32,
        /// The partition.
        partition: u32,
        /// The offset.
        offset: u64,
    },
    /// Where a group stands in a partition.
    Position {
        /// The group.
        group: u32,
        /// The partition.
        partition: u32,
    },
    /// The credit of a lane.
    Lane(u64),
    /// What was not given back.
    Held,
}

/// What a check found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Finding {
    text: String,
    subjects: Vec<Subject>,
}

impl Finding {
    pub(super) fn new(text: String, subjects: impl Into<Vec<Subject>>) -> Self {
        Self { text, subjects: subjects.into() }
    }

    /// The events it is about, as indexes of the history.
    pub fn events(&self, history: &[Event]) -> Vec<usize> {
        let is_concerned = |event: &Event| self.subjects.iter().any(|subject| subject.is_of(event));
        history.iter().enumerate().filter(|(_, event)| is_concerned(event)).map(|(index, _)| index).collect()
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Subject {
    #[expect(clippy::wildcard_enum_match_arm, reason = "each subject is of some events only")]
    fn is_of(self, event: &Event) -> bool {
        match self {
            Self::Value(value) => {
                event.value() == Some(value) || event.kept().any(|(_, kept)| kept == Some(value))
            }
            Self::Place { partition, offset } => match event {
                Event::Delivered { partition: at, offset: found, .. } => (*at, *found) == (partition, offset),
                Event::Missing { partition: at, from, to, .. } => {
                    *at == partition && (*from..*to).contains(&offset)
                }
                Event::Final { partition: at, .. } => *at == partition,
                _ => false,
            },
            Self::Reading { reader, partition, offset } => match event {
                Event::Start { reader: who, partition: at, .. } => (*who, *at) == (reader, partition),
                Event::Delivered { reader: who, partition: at, offset: found, .. } => {
                    (*who, *at, *found) == (reader, partition, offset)
                }
                Event::Missing { reader: who, partition: at, from, to } => {
                    (*who, *at) == (reader, partition) && (*from..*to).contains(&offset)
                }
                _ => false,
            },
            Self::Lease { .. } | Self::Settling { .. } | Self::Position { .. } => self.is_of_group(event),
            Self::Lane(lane) => {
                matches!(
                    event,
                    Event::Limit { lane: of, .. }
                        | Event::Spent { lane: of, .. }
                        | Event::RecordLimit { lane: of, .. }
                        | Event::RecordsSpent { lane: of, .. } if *of == lane
                )
            }
            Self::Held => matches!(event, Event::Held { .. }),
        }
    }

    fn is_of_group(self, event: &Event) -> bool {
        match (self, event) {
            (
                Self::Lease { group, partition, lease },
                Event::Handed { group: of, partition: at, lease: under, .. },
            ) => (*of, *at, *under) == (group, partition, lease),
            (
                Self::Settling { group, partition, offset },
                Event::Handed { group: of, partition: at, offset: found, .. },
            ) => (*of, *at, *found) == (group, partition, offset),
            (
                Self::Settling { group, partition, offset },
                Event::Acked { group: of, partition: at, from, to, .. },
            ) => (*of, *at) == (group, partition) && (*from..*to).contains(&offset),
            (
                Self::Settling { group, partition, .. } | Self::Position { group, partition },
                Event::Position { group: of, partition: at, .. },
            )
            | (Self::Position { group, partition }, Event::Committed { group: of, partition: at, .. }) => {
                (*of, *at) == (group, partition)
            }
            (Self::Settling { partition, .. }, Event::Final { partition: at, .. }) => *at == partition,
            _ => false,
        }
    }
}
