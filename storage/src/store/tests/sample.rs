//! Frames for tests.

use weir_protocol::batch::{
    BatchBuilder, BatchIdentity, BrokerSection, Compression, RecordInput, StoredBatch, Voids,
};
use weir_protocol::limits::DEDUP_HORIZON_US_DEFAULT;
use weir_protocol::message::TopicSettings;
use weir_protocol::units::{
    Epoch, Offset, PartitionId, PartitionKey, ProducerId, Sequence, Timestamp, TopicId,
};

use crate::frame::{Frame, TopicDefinition};

pub(super) fn partition(topic: u8, partition: u32) -> PartitionKey {
    PartitionKey { topic: TopicId::from_bytes([topic; 16]), partition: PartitionId::new(partition) }
}

pub(super) fn topic(id: u8) -> TopicDefinition {
    TopicDefinition {
        id: TopicId::from_bytes([id; 16]),
        name: format!("topic-{id}"),
        created: Timestamp::from_micros(1),
        revision: 1,
        settings: TopicSettings {
            partitions: 8,
            retention_age_us: None,
            retention_bytes: None,
            batch_bytes_max: 1 << 20,
            explicit_partitions: false,
            dedup_horizon_us: Some(DEDUP_HORIZON_US_DEFAULT),
            keyed_versions: false,
            dedup_keys_per_second: None,
            dedup_since: Timestamp::ZERO,
        },
    }
}

/// One batch to be made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) partition: PartitionKey,
    pub(super) base_offset: u64,
    pub(super) records: u32,
    pub(super) value_bytes: usize,
    pub(super) producer: u64,
    pub(super) sequence: u64,
    pub(super) append_time: Timestamp,
}

impl Sample {
    /// Ten records of 1 KB: some of these give an index entries.
    pub(super) fn large(partition: PartitionKey, index: u64, append_time: Timestamp) -> Self {
        Self {
            partition,
            base_offset: index * 10,
            records: 10,
            value_bytes: 1_000,
            producer: 1,
            sequence: index,
            append_time,
        }
    }

    pub(super) fn batch(&self) -> StoredBatch {
        let mut builder = BatchBuilder::new(16 << 20);
        for record in 0..self.records {
            let mut value = vec![0u8; self.value_bytes];
            let mut seed = self.base_offset.wrapping_mul(31).wrapping_add(u64::from(record)) | 1;
            for byte in &mut value {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                *byte = seed.to_be_bytes()[0];
            }
            builder.push(&RecordInput { value: Some(&value), ..RecordInput::default() }).unwrap();
        }
        let identity = BatchIdentity {
            producer: ProducerId::new(self.producer),
            producer_epoch: Epoch::ZERO,
            sequence: Sequence::new(self.sequence),
            partition: self.partition,
        };
        let voids =
            if self.base_offset.is_multiple_of(5) { Voids::of(self.records, [0]) } else { Voids::NONE };
        let section = BrokerSection {
            base_offset: Offset::new(self.base_offset),
            append_time: self.append_time,
            partition_epoch: Epoch::ZERO,
            voids,
        };
        StoredBatch { section, producer: builder.finish(&identity, Compression::None) }
    }

    pub(super) fn frame(&self) -> Frame {
        let acked_below = Sequence::new(self.sequence.saturating_sub(3));
        Frame::Append { partition: self.partition, acked_below, batch: self.batch() }
    }
}

/// A batch of `records` records of 100 bytes, the `offset / records`th of its producer.
pub(super) fn append(partition: PartitionKey, offset: u64, records: u32) -> Frame {
    let sample = Sample {
        partition,
        base_offset: offset,
        records,
        value_bytes: 100,
        producer: 1,
        sequence: offset / u64::from(records),
        append_time: Timestamp::from_micros(1_700_000_000_000_000 + i64::try_from(offset).unwrap()),
    };
    sample.frame()
}

/// A batch of one record, from a producer of its own.
pub(super) fn append_at(partition: PartitionKey, base_offset: Offset) -> Frame {
    let sample = Sample {
        partition,
        base_offset: base_offset.get(),
        records: 1,
        value_bytes: 100,
        producer: 99,
        sequence: 0,
        append_time: Timestamp::from_micros(1_800_000_000_000_000),
    };
    sample.frame()
}

/// The stored bytes of a frame's batch.
pub(super) fn stored(frame: &Frame) -> Vec<u8> {
    match frame {
        Frame::Append { batch, .. } => {
            let mut out = Vec::new();
            batch.encode(&mut out);
            out
        }
        Frame::Topic(_)
        | Frame::TopicDeleted(_)
        | Frame::Trim { .. }
        | Frame::Skipped(_)
        | Frame::Group(_)
        | Frame::GroupDeleted { .. }
        | Frame::Settled(_)
        | Frame::Claim(_)
        | Frame::Failed(_)
        | Frame::DeadLetters(_)
        | Frame::Forwarded(_) => Vec::new(),
    }
}
