//! Frames as clients make them, with values chosen by the input.

use bytes::Bytes;
use harness::fuzz::Choices;
use weir_protocol::batch::{BatchBuilder, BatchIdentity, Compression, RecordInput};
use weir_protocol::limits::DEDUP_HORIZON_US_DEFAULT;
use weir_protocol::message::{
    AlterTopic, CreateSnapshot, CreateTopic, DeleteTopic, DescribeTopic, Grant, Hello, ListTopics, Message,
    OpenProducer, PROTOCOL_VERSION, Publish, PublishOpen, StartAt, SubscribeOpen, SubscribePartition,
    TopicSettings, TrimBefore, TrimPartition, UnsubscribePartition,
};
use weir_protocol::units::{
    Durability, Epoch, Offset, PartitionId, PartitionKey, ProducerId, Sequence, Timestamp, TopicId,
};

use super::broker::Broker;

/// A whole frame of any kind that a client sends.
pub(super) fn proper(choices: &mut Choices<'_>, broker: &Broker) -> Bytes {
    let kind = choices.below(16);
    let which = choices.below(4);
    let name = format!("topic-{which}");
    let topic = broker.topic(&name);
    let request = u32::from(choices.byte()) + 1;
    match kind {
        0 => hello(which),
        1 => CreateTopic { request, name, settings: settings(choices) }.to_frame(),
        2 => AlterTopic { request, name, settings: settings(choices) }.to_frame(),
        3 => DeleteTopic { request, name }.to_frame(),
        4 => ListTopics { request, after: if which == 0 { String::new() } else { name } }.to_frame(),
        5 => {
            let first_partition = PartitionId::new(choices.byte().into());
            DescribeTopic { request, name, first_partition }.to_frame()
        }
        6 => {
            let partition = PartitionId::new(choices.below(3).try_into().unwrap_or(0));
            let number = choices.long();
            let before = if number.is_multiple_of(2) {
                TrimBefore::Offset(Offset::new(number / 2))
            } else {
                TrimBefore::Time(Timestamp::from_micros(number.cast_signed()))
            };
            TrimPartition { request, name, partition, before, dry_run: choices.byte() > 200 }.to_frame()
        }
        7 => CreateSnapshot { request, name: format!("snapshot-{which}") }.to_frame(),
        8 => {
            let durability =
                if request.is_multiple_of(2) { Durability::Durable } else { Durability::Written };
            PublishOpen { topic, durability }.to_frame()
        }
        9 | 10 => publish(choices, (topic, request), broker),
        11 => SubscribeOpen { topic, limit_bytes: choices.long() }.to_frame(),
        12 => {
            let partition = PartitionId::new(choices.below(3).try_into().unwrap_or(0));
            let number = choices.long();
            let start = match request % 5 {
                0 => StartAt::Earliest,
                1 => StartAt::Latest,
                2 => StartAt::Offset(Offset::new(number)),
                3 => StartAt::Time(Timestamp::from_micros(number.cast_signed())),
                _ => StartAt::Last(number),
            };
            SubscribePartition { partition, generation: request, start }.to_frame()
        }
        13 => UnsubscribePartition { partition: PartitionId::new(which.try_into().unwrap_or(0)) }.to_frame(),
        14 => Grant { limit_bytes: choices.long() }.to_frame(),
        _ => OpenProducer { request }.to_frame(),
    }
}

fn hello(which: usize) -> Bytes {
    let version = if which == 3 { 9 } else { PROTOCOL_VERSION };
    let (client_name, client_version) = ("fuzz".to_owned(), String::new());
    let hello = Hello {
        version_min: version,
        version_max: version,
        features: 0,
        frame_bytes_max: 1 << 20,
        client_name,
        client_version,
    };
    hello.to_frame()
}

fn settings(choices: &mut Choices<'_>) -> TopicSettings {
    TopicSettings {
        partitions: u32::try_from(choices.long().min(1 << 20)).unwrap_or(1).max(1),
        retention_age_us: None,
        retention_bytes: None,
        batch_bytes_max: 4 << 10,
        explicit_partitions: false,
        dedup_horizon_us: Some(DEDUP_HORIZON_US_DEFAULT),
        keyed_versions: false,
        dedup_keys_per_second: None,
        dedup_since: Timestamp::ZERO,
    }
}

/// A batch that is mostly the next one of its producer.
fn publish(choices: &mut Choices<'_>, (topic, producer): (TopicId, u32), broker: &Broker) -> Bytes {
    let (records, length, odd) = (choices.below(4) + 1, choices.byte(), choices.byte());
    let mut builder = BatchBuilder::new(64 << 10);
    let value = vec![length; usize::from(length) * 4];
    for _ in 0..records {
        builder.push(&RecordInput { value: Some(&value), ..RecordInput::default() }).expect("it is short");
    }
    let producer = ProducerId::new(u64::from(producer % 4));
    let partition = PartitionKey { topic, partition: PartitionId::new(u32::from(odd % 3 == 1)) };
    let sequence = if odd < 200 {
        broker.next_sequence(producer, partition)
    } else {
        Sequence::new(u64::from(odd) - 200)
    };
    let producer_epoch = Epoch::new(u32::from(odd == 199));
    let identity = BatchIdentity { producer, producer_epoch, sequence, partition };
    let batch = builder.finish(&identity, Compression::None);
    Publish { acked_below: Sequence::ZERO, batch }.to_frame()
}
