//! What failed for certain is never visible.

use super::facts::Outcome;
use super::{Facts, Finding, Subject, Verdict, verdict};

pub(super) fn check(facts: &Facts<'_>) -> Verdict {
    verdict(facts.seen().find_map(|place| {
        let value = place.value?;
        let outcome = facts.outcomes.get(&value)?;
        (*outcome == Outcome::Failed).then(|| {
            let text = format!("value {value} failed, but is at {} of {}", place.offset, place.partition);
            Finding::new(text, [Subject::Value(value)])
        })
    }))
}
