//! What those outside know of a store: what it has acknowledged to them.

use std::collections::BTreeMap;

use weir_protocol::units::{Offset, PartitionKey};

use super::sample::stored;
use crate::frame::Frame;
use crate::state::NodeState;

/// What the outside knows.
#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    /// What was acknowledged.
    pub(super) state: NodeState,
    /// The batches of each partition: base offset, end offset, bytes.
    pub(super) batches: BTreeMap<PartitionKey, Vec<(Offset, Offset, Vec<u8>)>>,
}

impl Model {
    pub(super) fn apply(&mut self, frame: &Frame) {
        self.state.apply(frame);
        match frame {
            Frame::Append { partition, batch, .. } if self.state.topics.contains_key(&partition.topic) => {
                let batches = self.batches.entry(*partition).or_default();
                batches.push((batch.base_offset(), batch.end_offset(), stored(frame)));
            }
            Frame::TopicDeleted(topic) => self.batches.retain(|partition, _| partition.topic != *topic),
            Frame::Append { .. }
            | Frame::Topic(_)
            | Frame::Trim { .. }
            | Frame::Skipped(_)
            | Frame::Group(_)
            | Frame::GroupDeleted { .. }
            | Frame::Settled(_)
            | Frame::Claim(_)
            | Frame::Failed(_)
            | Frame::DeadLetters(_)
            | Frame::Forwarded(_) => {}
        }
    }

    /// The bytes from the batch that holds the log start on, up to an offset.
    pub(super) fn bytes(&self, partition: PartitionKey, log_start: Offset, end: Offset) -> Vec<u8> {
        let batches = self.batches.get(&partition).map_or(&[][..], Vec::as_slice);
        let kept = batches.iter().filter(|(base, batch_end, _)| *batch_end > log_start && *base < end);
        kept.flat_map(|(_, _, bytes)| bytes.iter().copied()).collect()
    }
}
