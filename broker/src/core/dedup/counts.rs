//! What is counted of keyed records, since the start.

pub use weir_protocol::message::KeyedCounts as KeyCounts;
use weir_protocol::message::RecordFate;

/// Counts a record that became this.
pub(super) const fn count(counts: &mut KeyCounts, fate: Option<&RecordFate>) {
    let counter = match fate {
        None => &mut counts.stored,
        Some(RecordFate::Duplicate(_)) => &mut counts.duplicates,
        Some(RecordFate::Conflict(_)) => &mut counts.conflicts,
        Some(RecordFate::Expired) => &mut counts.expired,
        Some(RecordFate::Full | RecordFate::VersionsFull) => &mut counts.full,
        Some(RecordFate::Off | RecordFate::VersionsOff | RecordFate::Unmet(_) | RecordFate::UnmetAbsent) => {
            return;
        }
    };
    *counter += 1;
}

/// Adds what was counted elsewhere.
pub(super) const fn add(counts: &mut KeyCounts, more: &KeyCounts) {
    counts.stored += more.stored;
    counts.duplicates += more.duplicates;
    counts.conflicts += more.conflicts;
    counts.expired += more.expired;
    counts.full += more.full;
}
