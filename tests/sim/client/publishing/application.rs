//! The application of a producer: it sends records as far as there is room, and notes what comes of them.

use harness::check::Event;
use weir_client::core::producer::{Completion, Outcome, Routing, Why};
use weir_protocol::batch::{ProducerBatch, RecordInput};
use weir_protocol::units::{Durability, PartitionId};

use super::Publishing;
use crate::client::{Context, level_of};
use crate::coverage::Situation;
use crate::scheduler::SECOND;
use harness::payload::{payload, value_of};

/// By then everything that was sent has its result, once nothing goes wrong any more: a pause lasts up to a minute.
const HEALTHY_AFTER: u64 = 100 * SECOND;

impl Publishing {
    /// The application sends a burst, as far as there is room.
    pub(super) fn enqueue(&mut self, context: &mut Context<'_>) {
        let Some(machine) = &mut self.machine else { return };
        if let Some((ticket, cost)) = self.waiting {
            let granted = machine.window.newly_granted().any(|granted| granted == ticket);
            if self.random.percent(3) {
                machine.window.cancel(ticket);
                self.waiting = None;
                context.coverage.saw(Situation::WaitCancelled);
            } else if granted {
                assert!(machine.window.claim(ticket), "a ticket that was granted can be claimed");
                self.waiting = None;
                self.push(cost, context);
            } else {
                return;
            }
        }
        if self.calm || *context.records_left == 0 {
            return;
        }
        if context.now >= self.next_burst {
            let burst = self.random.between(1, self.plan.burst);
            self.next_burst = context.now + self.random.between(1, self.plan.pause);
            for _ in 0..burst {
                if !self.reserve(context) {
                    break;
                }
            }
            if let Some(machine) = self.machine.as_mut().filter(|_| self.random.percent(10)) {
                machine.flush();
            }
        }
        context.wake(self.next_burst);
    }

    /// Takes room for a record and sends it, or queues for room.
    fn reserve(&mut self, context: &mut Context<'_>) -> bool {
        if *context.records_left == 0 {
            return false;
        }
        *context.records_left -= 1;
        let bytes = usize::try_from(context.record_bytes).unwrap_or(usize::MAX);
        let Some(machine) = &mut self.machine else { return false };
        let cost = machine.window.cost(bytes);
        if machine.window.try_reserve(cost) {
            self.push(cost, context);
            return true;
        }
        context.coverage.saw(Situation::WindowFull);
        self.waiting = Some((machine.window.wait(cost), cost));
        false
    }

    fn push(&mut self, cost: u64, context: &mut Context<'_>) {
        if self.plan.keyed {
            return self.push_keyed(cost, context);
        }
        if self.plan.counters > 0 {
            return self.push_counted(cost, context);
        }
        let value = context.number();
        let bytes = payload(value, context.record_bytes);
        let record = RecordInput { value: Some(&bytes), ..RecordInput::default() };
        let routing = match self.random.below(3) {
            0 => Routing::Any,
            1 => Routing::Hash(self.random.next()),
            _ => Routing::Partition(PartitionId::new(0)),
        };
        let Some(partition) = self.put(routing, &record, cost, context) else { return };
        let (client, level) = (self.name, level_of(self.plan.durability));
        context.history.push(Event::Send { client, partition, value, level });
    }
}

/// Batches have their results.
pub(super) fn complete(done: Vec<Completion<()>>, context: &mut Context<'_>) {
    for completion in done {
        match completion.outcome {
            Outcome::Stored(entry, exceptions, batch) => {
                if !exceptions.is_empty() {
                    context.defect(|| format!("records without a key are void: {exceptions:?}"));
                }
                if entry.duplicate {
                    context.coverage.saw(Situation::Duplicate);
                }
                if entry.durability == Durability::Written {
                    context.coverage.saw(Situation::WrittenAnswer);
                }
                let (level, duplicate) = (level_of(entry.durability), entry.duplicate);
                let values = values(&batch, context.record_bytes);
                for (offset, value) in (entry.base_offset.get()..).zip(values) {
                    context.history.push(Event::Stored { value, offset, level, duplicate });
                }
            }
            Outcome::Failed(failed) => {
                if failed.why == Why::TimedOut {
                    context.coverage.saw(Situation::TimedOut);
                    if context.now > context.healed_at.saturating_add(HEALTHY_AFTER) {
                        context.defect(|| "a batch timed out long after everything was healed".to_owned());
                    }
                }
                for value in values(&failed.batch, context.record_bytes) {
                    let event =
                        if failed.maybe_stored { Event::InDoubt { value } } else { Event::Failed { value } };
                    context.history.push(event);
                }
            }
        }
    }
}

fn values(batch: &ProducerBatch, record_bytes: u64) -> Vec<u64> {
    let records = batch.records().expect("the producer made the batch");
    records.filter_map(|record| value_of(&record.ok()?.value?, record_bytes)).collect()
}
