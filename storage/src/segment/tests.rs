use super::*;
use crate::disk::{Disk, SimDisk};
use crate::frame::samples;

fn identity() -> SegmentIdentity {
    SegmentIdentity { node: [9; 16], segment: SegmentId::new(3) }
}

fn directory() -> &'static Path {
    Path::new("/segments")
}

/// A segment of runs, each given by partition, base offset and the lengths of its records' values.
fn write(disk: &SimDisk, runs: &[(u32, u64, Vec<usize>)]) -> WrittenSegment {
    disk.create_directory(directory()).unwrap();
    let batches: Vec<_> = runs
        .iter()
        .flat_map(|(number, base, lengths)| {
            let partition = samples::partition(*number);
            lengths.iter().enumerate().map(move |(index, length)| {
                (partition, samples::batch(partition, base + index as u64, &vec![b'x'; *length]))
            })
        })
        .collect();
    let data_bytes = batches.iter().map(|(_, batch)| batch.length() as u64).sum();
    let plan = SegmentPlan { run_count: runs.len(), data_bytes, created: Timestamp::from_micros(5) };
    let mut writer = SegmentWriter::create(disk, directory(), identity(), plan, None).unwrap();
    for (partition, batch) in &batches {
        writer.append(*partition, batch).unwrap();
    }
    writer.finish().unwrap().0
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_segment_has_golden_bytes() {
    let disk = SimDisk::new();
    let written = write(&disk, &[(1, 0, vec![1]), (2, 7, vec![2, 3])]);
    let bytes = disk.content(&directory().join(segment_name(SegmentId::new(3))));

    assert_eq!(bytes.len(), 8192);
    assert_eq!(
        hex(&bytes[..80]),
        "574549525345473101000000000000000000000000000000000000000000000000000000000000000909090909090909\
         0909090909090909030000000000000005000000000000003a0ef821651bdec2"
    );
    let directory_at = 4096 + written.runs.iter().map(|run| run.bytes).sum::<u64>();
    let directory_at = usize::try_from(directory_at).unwrap();
    assert_eq!(
        hex(&bytes[directory_at..directory_at + 2 * RUN_BYTES]),
        "07070707070707070707070707070707010000000000000000000000000000000100000000000000\
         001000000000000088000000000000000100000000000000\
         40420f000000000040420f00000000000000000000000000\
         07070707070707070707070707070707020000000000000007000000000000000900000000000000\
         881000000000000013010000000000000200000000000000\
         40420f000000000040420f00000000000000000000000000"
    );
    assert_eq!(
        hex(&bytes[8192 - TRAILER_BYTES..]),
        "574549525345474501000000020000009b110000000000000119c063a68203ec0300000000000000\
         09090909090909090909090909090909729b18a2e616ea86"
    );
    assert!(bytes[4096..].starts_with(&encoded(1, 0, 1)), "batches stand there as they are");
    assert!(bytes[80..4096].iter().all(|byte| *byte == 0));
}

fn encoded(partition: u32, offset: u64, length: usize) -> Vec<u8> {
    let mut out = Vec::new();
    samples::batch(samples::partition(partition), offset, &vec![b'x'; length]).encode(&mut out);
    out
}

#[test]
fn an_index_has_golden_bytes() {
    let disk = SimDisk::new();
    write(&disk, &[(1, 0, vec![1]), (2, 7, vec![70_000, 5, 6, 70_000, 7])]);
    let bytes = disk.content(&directory().join(index_name(SegmentId::new(3))));
    assert_eq!(
        hex(&bytes),
        "5745495249445831010000000200000002000000000000000300000000000000862e2e34ee18a26b0000000000000000\
         726183fbbfd8acd9994ef30077ba9a150000000000000000080000000000000040420f00000000008322010000000000\
         0b0000000000000040420f00000000009735020000000000"
    );
}

#[test]
fn what_was_written_is_read_back() {
    let disk = SimDisk::new();
    // Longer than the buffer, with batches longer than a window.
    let written =
        write(&disk, &[(1, 0, vec![300_000; 9]), (2, 5, vec![10; 1000]), (2, 5000, vec![3 << 20, 1])]);
    let file = SegmentFile::open(&disk, directory(), identity()).unwrap();

    assert_eq!(file.runs(written.bytes, written.directory_hash).unwrap(), written.runs);
    assert_eq!(rebuild(&file, written.bytes, written.directory_hash).unwrap(), Some(written.runs.clone()));
    let mut walk = Walk::new(&file, written.runs[2].range());
    for expected in [5000, 5001] {
        let Step::Batch { batch, .. } = walk.step().unwrap() else {
            panic!("the run has two batches");
        };
        assert_eq!(batch.base_offset(), Offset::new(expected));
    }
    assert!(matches!(walk.step().unwrap(), Step::End));
}

#[test]
fn the_index_finds_batches_by_offset_time_and_position() {
    let disk = SimDisk::new();
    let written = write(&disk, &[(1, 0, vec![10; 3]), (2, 100, vec![20_000; 40])]);
    let file = SegmentFile::open(&disk, directory(), identity()).unwrap();
    let index = Index::map(&disk, &file, written.directory_hash).unwrap().unwrap();
    let [first, second] = written.runs.as_slice() else {
        panic!("two runs were written");
    };

    assert_eq!(index.at_offset(0, Offset::new(2)), None, "a short run has no entries");
    assert_eq!(index.at_offset(1, Offset::new(100)), None);
    for offset in 100..140 {
        let batch = first.range().end + (offset - 100) * (second.bytes / 40);
        match index.at_offset(1, Offset::new(offset)) {
            None => assert!(offset < 104),
            Some(entry) => {
                assert!(entry.base_offset <= Offset::new(offset));
                assert!(batch - entry.position < 4 * (second.bytes / 40));
                assert_eq!(
                    entry.position,
                    first.range().end + (entry.base_offset.get() - 100) * (second.bytes / 40)
                );
            }
        }
        if let Some(after) = index.after_position(1, batch) {
            assert!(after.position > batch && after.position - batch <= 4 * (second.bytes / 40));
        }
    }
    // All batches were appended at the same moment.
    assert_eq!(index.before_time(1, Timestamp::from_micros(1_000_000)), None);
    assert!(index.before_time(1, Timestamp::from_micros(1_000_001)).is_some());
    assert_eq!(index.at_offset(2, Offset::new(100)), None, "there is no third run");
}

#[test]
fn a_segment_of_another_node_or_number_never_passes() {
    let disk = SimDisk::new();
    let written = write(&disk, &[(1, 0, vec![1])]);
    let other_node = SegmentIdentity { node: [8; 16], ..identity() };
    let file = SegmentFile::open(&disk, directory(), other_node).unwrap();
    assert!(file.runs(written.bytes, written.directory_hash).is_err());

    let name = |number| directory().join(segment_name(SegmentId::new(number)));
    disk.rename(&name(3), &name(4)).unwrap();
    let other_number = SegmentIdentity { segment: SegmentId::new(4), ..identity() };
    let file = SegmentFile::open(&disk, directory(), other_number).unwrap();
    assert!(file.runs(written.bytes, written.directory_hash).is_err());
    assert_eq!(Index::map(&disk, &file, written.directory_hash).unwrap().map(|_| ()), None);
}

#[test]
fn names_are_recognised() {
    for number in [0, 7, u64::MAX] {
        let segment = SegmentId::new(number);
        assert_eq!(segment_of_name(&segment_name(segment)), Some(segment));
        assert_eq!(segment_of_name(&index_name(segment)), Some(segment));
    }
    for name in ["7.seg", "00000000000000000007.bak", "x.seg", "seg", "00000000000000000007"] {
        assert_eq!(segment_of_name(name), None);
    }
}

#[test]
fn no_flipped_bit_of_the_metadata_passes() {
    let disk = SimDisk::new();
    let written = write(&disk, &[(1, 0, vec![1]), (2, 7, vec![2])]);
    let path = directory().join(segment_name(SegmentId::new(3)));
    let data: u64 = written.runs.iter().map(|run| run.bytes).sum();
    let metadata = (0..80).chain(4096 + data..4096 + data + 2 * RUN_BYTES as u64).chain(8192 - 64..8192);
    for position in metadata {
        disk.flip(&path, position, 1 << (position % 8));
        let file = SegmentFile::open(&disk, directory(), identity()).unwrap();
        assert!(file.runs(written.bytes, written.directory_hash).is_err(), "byte {position}");
        disk.flip(&path, position, 1 << (position % 8));
    }
    let file = SegmentFile::open(&disk, directory(), identity()).unwrap();
    assert!(file.runs(written.bytes, written.directory_hash).is_ok());
}
