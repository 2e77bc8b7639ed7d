//! What was applied to the state and is not in a checkpoint yet.

use std::collections::{BTreeMap, BTreeSet};

use weir_protocol::batch::StoredBatch;
use weir_protocol::units::{JournalPosition, Offset, PartitionKey, Timestamp};

use super::keys::StagedKeys;
use crate::checkpoint::{EncodedParts, Part};
use crate::dedup::KeySeed;
use crate::disk::{AlignedBuffer, Disk, DiskError};
use crate::frame::{Frame, virtual_shard_of};
use crate::segment::{SegmentPlan, SegmentWriter, WrittenSegment};
use crate::state::{Applied, ApplyError, NodeState, encode_groups, encode_partitions, encode_topics};
use crate::store::SegmentOptions;
use crate::store::checkpointer::{ATTEMPTS_MAX, Bounds, Change, Checkpointer};

/// See the module.
#[derive(Debug)]
pub(super) struct Stage {
    /// All frames below are applied to the state.
    pub(super) applied: JournalPosition,
    /// All frames below are in a checkpoint.
    checkpointed: JournalPosition,
    /// Batches that are not in segments yet.
    unwritten: BTreeMap<PartitionKey, Vec<StoredBatch>>,
    unwritten_bytes: u64,
    /// Segments that no checkpoint names yet.
    written: Vec<WrittenSegment>,
    /// Parts of the state that have changed.
    parts: BTreeSet<Part>,
    /// Partitions that have changed.
    touched: BTreeSet<PartitionKey>,
    /// Partitions that are gone.
    gone: BTreeSet<PartitionKey>,
    /// Keys of applied frames.
    pub(super) keys: StagedKeys,
    /// Memory to write from, used again and again.
    buffer: Option<AlignedBuffer>,
}

impl Stage {
    pub(super) fn new(applied: JournalPosition, seed: KeySeed) -> Self {
        Self {
            applied,
            checkpointed: applied,
            unwritten: BTreeMap::new(),
            unwritten_bytes: 0,
            written: Vec::new(),
            parts: BTreeSet::new(),
            touched: BTreeSet::new(),
            gone: BTreeSet::new(),
            keys: StagedKeys::new(seed),
            buffer: None,
        }
    }

    /// Whether a checkpoint would say nothing new.
    pub(super) fn is_empty(&self) -> bool {
        self.applied == self.checkpointed && self.parts.is_empty() && self.written.is_empty()
    }

    /// Bytes of batches that are not in segments.
    pub(super) const fn bytes(&self) -> u64 {
        self.unwritten_bytes
    }

    /// Bytes of batches in segments that no checkpoint names yet.
    pub(super) fn written_bytes(&self) -> u64 {
        self.written.iter().flat_map(|written| &written.runs).map(|run| run.bytes).sum()
    }

    /// Applies a frame to the state and keeps its batch.
    pub(super) fn apply(&mut self, state: &mut NodeState, frame: Frame) -> Result<(), ApplyError> {
        let applied = state.try_apply(&frame)?;
        if let Frame::Append { partition, batch, .. } = &frame {
            self.keys.note(state, *partition, batch);
        }
        match applied {
            Applied::Nothing => return Ok(()),
            Applied::Topic => {
                self.parts.insert(Part::Topics);
                self.keys.unswept = true;
            }
            Applied::Partition(partition) => self.touch(partition),
            Applied::Groups(partitions) => {
                self.parts.insert(Part::Groups);
                partitions.into_iter().for_each(|partition| self.touch(partition));
            }
            Applied::TopicGone(partitions) => {
                self.parts.extend([Part::Topics, Part::Groups]);
                self.keys.unswept = true;
                for partition in partitions {
                    self.parts.insert(Part::Shard(virtual_shard_of(partition)));
                    self.touched.remove(&partition);
                    let dropped = self.unwritten.remove(&partition).unwrap_or_default();
                    self.unwritten_bytes -= bytes_of(&dropped);
                    self.gone.insert(partition);
                }
            }
        }
        if let Frame::Append { partition, batch, .. } = frame {
            self.unwritten_bytes += batch.length() as u64;
            self.unwritten.entry(partition).or_default().push(batch);
        }
        Ok(())
    }

    /// Takes note that a partition's state has changed.
    pub(super) fn touch(&mut self, partition: PartitionKey) {
        self.parts.insert(Part::Shard(virtual_shard_of(partition)));
        self.touched.insert(partition);
    }

    /// How far partitions will be in segments after the next checkpoint.
    pub(super) fn ends(&self, state: &NodeState) -> Vec<(PartitionKey, Offset)> {
        let touched = self.touched.iter();
        touched
            .filter_map(|partition| Some((*partition, state.partitions.get(partition)?.end_offset)))
            .collect()
    }

    /// Writes all batches to segments: long runs to files of their own, the others together, sorted by partition.
    pub(super) fn write<D: Disk>(
        &mut self,
        checkpointer: &mut Checkpointer<D>,
        options: &SegmentOptions,
        state: &NodeState,
        (now, running_us): (Timestamp, u64),
    ) -> Result<(), DiskError> {
        self.drop_trimmed(state);
        for group in self.groups(options) {
            let written = self.write_group(checkpointer, &group, now)?;
            self.written.push(written);
            for partition in group {
                let batches = self.unwritten.remove(&partition).unwrap_or_default();
                self.unwritten_bytes -= bytes_of(&batches);
            }
        }
        self.keys.write(checkpointer, running_us)
    }

