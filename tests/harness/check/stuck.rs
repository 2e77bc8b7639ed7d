//! Everything comes to its end: each record has a result, each reader has everything, nothing is held back.

use std::collections::BTreeMap;

use super::{Event, Facts, Finding, Subject, Verdict};

#[expect(clippy::wildcard_enum_match_arm, reason = "a check looks at some events only")]
pub(super) fn check(facts: &Facts<'_>) -> Verdict {
    if !facts.history.contains(&Event::Settled) {
        return Verdict::Unknown;
    }
    if let Some(value) = facts.sent.keys().find(|value| !facts.outcomes.contains_key(value)) {
        let text = format!("value {value} never got a result");
        return Verdict::Fail(Finding::new(text, [Subject::Value(*value)]));
    }
    let mut positions: BTreeMap<u32, BTreeMap<u32, u64>> = BTreeMap::new();
    for event in facts.history {
        match event {
            Event::Start { reader, partition, offset } => {
                positions.entry(*reader).or_default().insert(*partition, *offset);
            }
            Event::Delivered { reader, partition, offset, .. } => {
                positions.entry(*reader).or_default().insert(*partition, offset + 1);
            }
            Event::Missing { reader, partition, to, .. } => {
                positions.entry(*reader).or_default().insert(*partition, *to);
            }
            Event::Stop { reader } => {
                positions.remove(reader);
            }
            Event::Held { what, amount } => {
                return Verdict::Fail(Finding::new(
                    format!("{amount} {what} were not given back"),
                    [Subject::Held],
                ));
            }
            _ => {}
        }
    }
    for (reader, partitions) in positions {
        for (partition, position) in partitions {
            let end = facts.finals.get(&partition).map_or(position, super::facts::Final::end);
            if position < end {
                let text =
                    format!("reader {reader} stands at {position} of {partition}, which ends at {end}");
                let last = Subject::Reading { reader, partition, offset: position.saturating_sub(1) };
                return Verdict::Fail(Finding::new(
                    text,
                    [last, Subject::Place { partition, offset: position }],
                ));
            }
        }
    }
    Verdict::Ok
}
