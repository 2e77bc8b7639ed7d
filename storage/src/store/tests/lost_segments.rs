//! Segments that are missing or damaged beyond repair: the store starts, serves the rest, and names what it cannot.

use std::ops::Range;
use std::path::PathBuf;

use weir_protocol::units::{Offset, SegmentId};

use super::sample::{append, partition, stored, topic};
use super::*;
use crate::disk::SimDisk;
use crate::disk::sim::{Fault, Operation};
use crate::segment::segment_name;

/// Three segments of one batch of 10 records each, and one batch that only the journal holds.
fn filled(disk: &SimDisk) -> Vec<Vec<u8>> {
    let mut opened = open(disk.clone(), data(), unmerged(), at(0)).unwrap();
    let key = partition(1, 0);
    commit(&mut opened, vec![Frame::Topic(topic(1))]);
    let mut all = Vec::new();
    for round in 0..4 {
        let frame = append(key, round * 10, 10);
        all.push(stored(&frame));
        commit(&mut opened, vec![frame]);
        if round < 3 {
            // Twice, so that both slots name the segment.
            opened.flusher.flush(at(1)).unwrap();
            opened.flusher.flush(at(1)).unwrap();
        }
    }
    disk.kill();
    all
}

fn unmerged() -> OpenOptions {
    OpenOptions { segments: SegmentOptions::default(), ..small() }
}

/// A dead node with ten batches of ten records of a partition, in one segment; and what they are.
fn one_segment(disk: &SimDisk, key: PartitionKey) -> Vec<Vec<u8>> {
    let mut opened = open(disk.clone(), data(), unmerged(), at(0)).unwrap();
    commit(&mut opened, vec![Frame::Topic(topic(1))]);
    let frames: Vec<_> = (0..10).map(|index| append(key, index * 10, 10)).collect();
    let all = frames.iter().map(stored).collect();
    for frame in frames {
        commit(&mut opened, vec![frame]);
    }
    opened.flusher.flush(at(1)).unwrap();
    opened.flusher.flush(at(1)).unwrap();
    disk.kill();
    all
}

fn segment(number: u64) -> PathBuf {
    data().join("segments").join(segment_name(SegmentId::new(number)))
}

fn range(start: u64, end: u64) -> Range<Offset> {
    Offset::new(start)..Offset::new(end)
}

fn reopen(disk: &SimDisk) -> Opened<SimDisk> {
    open(disk.clone(), data(), unmerged(), at(100)).unwrap()
}

/// Reads a partition from end to end: the bytes, and the offsets that cannot be had.
fn read_around(reader: &Reader<SimDisk>) -> (Vec<u8>, Vec<Range<Offset>>) {
    let key = partition(1, 0);
    let (mut bytes, mut missing) = (Vec::new(), Vec::new());
    let mut from = reader.log_start(key);
    while from < reader.flushed_end(key) {
        match reader.read(key, from, 1) {
            Ok(chunk) => {
                assert_eq!(chunk.base_offset, from);
                bytes.extend_from_slice(&chunk.bytes);
                from = chunk.end_offset;
            }
            Err(ReadError::Corrupt { from: first, to }) => {
                missing.push(first..to);
                from = to;
            }
            Err(other) => panic!("{other}"),
        }
    }
    (bytes, missing)
}

#[test]
fn without_a_segment_the_store_starts_and_names_the_offsets_it_cannot_read() {
    for lost in [1, 2, 3] {
        let disk = SimDisk::new();
        let all = filled(&disk);
        let aside = data().join("aside");
        disk.rename(&segment(lost), &aside).unwrap();
        let missing = range((lost - 1) * 10, lost * 10);

        let found = verify(&disk, data(), &mut |_| {}).unwrap();
        assert_eq!(found.partitions[0].damaged, vec![missing.clone()]);
        assert!(!found.is_sound());
        let opened = reopen(&disk);

        assert_eq!(opened.report.unreadable, vec![(partition(1, 0), missing.clone())]);
        assert!(opened.report.damaged[0].contains("is missing"), "{:?}", opened.report.damaged);
        let index = usize::try_from(lost).unwrap() - 1;
        let mut rest = all.clone();
        rest.remove(index);
        assert_eq!(read_around(&opened.reader), (rest.concat(), vec![missing.clone()]));
        // New records go behind the old ones, whatever is missing.
        let mut opened = opened;
        commit(&mut opened, vec![append(partition(1, 0), 40, 10)]);
        opened.flusher.flush(at(101)).unwrap();
        while opened.flusher.maintain(at(102)).unwrap().more {}
        assert_eq!(read_around(&opened.reader).1, vec![missing]);
        disk.kill();

        // Once it is back, nothing is missing.
        disk.rename(&aside, &segment(lost)).unwrap();
        let opened = reopen(&disk);
        assert!(opened.report.unreadable.is_empty() && opened.report.damaged.is_empty());
        let whole = [all.concat(), stored(&append(partition(1, 0), 40, 10))].concat();
        assert_eq!(read_around(&opened.reader), (whole, Vec::new()));
    }
}

#[test]
fn a_fault_that_goes_away_while_the_store_is_opened_makes_nothing_missing() {
    for after in 0..6 {
        let disk = SimDisk::new();
        let all = filled(&disk);
        let fault = Fault::next(Operation::Read).on("segments").after(after);
        disk.plan(Fault { times: 12, ..fault });
        let opened = reopen(&disk);
        assert!(opened.report.unreadable.is_empty(), "after {after}: {:?}", opened.report);
        assert_eq!(read_around(&opened.reader), (all.concat(), Vec::new()));
    }
}

