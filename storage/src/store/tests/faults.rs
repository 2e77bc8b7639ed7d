//! Damage, full disks, and directories that are not ours.

use std::path::PathBuf;

use weir_protocol::units::{Offset, SegmentId};

use super::sample::{Sample, append, partition, stored, topic};
use super::*;
use crate::checkpoint::{Paths, state_name};
use crate::disk::SimDisk;
use crate::disk::sim::{Fault, Operation};
use crate::segment::{index_name, segment_name};

/// A directory with 40 batches of 10 records in one segment, closed in order.
fn filled(disk: &SimDisk) -> Vec<Vec<u8>> {
    let mut opened = open(disk.clone(), data(), roomy(), at(0)).unwrap();
    let key = partition(1, 0);
    let frames: Vec<_> =
        (0..40).map(|index| Sample::large(key, index, at(i64::try_from(index).unwrap())).frame()).collect();
    let stored: Vec<_> = frames.iter().map(stored).collect();
    commit(&mut opened, vec![Frame::Topic(topic(1))]);
    for frame in frames {
        commit(&mut opened, vec![frame]);
    }
    opened.flusher.close(at(1)).unwrap();
    stored
}

fn roomy() -> OpenOptions {
    let journal = JournalOptions { file_bytes: 1 << 20, files: 2, files_max: 4, reserve_bytes: 16 << 10 };
    OpenOptions { journal, ..OpenOptions::default() }
}

fn segment_path() -> PathBuf {
    data().join("segments").join(segment_name(SegmentId::new(1)))
}

fn index_path() -> PathBuf {
    data().join("segments").join(index_name(SegmentId::new(1)))
}

fn reopen(disk: &SimDisk) -> Result<Opened<SimDisk>, OpenError> {
    open(disk.clone(), data(), roomy(), at(100))
}

fn report(disk: &SimDisk) -> VerifyReport {
    verify(disk, data(), &mut |_| {}).unwrap()
}

/// The byte of the segment where a batch starts.
fn position(stored: &[Vec<u8>], index: usize) -> u64 {
    4096 + stored[..index].iter().map(|bytes| bytes.len() as u64).sum::<u64>()
}

#[test]
fn a_sound_directory_is_found_sound() {
    let disk = SimDisk::new();
    let stored = filled(&disk);

    let report = report(&disk);

    assert!(report.is_sound(), "{report:?}");
    assert!(report.damage.is_empty() && report.unknown_files.is_empty());
    assert_eq!(report.bytes, stored.iter().map(|bytes| bytes.len() as u64).sum::<u64>());
    let [only] = report.partitions.as_slice() else {
        panic!("one partition was written");
    };
    assert_eq!((only.topic.as_str(), only.end_offset), ("topic-1", Offset::new(400)));
}

#[test]
fn a_damaged_batch_is_named_and_the_rest_can_be_read() {
    let disk = SimDisk::new();
    let stored = filled(&disk);
    // In the body: the broker section still tells where the next batch starts.
    disk.flip(&segment_path(), position(&stored, 17) + 500, 1);

    let opened = reopen(&disk).unwrap();
    let key = partition(1, 0);
    for offset in [170, 175, 179] {
        let error = opened.reader.read(key, Offset::new(offset), 1 << 20).unwrap_err();
        let ReadError::Corrupt { from, to } = error else {
            panic!("{error}");
        };
        assert_eq!((from, to), (Offset::new(offset), Offset::new(180)));
    }
    for (index, bytes) in stored.iter().enumerate().filter(|(index, _)| *index != 17) {
        let chunk = opened.reader.read(key, Offset::new(index as u64 * 10 + 3), 1).unwrap();
        assert_eq!(chunk.bytes, *bytes);
    }
    // A longer read ends before the damage.
    let chunk = opened.reader.read(key, Offset::new(160), 1 << 20).unwrap();
    assert_eq!(chunk.end_offset, Offset::new(170));
    disk.kill();

    let report = report(&disk);
    assert!(!report.is_sound());
    assert_eq!(report.partitions[0].damaged, vec![Offset::new(170)..Offset::new(180)]);
}

