use super::*;
use crate::disk::SimDisk;
use crate::disk::sim::{Fault, Operation};

const GENERATION: GenerationFacts =
    GenerationFacts { bytes: 5, entries: 6, directory_hash: 7, class: 8, expires_us: 9 };

fn manifest() -> Manifest {
    let facts = SegmentFacts { bytes: 8192, directory_hash: 0x1122_3344_5566_7788 };
    let place = PartPlace { file: 5, position: 72, bytes: 100, hash: 0x99aa };
    Manifest {
        generation: 0,
        node: [1; 16],
        journal: JournalId::from_bytes([2; 16]),
        incarnation: Incarnation::new(3),
        applied: JournalPosition::new(4096),
        next_segment: SegmentId::new(8),
        next_state: 6,
        clean: true,
        born: true,
        segments: [(SegmentId::new(7), facts)].into_iter().collect(),
        generations: [(SegmentId::new(3), GENERATION)].into(),
        key_seed: Some(KeySeed::from_bytes([9; 16])),
        running_us: 77,
        parts: [(Part::Topics, place), (Part::Shard(VirtualShard::new(15)), place)].into_iter().collect(),
        retired_segments: [SegmentId::new(2)].into_iter().collect(),
        retired_states: [3, 4].into_iter().collect(),
    }
}

fn start(disk: &SimDisk) -> (Paths, Slots<SimDisk>) {
    let paths = Paths::new(Path::new("/data"));
    disk.create_directory(&paths.root).unwrap();
    let slots = Slots::new(disk.clone(), paths.clone(), &[Found::Missing, Found::Missing]);
    (paths, slots)
}

