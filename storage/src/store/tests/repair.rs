//! Repairs: exactly what is damaged is given up, the rest is served, and no offset is ever used again.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;

use weir_protocol::units::{JournalPosition, Offset, PartitionKey, SegmentId};

use super::sample::{append, append_at, partition, stored, topic};
use super::*;
use crate::disk::SimDisk;
use crate::dump::{DumpOptions, dump};
use crate::segment::segment_name;

/// What was acknowledged: for each partition its batches, with the offset of their first record.
type Log = BTreeMap<PartitionKey, BTreeMap<Offset, Vec<u8>>>;

/// Blocks in the first file of a journal made by [`filled`].
const BLOCKS: usize = 8;

/// A journal of ten commits, none of which is in a segment, and what they hold. Each takes one block.
fn filled(disk: &SimDisk) -> Log {
    let mut opened = open(disk.clone(), data(), small(), at(0)).unwrap();
    commit(&mut opened, vec![Frame::Topic(topic(1))]);
    let mut log = Log::new();
    let mut ends: BTreeMap<PartitionKey, u64> = BTreeMap::new();
    for round in 0..9u32 {
        let mut frames = Vec::new();
        for key in [partition(1, round % 3), partition(1, 3 + round % 2)] {
            let end = ends.entry(key).or_default();
            let frame = append(key, *end, 20);
            log.entry(key).or_default().insert(Offset::new(*end), stored(&frame));
            *end += 20;
            frames.push(frame);
        }
        commit(&mut opened, frames);
    }
    opened.journal.mark_idle().unwrap();
    disk.kill();
    assert_eq!(blocks(disk, 0).len(), BLOCKS);
    log
}

fn ring_file(number: u32) -> PathBuf {
    data().join("journal").join(format!("{number:04}.wal"))
}

/// The bytes of each block of a ring file.
fn blocks(disk: &SimDisk, number: u32) -> Vec<Range<u64>> {
    let mut blocks = Vec::new();
    dump(disk, &ring_file(number), DumpOptions::default(), &mut |item| {
        if item.kind == "block" {
            blocks.push(item.bytes);
        }
        true
    })
    .unwrap();
    blocks
}

fn planned(disk: &SimDisk) -> RepairPlan {
    verify_and_plan(disk, data(), &mut |_| {}).unwrap().1
}

fn losses(plan: &RepairPlan) -> Vec<Loss> {
    plan.findings.iter().map(|finding| finding.loss.clone()).collect()
}

fn run(disk: &SimDisk, accepted: &[Loss]) -> Result<Repaired, RepairError> {
    repair(disk, data(), small(), (accepted, at(50)), &mut |_| {})
}

/// Reads everything. What cannot be read is returned; what can is what was written.
fn missing(opened: &Opened<SimDisk>, log: &Log) -> BTreeMap<PartitionKey, Vec<Range<Offset>>> {
    let mut all = BTreeMap::new();
    for (key, batches) in log {
        let reader = &opened.reader;
        let mut from = Offset::ZERO;
        let mut missing = Vec::new();
        while from < reader.flushed_end(*key) {
            match reader.read(*key, from, 1) {
                Ok(chunk) => {
                    assert_eq!(
                        Some(&chunk.bytes[..]),
                        batches.get(&from).map(Vec::as_slice),
                        "{key} at {from}"
                    );
                    from = chunk.end_offset;
                }
                Err(ReadError::Corrupt { from: first, to }) => {
                    missing.push(first..to);
                    from = to;
                }
                Err(other) => panic!("{other}"),
            }
        }
        // All that was acknowledged was read or is named, so that none of its offsets is given to another record.
        let end = batches.last_key_value().unwrap().0.advance(20);
        assert!(from >= end, "{key} ends at {from}, though records up to {end} were acknowledged");
        assert_eq!(opened.state.partitions[key].end_offset, from);
        all.insert(*key, missing);
    }
    all
}

