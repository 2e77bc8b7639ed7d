//! Flushed batches in memory, for readers near the end: at most as many bytes as the ledger has for them, and the
//! oldest go first.

use std::collections::VecDeque;

use weir_protocol::units::{PartitionKey, TopicId};

use crate::core::ledger::{Ledger, Pool};
use crate::core::partition::Partition;
use crate::core::subscription::Partitions;

/// Which batches go next when memory is wanted.
#[derive(Debug)]
pub struct HotCache {
    ledger: Ledger,
    /// Partitions in the order in which batches were appended: the order in which they are flushed, and forgotten.
    appended: VecDeque<PartitionKey>,
    /// Bytes that were flushed and still count as unflushed, until older ones have made room.
    arriving: u64,
}

impl HotCache {
    /// Nothing in memory.
    pub fn new(ledger: Ledger) -> Self {
        Self { ledger, appended: VecDeque::new(), arriving: 0 }
    }

    /// A batch of this partition is in memory, and is not to be forgotten before it is flushed.
    pub fn appended(&mut self, key: PartitionKey) {
        self.appended.push_back(key);
    }

    /// So many bytes of batches in memory are in segments now.
    pub const fn flushed(&mut self, bytes: u64) {
        self.arriving += bytes;
    }

    /// Forgets the oldest batches until all that are flushed fit.
    pub fn settle(&mut self, partitions: &mut Partitions) {
        loop {
            let fits = self.arriving.min(self.ledger.room(Pool::HotCache));
            self.ledger.shift(Pool::Unflushed, Pool::HotCache, fits);
            self.arriving -= fits;
            if self.arriving == 0 {
                return;
            }
            let Some(oldest) = self.appended.front() else { return };
            match partitions.get_mut(oldest).map(Partition::evict) {
                Some(Some(bytes)) => self.forget(bytes),
                // The oldest batch is in no segment yet; no later one can be.
                Some(None) => return,
                None => {}
            }
            self.appended.pop_front();
        }
    }

    /// So many bytes of flushed batches are no longer in memory.
    fn forget(&mut self, bytes: u64) {
        let cached = bytes.min(self.ledger.taken(Pool::HotCache));
        self.ledger.give_back(Pool::HotCache, cached);
        self.ledger.give_back(Pool::Unflushed, bytes - cached);
        self.arriving -= bytes - cached;
    }

    /// A topic is gone, and with it so many bytes of flushed batches.
    pub fn topic_removed(&mut self, topic: TopicId, bytes: u64) {
        self.appended.retain(|key| key.topic != topic);
        self.forget(bytes);
    }
}
