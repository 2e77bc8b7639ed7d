//! An answer promises no less than was asked for. Whether it is true, the lost writes tell.

use super::facts::Outcome;
use super::{Facts, Finding, Subject, Verdict, verdict};

pub(super) fn check(facts: &Facts<'_>) -> Verdict {
    verdict(facts.outcomes.iter().find_map(|(value, outcome)| {
        let Outcome::Stored { level, .. } = outcome else { return None };
        let asked = facts.sent.get(value)?.level;
        (*level < asked).then(|| {
            let text = format!("value {value} was to be {asked:?}, but the answer says {level:?}");
            Finding::new(text, [Subject::Value(*value)])
        })
    }))
}
