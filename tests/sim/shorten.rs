//! Looks for the shortest way to a failure: fewer classes of faults, an earlier end, fewer faults, fewer records.

use crate::extent::Extent;
use crate::faults::Class;
use crate::world::Report;

/// Worlds that are run at most: a class each, twice, and three bisections.
const TRIES_MAX: u32 = 100;

/// Shortens a failure of a world that is run by `run`. Gives the extent that is left; nothing if the failure does not come
/// again.
pub(crate) fn shorten(
    extent: Extent,
    failed: &Report,
    mut run: impl FnMut(&Extent) -> Report,
) -> Option<Extent> {
    let mut tries = 0;
    let mut fails = |extent: &Extent| {
        tries += 1;
        (tries <= TRIES_MAX).then(|| run(extent)).filter(|report| report.failure.is_some())
    };
    let mut best = (extent.clone(), fails(&extent)?);
    drop_classes(&mut best, &failed.classes, &mut fails);
    bisect(&mut best, |extent| &mut extent.events, &mut fails);
    let events = best.0.events;
    best.0.strikes = best.0.strikes.min(events);
    bisect(&mut best, |extent| &mut extent.strikes, &mut fails);
    let sent = best.1.records;
    best.0.records = best.0.records.min(sent);
    bisect(&mut best, |extent| &mut extent.records, &mut fails);
    // A shorter world may do with less.
    let left = best.1.classes.clone();
    drop_classes(&mut best, &left, &mut fails);
    Some(best.0)
}

fn drop_classes(
    best: &mut (Extent, Report),
    classes: &[Class],
    fails: &mut impl FnMut(&Extent) -> Option<Report>,
) {
    for class in classes {
        let mut fewer = best.0.clone();
        fewer.without.push(*class);
        if let Some(report) = fails(&fewer) {
            *best = (fewer, report);
        }
    }
}

/// The least value of a field with which the world still fails, if fewer always fail less.
fn bisect(
    best: &mut (Extent, Report),
    field: impl Fn(&mut Extent) -> &mut u64,
    fails: &mut impl FnMut(&Extent) -> Option<Report>,
) {
    let mut passes_below = 0;
    loop {
        let mut shorter = best.0.clone();
        let most = *field(&mut shorter);
        let middle = passes_below + (most - passes_below) / 2;
        if middle >= most {
            return;
        }
        *field(&mut shorter) = middle;
        match fails(&shorter) {
            Some(report) => *best = (shorter, report),
            None => passes_below = middle + 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coverage::Coverage;

    #[test]
    fn only_what_the_failure_needs_is_left() {
        let run = |extent: &Extent| {
            let fails = !extent.without.contains(&Class::Kill)
                && extent.events >= 4711
                && extent.strikes >= 42
                && extent.records >= 7;
            let failure = fails.then(|| ("an invariant".to_owned(), "how".to_owned(), extent.events));
            Report {
                events: extent.events,
                records: 1000,
                trace: 0,
                coverage: Coverage::default(),
                classes: [Class::Stall, Class::Kill, Class::DiskFull]
                    .into_iter()
                    .filter(|class| !extent.without.contains(class))
                    .collect(),
                failure,
                history: Vec::new(),
                steps: Vec::new(),
            }
        };
        let all =
            Extent { without: Vec::new(), events: 20_000, strikes: 20_000, records: u64::MAX, traced: false };
        let extent = shorten(all.clone(), &run(&all), run).unwrap();
        assert_eq!(
            extent.to_string(),
            "WEIR_EVENTS=4711 WEIR_STRIKES=42 WEIR_RECORDS=7 WEIR_WITHOUT=Stall,DiskFull"
        );
        assert!(shorten(Extent { events: 3, ..all.clone() }, &run(&all), run).is_none());
    }
}
