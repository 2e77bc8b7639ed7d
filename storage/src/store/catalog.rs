//! Which batches stand where: for each partition its extents, in the order of their offsets.
//!
//! Invariant: the extents of a partition follow each other without overlaps, from at or before its log start up to its
//! flushed end. Between them is a gap only where a file is missing or damaged, or where an operator gave records up.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::{Bound, Range};

use weir_protocol::units::{Offset, PartitionKey, SegmentId, Timestamp};

use crate::checkpoint::SegmentFacts;
use crate::segment::Run;
use crate::state::GivenUp;

/// Stands for the number of a run that was found without a run directory: no index knows it.
pub(crate) const SALVAGED_RUN: usize = u32::MAX as usize;

/// A run that counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Extent {
    /// The segment it stands in.
    pub(crate) segment: SegmentId,
    /// Its number there.
    pub(crate) run: u32,
    /// Offset of its first record.
    pub(crate) base_offset: Offset,
    /// The offset after its last record.
    pub(crate) end_offset: Offset,
    /// Its first byte.
    pub(crate) position: u64,
    /// Its length.
    pub(crate) bytes: u64,
    /// When its last batch was appended.
    pub(crate) last_append_time: Timestamp,
}

impl Extent {
    /// The extent that a run is.
    pub(crate) fn of(segment: SegmentId, number: usize, run: &Run) -> Self {
        Self {
            segment,
            run: u32::try_from(number).expect("runs of one segment are limited to 32 bits"),
            base_offset: run.base_offset,
            end_offset: run.end_offset,
            position: run.position,
            bytes: run.bytes,
            last_append_time: run.last_append_time,
        }
    }

    /// The byte after its last.
    pub(crate) fn end(&self) -> u64 {
        self.position + self.bytes
    }
}

/// What is in segments of one partition.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct PartitionLog {
    /// Offset of the first record that is kept.
    pub(crate) log_start: Offset,
    /// All below is in segments, or given up.
    pub(crate) flushed_end: Offset,
    /// Where it stands.
    pub(crate) extents: VecDeque<Extent>,
    /// Length of all extents.
    pub(crate) bytes: u64,
    /// Records that an operator gave up while the broker was not running.
    pub(crate) given_up: GivenUp,
}

/// All partitions.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    partitions: BTreeMap<PartitionKey, PartitionLog>,
    segments: BTreeMap<SegmentId, SegmentFacts>,
}

/// Why an offset has no extent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Absent {
    /// It was given up.
    BelowStart {
        /// The first offset that was not.
        start: Offset,
        /// All below is in segments.
        end: Offset,
    },
    /// It should be in segments, and is in none that can be read.
    Lost {
        /// The next offset that may be there.
        to: Offset,
    },
    /// It is not in segments yet.
    NotFlushed,
}

impl Catalog {
    /// The extent that holds an offset.
    pub(crate) fn at_offset(&self, partition: PartitionKey, offset: Offset) -> Result<Extent, Absent> {
        let Some(log) = self.partitions.get(&partition) else {
            return Err(Absent::NotFlushed);
        };
        if offset < log.log_start {
            return Err(Absent::BelowStart { start: log.log_start, end: log.flushed_end });
        }
        let index = log.extents.partition_point(|extent| extent.end_offset <= offset);
        match log.extents.get(index) {
            Some(extent) if extent.base_offset <= offset => Ok(*extent),
            Some(extent) => Err(Absent::Lost { to: extent.base_offset }),
            None if offset < log.flushed_end => Err(Absent::Lost { to: log.flushed_end }),
            None => Err(Absent::NotFlushed),
        }
    }

    /// The first extent with a batch that was appended at or after a moment.
    pub(crate) fn at_time(&self, partition: PartitionKey, time: Timestamp) -> Option<Extent> {
        let log = self.partitions.get(&partition)?;
        let index = log.extents.partition_point(|extent| extent.last_append_time < time);
        log.extents.get(index).copied()
    }

    /// A partition, if it ever had something in segments.
    pub(crate) fn partition(&self, partition: PartitionKey) -> Option<&PartitionLog> {
        self.partitions.get(&partition)
    }

    /// All partitions, in order.
    pub(crate) fn partitions(&self) -> impl Iterator<Item = (PartitionKey, &PartitionLog)> {
        self.partitions.iter().map(|(partition, log)| (*partition, log))
    }

