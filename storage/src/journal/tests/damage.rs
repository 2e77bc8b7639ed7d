use std::io::IoSlice;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::*;
use crate::disk::sim::{Fault, Operation};
use crate::disk::{File, Mode};
use crate::frame::FrameSequence;
use crate::journal::block::{BlockHeader, seed};

const PAGE: u64 = 4096;

/// A journal of four commits and a mark, all in the first file, and its frames.
fn marked(disk: &SimDisk) -> (Vec<Frame>, JournalPosition) {
    let mut journal = journal(disk);
    let mut all = Vec::new();
    for (offset, lengths) in [(0, &[10, 200][..]), (2, &[6000]), (3, &[0]), (4, &[1500, 1500])] {
        let mut data = appends(offset, lengths);
        journal.commit(&mut data).unwrap();
        all.append(&mut data);
    }
    let end = journal.end();
    journal.mark_idle().unwrap();
    disk.kill();
    (all, end)
}

#[test]
fn no_flipped_byte_loses_or_changes_an_acknowledged_frame() {
    let disk = disk();
    let (all, end) = marked(&disk);
    let path = ring_file(0);
    let (mut refused, mut whole) = (0, 0);
    for byte in 0..PAGE + end.get() + PAGE {
        for mask in [0x01, 0x80, 0xff] {
            disk.flip(&path, byte, mask);
            match replay(&disk, from(1, JournalPosition::ZERO)) {
                Ok(mut replay) => {
                    assert!(frames(&mut replay) == all, "byte {byte} changed the frames in silence");
                    whole += 1;
                }
                Err(ReplayError::Corrupt(damage)) => {
                    assert!(damage.parts[0].bytes.contains(&byte), "byte {byte}: {damage}");
                    refused += 1;
                }
                Err(other) => panic!("byte {byte}: {other}"),
            }
            disk.flip(&path, byte, mask);
        }
    }
    // Padding, the unused part of the header page, and the mark, behind which there is no proof.
    assert!(refused > 3 * (80 + 4 * 72 + 9000) && whole > 3 * PAGE, "{refused} refused, {whole} whole");
}

#[test]
fn a_lost_page_is_damage_if_anything_proves_that_it_was_durable() {
    let pages = 1 + 2 + 1 + 1;
    for page in 0..pages {
        let disk = disk();
        let (_, end) = marked(&disk);
        assert_eq!(end.get(), pages * PAGE);
        disk.zero(&ring_file(0), PAGE * (page + 1)..PAGE * (page + 2));
        let damage = damage(replay(&disk, from(1, JournalPosition::ZERO)));
        let proof = JournalPosition::new(end.get());
        assert!(matches!(damage.proof, Proof::Block { durable_end, .. } if durable_end == proof), "{damage}");
        let block = if page == 2 { 1 } else { page };
        assert_eq!(damage.positions.start.get(), block * PAGE, "{damage}");
        assert_eq!(damage.parts.len(), 1);
        assert_eq!(damage.parts[0].bytes.start, (block + 1) * PAGE);
        assert_eq!(damage.parts[0].path, ring_file(0));
    }
}

#[test]
fn the_last_block_is_damage_only_with_proof() {
    for marked in [false, true] {
        let disk = disk();
        let mut journal = journal(&disk);
        journal.commit(&mut appends(0, &[100])).unwrap();
        journal.commit(&mut appends(1, &[100])).unwrap();
        if marked {
            journal.mark_idle().unwrap();
        }
        disk.flip(&ring_file(0), 2 * PAGE + 100, 4);
        let result = replay(&disk, from(1, JournalPosition::ZERO));
        if marked {
            let damage = damage(result);
            assert_eq!(damage.positions, JournalPosition::new(PAGE)..JournalPosition::new(2 * PAGE));
        } else {
            let mut replay = result.unwrap();
            assert_eq!(frames(&mut replay), appends(0, &[100]));
            let positions = JournalPosition::new(PAGE)..JournalPosition::new(2 * PAGE);
            assert_eq!(replay.tail(), &Tail::Torn { positions });
        }
    }
}

