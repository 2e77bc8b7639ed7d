//! The newest batches of a partition, in memory: contiguous, and never forgotten before they are in segments.

use std::collections::VecDeque;

use weir_protocol::batch::StoredBatch;
use weir_protocol::message::Publish;
use weir_protocol::units::{Offset, Timestamp};

use crate::core::ingest::footprint;

/// Batches in order of offset.
#[derive(Debug, Default)]
pub struct Tail {
    batches: VecDeque<StoredBatch>,
}

/// Memory that a batch takes as long as it is in a tail.
pub fn memory_of(batch: &StoredBatch) -> u64 {
    footprint((Publish::OVERHEAD_BYTES + batch.producer.length()) as u64)
}

impl Tail {
    /// Adds a batch behind the last.
    ///
    /// # Panics
    /// If offsets would be missing between them.
    pub fn push(&mut self, batch: StoredBatch) {
        if let Some(last) = self.batches.back() {
            assert!(last.end_offset() == batch.base_offset(), "offsets of a tail have no gaps");
        }
        self.batches.push_back(batch);
    }

    /// Forgets the first batch, if all of it is below `flushed_end`. Returns the memory it took.
    pub fn pop_flushed(&mut self, flushed_end: Offset) -> Option<u64> {
        let first = self.batches.pop_front_if(|first| first.end_offset() <= flushed_end)?;
        Some(memory_of(&first))
    }

    /// The first offset that is in memory.
    pub fn start(&self) -> Option<Offset> {
        self.batches.front().map(StoredBatch::base_offset)
    }

    /// The batches from the one that holds `offset` on, or nothing if that is not in memory.
    pub fn from(&self, offset: Offset) -> impl Iterator<Item = &StoredBatch> {
        let first = self.batches.partition_point(|batch| batch.end_offset() <= offset);
        let held = self.start().is_some_and(|start| start <= offset);
        self.batches.range(if held { first.. } else { self.batches.len().. })
    }

    /// Bytes of the batches that end above `offset`.
    pub fn bytes_above(&self, offset: Offset) -> u64 {
        let first = self.batches.partition_point(|batch| batch.end_offset() <= offset);
        self.batches.range(first..).map(|batch| batch.length() as u64).sum()
    }

    /// Memory of the batches that end above `offset`.
    pub fn memory_above(&self, offset: Offset) -> u64 {
        let first = self.batches.partition_point(|batch| batch.end_offset() <= offset);
        self.batches.range(first..).map(memory_of).sum()
    }

    /// The first offset appended at or after `time`, as far as the tail knows.
    pub fn offset_at(&self, time: Timestamp) -> Option<Offset> {
        let first = self.batches.partition_point(|batch| batch.section.append_time < time);
        self.batches.get(first).map(StoredBatch::base_offset)
    }

    /// When the first batch in memory was appended.
    pub fn first_append_time(&self) -> Option<Timestamp> {
        self.batches.front().map(|batch| batch.section.append_time)
    }
}
