use super::*;
use crate::disk::sim::{Fault, Operation};
use crate::disk::{File, Mode, OsDisk};

/// What a start does after a replay: everything is durable elsewhere, and the journal goes on.
fn resume(disk: &SimDisk, incarnation: u64, applied: JournalPosition) -> (Vec<Frame>, Journal<SimDisk>) {
    let mut replay = replay(disk, from(incarnation, applied)).unwrap();
    let replayed = frames(&mut replay);
    let journal = Journal::resume(replay, Incarnation::new(incarnation + 1), tiny()).unwrap();
    (replayed, journal)
}

#[test]
fn a_journal_goes_on_behind_its_old_end_in_another_file() {
    let disk = disk();
    let mut first = journal(&disk);
    first.commit(&mut appends(0, &[100])).unwrap();
    disk.kill();
    let (replayed, mut second) = resume(&disk, 1, JournalPosition::ZERO);
    assert_eq!(replayed, appends(0, &[100]));
    let start = second.end();
    assert_eq!(start.get(), 60 << 10);
    assert_eq!(second.identity(), identity(2));

    let mut data = appends(1, &[100, 200]);
    second.commit(&mut data).unwrap();
    disk.crash(5);
    let mut replay = replay(&disk, from(2, start)).unwrap();
    assert_eq!(frames(&mut replay), data);
}

#[test]
fn starts_without_any_write_come_to_no_harm() {
    let disk = disk();
    drop(journal(&disk));
    let mut applied = JournalPosition::ZERO;
    for incarnation in 1..20 {
        disk.crash(incarnation);
        let (replayed, mut journal) = resume(&disk, incarnation, applied);
        assert!(replayed.is_empty());
        applied = journal.end();
        if incarnation % 3 == 0 {
            prepare(&mut journal);
        }
    }
    assert!(disk.list(&directory()).unwrap().len() <= 4);
}

#[test]
fn a_start_that_died_before_the_journal_went_on_is_repeated() {
    let disk = disk();
    let mut first = journal(&disk);
    first.commit(&mut appends(0, &[100])).unwrap();
    disk.crash(1);
    let restart = replay(&disk, from(1, JournalPosition::ZERO)).unwrap().restart();
    // The checkpoint already names the next incarnation, but nothing was written to the journal.
    disk.crash(2);
    let (replayed, mut journal) = resume(&disk, 2, restart);
    assert!(replayed.is_empty());
    journal.commit(&mut appends(1, &[100])).unwrap();
}

#[test]
fn unsynced_blocks_are_a_torn_tail_that_is_kept() {
    let mut torn = 0;
    for seed in 0..100 {
        let disk = disk();
        let mut journal = journal(&disk);
        let mut kept = appends(0, &[100, 6000]);
        journal.commit(&mut kept).unwrap();
        let durable = journal.end();
        let mut lost = appends(2, &[6000, 20_000, 50_000]);
        for frame in &mut lost {
            journal.write(std::slice::from_mut(frame)).unwrap();
        }
        disk.crash(seed);

        let mut replay = replay(&disk, from(1, JournalPosition::ZERO)).unwrap();
        let replayed = frames(&mut replay);
        assert!(replayed.starts_with(&kept), "seed {seed}");
        assert!(replayed[2..] == lost[..replayed.len() - 2], "seed {seed}");
        let aside = replay.set_aside(&quarantine()).unwrap();
        match replay.tail() {
            Tail::Clean => assert_eq!(aside, None),
            Tail::Torn { positions } => {
                torn += 1;
                let path = aside.unwrap();
                assert_eq!(
                    path,
                    quarantine().join(format!("journal-0000000001-{:020}.torn", positions.start.get()))
                );
                assert!(positions.start >= durable);
                disk.crash(seed);
                assert_eq!(disk.content(&path).len() as u64, positions.end.since(positions.start));
            }
        }
    }
    assert!(torn > 20, "{torn}");
}

