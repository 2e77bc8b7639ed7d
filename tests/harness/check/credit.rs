//! Nothing is sent beyond the credit, on any lane, in any direction.

use std::collections::BTreeMap;

use super::{Event, Facts, Finding, Subject, Verdict, verdict};

#[expect(clippy::wildcard_enum_match_arm, reason = "a check looks at some events only")]
pub(super) fn check(facts: &Facts<'_>) -> Verdict {
    let mut lanes: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    let mut records_of: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    verdict(facts.history.iter().find_map(|event| match event {
        Event::Limit { lane, bytes } => {
            let (limit, _) = lanes.entry(*lane).or_default();
            let lowered = *bytes < *limit;
            *limit = *bytes;
            let text = || format!("the limit of lane {lane} went back to {bytes}");
            lowered.then(|| Finding::new(text(), [Subject::Lane(*lane)]))
        }
        Event::Spent { lane, bytes } => {
            let (limit, spent) = lanes.entry(*lane).or_default();
            *spent += bytes;
            (*spent > *limit).then(|| {
                let text = format!("{spent} bytes were sent on lane {lane} within a limit of {limit}");
                Finding::new(text, [Subject::Lane(*lane)])
            })
        }
        Event::RecordLimit { lane, records } => {
            let (limit, _) = records_of.entry(*lane).or_default();
            let lowered = *records < *limit;
            *limit = *records;
            let text = || format!("the limit of lane {lane} went back to {records} records");
            lowered.then(|| Finding::new(text(), [Subject::Lane(*lane)]))
        }
        Event::RecordsSpent { lane, records } => {
            // Whoever was never told a limit has none.
            let (limit, spent) = records_of.get_mut(lane)?;
            let before = *spent;
            *spent += records;
            (before >= *limit).then(|| {
                let text = format!(
                    "a batch was sent on lane {lane} behind {before} records within a limit of {limit}"
                );
                Finding::new(text, [Subject::Lane(*lane)])
            })
        }
        _ => None,
    }))
}
