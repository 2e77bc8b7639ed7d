//! The store as a whole, on a simulated disk and on a real one.

use std::path::Path;

use weir_protocol::units::{PartitionKey, Timestamp};

use super::*;
use crate::disk::Disk;
use crate::frame::Frame;
use crate::journal::{JournalOptions, Prepared};

mod damage;
mod dump;
mod faults;
mod full_disk;
mod golden;
mod keys;
mod lost_segments;
mod model;
mod outside;
mod random;
mod repair;
mod sample;
mod scenario;
mod scrub;
mod snapshot;
mod versions;

/// Small sizes, so that short tests have many files.
fn small() -> OpenOptions {
    OpenOptions {
        new_key_seed: None,
        journal: JournalOptions { file_bytes: 64 << 10, files: 3, files_max: 8, reserve_bytes: 16 << 10 },
        segments: SegmentOptions {
            own_file_bytes: 16 << 10,
            file_bytes_max: 256 << 10,
            merge_files: 3,
            merge_run_bytes: 4 << 10,
            merge_step_bytes: 8 << 10,
        },
        keys: KeyOptions { filter_bytes: 1 << 20, disk_bytes: 64 << 20 },
        idle_read_bytes: 64 << 10,
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(1_700_000_000_000_000 + seconds * 1_000_000)
}

fn data() -> &'static Path {
    Path::new("/data")
}

/// Makes frames durable and hands them to the flusher.
fn commit<D: Disk>(opened: &mut Opened<D>, mut frames: Vec<Frame>) {
    while opened.journal.prepare_spare().unwrap() == Prepared::More {}
    let committed = opened.journal.commit(&mut frames).unwrap();
    assert_eq!(committed.written, frames.len());
    opened.flusher.accept(frames, committed.end);
}

/// Reads all of a partition that is in segments, in chunks of `bytes_max`.
fn read_all<D: Disk>(reader: &Reader<D>, partition: PartitionKey, bytes_max: usize) -> Vec<u8> {
    let mut from = reader.log_start(partition);
    let mut all = Vec::new();
    while from < reader.flushed_end(partition) {
        let chunk = reader.read(partition, from, bytes_max).unwrap();
        assert!(chunk.base_offset <= from && chunk.end_offset > from);
        all.extend_from_slice(&chunk.bytes);
        from = chunk.end_offset;
    }
    all
}
