use std::io::IoSlice;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::*;
use crate::disk::{File, Mode};
use crate::journal::block::{BLOCK_HEADER_BYTES, BlockHeader, block_length, is_block, seed};
use crate::journal::file::{BadHeader, FileHeader};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of a journal with one trim: they change only with the version of the format.
#[test]
fn the_first_pages_of_a_journal_are_golden() {
    let disk = disk();
    let mut journal = journal(&disk);
    journal.commit(&mut [trim(1, 12)]).unwrap();
    let content = disk.content(&ring_file(0));
    assert_eq!(hex(&content[..80]), GOLDEN_FILE_HEADER);
    assert!(content[80..4096].iter().all(|byte| *byte == 0));
    assert_eq!(hex(&content[4096..4096 + 72]), GOLDEN_BLOCK_HEADER);
    assert_eq!(hex(&content[4096 + 72..4096 + 136]), GOLDEN_FRAME);
    assert!(content[4096 + 136..].iter().all(|byte| *byte == 0));
}

const GOLDEN_FILE_HEADER: &str = concat!(
    "5745495257414c31",
    "0100000000000000",
    "000000000000000000000000000000000000000000000000",
    "abababababababababababababababab",
    "00000100000000000000000000000000",
    "80d2bbb2a7d10c1a",
);
const GOLDEN_BLOCK_HEADER: &str = concat!(
    "57454952424c4b31",
    "4000000001000000",
    "000000000000000000000000000000000000000000000000",
    "01000000000000000000000000000000",
    "5fd53224d073774b",
    "89f8b4e39d40ec00",
);
const GOLDEN_FRAME: &str = concat!(
    "2000000004000300000000000000000000000000000000000000000056e7b1e6",
    "0707070707070707070707070707070701000000000000000c00000000000000",
);

fn header() -> BlockHeader {
    BlockHeader {
        position: JournalPosition::new(8192),
        follows: JournalPosition::new(8192),
        durable_end: JournalPosition::new(4096),
        payload_bytes: 64,
        frame_count: 1,
        payload_hash: 99,
    }
}

#[test]
fn a_block_passes_only_as_itself() {
    let header = header();
    let bytes = header.encode(&identity(3));
    let at = header.position;
    assert_eq!(BlockHeader::decode(&bytes, &identity(3), at), Some(header));
    assert_eq!(BlockHeader::decode_anywhere(&bytes, &identity(3)), Some(header));
    assert_eq!(BlockHeader::decode(&bytes, &identity(2), at), None, "from before a recovery");
    assert_eq!(BlockHeader::decode(&bytes, &identity(3), JournalPosition::new(4096)), None, "misplaced");
    let other = Identity { journal: JournalId::from_bytes([1; 16]), ..identity(3) };
    assert_eq!(BlockHeader::decode(&bytes, &other, at), None, "from another journal");
    let resembles =
        |bytes: &[u8], position| BlockHeader::resembles(bytes, &identity(3), position, header.follows);
    for damaged in [0, 8, 16, 24, 32, 40, 56, 64] {
        let mut bytes = bytes;
        bytes[damaged] ^= 1;
        assert!(resembles(&bytes, at), "byte {damaged}");
    }
    // A block of an earlier round has another position, and follows another.
    let older = BlockHeader { position: JournalPosition::new(0), follows: JournalPosition::new(0), ..header };
    let older = BlockHeader { durable_end: JournalPosition::new(0), ..older }.encode(&identity(3));
    assert!(!resembles(&older, at));
    assert!(!resembles(&[0; 72], at));
    assert!(is_block(&bytes));
}

#[test]
fn a_block_made_by_one_who_does_not_know_the_journal_is_no_proof() {
    let disk = disk();
    let mut journal = journal(&disk);
    journal.commit(&mut appends(0, &[100])).unwrap();
    let end = journal.end();
    // Position and incarnation can be guessed; the journal's id is told to nobody.
    let guessed = Identity { journal: JournalId::from_bytes([0; 16]), ..identity(1) };
    let position = end.advance(4096);
    let header = BlockHeader {
        position,
        follows: position,
        durable_end: position,
        payload_bytes: 0,
        frame_count: 0,
        payload_hash: xxh3_64_with_seed(&[], seed(&guessed, position)),
    };
    let file = disk.open(&ring_file(0), Mode::Write).unwrap();
    file.write_all_at(&[IoSlice::new(&header.encode(&guessed))], 4096 + position.get()).unwrap();

    let mut replay = replay(&disk, from(1, JournalPosition::ZERO)).unwrap();

    assert_eq!(frames(&mut replay), appends(0, &[100]));
    assert!(matches!(replay.tail(), Tail::Torn { .. }), "it is kept, as whatever nobody was promised");
}

#[test]
fn no_flipped_bit_of_a_block_header_passes() {
    let bytes = header().encode(&identity(3));
    for bit in 0..BLOCK_HEADER_BYTES * 8 {
        let mut damaged = bytes;
        damaged[bit / 8] ^= 1 << (bit % 8);
        // Reserved bytes are covered like all others.
        assert_eq!(BlockHeader::decode(&damaged, &identity(3), header().position), None, "bit {bit}");
    }
    for length in 0..BLOCK_HEADER_BYTES {
        assert_eq!(BlockHeader::decode(&bytes[..length], &identity(3), header().position), None);
    }
}

#[test]
fn lengths_beyond_the_limits_are_not_believed() {
    let at = header().position;
    for header in
        [BlockHeader { payload_bytes: u32::MAX, ..header() }, BlockHeader { frame_count: 3, ..header() }]
    {
        assert_eq!(BlockHeader::decode(&header.encode(&identity(3)), &identity(3), at), None);
    }
}

#[test]
fn blocks_are_whole_pages() {
    let lengths = [(0, 4096), (4024, 4096), (4025, 8192), (2 << 20, (2 << 20) + 4096)];
    for (payload, length) in lengths {
        assert_eq!(block_length(payload), length);
    }
}

#[test]
fn no_flipped_bit_of_a_file_header_passes() {
    let journal = JournalId::from_bytes([4; 16]);
    let base = Some(JournalPosition::new(8192));
    for header in [
        FileHeader { journal, number: 7, bytes: 65_536, base },
        FileHeader { journal, number: 7, bytes: 65_536, base: None },
    ] {
        let bytes = header.encode();
        assert_eq!(FileHeader::decode(&bytes), Ok(header));
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(FileHeader::decode(&damaged), Err(BadHeader::Damaged), "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert_eq!(FileHeader::decode(&bytes[..length]), Err(BadHeader::Damaged));
        }
    }
}