#[test]
fn what_the_checkpoint_recorded_is_proof_too() {
    let disk = disk();
    let mut journal = journal(&disk);
    journal.commit(&mut appends(0, &[100])).unwrap();
    let proven = journal.end();
    disk.zero(&ring_file(0), PAGE..2 * PAGE);
    let result = replay(&disk, ReplayFrom { proven, ..from(1, JournalPosition::ZERO) });
    let damage = damage(result);
    assert_eq!(damage.proof, Proof::Recorded { durable_end: proven });
    assert_eq!(damage.positions, JournalPosition::ZERO..proven);
}

#[test]
fn proof_is_found_in_a_later_file() {
    let disk = disk();
    let mut journal = journal(&disk);
    for offset in 0..5 {
        journal.commit(&mut appends(offset, &[25_000])).unwrap();
    }
    assert!(journal.end().get() > 120 << 10);
    // All of the first file's blocks are gone.
    disk.zero(&ring_file(0), PAGE..64 << 10);
    let damage = damage(replay(&disk, from(1, JournalPosition::ZERO)));
    assert_eq!(damage.parts[0].path, ring_file(0));
    assert_eq!(damage.parts[0].bytes, PAGE..64 << 10);
    assert!(matches!(&damage.proof, Proof::Block { path, .. } if *path == ring_file(2)), "{damage}");
}

#[test]
fn a_block_behind_an_unused_end_of_a_file_is_checked_for_what_it_follows() {
    let disk = disk();
    let mut journal = journal(&disk);
    journal.commit(&mut appends(0, &[40_000])).unwrap();
    let middle = journal.end();
    journal.commit(&mut appends(1, &[5000])).unwrap();
    journal.commit(&mut appends(2, &[40_000])).unwrap();
    // The block before the unused end is gone: the first of the next file does not follow what is left.
    let byte = PAGE + middle.get();
    disk.zero(&ring_file(0), byte..byte + PAGE);
    let damage = damage(replay(&disk, from(1, JournalPosition::ZERO)));
    assert_eq!(damage.positions.start, middle);
}

#[test]
fn a_refused_replay_changes_nothing() {
    let disk = disk();
    marked(&disk);
    disk.flip(&ring_file(0), PAGE + 100, 1);
    let before: Vec<_> = (0..3).map(|number| disk.content(&ring_file(number))).collect();
    assert!(replay(&disk, from(1, JournalPosition::ZERO)).is_err());
    let after: Vec<_> = (0..3).map(|number| disk.content(&ring_file(number))).collect();
    assert!(before == after);
    assert_eq!(disk.list(&directory()).unwrap().len(), 3);
}

#[test]
fn a_short_file_is_damage_never_a_torn_tail() {
    for length in [0, 100, PAGE, 2 * PAGE, 10 * PAGE, (64 << 10) - 1] {
        let disk = disk();
        marked(&disk);
        disk.cut(&ring_file(0), length);
        let result = replay(&disk, from(1, JournalPosition::ZERO));
        match result {
            Err(ReplayError::Corrupt(damage)) => {
                assert!(length >= PAGE, "{damage}");
                assert_eq!(damage.parts[0].bytes, length..64 << 10);
            }
            Err(ReplayError::Missing { position, .. }) => {
                assert!(length < PAGE);
                assert_eq!(position, JournalPosition::ZERO);
            }
            other => panic!("{length}: {other:?}"),
        }
    }
}

#[test]
fn a_missing_file_is_noticed() {
    for missing in 0..3 {
        let disk = disk();
        let mut journal = journal(&disk);
        for offset in 0..5 {
            journal.commit(&mut appends(offset, &[25_000])).unwrap();
        }
        disk.remove(&ring_file(missing)).unwrap();
        let error = replay(&disk, from(1, JournalPosition::ZERO)).unwrap_err();
        let expected = JournalPosition::new(u64::from(missing) * (60 << 10));
        assert!(matches!(error, ReplayError::Missing { position, .. } if position == expected), "{error}");
    }
}

#[test]
fn files_that_are_missing_with_all_behind_them_are_noticed() {
    let disk = disk();
    let mut journal = journal(&disk);
    for offset in 0..5 {
        journal.commit(&mut appends(offset, &[25_000])).unwrap();
    }
    disk.remove(&ring_file(1)).unwrap();
    disk.remove(&ring_file(2)).unwrap();
    let error = replay(&disk, from(1, JournalPosition::ZERO)).unwrap_err();
    let text = error.to_string();
    let names = text.contains("0000.wal says that ") && text.contains("0001.wal goes on behind it");
    assert!(text.contains("position 61440") && names, "{text}");
}

