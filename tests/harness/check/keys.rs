//! A key has one record, and whoever asks is told the truth about it.

use std::collections::{BTreeMap, BTreeSet};

use super::{Event, Facts, Finding, Subject, Verdict, verdict};

/// Two records with one key: a conflict was missed.
pub(super) fn one_record(facts: &Facts<'_>) -> Verdict {
    let keys = keys(facts);
    let mut holders: BTreeMap<u64, u64> = BTreeMap::new();
    verdict(facts.seen().find_map(|place| {
        let value = place.value?;
        let key = *keys.get(&value)?;
        let first = *holders.entry(key).or_insert(value);
        (first != value).then(|| {
            let text = format!("key {key} has two records: {first} and {value}");
            Finding::new(text, [Subject::Value(first), Subject::Value(value)])
        })
    }))
}

/// An answer names a record with that key: the same one, or after a conflict another one.
#[expect(clippy::wildcard_enum_match_arm, reason = "a check looks at some events only")]
pub(super) fn answers(facts: &Facts<'_>) -> Verdict {
    if facts.finals.is_empty() {
        return Verdict::Unknown;
    }
    let keys = keys(facts);
    verdict(facts.history.iter().find_map(|event| {
        let (key, value, partition, offset, is_same) = match event {
            Event::KeyStored { key, value, partition, offset } => (*key, *value, *partition, *offset, true),
            Event::KeyConflict { key, value, partition, offset } => (*key, *value, *partition, *offset, false),
            _ => return None,
        };
        // What retention has removed cannot be looked at any more.
        let found = facts.finals.get(&partition)?.at(offset).ok()?.flatten();
        let is_true = match found {
            Some(found) if is_same => found == value,
            Some(found) => found != value && keys.get(&found) == Some(&key),
            None => false,
        };
        (!is_true).then(|| {
            let said = if is_same { "stored" } else { "in conflict with what is" };
            let text = format!(
                "value {value} of key {key} was said to be {said} at {offset} of partition {partition}, where {found:?} is"
            );
            Finding::new(text, [Subject::Value(value), Subject::Place { partition, offset }])
        })
    }))
}

/// A record has one place, however often it was sent.
#[expect(clippy::wildcard_enum_match_arm, reason = "a check looks at some events only")]
pub(super) fn one_place(facts: &Facts<'_>) -> Verdict {
    let mut places: BTreeMap<u64, (u32, u64)> = BTreeMap::new();
    let mut refused: BTreeSet<u64> = BTreeSet::new();
    verdict(facts.history.iter().find_map(|event| match event {
        Event::KeyStored { value, partition, offset, .. } => {
            let here = (*partition, *offset);
            let first = *places.entry(*value).or_insert(here);
            (first != here || refused.contains(value)).then(|| {
                let text = format!("value {value} was said to be at {here:?}, and before at {first:?}");
                Finding::new(text, [Subject::Value(*value)])
            })
        }
        Event::KeyConflict { value, .. } => {
            refused.insert(*value);
            places.contains_key(value).then(|| {
                let text = format!("value {value} was stored, and then in conflict with another");
                Finding::new(text, [Subject::Value(*value)])
            })
        }
        _ => None,
    }))
}

/// The key of each value.
fn keys(facts: &Facts<'_>) -> BTreeMap<u64, u64> {
    let keyed = facts.history.iter().filter_map(|event| {
        let Event::Keyed { key, value } = event else { return None };
        Some((*value, *key))
    });
    keyed.collect()
}
