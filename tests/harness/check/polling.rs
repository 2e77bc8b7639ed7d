//! A reader gets each offset of a partition once, in order; what is missing is announced.

use std::collections::BTreeMap;

use super::{Event, Facts, Finding, Subject, Verdict, verdict};

#[expect(clippy::wildcard_enum_match_arm, reason = "a check looks at some events only")]
pub(super) fn check(facts: &Facts<'_>) -> Verdict {
    let mut expected: BTreeMap<(u32, u32), u64> = BTreeMap::new();
    verdict(facts.history.iter().find_map(|event| {
        let (reader, partition, from, next) = match event {
            Event::Start { reader, partition, offset } => {
                expected.insert((*reader, *partition), *offset);
                return None;
            }
            Event::Delivered { reader, partition, offset, .. } => (reader, partition, *offset, offset + 1),
            Event::Missing { reader, partition, from, to } => (reader, partition, *from, *to),
            _ => return None,
        };
        let place = expected.entry((*reader, *partition)).or_insert(from);
        let wanted = std::mem::replace(place, next);
        (wanted != from || next <= from).then(|| {
            let text = format!(
                "reader {reader} got {from}..{next} of partition {partition} where {wanted} was next"
            );
            let at = |offset| Subject::Reading { reader: *reader, partition: *partition, offset };
            Finding::new(text, [at(wanted.saturating_sub(1)), at(from)])
        })
    }))
}
