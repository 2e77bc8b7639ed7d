//! One behaviour each.

use weir_protocol::units::Offset;

use super::sample::{append, partition, stored, topic};
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
