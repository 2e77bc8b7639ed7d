//! Frames for tests.

use weir_protocol::batch::{
    BatchBuilder, BatchIdentity, BrokerSection, Compression, RecordInput, StoredBatch, Voids,
};
use weir_protocol::limits::DEDUP_HORIZON_US_DEFAULT;
use weir_protocol::message::TopicSettings;
use weir_protocol::units::{
    Epoch, GroupId, Offset, PartitionId, PartitionKey, ProducerId, Sequence, Timestamp, TopicId,
};

use weir_protocol::Redelivery;

use super::{
    Claim, ClaimedName, DeadLetter, DeadLetters, FailedRecords, FailingRecord, ForwardedLetters, Frame,
    GroupDefinition, GroupPositions, SettledRecords, SkippedBatch, TopicDefinition,
};

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

/// A name that a producer of the topic has claimed.
pub(crate) fn claim(name: &str, epoch: u32) -> Frame {
    let claim = Claim { producer: ProducerId::new(9), epoch: Epoch::new(epoch) };
    Frame::Claim(ClaimedName { topic: TopicId::from_bytes([7; 16]), name: name.to_owned(), claim })
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
            keyed_versions: false,
            dedup_keys_per_second: None,
            dedup_since: Timestamp::ZERO,
        },
    }
}

/// A trim of one of the topic's partitions.
pub(crate) fn trim(number: u32, log_start: u64) -> Frame {
    Frame::Trim { partition: partition(number), log_start: Offset::new(log_start) }
}

/// A group of the topic that stands at an offset of some partitions.
pub(crate) fn group(id: u64, positions: &[(u32, u64)]) -> Frame {
    let position = |(number, offset): &(u32, u64)| (PartitionId::new(*number), Offset::new(*offset));
    Frame::Group(GroupPositions {
        definition: GroupDefinition {
            id: GroupId::new(id),
            topic: TopicId::from_bytes([7; 16]),
            name: format!("group-{id}"),
            created: Timestamp::from_micros(43),
            redelivery: Redelivery::default(),
            longest_lease_ms: 0,
        },
        positions: positions.iter().map(position).collect(),
    })
}

/// A group of the topic is removed.
pub(crate) fn group_deleted(id: u64) -> Frame {
    Frame::GroupDeleted { topic: TopicId::from_bytes([7; 16]), group: GroupId::new(id) }
}

/// A group settles offsets of one of the topic's partitions.
pub(crate) fn settled(id: u64, number: u32, ranges: &[(u64, u64)]) -> Frame {
    let range = |(from, to): &(u64, u64)| (Offset::new(*from), Offset::new(*to));
    Frame::Settled(SettledRecords {
        partition: partition(number),
        group: GroupId::new(id),
        ranges: ranges.iter().map(range).collect(),
    })
}

/// A record of one of the topic's partitions has failed in a group so many times.
pub(crate) fn failed(id: u64, number: u32, (offset, failed): (u64, u32)) -> Frame {
    let record = FailingRecord {
        failed,
        returned: 2,
        first: Timestamp::from_micros(50),
        last: Timestamp::from_micros(51),
        due: Timestamp::from_micros(52),
    };
    let records = vec![(Offset::new(offset), record)];
    Frame::Failed(FailedRecords { partition: partition(number), group: GroupId::new(id), records })
}

/// A group has given up records of one of the topic's partitions.
pub(crate) fn dead_letters(id: u64, number: u32, offsets: &[u64]) -> Frame {
    let letter = |offset: &u64| {
        let (first, last) = (Timestamp::from_micros(50), Timestamp::from_micros(51));
        (
            Offset::new(*offset),
            DeadLetter { failed: 4, returned: 2, first, last, reason: "no such order".to_owned() },
        )
    };
    let letters = offsets.iter().map(letter).collect();
    Frame::DeadLetters(DeadLetters { partition: partition(number), group: GroupId::new(id), letters })
}

/// Dead letters of one of the topic's partitions have arrived.
pub(crate) fn forwarded(id: u64, number: u32, offsets: &[u64]) -> Frame {
    let offsets = offsets.iter().copied().map(Offset::new).collect();
    Frame::Forwarded(ForwardedLetters { partition: partition(number), group: GroupId::new(id), offsets })
}