#[test]
fn a_journal_without_files_is_no_empty_journal() {
    let disk = disk();
    let mut journal = journal(&disk);
    journal.commit(&mut appends(0, &[100])).unwrap();
    for number in 0..3 {
        disk.remove(&ring_file(number)).unwrap();
    }
    let error = replay(&disk, from(1, journal.end())).unwrap_err();
    assert!(matches!(error, ReplayError::Missing { .. }), "{error}");
}

#[test]
fn a_damaged_header_of_a_file_that_is_not_needed_does_no_harm() {
    let disk = disk();
    let (all, _) = marked(&disk);
    disk.flip(&ring_file(1), 20, 1);
    disk.cut(&ring_file(2), 10_000);
    let mut replay = replay(&disk, from(1, JournalPosition::ZERO)).unwrap();
    assert_eq!(frames(&mut replay), all);
    let start = replay.restart();
    let mut journal = Journal::resume(replay, Incarnation::new(2), tiny()).unwrap();
    let mut data = appends(9, &[30_000; 4]);
    let committed = journal.commit(&mut data).unwrap();
    assert!(committed.written >= 1);
    disk.crash(1);
    let mut replay = super::replay(&disk, from(2, start)).unwrap();
    assert_eq!(frames(&mut replay), data[..committed.written]);
}

#[test]
fn a_file_under_another_name_or_of_another_journal_is_refused() {
    let other_disk = disk();
    let other = Identity { journal: JournalId::from_bytes([1; 16]), ..identity(1) };
    drop(Journal::create(other_disk.clone(), &directory(), other, tiny()).unwrap());
    let disk = disk();
    marked(&disk);
    let copies = [(disk.content(&ring_file(0)), 7), (other_disk.content(&ring_file(0)), 0)];
    for (content, number) in copies {
        let path = ring_file(9);
        let file = disk.create(&path, Mode::Write, 0).unwrap();
        file.write_all_at(&[IoSlice::new(&content)], 0).unwrap();
        disk.rename(&path, &ring_file(number)).unwrap();
        let error = replay(&disk, from(1, JournalPosition::ZERO)).unwrap_err();
        assert!(matches!(&error, ReplayError::Foreign { path } if *path == ring_file(number)), "{error}");
        disk.remove(&ring_file(number)).unwrap();
    }
}