#[test]
fn where_the_length_is_lost_the_index_says_how_to_go_on() {
    let disk = SimDisk::new();
    let stored = filled(&disk);
    disk.zero(&segment_path(), position(&stored, 17)..position(&stored, 17) + 32);

    let opened = reopen(&disk).unwrap();
    let key = partition(1, 0);
    let error = opened.reader.read(key, Offset::new(170), 1 << 20).unwrap_err();
    let ReadError::Corrupt { to, .. } = error else {
        panic!("{error}");
    };
    // The next entry is at most 64 KiB and a batch away.
    assert!(to > Offset::new(180) && to <= Offset::new(260), "{to}");
    let next = usize::try_from(to.get() / 10).unwrap();
    assert_eq!(opened.reader.read(key, to, 1).unwrap().bytes, stored[next]);
    disk.kill();

    assert_eq!(report(&disk).partitions[0].damaged, vec![Offset::new(170)..to]);
}

#[test]
fn an_index_that_is_damaged_or_missing_is_made_again() {
    for damage in [true, false] {
        let disk = SimDisk::new();
        let stored = filled(&disk);
        let sound = disk.content(&index_path());
        if damage {
            disk.flip(&index_path(), 70, 0x10);
        } else {
            disk.remove(&index_path()).unwrap();
        }
        let found = report(&disk);
        assert!(found.is_sound() && found.damage.len() == 1, "{found:?}");

        let opened = reopen(&disk).unwrap();
        let chunk = opened.reader.read(partition(1, 0), Offset::new(333), 1).unwrap();

        assert_eq!(chunk.bytes, stored[33]);
        assert_eq!(disk.content(&index_path()), sound);
    }
}

#[test]
fn a_damaged_run_directory_is_made_again_from_the_batches() {
    let disk = SimDisk::new();
    let stored = filled(&disk);
    let end = disk.content(&segment_path()).len() as u64;
    for place in [end - 10, position(&stored, 40) + 20, 8] {
        disk.flip(&segment_path(), place, 0x40);
        let found = report(&disk);
        assert!(found.is_sound() && found.damage.len() == 1, "{found:?}");

        let opened = reopen(&disk).unwrap();
        assert_eq!(read_all(&opened.reader, partition(1, 0), 1 << 20), stored.concat());
        assert_eq!(opened.report.repaired.len(), 1);

        disk.kill();
        disk.flip(&segment_path(), place, 0x40);
    }
}

#[test]
fn one_damaged_manifest_does_not_matter_and_two_are_an_error() {
    let disk = SimDisk::new();
    let stored = filled(&disk);
    let paths = Paths::new(data());
    for slot in [0, 1] {
        disk.flip(&paths.slot(slot), 100, 2);
        let opened = reopen(&disk).unwrap();
        assert_eq!(read_all(&opened.reader, partition(1, 0), 1 << 20), stored.concat());
        assert!(opened.report.repaired[0].contains("manifest"));
        opened.flusher.close(at(101)).unwrap();
        disk.kill();
    }
    disk.flip(&paths.slot(0), 100, 2);
    disk.flip(&paths.slot(1), 100, 2);

    let error = reopen(&disk).unwrap_err();

    assert!(matches!(error, OpenError::NoManifest { .. }), "{error}");
    assert!(matches!(verify(&disk, data(), &mut |_| {}), Err(OpenError::NoManifest { .. })));
}

