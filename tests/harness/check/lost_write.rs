//! No acknowledged write is lost: it is there at the end, unless retention has removed it.

use super::{Facts, Finding, Subject, Verdict, verdict};

pub(super) fn check(facts: &Facts<'_>) -> Verdict {
    if facts.finals.is_empty() {
        return Verdict::Unknown;
    }
    verdict(facts.acknowledged().find_map(|(value, place, _)| {
        let last = facts.finals.get(&place.partition)?;
        match last.at(place.offset) {
            Ok(None) => {
                let (partition, offset, end) = (place.partition, place.offset, last.end());
                let text = format!(
                    "value {value} was acknowledged at {offset} of partition {partition}, which ends at {end}"
                );
                Some(Finding::new(text, [Subject::Value(value), Subject::Place { partition, offset }]))
            }
            Ok(Some(_)) | Err(_) => None,
        }
    }))
}
