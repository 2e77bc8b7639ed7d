//! What can be given up, as it is named on a command line.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use weir_protocol::units::{JournalPosition, Offset, PartitionId, SegmentId};

/// A range that is damaged and can be given up.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Loss {
    /// A part of the journal: `journal:FROM..TO`, in positions.
    Journal(Range<JournalPosition>),
    /// Records in segments: `TOPIC/PARTITION:FROM..TO`, in offsets.
    Records {
        /// Name of the topic.
        topic: String,
        /// The partition.
        partition: PartitionId,
        /// The records.
        offsets: Range<Offset>,
    },
    /// A generation of idempotency keys: `keys:NUMBER`. Those of records that are kept
    /// are found again; any other record that is sent again is stored again.
    Keys(SegmentId),
}

/// A text that names nothing that could be given up.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{text:?} is no range: it looks like journal:4096..8192, orders/0:10..20 or keys:7")]
pub struct ParseLossError {
    /// The text.
    pub text: String,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keys(generation) => write!(f, "keys:{generation}"),
            Self::Journal(positions) => write!(f, "journal:{}..{}", positions.start, positions.end),
            Self::Records { topic, partition, offsets } => {
                write!(f, "{topic}/{partition}:{}..{}", offsets.start, offsets.end)
            }
        }
    }
}

impl FromStr for Loss {
    type Err = ParseLossError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).ok_or_else(|| ParseLossError { text: text.to_owned() })
    }
}

fn parse(text: &str) -> Option<Loss> {
    let (place, range) = text.rsplit_once(':')?;
    // Names of topics have no slash, so neither keys nor the journal can be taken for one.
    if place == "keys" {
        return range.parse().ok().map(|number| Loss::Keys(SegmentId::new(number)));
    }
    let (start, end) = range.split_once("..")?;
    let (start, end): (u64, u64) = (start.parse().ok()?, end.parse().ok()?);
    if start >= end {
        return None;
    }
    if place == "journal" {
        return Some(Loss::Journal(JournalPosition::new(start)..JournalPosition::new(end)));
    }
    let (topic, partition) = place.rsplit_once('/')?;
    let partition = PartitionId::new(partition.parse().ok()?);
    let offsets = Offset::new(start)..Offset::new(end);
    (!topic.is_empty()).then(|| Loss::Records { topic: topic.to_owned(), partition, offsets })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_read_as_it_is_printed() {
        for text in [
            "journal:4096..8192",
            "orders/0:10..20",
            "journal/7:0..1",
            "keys:17",
            "keys/3:0..1",
            "a.b-c_d/9999:1..18446744073709551615",
        ] {
            assert_eq!(text.parse::<Loss>().map(|loss| loss.to_string()), Ok(text.to_owned()));
        }
        assert!(matches!("journal:0..1".parse(), Ok(Loss::Journal(_))));
    }

    #[test]
    fn anything_else_is_no_range() {
        for text in [
            "",
            "journal",
            "journal:5..5",
            "journal:6..5",
            "orders:1..2",
            "/0:1..2",
            "orders/x:1..2",
            "orders/0:1-2",
            "orders/0:..2",
            "keys:",
            "keys:1..2",
        ] {
            assert!(text.parse::<Loss>().is_err(), "{text}");
        }
    }
}