#[test]
fn a_torn_tail_can_be_set_aside_again() {
    let disk = disk();
    let mut journal = journal(&disk);
    journal.commit(&mut appends(0, &[100])).unwrap();
    disk.flip(&ring_file(0), 4096 + 60, 1);
    let replay = replay(&disk, from(1, JournalPosition::ZERO)).unwrap();
    assert!(
        matches!(replay.tail(), Tail::Torn { .. }),
        "the header is damaged, and nothing proves that it counted"
    );
    disk.create_directory(&quarantine()).unwrap();
    let first = replay.set_aside(&quarantine()).unwrap().unwrap();
    let second = replay.set_aside(&quarantine()).unwrap().unwrap();
    assert_eq!(first, second);
    // The length that the header says is not believed: the rest of the file is kept.
    assert!(disk.content(&first) == disk.content(&ring_file(0))[4096..]);
}

#[test]
fn a_discarded_tail_never_comes_back() {
    let disk = disk();
    let mut first = journal(&disk);
    first.commit(&mut appends(0, &[100])).unwrap();
    first.write(&mut appends(1, &[100])).unwrap();
    first.write(&mut appends(2, &[100])).unwrap();
    // The second block is lost, the third is on the disk.
    first.sync().unwrap();
    disk.zero(&ring_file(0), 8192..12_288);
    disk.kill();
    let mut replay = replay(&disk, from(1, JournalPosition::ZERO)).unwrap();
    assert_eq!(frames(&mut replay), appends(0, &[100]));
    let restart = replay.restart();
    let mut second = Journal::resume(replay, Incarnation::new(2), tiny()).unwrap();
    for offset in 10..60 {
        let mut data = appends(offset, &[100]);
        second.commit(&mut data).unwrap();
        second.release(second.end());
        let mut replay = super::replay(&disk, from(2, restart.max(second.end()))).unwrap();
        assert!(frames(&mut replay).is_empty());
        assert_eq!(replay.tail(), &Tail::Clean);
    }
}

#[test]
fn a_first_start_can_die_anywhere() {
    for halt in 0..200 {
        let disk = disk();
        disk.halt_after(halt);
        let created = Journal::create(disk.clone(), &directory(), identity(1), tiny());
        let finished = created.is_ok();
        disk.crash(halt);
        let mut journal = Journal::create(disk.clone(), &directory(), identity(2), tiny()).unwrap();
        journal.commit(&mut appends(0, &[100])).unwrap();
        disk.crash(halt);
        let mut replay = replay(&disk, from(2, JournalPosition::ZERO)).unwrap();
        assert_eq!(frames(&mut replay), appends(0, &[100]), "halt {halt}");
        if finished {
            assert!(halt > 5);
            return;
        }
    }
    panic!("a first start takes few steps");
}

#[test]
fn a_journal_is_never_made_over_another() {
    let disk = disk();
    journal(&disk).commit(&mut appends(0, &[100])).unwrap();
    disk.kill();
    let error = Journal::create(disk.clone(), &directory(), identity(2), tiny()).unwrap_err();
    assert!(matches!(error, JournalError::Exists { .. }), "{error}");
    assert_eq!(frames(&mut replay(&disk, from(1, JournalPosition::ZERO)).unwrap()).len(), 1);
}

#[test]
fn other_options_take_over_the_files_they_can_use() {
    let disk = disk();
    let mut first = journal(&disk);
    first.commit(&mut appends(0, &[100])).unwrap();
    disk.kill();
    let mut replay = replay(&disk, from(1, JournalPosition::ZERO)).unwrap();
    assert_eq!(frames(&mut replay).len(), 1);
    let larger = JournalOptions { file_bytes: 256 << 10, ..tiny() };
    let mut journal = Journal::resume(replay, Incarnation::new(2), larger).unwrap();
    let start = journal.end();
    let mut data = appends(1, &[100_000]);
    journal.commit(&mut data).unwrap();
    disk.kill();
    let mut replay = super::replay(&disk, from(2, start)).unwrap();
    assert_eq!(frames(&mut replay), data);
    let mut smaller = Journal::resume(replay, Incarnation::new(3), tiny()).unwrap();
    let start = smaller.end();
    let mut data = appends(2, &[10_000; 4]);
    smaller.commit(&mut data).unwrap();
    disk.kill();
    assert_eq!(frames(&mut super::replay(&disk, from(3, start)).unwrap()), data);
}

