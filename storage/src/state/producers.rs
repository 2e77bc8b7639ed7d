//! What the producers of a partition have sent, as far as it takes to tell a retry from something new.
//!
//! Invariant: each (producer, epoch, sequence) is appended at most once, however often it is sent.

use std::collections::{BTreeMap, VecDeque};

use weir_protocol::batch::Voids;
use weir_protocol::limits::{BATCH_RECORDS_MAX, UNACKED_BATCHES_MAX};
use weir_protocol::units::{Epoch, Offset, ProducerId, Sequence, Timestamp};

/// Producers a partition remembers. Bounds a partition's state near 2 MiB; the one that appended longest ago goes first.
pub const PRODUCERS_PER_PARTITION_MAX: usize = 1024;

/// Bytes for the void records of the results of one producer: as much as the longest batch may need. Beyond, its oldest
/// results are forgotten.
const VOID_BYTES_MAX: usize = (BATCH_RECORDS_MAX as usize).div_ceil(8);

/// Where a batch was appended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AppendResult {
    /// Offset of its first record.
    pub base_offset: Offset,
    /// How many records it has.
    pub record_count: u32,
    /// When it was appended.
    pub append_time: Timestamp,
    /// Its records that do not count.
    pub voids: Voids,
}

impl AppendResult {
    /// The result of a batch of which nothing was stored, in a partition that ends at `end`.
    pub fn skipped(end: Offset, append_time: Timestamp, record_count: u32) -> Self {
        Self { base_offset: end, record_count, append_time, voids: Voids::of(record_count, 0..record_count) }
    }
}

/// What to do with a batch of a producer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// It is the next one: append it.
    Next,
    /// It was appended before, with this result.
    Duplicate(AppendResult),
    /// It was appended before; its result is no longer known.
    Forgotten,
    /// Batches are missing before it.
    Gap {
        /// The sequence that is next.
        expected: Sequence,
    },
    /// A later generation of the producer has taken over.
    Fenced {
        /// That generation.
        current: Epoch,
    },
    /// Nothing is known of the producer, and it does not start at the beginning.
    Unknown,
}

/// The producers of a partition.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Producers {
    pub(super) windows: BTreeMap<ProducerId, ProducerWindow>,
}

/// What one producer has sent lately.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ProducerWindow {
    pub(super) epoch: Epoch,
    /// The sequence of its next batch.
    pub(super) next: Sequence,
    /// Offset of its last batch: tells who appended longest ago.
    pub(super) last_offset: Offset,
    /// The results of its last batches, the oldest first; the last one belongs to the sequence before `next`.
    pub(super) results: VecDeque<AppendResult>,
}

impl Producers {
    /// As if it had been written by a version that kept no voids.
    #[cfg(test)]
    pub(crate) fn forget_voids(&mut self) {
        let results = self.windows.values_mut().flat_map(|window| &mut window.results);
        results.for_each(|result| result.voids = Voids::NONE);
    }

    /// The sequence that follows those of a producer.
    pub fn next(&self, id: ProducerId) -> Sequence {
        self.windows.get(&id).map_or(Sequence::ZERO, ProducerWindow::next)
    }

    /// What to do with a batch. Changes nothing.
    pub fn check(&self, id: ProducerId, epoch: Epoch, sequence: Sequence) -> Verdict {
        match self.windows.get(&id) {
            Some(window) => window.check(epoch, sequence),
            None if sequence == Sequence::ZERO => Verdict::Next,
            None => Verdict::Unknown,
        }
    }

    /// Takes note of a batch that was appended.
    ///
    /// The producer has the answers to all its batches below `acked_below`: their results are forgotten. A batch that
    /// is not the next one starts a new window: the log is always right.
    #[expect(clippy::too_many_arguments, reason = "the fields of one frame, by name")]
    pub fn record(
        &mut self,
        id: ProducerId,
        epoch: Epoch,
        sequence: Sequence,
        acked_below: Sequence,
        result: AppendResult,
    ) {
        if !self.windows.contains_key(&id) && self.windows.len() >= PRODUCERS_PER_PARTITION_MAX {
            self.evict();
        }
        let window = self.windows.entry(id).or_insert_with(|| ProducerWindow::starting(epoch, sequence));
        if window.epoch != epoch || window.next != sequence {
            *window = ProducerWindow::starting(epoch, sequence);
        }
        window.record(acked_below, result);
    }

    /// How many producers are remembered.
    pub fn count(&self) -> usize {
        self.windows.len()
    }

    /// The producers, in order of their identity.
    pub fn iter(&self) -> impl Iterator<Item = (ProducerId, &ProducerWindow)> {
        self.windows.iter().map(|(id, window)| (*id, window))
    }

    /// Forgets the producer that appended longest ago. Offsets are unique, so there is exactly one.
    fn evict(&mut self) {
        let oldest = self.windows.iter().min_by_key(|(_, window)| window.last_offset);
        if let Some(id) = oldest.map(|(id, _)| *id) {
            self.windows.remove(&id);
        }
    }
}

impl ProducerWindow {
    fn starting(epoch: Epoch, sequence: Sequence) -> Self {
        Self { epoch, next: sequence, last_offset: Offset::ZERO, results: VecDeque::new() }
    }

    /// The producer's generation.
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The sequence of its next batch.
    pub const fn next(&self) -> Sequence {
        self.next
    }

    fn check(&self, epoch: Epoch, sequence: Sequence) -> Verdict {
        if epoch < self.epoch {
            return Verdict::Fenced { current: self.epoch };
        }
        let next = if epoch > self.epoch { Sequence::ZERO } else { self.next };
        if sequence == next {
            return Verdict::Next;
        }
        if sequence > next {
            return Verdict::Gap { expected: next };
        }
        let back = usize::try_from(next.get() - sequence.get()).unwrap_or(usize::MAX);
        let index = self.results.len().checked_sub(back);
        let result = index.and_then(|index| self.results.get(index));
        result.map_or(Verdict::Forgotten, |result| Verdict::Duplicate(result.clone()))
    }

    fn record(&mut self, acked_below: Sequence, result: AppendResult) {
        self.next = self.next.next();
        self.last_offset = result.base_offset;
        let has_voids = !result.voids.is_empty();
        self.results.push_back(result);
        while self.results.len() > UNACKED_BATCHES_MAX
            || self.first() < acked_below
            || has_voids && self.void_bytes() > VOID_BYTES_MAX
        {
            if self.results.pop_front().is_none() {
                break;
            }
        }
    }

    fn void_bytes(&self) -> usize {
        self.results.iter().map(|result| result.voids.bytes().len()).sum()
    }

    /// The sequence of the oldest result that is known.
    fn first(&self) -> Sequence {
        Sequence::new(self.next.get() - self.results.len() as u64)
    }
}
