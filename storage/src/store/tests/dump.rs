//! What `dump` shows of files that the store wrote, whole and damaged.

use std::path::PathBuf;

use weir_protocol::units::SegmentId;

use super::sample::{append, partition, topic};
use super::*;
use crate::disk::SimDisk;
use crate::dump::{DumpError, DumpOptions, Item, Value, dump, list_files};
use crate::segment::{index_name, segment_name};

/// A directory whose journal holds a topic and three batches of 5 records, of which one segment holds two.
fn filled(disk: &SimDisk) {
    let mut opened = open(disk.clone(), data(), small(), at(0)).unwrap();
    let key = partition(1, 0);
    commit(&mut opened, vec![Frame::Topic(topic(1)), append(key, 0, 5)]);
    commit(&mut opened, vec![append(key, 5, 5)]);
    opened.flusher.flush(at(1)).unwrap();
    commit(&mut opened, vec![append(key, 10, 5)]);
    disk.kill();
}

fn ring_file() -> PathBuf {
    data().join("journal").join("0000.wal")
}

fn segment_file() -> PathBuf {
    data().join("segments").join(segment_name(SegmentId::new(1)))
}

fn items(disk: &SimDisk, path: &Path, records: bool) -> (Vec<Item>, u64) {
    let mut items = Vec::new();
    let damaged = dump(disk, path, DumpOptions { records }, &mut |item| {
        items.push(item);
        true
    });
    (items, damaged.unwrap())
}

fn kinds(items: &[Item]) -> Vec<&'static str> {
    items.iter().map(|item| item.kind).collect()
}

fn number(item: &Item, name: &str) -> u64 {
    match item.fields.iter().find(|(field, _)| *field == name) {
        Some((_, Value::Number(number))) => *number,
        other => panic!("{name} of {item:?} is {other:?}"),
    }
}

#[test]
fn a_journal_file_is_shown_down_to_its_frames() {
    let disk = SimDisk::new();
    filled(&disk);

    let (items, damaged) = items(&disk, &ring_file(), false);

    let expected = ["journal", "block", "topic", "append", "block", "append", "block", "append"];
    assert_eq!((kinds(&items).as_slice(), damaged), (expected.as_slice(), 0));
    assert_eq!(items[0].bytes, 0..4096);
    assert_eq!(items[1].bytes.start, 4096);
    let ends: Vec<_> =
        items.iter().filter(|item| item.kind == "append").map(|item| number(item, "end_offset")).collect();
    assert_eq!(ends, [5, 10, 15]);
}

#[test]
fn a_damaged_block_is_shown_with_its_place_and_the_blocks_behind_it_too() {
    let disk = SimDisk::new();
    filled(&disk);
    let (whole, _) = items(&disk, &ring_file(), false);
    let second = whole[4].bytes.clone();

    // In the frame's body: the block and the frame are damaged, and the next block is not.
    disk.flip(&ring_file(), second.start + 300, 1);
    let (shown, damaged) = items(&disk, &ring_file(), false);
    assert_eq!(
        (kinds(&shown), damaged),
        (kinds(&whole[..5]).into_iter().chain(["frame", "block", "append"]).collect(), 2)
    );
    assert!(shown[4].damage.is_some() && shown[4].bytes == second);
    assert_eq!(shown[5].bytes, whole[5].bytes, "the header of the frame tells how long it is");

    // Its header is gone: nothing of it is shown, but that something is missing.
    disk.zero(&ring_file(), second.start..second.start + 100);
    let (shown, damaged) = items(&disk, &ring_file(), false);
    assert_eq!(kinds(&shown), ["journal", "block", "topic", "append", "unused", "block", "append"]);
    assert_eq!((damaged, shown[4].damage.is_some()), (1, true));

    // The file's own header is damaged: the salt still stands there.
    disk.flip(&ring_file(), 13, 1);
    let (shown, damaged) = items(&disk, &ring_file(), false);
    assert_eq!((kinds(&shown)[5], damaged), ("block", 2));
}

#[test]
fn a_segment_is_shown_down_to_its_records() {
    let disk = SimDisk::new();
    filled(&disk);

    let (shown, damaged) = items(&disk, &segment_file(), true);

    let records = ["record"; 5];
    let mut expected = vec!["segment", "trailer", "run directory", "run", "batch"];
    expected.extend(records);
    expected.push("batch");
    expected.extend(records);
    assert_eq!((kinds(&shown), damaged), (expected, 0));
    assert_eq!(number(shown.last().unwrap(), "offset"), 9);
    assert_eq!(number(shown.last().unwrap(), "value_bytes"), 100);
    let Some((_, Value::Text(value))) =
        shown.last().unwrap().fields.iter().find(|(name, _)| *name == "value")
    else {
        panic!("a record has a value");
    };
    assert!(value.ends_with('…'), "{value}");
}

