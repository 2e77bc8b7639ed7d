//! An offset holds one value, whoever looks: acknowledgements, readers, the end.

use std::collections::BTreeMap;

use super::{Facts, Finding, Subject, Verdict, verdict};

pub(super) fn check(facts: &Facts<'_>) -> Verdict {
    let originals = facts.acknowledged().filter(|(_, _, duplicate)| !duplicate).map(|(_, place, _)| place);
    let mut known = BTreeMap::new();
    verdict(facts.seen().chain(originals).find_map(|place| {
        let first = *known.entry((place.partition, place.offset)).or_insert(place.value);
        (first != place.value).then(|| {
            let (partition, offset) = (place.partition, place.offset);
            let text =
                format!("offset {offset} of partition {partition} held {first:?} and {:?}", place.value);
            let values = [first, place.value].into_iter().flatten().map(Subject::Value);
            Finding::new(text, values.chain([Subject::Place { partition, offset }]).collect::<Vec<_>>())
        })
    }))
}
