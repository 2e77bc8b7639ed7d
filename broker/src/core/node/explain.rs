//! What the lanes of a topic wait for, and since when: told a page at a time, counted for the metrics.

use weir_protocol::message::{Explain, Explanation, Wait, WaitId, WaitsFor};
use weir_protocol::units::PartitionId;

use super::Node;
use crate::core::coordinator::Refusal;
use crate::core::{ConnectionId, LaneId};

impl Node {
    pub(super) fn explain(&self, lane: LaneId, explain: &Explain) -> Result<Explanation, Refusal> {
        let topic = self.coordinator.live(&explain.name)?.id;
        let producers = self.publishing.lanes(Some(topic)).map(|lane| self.producer_wait(lane));
        let readers = self.subscriptions.waits(Some(topic), &self.partitions, self.now);
        let mut behind = producers
            .chain(readers)
            .map(|wait| self.named(wait))
            .filter(|wait| explain.after.is_none_or(|after| wait.id > after));
        let waits: Vec<Wait> = behind.by_ref().take(self.page(lane, Wait::BYTES_MAX)).collect();
        let more = behind.next().is_some();
        Ok(Explanation { request: explain.request, more, waits })
    }

    /// How many lanes and readers wait for each cause, in the order of [`WaitsFor::ALL`].
    pub fn waits(&self) -> Vec<u64> {
        let producers = self.publishing.lanes(None).map(|lane| self.producer_wait(lane).waits_for);
        let readers = self.subscriptions.waits(None, &self.partitions, self.now).map(|wait| wait.waits_for);
        let causes = producers.chain(readers);
        let mut counts = vec![0; WaitsFor::ALL.len()];
        for cause in causes {
            let place = WaitsFor::ALL.iter().position(|known| *known == cause);
            if let Some(count) = place.and_then(|place| counts.get_mut(place)) {
                *count += 1;
            }
        }
        counts
    }

    fn producer_wait(&self, lane: LaneId) -> Wait {
        let credit = self.ingest.lane(lane).unwrap_or_default();
        let waits_for = if self.storage_full {
            WaitsFor::StorageFull
        } else if self.publishing.is_throttled(lane) {
            WaitsFor::Quota
        } else if credit.is_short || self.is_over() {
            WaitsFor::ServerCredit
        } else if credit.held_bytes > 0 {
            WaitsFor::Disk
        } else {
            WaitsFor::Producer
        };
        let id = WaitId {
            is_reader: false,
            connection: lane.connection.0,
            stream: lane.stream.0,
            partition: PartitionId::ZERO,
        };
        Wait {
            id,
            client_name: String::new(),
            waits_for,
            since_us: self.now.monotonic_us.saturating_sub(self.publishing.moved_us(lane)),
            credit_bytes: credit.available_bytes,
            held_bytes: credit.held_bytes,
            lag_records: 0,
        }
    }

    fn named(&self, wait: Wait) -> Wait {
        let client = self.clients.get(&ConnectionId(wait.id.connection));
        Wait { client_name: client.cloned().unwrap_or_default(), ..wait }
    }
}
