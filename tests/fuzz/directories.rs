//! Data directories: journal, segments, manifests and state files with bytes that no disk was asked to keep.
//!
//! An input is a list of changes to a golden directory. A start may refuse what is left, or say which records it cannot read;
//! what it does serve is what was written. Verification, the plan of a repair, the repair, and the dump of every file come
//! to an end as well. Some inputs make the hashes of manifest and state files right again, so that what they hold is
//! looked at; then wrong records may be served, but nothing may break.

use std::collections::BTreeMap;
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use bytes::Bytes;
use harness::fuzz::{Choices, outcome};
use weir_protocol::batch::StoredBatch;
use weir_protocol::units::{Offset, PartitionKey, Timestamp};
use weir_storage::disk::{Disk, File, Mode, SimDisk};
use weir_storage::dump::{DumpOptions, dump, list_files};
use weir_storage::journal::JournalOptions;
use weir_storage::store::{
    OpenOptions, Opened, ReadError, Scrubbed, SegmentOptions, open, repair, verify, verify_and_plan,
};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

const DATA: &str = "/data";
const GOLDEN: [&str; 2] = ["v1-closed", "v1-died"];
const NOW: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

/// The files of a directory.
type Files = BTreeMap<PathBuf, Vec<u8>>;

/// Stored batches by partition and base offset.
type Records = BTreeMap<(PartitionKey, Offset), Bytes>;

/// A golden directory and what can be read from it.
struct Golden {
    files: Files,
    records: Records,
}

pub(crate) fn check(input: &[u8]) -> u64 {
    let mut choices = Choices::new(input);
    let golden = &golden()[choices.below(GOLDEN.len())];
    let mut files = golden.files.clone();
    let mut believed = true;
    while !choices.is_over() {
        believed &= !change(&mut files, &mut choices);
    }
    let disk = to_disk(&files);
    let mut reached = Vec::new();
    for file in list_files(&disk, Path::new(DATA)).expect("the directory is there") {
        let mut shown = 0;
        let dumped = dump(&disk, &file.path, DumpOptions { records: true }, &mut |_| {
            shown += 1;
            true
        });
        reached.push((file.kind, dumped.map_err(|error| words(&error)), shown.min(2)));
    }
    let verified = verify(&disk, Path::new(DATA), &mut |_| {});
    let sound = verified.as_ref().is_ok_and(weir_storage::store::VerifyReport::is_sound);
    let planned = verify_and_plan(&disk, Path::new(DATA), &mut |_| {});
    let losses =
        planned.as_ref().map(|(_, plan)| plan.findings.iter().map(|found| found.loss.clone()).collect());
    let losses: Vec<_> = losses.unwrap_or_default();
    let opened = serve(disk.copy(), &golden.records, believed);
    if sound && believed {
        assert!(opened.is_ok(), "what is sound can be started from: {opened:?}");
    }
    let repaired = repair(&disk, Path::new(DATA), options(), (&losses, NOW), &mut |_| {});
    let again = serve(disk, &golden.records, believed);
    let repaired = repaired.map(|repaired| repaired.before.len()).map_err(|error| words(&error));
    outcome((reached, sound, losses.len(), opened, repaired, again))
}

/// The text of an error without numbers and names.
fn words(error: &dyn std::fmt::Display) -> String {
    error.to_string().chars().filter(|c| c.is_ascii_alphabetic() || *c == ' ').take(60).collect()
}

/// Starts from a directory and reads everything. Gives how much that was, or why it was refused.
fn serve(disk: SimDisk, expected: &Records, believed: bool) -> Result<(usize, usize), String> {
    let opened = open(disk, Path::new(DATA), options(), NOW).map_err(|error| words(&error))?;
    let records = read_all(&opened);
    if believed {
        for (place, bytes) in &records {
            assert_eq!(expected.get(place), Some(bytes), "wrong bytes are served at {place:?}");
        }
    }
    let mut scrub = opened.reader.scrub();
    while let Ok(scrubbed) = scrub.step(|_| std::ops::ControlFlow::Continue(())) {
        if scrubbed == Scrubbed::PassEnded {
            break;
        }
    }
    let (damaged, count) = (opened.report.damaged.len(), records.len());
    let Opened { journal, flusher, lock, .. } = opened;
    drop((journal, flusher, lock));
    Ok((damaged, count))
}

