//! Directories made by a snapshot, and what a node finds that starts from one.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use weir_protocol::units::Offset;

use super::sample::{append, partition, stored, topic};
use super::*;
use crate::disk::SimDisk;
use crate::disk::sim::{Fault, Operation};

fn target() -> &'static Path {
    Path::new("/data/snapshots/one")
}

/// A node with two partitions, one of them trimmed, of which all is in segments; and what their batches are.
fn filled(disk: &SimDisk) -> (Opened<SimDisk>, Vec<u8>) {
    let mut opened = open(disk.clone(), data(), small(), at(0)).unwrap();
    commit(&mut opened, vec![Frame::Topic(topic(1))]);
    let mut bytes = Vec::new();
    for batch in 0..8 {
        let frame = append(partition(1, 0), batch * 10, 10);
        bytes.extend(stored(&frame));
        commit(&mut opened, vec![frame, append(partition(1, 1), batch * 10, 10)]);
        if batch % 3 == 2 {
            opened.flusher.flush(at(1)).unwrap();
        }
    }
    commit(&mut opened, vec![Frame::Trim { partition: partition(1, 1), log_start: Offset::new(75) }]);
    opened.flusher.flush(at(2)).unwrap();
    (opened, bytes)
}

#[test]
fn a_node_starts_from_a_snapshot_and_has_all_that_was_flushed_and_nothing_later() {
    let disk = SimDisk::new();
    let (mut original, bytes) = filled(&disk);
    let used = disk.used_bytes();

    let snapshot = original.flusher.snapshot(target()).unwrap();

    assert_eq!(snapshot.directory, target());
    assert!(disk.used_bytes() - used < snapshot.bytes + (128 << 10), "segments are linked");
    // The node goes on, gives up what it had, and removes its files.
    for batch in 8..12 {
        commit(&mut original, vec![append(partition(1, 0), batch * 10, 10)]);
    }
    commit(&mut original, vec![Frame::TopicDeleted(topic(1).id)]);
    for second in 3..6 {
        original.flusher.flush(at(second)).unwrap();
        while original.flusher.maintain(at(second)).unwrap().more {}
    }
    disk.crash(1);
    assert!(verify(&disk, target(), &mut |_| {}).unwrap().is_sound());
    let mut copy = open(disk.clone(), target(), small(), at(9)).unwrap();
    assert_eq!(copy.report.verdict, RecoveryVerdict::Clean);
    assert_eq!(read_all(&copy.reader, partition(1, 0), 1 << 20), bytes);
    assert_eq!(copy.state.partitions[&partition(1, 0)].end_offset, Offset::new(80));
    assert_eq!(copy.state.partitions[&partition(1, 1)].log_start, Offset::new(75));
    // It takes more, and another start has it.
    let more = append(partition(1, 0), 80, 10);
    commit(&mut copy, vec![more.clone()]);
    drop(copy);
    disk.crash(2);
    let again = open(disk, target(), small(), at(10)).unwrap();
    let both = [bytes, stored(&more)].concat();
    assert_eq!(read_all(&again.reader, partition(1, 0), 1 << 20), both);
}

#[test]
fn a_copy_is_the_same_node_in_another_epoch_and_a_far_incarnation() {
    let disk = SimDisk::new();
    let (original, _) = filled(&disk);
    original.flusher.snapshot(target()).unwrap();
    original.flusher.snapshot(Path::new("/data/snapshots/two")).unwrap();

    let one = open(disk.clone(), target(), small(), at(9)).unwrap();
    let two = open(disk, Path::new("/data/snapshots/two"), small(), at(9)).unwrap();

    assert_eq!((one.node, two.node), (original.node, original.node));
    assert!(one.incarnation.get() > original.incarnation.get() + (1 << 16));
    assert_ne!(one.incarnation, two.incarnation);
    assert_ne!(one.journal.identity().journal, original.journal.identity().journal);
    let epoch = |opened: &Opened<SimDisk>| opened.state.partitions[&partition(1, 0)].epoch.get();
    assert_eq!(epoch(&one), original.flusher.state().partitions[&partition(1, 0)].epoch.get() + 1);
}

#[test]
fn a_snapshot_is_not_made_over_another_nor_of_what_is_not_flushed() {
    let disk = SimDisk::new();
    let (mut original, _) = filled(&disk);
    original.flusher.snapshot(target()).unwrap();
    let again = original.flusher.snapshot(target());
    assert!(matches!(again, Err(SnapshotError::Exists { .. })), "{again:?}");

    commit(&mut original, vec![append(partition(1, 0), 80, 10)]);
    let early = original.flusher.snapshot(Path::new("/data/snapshots/two"));
    assert!(matches!(early, Err(SnapshotError::NotFlushed)), "{early:?}");
}

