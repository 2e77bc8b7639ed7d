//! Golden data directories: what a broker of version 1 of all formats has left behind is opened for ever.
//!
//! Each file in `tests/disk` is a whole data directory as text. One that cannot be opened any more means that the format
//! changed, which needs a new version and a way from the old one, not a new file. A directory that is new is written with
//! `WEIR_GOLDEN=write cargo test -p weir-storage --lib golden`.

use std::fmt::Write as _;
use std::io::IoSlice;
use std::path::PathBuf;

use weir_protocol::units::{Epoch, Offset, ProducerId, SegmentId};
use xxhash_rust::xxh3::xxh3_64;

use super::damage::{End, list, smallest, subject};
use super::sample::{partition, topic};
use super::versions::{create, frame, look, versioned};
use super::*;
use crate::checkpoint::{Found, Paths, read_slot, state_name};
use crate::disk::{Disk, File, Mode, SimDisk};
use crate::frame::{Claim, ClaimedName};
use crate::segment::{SegmentIdentity, segment_name};

/// Bytes on a line.
const LINE: usize = 32;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/disk").join(format!("{name}.txt"))
}

/// A directory as text: for each file its name and length, then the lines that are not all zeros.
fn encode(disk: &SimDisk) -> String {
    let mut text = String::new();
    for (path, bytes) in list(disk) {
        let name = path.strip_prefix(data()).unwrap().display();
        writeln!(text, "file {name} {}", bytes.len()).unwrap();
        for (number, line) in bytes.chunks(LINE).enumerate() {
            if line.iter().any(|byte| *byte != 0) {
                let hex: String = line.iter().map(|byte| format!("{byte:02x}")).collect();
                writeln!(text, "{:08x} {hex}", number * LINE).unwrap();
            }
        }
    }
    text
}

/// The directory that a text describes.
fn decode(text: &str) -> SimDisk {
    let disk = SimDisk::new();
    for directory in ["", "journal", "segments", "state", "quarantine"] {
        disk.create_directory(&data().join(directory)).unwrap();
    }
    let mut file = None;
    for line in text.lines() {
        if let Some(header) = line.strip_prefix("file ") {
            let (name, length) = header.split_once(' ').unwrap();
            file = Some(disk.create(&data().join(name), Mode::Write, 0).unwrap());
            file.as_ref().unwrap().set_length(length.parse().unwrap()).unwrap();
        } else {
            let (position, hex) = line.split_once(' ').unwrap();
            let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
            let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
            let position = u64::from_str_radix(position, 16).unwrap();
            file.as_ref().unwrap().write_all_at(&[IoSlice::new(&bytes)], position).unwrap();
        }
    }
    disk
}

/// Writes a directory that is new, if that is asked for.
pub(super) fn write_golden(name: &str, make: impl Fn() -> SimDisk) {
    let path = fixture(name);
    if std::env::var_os("WEIR_GOLDEN").is_some() && !path.exists() {
        std::fs::write(&path, encode(&make())).unwrap();
    }
}

