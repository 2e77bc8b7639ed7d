//! What is read was sent, to that partition, with those bytes.

use super::{Facts, Verdict, verdict};

pub(super) fn check(facts: &Facts<'_>) -> Verdict {
    verdict(facts.seen().find_map(|place| {
        let (partition, offset) = (place.partition, place.offset);
        let Some(value) = place.value else {
            return Some(format!("offset {offset} of partition {partition} holds bytes that nobody sent"));
        };
        match facts.sent.get(&value) {
            Some(sent) if sent.partition == partition => None,
            Some(sent) => Some(format!("value {value} of partition {} is in {partition}", sent.partition)),
            None => {
                Some(format!("offset {offset} of partition {partition} holds {value}, which nobody sent"))
            }
        }
    }))
}
