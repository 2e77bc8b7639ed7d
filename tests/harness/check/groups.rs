//! Consumer groups: one owner at a time, nothing that was confirmed comes again, positions go forward, and nothing is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::{Event, Facts, Finding, Subject, VOID, Verdict, verdict};

/// A partition of a group.
type Place = (u32, u32);

/// Records of a partition are handed out under one lease after the other, each of one member.
#[expect(clippy::wildcard_enum_match_arm, reason = "a check looks at some events only")]
pub(super) fn one_owner(facts: &Facts<'_>) -> Verdict {
    let mut latest: BTreeMap<Place, (u64, u32)> = BTreeMap::new();
    verdict(facts.history.iter().find_map(|event| {
        let (place, member, lease, offset) = match event {
            Event::Handed { group, partition, member, lease, offset, .. } => {
                ((*group, *partition), *member, *lease, *offset)
            }
            _ => return None,
        };
        let (before, owner) = *latest.entry(place).or_insert((lease, member));
        if lease > before {
            latest.insert(place, (lease, member));
        }
        (lease < before || lease == before && member != owner).then(|| {
            let (group, partition) = place;
            let text = format!(
                "member {member} of group {group} got {offset} of partition {partition} under lease {lease}, after member \
                 {owner} got records of it under lease {before}"
            );
            Finding::new(
                text,
                [Subject::Lease { group, partition, lease }, Subject::Lease { group, partition, lease: before }],
            )
        })
    }))
}

/// What was confirmed as settled is not handed out under a later lease, nor again under the same one.
#[expect(clippy::wildcard_enum_match_arm, reason = "a check looks at some events only")]
pub(super) fn settled_once(facts: &Facts<'_>) -> Verdict {
    let mut settled: BTreeMap<(Place, u64), (u64, usize)> = BTreeMap::new();
    for (index, event) in facts.history.iter().enumerate() {
        if let Event::Acked { group, partition, lease, from, to, .. } = event {
            for offset in *from..*to {
                let first = settled.entry(((*group, *partition), offset)).or_insert((*lease, index));
                *first = (*first).min((*lease, index));
            }
        }
    }
    verdict(facts.history.iter().enumerate().find_map(|(index, event)| match event {
        Event::Handed { group, partition, member, lease, offset, .. } => {
            let place = (*group, *partition);
            let (under, at) = *settled.get(&(place, *offset))?;
            (under < *lease || under == *lease && at < index).then(|| {
                let text = format!(
                    "member {member} of group {group} got {offset} of partition {partition} under lease {lease}, which was \
                     confirmed as settled under lease {under}"
                );
                Finding::new(text, [Subject::Settling { group: *group, partition: *partition, offset: *offset }])
            })
        }
        _ => None,
    }))
}

/// A committed position never goes back: not under one lease, not from one to the next, and not by a restart.
#[expect(clippy::wildcard_enum_match_arm, reason = "a check looks at some events only")]
pub(super) fn positions_rise(facts: &Facts<'_>) -> Verdict {
    // The highest position that was told under each lease.
    let mut told: BTreeMap<Place, BTreeMap<u64, u64>> = BTreeMap::new();
    let mut confirmed: BTreeMap<Place, Vec<Range<u64>>> = BTreeMap::new();
    verdict(facts.history.iter().find_map(|event| match event {
        Event::Committed { group, partition, lease, offset } => {
            let leases = told.entry((*group, *partition)).or_default();
            let before = leases.range(..=lease).map(|(_, offset)| *offset).max().unwrap_or(0);
            let highest = leases.entry(*lease).or_insert(0);
            *highest = (*highest).max(*offset);
            (*offset < before).then(|| fell((*group, *partition), before, *offset))
        }
        Event::Acked { group, partition, from, to, .. } => {
            confirmed.entry((*group, *partition)).or_default().push(*from..*to);
            None
        }
        Event::Position { group, partition, floor, settled } => {
            let place = (*group, *partition);
            let before = told.get(&place).and_then(|leases| leases.values().copied().max()).unwrap_or(0);
            if *floor < before {
                return Some(fell(place, before, *floor));
            }
            let settled: BTreeSet<u64> = settled.iter().copied().collect();
            let ranges = confirmed.get(&place).into_iter().flatten().cloned();
            let lost = ranges.flatten().find(|offset| offset >= floor && !settled.contains(offset))?;
            let text =
                format!("{lost} of partition {partition} was confirmed as settled by group {group}, and is not at the end");
            Some(Finding::new(text, [Subject::Settling { group: *group, partition: *partition, offset: lost }]))
        }
        _ => None,
    }))
}

fn fell((group, partition): Place, before: u64, now: u64) -> Finding {
    let text = format!("the position of group {group} in partition {partition} fell from {before} to {now}");
    Finding::new(text, [Subject::Position { group, partition }])
}

/// A group gets every record from where it begins, and has settled it when everything has had its time.
#[expect(clippy::wildcard_enum_match_arm, reason = "a check looks at some events only")]
pub(super) fn nothing_left_out(facts: &Facts<'_>) -> Verdict {
    if !facts.history.contains(&Event::Settled) {
        return Verdict::Unknown;
    }
    let mut handed: BTreeSet<(Place, u64)> = BTreeSet::new();
    let mut ends: BTreeMap<Place, u64> = BTreeMap::new();
    for event in facts.history {
        match event {
            Event::Handed { group, partition, offset, .. } => {
                handed.insert(((*group, *partition), *offset));
            }
            Event::Position { group, partition, floor, .. } => {
                ends.insert((*group, *partition), *floor);
            }
            _ => {}
        }
    }
    verdict(facts.history.iter().find_map(|event| {
        let Event::Grouped { group, partition, offset } = event else { return None };
        let last = facts.finals.get(partition)?;
        let places = (last.start..).zip(&last.values);
        let counts = places.filter(|(place, value)| place >= offset && **value != Some(VOID));
        let left =
            counts.map(|(place, _)| place).find(|place| !handed.contains(&((*group, *partition), *place)));
        if let Some(left) = left {
            let text = format!("group {group} never got {left} of partition {partition}");
            return Some(Finding::new(
                text,
                [Subject::Settling { group: *group, partition: *partition, offset: left }],
            ));
        }
        let floor = *ends.get(&(*group, *partition))?;
        (floor < last.end()).then(|| {
            let end = last.end();
            let text =
                format!("group {group} stands at {floor} of partition {partition}, which ends at {end}");
            Finding::new(text, [Subject::Position { group: *group, partition: *partition }])
        })
    }))
}