#[test]
fn a_damaged_state_file_of_the_newest_checkpoint_is_made_good_by_the_older_one() {
    let disk = SimDisk::new();
    let mut opened = open(disk.clone(), data(), roomy(), at(0)).unwrap();
    let key = partition(1, 0);
    commit(&mut opened, vec![Frame::Topic(topic(1)), append(key, 0, 5)]);
    opened.flusher.flush(at(1)).unwrap();
    commit(&mut opened, vec![append(key, 5, 5)]);
    opened.flusher.flush(at(2)).unwrap();
    let state = opened.flusher.state().clone();
    disk.kill();
    let newest = disk.list(&data().join("state")).unwrap().pop().unwrap();
    disk.flip(&data().join("state").join(newest.name), 90, 1);

    let opened = reopen(&disk).unwrap();

    assert_eq!(opened.state, state);
    assert_eq!(opened.report.frames_replayed, 1);
    assert!(opened.report.repaired[0].contains("newest checkpoint"), "{:?}", opened.report.repaired);
    let both = [stored(&append(key, 0, 5)), stored(&append(key, 5, 5))].concat();
    assert_eq!(read_all(&opened.reader, key, 1 << 20), both);
    disk.kill();
    assert!(reopen(&disk).unwrap().report.repaired.is_empty());
}

#[test]
fn a_damaged_state_file_of_both_checkpoints_is_an_error_that_names_it() {
    let disk = SimDisk::new();
    filled(&disk);
    let name = disk.list(&data().join("state")).unwrap().pop().unwrap().name;
    disk.flip(&data().join("state").join(&name), 90, 1);
    let error = reopen(&disk).unwrap_err().to_string();
    assert!(error.contains(&name), "{error}");
}

#[test]
fn a_later_format_is_refused() {
    let disk = SimDisk::new();
    filled(&disk);
    let paths = Paths::new(data());
    for slot in [0, 1] {
        // Another version, with a header hash that is right.
        let mut bytes = disk.content(&paths.slot(slot));
        bytes[8] = 9;
        let hash = xxhash_rust::xxh3::xxh3_64(&bytes[..56]);
        bytes[56..64].copy_from_slice(&hash.to_le_bytes());
        let file = disk.open(&paths.slot(slot), crate::disk::Mode::Write).unwrap();
        crate::disk::File::write_all_at(&file, &[std::io::IoSlice::new(&bytes)], 0).unwrap();
    }
    let error = reopen(&disk).unwrap_err();
    assert!(matches!(error, OpenError::NewerFormat { version: 9, .. }), "{error}");
}

#[test]
fn a_directory_with_other_files_is_refused() {
    let disk = SimDisk::new();
    disk.create_directory(data()).unwrap();
    disk.create(&data().join("holiday.jpg"), crate::disk::Mode::Write, 0).unwrap();
    let error = reopen(&disk).unwrap_err().to_string();
    assert!(error.contains("holiday.jpg"), "{error}");
}

#[test]
fn files_nobody_knows_are_left_alone_and_reported() {
    let disk = SimDisk::new();
    filled(&disk);
    let paths = Paths::new(data());
    let strange = [paths.segments.join("notes.txt"), paths.state.join(state_name(0))];
    for path in &strange {
        disk.create(path, crate::disk::Mode::Write, 0).unwrap();
    }
    let opened = reopen(&disk).unwrap();
    assert_eq!(opened.report.unknown_files, strange);
    assert!(disk.open(&strange[0], crate::disk::Mode::Read).is_ok());
}

#[test]
fn a_first_start_may_die_anywhere() {
    for changes in 0.. {
        let disk = SimDisk::new();
        disk.halt_after(changes);
        let survived = open(disk.clone(), data(), small(), at(0)).is_ok();
        disk.crash(changes);
        let mut opened = open(disk.clone(), data(), small(), at(0))
            .unwrap_or_else(|error| panic!("after {changes} changes: {error}"));
        commit(&mut opened, vec![Frame::Topic(topic(1)), append(partition(1, 0), 0, 1)]);
        opened.flusher.flush(at(1)).unwrap();
        if survived {
            return;
        }
    }
}

