//! One partition: what is appended gets the next offsets; what is visible is durable.

mod tail;

use std::collections::BTreeSet;

use weir_protocol::ErrorCode;
use weir_protocol::batch::{BrokerSection, ProducerBatch, ProducerHeader, StoredBatch, Voids};
use weir_protocol::units::{Epoch, Offset, ProducerId, Sequence, Timestamp};
use weir_storage::state::{AppendResult, PartitionState, Producers, Verdict};

use crate::core::LaneId;
pub use tail::{Tail, memory_of};

/// A partition this node owns.
#[derive(Debug)]
pub struct Partition {
    epoch: Epoch,
    log_start: Offset,
    /// The offset the next record gets.
    log_end: Offset,
    /// Everything below is durable and visible.
    high_watermark: Offset,
    /// Everything below is in segments.
    flushed_end: Offset,
    /// Bytes in segments.
    flushed_bytes: u64,
    last_append_time: Timestamp,
    producers: Producers,
    tail: Tail,
    /// Lanes with a reader that waits for the high watermark to move.
    waiters: BTreeSet<LaneId>,
}

/// What a batch is to its partition.
#[derive(Debug)]
pub enum Offered {
    /// The next of its producer.
    Next,
    /// It was taken before, with this result.
    Duplicate(AppendResult),
    /// It cannot be taken.
    Refused(ErrorCode, String),
}

/// Where the records from a time on begin.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TimeLookup {
    /// At this offset.
    Known(Offset),
    /// Segments must be asked.
    InSegments {
        /// The offset if no record in segments is as late: where memory began when it was asked. What is flushed while
        /// segments are read lies behind it.
        otherwise: Offset,
    },
}

impl Partition {
    /// A partition as recovery found it. All it holds is in segments.
    pub fn recovered(state: &PartitionState, flushed_bytes: u64) -> Self {
        Self {
            epoch: state.epoch,
            log_start: state.log_start,
            log_end: state.end_offset,
            high_watermark: state.end_offset,
            flushed_end: state.end_offset,
            flushed_bytes,
            last_append_time: state.last_append_time,
            producers: state.producers.clone(),
            tail: Tail::default(),
            waiters: BTreeSet::new(),
        }
    }

    /// What a batch is, by its producer's sequence. Changes nothing.
    pub fn offer(&self, header: &ProducerHeader) -> Offered {
        let (id, epoch, sequence) = (header.producer, header.producer_epoch, header.sequence);
        let (code, detail) = match self.producers.check(id, epoch, sequence) {
            Verdict::Next => return Offered::Next,
            Verdict::Duplicate(result) => return Offered::Duplicate(result),
            Verdict::Forgotten => {
                (ErrorCode::SequenceForgotten, format!("sequence {sequence} was answered long ago"))
            }
            Verdict::Gap { expected } => {
                (ErrorCode::SequenceGap, format!("sequence {sequence} came where {expected} was expected"))
            }
            Verdict::Fenced { current } => {
                let detail = format!("producer {id} is at epoch {current}, the batch at {epoch}");
                (ErrorCode::ProducerFenced, detail)
            }
            Verdict::Unknown => {
                let detail = format!("producer {id} has no history here, but sent sequence {sequence}");
                (ErrorCode::ProducerUnknown, detail)
            }
        };
        Offered::Refused(code, detail)
    }

    /// The sequence that follows those of a producer.
    pub fn next_sequence(&self, producer: ProducerId) -> Sequence {
        self.producers.next(producer)
    }

    /// When a batch is appended that comes at `now`: time stamps of a partition never go back.
    pub fn append_time(&self, now: Timestamp) -> Timestamp {
        now.max(self.last_append_time)
    }

    /// Appends the next batch of its producer, which gets the next offsets, and remembers `acked_below` with it.
    pub fn append(
        &mut self,
        producer: &ProducerBatch,
        acked_below: Sequence,
        append_time: Timestamp,
        voids: Voids,
    ) -> (StoredBatch, AppendResult) {
        let header = producer.header();
        let (base_offset, record_count) = (self.log_end, header.record_count);
        let result = AppendResult { base_offset, record_count, append_time, voids: voids.clone() };
        let section = BrokerSection { base_offset, append_time, partition_epoch: self.epoch, voids };
        let batch = StoredBatch { section, producer: producer.clone() };
        self.record(header, acked_below, result.clone());
        self.log_end = batch.end_offset();
        self.last_append_time = append_time;
        self.tail.push(batch.clone());
        (batch, result)
    }

