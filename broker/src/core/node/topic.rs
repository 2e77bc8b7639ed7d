//! Topics of a node: a change counts, and is answered, once it is durable.

use weir_protocol::limits::PAGE_ENTRIES_MAX;
use weir_protocol::message::{DescribeTopic, Done, Message, PartitionInfo, TopicDescription};
use weir_protocol::partitioner::range_start;
use weir_protocol::units::{PartitionId, PartitionKey, TopicId};
use weir_storage::frame::{Frame, TopicDefinition};

use super::Node;
use crate::core::coordinator::{Refusal, info};
use crate::core::ledger::Pool;
use crate::core::publish::{TopicChange, TopicChangeKind, Waiting};
use crate::core::{Actions, LaneId, Outgoing};

impl Node {
    /// Journals a definition; the answer waits for it.
    pub(super) fn change(
        &mut self,
        (lane, request): (LaneId, u32),
        definition: TopicDefinition,
        kind: TopicChangeKind,
        actions: &mut Actions,
    ) {
        let topic = definition.id;
        let ticket = actions.append(Frame::Topic(definition), false);
        self.requests.begun(lane);
        self.publishing.wait(ticket, Waiting::Topic(TopicChange { lane, request, topic, kind }));
    }

    pub(super) fn describe(
        &self,
        lane: LaneId,
        describe: &DescribeTopic,
    ) -> Result<TopicDescription, Refusal> {
        let definition = self.coordinator.live(&describe.name)?;
        let entries = u32::try_from(self.page(lane, PartitionInfo::BYTES)).unwrap_or(PAGE_ENTRIES_MAX);
        let count = definition.settings.partitions;
        let first = describe.first_partition.get().min(count);
        let page = first..first.saturating_add(entries).min(count);
        let partitions = page.filter_map(|number| {
            let partition = PartitionId::new(number);
            let state = self.partitions.get(&PartitionKey { topic: definition.id, partition })?;
            Some(PartitionInfo {
                partition,
                epoch: state.epoch(),
                range_start: range_start(number, count),
                start_offset: state.log_start(),
                end_offset: state.high_watermark(),
                bytes: state.stored_bytes(),
            })
        });
        Ok(TopicDescription {
            request: describe.request,
            topic: info(0, definition),
            partitions: partitions.collect(),
        })
    }

    pub(super) fn topic_durable(&mut self, change: TopicChange, actions: &mut Actions) {
        let frame = match change.kind {
            TopicChangeKind::Create | TopicChangeKind::Alter => {
                let Some(definition) = self.coordinator.confirm(change.topic).cloned() else { return };
                if change.kind == TopicChangeKind::Create {
                    self.add_partitions(&definition, |_| None);
                }
                info(change.request, &definition).to_frame()
            }
            TopicChangeKind::Delete => {
                self.remove_topic(change.topic, actions);
                Done { request: change.request }.to_frame()
            }
        };
        actions.outgoing.push(Outgoing::Frames(change.lane, vec![frame]));
    }

    fn remove_topic(&mut self, topic: TopicId, actions: &mut Actions) {
        let Some(definition) = self.coordinator.remove(topic) else { return };
        let mut cached_bytes = 0;
        for partition in 0..definition.settings.partitions {
            let key = PartitionKey { topic, partition: PartitionId::new(partition) };
            if let Some(removed) = self.partitions.remove(&key) {
                cached_bytes += removed.cached_memory();
                self.ledger.give_back(Pool::Unflushed, removed.durable_unflushed_memory());
            }
        }
        self.claims.topic_removed(topic);
        self.hot.topic_removed(topic, cached_bytes);
        let mut effects = Vec::new();
        self.groups.topic_deleted(topic, &mut effects);
        self.carry_out(effects, actions);
        self.dedup.topic_removed(topic);
        self.subscriptions.topic_deleted(topic, actions);
    }
}