/// The directory of this name.
pub(super) fn golden(name: &str) -> SimDisk {
    let path = fixture(name);
    decode(&std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
}

/// Opens a golden directory: it must hold the records of the same history made anew.
fn check(name: &str, end: End, verdict: RecoveryVerdict) {
    let made = subject(end);
    write_golden(name, || made.disk.clone());
    let opened = open(golden(name), data(), smallest(), at(100)).unwrap();
    assert_eq!(opened.report.verdict, verdict);
    assert!(opened.report.repaired.is_empty() && opened.report.unknown_files.is_empty());
    // Directories of version 1 do not say which records of a batch were void.
    let [found, expected] = [&opened.state, &made.model.state].map(|state| {
        let mut state = state.clone();
        state.partitions.values_mut().for_each(|partition| partition.producers.forget_voids());
        state
    });
    assert_eq!(found, expected);
    for partition in made.model.state.partitions.keys() {
        let reader = &opened.reader;
        let (log_start, end) = (reader.log_start(*partition), reader.flushed_end(*partition));
        assert!(read_all(reader, *partition, 1 << 20) == made.model.bytes(*partition, log_start, end));
        assert_eq!(end, made.model.state.partitions[partition].end_offset);
    }
}

#[test]
fn a_directory_of_version_1_that_was_closed_is_served() {
    check("v1-closed", End::Closed, RecoveryVerdict::Clean);
}

#[test]
fn a_directory_of_version_1_whose_broker_died_is_served() {
    check("v1-died", End::CutWhenIdle, RecoveryVerdict::Recovered);
}

/// Somebody has a name in the topic of the tests.
fn claim(epoch: u32) -> Frame {
    let claim = Claim { producer: ProducerId::new(9), epoch: Epoch::new(epoch) };
    Frame::Claim(ClaimedName { topic: topic(1).id, name: "billing".to_owned(), claim })
}

/// Versions and a claim that are flushed, and later ones that are in the journal only.
fn with_versions() -> SimDisk {
    let disk = SimDisk::new();
    let mut opened = open(disk.clone(), data(), smallest(), at(0)).unwrap();
    let (log, later) = (partition(1, 0), Offset::new(4));
    let first = versioned(log, Offset::ZERO, &[1, 2, 3, 2], &[2]);
    commit(&mut opened, vec![create(1), claim(1), frame(first)]);
    opened.flusher.flush(at(1)).unwrap();
    commit(&mut opened, vec![claim(2), frame(versioned(log, later, &[1], &[]))]);
    drop(opened);
    disk
}

#[test]
fn versions_and_claims_of_an_earlier_broker_are_known() {
    write_golden("v1-versions", with_versions);
    for disk in [golden("v1-versions"), with_versions()] {
        let opened = open(disk, data(), smallest(), at(100)).unwrap();
        let last = [1, 2, 3, 4].map(|key| look(&opened, partition(1, 0), key).map(Offset::get));
        assert_eq!(last, [Some(4), Some(3), None, None]);
        let claims = opened.state.claims[&topic(1).id].iter();
        let epochs: Vec<_> = claims.map(|(name, claim)| (name.as_str(), claim.epoch.get())).collect();
        assert_eq!(epochs, [("billing", 2)]);
    }
}

#[test]
fn a_broker_that_knows_no_claims_is_told_that_there_are_some() {
    let incompatible = |disk: &SimDisk| {
        let states = list(disk).into_iter().filter(|(path, _)| path.starts_with(data().join("state")));
        let features = states.map(|(_, bytes)| u64::from_le_bytes(bytes[32..40].try_into().unwrap()));
        features.fold(0, |all, features| all | features)
    };
    let disk = with_versions();
    assert_eq!(incompatible(&disk), 1);
    // They go with their topic; then any broker may read the state.
    let mut opened = open(disk.clone(), data(), smallest(), at(100)).unwrap();
    commit(&mut opened, vec![Frame::TopicDeleted(topic(1).id)]);
    opened.flusher.flush(at(101)).unwrap();
    drop(opened);
    drop(open(disk.clone(), data(), smallest(), at(102)).unwrap());
    assert_eq!(incompatible(&disk), 0);
}

/// Sets a feature bit in the header of a file, and makes its hash right.
fn set_feature(disk: &SimDisk, name: &str, at: usize, hash: impl Fn(&[u8]) -> u64, hash_at: usize) {
    let path = data().join(name);
    let mut bytes = disk.content(&path);
    bytes[at] |= 0x20;
    let hash = hash(&bytes[..hash_at]);
    bytes[hash_at..hash_at + 8].copy_from_slice(&hash.to_le_bytes());
    let file = disk.open(&path, Mode::Write).unwrap();
    file.write_all_at(&[IoSlice::new(&bytes)], 0).unwrap();
}

#[test]
fn features_that_must_be_known_refuse_the_start_and_are_named_and_others_do_not() {
    type Hash = Box<dyn Fn(&[u8]) -> u64>;
    let plain = || -> Hash { Box::new(xxh3_64) };
    let found = [0, 1].map(|slot| read_slot(&golden("v1-died"), &Paths::new(data()).slot(slot)).unwrap());
    let newest = found.iter().filter_map(Found::manifest).max_by_key(|manifest| manifest.generation).unwrap();
    let identity = SegmentIdentity { node: newest.node, segment: SegmentId::new(1) };
    // Name, where the hash of the header stands, and how it is made.
    let mut files: Vec<(String, usize, Hash)> = vec![
        ("manifest-0".to_owned(), 56, plain()),
        ("manifest-1".to_owned(), 56, plain()),
        ("journal/0001.wal".to_owned(), 72, plain()),
        (
            format!("segments/{}", segment_name(identity.segment)),
            72,
            Box::new(move |bytes| identity.hash(bytes)),
        ),
    ];
    files.extend(
        newest.state_files().iter().map(|number| (format!("state/{}", state_name(*number)), 64, plain())),
    );
    assert!(files.len() > 4, "there is a state file");
    for (name, hash_at, hash) in files {
        for (set, at_byte) in [("compatible", 16), ("read-only compatible", 24), ("incompatible", 32)] {
            let disk = golden("v1-died");
            set_feature(&disk, &name, at_byte, &hash, hash_at);
            let before = list(&disk);
            match open(disk.clone(), data(), smallest(), at(100)) {
                Ok(opened) => {
                    assert_eq!(set, "compatible", "the feature of {name} was ignored");
                    assert!(opened.report.repaired.is_empty(), "the feature of {name} passed for damage");
                }
                Err(error) => {
                    let text = error.to_string();
                    assert!(set != "compatible" && text.contains(&name) && text.contains("0x20"), "{text}");
                    assert!(list(&disk) == before, "{text}, but something was changed");
                }
            }
        }
    }
}