#[test]
fn damage_in_a_segment_hides_nothing_behind_it() {
    let disk = SimDisk::new();
    filled(&disk);
    let (whole, _) = items(&disk, &segment_file(), false);
    let first = whole[4].bytes.clone();

    disk.flip(&segment_file(), first.start + 200, 1);
    let (shown, damaged) = items(&disk, &segment_file(), false);
    assert_eq!((kinds(&shown), damaged), (kinds(&whole), 1));
    assert_eq!((shown[4].bytes.clone(), &shown[5]), (first, &whole[5]));

    // Header and end are gone: batches are still found.
    disk.cut(&segment_file(), whole[5].bytes.end + 10);
    disk.flip(&segment_file(), 9, 1);
    let (shown, damaged) = items(&disk, &segment_file(), false);
    assert_eq!(kinds(&shown), ["segment", "trailer", "batch", "batch", "batch"]);
    assert_eq!((damaged, &shown[3]), (4, &whole[5]));
}

#[test]
fn index_manifest_and_state_are_shown() {
    let disk = SimDisk::new();
    filled(&disk);
    let index = data().join("segments").join(index_name(SegmentId::new(1)));
    let newest = disk.list(&data().join("state")).unwrap().pop().unwrap().name;
    let state = data().join("state").join(newest);
    let manifest = data().join("manifest-1");
    for (path, expected) in [
        (&index, vec!["index"]),
        (&state, vec!["state", "part", "partition", "part", "topic"]),
        (&manifest, vec!["manifest", "segment", "part", "part"]),
    ] {
        let (shown, damaged) = items(&disk, path, false);
        let mut kinds = kinds(&shown);
        let mut expected = expected;
        kinds.sort_unstable();
        expected.sort_unstable();
        assert_eq!((kinds, damaged), (expected, 0), "{}", path.display());
        let last = disk.content(path).len() as u64 - 1;
        disk.flip(path, last, 1);
        let (_, damaged) = items(&disk, path, false);
        assert!(damaged > 0, "{}", path.display());
    }
}

#[test]
fn files_are_listed_by_what_they_begin_as() {
    let disk = SimDisk::new();
    filled(&disk);
    disk.create(&data().join("notes.txt"), crate::disk::Mode::Write, 0).unwrap();
    let before = disk.changes();

    let listed = list_files(&disk, data()).unwrap();

    let kind = |name: &str| listed.iter().find(|file| file.path.ends_with(name)).map(|file| file.kind);
    assert_eq!(kind("journal/0000.wal"), Some("journal"));
    assert_eq!(kind("manifest-1"), Some("manifest"));
    assert_eq!(kind("notes.txt"), Some("other"));
    for kind in ["segment", "index", "state"] {
        assert!(listed.iter().any(|file| file.kind == kind), "{kind}");
    }
    let error = dump(&disk, &data().join("notes.txt"), DumpOptions::default(), &mut |_| true).unwrap_err();
    assert!(matches!(error, DumpError::Unknown { .. }), "{error}");
    assert_eq!(disk.changes(), before, "a dump only reads");
}

#[test]
fn no_damage_ends_a_dump() {
    let disk = SimDisk::new();
    filled(&disk);
    let files = list_files(&disk, data()).unwrap();
    for file in files.into_iter().filter(|file| file.kind != "other") {
        // A journal file is mostly zeros behind its first blocks, and long.
        let (end, step) =
            if file.kind == "journal" { (file.bytes.min(20 << 10), 97) } else { (file.bytes, 7) };
        let whole = items(&disk, &file.path, true).0.len();
        for byte in (0..end).step_by(step) {
            disk.flip(&file.path, byte, 0x41);
            // What does not begin as a file of Weir is not taken for one.
            let mut shown = 0;
            let dumped = dump(&disk, &file.path, DumpOptions { records: true }, &mut |_| {
                shown += 1;
                true
            });
            match dumped {
                Ok(_) => assert!(shown > 0 && shown <= whole + 1, "{}: {byte}", file.path.display()),
                Err(DumpError::Unknown { .. }) => assert!(byte < 8, "{}: {byte}", file.path.display()),
                Err(other) => panic!("{}: {byte}: {other}", file.path.display()),
            }
            disk.flip(&file.path, byte, 0x41);
        }
        for length in (0..end).step_by(step * 3) {
            let copy = SimDisk::new();
            filled(&copy);
            copy.cut(&file.path, length);
            match dump(&copy, &file.path, DumpOptions { records: true }, &mut |_| true) {
                Ok(_) | Err(DumpError::Unknown { .. }) => {}
                Err(other) => panic!("{} cut at {length}: {other}", file.path.display()),
            }
        }
    }
}
