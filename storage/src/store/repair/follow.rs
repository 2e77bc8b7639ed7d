//! Follows the frames of a journal around the parts that are given up, and works out which offsets are lost with them.
//!
//! Invariant: no offset that a lost frame may have used is ever used again. Where a later batch of the partition tells,
//! the lost offsets are known; where none does, as many are given up as the lost bytes can have held at the most.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use weir_protocol::batch::BROKER_SECTION_BYTES;
use weir_protocol::limits::{BATCH_BYTES_LIMIT, BATCH_RECORDS_MAX, DEDUP_HORIZON_US_DEFAULT};
use weir_protocol::message::TopicSettings;
use weir_protocol::units::{Offset, PartitionId, PartitionKey, Timestamp, TopicId, VirtualShard};

use crate::frame::{FRAME_HEADER_BYTES, Frame, TopicDefinition, virtual_shard_of};
use crate::journal::Hole;
use crate::limits::VIRTUAL_SHARDS;
use crate::state::{ApplyError, NodeState};

/// What comes next.
#[derive(Debug)]
pub(super) enum Step {
    /// A frame of the journal, or one that takes the place of a lost one.
    Frame(Frame),
    /// Records that are lost.
    Lost(LostRecords),
}

/// Records that are lost with a part of the journal.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct LostRecords {
    pub(super) partition: PartitionKey,
    pub(super) offsets: Range<Offset>,
    /// Whether they are known; if not, they are the most that can be lost.
    pub(super) is_exact: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Follower {
    /// What all frames up to here say, losses included.
    pub(super) state: NodeState,
    holes: Vec<Hole>,
    /// For each partition with a batch, how many holes lie before its last one.
    last_batch: BTreeMap<PartitionKey, usize>,
    /// Topics that the journal says are gone.
    deleted: BTreeSet<TopicId>,
    /// Topics whose definition is lost.
    recovered: BTreeSet<TopicId>,
    now: Timestamp,
}

impl Follower {
    pub(super) fn new(state: NodeState, holes: &[Hole], now: Timestamp) -> Self {
        Self {
            state,
            holes: holes.to_vec(),
            last_batch: BTreeMap::new(),
            deleted: BTreeSet::new(),
            recovered: BTreeSet::new(),
            now,
        }
    }

    /// Follows a frame of the block with this number.
    pub(super) fn follow(&mut self, frame: Frame, block: usize) -> Result<Vec<Step>, ApplyError> {
        let holes_before = self.holes.iter().filter(|hole| hole.blocks_before <= block).count();
        let mut steps = Vec::new();
        if let Frame::TopicDeleted(topic) = &frame {
            self.deleted.insert(*topic);
        }
        if let Frame::Append { partition, batch, .. } = &frame
            && holes_before > 0
        {
            steps.extend(self.define(*partition).map(Step::Frame));
            let known = self.state.topics.contains_key(&partition.topic);
            let end = self.end_of(*partition);
            if known && batch.base_offset() > end {
                let offsets = end..batch.base_offset();
                steps.push(self.lose(LostRecords { partition: *partition, offsets, is_exact: true }));
            }
            self.last_batch.insert(*partition, holes_before);
        }
        self.state.try_apply(&frame)?;
        steps.push(Step::Frame(frame));
        Ok(steps)
    }

    /// The losses of partitions of which no later batch tells.
    pub(super) fn finish(&mut self) -> Vec<Step> {
        let mut lost: BTreeMap<PartitionKey, u64> = BTreeMap::new();
        for (number, hole) in self.holes.iter().enumerate() {
            let records = lost_at_most(hole);
            for topic in self.state.topics.values() {
                for partition in 0..topic.settings.partitions {
                    let key = PartitionKey { topic: topic.id, partition: PartitionId::new(partition) };
                    let shard = usize::from(virtual_shard_of(key).get());
                    let is_told =
                        self.last_batch.get(&key).is_some_and(|holes_before| *holes_before > number);
                    let most = records.get(shard).copied().unwrap_or_default();
                    if !is_told && most > 0 {
                        *lost.entry(key).or_default() += most;
                    }
                }
            }
        }
        let lost = lost.into_iter().map(|(partition, most)| {
            let end = self.end_of(partition);
            LostRecords { partition, offsets: end..end.advance(most), is_exact: false }
        });
        let lost: Vec<_> = lost.collect();
        lost.into_iter().map(|lost| self.lose(lost)).collect()
    }

    fn end_of(&self, partition: PartitionKey) -> Offset {
        self.state.partitions.get(&partition).map_or(Offset::ZERO, |state| state.end_offset)
    }

    fn lose(&mut self, lost: LostRecords) -> Step {
        self.state.partitions.entry(lost.partition).or_default().give_up(lost.offsets.clone());
        Step::Lost(lost)
    }

    /// A definition for a topic whose own is lost, so that its records can be read.
    fn define(&mut self, partition: PartitionKey) -> Option<Frame> {
        let partitions = partition.partition.get() + 1;
        let topic = partition.topic;
        let known = self.state.topics.get(&topic);
        let is_lost = known.is_none() && !self.deleted.contains(&topic);
        let is_short = self.recovered.contains(&topic)
            && known.is_some_and(|known| known.settings.partitions < partitions);
        if !is_lost && !is_short {
            return None;
        }
        self.recovered.insert(topic);
        let settings = TopicSettings {
            partitions,
            retention_age_us: None,
            retention_bytes: None,
            batch_bytes_max: BATCH_BYTES_LIMIT,
            explicit_partitions: false,
            dedup_horizon_us: Some(DEDUP_HORIZON_US_DEFAULT),
            keyed_versions: false,
            dedup_keys_per_second: None,
            dedup_since: Timestamp::ZERO,
        };
        let name = format!("recovered-{topic}");
        let frame =
            Frame::Topic(TopicDefinition { id: topic, name, created: self.now, revision: 0, settings });
        self.state.apply(&frame);
        Some(frame)
    }
}

/// For each virtual shard, how many records may have been in a part of the journal at the most.
fn lost_at_most(hole: &Hole) -> [u64; VIRTUAL_SHARDS as usize] {
    let bytes = hole.positions.end.since(hole.positions.start);
    let frames_max = bytes / APPEND_BYTES_MIN;
    std::array::from_fn(|shard| {
        let shard = VirtualShard::new(u16::try_from(shard).expect("there are few shards"));
        let frames = hole.frames_lost(shard).unwrap_or(frames_max).min(frames_max);
        frames * u64::from(BATCH_RECORDS_MAX)
    })
}

/// No frame with a batch is shorter.
const APPEND_BYTES_MIN: u64 = (FRAME_HEADER_BYTES + BROKER_SECTION_BYTES) as u64;
