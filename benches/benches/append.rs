//! Appending to the journal on a real disk: one write and one data sync for all frames of a commit.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tempfile::TempDir;
use uuid::Uuid;
use weir_protocol::batch::{
    BatchBuilder, BatchIdentity, BrokerSection, BuildError, Compression, RecordInput, StoredBatch, Voids,
};
use weir_protocol::units::{
    Epoch, Incarnation, Offset, PartitionId, PartitionKey, ProducerId, Sequence, Timestamp, TopicId,
};
use weir_storage::disk::OsDisk;
use weir_storage::frame::Frame;
use weir_storage::journal::{Identity, Journal, JournalId, JournalOptions, Prepared};

const PARTITION: PartitionKey =
    PartitionKey { topic: TopicId::from_bytes([9; 16]), partition: PartitionId::new(3) };

/// A frame with a batch of about so many bytes.
fn frame(bytes: usize) -> Frame {
    let mut builder = BatchBuilder::new(bytes);
    let value = vec![0xa5; 1000];
    let record = RecordInput { value: Some(&value), ..RecordInput::default() };
    loop {
        match builder.push(&record) {
            Ok(_) => {}
            Err(BuildError::Full) => break,
            Err(error) => panic!("the record fits: {error}"),
        }
    }
    let identity = BatchIdentity {
        producer: ProducerId::new(7),
        producer_epoch: Epoch::new(1),
        sequence: Sequence::ZERO,
        partition: PARTITION,
    };
    let section = BrokerSection {
        base_offset: Offset::ZERO,
        append_time: Timestamp::from_micros(1),
        partition_epoch: Epoch::ZERO,
        voids: Voids::NONE,
    };
    let batch = StoredBatch { section, producer: builder.finish(&identity, Compression::None) };
    Frame::Append { partition: PARTITION, acked_below: Sequence::ZERO, batch }
}

/// A journal whose ring has been filled once: files are written over, as they are in a broker that has run for a while.
fn journal(directory: &TempDir) -> Journal<OsDisk> {
    let identity = Identity {
        journal: JournalId::from_bytes(*Uuid::new_v4().as_bytes()),
        incarnation: Incarnation::new(1),
    };
    let path = directory.path().join("journal");
    let mut journal = Journal::create(OsDisk, &path, identity, JournalOptions::default())
        .expect("the temporary directory takes a journal");
    let mut frames = vec![frame(1 << 20)];
    for _ in 0..256 {
        append(&mut journal, &mut frames);
    }
    journal
}

fn append(journal: &mut Journal<OsDisk>, frames: &mut [Frame]) {
    let committed = journal.commit(frames).expect("there is room");
    assert_eq!(committed.written, frames.len(), "all frames fit");
    // As if everything had been flushed: the ring goes round.
    journal.release(committed.end);
    while journal.prepare_spare().expect("the disk takes the next file") == Prepared::More {}
}

fn appends(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().expect("temporary directories can be made");
    let mut journal = journal(&directory);
    let mut group = criterion.benchmark_group("append");
    for (name, batch_bytes, batches) in
        [("1x2KiB", 2 << 10, 1), ("1x64KiB", 64 << 10, 1), ("16x64KiB", 64 << 10, 16), ("1x1MiB", 1 << 20, 1)]
    {
        let mut frames: Vec<Frame> = (0..batches).map(|_| frame(batch_bytes)).collect();
        let bytes: usize = frames.iter().map(Frame::length).sum();
        group.throughput(Throughput::Bytes(bytes as u64)).sample_size(30);
        group.bench_function(name, |bencher| bencher.iter(|| append(&mut journal, black_box(&mut frames))));
    }
    group.finish();
}

criterion_group!(benches, appends);
criterion_main!(benches);
