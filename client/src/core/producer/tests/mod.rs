//! The producer against scripts of events, and against a model of the broker.

mod model;
mod script;

use std::time::Duration;

use weir_protocol::batch::{Compression, ProducerBatch, RecordInput};
use weir_protocol::message::{AckEntry, Publish, PublishRejected};
use weir_protocol::units::{Epoch, PartitionId, ProducerId, TopicId};

use super::answers::GAPS_MAX;
use super::*;
use crate::options::Retry;

const TOPIC: TopicId = TopicId::from_bytes([9; 16]);
const IDENTITY: Identity = Identity { producer: ProducerId::new(70), epoch: Epoch::ZERO };

fn options(partitions: u32) -> ProducerOptions {
    ProducerOptions {
        topic: TOPIC,
        partitions,
        batch_bytes: 300,
        batch_bytes_max: 600,
        batch_records: 8,
        linger: Duration::ZERO,
        in_flight_bytes: 1 << 20,
        in_flight_messages: 10_000,
        unacked_batches: 64,
        delivery_timeout: Duration::from_secs(60),
        retry: Retry::exponential(Duration::from_millis(10), Duration::from_millis(100)),
        is_claimed: false,
    }
}

/// A record of 8 bytes with a number in it; `pad` makes it longer.
fn value(id: u64, pad: usize) -> Vec<u8> {
    let mut value = id.to_le_bytes().to_vec();
    value.resize(8 + pad, 0);
    value
}

fn ids(batch: &ProducerBatch) -> Vec<u64> {
    let values = batch.records().unwrap().map(|record| record.unwrap().value.unwrap());
    values.map(|value| u64::from_le_bytes(value[..8].try_into().unwrap())).collect()
}

/// Enqueues one record; the ticket of a batch is the identifier of its first record.
fn put(
    producer: &mut Producer<u64>,
    routing: Routing,
    id: u64,
    pad: usize,
    now: Mono,
) -> Result<PartitionId, PushError> {
    let cost = producer.window.cost(8 + pad);
    assert!(producer.window.try_reserve(cost), "the tests stay below the window");
    let value = value(id, pad);
    let record = RecordInput { value: Some(&value), ..RecordInput::default() };
    loop {
        let partition = match producer.route(routing) {
            Ok(partition) => partition,
            Err(error) => {
                producer.window.release(cost, 1);
                return Err(error);
            }
        };
        match producer.push(partition, &record, cost) {
            Ok(_) => return Ok(partition),
            Err(PushError::Closed { .. }) => {}
            Err(PushError::NeedsBatch { bytes_max, .. }) => {
                producer.open_batch(partition, BatchBuilder::new(bytes_max), id, now);
            }
            Err(error) => {
                producer.window.release(cost, 1);
                return Err(error);
            }
        }
    }
}

/// Takes and seals everything a lane may send.
fn send(
    producer: &mut Producer<u64>,
    lane: LaneId,
    out: &mut Vec<Completion<u64>>,
) -> Vec<(Outgoing, ProducerBatch)> {
    let mut sent = Vec::new();
    loop {
        let mut taken = Vec::new();
        producer.take(lane, &mut taken);
        if taken.is_empty() {
            return sent;
        }
        for outgoing in taken {
            sent.extend(seal(producer, lane, outgoing, out));
        }
    }
}

fn seal(
    producer: &mut Producer<u64>,
    lane: LaneId,
    mut outgoing: Outgoing,
    out: &mut Vec<Completion<u64>>,
) -> Option<(Outgoing, ProducerBatch)> {
    match std::mem::replace(&mut outgoing.content, OutgoingContent::Taken) {
        OutgoingContent::Sealed(batch) => Some((outgoing, batch)),
        OutgoingContent::Unsealed(builder, identity) => {
            let batch = builder.finish(&identity, Compression::None);
            producer.sealed(lane, &mut outgoing, &batch, out).then_some((outgoing, batch))
        }
        OutgoingContent::Taken => None,
    }
}