fn read_all(opened: &Opened<SimDisk>) -> Records {
    let mut records = Records::new();
    for key in opened.state.partitions.keys() {
        let mut from = opened.reader.log_start(*key);
        while from < opened.reader.flushed_end(*key) {
            from = match opened.reader.read(*key, from, 1 << 10) {
                Ok(chunk) => {
                    let mut bytes = chunk.bytes;
                    while !bytes.is_empty() {
                        let before = bytes.clone();
                        let batch = StoredBatch::decode(&mut bytes).expect("what is read was verified");
                        let stored = before.slice(..before.len() - bytes.len());
                        records.insert((*key, batch.section.base_offset), stored);
                    }
                    assert!(chunk.end_offset > from, "a read gets ahead");
                    chunk.end_offset
                }
                Err(ReadError::Corrupt { to, .. }) => {
                    assert!(to > from, "a gap gets ahead");
                    to
                }
                Err(_) => break,
            };
            let _index = opened.reader.offset_at_time(*key, NOW);
        }
    }
    records
}

/// One change. Says whether it lends belief to what was changed before.
fn change(files: &mut Files, choices: &mut Choices<'_>) -> bool {
    let paths: Vec<PathBuf> = files.keys().cloned().collect();
    let pick = |choices: &mut Choices<'_>| paths.get(choices.below(paths.len())).cloned().unwrap_or_default();
    let how = choices.byte();
    let path = pick(choices);
    let Some(bytes) = files.get_mut(&path) else { return false };
    match how % 8 {
        0 | 1 => {
            let count = choices.below(9);
            let at = place(bytes, choices);
            for (byte, new) in bytes.iter_mut().skip(at).zip(choices.take(count)) {
                *byte = *new;
            }
        }
        2 => bytes.truncate(usize::from(choices.short())),
        3 => {
            let (at, count) = (place(bytes, choices), usize::from(choices.short()));
            bytes.iter_mut().skip(at).take(count).for_each(|byte| *byte = 0);
        }
        4 => drop(files.remove(&path)),
        5 => {
            let other = files.get(&pick(choices)).cloned().unwrap_or_default();
            files.insert(path, other);
        }
        6 => {
            let number = choices.below(4);
            let name = ["journal/0007.wal", "segments/ffff.seg", "state/other", "quarantine/x"][number];
            let copied = bytes.clone();
            files.insert(PathBuf::from(name), copied);
        }
        _ => {
            seal(files);
            return true;
        }
    }
    false
}

/// Where something is written: most of a file is zeros behind what counts.
fn place(bytes: &[u8], choices: &mut Choices<'_>) -> usize {
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    usize::from(choices.short()) % (used + 64)
}

/// Makes the hashes of manifests right, for themselves and for the state files they name.
fn seal(files: &mut Files) {
    let known = files.clone();
    for (path, bytes) in files.iter_mut() {
        let is_manifest = path.to_str().is_some_and(|path| path.starts_with("manifest-"));
        if is_manifest && bytes.len() >= 64 + 72 {
            seal_parts(bytes, &known);
            let length = number(bytes, 12, 4).min(bytes.len() - 64);
            let body = xxh3_64(bytes.get(64..64 + length).unwrap_or_default());
            put(bytes, 48, body);
            let header = xxh3_64(bytes.get(..56).unwrap_or_default());
            put(bytes, 56, header);
        }
    }
}

