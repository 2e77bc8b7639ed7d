use std::io::IoSlice;

use super::*;
use crate::disk::{AlignedBuffer, File};

const SEEDS: u64 = 200;

fn directory() -> PathBuf {
    PathBuf::from("/data")
}

fn path(name: &str) -> PathBuf {
    directory().join(name)
}

/// A disk with a durable directory.
fn disk() -> SimDisk {
    let disk = SimDisk::new();
    disk.create_directory(&directory()).unwrap();
    disk.sync_directory(Path::new("/")).unwrap();
    disk
}

/// A disk with a durable file of `bytes`.
fn disk_with(name: &str, bytes: &[u8]) -> SimDisk {
    let disk = disk();
    let file = disk.create(&path(name), Mode::Write, 0).unwrap();
    file.write_all_at(&[IoSlice::new(bytes)], 0).unwrap();
    file.sync_data().unwrap();
    disk.sync_directory(&directory()).unwrap();
    disk
}

fn names(disk: &SimDisk) -> Vec<String> {
    disk.list(&directory()).unwrap().into_iter().map(|entry| entry.name).collect()
}

fn write(disk: &SimDisk, name: &str, bytes: &[u8], position: u64) -> SimFile {
    let file = disk.open(&path(name), Mode::Write).unwrap();
    file.write_all_at(&[IoSlice::new(bytes)], position).unwrap();
    file
}

#[test]
fn what_was_synced_survives_every_crash() {
    for seed in 0..SEEDS {
        let disk = disk_with("file", &[1; 10_000]);
        disk.crash(seed);
        assert_eq!(disk.content(&path("file")), [1; 10_000], "seed {seed}");
    }
}

#[test]
fn crashes_keep_all_none_or_some_sectors_of_a_write() {
    let (mut all, mut none, mut some) = (0, 0, 0);
    for seed in 0..SEEDS {
        let disk = disk_with("file", &[0; 16_384]);
        write(&disk, "file", &[1; 16_384], 0);
        disk.crash(seed);
        let content = disk.content(&path("file"));
        assert_eq!(content.len(), 16_384);
        for sector in content.chunks(512) {
            assert!(sector.iter().all(|byte| *byte == sector[0]), "seed {seed}: a sector is torn");
        }
        match content.iter().map(|byte| usize::from(*byte)).sum() {
            0 => none += 1,
            16_384 => all += 1,
            _ => some += 1,
        }
    }
    assert!(all > 10 && none > 10 && some > 10, "{all} all, {none} none, {some} some");
}

#[test]
fn a_crash_may_keep_a_later_write_and_lose_an_earlier() {
    let reordered = (0..SEEDS).any(|seed| {
        let disk = disk_with("file", &[0; 8192]);
        write(&disk, "file", &[1; 4096], 0);
        write(&disk, "file", &[2; 4096], 4096);
        disk.crash(seed);
        let content = disk.content(&path("file"));
        content[0] == 0 && content[4096] == 2
    });
    assert!(reordered);
}

#[test]
fn length_and_bytes_of_an_append_survive_apart() {
    let mut outcomes = std::collections::BTreeSet::new();
    for seed in 0..SEEDS {
        let disk = disk_with("file", &[1; 4096]);
        write(&disk, "file", &[2; 4096], 4096);
        disk.crash(seed);
        let content = disk.content(&path("file"));
        outcomes.insert((content.len(), content.last().copied()));
    }
    assert!(outcomes.contains(&(4096, Some(1))), "the append is lost");
    assert!(outcomes.contains(&(8192, Some(0))), "the length is kept, the bytes are lost");
    assert!(outcomes.contains(&(8192, Some(2))), "all is kept");
}

#[test]
fn names_are_durable_only_with_their_directory() {
    let (mut kept, mut lost) = (0, 0);
    for seed in 0..SEEDS {
        let disk = disk();
        disk.create(&path("file"), Mode::Write, 0).unwrap().sync_data().unwrap();
        disk.crash(seed);
        if names(&disk).is_empty() { lost += 1 } else { kept += 1 }
    }
    assert!(kept > 10 && lost > 10, "{kept} kept, {lost} lost");
}

#[test]
fn a_rename_without_sync_leaves_the_old_or_the_new_file() {
    let mut contents = std::collections::BTreeSet::new();
    for seed in 0..SEEDS {
        let disk = disk_with("file", b"old");
        let file = disk.create(&path("file.new"), Mode::Write, 0).unwrap();
        file.write_all_at(&[IoSlice::new(b"new")], 0).unwrap();
        file.sync_data().unwrap();
        disk.rename(&path("file.new"), &path("file")).unwrap();
        disk.crash(seed);
        contents.insert(disk.content(&path("file")));
    }
    assert_eq!(contents.into_iter().collect::<Vec<_>>(), [b"new".to_vec(), b"old".to_vec()]);
}

#[test]
fn an_unlink_without_sync_may_be_undone() {
    let mut outcomes = std::collections::BTreeSet::new();
    for seed in 0..SEEDS {
        let disk = disk_with("file", b"old");
        disk.remove(&path("file")).unwrap();
        assert!(names(&disk).is_empty());
        disk.crash(seed);
        outcomes.insert(names(&disk));
    }
    assert_eq!(outcomes.len(), 2);
}

#[test]
fn a_failed_sync_loses_the_bytes_but_still_shows_them() {
    let disk = disk_with("file", b"old");
    let file = write(&disk, "file", b"new", 0);
    disk.plan(Fault::next(Operation::Sync));
    assert!(file.sync_data().is_err());
    file.sync_data().expect("the second sync has nothing left to fail with");
    assert_eq!(disk.content(&path("file")), b"new");

    file.drop_cache().unwrap();
    assert_eq!(disk.content(&path("file")), b"old");
}

