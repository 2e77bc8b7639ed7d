//! Records of one client keep, in each partition, the order in which they were sent.

use std::collections::BTreeMap;

use super::{Event, Facts, Finding, Subject, Verdict, verdict};

pub(super) fn check(facts: &Facts<'_>) -> Verdict {
    let mut places: BTreeMap<u64, u64> =
        facts.acknowledged().map(|(value, place, _)| (value, place.offset)).collect();
    places.extend(facts.seen().filter_map(|place| Some((place.value?, place.offset))));
    let mut last: BTreeMap<(u32, u32), (u64, u64)> = BTreeMap::new();
    verdict(facts.history.iter().find_map(|event| {
        let Event::Send { client, partition, value, .. } = event else { return None };
        let offset = *places.get(value)?;
        let before = last.insert((*client, *partition), (*value, offset))?;
        (before.1 >= offset).then(|| {
            let (earlier, place) = before;
            let text = format!(
                "client {client} sent {earlier}, then {value}; they are at {place} and {offset} of {partition}"
            );
            Finding::new(text, [Subject::Value(earlier), Subject::Value(*value)])
        })
    }))
}
