//! What credit costs the broker for each batch: spending it, giving the memory back, raising limits.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use weir_broker::core::event::{ConnectionId, LaneId, StreamId};
use weir_broker::core::ingest::{Ingest, IngestLimits, admit, footprint};
use weir_broker::core::ledger::{Budget, Ledger, Pool};

/// Bytes of a batch on the wire.
const BATCH_BYTES: u64 = 64 << 10;

/// Batches in one run.
const BATCHES: u64 = 4096;

const LIMITS: IngestLimits =
    IngestLimits { window_bytes_min: 2 << 20, window_bytes_max: 8 << 20, turn_bytes: 2 << 20 };

const MEMORY: Budget = Budget {
    ingest: 512 << 20,
    unflushed: 1 << 30,
    hot_cache: 1 << 30,
    delivery: 0,
    connections: 0,
    dedup: 0,
    groups: 0,
    control: 0,
};

/// Batches arrive on all lanes in turn, become durable and are flushed.
fn batches((ingest, ledger): (&mut Ingest, &Ledger), lanes: &[LaneId]) -> u64 {
    let mut limits = 0;
    let unflushed = footprint(BATCH_BYTES);
    let mut lane = lanes.iter().cycle();
    for _ in 0..BATCHES {
        let lane = *lane.next().expect("there are lanes");
        let memory = admit(ledger, BATCH_BYTES).expect("there is memory for one batch");
        let _taken = memory.hand_over();
        assert!(ingest.receive(lane, BATCH_BYTES), "nothing is sent beyond the credit");
        ingest.release(lane, BATCH_BYTES, unflushed);
        ledger.give_back(Pool::Unflushed, unflushed);
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
        let ledger = Ledger::new(MEMORY);
        let mut ingest = Ingest::new(LIMITS, ledger.clone());
        let lanes: Vec<LaneId> = (0..count)
            .map(|stream| LaneId { connection: ConnectionId(1), stream: StreamId(stream) })
            .collect();
        lanes.iter().for_each(|lane| ingest.open(*lane));
        while ingest.next_grant().is_some() {}
        group.bench_function(format!("{count} lanes"), |bencher| {
            bencher.iter(|| batches((&mut ingest, &ledger), black_box(&lanes)));
        });
    }
    group.finish();
}

criterion_group!(benches, credit);
criterion_main!(benches);
