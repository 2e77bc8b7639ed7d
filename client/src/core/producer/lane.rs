//! A lane of a producer: the stream some of its partitions share, its credit, and whose turn it is.

use std::collections::VecDeque;

use weir_protocol::Credit;
use weir_protocol::units::PartitionId;

/// What is sent never exceeds what was granted; partitions with something to send take turns.
#[derive(Debug, Default)]
pub(super) struct Lane {
    pub(super) is_open: bool,
    /// Raised with each stream, so that what was taken for an earlier one is recognised.
    incarnation: u64,
    credit: Credit,
    /// Credit set aside for batches whose final size is not known yet.
    reserved: u64,
    ready: VecDeque<PartitionId>,
    /// The batch whose turn it is waits for credit.
    pub(super) is_starved: bool,
    /// The broker has said that the next grant waits for a quota.
    pub(super) is_throttled: bool,
}

impl Lane {
    /// A new stream: nothing sent, nothing granted.
    pub(super) fn open(&mut self) {
        self.reset();
        self.is_open = true;
    }

    /// The stream is gone.
    pub(super) fn reset(&mut self) {
        let incarnation = self.incarnation + 1;
        *self = Self { incarnation, ..Self::default() };
    }

    pub(super) const fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// Raises the limit.
    pub(super) fn grant(&mut self, limit: u64) {
        if self.credit.grant(limit) {
            self.is_starved = false;
            self.is_throttled = false;
        }
    }

    /// Bytes that may be sent now.
    pub(super) const fn available(&self) -> u64 {
        self.credit.available().saturating_sub(self.reserved)
    }

    /// Sets credit aside. Says whether there was enough.
    pub(super) const fn reserve(&mut self, bytes: u64) -> bool {
        if bytes > self.available() {
            self.is_starved = true;
            return false;
        }
        self.reserved += bytes;
        true
    }

    /// Spends what was set aside for a batch: as much as it really takes.
    ///
    /// # Panics
    /// If it takes more than was set aside: the size of an unsealed batch is an upper bound.
    pub(super) fn spend(&mut self, reserved: u64, actual: u64) {
        assert!(actual <= reserved, "a batch does not grow when it is sealed");
        self.reserved = self.reserved.checked_sub(reserved).expect("it was set aside on this stream");
        self.credit.spend(actual).expect("credit was set aside");
    }

    /// Queues a partition. Says whether nothing was queued before.
    pub(super) fn enqueue(&mut self, partition: PartitionId) -> bool {
        self.ready.push_back(partition);
        self.ready.len() == 1
    }

    /// The partition whose turn it is.
    pub(super) fn first(&self) -> Option<PartitionId> {
        self.ready.front().copied()
    }

    /// Ends the turn of the first partition.
    pub(super) fn advance(&mut self) {
        self.ready.pop_front();
    }
}