    /// Uses up the sequence of the next batch of a producer, of which nothing counts.
    pub fn skip(&mut self, header: &ProducerHeader, acked_below: Sequence) -> AppendResult {
        let result = AppendResult::skipped(self.log_end, self.last_append_time, header.record_count);
        self.record(header, acked_below, result.clone());
        result
    }

    fn record(&mut self, header: &ProducerHeader, acked_below: Sequence, result: AppendResult) {
        self.producers.record(header.producer, header.producer_epoch, header.sequence, acked_below, result);
    }

    /// Everything below `end` is durable now: it becomes visible. Gives the lanes that waited for that.
    ///
    /// # Panics
    /// If the high watermark would go back, or pass what was appended.
    pub fn durable(&mut self, end: Offset) -> impl Iterator<Item = LaneId> + use<> {
        assert!(end >= self.high_watermark, "high watermark would go back");
        assert!(end <= self.log_end, "records would become visible that were never appended");
        self.high_watermark = end;
        std::mem::take(&mut self.waiters).into_iter()
    }

    /// Everything below `log_start` is given up, durably. Returns where the log started before.
    pub fn trim(&mut self, log_start: Offset) -> Offset {
        let before = self.log_start;
        self.log_start = before.max(log_start);
        before
    }

    /// The first visible offset appended at or after `time`, or the end.
    pub fn offset_at(&self, time: Timestamp) -> TimeLookup {
        let in_memory = self.tail.first_append_time().is_some_and(|first| first < time);
        let memory_start = self.tail.start().unwrap_or(self.high_watermark).min(self.high_watermark);
        if !in_memory && memory_start > self.log_start {
            return TimeLookup::InSegments { otherwise: memory_start };
        }
        let found = self.tail.offset_at(time).unwrap_or(self.high_watermark);
        TimeLookup::Known(found.clamp(self.log_start, self.high_watermark))
    }

    /// What is in segments has changed. Returns how many bytes of memory were unflushed and
    /// are not any more.
    ///
    /// # Panics
    /// If segments would hold what is not durable.
    pub fn flushed(&mut self, flushed_end: Offset, log_start: Offset, bytes: u64) -> u64 {
        assert!(flushed_end <= self.high_watermark, "segments hold only what is durable");
        let before = self.unflushed_memory();
        self.flushed_end = self.flushed_end.max(flushed_end);
        self.log_start = self.log_start.max(log_start);
        self.flushed_bytes = bytes;
        before - self.unflushed_memory()
    }

    /// Forgets the oldest batch in memory if it is in segments. Returns the memory it took.
    pub fn evict(&mut self) -> Option<u64> {
        self.tail.pop_flushed(self.flushed_end)
    }

    /// Takes a lane among those that wait for the high watermark to move.
    pub fn wait(&mut self, lane: LaneId) {
        self.waiters.insert(lane);
    }

    /// A lane waits no longer.
    pub fn forget(&mut self, lane: LaneId) {
        self.waiters.remove(&lane);
    }

    /// Memory of batches that are durable and in no segment.
    pub fn durable_unflushed_memory(&self) -> u64 {
        self.unflushed_memory() - self.tail.memory_above(self.high_watermark)
    }

    /// Memory of batches that are in segments.
    pub fn cached_memory(&self) -> u64 {
        self.tail.memory_above(Offset::ZERO) - self.unflushed_memory()
    }

    /// Memory of batches that are in no segment.
    fn unflushed_memory(&self) -> u64 {
        self.tail.memory_above(self.flushed_end)
    }

    /// Bytes stored, in segments and not yet.
    pub fn stored_bytes(&self) -> u64 {
        self.flushed_bytes + self.tail.bytes_above(self.flushed_end)
    }

    /// Generation of its owner.
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The first offset that is kept.
    pub const fn log_start(&self) -> Offset {
        self.log_start
    }

    /// The offset the next record gets.
    pub const fn log_end(&self) -> Offset {
        self.log_end
    }

    /// When the last batch was appended.
    pub const fn last_append_time(&self) -> Timestamp {
        self.last_append_time
    }

    /// The offset after the last visible record.
    pub const fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// What is in memory. Batches above the high watermark are in it too.
    pub const fn tail(&self) -> &Tail {
        &self.tail
    }
}
