//! Making a batch, checking it as a broker does, and reading its records as a consumer does.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use weir_protocol::batch::{
    BatchBuilder, BatchIdentity, BuildError, Compression, ProducerBatch, RecordInput,
};
use weir_protocol::units::{Epoch, PartitionId, PartitionKey, ProducerId, Sequence, Timestamp, TopicId};

/// About what a busy client puts into a batch.
const BATCH_BYTES: usize = 64 << 10;

const IDENTITY: BatchIdentity = BatchIdentity {
    producer: ProducerId::new(7),
    producer_epoch: Epoch::new(1),
    sequence: Sequence::new(42),
    partition: PartitionKey { topic: TopicId::from_bytes([9; 16]), partition: PartitionId::new(3) },
};

/// Fills a batch with records of this value, without keys.
fn build(value: &[u8]) -> ProducerBatch {
    let mut builder = BatchBuilder::with_buffer(BATCH_BYTES, Vec::with_capacity(BATCH_BYTES));
    let record = RecordInput {
        create_time: Timestamp::from_micros(1_700_000_000_000_000),
        value: Some(value),
        ..RecordInput::default()
    };
    loop {
        match builder.push(&record) {
            Ok(_) => {}
            Err(BuildError::Full) => return builder.finish(&IDENTITY, Compression::None),
            Err(error) => panic!("the record fits: {error}"),
        }
    }
}

/// Reads every record, and returns the bytes of all values.
fn read(batch: &ProducerBatch) -> usize {
    let records = batch.records().expect("the batch was just made");
    records.map(|record| record.expect("the batch was just made").value.map_or(0, |value| value.len())).sum()
}

fn codec(criterion: &mut Criterion) {
    for value_bytes in [100, 1000] {
        let value = vec![0xa5; value_bytes];
        let batch = build(&value);
        let records = batch.header().record_count;
        assert_eq!(read(&batch), value_bytes * usize::try_from(records).expect("a small number"));

        let mut group = criterion.benchmark_group(format!("codec/{value_bytes}B"));
        group.throughput(Throughput::ElementsAndBytes {
            elements: u64::from(records),
            bytes: batch.length() as u64,
        });
        group.bench_function("build", |bencher| bencher.iter(|| build(black_box(&value))));
        group.bench_function("check", |bencher| {
            bencher.iter(|| ProducerBatch::decode(black_box(batch.bytes()).clone()).expect("just made"));
        });
        group.bench_function("read", |bencher| bencher.iter(|| read(black_box(&batch))));
        group.finish();
    }
}

criterion_group!(benches, codec);
criterion_main!(benches);