    /// What is known of a segment.
    pub(crate) fn segment(&self, segment: SegmentId) -> Option<SegmentFacts> {
        self.segments.get(&segment).copied()
    }

    /// The first segment behind a place in the order of their numbers.
    pub(crate) fn next_segment(&self, behind: Bound<SegmentId>) -> Option<(SegmentId, SegmentFacts)> {
        let (segment, facts) = self.segments.range((behind, Bound::Unbounded)).next()?;
        Some((*segment, *facts))
    }

    /// Takes note of a segment.
    pub(crate) fn add_segment(&mut self, segment: SegmentId, facts: SegmentFacts) {
        self.segments.insert(segment, facts);
    }

    /// Forgets a segment that no extent stands in.
    pub(crate) fn remove_segment(&mut self, segment: SegmentId) {
        self.segments.remove(&segment);
    }

    /// Adds an extent in its place.
    pub(crate) fn add(&mut self, partition: PartitionKey, extent: Extent) {
        let log = self.partitions.entry(partition).or_default();
        let index = log.extents.partition_point(|other| other.base_offset < extent.base_offset);
        log.extents.insert(index, extent);
        log.bytes += extent.bytes;
    }

    /// Moves the bounds of a partition and returns the extents that fall below the start.
    pub(crate) fn set_bounds(
        &mut self,
        partition: PartitionKey,
        log_start: Offset,
        flushed_end: Offset,
    ) -> Vec<Extent> {
        let log = self.partitions.entry(partition).or_default();
        log.log_start = log_start;
        log.flushed_end = flushed_end;
        let kept = log.extents.partition_point(|extent| extent.end_offset <= log_start);
        let removed: Vec<_> = log.extents.drain(..kept).collect();
        log.bytes -= removed.iter().map(|extent| extent.bytes).sum::<u64>();
        removed
    }

    /// Takes note of what of a partition was given up.
    pub(crate) fn set_given_up(&mut self, partition: PartitionKey, given_up: GivenUp) {
        self.partitions.entry(partition).or_default().given_up = given_up;
    }

    /// Forgets a partition and returns its extents.
    pub(crate) fn remove_partition(&mut self, partition: PartitionKey) -> Vec<Extent> {
        self.partitions.remove(&partition).map_or_else(Vec::new, |log| log.extents.into())
    }

    /// Puts extents in the place of those that stand in some segments and hold the same batches. Those that are not
    /// needed any more, because the log start has moved meanwhile or the partition is gone, are left out. Returns those
    /// that were taken.
    pub(crate) fn replace(
        &mut self,
        segments: &BTreeSet<SegmentId>,
        by: &BTreeMap<PartitionKey, Vec<Extent>>,
    ) -> Vec<Extent> {
        let mut taken = Vec::new();
        for (partition, extents) in by {
            let Some(log) = self.partitions.get_mut(partition) else {
                continue;
            };
            log.extents.retain(|extent| !segments.contains(&extent.segment));
            let needed = extents.iter().filter(|extent| extent.end_offset > log.log_start);
            let before = taken.len();
            taken.extend(needed);
            log.extents.extend(taken.iter().skip(before));
            log.extents.make_contiguous().sort_by_key(|extent| extent.base_offset);
            log.bytes = log.extents.iter().map(|extent| extent.bytes).sum();
        }
        taken
    }

    /// Where the gap begins that ends at an offset.
    pub(crate) fn gap_before(&self, partition: PartitionKey, offset: Offset) -> Option<Offset> {
        let gaps = self.partitions.get(&partition)?.gaps();
        gaps.into_iter().find(|gap| gap.end == offset).map(|gap| gap.start)
    }
}

impl PartitionLog {
    /// Records that should be in segments and are in none, in order.
    pub(crate) fn gaps(&self) -> Vec<Range<Offset>> {
        let mut expected = self.log_start;
        let mut gaps = Vec::new();
        for extent in &self.extents {
            if extent.base_offset > expected {
                gaps.push(expected..extent.base_offset);
            }
            expected = expected.max(extent.end_offset);
        }
        if expected < self.flushed_end {
            gaps.push(expected..self.flushed_end);
        }
        gaps
    }
}