#[test]
fn any_lost_block_can_be_given_up_and_nothing_else_is() {
    // The first block holds the topic.
    for lost in 1..BLOCKS {
        let disk = SimDisk::new();
        let log = filled(&disk);
        let block = blocks(&disk, 0)[lost].clone();
        disk.zero(&ring_file(0), block.clone());
        let error = open(disk.clone(), data(), small(), at(1)).unwrap_err();
        assert!(matches!(error, OpenError::Replay(_)), "{error}");

        let plan = planned(&disk);
        let [Finding { loss: Loss::Journal(positions), .. }] = plan.findings.as_slice() else {
            panic!("{plan:?}")
        };
        assert_eq!(positions.start, JournalPosition::new(block.start - 4096));
        assert!(plan.obstacles.is_empty());
        let repaired = run(&disk, &losses(&plan)).unwrap();

        let copy = disk.content(&repaired.quarantined[0]);
        assert_eq!(copy.len() as u64, positions.end.since(positions.start));
        let mut opened = open(disk.clone(), data(), small(), at(60)).unwrap();
        assert!(opened.report.unreadable.is_empty(), "what was given up is not reported for ever");
        let found = missing(&opened, &log);
        let round = u64::try_from(lost - 1).unwrap();
        for (key, batches) in &log {
            let nth = match u64::from(key.partition.get()) {
                number if number < 3 => (round % 3 == number).then_some(round / 3),
                number => (round % 2 + 3 == number).then_some(round / 2),
            };
            let expected: Vec<_> =
                nth.map(|nth| Offset::new(nth * 20)..Offset::new(nth * 20 + 20)).into_iter().collect();
            // Where no later batch tells, more offsets are given up than were ever used.
            let end = batches.last_key_value().unwrap().0.advance(20);
            let used = found[key].iter().map(|range| range.start..range.end.min(end));
            assert_eq!(used.filter(|range| !range.is_empty()).collect::<Vec<_>>(), expected, "{key}");
        }
        // New records go behind all that was ever acknowledged.
        let key = partition(1, 0);
        let end = opened.state.partitions[&key].end_offset;
        let mut definition = topic(1);
        definition.revision = 2;
        commit(&mut opened, vec![Frame::Topic(definition), append_at(key, end)]);
        opened.flusher.flush(at(61)).unwrap();
        opened.flusher.close(at(61)).unwrap();
        disk.kill();
        let report = verify(&disk, data(), &mut |_| {}).unwrap();
        assert!(report.is_sound(), "{report:?}");
        assert!(report.partitions.iter().any(|partition| !partition.given_up.is_empty()));
        let again = run(&disk, &losses(&plan)).unwrap();
        assert_eq!((again.before, again.record), (losses(&plan), None));
    }
}

#[test]
fn a_repair_gives_up_nothing_but_exactly_what_is_damaged() {
    let disk = SimDisk::new();
    filled(&disk);
    let all = blocks(&disk, 0);
    disk.zero(&ring_file(0), all[3].clone());
    disk.zero(&ring_file(0), all[7].clone());
    let plan = planned(&disk);
    let both = losses(&plan);
    assert_eq!(both.len(), 2, "all damage is found, not the first alone");
    let before = disk.changes();

    let wrong = Loss::Journal(JournalPosition::new(0)..JournalPosition::new(1 << 20));
    let error = run(&disk, std::slice::from_ref(&wrong)).unwrap_err();
    assert!(
        matches!(&error, RepairError::NoSuchDamage { loss, damaged } if *loss == wrong && *damaged == both)
    );
    assert!(error.to_string().contains(&both[0].to_string()), "{error}");
    let error = run(&disk, &both[..1]).unwrap_err();
    assert!(matches!(&error, RepairError::JournalIncomplete { missing } if *missing == both[1]), "{error}");
    assert!(run(&disk, &[]).unwrap().given_up.is_empty());
    // The files of the journal are synced when they are looked at, so that what is seen is on the medium.
    assert_eq!(disk.list(&data().join("quarantine")).unwrap(), [], "{before}");
    assert!(open(disk.clone(), data(), small(), at(1)).is_err());

    run(&disk, &both).unwrap();
    open(disk, data(), small(), at(60)).unwrap();
}

#[test]
fn a_repair_that_dies_anywhere_can_be_run_again() {
    for changes in 0.. {
        let disk = SimDisk::new();
        let log = filled(&disk);
        let block = blocks(&disk, 0)[4].clone();
        disk.zero(&ring_file(0), block);
        let accepted = losses(&planned(&disk));
        disk.halt_after(changes);
        let survived = run(&disk, &accepted).is_ok();
        disk.crash(changes);
        let after_crash = open(disk.clone(), data(), small(), at(60));
        let opened = match after_crash {
            // The checkpoint that ends the repair was durable.
            Ok(opened) => opened,
            Err(OpenError::Replay(_)) => {
                assert!(!survived, "a repair that was reported is durable");
                run(&disk, &accepted).unwrap_or_else(|error| panic!("after {changes} changes: {error}"));
                open(disk.clone(), data(), small(), at(61)).unwrap()
            }
            Err(error) => panic!("after {changes} changes: {error}"),
        };
        missing(&opened, &log);
        let names: Vec<_> = disk.list(&data().join("quarantine")).unwrap();
        let has = |extension: &str| names.iter().any(|entry| entry.name.ends_with(extension));
        assert!(has(".lost") && has(".txt"), "{names:?}");
        if survived {
            assert!(changes > 10);
            return;
        }
    }
}