#[test]
fn a_file_system_without_links_gets_no_snapshot_and_is_told_why() {
    let disk = SimDisk::new();
    let (original, bytes) = filled(&disk);
    let used = disk.used_bytes();
    for kind in [ErrorKind::CrossesDevices, ErrorKind::Unsupported, ErrorKind::TooManyLinks] {
        disk.plan(Fault { kind, ..Fault::next(Operation::Name).on("snapshots/one/segments") });

        let error = original.flusher.snapshot(target()).unwrap_err();

        assert!(matches!(error, SnapshotError::NoLinks { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains("/data/segments/") && text.contains("hard links"), "{text}");
        assert_eq!(disk.used_bytes(), used, "nothing is copied, and nothing is left");
    }
    original.flusher.snapshot(target()).unwrap();
    let copy = open(disk, target(), small(), at(9)).unwrap();
    assert_eq!(read_all(&copy.reader, partition(1, 0), 1 << 20), bytes);
}

/// No start may take a part of a snapshot for a new directory, however little of it there is.
fn refuses(disk: &SimDisk, directory: &Path) -> bool {
    matches!(
        open(disk.clone(), directory, small(), at(9)),
        Err(OpenError::UnfinishedSnapshot { directory: named }) if named == directory
    )
}

#[test]
fn a_place_for_snapshots_without_a_whole_one_is_never_a_new_data_directory() {
    let disk = SimDisk::new();
    let (original, _) = filled(&disk);
    assert!(refuses(&disk, target()), "there is none of that name");
    disk.plan(Fault { path_contains: "one/manifest".to_owned(), ..Fault::next(Operation::Create) });
    original.flusher.snapshot(target()).unwrap_err();
    assert!(refuses(&disk, target()), "all files of it were removed");
    assert!(original.flusher.snapshot(target()).is_ok(), "a start that was refused is not in the way");
    // What has this name by chance is as good as any other.
    open(disk, Path::new("/other/snapshots/one"), small(), at(9)).unwrap();
}

#[test]
fn whatever_fails_no_node_starts_from_a_part_and_the_next_attempt_succeeds() {
    let disk = SimDisk::new();
    let (original, bytes) = filled(&disk);
    for operation in [Operation::Create, Operation::Write, Operation::Sync, Operation::Name] {
        for after in 0.. {
            let directory = PathBuf::from(format!("/data/snapshots/{operation:?}-{after}"));
            let path_contains = directory.to_str().unwrap().to_owned();
            disk.plan(Fault { after, path_contains, ..Fault::next(operation) });
            if original.flusher.snapshot(&directory).is_ok() {
                assert!(after > 1, "{operation:?} is not among what it does");
                break;
            }
            let left = disk.list(&directory).unwrap_or_default();
            assert_eq!(left, Vec::new(), "{operation:?} {after}");
            assert!(refuses(&disk, &directory), "{operation:?} {after}");
            original.flusher.snapshot(&directory).unwrap();
            let copy = open(disk.clone(), &directory, small(), at(9)).unwrap();
            assert_eq!(read_all(&copy.reader, partition(1, 0), 1 << 20), bytes, "{operation:?} {after}");
        }
    }
}

#[test]
fn a_power_cut_leaves_a_whole_snapshot_or_none() {
    for changes in 0.. {
        let disk = SimDisk::new();
        let (original, bytes) = filled(&disk);
        disk.halt_after(changes);
        let made = original.flusher.snapshot(target());
        disk.crash(changes);
        let found = open(disk.clone(), target(), small(), at(9));
        match found {
            Ok(copy) => {
                assert_eq!(copy.report.verdict, RecoveryVerdict::Clean, "{changes}");
                assert_eq!(read_all(&copy.reader, partition(1, 0), 1 << 20), bytes, "{changes}");
            }
            Err(OpenError::UnfinishedSnapshot { .. }) => assert!(made.is_err(), "{changes}"),
            Err(error) => panic!("{changes}: {error}"),
        }
        let original = open(disk.clone(), data(), small(), at(10)).unwrap();
        assert_eq!(read_all(&original.reader, partition(1, 0), 1 << 20), bytes, "{changes}");
        if made.is_ok() {
            return;
        }
    }
}