#[test]
fn a_later_format_is_named_and_left_alone() {
    for (at, version, features) in [(8, 2, 0), (24, 1, 2), (32, 1, 2)] {
        let disk = disk();
        marked(&disk);
        let mut header = disk.content(&ring_file(1))[..80].to_vec();
        header[at] = 2;
        let hash = xxh3_64(&header[..72]);
        header[72..].copy_from_slice(&hash.to_le_bytes());
        let file = disk.open(&ring_file(1), Mode::Write).unwrap();
        file.write_all_at(&[IoSlice::new(&header)], 0).unwrap();
        match replay(&disk, from(1, JournalPosition::ZERO)) {
            Err(ReplayError::NewerFormat { path, version: found, features: bits }) => {
                assert_eq!((path, found, bits), (ring_file(1), version, features));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_feature_that_older_versions_may_ignore_is_ignored() {
    let disk = disk();
    let (all, _) = marked(&disk);
    let mut header = disk.content(&ring_file(0))[..80].to_vec();
    header[16] = 0x10;
    let hash = xxh3_64(&header[..72]);
    header[72..].copy_from_slice(&hash.to_le_bytes());
    disk.open(&ring_file(0), Mode::Write).unwrap().write_all_at(&[IoSlice::new(&header)], 0).unwrap();
    assert_eq!(frames(&mut replay(&disk, from(1, JournalPosition::ZERO)).unwrap()), all);
}

#[test]
fn a_payload_that_looks_like_a_block_is_none() {
    let disk = disk();
    let mut journal = journal(&disk);
    journal.commit(&mut appends(0, &[100])).unwrap();
    let block = disk.content(&ring_file(0))[4096..8192].to_vec();
    // A producer that has somehow seen a block sends it back, so that it comes to lie on a page boundary.
    let empty = append(0, 1, &[]).length() + 72;
    let mut value = vec![0; 4096 - empty % 4096 - 3];
    for _ in 0..4 {
        value.extend_from_slice(&block);
    }
    let mut posing = vec![append(0, 1, &value)];
    journal.write(&mut posing).unwrap();
    let content = disk.content(&ring_file(0));
    let copies = content.chunks(4096).filter(|page| page[..72] == block[..72]).count();
    assert_eq!(copies, 5, "the copies lie on page boundaries");
    // The block that carries it is torn: its first page is lost.
    journal.sync().unwrap();
    disk.zero(&ring_file(0), 2 * PAGE..3 * PAGE);
    let mut replay = replay(&disk, from(1, JournalPosition::ZERO)).unwrap();
    assert_eq!(frames(&mut replay), appends(0, &[100]));
    assert_eq!(replay.tail(), &Tail::Clean);
}

/// Puts a block with valid hashes, made of these bytes, at the start of a new journal.
fn forged(payload: &[u8], frame_count: u32) -> ReplayError {
    let disk = disk();
    drop(journal(&disk));
    let header = BlockHeader {
        position: JournalPosition::ZERO,
        follows: JournalPosition::ZERO,
        durable_end: JournalPosition::ZERO,
        payload_bytes: u32::try_from(payload.len()).unwrap(),
        frame_count,
        payload_hash: xxh3_64_with_seed(payload, seed(&identity(1), JournalPosition::ZERO)),
    };
    let file = disk.open(&ring_file(0), Mode::Write).unwrap();
    let header = header.encode(&identity(1));
    file.write_all_at(&[IoSlice::new(&header), IoSlice::new(payload)], PAGE).unwrap();
    match replay(&disk, from(1, JournalPosition::ZERO)) {
        Ok(mut replay) => replay.next_block().unwrap_err(),
        Err(error) => error,
    }
}

fn encoded(frames: &[(Frame, u64)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (frame, sequence) in frames {
        frame.encode(FrameSequence::new(*sequence), &mut bytes);
    }
    bytes
}

#[test]
fn a_frame_that_is_missing_between_others_is_noticed() {
    let error = forged(&encoded(&[(trim(0, 1), 7), (trim(1, 1), 3), (trim(0, 2), 9)]), 3);
    let (expected, found) = (FrameSequence::new(8), FrameSequence::new(9));
    assert!(
        matches!(error, ReplayError::Gap { expected: e, found: f, .. } if e == expected && f == found),
        "{error}"
    );
}

#[test]
fn frames_that_make_no_sense_are_refused() {
    let whole = encoded(&[(trim(0, 1), 0)]);
    let mut of_unknown_kind = whole.clone();
    of_unknown_kind[4] = 200;
    let checksum = crc32fast::hash(&of_unknown_kind[..28]);
    of_unknown_kind[28..32].copy_from_slice(&checksum.to_le_bytes());
    let mut damaged = whole.clone();
    damaged[3] ^= 1;
    for (payload, count) in
        [(&whole[..], 2), (&whole[..63], 1), (&whole[..], 0), (&of_unknown_kind[..], 1), (&damaged[..], 1)]
    {
        let error = forged(payload, count);
        assert!(matches!(error, ReplayError::Unreadable { .. }), "{error}");
    }
}

#[test]
fn a_read_error_is_no_torn_tail() {
    let disk = disk();
    marked(&disk);
    for after in 0..12 {
        disk.plan(Fault::next(Operation::Read).after(after));
        let error = replay(&disk, from(1, JournalPosition::ZERO)).unwrap_err();
        assert!(matches!(error, ReplayError::Disk(_)), "{after}: {error}");
    }
}

#[test]
fn damage_says_what_and_where_and_how_it_is_known() {
    let disk = disk();
    marked(&disk);
    disk.flip(&ring_file(0), PAGE + 100, 1);
    let text = damage(replay(&disk, from(1, JournalPosition::ZERO))).to_string();
    let expected = "acknowledged data is damaged: bytes 4096..8192 of /data/journal/0000.wal, \
        journal positions 0..4096; proof: the block at position 20480 in /data/journal/0000.wal was written when \
        all below 20480 was durable";
    assert_eq!(text, expected);
}
