//! What the log says: topics, and for each partition where it begins and ends and what its producers have sent.
//!
//! A pure function of the frames, in their order: the state of a checkpoint plus the frames behind it is the state
//! of all frames. Partitions come into being with their first frame; one that is absent is empty. Frames of a topic
//! that does not exist, or does no longer, mean nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use weir_protocol::Cursor;
use weir_protocol::units::{
    Epoch, GroupId, Offset, PartitionId, PartitionKey, Sequence, Timestamp, TopicId, VirtualShard,
};

use crate::frame::{Claim, Frame, GroupDefinition, SkippedBatch, TopicDefinition, virtual_shard_of};

mod codec;
mod failures;
mod given_up;
mod groups;
mod producers;

pub(crate) use codec::{
    decode_groups, decode_partitions, decode_topics, encode_groups, encode_partitions, encode_topics,
};
pub use failures::Failures;
pub use given_up::{GIVEN_UP_RANGES_MAX, GivenUp};
pub use producers::{AppendResult, PRODUCERS_PER_PARTITION_MAX, ProducerWindow, Producers, Verdict};

/// The state of a node.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct NodeState {
    /// The topics that exist.
    pub topics: BTreeMap<TopicId, TopicDefinition>,
    /// The partitions of them that ever had a frame.
    pub partitions: BTreeMap<PartitionKey, PartitionState>,
    /// The consumer groups of them.
    pub groups: BTreeMap<GroupId, GroupDefinition>,
    /// The names that producers of each topic have claimed.
    pub claims: Claims,
}

/// Names that were claimed, and by whom, for each topic that has any.
pub type Claims = BTreeMap<TopicId, BTreeMap<String, Claim>>;

/// The state of a partition.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PartitionState {
    /// Generation of the partition's owner, as the last batch names it.
    pub epoch: Epoch,
    /// Offset of the first record that is kept. Never beyond the end.
    pub log_start: Offset,
    /// The offset after the last record.
    pub end_offset: Offset,
    /// When the last batch was appended. Never goes back.
    pub last_append_time: Timestamp,
    /// What the producers have sent.
    pub producers: Producers,
    /// Records that an operator gave up. No other record gets their offsets.
    pub given_up: GivenUp,
    /// What each group of the topic has settled.
    pub cursors: BTreeMap<GroupId, Cursor>,
    /// What consumer groups could not process; no group without any is in it.
    pub failures: BTreeMap<GroupId, Failures>,
}

/// What a frame changed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Applied {
    /// The partition.
    Partition(PartitionKey),
    /// The topic itself, or the names that its producers have claimed.
    Topic,
    /// The topic, and with it these partitions are gone.
    TopicGone(BTreeSet<PartitionKey>),
    /// The groups, and what they have settled of these partitions.
    Groups(BTreeSet<PartitionKey>),
    /// Nothing: its topic does not exist.
    Nothing,
}

/// A frame that does not follow what was there before.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("partition {partition} ends at offset {expected}, but a batch at offset {found} follows")]
pub struct ApplyError {
    /// The partition.
    pub partition: PartitionKey,
    /// Where it ends.
    pub expected: Offset,
    /// Where the batch begins.
    pub found: Offset,
}

impl NodeState {
    /// Applies the next frame.
    ///
    /// # Panics
    /// If the frame does not follow: whoever wrote it knew where its partition ends.
    pub fn apply(&mut self, frame: &Frame) {
        self.try_apply(frame).expect("a batch follows the one before it in its partition");
    }