fn found(disk: &SimDisk, paths: &Paths, slot: usize) -> Option<Manifest> {
    read_slot(disk, &paths.slot(slot)).unwrap().manifest().cloned()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_manifest_has_golden_bytes() {
    let mut manifest = Manifest {
        generation: 42,
        generations: BTreeMap::new(),
        key_seed: None,
        running_us: 0,
        ..manifest()
    };
    let bytes = manifest.encode();
    assert_eq!(
        hex(&bytes),
        "574549524d414e3101000000d80000000000000000000000000000000000000000000000000000002a00000000000000\
         74c89eff0cd3a4326d89b8c9e4150b640101010101010101010101010101010102020202020202020202020202020202\
         030000000000000000100000000000000800000000000000060000000000000003000000000000000100000007000000\
         000000000020000000000000887766554433221102000000ffff00000000000005000000000000004800000000000000\
         6400000000000000aa990000000000000f00000000000000050000000000000048000000000000006400000000000000\
         aa990000000000000100000002000000000000000200000003000000000000000400000000000000"
    );
    assert_eq!(Manifest::decode(&bytes, Path::new("x")).unwrap().as_ref(), Some(&manifest));

    // With keys there is more behind the end, and a feature that must be known.
    let body_bytes = bytes.len() - 64;
    manifest.key_seed = Some(KeySeed::from_bytes([9; 16]));
    manifest.running_us = 77;
    manifest.generations = [(SegmentId::new(3), GENERATION)].into();
    let bytes = manifest.encode();
    assert_eq!(hex(&bytes[32..40]), "0100000000000000");
    assert_eq!(
        hex(&bytes[64 + body_bytes..]),
        "090909090909090909090909090909094d00000000000000010000000300000000000000050000000000000006000000\
         00000000070000000000000008000000000000000900000000000000"
    );
    assert_eq!(Manifest::decode(&bytes, Path::new("x")).unwrap(), Some(manifest));
}

#[test]
fn no_flipped_bit_passes_and_nothing_panics() {
    let bytes = manifest().encode();
    for position in 0..bytes.len() {
        let mut bytes = bytes.clone();
        bytes[position] ^= 1 << (position % 8);
        assert_eq!(Manifest::decode(&bytes, Path::new("x")).unwrap(), None, "byte {position}");
        bytes.truncate(position);
        assert_eq!(Manifest::decode(&bytes, Path::new("x")).unwrap(), None, "{position} bytes");
    }
}

#[test]
fn slots_are_written_in_turns_and_read_back() {
    let disk = SimDisk::new();
    let (paths, mut slots) = start(&disk);
    for generation in 1..=5 {
        let mut written = manifest();
        slots.write(&mut written).unwrap();
        assert_eq!(written.generation, generation);
        let slot = usize::from(generation % 2 == 0);
        assert_eq!(found(&disk, &paths, slot).unwrap(), written);
        disk.kill();
    }
}

#[test]
fn a_crash_at_any_moment_leaves_the_last_manifest_or_the_next() {
    for seed in 0..300 {
        let disk = SimDisk::new();
        let (paths, mut slots) = start(&disk);
        disk.sync_directory(Path::new("/")).unwrap();
        let rounds = seed % 4;
        for _ in 0..=rounds {
            slots.write(&mut manifest()).unwrap();
        }
        if seed % 3 == 0 {
            disk.plan(Fault::next(Operation::Sync));
        } else {
            disk.halt_after(seed % 7);
        }
        // It is longer than the one before.
        let mut next = manifest();
        next.retired_states.extend(100..200);
        let is_durable = slots.write(&mut next).is_ok();
        disk.crash(seed);

        let newest =
            [0, 1].iter().filter_map(|slot| found(&disk, &paths, *slot)).map(|found| found.generation).max();

        let last = rounds + 1;
        assert!(newest == Some(last + 1) || (!is_durable && newest == Some(last)), "seed {seed}: {newest:?}");
    }
}

#[test]
fn what_a_failed_write_may_have_named_is_kept() {
    let disk = SimDisk::new();
    let (_, mut slots) = start(&disk);
    slots.write(&mut manifest()).unwrap();
    slots.write(&mut manifest()).unwrap();
    let mut next = manifest();
    next.segments = [(SegmentId::new(9), SegmentFacts { bytes: 1, directory_hash: 1 })].into_iter().collect();
    next.applied = JournalPosition::new(8192);
    disk.plan(Fault::next(Operation::Sync));
    slots.write(&mut next).unwrap_err();
    assert!(slots.names_segment(SegmentId::new(7)) && slots.names_segment(SegmentId::new(9)));
    assert_eq!(slots.applied_by_both(), JournalPosition::new(4096));

    slots.write(&mut next).unwrap();
    slots.write(&mut next).unwrap();

    assert!(!slots.names_segment(SegmentId::new(7)) && slots.names_segment(SegmentId::new(9)));
    assert_eq!(slots.applied_by_both(), JournalPosition::new(8192));
}

#[test]
fn a_state_file_has_golden_bytes_and_is_read_back() {
    let disk = SimDisk::new();
    let (paths, _) = start(&disk);
    disk.create_directory(&paths.state).unwrap();
    let mut state = crate::state::NodeState::default();
    state.apply(&crate::frame::Frame::Topic(crate::frame::samples::topic(1)));
    state.apply(&crate::frame::samples::append(1, 0, b"x"));
    let mut topics = Vec::new();
    crate::state::encode_topics((&state.topics, &state.claims), &mut topics);
    let shard = crate::frame::virtual_shard_of(crate::frame::samples::partition(1));
    let mut partitions = Vec::new();
    crate::state::encode_partitions(state.partitions_in(shard), &mut partitions);
    let parts = [(Part::Topics, topics), (Part::Shard(shard), partitions)].into_iter().collect();
    let parts = EncodedParts { parts, has_claims: false };

    let places = write_parts(&disk, &paths, &[1; 16], 5, &parts).unwrap();

    let bytes = disk.content(&paths.state.join(state_name(5)));
    assert_eq!(
        hex(&bytes[..72]),
        "574549525354413101000000020000000000000000000000000000000000000000000000000000000101010101010101\
         0101010101010101050000000000000060097ad7bb633ada"
    );
    let manifest = Manifest { parts: places, ..manifest() };
    assert_eq!(load(&disk, &paths, &manifest).unwrap(), state);
    for position in 72..bytes.len() as u64 {
        disk.flip(&paths.state.join(state_name(5)), position, 4);
        assert!(matches!(load(&disk, &paths, &manifest), Err(LoadError::Damaged { .. })), "byte {position}");
        disk.flip(&paths.state.join(state_name(5)), position, 4);
    }
}

#[test]
fn names_of_state_files_are_recognised() {
    assert_eq!(state_id_of_name(&state_name(12)), Some(12));
    for name in ["12.state", "00000000000000000012.bak", "state"] {
        assert_eq!(state_id_of_name(name), None);
    }
}
