use std::collections::BTreeMap;

use super::*;
use crate::disk::sim::{Fault, Operation};

#[test]
fn a_commit_is_one_sync_and_is_replayed_in_order() {
    let disk = disk();
    let mut journal = journal(&disk);
    let mut written = appends(0, &[10, 2000, 0, 900, 5000]);
    let syncs = disk.syncs();
    let committed = journal.commit(&mut written).unwrap();
    assert_eq!(disk.syncs(), syncs + 1);
    assert_eq!(committed, Committed { end: journal.end(), written: 5, bytes: 12 << 10 });
    assert_eq!(journal.durable_end(), journal.end());

    disk.crash(3);
    let mut replay = replay(&disk, from(1, JournalPosition::ZERO)).unwrap();
    assert_eq!(frames(&mut replay), written);
    assert_eq!((replay.end(), replay.tail()), (committed.end, &Tail::Clean));
}

#[test]
fn control_frames_go_first_and_data_keeps_its_order() {
    let disk = disk();
    let mut journal = journal(&disk);
    let data = appends(0, &[10, 20]);
    let mut frames = vec![data[0].clone(), trim(0, 1), data[1].clone(), trim(0, 2)];
    journal.commit(&mut frames).unwrap();
    let expected = vec![trim(0, 1), trim(0, 2), data[0].clone(), data[1].clone()];
    assert_eq!(frames, expected);
    let mut replay = replay(&disk, from(1, JournalPosition::ZERO)).unwrap();
    assert_eq!(super::frames(&mut replay), expected);
}

#[test]
fn nothing_to_commit_changes_nothing() {
    let disk = disk();
    let mut journal = journal(&disk);
    let changes = disk.changes();
    let committed = journal.commit(&mut []).unwrap();
    assert_eq!(committed, Committed { end: JournalPosition::ZERO, written: 0, bytes: 0 });
    assert_eq!(disk.changes(), changes);
}

#[test]
fn every_block_starts_on_a_page_of_its_own() {
    let disk = disk();
    let mut journal = journal(&disk);
    for offset in 0..5 {
        let before = disk.content(&ring_file(0));
        let start = journal.end();
        assert_eq!(start.get() % 4096, 0);
        journal.commit(&mut appends(offset, &[usize::try_from(offset).unwrap() * 3000])).unwrap();
        let after = disk.content(&ring_file(0));
        let start = usize::try_from(start.get()).unwrap() + 4096;
        assert!(before[..start] == after[..start], "a page of an earlier block was written again");
    }
}

#[test]
fn a_full_journal_takes_no_data_but_control_frames_until_it_is_released() {
    let disk = disk();
    let options = JournalOptions { files_max: 3, ..tiny() };
    let mut journal = Journal::create(disk.clone(), &directory(), identity(1), options).unwrap();
    prepare(&mut journal);
    let mut data = appends(0, &[7000; 40]);
    let first = journal.commit(&mut data).unwrap();
    assert!(first.written > 20 && first.written < 28, "{first:?}");
    let (end, changes) = (journal.end(), disk.changes());
    assert!(matches!(journal.commit(&mut data[first.written..]), Err(JournalError::Full)));
    assert_eq!((journal.end(), disk.changes()), (end, changes), "a refused commit writes nothing");
    assert!(journal.room() < 12 << 10);

    let mut control = vec![trim(0, 5)];
    for _ in 0..4 {
        assert_eq!(journal.commit(&mut control).unwrap().written, 1);
    }
    let mut mixed = vec![data[0].clone(), trim(0, 9)];
    let last = journal.commit(&mut mixed).unwrap_err();
    assert!(matches!(last, JournalError::Full), "the reserve is used up: {last}");

    let released = JournalPosition::new((64 << 10) - 4096);
    journal.release(released);
    let again = journal.commit(&mut data[first.written..]).unwrap();
    assert!(again.written >= 5, "{again:?}");

    let mut replay = replay(&disk, from(1, released)).unwrap();
    let replayed = frames(&mut replay);
    let tail = &data[first.written..first.written + again.written];
    assert!(replayed.ends_with(tail));
    assert_eq!(replayed.iter().filter(|frame| frame.is_control()).count(), 4);
}

#[test]
fn as_many_frames_as_fit_are_taken_from_the_front() {
    let disk = disk();
    let mut journal = journal(&disk);
    let mut data = appends(0, &[30_000; 10]);
    let committed = journal.commit(&mut data).unwrap();
    assert!(committed.written >= 2 && committed.written < 10, "{committed:?}");
    let mut replay = replay(&disk, from(1, JournalPosition::ZERO)).unwrap();
    assert_eq!(frames(&mut replay), data[..committed.written]);
}