    /// Applies the next frame and says what it changed.
    ///
    /// # Errors
    /// [`ApplyError`] if it does not follow; nothing is changed then.
    pub fn try_apply(&mut self, frame: &Frame) -> Result<Applied, ApplyError> {
        match frame {
            Frame::Append { partition, acked_below, batch } => {
                if !self.topics.contains_key(&partition.topic) {
                    return Ok(Applied::Nothing);
                }
                let expected = self.partitions.get(partition).map_or(Offset::ZERO, |state| state.end_offset);
                let found = batch.base_offset();
                if expected != found {
                    return Err(ApplyError { partition: *partition, expected, found });
                }
                self.partitions.entry(*partition).or_default().append(batch, *acked_below);
                Ok(Applied::Partition(*partition))
            }
            Frame::Trim { partition, log_start } => {
                if !self.topics.contains_key(&partition.topic) {
                    return Ok(Applied::Nothing);
                }
                self.partitions.entry(*partition).or_default().trim(*log_start);
                Ok(Applied::Partition(*partition))
            }
            Frame::Skipped(skipped) => {
                if !self.topics.contains_key(&skipped.partition.topic) {
                    return Ok(Applied::Nothing);
                }
                self.partitions.entry(skipped.partition).or_default().skip(skipped);
                Ok(Applied::Partition(skipped.partition))
            }
            Frame::Claim(claimed) => {
                if !self.topics.contains_key(&claimed.topic) {
                    return Ok(Applied::Nothing);
                }
                self.claims.entry(claimed.topic).or_default().insert(claimed.name.clone(), claimed.claim);
                Ok(Applied::Topic)
            }
            Frame::Topic(definition) => {
                self.topics.insert(definition.id, definition.clone());
                Ok(Applied::Topic)
            }
            Frame::TopicDeleted(topic) => {
                if self.topics.remove(topic).is_none() {
                    return Ok(Applied::Nothing);
                }
                self.claims.remove(topic);
                let gone: BTreeSet<_> = self.partitions_of(*topic).map(|(partition, _)| partition).collect();
                for partition in &gone {
                    self.partitions.remove(partition);
                }
                self.groups.retain(|_, group| group.topic != *topic);
                Ok(Applied::TopicGone(gone))
            }
            Frame::Group(group) => Ok(self.place_group(group)),
            Frame::GroupDeleted { topic, group } => Ok(self.delete_group(*topic, *group)),
            Frame::Settled(settled) => Ok(self.settle(settled)),
            Frame::Failed(failed) => Ok(self.fail(failed)),
            Frame::DeadLetters(dead) => Ok(self.give_up_records(dead)),
            Frame::Forwarded(forwarded) => Ok(self.forwarded(forwarded)),
        }
    }

    /// The partitions of a topic that ever had a frame, in order.
    pub fn partitions_of(&self, topic: TopicId) -> impl Iterator<Item = (PartitionKey, &PartitionState)> {
        let key = |partition| PartitionKey { topic, partition: PartitionId::new(partition) };
        self.partitions.range(key(0)..=key(u32::MAX)).map(|(partition, state)| (*partition, state))
    }

    /// The partitions of one virtual shard, in order.
    pub fn partitions_in(
        &self,
        shard: VirtualShard,
    ) -> impl Iterator<Item = (PartitionKey, &PartitionState)> {
        let all = self.partitions.iter().map(|(partition, state)| (*partition, state));
        all.filter(move |(partition, _)| virtual_shard_of(*partition) == shard)
    }
}

impl PartitionState {
    /// Takes note of a batch at the end of the partition.
    fn append(&mut self, batch: &weir_protocol::batch::StoredBatch, acked_below: Sequence) {
        let header = batch.producer.header();
        self.epoch = self.epoch.max(batch.section.partition_epoch);
        self.end_offset = batch.end_offset();
        self.last_append_time = self.last_append_time.max(batch.section.append_time);
        let result = AppendResult {
            base_offset: batch.base_offset(),
            record_count: header.record_count,
            append_time: batch.section.append_time,
            voids: batch.section.voids.clone(),
        };
        self.producers.record(header.producer, header.producer_epoch, header.sequence, acked_below, result);
    }

    /// Takes note of a batch of which nothing was stored.
    fn skip(&mut self, skipped: &SkippedBatch) {
        let result = AppendResult::skipped(self.end_offset, self.last_append_time, skipped.record_count);
        let SkippedBatch { producer, producer_epoch, sequence, acked_below, .. } = *skipped;
        self.producers.record(producer, producer_epoch, sequence, acked_below, result);
    }

    /// Gives up the records below an offset, as far as there are any.
    pub fn trim(&mut self, log_start: Offset) {
        self.log_start = self.log_start.max(log_start.min(self.end_offset));
        self.given_up.trim(self.log_start);
    }

    /// Gives up records, which may lie behind the end: then it is moved behind them.
    pub(crate) fn give_up(&mut self, records: Range<Offset>) {
        self.end_offset = self.end_offset.max(records.end);
        self.given_up.add(records.start.max(self.log_start)..records.end);
    }
}

#[cfg(test)]
mod tests;
