//! A golden data directory with keys: in generations, in a merged one, and in the journal. See [`super::super::golden`].

use std::time::Duration;

use weir_protocol::units::Offset;

use super::super::damage::smallest;
use super::super::golden::{golden, write_golden};
use super::super::sample::{partition, topic};
use super::super::*;
use super::{digest, fingerprint, frame, keyed, look};
use crate::dedup::entries;
use crate::disk::SimDisk;

const NAME: &str = "v1-keys";

/// The batches of the directory: base offset, keys, and which records are void.
const BATCHES: [(u64, [u64; 3], &[u32]); 6] = [
    (0, [1, 2, 3], &[]),
    (3, [4, 2, 5], &[1]),
    (6, [6, 7, 8], &[]),
    (9, [9, 10, 11], &[0, 2]),
    (12, [12, 13, 14], &[]),
    (15, [15, 16, 17], &[1]),
];

/// So many batches are flushed, each by itself; the last are only in the journal.
const FLUSHED: usize = 4;

/// So many of these are merged into one generation.
const MERGED: usize = 3;

fn make() -> SimDisk {
    let disk = SimDisk::new();
    let mut opened = open(disk.clone(), data(), smallest(), at(0)).unwrap();
    commit(&mut opened, vec![Frame::Topic(topic(1))]);
    for (number, (base, keys, void)) in BATCHES.into_iter().enumerate() {
        let batch = keyed(partition(1, 0), Offset::new(base), &keys, void, 7);
        commit(&mut opened, vec![frame(batch)]);
        if number < FLUSHED {
            opened.flusher.elapse(Duration::from_secs(1));
            opened.flusher.flush(at(7)).unwrap();
        }
        if number + 1 == MERGED {
            while opened.flusher.maintain(at(7)).unwrap().more {}
        }
    }
    drop(opened);
    disk.kill();
    disk
}

#[test]
fn keys_of_a_directory_of_version_1_are_remembered() {
    write_golden(NAME, make);
    for (disk, what) in [(golden(NAME), "as it was"), (make(), "as it is made now")] {
        let opened = open(disk, data(), smallest(), at(100)).unwrap();
        assert!(opened.report.damaged.is_empty(), "{what}");
        // One that was merged, one that was not, and one of what the journal held.
        assert_eq!(opened.reader.key_figures().generations, 3, "{what}");
        let topic = partition(1, 0).topic;
        for (base, keys, void) in BATCHES {
            let batch = keyed(partition(1, 0), Offset::new(base), &keys, void, 7);
            let counting = entries(&opened.key_seed, topic, &batch).count();
            assert_eq!(counting, 3 - void.len());
            for entry in entries(&opened.key_seed, topic, &batch) {
                assert_eq!(look(&opened, entry.digest), Some(entry), "{what}");
            }
        }
        let first = look(&opened, digest(&opened, topic, 2)).expect("it was not void at first");
        assert_eq!(first.fingerprint, fingerprint(2, Offset::ZERO), "{what}");
        assert_eq!(look(&opened, digest(&opened, topic, 16)), None, "{what}: all of its records are void");
        assert_eq!(look(&opened, digest(&opened, topic, 99)), None, "{what}");
    }
}