#[test]
fn a_frame_that_fits_no_file_is_refused_for_ever() {
    let disk = disk();
    let mut journal = journal(&disk);
    let error = journal.commit(&mut appends(0, &[61_300])).unwrap_err();
    assert!(matches!(error, JournalError::TooLarge { max: 61_368, .. }), "{error}");
    assert!(!error.is_retryable());
    journal.commit(&mut appends(0, &[60_000])).unwrap();
}

#[test]
fn a_frame_larger_than_a_block_is_a_block_of_its_own() {
    let disk = disk();
    let options = JournalOptions { file_bytes: 8 << 20, ..JournalOptions::default() };
    let mut journal = Journal::create(disk.clone(), &directory(), identity(1), options).unwrap();
    let mut data = appends(0, &[1 << 20, 3 << 20, 900_000, 900_000, 900_000]);
    assert_eq!(journal.commit(&mut data).unwrap().written, 5);
    let mut replay = replay(&disk, from(1, JournalPosition::ZERO)).unwrap();
    let mut blocks = Vec::new();
    while let Some((frames, _)) = replay.next_block().unwrap() {
        blocks.push(frames.len());
    }
    assert_eq!(blocks, [1, 1, 2, 1]);
}

#[test]
fn a_block_that_does_not_fit_the_rest_of_a_file_starts_the_next() {
    let disk = disk();
    let mut journal = journal(&disk);
    let mut all = Vec::new();
    for offset in 0..4 {
        let mut data = appends(offset, &[40_000]);
        let start = journal.end();
        let syncs = disk.syncs();
        let committed = journal.commit(&mut data);
        if offset == 3 {
            assert!(matches!(committed, Err(JournalError::Full)));
            break;
        }
        assert!(
            disk.syncs() - syncs <= 3,
            "the block, and perhaps the header of the next file and the link to it"
        );
        assert!(offset == 0 || committed.unwrap().bytes > 40 << 10, "the rest of the file counts");
        assert!(journal.end() > start);
        all.append(&mut data);
    }
    let mut replay = replay(&disk, from(1, JournalPosition::ZERO)).unwrap();
    assert_eq!(frames(&mut replay), all);
    assert_eq!(replay.tail(), &Tail::Clean);
}

#[test]
fn files_are_reused_round_after_round() {
    let disk = disk();
    let mut journal = journal(&disk);
    let mut kept: BTreeMap<JournalPosition, Frame> = BTreeMap::new();
    let mut applied = JournalPosition::ZERO;
    for offset in 0..300 {
        let length = usize::try_from(offset % 7).unwrap() * 1500;
        let mut data = appends(offset, &[length]);
        let committed = journal.commit(&mut data).unwrap();
        kept.insert(committed.end, data.remove(0));
        if offset % 10 == 9 {
            applied = journal.end();
            kept.clear();
            journal.release(applied);
        }
        if offset % 17 == 0 {
            let mut replay = replay(&disk, from(1, applied)).unwrap();
            assert_eq!(frames(&mut replay), kept.values().cloned().collect::<Vec<_>>());
        }
    }
    assert!(journal.end().get() > 8 * 3 * (64 << 10), "the ring went round: {}", journal.end());
    assert_eq!(disk.list(&directory()).unwrap().len(), 3);
}

#[test]
fn written_frames_become_durable_with_the_next_sync() {
    let disk = disk();
    let mut journal = journal(&disk);
    let mut data = appends(0, &[40_000]);
    journal.write(&mut data).unwrap();
    journal.write(&mut appends(1, &[40_000])).unwrap();
    assert_eq!(journal.durable_end(), JournalPosition::ZERO);
    let syncs = disk.syncs();
    assert_eq!(journal.sync().unwrap(), journal.end());
    assert_eq!(disk.syncs(), syncs + 2, "both files that were written to");
    journal.sync().unwrap();
    assert_eq!(disk.syncs(), syncs + 2, "nothing is left to sync");
    disk.crash(0);
    assert_eq!(frames(&mut replay(&disk, from(1, JournalPosition::ZERO)).unwrap()).len(), 2);
}

#[test]
fn a_failed_write_or_sync_poisons_the_journal() {
    for operation in [Operation::Write, Operation::Sync] {
        let disk = disk();
        let mut journal = journal(&disk);
        let mut first = appends(0, &[100]);
        journal.commit(&mut first).unwrap();
        disk.plan(Fault::next(operation));
        let error = journal.commit(&mut appends(1, &[9000])).unwrap_err();
        assert!(matches!(error, JournalError::Disk(_)), "{error}");
        assert!(matches!(journal.commit(&mut first), Err(JournalError::Poisoned)));
        assert!(matches!(journal.sync(), Err(JournalError::Poisoned)));
        assert!(matches!(journal.mark_idle(), Err(JournalError::Poisoned)));
        assert!(matches!(journal.prepare_spare(), Err(JournalError::Poisoned)));

        // The system still shows what the failed sync lost; a replay does not believe it.
        disk.kill();
        let mut replay = replay(&disk, from(1, JournalPosition::ZERO)).unwrap();
        assert_eq!(frames(&mut replay), first, "{operation:?}");
    }
}

