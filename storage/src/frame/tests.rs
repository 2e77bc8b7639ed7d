use bytes::BytesMut;
use proptest::prelude::*;

use super::samples::{
    append, claim, dead_letters, failed, forwarded, group, group_deleted, partition, settled, skipped, topic,
    trim,
};
use super::*;

fn encoded(frame: &Frame, sequence: u64) -> Bytes {
    let mut bytes = BytesMut::new();
    frame.encode(FrameSequence::new(sequence), &mut bytes);
    bytes.freeze()
}

fn all_kinds() -> [Frame; 12] {
    let topic_id = TopicId::from_bytes([9; 16]);
    [
        append(2, 77, b"value"),
        Frame::Topic(topic(3)),
        Frame::TopicDeleted(topic_id),
        trim(1, 12),
        skipped(1, 5),
        group(3, &[(0, 5), (2, 77)]),
        group_deleted(3),
        settled(3, 2, &[(77, 78), (80, 99)]),
        failed(3, 2, (78, 3)),
        dead_letters(3, 2, &[79, 99]),
        forwarded(3, 2, &[79, 99]),
        claim("billing", 4),
    ]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn every_kind_reads_as_it_was_written() {
    for frame in all_kinds() {
        let mut bytes = encoded(&frame, 9);
        assert_eq!(bytes.len(), frame.length());
        let place = Frame::peek(&bytes).unwrap();
        assert_eq!(place.virtual_shard, frame.virtual_shard());
        assert_eq!((place.sequence, place.length), (FrameSequence::new(9), bytes.len()));
        let read = Frame::decode(&mut bytes).unwrap();
        assert_eq!(read, ReadFrame { frame, sequence: FrameSequence::new(9) });
        assert!(bytes.is_empty());
    }
}

#[test]
fn frames_stand_back_to_back() {
    let frames = all_kinds();
    let mut bytes = BytesMut::new();
    for (sequence, frame) in (0..).zip(&frames) {
        frame.encode(FrameSequence::new(sequence), &mut bytes);
    }
    let mut bytes = bytes.freeze();
    for frame in frames {
        assert_eq!(Frame::decode(&mut bytes).unwrap().frame, frame);
    }
    assert!(bytes.is_empty());
}

#[test]
fn a_read_batch_shares_the_bytes_it_was_read_from() {
    let mut bytes = encoded(&append(0, 0, &[1; 5000]), 0);
    let whole = bytes.clone();
    let read = Frame::decode(&mut bytes).unwrap();
    let payload = read.frame.payload().unwrap();
    assert!(whole.as_ptr_range().contains(&payload.as_ptr()));
}

#[test]
fn any_flipped_bit_is_noticed() {
    for frame in all_kinds() {
        let whole = encoded(&frame, 5);
        for bit in 0..whole.len() * 8 {
            let mut damaged = BytesMut::from(&whole[..]);
            damaged[bit / 8] ^= 1 << (bit % 8);
            // Bodies without a batch have no checksum of their own: the block's hash covers them.
            let covered = bit / 8 < FRAME_HEADER_BYTES || frame.payload().is_some();
            let read = Frame::decode(&mut damaged.freeze());
            assert!(!covered || read.is_err(), "bit {bit} of {frame:?}");
        }
    }
}

#[test]
fn any_cut_is_noticed() {
    for frame in all_kinds() {
        let whole = encoded(&frame, 5);
        for length in 0..whole.len() {
            assert!(Frame::decode(&mut whole.slice(..length)).is_err(), "{length} bytes of {frame:?}");
        }
    }
}

#[test]
fn a_length_beyond_the_limit_is_refused_before_it_is_used() {
    let mut bytes = BytesMut::from(&encoded(&trim(0, 0), 0)[..]);
    bytes[..4].copy_from_slice(&(FRAME_BODY_BYTES_MAX + 1).to_le_bytes());
    let checksum = crc32fast::hash(&bytes[..CHECKSUM_AT]);
    bytes[CHECKSUM_AT..FRAME_HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
    let error = Frame::decode(&mut bytes.freeze()).unwrap_err();
    assert!(matches!(error.problem, Problem::TooLarge { what: "frame length", .. }), "{error}");
}

#[test]
fn only_appends_are_data() {
    let control: Vec<bool> = all_kinds().iter().map(Frame::is_control).collect();
    let expected = [&[false, true, true, true, false][..], &[true; 6], &[false]].concat();
    assert_eq!(control, expected);
}

#[test]
fn partitions_spread_over_all_virtual_shards() {
    let mut counts = [0; VIRTUAL_SHARDS as usize];
    for number in 0..1600 {
        counts[usize::from(virtual_shard_of(partition(number)).get())] += 1;
    }
    assert!(counts.iter().all(|&count| (60..140).contains(&count)), "{counts:?}");
}

#[test]
fn a_definition_skips_what_a_later_version_added() {
    let definition = topic(1);
    let mut bytes = Vec::new();
    definition.encode(&mut bytes);
    assert_eq!(bytes.len(), definition.length());
    let fields = u32::try_from(bytes.len() - 4 + 3).unwrap();
    bytes[..4].copy_from_slice(&fields.to_le_bytes());
    bytes.extend_from_slice(&[1, 2, 3, 99]);
    let mut reader = Reader::new(&bytes);
    assert_eq!(TopicDefinition::decode(&mut reader).unwrap(), definition);
    assert_eq!(reader.remaining(), 1);
}

/// The virtual shard of a partition stands in journals and state files: it can never change.
#[test]
fn virtual_shards_are_golden() {
    let shards: Vec<u16> = (0..8).map(|number| virtual_shard_of(partition(number)).get()).collect();
    assert_eq!(shards, GOLDEN_SHARDS);
}

#[test]
fn the_bytes_of_a_trim_are_golden() {
    assert_eq!(hex(&encoded(&trim(1, 12), 258)), GOLDEN_TRIM);
}

#[test]
fn the_bytes_of_a_topic_are_golden() {
    assert_eq!(hex(&encoded(&Frame::Topic(topic(3)), 0)), GOLDEN_TOPIC);
}

#[test]
fn the_bytes_of_a_skipped_batch_are_golden() {
    assert_eq!(hex(&encoded(&skipped(1, 5), 258)), GOLDEN_SKIPPED);
}

#[test]
fn the_bytes_of_a_claim_are_golden() {
    assert_eq!(hex(&encoded(&claim("billing", 4), 0)), GOLDEN_CLAIM);
}

const GOLDEN_CLAIM: &str = concat!(
    "25000000120000000000000000000000000000000000000000000000126efd17",
    "07070707070707070707070707070707090000000000000004000000070062696c6c696e67",
);
const GOLDEN_SKIPPED: &str = concat!(
    "30000000050003000201000000000000020000000000000000000000ea3bdc8d",
    "070707070707070707070707070707070100000001000000050000000000000005000000000000000100000000000000",
);
const GOLDEN_SHARDS: [u16; 8] = [15, 3, 2, 14, 12, 1, 0, 14];
const GOLDEN_TRIM: &str = concat!(
    "2000000004000300020100000000000000000000000000000000000082119dfb",
    "0707070707070707070707070707070701000000000000000c00000000000000",
);
const GOLDEN_TOPIC: &str = concat!(
    "47000000020000000000000000000000000000000000000000000000f50f3d30",
    "43000000070707070707070707070707070707072a00000000000000030000000000000006006f7264657273",
    "1900030000000540420f0000000000000000000000000000001000",
);

proptest! {
    #[test]
    fn appends_of_any_size_read_as_they_were_written(
        value in proptest::collection::vec(any::<u8>(), 0..5000),
        number in 0..1000u32,
        offset in 0..u64::from(u32::MAX),
        sequence in any::<u64>(),
    ) {
        let frame = append(number, offset, &value);
        let mut bytes = encoded(&frame, sequence);
        let read = Frame::decode(&mut bytes).unwrap();
        prop_assert_eq!(read.frame, frame);
        prop_assert_eq!(read.sequence.get(), sequence);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ignored = Frame::decode(&mut Bytes::from(bytes.clone()));
        let _ignored = Frame::peek(&bytes);
        let _ignored = TopicDefinition::decode(&mut Reader::new(&bytes));
    }
}
