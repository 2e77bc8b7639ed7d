//! A disk that is too full for a flush, and what makes space on it.

use weir_protocol::units::Offset;

use super::sample::{Sample, partition, stored, topic};
use super::*;
use crate::disk::SimDisk;
use crate::disk::sim::{Fault, Operation};

fn roomy() -> OpenOptions {
    let journal = JournalOptions { file_bytes: 1 << 20, files: 2, files_max: 4, reserve_bytes: 16 << 10 };
    OpenOptions { journal, ..OpenOptions::default() }
}

fn reopen(disk: &SimDisk) -> Result<Opened<SimDisk>, OpenError> {
    open(disk.clone(), data(), roomy(), at(100))
}

/// A node with 20 batches of 10 records and 10 KB of one partition, in segments of two each, on a disk that has no
/// space for the next two, which wait for a flush; and what all batches are.
fn full(disk: &SimDisk, retention_bytes: Option<u64>) -> (Opened<SimDisk>, Vec<Vec<u8>>) {
    let mut opened = open(disk.clone(), data(), roomy(), at(0)).unwrap();
    let mut definition = topic(1);
    definition.settings.retention_bytes = retention_bytes;
    commit(&mut opened, vec![Frame::Topic(definition)]);
    let mut batches = Vec::new();
    for index in 0..22 {
        let frame = Sample::large(partition(1, 0), index, at(0)).frame();
        batches.push(stored(&frame));
        commit(&mut opened, vec![frame]);
        if index % 2 == 1 && index < 20 {
            opened.flusher.flush(at(0)).unwrap();
        }
    }
    while opened.journal.prepare_spare().unwrap() == Prepared::More {}
    // Less than a segment, enough for a state file.
    disk.set_capacity(Some(disk.used_bytes() + (12 << 10)));
    (opened, batches)
}

#[test]
fn on_a_full_disk_a_trim_frees_the_space_that_the_flush_needs() {
    let disk = SimDisk::new();
    let (mut opened, batches) = full(&disk, None);
    assert!(opened.flusher.flush(at(1)).unwrap_err().is_full());
    let key = partition(1, 0);
    let used = disk.used_bytes();

    commit(&mut opened, vec![Frame::Trim { partition: key, log_start: Offset::new(155) }]);
    let flushed = opened.flusher.flush(at(2)).unwrap();

    assert_eq!(flushed.ends, [(key, Offset::new(220))]);
    assert!(disk.used_bytes() + (100 << 10) < used, "{used} bytes became {}", disk.used_bytes());
    assert_eq!(read_all(&opened.reader, key, 1 << 20), batches[15..].concat());
    disk.set_capacity(None);
    disk.crash(1);
    let opened = reopen(&disk).unwrap();
    assert_eq!(opened.state.partitions[&key].log_start, Offset::new(155));
    assert_eq!(read_all(&opened.reader, key, 1 << 20), batches[15..].concat());
}

#[test]
fn on_a_full_disk_deletions_and_retention_free_space_too() {
    for deleted in [true, false] {
        let disk = SimDisk::new();
        let (mut opened, batches) = full(&disk, if deleted { None } else { Some(50 << 10) });
        if deleted {
            assert!(opened.flusher.flush(at(1)).unwrap_err().is_full());
            commit(&mut opened, vec![Frame::TopicDeleted(topic(1).id)]);
            commit(
                &mut opened,
                vec![Frame::Topic(topic(2)), Sample::large(partition(2, 0), 0, at(0)).frame()],
            );
        }
        let used = disk.used_bytes();

        opened.flusher.flush(at(60)).unwrap();

        assert!(disk.used_bytes() < used, "deleted: {deleted}");
        disk.set_capacity(None);
        disk.crash(2);
        let opened = reopen(&disk).unwrap();
        let key = if deleted { partition(2, 0) } else { partition(1, 0) };
        let expected =
            if deleted { stored(&Sample::large(key, 0, at(0)).frame()) } else { batches[14..].concat() };
        assert!(read_all(&opened.reader, key, 1 << 20) == expected, "deleted: {deleted}");
        assert!(opened.report.unreadable.is_empty() && opened.report.unknown_files.is_empty());
    }
}

#[test]
fn a_start_on_a_full_disk_frees_the_space_it_needs() {
    for retention_bytes in [None, Some(50 << 10)] {
        let disk = SimDisk::new();
        let (mut opened, batches) = full(&disk, retention_bytes);
        let key = partition(1, 0);
        if retention_bytes.is_none() {
            commit(&mut opened, vec![Frame::Trim { partition: key, log_start: Offset::new(155) }]);
        }
        let used = disk.used_bytes();
        disk.crash(3);

        let opened = reopen(&disk).unwrap();

        assert!(disk.used_bytes() + (50 << 10) < used, "{used} bytes became {}", disk.used_bytes());
        let kept = if retention_bytes.is_none() { 15 } else { 14 };
        assert_eq!(read_all(&opened.reader, key, 1 << 20), batches[kept..].concat());
        assert_eq!(opened.state.partitions[&key].end_offset, Offset::new(220));
    }
}

