use std::io::IoSlice;
use std::path::Path;

use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::*;
use crate::dedup::filter::Width;
use crate::disk::{Disk, File, Mode, SimDisk};
use crate::segment::SegmentError;

fn identity(number: u64) -> SegmentIdentity {
    SegmentIdentity { node: [7; 16], segment: SegmentId::new(number) }
}

fn entry(number: u64) -> Entry {
    Entry {
        digest: KeyDigest(xxh3_128_with_seed(&number.to_le_bytes(), 1).to_be_bytes()),
        fingerprint: Fingerprint(u128::from(number).to_le_bytes()),
        place: RecordPlace { partition: PartitionId::new(3), offset: Offset::new(number) },
        append_time: Timestamp::from_micros(number.cast_signed()),
    }
}

fn entries(count: u64) -> Vec<Entry> {
    let mut entries: Vec<_> = (0..count).map(entry).collect();
    entries.sort_unstable_by_key(|entry| entry.digest);
    entries
}

fn write(disk: &SimDisk, number: u64, entries: &[Entry]) -> WrittenGeneration<<SimDisk as Disk>::File> {
    let count = entries.len() as u64;
    let mut writer = GenerationWriter::create(disk, Path::new("/keys"), identity(number), count).unwrap();
    entries.iter().for_each(|entry| writer.push(entry).unwrap());
    writer.finish(4, 99).unwrap()
}

fn disk() -> SimDisk {
    let disk = SimDisk::new();
    disk.create_directory(Path::new("/keys")).unwrap();
    disk
}

fn open(
    disk: &SimDisk,
    number: u64,
    facts: GenerationFacts,
) -> Result<GenerationFile<<SimDisk as Disk>::File>, SegmentError> {
    GenerationFile::open(disk, Path::new("/keys"), identity(number), facts)
}

fn path(number: u64) -> std::path::PathBuf {
    Path::new("/keys").join(generation_name(SegmentId::new(number)))
}

#[test]
fn every_key_of_a_generation_is_found_and_no_other_one() {
    for count in [0, 1, 77, 78, 79, 156, 1000] {
        let disk = disk();
        let all = entries(count);
        let written = write(&disk, 1, &all);
        let file = open(&disk, 1, written.facts).unwrap();
        let filter = file.filter(Width::Wide).unwrap().unwrap();
        for entry in &all {
            assert_eq!(file.find(entry.digest).unwrap(), Some(*entry), "{count} keys");
            assert!(filter.may_contain(entry.digest) && written.filter.may_contain(entry.digest));
        }
        for number in count..count + 200 {
            assert_eq!(file.find(entry(number).digest).unwrap(), None);
        }
        let blocks: Vec<_> = (0..file.block_count()).flat_map(|number| file.block(number).unwrap()).collect();
        assert_eq!(blocks, all);
    }
}

#[test]
fn digests_that_begin_alike_are_told_apart_across_blocks() {
    let disk = disk();
    let alike = |number: u64| {
        let mut entry = entry(number);
        entry.digest.0[..8].copy_from_slice(&[8; 8]);
        entry.digest.0[8..].copy_from_slice(&number.to_be_bytes());
        entry
    };
    let all: Vec<_> = (0..500).map(alike).collect();
    let written = write(&disk, 1, &all);
    let file = open(&disk, 1, written.facts).unwrap();
    assert!(all.iter().all(|entry| file.find(entry.digest).unwrap() == Some(*entry)));
    assert_eq!(file.find(alike(500).digest).unwrap(), None);
}

#[test]
fn no_damaged_byte_passes() {
    let all = entries(200);
    let bytes = write(&disk(), 1, &all).facts.bytes;
    for at in (0..bytes).filter(|at| !(72..4096).contains(at)).step_by(3) {
        let disk = disk();
        let written = write(&disk, 1, &all);
        disk.flip(&path(1), at, 1);
        let Ok(file) = open(&disk, 1, written.facts) else { continue };
        let filter_is_right = file.filter(Width::Wide).is_ok();
        let blocks = (0..file.block_count()).map(|number| file.block(number)).collect::<Result<Vec<_>, _>>();
        assert!(!filter_is_right || blocks.is_err(), "byte {at}");
    }
}

#[test]
fn a_generation_or_block_in_the_place_of_another_one_does_not_pass() {
    let disk = disk();
    let written = write(&disk, 1, &entries(10));
    disk.rename(&path(1), &path(2)).unwrap();
    assert!(matches!(open(&disk, 2, written.facts), Err(SegmentError::Damaged { what: "header", .. })));

    let other = write(&disk, 3, &entries(300));
    let file = disk.open(&path(3), Mode::Write).unwrap();
    let mut block = vec![0; 4096];
    file.read_exact_at(&mut block, 4096).unwrap();
    file.write_all_at(&[IoSlice::new(&block)], 8192).unwrap();
    let opened = open(&disk, 3, other.facts).unwrap();
    assert!(matches!(opened.block(1), Err(SegmentError::Damaged { what: "block", .. })));
}

#[test]
fn horizons_that_are_alike_share_a_class() {
    for (horizon_us, class) in [(0, 0), (1, 0), (1_000_000, 0), (1_000_001, 1), (600_000_000, 10)] {
        assert_eq!(horizon_class(horizon_us), class);
        assert!(class_horizon_us(class) >= horizon_us);
    }
}