fn seal_parts(manifest: &mut [u8], files: &Files) {
    let segments = number(manifest, 64 + 72, 4).min(manifest.len());
    let parts_at = 64 + 72 + 4 + segments * 24;
    for part in 0..number(manifest, parts_at, 4).min(32) {
        let at = parts_at + 4 + part * 40;
        let (file, from, count) =
            (number(manifest, at + 8, 8), number(manifest, at + 16, 8), number(manifest, at + 24, 8));
        let named = |path: &&PathBuf| {
            let name = path.to_str().unwrap_or_default().strip_prefix("state/").unwrap_or("none");
            name.split('.').next().and_then(|name| name.parse().ok()) == Some(file)
        };
        let Some(path) = files.keys().find(named).cloned() else { continue };
        let bytes = files.get(&path).and_then(|bytes| bytes.get(from..from.saturating_add(count)));
        if let Some(bytes) = bytes {
            let salt = [&manifest[64..80], &(file as u64).to_le_bytes(), &manifest[at..at + 4]].concat();
            put(manifest, at + 32, xxh3_64_with_seed(bytes, xxh3_64(&salt)));
        }
    }
}

fn number(bytes: &[u8], at: usize, width: usize) -> usize {
    let taken = bytes.get(at..at + width).unwrap_or_default();
    taken.iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte))
}

fn put(bytes: &mut [u8], at: usize, number: u64) {
    if let Some(place) = bytes.get_mut(at..at + 8) {
        place.copy_from_slice(&number.to_le_bytes());
    }
}

fn options() -> OpenOptions {
    let journal = JournalOptions { file_bytes: 16 << 10, files: 2, files_max: 3, reserve_bytes: 4 << 10 };
    let segments = SegmentOptions {
        own_file_bytes: 32 << 10,
        file_bytes_max: 128 << 10,
        merge_files: 3,
        merge_run_bytes: 8 << 10,
        merge_step_bytes: 16 << 10,
    };
    OpenOptions { journal, segments, ..OpenOptions::default() }
}

fn golden() -> &'static [Golden; 2] {
    static READ: OnceLock<[Golden; 2]> = OnceLock::new();
    READ.get_or_init(|| {
        GOLDEN.map(|name| {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("disk").join(format!("{name}.txt"));
            let files = from_text(&std::fs::read_to_string(path).expect("golden directories are there"));
            let opened = open(to_disk(&files), Path::new(DATA), options(), NOW).expect("it is whole");
            Golden { records: read_all(&opened), files }
        })
    })
}

/// The files that a text describes: a line with name and length, then lines with a position and bytes.
fn from_text(text: &str) -> Files {
    let mut files = Files::new();
    let mut current = PathBuf::new();
    for line in text.lines() {
        if let Some(header) = line.strip_prefix("file ") {
            let (name, length) = header.split_once(' ').expect("name and length");
            current = PathBuf::from(name);
            files.insert(current.clone(), vec![0; length.parse().expect("a length")]);
        } else {
            let (position, hex) = line.split_once(' ').expect("position and bytes");
            let position = usize::from_str_radix(position, 16).expect("a position");
            let bytes = harness::fuzz::from_hex(hex);
            let file = files.get_mut(&current).expect("a file comes before its bytes");
            file[position..position + bytes.len()].copy_from_slice(&bytes);
        }
    }
    files
}

fn to_disk(files: &Files) -> SimDisk {
    let disk = SimDisk::new();
    for directory in ["", "journal", "segments", "state", "quarantine"] {
        disk.create_directory(&Path::new(DATA).join(directory)).expect("the disk is empty");
    }
    for (path, bytes) in files {
        let file = disk.create(&Path::new(DATA).join(path), Mode::Write, 0).expect("names are different");
        file.write_all_at(&[IoSlice::new(bytes)], 0).expect("there is room");
        file.sync_data().expect("the disk works");
    }
    for directory in ["", "journal", "segments", "state", "quarantine"] {
        disk.sync_directory(&Path::new(DATA).join(directory)).expect("the disk works");
    }
    disk
}

/// Each kind of change to each file, once.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![vec![0], vec![1]];
    for (number, directory) in (0u8..).zip(golden()) {
        for file in 0..u8::try_from(directory.files.len()).unwrap_or(u8::MAX) {
            for how in 0..7 {
                seeds.push(vec![number, how, file, 3, 40, 0, 0xff, 0xff, 0xff]);
            }
            seeds.push(vec![number, 0, file, 1, 100, 0, 0x7f, 7, 0]);
        }
    }
    seeds
}
