//! Frames for tests.

use weir_protocol::batch::{
    BatchBuilder, BatchIdentity, BrokerSection, Compression, RecordInput, StoredBatch, Voids,
};
use weir_protocol::limits::DEDUP_HORIZON_US_DEFAULT;
use weir_protocol::message::TopicSettings;
use weir_protocol::units::{
    Epoch, Offset, PartitionId, PartitionKey, ProducerId, Sequence, Timestamp, TopicId,
};

use super::{Frame, SkippedBatch, TopicDefinition};

/// A partition of the one topic of the tests.
pub(crate) fn partition(number: u32) -> PartitionKey {
    PartitionKey { topic: TopicId::from_bytes([7; 16]), partition: PartitionId::new(number) }
}

/// A batch of one record with `value`, as the broker stores it at `offset`.
pub(crate) fn batch(partition: PartitionKey, offset: u64, value: &[u8]) -> StoredBatch {
    let mut builder = BatchBuilder::new(8 << 20);
    builder.push(&RecordInput { value: Some(value), ..RecordInput::default() }).unwrap();
    let identity = BatchIdentity {
        producer: ProducerId::new(5),
        producer_epoch: Epoch::new(1),
        sequence: Sequence::new(offset),
        partition,
    };
    let section = BrokerSection {
        base_offset: Offset::new(offset),
        append_time: Timestamp::from_micros(1_000_000),
        partition_epoch: Epoch::ZERO,
        voids: Voids::NONE,
    };
    StoredBatch { section, producer: builder.finish(&identity, Compression::None) }
}

/// An appended batch of one record with `value`.
pub(crate) fn append(number: u32, offset: u64, value: &[u8]) -> Frame {
    let partition = partition(number);
    Frame::Append {
        partition,
        acked_below: Sequence::new(offset / 2),
        batch: batch(partition, offset, value),
    }
}

/// The same with its first record void.
pub(crate) fn with_void(mut frame: Frame) -> Frame {
    if let Frame::Append { batch, .. } = &mut frame {
        batch.section.voids = Voids::of(batch.producer.header().record_count, [0]);
    }
    frame
}

/// A batch of one record of which nothing was stored.
pub(crate) fn skipped(number: u32, sequence: u64) -> Frame {
    Frame::Skipped(SkippedBatch {
        partition: partition(number),
        producer: ProducerId::new(5),
        producer_epoch: Epoch::new(1),
        sequence: Sequence::new(sequence),
        acked_below: Sequence::new(sequence / 2),
        record_count: 1,
    })
}

/// The definition of the topic of the tests.
pub(crate) fn topic(revision: u64) -> TopicDefinition {
    TopicDefinition {
        id: TopicId::from_bytes([7; 16]),
        name: "orders".to_owned(),
        created: Timestamp::from_micros(42),
        revision,
        settings: TopicSettings {
            partitions: 3,
            retention_age_us: Some(1_000_000),
            retention_bytes: None,
            batch_bytes_max: 1 << 20,
            explicit_partitions: true,
            dedup_horizon_us: Some(DEDUP_HORIZON_US_DEFAULT),
        },
    }
}

/// A trim of one of the topic's partitions.
pub(crate) fn trim(number: u32, log_start: u64) -> Frame {
    Frame::Trim { partition: partition(number), log_start: Offset::new(log_start) }
}