#[test]
fn a_ring_grows_when_it_is_nearly_full_and_only_to_its_bound() {
    let disk = disk();
    let mut journal = journal(&disk);
    assert_eq!(disk.list(&directory()).unwrap().len(), 3);
    let mut data = appends(0, &[7000; 20]);
    assert_eq!(journal.commit(&mut data).unwrap().written, 20);
    prepare(&mut journal);
    assert_eq!(disk.list(&directory()).unwrap().len(), 4);
    while journal.commit(&mut data).is_ok() {}
    prepare(&mut journal);
    assert!(matches!(journal.commit(&mut data), Err(JournalError::Full)));
    assert_eq!(disk.list(&directory()).unwrap().len(), 4);
}

#[test]
fn a_full_disk_stops_only_the_growth_of_the_ring() {
    let disk = disk();
    let mut journal = Journal::create(disk.clone(), &directory(), identity(1), tiny()).unwrap();
    disk.set_capacity(Some(disk.used_bytes() + 1000));
    while journal.prepare_spare().unwrap() != Prepared::DiskFull {}
    assert_eq!(disk.list(&directory()).unwrap().len(), 1, "what was begun is taken back");
    journal.commit(&mut appends(0, &[7000])).unwrap();
    disk.set_capacity(None);
    prepare(&mut journal);
    assert_eq!(disk.list(&directory()).unwrap().len(), 3);
}

#[test]
fn another_failure_while_preparing_is_final() {
    let disk = disk();
    let mut journal = Journal::create(disk.clone(), &directory(), identity(1), tiny()).unwrap();
    journal.prepare_spare().unwrap();
    disk.plan(Fault::next(Operation::Sync));
    assert!(matches!(journal.prepare_spare(), Err(JournalError::Disk(_))));
    assert!(matches!(journal.commit(&mut appends(0, &[1])), Err(JournalError::Poisoned)));
}

#[test]
fn the_next_file_has_its_place_before_it_is_needed() {
    let disk = disk();
    let mut journal = journal(&disk);
    journal.commit(&mut appends(0, &[7000; 6])).unwrap();
    prepare(&mut journal);
    let syncs = disk.syncs();
    journal.commit(&mut appends(6, &[20_000])).unwrap();
    assert!(journal.end().get() > 64 << 10);
    assert_eq!(disk.syncs(), syncs + 1, "no header had to be synced");
}

#[test]
fn a_mark_is_written_once_and_is_no_frame() {
    let disk = disk();
    let mut journal = journal(&disk);
    journal.mark_idle().unwrap();
    assert_eq!(journal.end(), JournalPosition::ZERO, "an empty journal proves nothing");
    let mut data = appends(0, &[100]);
    journal.commit(&mut data).unwrap();
    journal.mark_idle().unwrap();
    let end = journal.end();
    assert_eq!((end.get(), journal.durable_end()), (8192, end));
    journal.mark_idle().unwrap();
    assert_eq!(journal.end(), end);
    assert_eq!(frames(&mut replay(&disk, from(1, JournalPosition::ZERO)).unwrap()), data);
}

#[test]
fn marks_leave_the_reserve_to_control_frames() {
    let disk = disk();
    let options = JournalOptions { files_max: 3, ..tiny() };
    let mut journal = Journal::create(disk, &directory(), identity(1), options).unwrap();
    prepare(&mut journal);
    let mut marks = 0;
    loop {
        let before = journal.end();
        let mut control = vec![trim(0, 1)];
        if journal.commit(&mut control).is_err() {
            break;
        }
        let committed = journal.end();
        journal.mark_idle().unwrap();
        marks += usize::from(journal.end() > committed);
        assert!(journal.end() > before);
    }
    // 45 blocks in all: of the last four, which are the reserve, at least half are control frames.
    assert_eq!(journal.end().get(), 3 * (60 << 10));
    assert_eq!(marks, 21);
}

#[test]
fn release_keeps_the_file_that_is_written_to() {
    let disk = disk();
    let mut journal = journal(&disk);
    // One block that fills the file to its end.
    journal.commit(&mut appends(0, &[61_000 - 32 - 72])).unwrap();
    let end = journal.end();
    assert_eq!(end.get(), 60 << 10);
    journal.release(end);
    let of_crash = replay(&disk, from(1, end)).unwrap();
    assert_eq!((of_crash.end(), of_crash.restart()), (end, end));

    // Not even when the next file has its place already.
    prepare(&mut journal);
    journal.release(end);
    let mut data = appends(1, &[100]);
    journal.commit(&mut data).unwrap();
    journal.release(end);
    disk.crash(0);
    assert_eq!(frames(&mut replay(&disk, from(1, end)).unwrap()), data);
}
