//! An application that shares counters with others: each record says which one of its counter it has seen last.

use std::collections::BTreeMap;

use harness::check::{Event, LAST_OF_NONE};
use harness::payload::{payload, value_of};
use weir_client::core::fingerprint::record_key;
use weir_client::core::producer::{Completion, Failed, Outcome, Routing};
use weir_protocol::batch::{Expectation, ProducerBatch, RecordInput, TableRow};
use weir_protocol::message::{AckEntry, RecordException, RecordFate};
use weir_protocol::partitioner::routing_hash;
use weir_protocol::units::Offset;

use super::Publishing;
use crate::client::{Context, level_of};
use crate::coverage::Situation;

/// Where the last record of each counter stands, as far as a client knows; absent are those of which it knows nothing.
pub(super) type Seen = BTreeMap<u64, u64>;

impl Publishing {
    /// Sends a record of some counter: nearly always only if nobody else has since this client looked.
    pub(super) fn push_counted(&mut self, cost: u64, context: &mut Context<'_>) {
        let (counter, value) = (self.random.below(self.plan.counters), context.number());
        let key = counter.to_le_bytes();
        let last = self.seen.get(&counter).copied();
        let is_conditional = self.random.percent(90);
        let expectation = last.map_or(Expectation::KeyAbsent, |last| Expectation::KeyAt(Offset::new(last)));
        let bytes = payload(value, context.record_bytes);
        let row = TableRow {
            expectation: is_conditional.then_some(expectation),
            record_key: Some(record_key(&key)),
            ..TableRow::default()
        };
        let record = RecordInput { key: Some(&key), value: Some(&bytes), row, ..RecordInput::default() };
        let routing = Routing::Hash(routing_hash(&key));
        let Some(partition) = self.put(routing, &record, cost, context) else { return };
        let (client, level) = (self.name, level_of(self.plan.durability));
        context.history.push(Event::Send { client, partition, value, level });
        let last = last.map_or(LAST_OF_NONE, |last| i64::try_from(last).unwrap_or(i64::MAX));
        let last = is_conditional.then_some(last);
        context.history.push(Event::Counted { key: counter, value, last });
    }

    /// Takes note of results, and of what they say of counters.
    pub(super) fn complete_counted(&mut self, done: Vec<Completion<()>>, context: &mut Context<'_>) {
        for completion in done {
            match completion.outcome {
                Outcome::Stored(entry, exceptions, batch) => {
                    self.counted(&entry, exceptions, &batch, context);
                }
                Outcome::Failed(Failed { batch, maybe_stored, .. }) => {
                    for (_, value) in records(&batch, context.record_bytes) {
                        let event =
                            if maybe_stored { Event::InDoubt { value } } else { Event::Failed { value } };
                        context.history.push(event);
                    }
                }
            }
        }
    }

    fn counted(
        &mut self,
        entry: &AckEntry,
        exceptions: Vec<RecordException>,
        batch: &ProducerBatch,
        context: &mut Context<'_>,
    ) {
        let (level, duplicate) = (level_of(entry.durability), entry.duplicate);
        let mut exceptions = exceptions.into_iter().peekable();
        for (index, (counter, value)) in (0..).zip(records(batch, context.record_bytes)) {
            let offset = entry.base_offset.get() + u64::from(index);
            match exceptions.next_if(|exception| exception.record == index).map(|exception| exception.fate) {
                None => {
                    let seen = self.seen.entry(counter).or_default();
                    *seen = offset.max(*seen);
                    context.history.push(Event::Stored { value, offset, level, duplicate });
                    continue;
                }
                Some(RecordFate::Unmet(actual)) => {
                    context.coverage.saw(Situation::Unmet);
                    self.seen.insert(counter, actual.get());
                }
                Some(RecordFate::VersionsFull) => {}
                Some(fate) => context.defect(|| format!("a record of counter {counter} met {fate:?}")),
            }
            context.history.push(Event::Failed { value });
        }
    }
}

/// Counter and value of each record.
fn records(batch: &ProducerBatch, record_bytes: u64) -> Vec<(u64, u64)> {
    let records = batch.records().expect("the producer made the batch").filter_map(Result::ok);
    let counted = records.filter_map(|record| {
        let key = record.key?;
        let key: [u8; 8] = key.as_ref().try_into().ok()?;
        Some((u64::from_le_bytes(key), value_of(&record.value?, record_bytes)?))
    });
    counted.collect()
}
