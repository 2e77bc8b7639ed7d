//! Batches that wait until it is known whether their keys were taken long ago.

use std::collections::{BTreeMap, VecDeque};

use weir_protocol::message::Publish;
use weir_protocol::units::PartitionKey;

use crate::core::LaneId;

/// A batch as it came, within the credit of its lane: that bounds how many wait.
#[derive(Debug)]
pub struct Incoming {
    /// Where the answer goes.
    pub lane: LaneId,
    /// The batch.
    pub publish: Publish,
    /// Bytes of the frame it came in.
    pub bytes: u64,
}

/// The batches of each partition that waits, the one whose keys are looked for in front.
#[derive(Debug, Default)]
pub struct Waiting {
    partitions: BTreeMap<PartitionKey, Queue>,
}

#[derive(Debug)]
struct Queue {
    batches: VecDeque<Incoming>,
    /// How many keys had left memory when the first began to wait.
    released: u64,
}

impl Waiting {
    /// A batch waits for the keys it was asked for.
    ///
    /// # Panics
    /// If one of its partition does so already.
    pub fn begin(&mut self, incoming: Incoming, released: u64) {
        let key = incoming.publish.batch.header().partition;
        let queue = Queue { batches: VecDeque::from([incoming]), released };
        let earlier = self.partitions.insert(key, queue);
        assert!(earlier.is_none(), "one batch of a partition waits for its keys at a time");
    }

    /// Keeps a batch back if an earlier one of its partition waits; else gives it back.
    pub fn follow(&mut self, incoming: Incoming) -> Option<Incoming> {
        match self.partitions.get_mut(&incoming.publish.batch.header().partition) {
            Some(queue) => {
                queue.batches.push_back(incoming);
                None
            }
            None => Some(incoming),
        }
    }

    /// The batches of a partition, whose keys have been looked for: none waits any more.
    pub fn take(&mut self, partition: PartitionKey) -> Option<(VecDeque<Incoming>, u64)> {
        self.partitions.remove(&partition).map(|queue| (queue.batches, queue.released))
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.partitions.is_empty()
    }

    /// Batches that wait.
    pub fn len(&self) -> usize {
        self.partitions.values().map(|queue| queue.batches.len()).sum()
    }
}