#[test]
fn a_running_broker_is_left_alone() {
    let disk = SimDisk::new();
    let _opened = open(disk.clone(), data(), small(), at(0)).unwrap();
    let loss = Loss::Journal(JournalPosition::new(0)..JournalPosition::new(4096));
    let error = run(&disk, &[loss]).unwrap_err();
    assert!(matches!(error, RepairError::Open(OpenError::Locked { .. })), "{error}");
}

/// Commits until three ring files are in use, and what they hold.
fn in_three_files(disk: &SimDisk) -> Log {
    let log = long(disk, 32);
    assert!(blocks(disk, 2).len() > 1 && disk.list(&data().join("journal")).unwrap().len() >= 3);
    log
}

/// A journal of so many commits of 20 records to one partition, after that of its topic.
fn long(disk: &SimDisk, rounds: u64) -> Log {
    let mut opened = open(disk.clone(), data(), small(), at(0)).unwrap();
    commit(&mut opened, vec![Frame::Topic(topic(1))]);
    let mut log = Log::new();
    for round in 0..rounds {
        let key = partition(1, 0);
        let frame = append(key, round * 20, 20);
        log.entry(key).or_default().insert(Offset::new(round * 20), stored(&frame));
        commit(&mut opened, vec![frame]);
    }
    disk.kill();
    log
}

#[test]
fn a_journal_file_can_be_given_up_though_no_later_block_tells_of_it() {
    // The last file is cut behind its last block: what was there was never written, but nobody can know.
    let disk = SimDisk::new();
    let log = in_three_files(&disk);
    let end = blocks(&disk, 2).pop().unwrap().end;
    disk.cut(&ring_file(2), end + 100);
    repaired_without_later_blocks(disk, &log, 640);

    // The file with the end is missing; the next one has its place already, and no block.
    let disk = SimDisk::new();
    let log = long(&disk, 26);
    assert_eq!((blocks(&disk, 1).len(), blocks(&disk, 2).len()), (12, 0));
    let first = blocks(&disk, 0).len() as u64 - 1;
    disk.remove(&ring_file(1)).unwrap();
    repaired_without_later_blocks(disk, &log, first * 20);
}

#[test]
fn last_journal_files_that_are_missing_cannot_be_given_up_and_the_plan_says_to_restore_them() {
    let disk = SimDisk::new();
    in_three_files(&disk);
    for number in [2, 1] {
        disk.remove(&ring_file(number)).unwrap();
        let plan = planned(&disk);
        assert!(plan.findings.is_empty(), "{plan:?}");
        let [what] = plan.obstacles.as_slice() else { panic!("{plan:?}") };
        // Which file, how that is known, and the only thing that helps.
        let named = [ring_file(number), ring_file(number - 1)].map(|path| path.display().to_string());
        assert!(named.iter().all(|name| what.contains(name)) && what.contains("restore"), "{what}");
        let refused = open(disk.clone(), data(), small(), at(1)).unwrap_err().to_string();
        assert!(refused.contains(&named[0]), "{refused}");
        assert!(run(&disk, &[]).unwrap().given_up.is_empty());
    }
}

/// Gives up the end of a journal. All records up to an offset are there.
fn repaired_without_later_blocks(disk: SimDisk, log: &Log, kept: u64) {
    assert!(matches!(open(disk.clone(), data(), small(), at(1)), Err(OpenError::Replay(_))));
    let plan = planned(&disk);
    assert!(plan.obstacles.is_empty() && plan.findings.len() == 1, "{plan:?}");

    run(&disk, &losses(&plan)).unwrap();

    let opened = open(disk, data(), small(), at(60)).unwrap();
    let found = missing(&opened, log);
    let [only] = found[&partition(1, 0)].as_slice() else { panic!("one gap: {found:?}") };
    assert_eq!(only.start, Offset::new(kept));
}

