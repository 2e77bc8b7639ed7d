//! One behaviour each.

use weir_protocol::units::Offset;

use super::sample::{Sample, append, partition, stored, topic};
use super::*;
use crate::disk::{OsDisk, SimDisk};

#[test]
fn a_flushed_partition_reads_back_the_same_bytes_from_any_offset() {
    let mut opened = open(SimDisk::new(), data(), small(), at(0)).unwrap();
    let key = partition(1, 0);
    let mut all = Vec::new();
    commit(&mut opened, vec![Frame::Topic(topic(1))]);
    for round in 0..20 {
        let frames: Vec<_> = (0..5).map(|index| append(key, (round * 5 + index) * 7, 7)).collect();
        frames.iter().for_each(|frame| all.push(stored(frame)));
        commit(&mut opened, frames);
        let flushed = opened.flusher.flush(at(round.cast_signed())).unwrap();
        opened.journal.release(flushed.release);
        assert_eq!(flushed.ends, vec![(key, Offset::new((round + 1) * 35))]);
    }

    for bytes_max in [1, 2000, 1 << 20] {
        assert_eq!(read_all(&opened.reader, key, bytes_max), all.concat());
    }
    for offset in 0..700 {
        let chunk = opened.reader.read(key, Offset::new(offset), 1).unwrap();
        assert_eq!(chunk.bytes, all[usize::try_from(offset / 7).unwrap()]);
        assert_eq!(chunk.base_offset, Offset::new(offset / 7 * 7));
    }
    assert!(matches!(opened.reader.read(key, Offset::new(700), 1), Err(ReadError::NotFlushed)));
}

#[test]
fn after_a_kill_everything_committed_is_in_segments() {
    let disk = SimDisk::new();
    let mut opened = open(disk.clone(), data(), small(), at(0)).unwrap();
    let (a, b) = (partition(1, 0), partition(1, 1));
    commit(&mut opened, vec![Frame::Topic(topic(1)), append(a, 0, 3), append(b, 0, 2)]);
    opened.flusher.flush(at(1)).unwrap();
    commit(&mut opened, vec![append(a, 3, 3)]);
    let mut expected = opened.state.clone();
    for frame in [Frame::Topic(topic(1)), append(a, 0, 3), append(b, 0, 2), append(a, 3, 3)] {
        expected.apply(&frame);
    }

    disk.kill();
    let reopened = open(disk, data(), small(), at(2)).unwrap();

    assert_eq!(reopened.state, expected);
    assert_eq!(reopened.report.verdict, RecoveryVerdict::Recovered);
    assert_eq!(reopened.report.frames_replayed, 1);
    assert_eq!(reopened.incarnation.get(), 2);
    let stored_a = [stored(&append(a, 0, 3)), stored(&append(a, 3, 3))].concat();
    assert_eq!(read_all(&reopened.reader, a, 1 << 20), stored_a);
    assert_eq!(read_all(&reopened.reader, b, 1 << 20), stored(&append(b, 0, 2)));
}

#[test]
fn after_an_orderly_end_nothing_is_replayed() {
    let disk = SimDisk::new();
    let mut opened = open(disk.clone(), data(), small(), at(0)).unwrap();
    let key = partition(1, 0);
    commit(&mut opened, vec![Frame::Topic(topic(1)), append(key, 0, 3)]);
    opened.flusher.close(at(1)).unwrap();
    drop((opened.journal, opened.reader, opened.lock));

    let reopened = open(disk, data(), small(), at(2)).unwrap();

    assert_eq!(reopened.report.verdict, RecoveryVerdict::Clean);
    assert_eq!(reopened.report.frames_replayed, 0);
    assert_eq!(read_all(&reopened.reader, key, 100), stored(&append(key, 0, 3)));
}

#[test]
fn a_second_opener_is_refused() {
    let disk = SimDisk::new();
    let _opened = open(disk.clone(), data(), small(), at(0)).unwrap();
    let error = open(disk, data(), small(), at(0)).unwrap_err();
    assert!(matches!(error, OpenError::Locked { .. }), "{error}");
}

