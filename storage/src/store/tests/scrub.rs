//! What a scrub finds in the segments of a node that runs.

use std::ops::ControlFlow;
use std::path::PathBuf;

use weir_protocol::units::{Offset, SegmentId};

use super::sample::{append, partition, stored, topic};
use super::*;
use crate::disk::SimDisk;
use crate::segment::{index_name, segment_name};

fn path(segment: u64) -> PathBuf {
    data().join("segments").join(segment_name(SegmentId::new(segment)))
}

/// A node with one partition and three segments of two batches of 10 records each.
fn three_segments(disk: &SimDisk) -> Opened<SimDisk> {
    let options =
        OpenOptions { segments: SegmentOptions { merge_files: 100, ..small().segments }, ..small() };
    let mut opened = open(disk.clone(), data(), options, at(0)).unwrap();
    commit(&mut opened, vec![Frame::Topic(topic(1))]);
    for batch in 0..6 {
        commit(&mut opened, vec![append(partition(1, 0), batch * 10, 10)]);
        if batch % 2 == 1 {
            opened.flusher.flush(at(1)).unwrap();
        }
    }
    opened
}

/// Where the second batch of each segment starts.
fn second_batch() -> u64 {
    4096 + stored(&append(partition(1, 0), 0, 10)).len() as u64
}

/// A whole pass: how many segments were read, and what was found.
fn pass(scrub: &mut Scrub<SimDisk>) -> (usize, Vec<DamagedRange>) {
    let (mut segments, mut found) = (0, Vec::new());
    loop {
        match scrub.step(|_| ControlFlow::Continue(())).unwrap() {
            Scrubbed::Segment { damage, .. } => {
                segments += 1;
                found.extend(damage);
            }
            Scrubbed::Stopped => panic!("nobody stopped it"),
            Scrubbed::PassEnded => return (segments, found),
        }
    }
}

#[test]
fn a_scrub_reads_every_segment_and_finds_nothing_where_nothing_is() {
    let disk = SimDisk::new();
    let opened = three_segments(&disk);
    let mut bytes = 0;
    let mut scrub = opened.reader.scrub();
    while scrub
        .step(|read| {
            bytes += read;
            ControlFlow::Continue(())
        })
        .unwrap()
        != Scrubbed::PassEnded
    {}
    assert_eq!(bytes, opened.reader.partition_bytes(partition(1, 0)));
    assert_eq!(pass(&mut scrub), (3, Vec::new()), "the next pass begins at the front");
}

#[test]
fn a_scrub_names_segment_partition_and_offsets_and_leaves_the_file_alone() {
    let disk = SimDisk::new();
    let opened = three_segments(&disk);
    disk.flip(&path(2), second_batch() + 300, 4);
    let before = disk.content(&path(2));

    let (segments, found) = pass(&mut opened.reader.scrub());

    assert_eq!(segments, 3, "it goes on behind the damage");
    let [only] = found.as_slice() else { panic!("one batch is damaged: {found:?}") };
    assert_eq!(only.path, path(2));
    assert_eq!(only.records, Some((partition(1, 0), Offset::new(30)..Offset::new(40))));
    assert_eq!(only.bytes.start, second_batch());
    assert_eq!(disk.content(&path(2)), before);
    assert!(opened.reader.read(partition(1, 0), Offset::new(40), 1).is_ok());
}

#[test]
fn a_segment_that_is_gone_or_cut_is_found_and_an_index_is_no_loss() {
    let disk = SimDisk::new();
    let opened = three_segments(&disk);
    disk.remove(&path(1)).unwrap();
    disk.cut(&path(2), 5000);
    disk.remove(&data().join("segments").join(index_name(SegmentId::new(3)))).unwrap();

    let (_, found) = pass(&mut opened.reader.scrub());

    let paths: Vec<PathBuf> = found.iter().map(|damage| damage.path.clone()).collect();
    assert!(paths.contains(&path(1)) && paths.contains(&path(2)), "{found:?}");
    assert!(!paths.contains(&path(3)) && paths.len() >= 2, "{found:?}");
}

#[test]
fn damage_below_the_log_start_is_missed_by_nobody() {
    let disk = SimDisk::new();
    let mut opened = three_segments(&disk);
    let log_start = Offset::new(30);
    commit(&mut opened, vec![Frame::Trim { partition: partition(1, 0), log_start }]);
    opened.flusher.flush(at(2)).unwrap();
    disk.flip(&path(2), 4096 + 300, 1);

    let (_, found) = pass(&mut opened.reader.scrub());

    assert_eq!(found, Vec::new());
}

#[test]
fn a_scrub_that_is_stopped_goes_on_with_the_same_segment() {
    let disk = SimDisk::new();
    let opened = three_segments(&disk);
    let mut scrub = opened.reader.scrub();
    scrub.step(|_| ControlFlow::Continue(())).unwrap();

    let mut batches = 0;
    let stopped = scrub.step(|_| {
        batches += 1;
        ControlFlow::Break(())
    });

    assert_eq!((stopped.unwrap(), batches), (Scrubbed::Stopped, 1));
    let again = scrub.step(|_| ControlFlow::Continue(())).unwrap();
    assert_eq!(again, Scrubbed::Segment { segment: SegmentId::new(2), damage: Vec::new() });
}
