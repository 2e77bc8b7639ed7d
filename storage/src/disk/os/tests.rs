use std::cell::RefCell;

use super::*;
use crate::disk::AlignedBuffer;

/// Writes into memory as a system would that takes at most `take` bytes a call and is interrupted at each third call.
fn written_by(slices: &[IoSlice<'_>], bytes_max: usize, take: usize) -> Vec<u8> {
    let memory = RefCell::new(Vec::new());
    let calls = RefCell::new(0);
    write_all_at(slices, 0, bytes_max, |slices, position| {
        *calls.borrow_mut() += 1;
        if *calls.borrow() % 3 == 0 {
            return Err(ErrorKind::Interrupted.into());
        }
        assert!(slices.len() <= WRITE_SLICES_MAX);
        let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        assert!(bytes.len() <= bytes_max);
        assert_eq!(position, memory.borrow().len() as u64);
        let taken = bytes.len().min(take);
        memory.borrow_mut().extend_from_slice(&bytes[..taken]);
        Ok(taken)
    })
    .unwrap();
    memory.into_inner()
}

#[test]
fn short_and_interrupted_writes_are_continued() {
    let bytes: Vec<u8> = (0..=255).cycle().take(10_000).collect();
    let pieces: Vec<IoSlice<'_>> = bytes.chunks(37).map(IoSlice::new).collect();
    for (bytes_max, take) in [(10_000, 10_000), (100, 100), (64, 7), (1, 1), (4096, 4095)] {
        assert_eq!(written_by(&pieces, bytes_max, take), bytes, "{bytes_max} a call, {take} taken");
    }
}

#[test]
fn more_slices_than_the_system_takes_are_cut() {
    let bytes: Vec<u8> = (0..=255).cycle().take(5000).collect();
    let pieces: Vec<IoSlice<'_>> = bytes.chunks(1).map(IoSlice::new).collect();
    assert_eq!(written_by(&pieces, 1 << 20, 1 << 20), bytes);
}

#[test]
fn empty_slices_are_no_end() {
    let pieces = [IoSlice::new(b""), IoSlice::new(b"ab"), IoSlice::new(b""), IoSlice::new(b"c")];
    assert_eq!(written_by(&pieces, 2, 2), b"abc");
}

#[test]
fn no_progress_is_an_error() {
    let error = write_all_at(&[IoSlice::new(b"x")], 0, 10, |_, _| Ok(0)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WriteZero);
}

#[test]
fn files_keep_what_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    let disk = OsDisk;
    let file = disk.create(&path, Mode::Write, 8192).unwrap();
    assert_eq!(file.length().unwrap(), 8192);
    file.write_all_at(&[IoSlice::new(b"hello"), IoSlice::new(b" world")], 4000).unwrap();
    file.sync_data().unwrap();
    file.drop_cache().unwrap();

    let mut read = [0; 11];
    disk.open(&path, Mode::Read).unwrap().read_exact_at(&mut read, 4000).unwrap();
    assert_eq!(&read, b"hello world");
    assert_eq!(&disk.map(&path).unwrap()[4000..4011], b"hello world");
    assert_eq!(disk.create(&path, Mode::Write, 0).unwrap_err().kind(), ErrorKind::AlreadyExists);
    let beyond = disk.open(&path, Mode::Read).unwrap().read_exact_at(&mut read, 8190).unwrap_err();
    assert_eq!(beyond.kind(), ErrorKind::UnexpectedEof);
    assert!(disk.free_bytes(directory.path()).unwrap() > 0);
}

#[test]
fn names_move_and_are_listed_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let disk = OsDisk;
    for name in ["b", "a.new"] {
        drop(disk.create(&path(name), Mode::Write, 10).unwrap());
    }
    disk.rename(&path("a.new"), &path("a")).unwrap();
    disk.link(&path("a"), &path("c")).unwrap();
    disk.create_directory(&path("deep/deeper")).unwrap();
    disk.create_directory(&path("deep/deeper")).unwrap();
    disk.sync_directory(directory.path()).unwrap();
    let names = |disk: OsDisk| -> Vec<String> {
        disk.list(directory.path()).unwrap().into_iter().map(|entry| entry.name).collect()
    };
    assert_eq!(names(disk), ["a", "b", "c"]);
    disk.remove(&path("b")).unwrap();
    assert_eq!(names(disk), ["a", "c"]);
    assert_eq!(disk.remove(&path("b")).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn direct_writes_of_aligned_blocks_can_be_read_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("direct");
    let disk = OsDisk;
    let file = disk.create(&path, Mode::WriteDirect, 4 << 20).unwrap();
    let mut buffer = AlignedBuffer::new(3 << 20);
    let bytes: Vec<u8> = (0..=250).cycle().take((3 << 20) - 100).collect();
    buffer.fill(&bytes);
    buffer.pad();
    file.write_all_at(&[IoSlice::new(buffer.filled())], 4096).unwrap();
    file.sync_data().unwrap();
    let mut read = vec![0; bytes.len()];
    disk.open(&path, Mode::Read).unwrap().read_exact_at(&mut read, 4096).unwrap();
    assert!(read == bytes);
}

#[test]
fn a_directory_is_locked_once() {
    let directory = tempfile::tempdir().unwrap();
    let lock = OsDisk.lock(directory.path()).unwrap();
    assert!(lock.is_some());
    assert!(OsDisk.lock(directory.path()).unwrap().is_none());
    drop(lock);
    assert!(OsDisk.lock(directory.path()).unwrap().is_some());
}

#[test]
fn an_empty_file_maps_to_no_bytes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("empty");
    drop(OsDisk.create(&path, Mode::Write, 0).unwrap());
    assert!(OsDisk.map(&path).unwrap().is_empty());
}

#[test]
fn looking_for_a_lock_makes_none_but_meets_one() {
    let directory = tempfile::tempdir().unwrap();
    let missing = OsDisk.lock_existing(&directory.path().join("missing")).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);

    let nobody = OsDisk.lock_existing(directory.path()).unwrap();
    assert!(nobody.is_some());
    assert_eq!(directory.path().read_dir().unwrap().count(), 0);

    let lock = OsDisk.lock(directory.path()).unwrap();
    assert!(lock.is_some());
    assert!(OsDisk.lock_existing(directory.path()).unwrap().is_none());
    drop(lock);
    let looked = OsDisk.lock_existing(directory.path()).unwrap();
    assert!(looked.is_some());
    assert!(OsDisk.lock(directory.path()).unwrap().is_none());
}
