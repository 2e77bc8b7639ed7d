//! Random records, expectations, repetitions and flushes against a plain map.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const KEYS: [&str; 3] = ["a", "b", "c"];

/// What is true of one partition.
#[derive(Default)]
struct Model {
    /// The offset of the last record of each key.
    last: BTreeMap<&'static str, u64>,
    end: u64,
    /// What of `last` is on the disk.
    older: BTreeMap<&'static str, u64>,
    /// Records with a key since the last flush, and before.
    recent: u64,
    flushed: u64,
    /// Each batch, with its base offset and the numbers of its void records.
    sent: Vec<(Vec<Given<'static>>, u64, Vec<u32>)>,
}

impl Model {
    /// Why a record is void if it stands behind so many others of its batch.
    fn unmet(&self, (key, _, expectation): &Given<'_>, base: u64) -> Option<RecordFate> {
        let (expected, actual) = match (*expectation)? {
            Expectation::PartitionAt(offset) => (Some(offset.get()), Some(base)),
            Expectation::KeyAt(offset) => (Some(offset.get()), self.last.get(key).copied()),
            Expectation::KeyAbsent => (None, self.last.get(key).copied()),
        };
        (expected != actual).then(|| actual.map_or(RecordFate::UnmetAbsent, unmet))
    }

    fn publish(&mut self, records: Vec<Given<'static>>) -> Answer {
        let base = self.end;
        let mut exceptions = Vec::new();
        for (number, record) in (0..).zip(&records) {
            if let Some(fate) = self.unmet(record, base) {
                exceptions.push((number, fate));
            } else if !record.0.is_empty() {
                self.last.insert(record.0, base + u64::from(number));
                self.recent += 1;
            }
        }
        if exceptions.len() < records.len() {
            self.end += records.len() as u64;
        }
        self.sent.push((records, base, exceptions.iter().map(|(number, _)| *number).collect()));
        (base, false, exceptions)
    }

    /// What a batch is answered that comes again: refused is what was refused, with what is true now.
    fn again(&self, sequence: usize) -> Answer {
        let (records, base, void) = &self.sent[sequence];
        let fate =
            |number: u32| self.unmet(&records[number as usize], *base).unwrap_or(RecordFate::VersionsFull);
        (*base, true, void.iter().map(|number| (*number, fate(*number))).collect())
    }
}

/// One to four records, of which many expect something that is true, or nearly.
fn records(mut choice: u64, model: &Model) -> Vec<Given<'static>> {
    let mut draw = |bound: u64| {
        let drawn = choice % bound;
        choice /= bound;
        drawn
    };
    let count = 1 + draw(4);
    let record = |number| {
        let key = KEYS.get(usize::try_from(draw(4)).unwrap()).copied().unwrap_or("");
        let last = model.last.get(key).copied().unwrap_or(0);
        let expectation = match draw(5) {
            0 if number == 0 => partition_at(model.end),
            1 if number == 0 => partition_at(model.end.saturating_sub(1)),
            2 if !key.is_empty() => key_at(last + draw(2)),
            3 if !key.is_empty() => ABSENT,
            _ => None,
        };
        (key, "", expectation)
    };
    (0..count).map(record).collect()
}

impl Script {
    /// Answers what is asked of the disk.
    fn look(&mut self, model: &Model) {
        while !self.actions.key_probes.is_empty() {
            let asked = self.probe().digests;
            let known = model.older.iter().map(|(key, offset)| self.old_version(key, *offset));
            self.found(known.filter(|entry| asked.contains(&entry.digest)).collect());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_is_stored_and_what_is_answered_is_what_a_plain_map_says(
        script in prop::collection::vec((0u8..10, any::<u64>()), 1..50),
    ) {
        let mut node = versioned();
        node.filter.maybe.store(true, Ordering::Relaxed);
        let (mut model, mut owed) = (Model::default(), Vec::new());
        for (action, choice) in script {
            match action {
                0..6 => {
                    let records = records(choice, &model);
                    node.put(1, model.sent.len() as u64, &records);
                    // Only what expects something waits for the disk; the answer comes before anything else is sent.
                    node.look(&model);
                    owed.push(model.publish(records));
                }
                6..8 if !model.sent.is_empty() => {
                    let sequence = usize::try_from(choice % model.sent.len() as u64).unwrap();
                    node.put(1, sequence as u64, &model.sent[sequence].0);
                    node.look(&model);
                    owed.push(model.again(sequence));
                }
                _ => {}
            }
            if action == 8 || model.recent > KEYS_MAX - 5 {
                prop_assert_eq!(node.synced(), std::mem::take(&mut owed));
            }
            if action == 9 || model.recent > KEYS_MAX - 5 {
                prop_assert_eq!(node.synced(), std::mem::take(&mut owed));
                model.flushed += std::mem::take(&mut model.recent);
                model.older = model.last.clone();
                node.event(Event::Flushed(Flushed { partitions: Vec::new(), keys: model.flushed }));
            }
        }
        prop_assert_eq!(node.synced(), owed);
        prop_assert_eq!(node.node.figures().held_bytes, 0);
    }
}
