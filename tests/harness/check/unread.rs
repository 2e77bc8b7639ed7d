//! What was read stays, unless retention removes it: visible means durable.

use super::{Facts, Finding, Subject, Verdict, verdict};

pub(super) fn check(facts: &Facts<'_>) -> Verdict {
    if facts.finals.is_empty() {
        return Verdict::Unknown;
    }
    verdict(facts.delivered.iter().find_map(|place| {
        let last = facts.finals.get(&place.partition)?;
        matches!(last.at(place.offset), Ok(None)).then(|| {
            let (value, offset, partition) = (place.value, place.offset, place.partition);
            let text = format!(
                "{value:?} was read at {offset} of partition {partition}, which ends at {}",
                last.end()
            );
            Finding::new(text, [Subject::Place { partition, offset }])
        })
    }))
}