#[test]
fn a_failed_segment_write_is_repeated_to_a_fresh_file() {
    for operation in [Operation::Write, Operation::Sync, Operation::Create] {
        let disk = SimDisk::new();
        let mut opened = open(disk.clone(), data(), small(), at(0)).unwrap();
        let key = partition(1, 0);
        commit(&mut opened, vec![Frame::Topic(topic(1)), append(key, 0, 5)]);
        disk.plan(Fault { times: 2, ..Fault::next(operation).on("segments") });

        opened.flusher.flush(at(1)).unwrap();

        assert_eq!(read_all(&opened.reader, key, 1 << 20), stored(&append(key, 0, 5)));
        let names: Vec<_> = disk.list(&data().join("segments")).unwrap();
        assert_eq!(names.len(), 2, "the files that failed are gone: {names:?}");
    }
}

#[test]
fn after_a_flush_that_failed_for_good_the_next_one_writes_everything() {
    let disk = SimDisk::new();
    let mut opened = open(disk.clone(), data(), small(), at(0)).unwrap();
    let key = partition(1, 0);
    commit(&mut opened, vec![Frame::Topic(topic(1)), append(key, 0, 5)]);
    disk.plan(Fault { times: 3, ..Fault::next(Operation::Sync).on(".seg") });

    let error = opened.flusher.flush(at(1)).unwrap_err();

    assert!(!error.is_full() && error.is_retryable());
    assert!(opened.flusher.pending_bytes() > 0);
    assert!(!opened.flusher.maintain(at(2)).unwrap().more);
    commit(&mut opened, vec![append(key, 5, 5)]);
    let flushed = opened.flusher.flush(at(3)).unwrap();
    assert_eq!(flushed.ends, vec![(key, Offset::new(10))]);
    let both = [stored(&append(key, 0, 5)), stored(&append(key, 5, 5))].concat();
    assert_eq!(read_all(&opened.reader, key, 1 << 20), both);
}

#[test]
fn recovery_believes_only_what_the_medium_holds() {
    let disk = SimDisk::new();
    let mut opened = open(disk.clone(), data(), small(), at(0)).unwrap();
    let key = partition(1, 0);
    commit(&mut opened, vec![Frame::Topic(topic(1)), append(key, 0, 5)]);
    disk.plan(Fault::next(Operation::Sync).on(".wal"));
    assert!(opened.journal.commit(&mut [append(key, 5, 5)]).is_err());
    // The page cache lives on, and still shows what the failed sync has lost.
    disk.kill();

    let reopened = open(disk, data(), small(), at(1)).unwrap();

    assert_eq!(reopened.state.partitions[&key].end_offset, Offset::new(5));
    assert_eq!(read_all(&reopened.reader, key, 1 << 20), stored(&append(key, 0, 5)));
}

#[test]
fn a_full_disk_stops_the_flush_and_nothing_else() {
    let disk = SimDisk::new();
    let mut opened = open(disk.clone(), data(), small(), at(0)).unwrap();
    let key = partition(1, 0);
    commit(&mut opened, vec![Frame::Topic(topic(1)), append(key, 0, 5)]);
    opened.flusher.flush(at(1)).unwrap();
    while opened.journal.prepare_spare().unwrap() == Prepared::More {}
    commit(&mut opened, vec![append(key, 5, 5)]);
    disk.set_capacity(Some(disk.used_bytes() + 4096));

    let error = opened.flusher.flush(at(2)).unwrap_err();

    assert!(error.is_full(), "{error}");
    assert_eq!(read_all(&opened.reader, key, 1 << 20), stored(&append(key, 0, 5)));
    disk.set_capacity(None);
    opened.flusher.flush(at(3)).unwrap();
    let both = [stored(&append(key, 0, 5)), stored(&append(key, 5, 5))].concat();
    assert_eq!(read_all(&opened.reader, key, 1 << 20), both);
}
