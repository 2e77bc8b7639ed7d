//! An application that sends records with idempotency keys, and sends again whatever has no result: also another process
//! of it, as if the records stood in an outbox.

use std::collections::{BTreeSet, VecDeque};

use harness::check::Event;
use harness::payload::{payload, value_of};
use weir_client::core::fingerprint::fingerprint;
use weir_client::core::producer::{Completion, Outcome, Routing};
use weir_protocol::batch::{ProducerBatch, RecordInput, TableRow};
use weir_protocol::message::{RecordException, RecordFate};
use weir_protocol::partitioner::routing_hash;

use super::Publishing;
use crate::client::{Context, level_of};
use crate::coverage::Situation;

/// Records that have their result and may be sent again all the same.
const SETTLED_MAX: usize = 20;

/// A record: its key, and what stands for its payload.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Keyed {
    key: u64,
    value: u64,
    /// The key says that it was made long ago.
    is_old: bool,
}

impl Keyed {
    fn bytes(self) -> Vec<u8> {
        let Self { key, is_old, .. } = self;
        // A UUID of version 7, of the first second of 1970.
        if is_old { format!("00000000-03e8-7000-8000-{key:012x}") } else { format!("k{key}") }.into_bytes()
    }

    fn read(key: &[u8], value: u64) -> Option<Self> {
        let text = std::str::from_utf8(key).ok()?;
        match text.strip_prefix('k') {
            Some(number) => Some(Self { key: number.parse().ok()?, value, is_old: false }),
            None => {
                let number = u64::from_str_radix(text.rsplit('-').next()?, 16).ok()?;
                Some(Self { key: number, value, is_old: true })
            }
        }
    }
}

/// What is to be sent again.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outbox {
    again: VecDeque<Keyed>,
    under_way: BTreeSet<Keyed>,
    settled: VecDeque<Keyed>,
    /// Values whose first sending is in the history.
    sent: BTreeSet<u64>,
}

impl Outbox {
    /// Another process takes over: nothing is under way any more.
    pub(crate) fn take_over(mut self) -> Self {
        self.again.extend(std::mem::take(&mut self.under_way));
        self
    }

    fn settle(&mut self, record: Keyed) {
        self.under_way.remove(&record);
        self.settled.push_back(record);
        if self.settled.len() > SETTLED_MAX {
            self.settled.pop_front();
        }
    }
}

impl Publishing {
    /// Sends a record with a key: a new one, or one that was sent before.
    pub(super) fn push_keyed(&mut self, cost: u64, context: &mut Context<'_>) {
        let record = self.choose(context);
        let payload = payload(record.value, context.record_bytes);
        let key = record.bytes();
        let hash = routing_hash(&key);
        let fingerprint = fingerprint(Some(&key), Some(&payload), [].into_iter());
        let row =
            TableRow { routing_hash: hash, idempotency_key: Some(&key), fingerprint, ..TableRow::default() };
        let input = RecordInput { value: Some(&payload), row, ..RecordInput::default() };
        let Some(partition) = self.put(Routing::Hash(hash), &input, cost, context) else { return };
        let Keyed { key, value, .. } = record;
        if self.outbox.sent.insert(value) {
            // What became of a single sending says little, and the order is that of the first one that arrives.
            let client = u32::try_from(context.number()).unwrap_or(u32::MAX);
            let level = level_of(self.plan.durability);
            context.history.push(Event::Send { client, partition, value, level });
            context.history.push(Event::InDoubt { value });
        }
        context.history.push(Event::Keyed { key, value });
        self.outbox.under_way.insert(record);
    }

    fn choose(&mut self, context: &mut Context<'_>) -> Keyed {
        let outbox = &mut self.outbox;
        if self.random.percent(60)
            && let Some(again) = outbox.again.pop_front()
        {
            return again;
        }
        let chosen = self.random.below(outbox.settled.len().max(1) as u64);
        let settled = usize::try_from(chosen).ok().and_then(|index| outbox.settled.get(index)).copied();
        let (value, draw) = (context.number(), self.random.below(100));
        match settled {
            Some(settled) if draw < 20 => settled,
            Some(settled) if draw < 30 => Keyed { value, ..settled },
            Some(_) | None => Keyed { key: value, value, is_old: draw >= 95 },
        }
    }

    /// Takes note of results. What has none is sent again.
    pub(super) fn complete_keyed(&mut self, done: Vec<Completion<()>>, context: &mut Context<'_>) {
        for completion in done {
            match completion.outcome {
                Outcome::Stored(entry, exceptions, batch) => {
                    let partition = entry.partition.get();
                    let mut exceptions = exceptions.into_iter().peekable();
                    for (index, record) in (0..).zip(records(&batch, context.record_bytes)) {
                        let exception = exceptions.next_if(|exception| exception.record == index);
                        let place = (partition, entry.base_offset.get() + u64::from(index));
                        self.answered(record, place, exception, context);
                    }
                }
                Outcome::Failed(failed) => {
                    for record in records(&failed.batch, context.record_bytes) {
                        if self.outbox.under_way.remove(&record) {
                            self.outbox.again.push_back(record);
                        }
                    }
                }
            }
        }
    }

    fn answered(
        &mut self,
        record: Keyed,
        (partition, offset): (u32, u64),
        exception: Option<RecordException>,
        context: &mut Context<'_>,
    ) {
        let Keyed { key, value, is_old } = record;
        let event = match exception.map(|exception| exception.fate) {
            None if is_old => {
                return context.defect(|| format!("key {key} is too old, but its record was stored"));
            }
            None => Event::KeyStored { key, value, partition, offset },
            Some(RecordFate::Duplicate(original)) => {
                context.coverage.saw(Situation::KeyDuplicate);
                let (partition, offset) = (original.partition.get(), original.offset.get());
                Event::KeyStored { key, value, partition, offset }
            }
            Some(RecordFate::Conflict(original)) => {
                context.coverage.saw(Situation::KeyConflict);
                let (partition, offset) = (original.partition.get(), original.offset.get());
                Event::KeyConflict { key, value, partition, offset }
            }
            Some(RecordFate::Expired) if is_old => {
                context.coverage.saw(Situation::KeyExpired);
                self.outbox.under_way.remove(&record);
                return;
            }
            Some(RecordFate::Full) => {
                self.outbox.under_way.remove(&record);
                self.outbox.again.push_back(record);
                return;
            }
            Some(fate) => {
                return context.defect(|| format!("key {key} was answered with {fate:?}"));
            }
        };
        context.history.push(event);
        self.outbox.settle(record);
    }
}

fn records(batch: &ProducerBatch, record_bytes: u64) -> Vec<Keyed> {
    let records = batch.records().expect("the producer made the batch");
    let both = records.zip(batch.table().rows());
    both.filter_map(|(record, row)| {
        Keyed::read(row.idempotency_key?, value_of(&record.ok()?.value?, record_bytes)?)
    })
    .collect()
}