#[test]
fn who_looks_for_a_moment_starts_at_what_is_missing() {
    let disk = SimDisk::new();
    filled(&disk);
    disk.remove(&segment(2)).unwrap();
    let opened = reopen(&disk);
    // Batch n was appended n * 10 us after the first.
    let moment = |micros| Timestamp::from_micros(at(0).as_micros() + micros);
    let find = |micros| opened.reader.offset_at_time(partition(1, 0), moment(micros)).unwrap();
    assert_eq!(find(0), Some(Offset::new(0)));
    assert_eq!(find(15), Some(Offset::new(10)), "the batch before is older, and the missing one may not be");
    assert_eq!(find(25), Some(Offset::new(30)));
}

#[test]
fn of_a_segment_that_was_cut_all_whole_batches_are_served() {
    let disk = SimDisk::new();
    let key = partition(1, 0);
    let all = one_segment(&disk, key);
    let kept = 4096 + all[..6].iter().map(|batch| batch.len() as u64).sum::<u64>();
    disk.cut(&segment(1), kept + 20);

    let opened = reopen(&disk);

    assert_eq!(read_around(&opened.reader), (all[..6].concat(), vec![range(60, 100)]));
    assert_eq!(opened.report.unreadable, vec![(key, range(60, 100))]);
    disk.kill();
    let found = verify(&disk, data(), &mut |_| {}).unwrap();
    assert_eq!(found.partitions[0].damaged, vec![range(60, 100)]);
}

#[test]
fn merges_and_starts_take_nothing_away_of_what_is_damaged() {
    let disk = SimDisk::new();
    let key = partition(1, 0);
    let mut opened = open(disk.clone(), data(), unmerged(), at(0)).unwrap();
    let both = vec![append(key, 0, 10), append(key, 10, 10)];
    let first = stored(&both[0]);
    commit(&mut opened, vec![Frame::Topic(topic(1))]);
    commit(&mut opened, both);
    opened.flusher.flush(at(1)).unwrap();
    opened.flusher.flush(at(1)).unwrap();
    disk.kill();
    let kept = 4096 + first.len() as u64 + 20;
    disk.cut(&segment(1), kept);
    for round in 0..6 {
        let mut opened = open(disk.clone(), data(), small(), at(100)).unwrap();
        commit(&mut opened, vec![append(key, 20 + round * 20, 20)]);
        opened.flusher.flush(at(101)).unwrap();
        while opened.flusher.maintain(at(102)).unwrap().more {}
        let (bytes, missing) = read_around(&opened.reader);
        assert!(bytes.starts_with(&first) && missing == [range(10, 20)], "{missing:?}");
        disk.kill();
    }
    assert!(disk.list(&data().join("segments")).unwrap().len() < 12, "the others were merged");
    assert_eq!(disk.content(&segment(1)).len() as u64, kept);
}

#[test]
fn with_directory_and_batch_damaged_the_other_batches_are_served() {
    let disk = SimDisk::new();
    let key = partition(1, 0);
    let all = one_segment(&disk, key);
    let length = disk.content(&segment(1)).len() as u64;
    disk.flip(&segment(1), length - 20, 1);
    disk.flip(&segment(1), 4096 + all[0].len() as u64 + 300, 1);

    let opened = reopen(&disk);

    let rest = [all[0].clone(), all[2..].concat()].concat();
    assert_eq!(read_around(&opened.reader), (rest, vec![range(10, 20)]));
}

#[test]
fn a_segment_the_disk_cannot_read_keeps_nobody_from_starting() {
    use crate::disk::sim::{Fault, Operation};
    let disk = SimDisk::new();
    let all = filled(&disk);
    let name = segment_name(SegmentId::new(2));
    disk.plan(Fault { times: 50, ..Fault::next(Operation::Read).on(&name) });

    let opened = reopen(&disk);

    assert_eq!(opened.report.unreadable, vec![(partition(1, 0), range(10, 20))]);
    let rest = [all[0].clone(), all[2..].concat()].concat();
    assert_eq!(read_around(&opened.reader), (rest, vec![range(10, 20)]));
}

#[test]
fn what_only_the_newest_checkpoint_lost_is_read_from_the_journal_by_the_older_one() {
    let disk = SimDisk::new();
    let key = partition(1, 0);
    let mut opened = open(disk.clone(), data(), unmerged(), at(0)).unwrap();
    commit(&mut opened, vec![Frame::Topic(topic(1)), append(key, 0, 10)]);
    opened.flusher.flush(at(1)).unwrap();
    commit(&mut opened, vec![append(key, 10, 10)]);
    opened.flusher.flush(at(2)).unwrap();
    disk.kill();
    disk.remove(&segment(2)).unwrap();
    assert!(verify(&disk, data(), &mut |_| {}).unwrap().is_sound());

    let opened = reopen(&disk);

    let both = [stored(&append(key, 0, 10)), stored(&append(key, 10, 10))].concat();
    assert_eq!(read_around(&opened.reader), (both, Vec::new()));
    assert!(opened.report.repaired[0].contains("newest checkpoint"), "{:?}", opened.report.repaired);
}
