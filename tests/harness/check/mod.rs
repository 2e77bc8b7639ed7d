//! The history checker: judges what clients saw, whoever the broker was.
//!
//! A history is a list of [`Event`]s in the order in which one observer saw them. Values are unique for each record that was
//! ever sent, and offsets give the order, so each check is a walk over the history. What is not known to have
//! failed is never taken for failed: a record is stored, refused for certain, or in doubt.
//!
//! Each file holds one invariant; what it needs to see is an event of `history.rs`, gathered in `facts.rs` if several checks
//! need it. So a new check is a file, a line in [`INVARIANTS`], and its events.

mod counters;
mod credit;
mod duplicate_answer;
mod duplicate_value;
mod facts;
mod failed_visible;
mod finding;
mod gap;
mod groups;
mod history;
mod keys;
mod level;
mod lost_write;
mod phantom;
mod polling;
mod reading;
mod reordering;
mod stuck;
#[cfg(test)]
mod tests;
mod two_values;
mod unread;

pub use facts::{Facts, Final, Outcome, Sent, Sighting, Trimmed};
pub use finding::{Finding, Subject};
pub use history::{Event, LAST_OF_NONE, Level, VOID, to_lines};
pub use reading::{Recorded, Unreadable};

/// What a check says about a history.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// The invariant holds.
    Ok,
    /// It is broken: where, and how.
    Fail(Finding),
    /// The history does not say enough.
    Unknown,
}

/// An invariant: its name, and its check.
pub type Invariant = (&'static str, fn(&Facts<'_>) -> Verdict);

/// All invariants.
pub const INVARIANTS: &[Invariant] = &[
    ("no acknowledged write is lost", lost_write::check),
    ("an offset holds one value", two_values::check),
    ("a value has one offset", duplicate_value::check),
    ("a duplicate is answered with the place of the original", duplicate_answer::check),
    ("records keep the order in which they were sent", reordering::check),
    ("what is read was sent", phantom::check),
    ("what failed is not visible", failed_visible::check),
    ("what was read stays", unread::check),
    ("a reader gets each offset once, in order", polling::check),
    ("what is announced as missing is missing", gap::check),
    ("nothing is sent beyond the credit", credit::check),
    ("an answer promises no less than was asked for", level::check),
    ("a key has one record", keys::one_record),
    ("an answer about a key is true", keys::answers),
    ("a record with a key has one place", keys::one_place),
    ("a partition of a group has one owner at a time", groups::one_owner),
    ("what a group has settled is not delivered to it again", groups::settled_once),
    ("the position of a group never goes back", groups::positions_rise),
    ("a group gets every record", groups::nothing_left_out),
    ("no update of a counter is lost", counters::check),
    ("everything comes to its end", stuck::check),
];

/// Checks every invariant. Gives the name and the finding of each that is broken.
pub fn check(history: &[Event]) -> Vec<(&'static str, Finding)> {
    let broken = |(name, verdict)| match verdict {
        Verdict::Fail(finding) => Some((name, finding)),
        Verdict::Ok | Verdict::Unknown => None,
    };
    judge(history).into_iter().filter_map(broken).collect()
}

/// What each invariant, by its name, says about a history.
pub fn judge(history: &[Event]) -> Vec<(&'static str, Verdict)> {
    let facts = Facts::gather(history);
    INVARIANTS.iter().map(|(name, check)| (*name, check(&facts))).collect()
}

/// The first finding decides.
fn verdict(finding: Option<Finding>) -> Verdict {
    finding.map_or(Verdict::Ok, Verdict::Fail)
}
