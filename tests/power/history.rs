//! What was sent, and what must be there from now on.

use std::collections::{BTreeMap, BTreeSet};

use harness::{Broker, Lines, json_lines};
use serde_json::json;

/// Lines of each load.
const LOAD: usize = 20_000;

/// How records are printed.
pub(crate) const FORMAT: [&str; 2] = ["-f", "%p %o %v\\n"];

/// A partition and an offset in it.
type Place = (u64, u64);

/// What one who is outside of the broker has seen of it.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// Each line is the only one of its kind.
    sent: Vec<String>,
    /// What had a durable receipt, or was delivered, which is a promise as well.
    known: BTreeMap<Place, String>,
}

impl History {
    /// Lines that were sent so far.
    pub(crate) const fn sent(&self) -> usize {
        self.sent.len()
    }

    /// Records that must be there.
    pub(crate) fn known(&self) -> usize {
        self.known.len()
    }

    /// Lines to send next.
    pub(crate) fn more(&mut self) -> String {
        let lines = Lines::numbered(self.sent(), LOAD);
        self.sent.extend(lines.text().lines().map(str::to_owned));
        lines.text().to_owned()
    }

    /// Takes the receipts of a `weir send` of the lines from number `first` on.
    pub(crate) fn learn_receipts(&mut self, first: usize, printed: &str) {
        for receipt in json_lines(whole_lines(printed)) {
            assert_eq!(receipt["durability"], json!("durable"));
            let field = |name: &str| receipt[name].as_u64().unwrap();
            let line = self.sent[first + usize::try_from(field("record")).unwrap()].clone();
            self.learn((field("partition"), field("offset")), line);
        }
    }

    /// Takes records that were printed by [`FORMAT`].
    pub(crate) fn learn_records(&mut self, printed: &str) {
        for (place, line) in records(printed) {
            self.learn(place, line);
        }
    }

    fn learn(&mut self, place: Place, line: String) {
        let known = self.known.entry(place).or_insert_with(|| line.clone());
        assert_eq!(*known, line, "two records at {place:?}");
    }

    /// Everything that is known is there, at its place and once; and besides that only what was sent, once.
    pub(crate) fn check(&mut self, broker: &Broker) {
        let all = [&["tail", "orders", "--from", "earliest", "--to-end"][..], &FORMAT].concat();
        let stored = records(&broker.text(&all));
        let places: BTreeMap<&Place, &String> = stored.iter().map(|(place, line)| (place, line)).collect();
        assert_eq!(places.len(), stored.len(), "an offset was delivered twice");
        let lost: Vec<_> =
            self.known.iter().filter(|(place, line)| places.get(place) != Some(line)).collect();
        assert!(lost.is_empty(), "{} records are not there as they were, such as {:?}", lost.len(), lost[0]);
        let sent: BTreeSet<&String> = self.sent.iter().collect();
        let mut seen = BTreeSet::new();
        for (place, line) in &stored {
            assert!(sent.contains(line), "{line} at {place:?} was never sent");
            assert!(seen.insert(line), "{line} is stored twice, also at {place:?}");
        }
        self.known = stored.into_iter().collect();
    }
}

/// Without the rest behind the last line's end: its writer was killed.
fn whole_lines(printed: &str) -> &str {
    printed.rfind('\n').map_or("", |end| &printed[..=end])
}

fn records(printed: &str) -> Vec<(Place, String)> {
    let parse = |line: &str| {
        let mut fields = line.splitn(3, ' ');
        let mut number = || fields.next()?.parse().ok();
        let place = (number()?, number()?);
        Some((place, fields.next()?.to_owned()))
    };
    whole_lines(printed)
        .lines()
        .map(|line| parse(line).unwrap_or_else(|| panic!("no record: {line}")))
        .collect()
}