#[test]
fn works_on_a_real_disk() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("data");
    let options = small();
    let mut opened = open(OsDisk, &root, options, at(0)).unwrap();
    let key = partition(1, 0);
    commit(&mut opened, vec![Frame::Topic(topic(1))]);
    let mut all = Vec::new();
    for round in 0..12 {
        let frames: Vec<_> = (0..10).map(|index| append(key, (round * 10 + index) * 7, 7)).collect();
        frames.iter().for_each(|frame| all.push(stored(frame)));
        commit(&mut opened, frames);
        let flushed = opened.flusher.flush(at(round.cast_signed())).unwrap();
        opened.journal.release(flushed.release);
        while opened.flusher.maintain(at(round.cast_signed())).unwrap().more {}
    }
    assert_eq!(read_all(&opened.reader, key, 3000), all.concat());
    drop(opened);
    let reopened = open(OsDisk, &root, options, at(100)).unwrap();
    assert_eq!(read_all(&reopened.reader, key, 100_000), all.concat());
}

#[test]
fn the_journal_keeps_what_the_older_slot_has_not_applied() {
    let mut opened = open(SimDisk::new(), data(), small(), at(0)).unwrap();
    let key = partition(1, 0);
    let start = opened.journal.end();
    commit(&mut opened, vec![Frame::Topic(topic(1)), append(key, 0, 3)]);
    let first = opened.journal.end();
    assert_eq!(opened.flusher.flush(at(1)).unwrap().release, start);
    commit(&mut opened, vec![append(key, 3, 3)]);
    let second = opened.journal.end();
    assert_eq!(opened.flusher.flush(at(2)).unwrap().release, first);
    // Nothing is new, but the older slot is brought up to date.
    assert_eq!(opened.flusher.flush(at(3)).unwrap().release, second);
}

#[test]
fn offsets_are_found_by_time() {
    let mut opened = open(SimDisk::new(), data(), small(), at(0)).unwrap();
    let key = partition(1, 0);
    commit(&mut opened, vec![Frame::Topic(topic(1))]);
    // Batch n has the offsets from 2n on, and was appended in second 10n. Three segments.
    for segment in 0..3 {
        let batch = |index: u64| Sample {
            partition: key,
            base_offset: index * 2,
            records: 2,
            value_bytes: 3_000,
            producer: 1,
            sequence: index,
            append_time: at(i64::try_from(index).unwrap() * 10),
        };
        let frames: Vec<_> = (segment * 20..segment * 20 + 20).map(|index| batch(index).frame()).collect();
        for frame in frames {
            commit(&mut opened, vec![frame]);
        }
        let flushed = opened.flusher.flush(at(1000)).unwrap();
        opened.journal.release(flushed.release);
    }
    let find = |reader: &Reader<SimDisk>, seconds| reader.offset_at_time(key, at(seconds)).unwrap();
    let reader = opened.reader.clone();
    for index in 0..60 {
        let expected = Some(Offset::new(index * 2));
        let seconds = i64::try_from(index).unwrap() * 10;
        assert_eq!(find(&reader, seconds), expected, "at {seconds}");
        assert_eq!(find(&reader, seconds - 9), expected, "at {}", seconds - 9);
    }
    assert_eq!(find(&reader, 591), None);
    assert_eq!(reader.offset_at_time(partition(1, 7), at(0)).unwrap(), None);

    commit(&mut opened, vec![Frame::Trim { partition: key, log_start: Offset::new(5) }]);
    opened.flusher.flush(at(1001)).unwrap();

    assert_eq!(find(&reader, 0), Some(Offset::new(5)));
    let error = reader.read(key, Offset::new(4), 1).unwrap_err();
    assert!(matches!(error, ReadError::OutOfRange { start, .. } if start == Offset::new(5)), "{error}");
}

