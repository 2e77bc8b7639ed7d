//! What is announced as missing is missing: retention has removed it, and it does not come back.

use super::{Event, Facts, Finding, Subject, Verdict, verdict};

pub(super) fn check(facts: &Facts<'_>) -> Verdict {
    if facts.finals.is_empty() {
        return Verdict::Unknown;
    }
    verdict(facts.history.iter().find_map(|event| {
        let Event::Missing { reader, partition, from, to } = event else { return None };
        let start = facts.finals.get(partition)?.start;
        (*to > start).then(|| {
            let text = format!(
                "reader {reader} was told that {from}..{to} of {partition} are gone, which begins at {start}"
            );
            Finding::new(text, [Subject::Place { partition: *partition, offset: (*from).max(start) }])
        })
    }))
}
