//! What is read was sent, to that partition, with those bytes.

use super::{Facts, Finding, Subject, Verdict, verdict};

pub(super) fn check(facts: &Facts<'_>) -> Verdict {
    verdict(facts.seen().find_map(|place| {
        let (partition, offset) = (place.partition, place.offset);
        let here = Subject::Place { partition, offset };
        let Some(value) = place.value else {
            let text = format!("offset {offset} of partition {partition} holds bytes that nobody sent");
            return Some(Finding::new(text, [here]));
        };
        let text = match facts.sent.get(&value) {
            Some(sent) if sent.partition == partition => return None,
            Some(sent) => format!("value {value} of partition {} is in {partition}", sent.partition),
            None => format!("offset {offset} of partition {partition} holds {value}, which nobody sent"),
        };
        Some(Finding::new(text, [Subject::Value(value), here]))
    }))
}