    /// Leaves out batches whose records were all given up.
    fn drop_trimmed(&mut self, state: &NodeState) {
        let mut dropped = 0;
        self.unwritten.retain(|partition, batches| {
            let log_start = state.partitions.get(partition).map_or(Offset::ZERO, |state| state.log_start);
            let kept = batches.partition_point(|batch| batch.end_offset() <= log_start);
            dropped += bytes_of(batches.get(..kept).unwrap_or(&[]));
            batches.drain(..kept);
            !batches.is_empty()
        });
        self.unwritten_bytes -= dropped;
    }

    /// Which partitions go to one file together.
    fn groups(&self, options: &SegmentOptions) -> Vec<Vec<PartitionKey>> {
        let mut groups = Vec::new();
        let mut shared = Vec::new();
        let mut shared_bytes = 0;
        for (partition, batches) in &self.unwritten {
            let bytes = bytes_of(batches);
            if bytes >= options.own_file_bytes {
                groups.push(vec![*partition]);
                continue;
            }
            shared.push(*partition);
            shared_bytes += bytes;
            if shared_bytes >= options.file_bytes_max {
                groups.push(std::mem::take(&mut shared));
                shared_bytes = 0;
            }
        }
        if !shared.is_empty() {
            groups.push(shared);
        }
        groups
    }

    /// Writes one file; after a failure again, to a fresh file, from the memory the batches are in.
    fn write_group<D: Disk>(
        &mut self,
        checkpointer: &mut Checkpointer<D>,
        group: &[PartitionKey],
        now: Timestamp,
    ) -> Result<WrittenSegment, DiskError> {
        let runs = || group.iter().filter_map(|partition| Some((*partition, self.unwritten.get(partition)?)));
        let data_bytes = runs().map(|(_, batches)| bytes_of(batches)).sum();
        let plan = SegmentPlan { run_count: group.len(), data_bytes, created: now };
        let mut buffer = self.buffer.take();
        for attempt in 1.. {
            let identity = checkpointer.begin_segment();
            let written = SegmentWriter::create(
                &checkpointer.disk,
                &checkpointer.paths.segments,
                identity,
                plan,
                buffer.take(),
            )
            .and_then(|mut writer| {
                for (partition, batches) in runs() {
                    batches.iter().try_for_each(|batch| writer.append(partition, batch))?;
                }
                writer.finish()
            });
            match written {
                Ok((written, buffer)) => {
                    self.buffer = Some(buffer);
                    return Ok(written);
                }
                Err(error) => {
                    checkpointer.give_up_segment(identity.segment);
                    if attempt == ATTEMPTS_MAX || error.is_full() {
                        return Err(error);
                    }
                }
            }
        }
        unreachable!("the last attempt returns")
    }

    /// The change that a checkpoint makes of all this. Takes the written segments along.
    pub(super) fn change(&mut self, state: &NodeState) -> Change {
        let bounds = self.touched.iter().filter_map(|partition| {
            let state = state.partitions.get(partition)?;
            Some((*partition, Bounds { log_start: state.log_start, flushed_end: state.end_offset }))
        });
        Change {
            parts: encode_parts(state, &self.parts),
            applied: Some(self.applied),
            bounds: bounds.collect(),
            gone: self.gone.clone(),
            added: std::mem::take(&mut self.written),
            added_keys: std::mem::take(&mut self.keys.written),
            replaced_keys: self.keys.given_up.clone(),
            ..Change::default()
        }
    }

    /// After a checkpoint nothing is staged; after a failure all is as it was before.
    pub(super) fn settle(&mut self, change: Change, is_durable: bool) {
        if is_durable {
            assert!(self.unwritten.is_empty(), "a checkpoint covers all batches");
            self.checkpointed = self.applied;
            self.parts.clear();
            self.touched.clear();
            self.gone.clear();
        } else {
            self.written = change.added;
            self.keys.written = change.added_keys;
        }
    }
}

fn bytes_of(batches: &[StoredBatch]) -> u64 {
    batches.iter().map(|batch| batch.length() as u64).sum()
}

/// The parts of the state that have changed, as they are written.
pub(super) fn encode_parts(state: &NodeState, changed: &BTreeSet<Part>) -> EncodedParts {
    let mut by_shard: BTreeMap<Part, Vec<_>> = BTreeMap::new();
    if !changed.is_empty() {
        for (partition, partition_state) in &state.partitions {
            let shard = Part::Shard(virtual_shard_of(*partition));
            if changed.contains(&shard) {
                by_shard.entry(shard).or_default().push((*partition, partition_state));
            }
        }
    }
    let encode = |part: &Part| {
        let mut out = Vec::new();
        match part {
            Part::Topics => encode_topics((&state.topics, &state.claims), &mut out),
            Part::Groups => encode_groups(&state.groups, &mut out),
            Part::Shard(_) => {
                let partitions = by_shard.get(part).map_or(&[][..], Vec::as_slice);
                encode_partitions(partitions.iter().copied(), &mut out);
            }
        }
        (*part, out)
    };
    let has_claims = changed.contains(&Part::Topics) && !state.claims.is_empty();
    EncodedParts { parts: changed.iter().map(encode).collect(), has_claims }
}