#[test]
fn a_start_that_can_free_nothing_is_refused_and_changes_nothing_that_counts() {
    let disk = SimDisk::new();
    let (_, batches) = full(&disk, None);
    disk.kill();
    for _ in 0..3 {
        let error = reopen(&disk).unwrap_err();
        assert!(matches!(&error, OpenError::Disk(error) if error.is_full()), "{error}");
        disk.kill();
    }
    disk.set_capacity(None);
    let opened = reopen(&disk).unwrap();
    assert_eq!(read_all(&opened.reader, partition(1, 0), 1 << 20), batches.concat());
}

#[test]
fn a_checkpoint_without_space_frees_some_whatever_it_is_about_to_write() {
    let full_at = |operation, place: &str| Fault {
        kind: std::io::ErrorKind::StorageFull,
        ..Fault::next(operation).on(place)
    };
    for place in [".state", "manifest-"] {
        for starts in [false, true] {
            let disk = SimDisk::new();
            let (mut opened, batches) = full(&disk, None);
            let key = partition(1, 0);
            commit(&mut opened, vec![Frame::Trim { partition: key, log_start: Offset::new(155) }]);
            // Now there is space for the segment, and none for what names it.
            disk.set_capacity(None);
            if starts {
                disk.kill();
            }
            disk.plan(full_at(Operation::Write, place));

            let opened = if starts {
                reopen(&disk).unwrap()
            } else {
                opened.flusher.flush(at(2)).unwrap();
                opened
            };

            assert_eq!(read_all(&opened.reader, key, 1 << 20), batches[15..].concat(), "{place} {starts}");
            disk.crash(4);
            let opened = reopen(&disk).unwrap();
            assert_eq!(opened.state.partitions[&key].log_start, Offset::new(155), "{place} {starts}");
            assert_eq!(read_all(&opened.reader, key, 1 << 20), batches[15..].concat(), "{place} {starts}");
        }
    }
}

#[test]
fn on_a_full_disk_a_merge_gives_its_space_to_the_flush() {
    let disk = SimDisk::new();
    let segments = SegmentOptions { merge_run_bytes: 64 << 10, ..small().segments };
    let mut opened = open(disk.clone(), data(), OpenOptions { segments, ..small() }, at(0)).unwrap();
    let key = partition(1, 0);
    commit(&mut opened, vec![Frame::Topic(topic(1))]);
    let mut batches = Vec::new();
    for index in 0..4 {
        let frame = Sample::large(key, index, at(0)).frame();
        batches.push(stored(&frame));
        commit(&mut opened, vec![frame]);
        if index < 3 {
            opened.flusher.flush(at(0)).unwrap();
        }
    }
    while opened.journal.prepare_spare().unwrap() == Prepared::More {}
    let before = disk.used_bytes();
    while opened.flusher.maintain(at(0)).unwrap().bytes == 0 {}
    assert!(disk.used_bytes() > before + (30 << 10), "a merge was begun, and is not over");
    disk.set_capacity(Some(disk.used_bytes() + (4 << 10)));

    opened.flusher.flush(at(1)).unwrap();

    assert_eq!(read_all(&opened.reader, key, 1 << 20), batches.concat());
}

#[test]
fn space_can_be_freed_on_a_full_disk_whenever_the_power_fails() {
    freed_whenever_the_power_fails(|_, mut opened| opened.flusher.flush(at(2)).is_ok());
}

#[test]
fn a_start_on_a_full_disk_may_die_anywhere() {
    freed_whenever_the_power_fails(|disk, opened| {
        drop(opened);
        reopen(disk).is_ok()
    });
}

/// `free` is to free space, and to say whether it came to its end.
fn freed_whenever_the_power_fails(free: impl Fn(&SimDisk, Opened<SimDisk>) -> bool) {
    for changes in 0.. {
        let disk = SimDisk::new();
        let (mut opened, batches) = full(&disk, None);
        let key = partition(1, 0);
        commit(&mut opened, vec![Frame::Trim { partition: key, log_start: Offset::new(155) }]);
        disk.halt_after(changes);
        let survived = free(&disk, opened);
        disk.crash(changes);
        disk.set_capacity(None);
        let opened = reopen(&disk).unwrap_or_else(|error| panic!("after {changes} changes: {error}"));
        assert_eq!(opened.state.partitions[&key].log_start, Offset::new(155), "{changes}");
        assert!(read_all(&opened.reader, key, 1 << 20) == batches[15..].concat(), "{changes}");
        if survived {
            assert!(changes > 10);
            return;
        }
        assert!(changes < 1000, "it never comes to its end");
    }
}
