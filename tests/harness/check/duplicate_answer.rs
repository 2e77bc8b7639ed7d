//! A duplicate is answered with the place of the original.

use std::collections::BTreeMap;

use super::{Facts, Finding, Subject, Verdict, verdict};

pub(super) fn check(facts: &Facts<'_>) -> Verdict {
    let seen: BTreeMap<(u32, u64), Option<u64>> =
        facts.seen().map(|place| ((place.partition, place.offset), place.value)).collect();
    verdict(facts.acknowledged().filter(|(_, _, duplicate)| *duplicate).find_map(|(value, place, _)| {
        let found = seen.get(&(place.partition, place.offset))?;
        (*found != Some(value)).then(|| {
            let (partition, offset) = (place.partition, place.offset);
            let text = format!(
                "value {value} was answered as stored before at {offset} of partition {partition}: {found:?}"
            );
            Finding::new(text, [Subject::Value(value), Subject::Place { partition, offset }])
        })
    }))
}
