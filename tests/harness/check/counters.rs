//! No update is lost: a record that names its predecessor stands directly behind it, among those of its counter.

use std::collections::BTreeMap;

use super::{Event, Facts, Finding, LAST_OF_NONE, Subject, Verdict, verdict};

#[expect(clippy::wildcard_enum_match_arm, reason = "a check looks at some events only")]
pub(super) fn check(facts: &Facts<'_>) -> Verdict {
    if facts.finals.is_empty() {
        return Verdict::Unknown;
    }
    let counted: BTreeMap<u64, (u64, Option<i64>)> = facts
        .history
        .iter()
        .filter_map(|event| match event {
            Event::Counted { key, value, last } => Some((*value, (*key, *last))),
            _ => None,
        })
        .collect();
    // Where the last record of each counter stands, and which one it is.
    let mut lasts: BTreeMap<u64, (i64, u64)> = BTreeMap::new();
    verdict(facts.kept().find_map(|place| {
        let value = place.value?;
        let (key, expected) = counted.get(&value)?;
        let offset = i64::try_from(place.offset).unwrap_or(i64::MAX);
        let before = lasts.insert(*key, (offset, value));
        let is_whole = facts.finals.get(&place.partition)?.start == 0;
        // What retention has removed cannot be looked at any more.
        let last = before.map(|(offset, _)| offset).or_else(|| is_whole.then_some(LAST_OF_NONE))?;
        let expected = (*expected)?;
        (expected != last).then(|| {
            let text = format!(
                "value {value} at {} of partition {} was to follow {expected}, but counter {key} was at {last}",
                place.offset, place.partition
            );
            let values = [Some(value), before.map(|(_, value)| value)];
            Finding::new(text, values.into_iter().flatten().map(Subject::Value).collect::<Vec<_>>())
        })
    }))
}