#[test]
fn a_full_disk_does_not_keep_a_journal_from_going_on() {
    let disk = disk();
    let mut first = journal(&disk);
    first.commit(&mut appends(0, &[100])).unwrap();
    disk.kill();
    disk.set_capacity(Some(disk.used_bytes()));
    let (_, mut second) = resume(&disk, 1, JournalPosition::ZERO);
    second.commit(&mut appends(1, &[100])).unwrap();
}

#[test]
fn sequences_of_virtual_shards_rise_by_one_in_each_incarnation() {
    let disk = disk();
    let mut first = journal(&disk);
    first.commit(&mut appends(0, &[1, 2, 3])).unwrap();
    disk.kill();
    let mut replay = replay(&disk, from(1, JournalPosition::ZERO)).unwrap();
    let (frames, _) = replay.next_block().unwrap().unwrap();
    assert_eq!(frames.iter().map(|read| read.sequence.get()).collect::<Vec<_>>(), [0, 1, 2]);
    let (_, mut second) = resume(&disk, 1, JournalPosition::ZERO);
    let start = second.end();
    second.commit(&mut appends(3, &[4])).unwrap();
    let mut replay = super::replay(&disk, from(2, start)).unwrap();
    let (frames, _) = replay.next_block().unwrap().unwrap();
    assert_eq!(frames[0].sequence.get(), 0);
}

#[test]
fn a_journal_of_the_operating_system_is_written_and_replayed() {
    let data = tempfile::tempdir().unwrap();
    let directory = data.path().join("journal");
    let options = JournalOptions { file_bytes: 4 << 20, ..JournalOptions::default() };
    let mut journal = Journal::create(OsDisk, &directory, identity(1), options).unwrap();
    prepare(&mut journal);
    let mut data_frames = appends(0, &[10_000; 100]);
    data_frames.push(trim(0, 3));
    for _ in 0..5 {
        assert_eq!(journal.commit(&mut data_frames).unwrap().written, 101);
    }
    journal.mark_idle().unwrap();
    drop(journal);

    let open = |from| Replay::open(OsDisk, &directory, from);
    let mut replay = open(from(1, JournalPosition::ZERO)).unwrap();
    let replayed = frames(&mut replay);
    assert_eq!(replayed.len(), 505);
    assert!(replayed.chunks(101).all(|frames| frames == data_frames));
    assert_eq!(replay.set_aside(&data.path().join("quarantine")).unwrap(), None);

    let restart = replay.restart();
    let mut journal = Journal::resume(replay, Incarnation::new(2), options).unwrap();
    for round in 0..20 {
        journal.commit(&mut data_frames).unwrap();
        if round % 3 == 2 {
            journal.release(journal.end());
        }
    }
    assert!(open(from(2, restart)).is_err(), "the files were reused");
    let end = journal.end();
    drop(journal);
    let file = OsDisk.open(&directory.join("0000.wal"), Mode::Read).unwrap();
    assert_eq!(file.length().unwrap(), 4 << 20);
    assert_eq!(open(from(2, end)).unwrap().end(), end);
}

#[test]
fn a_name_that_a_killed_process_gave_is_made_durable_before_the_file_is_used() {
    for seed in 0..20 {
        let disk = disk();
        let options = JournalOptions { files: 2, ..tiny() };
        let mut first = Journal::create(disk.clone(), &directory(), identity(1), options).unwrap();
        while disk.list(&directory()).unwrap().last().unwrap().name != "0001.wal" {
            // The next step is killed right before it would sync the directory.
            disk.plan(Fault::next(Operation::SyncDirectory));
            if first.prepare_spare().is_err() {
                break;
            }
        }
        disk.kill();
        let replay = replay(&disk, from(1, JournalPosition::ZERO)).unwrap();
        let start = replay.restart();
        let mut second = Journal::resume(replay, Incarnation::new(2), options).unwrap();
        let mut data = appends(0, &[100]);
        second.commit(&mut data).unwrap();
        disk.crash(seed);
        assert_eq!(frames(&mut super::replay(&disk, from(2, start)).unwrap()), data, "seed {seed}");
    }
}
