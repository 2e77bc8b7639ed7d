//! A value has one offset: what was sent again is stored once.

use std::collections::BTreeMap;

use super::{Facts, Finding, Subject, Verdict, verdict};

pub(super) fn check(facts: &Facts<'_>) -> Verdict {
    let originals = facts.acknowledged().filter(|(_, _, duplicate)| !duplicate).map(|(_, place, _)| place);
    let mut known = BTreeMap::new();
    verdict(facts.seen().chain(originals).find_map(|place| {
        let value = place.value?;
        let here = (place.partition, place.offset);
        let first = *known.entry(value).or_insert(here);
        (first != here).then(|| {
            let text = format!("value {value} is at {first:?} and at {here:?}: partition and offset");
            Finding::new(text, [Subject::Value(value)])
        })
    }))
}
