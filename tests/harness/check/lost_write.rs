//! No acknowledged write is lost: it is there at the end, unless retention has removed it.

use super::{Facts, Verdict, verdict};

pub(super) fn check(facts: &Facts<'_>) -> Verdict {
    if facts.finals.is_empty() {
        return Verdict::Unknown;
    }
    verdict(facts.acknowledged().find_map(|(value, place, _)| {
        let last = facts.finals.get(&place.partition)?;
        match last.at(place.offset) {
            Ok(None) => Some(format!(
                "value {value} was acknowledged at {} of partition {}, which ends at {}",
                place.offset,
                place.partition,
                last.end()
            )),
            Ok(Some(_)) | Err(_) => None,
        }
    }))
}