#[test]
fn a_journal_file_that_is_missing_or_cut_can_be_given_up() {
    for cut in [None, Some(30_000), Some(5_000), Some(10)] {
        let disk = SimDisk::new();
        let log = in_three_files(&disk);
        match cut {
            None => disk.remove(&ring_file(1)).unwrap(),
            Some(length) => disk.cut(&ring_file(1), length),
        }
        assert!(matches!(open(disk.clone(), data(), small(), at(1)), Err(OpenError::Replay(_))), "{cut:?}");
        let plan = planned(&disk);
        assert!(plan.obstacles.is_empty() && !plan.findings.is_empty(), "{cut:?}: {plan:?}");

        run(&disk, &losses(&plan)).unwrap_or_else(|error| panic!("{cut:?}: {error}"));

        let opened = open(disk, data(), small(), at(60)).unwrap();
        let found = missing(&opened, &log);
        let [only] = found[&partition(1, 0)].as_slice() else { panic!("one gap: {found:?}") };
        assert!(only.end < Offset::new(640), "what is behind is served: {only:?}");
    }
}

#[test]
fn a_header_of_a_journal_file_is_made_again_and_nothing_is_lost() {
    for number in [0, 1, 2] {
        let disk = SimDisk::new();
        let log = in_three_files(&disk);
        disk.flip(&ring_file(number), 70, 1);
        assert!(matches!(open(disk.clone(), data(), small(), at(1)), Err(OpenError::Replay(_))));
        let plan = planned(&disk);
        assert_eq!((plan.findings.len(), plan.findings[0].bytes), (1, 0), "{plan:?}");

        run(&disk, &losses(&plan)).unwrap();

        let opened = open(disk, data(), small(), at(60)).unwrap();
        assert_eq!(missing(&opened, &log)[&partition(1, 0)], []);
    }
}

#[test]
fn a_topic_whose_definition_is_lost_gets_another_so_that_its_records_can_be_read() {
    let disk = SimDisk::new();
    let log = filled(&disk);
    let block = blocks(&disk, 0)[0].clone();
    disk.zero(&ring_file(0), block);

    run(&disk, &losses(&planned(&disk))).unwrap();

    let opened = open(disk, data(), small(), at(60)).unwrap();
    let found = &opened.state.topics[&topic(1).id];
    assert!(found.name.starts_with("recovered-") && found.settings.partitions == 5, "{found:?}");
    assert!(missing(&opened, &log).values().all(|ranges| ranges.len() <= 1));
}

#[test]
fn a_lost_segment_that_is_given_up_is_not_reported_again() {
    let disk = SimDisk::new();
    let mut opened =
        open(disk.clone(), data(), OpenOptions { segments: SegmentOptions::default(), ..small() }, at(0))
            .unwrap();
    let key = partition(1, 0);
    commit(&mut opened, vec![Frame::Topic(topic(1))]);
    let mut log = Log::new();
    for round in 0..3 {
        let frame = append(key, round * 20, 20);
        log.entry(key).or_default().insert(Offset::new(round * 20), stored(&frame));
        commit(&mut opened, vec![frame]);
        opened.flusher.flush(at(1)).unwrap();
        opened.flusher.flush(at(1)).unwrap();
    }
    disk.kill();
    let segment = |number| data().join("segments").join(segment_name(SegmentId::new(number)));
    disk.remove(&segment(1)).unwrap();
    disk.flip(&segment(2), 4096 + 300, 1);
    let plan = planned(&disk);
    let expected: Vec<Loss> = vec!["topic-1/0:0..40".parse().unwrap()];
    assert_eq!(losses(&plan), expected, "{plan:?}");
    assert!(matches!(
        run(&disk, &["topic-1/0:0..20".parse().unwrap()]),
        Err(RepairError::NoSuchDamage { .. })
    ));

    let repaired = run(&disk, &expected).unwrap();

    assert_eq!(repaired.quarantined, [data().join("quarantine").join(segment_name(SegmentId::new(2)))]);
    let report = verify(&disk, data(), &mut |_| {}).unwrap();
    assert!(report.is_sound(), "{report:?}");
    assert_eq!(report.partitions[0].given_up, [Offset::ZERO..Offset::new(40)]);
    let opened = open(disk, data(), small(), at(60)).unwrap();
    assert!(opened.report.unreadable.is_empty());
    let gaps: u64 = missing(&opened, &log)[&key].iter().map(|range| range.end.since(range.start)).sum();
    assert_eq!(gaps, 40, "who reads is still told");
}