#[test]
fn dropping_the_cache_keeps_what_waits_to_be_written() {
    let disk = disk_with("file", b"old");
    let file = write(&disk, "file", b"new", 0);
    file.drop_cache().unwrap();
    assert_eq!(disk.content(&path("file")), b"new");
}

#[test]
fn a_killed_program_loses_its_handles_and_nothing_else() {
    let disk = disk_with("file", b"old");
    let file = write(&disk, "file", b"new", 0);
    let lock = disk.lock(&directory()).unwrap();
    disk.kill();
    assert!(file.sync_data().is_err());
    assert_eq!(disk.content(&path("file")), b"new");
    let again = disk.lock(&directory()).unwrap();
    assert!(again.is_some());
    drop(lock);
    assert!(disk.lock(&directory()).unwrap().is_none(), "an old lock releases nothing");
}

#[test]
fn planned_failures_come_when_and_where_they_should() {
    let disk = disk_with("file", b"abc");
    disk.plan(Fault::next(Operation::Write).on("other"));
    disk.plan(Fault {
        kind: ErrorKind::StorageFull,
        written_before: 2,
        ..Fault::next(Operation::Write).after(1)
    });
    let file = write(&disk, "file", b"x", 0);
    let error = file.write_all_at(&[IoSlice::new(b"yyy")], 0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    assert_eq!(disk.content(&path("file")), b"yyc");
    file.write_all_at(&[IoSlice::new(b"zzz")], 0).unwrap();
}

#[test]
fn a_full_disk_takes_no_more_and_recovers_when_space_is_freed() {
    let disk = disk_with("file", &[1; 6000]);
    disk.set_capacity(Some(10_000));
    let created = disk.create(&path("other"), Mode::Write, 5000).unwrap_err();
    assert_eq!(created.kind(), ErrorKind::StorageFull);
    disk.remove(&path("other")).unwrap();
    write(&disk, "file", &[2; 6000], 0);
    let grown = disk.open(&path("file"), Mode::Write).unwrap().set_length(10_001).unwrap_err();
    assert_eq!(grown.kind(), ErrorKind::StorageFull);
    disk.remove(&path("file")).unwrap();
    disk.sync_directory(&directory()).unwrap();
    assert_eq!(disk.free_bytes(&directory()).unwrap(), 10_000);
}

#[test]
fn a_halted_machine_does_nothing_more() {
    let disk = disk_with("file", b"old");
    disk.halt_after(1);
    let file = write(&disk, "file", b"new", 0);
    assert!(disk.is_halted());
    assert!(file.sync_data().is_err());
    assert!(file.read_exact_at(&mut [0; 3], 0).is_err());
    disk.kill();
    assert_eq!(disk.content(&path("file")), b"new");
}

#[test]
fn reserved_space_costs_nothing_and_reads_as_zeros() {
    let disk = disk();
    let file = disk.create(&path("large"), Mode::Write, 1 << 40).unwrap();
    let mut read = [1; 100];
    file.read_exact_at(&mut read, (1 << 40) - 100).unwrap();
    assert_eq!(read, [0; 100]);
    assert_eq!(file.read_exact_at(&mut read, (1 << 40) - 99).unwrap_err().kind(), ErrorKind::UnexpectedEof);
}

#[test]
fn rot_changes_what_is_read_now_and_later() {
    let disk = disk_with("file", &[0xff; 100]);
    disk.flip(&path("file"), 3, 0x81);
    disk.zero(&path("file"), 10..20);
    disk.cut(&path("file"), 50);
    let content = disk.content(&path("file"));
    assert_eq!((content.len(), content[3], content[9], content[10], content[20]), (50, 0x7e, 0xff, 0, 0xff));
    disk.crash(1);
    assert_eq!(disk.content(&path("file")), content);
}

#[test]
fn direct_writes_must_be_aligned() {
    let disk = disk();
    let file = disk.create(&path("direct"), Mode::WriteDirect, 1 << 20).unwrap();
    let mut buffer = AlignedBuffer::new(8192);
    buffer.fill(&[1; 8192]);
    file.write_all_at(&[IoSlice::new(buffer.filled())], 4096).unwrap();
    for (slice, position) in
        [(buffer.filled(), 512), (&buffer.filled()[..100], 0), (&buffer.filled()[8..4104], 0)]
    {
        let error = file.write_all_at(&[IoSlice::new(slice)], position).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
}

#[test]
fn a_lost_directory_takes_its_files_with_it() {
    let lost = (0..SEEDS).any(|seed| {
        let disk = SimDisk::new();
        disk.create_directory(&path("deep/deeper")).unwrap();
        let inside = path("deep/deeper/file");
        disk.create(&inside, Mode::Write, 0).unwrap().sync_data().unwrap();
        disk.sync_directory(&path("deep/deeper")).unwrap();
        disk.crash(seed);
        disk.open(&inside, Mode::Read).is_err()
    });
    assert!(lost);
}

#[test]
fn the_same_seed_does_the_same() {
    let content = |seed| {
        let disk = disk_with("file", &[0; 100_000]);
        write(&disk, "file", &[1; 100_000], 0);
        disk.crash(seed);
        disk.content(&path("file"))
    };
    for seed in 0..20 {
        assert!(content(seed) == content(seed), "seed {seed}");
    }
}
