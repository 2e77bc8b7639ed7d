//! Positions that a user stores in the same transaction as the effect of what was read.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;
use weir_protocol::units::{Epoch, Offset, PartitionId, TopicId};

/// From where to go on reading, for some partitions of one topic.
///
/// It names the topic's identity: a topic that was deleted and made again under the same name does not fit.
///
/// ```
/// let mut sum = weir_client::Checkpoint::default();
/// # let after_a_record = weir_client::Checkpoint::default();
/// sum.merge(&after_a_record);
/// assert!(sum.is_empty());
/// ```
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Checkpoint {
    topic: Option<Uuid>,
    positions: BTreeMap<u32, Position>,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
struct Position {
    next: u64,
    epoch: u32,
}

impl Checkpoint {
    pub(crate) fn of(topic: TopicId, partition: u32, next: u64, epoch: Epoch) -> Self {
        let position = Position { next, epoch: epoch.get() };
        let topic = Some(Uuid::from_bytes(topic.to_bytes()));
        Self { topic, positions: BTreeMap::from([(partition, position)]) }
    }

    /// Whether it names no position.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.positions.is_empty()
    }

    /// The next offset to read in a partition, if the checkpoint says so.
    #[must_use]
    pub fn next_offset(&self, partition: u32) -> Option<u64> {
        self.positions.get(&partition).map(|position| position.next)
    }

    /// The partitions with their next offsets.
    pub fn positions(&self) -> impl Iterator<Item = (u32, u64)> + '_ {
        self.positions.iter().map(|(partition, position)| (*partition, position.next))
    }

    /// Takes over the positions of `later`, replacing those of the same partitions. A checkpoint of another topic
    /// replaces everything.
    pub fn merge(&mut self, later: &Self) {
        if later.topic.is_some() && later.topic != self.topic {
            self.topic = later.topic;
            self.positions.clear();
        }
        self.positions.extend(later.positions.iter());
    }

    pub(crate) fn fits(&self, topic: TopicId) -> bool {
        self.topic.is_none_or(|own| own.into_bytes() == topic.to_bytes())
    }

    pub(crate) fn start_of(&self, partition: PartitionId) -> Option<Offset> {
        self.next_offset(partition.get()).map(Offset::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOPIC: TopicId = TopicId::from_bytes([7; 16]);

    #[test]
    fn merging_keeps_the_later_position_of_each_partition() {
        let mut sum = Checkpoint::of(TOPIC, 0, 5, Epoch::ZERO);
        sum.merge(&Checkpoint::of(TOPIC, 1, 9, Epoch::ZERO));
        sum.merge(&Checkpoint::of(TOPIC, 0, 6, Epoch::ZERO));
        assert_eq!(sum.positions().collect::<Vec<_>>(), [(0, 6), (1, 9)]);
    }

    #[test]
    fn a_checkpoint_fits_only_its_topic() {
        let checkpoint = Checkpoint::of(TOPIC, 0, 5, Epoch::ZERO);
        assert!(checkpoint.fits(TOPIC));
        assert!(!checkpoint.fits(TopicId::from_bytes([8; 16])));
        assert!(Checkpoint::default().fits(TOPIC));
    }
}
