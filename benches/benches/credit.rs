//! What credit costs the broker for each batch: spending it, giving the memory back, raising limits.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use weir_broker::core::event::{ConnectionId, LaneId, StreamId};
use weir_broker::core::ingest::{Ingest, IngestLimits};

/// Bytes of a batch on the wire.
const BATCH_BYTES: u64 = 64 << 10;

/// Batches in one run.
const BATCHES: u64 = 4096;

const LIMITS: IngestLimits = IngestLimits {
    pool_bytes: 1 << 30,
    in_flight_bytes: 512 << 20,
    window_bytes_min: 2 << 20,
    window_bytes_max: 8 << 20,
};

/// Batches arrive on all lanes in turn, become durable and are flushed.
fn batches(ingest: &mut Ingest, lanes: &[LaneId]) -> u64 {
    let mut limits = 0;
    let mut lane = lanes.iter().cycle();
    for _ in 0..BATCHES {
        let lane = *lane.next().expect("there are lanes");
        assert!(ingest.receive(lane, BATCH_BYTES), "nothing is sent beyond the credit");
        ingest.release(lane, BATCH_BYTES, BATCH_BYTES);
        ingest.flushed(BATCH_BYTES);
        while let Some((_, limit)) = ingest.next_grant() {
            limits = limits.max(limit);
        }
    }
    limits
}

fn credit(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("credit");
    group.throughput(Throughput::Elements(BATCHES));
    for count in [1, 64] {
        let mut ingest = Ingest::new(LIMITS);
        let lanes: Vec<LaneId> = (0..count)
            .map(|stream| LaneId { connection: ConnectionId(1), stream: StreamId(stream) })
            .collect();
        lanes.iter().for_each(|lane| ingest.open(*lane));
        while ingest.next_grant().is_some() {}
        group.bench_function(format!("{count} lanes"), |bencher| {
            bencher.iter(|| batches(&mut ingest, black_box(&lanes)));
        });
    }
    group.finish();
}

criterion_group!(benches, credit);
criterion_main!(benches);