#[test]
fn a_deleted_topic_frees_its_space() {
    let disk = SimDisk::new();
    let mut opened = open(disk.clone(), data(), small(), at(0)).unwrap();
    commit(&mut opened, vec![Frame::Topic(topic(1)), Frame::Topic(topic(2))]);
    commit(&mut opened, vec![append(partition(1, 0), 0, 50)]);
    opened.flusher.flush(at(1)).unwrap();
    commit(&mut opened, vec![append(partition(2, 0), 0, 50)]);
    opened.flusher.flush(at(2)).unwrap();
    assert_eq!(disk.list(&data().join("segments")).unwrap().len(), 4);

    commit(&mut opened, vec![Frame::TopicDeleted(topic(1).id)]);
    opened.flusher.flush(at(3)).unwrap();
    while opened.flusher.maintain(at(3)).unwrap().more {}

    assert_eq!(disk.list(&data().join("segments")).unwrap().len(), 2);
    assert!(matches!(opened.reader.read(partition(1, 0), Offset::ZERO, 1), Err(ReadError::NotFlushed)));
    let rest = read_all(&opened.reader, partition(2, 0), 1 << 20);
    assert_eq!(rest, stored(&append(partition(2, 0), 0, 50)));
}

#[test]
fn retention_moves_the_log_start_by_whole_runs_and_says_so() {
    let disk = SimDisk::new();
    let mut opened = open(disk.clone(), data(), small(), at(0)).unwrap();
    let mut definition = topic(1);
    definition.settings.retention_bytes = Some(1);
    commit(&mut opened, vec![Frame::Topic(definition)]);
    let key = partition(1, 0);
    commit(&mut opened, vec![append(key, 0, 50)]);
    opened.flusher.flush(at(1)).unwrap();
    commit(&mut opened, vec![append(key, 50, 50)]);
    opened.flusher.flush(at(3)).unwrap();
    let maintained = opened.flusher.maintain(at(5)).unwrap();
    assert_eq!(maintained.log_starts, vec![(key, Offset::new(50))]);
    assert_eq!(opened.reader.log_start(key), Offset::new(50));
    while opened.flusher.maintain(at(5)).unwrap().more {}
    assert_eq!(disk.list(&data().join("segments")).unwrap().len(), 2);

    disk.crash(1);
    let reopened = open(disk, data(), small(), at(6)).unwrap();
    assert_eq!(reopened.state.partitions[&key].log_start, Offset::new(50));
}

#[test]
fn many_small_files_become_few() {
    let disk = SimDisk::new();
    let mut opened = open(disk.clone(), data(), small(), at(0)).unwrap();
    commit(&mut opened, vec![Frame::Topic(topic(1))]);
    let mut expected = vec![Vec::new(); 8];
    for round in 0..30 {
        let frames: Vec<_> = (0..8).map(|number| append(partition(1, number), round * 2, 2)).collect();
        for (number, frame) in frames.iter().enumerate() {
            expected[number].extend(stored(frame));
        }
        commit(&mut opened, frames);
        let flushed = opened.flusher.flush(at(1)).unwrap();
        opened.journal.release(flushed.release);
        while opened.flusher.maintain(at(1)).unwrap().more {}
    }

    let files = disk.list(&data().join("segments")).unwrap().len() / 2;
    assert!(files <= 8, "{files} files are left");
    for (number, expected) in (0..).zip(&expected) {
        assert_eq!(read_all(&opened.reader, partition(1, number), 1 << 20), *expected);
    }
    disk.crash(2);
    let reopened = open(disk, data(), small(), at(2)).unwrap();
    for (number, expected) in (0..).zip(&expected) {
        assert_eq!(read_all(&reopened.reader, partition(1, number), 700), *expected);
    }
}

#[test]
fn readers_go_on_while_merges_move_what_they_read() {
    let disk = SimDisk::new();
    let mut opened = open(disk, data(), small(), at(0)).unwrap();
    let key = partition(1, 0);
    commit(&mut opened, vec![Frame::Topic(topic(1)), append(key, 0, 1)]);
    opened.flusher.flush(at(0)).unwrap();
    let reader = opened.reader.clone();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let mut passes = 0u64;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) || passes == 0 {
                let all = read_all(&reader, key, 1000);
                assert!(!all.is_empty());
                passes += 1;
            }
            passes
        });
        for offset in 1..100 {
            commit(&mut opened, vec![append(key, offset, 1)]);
            let flushed = opened.flusher.flush(at(0)).unwrap();
            opened.journal.release(flushed.release);
            while opened.flusher.maintain(at(0)).unwrap().more {}
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(reading.join().unwrap() > 0);
    });
}
