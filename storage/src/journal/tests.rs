use std::path::{Path, PathBuf};

use weir_protocol::units::{Incarnation, JournalPosition};

use super::*;
use crate::disk::{Disk, SimDisk};
use crate::frame::Frame;
use crate::frame::samples::{append, trim};

mod damage;
mod golden;
mod model;
mod recovery;
mod writing;

fn identity(incarnation: u64) -> Identity {
    Identity { journal: JournalId::from_bytes([0xab; 16]), incarnation: Incarnation::new(incarnation) }
}

fn directory() -> PathBuf {
    PathBuf::from("/data/journal")
}

fn quarantine() -> PathBuf {
    PathBuf::from("/data/quarantine")
}

/// The path of a ring file.
fn ring_file(number: u32) -> PathBuf {
    directory().join(format!("{number:04}.wal"))
}

/// Three files of 64 KiB, which may become four.
fn tiny() -> JournalOptions {
    JournalOptions { file_bytes: 64 << 10, files: 3, files_max: 4, reserve_bytes: 16 << 10 }
}

/// A disk with a durable, empty data directory.
fn disk() -> SimDisk {
    let disk = SimDisk::new();
    disk.create_directory(Path::new("/data")).unwrap();
    disk.sync_directory(Path::new("/")).unwrap();
    disk
}

/// A new journal with all its files made.
fn journal(disk: &SimDisk) -> Journal<SimDisk> {
    let mut journal = Journal::create(disk.clone(), &directory(), identity(1), tiny()).unwrap();
    prepare(&mut journal);
    journal
}

fn prepare<D: Disk>(journal: &mut Journal<D>) {
    while journal.prepare_spare().unwrap() == Prepared::More {}
}

fn from(incarnation: u64, applied: JournalPosition) -> ReplayFrom {
    ReplayFrom { identity: identity(incarnation), applied, proven: applied }
}

fn replay(disk: &SimDisk, from: ReplayFrom) -> Result<Replay<SimDisk>, ReplayError> {
    Replay::open(disk.clone(), &directory(), from)
}

/// All frames of a replay.
fn frames<D: Disk>(replay: &mut Replay<D>) -> Vec<Frame> {
    let mut all = Vec::new();
    while let Some((frames, end)) = replay.next_block().unwrap() {
        assert!(end <= replay.end());
        all.extend(frames.into_iter().map(|read| read.frame));
    }
    all
}

/// Appends whose payloads have these lengths, with offsets from `first` on.
fn appends(first: u64, lengths: &[usize]) -> Vec<Frame> {
    let value = |offset: u64, length| vec![offset.to_le_bytes()[0] ^ 0x5a; length];
    (first..).zip(lengths).map(|(offset, length)| append(0, offset, &value(offset, *length))).collect()
}

/// The damage that a replay found.
fn damage(result: Result<Replay<SimDisk>, ReplayError>) -> Damage {
    match result {
        Err(ReplayError::Corrupt(damage)) => *damage,
        other => panic!("expected damage, got {other:?}"),
    }
}
