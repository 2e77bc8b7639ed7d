//! Keys and single events: a crash at any change, damage, and a disk that holds no more of them.

use std::time::Duration;

use weir_protocol::units::Offset;

use super::super::sample::{partition, topic};
use super::super::*;
use super::{digest, frame, keyed, look};
use crate::disk::SimDisk;
use crate::segment::segment_of_name;

/// Publishes keys as they come, each once or again, and flushes in between. Ends where the disk halts.
fn send(opened: &mut Opened<SimDisk>, from: u64) -> Option<u64> {
    for key in from..12 {
        let target = partition(1, 0);
        if look(opened, digest(opened, target.topic, key)).is_some() {
            continue;
        }
        let flushed =
            opened.flusher.state().partitions.get(&target).map_or(Offset::ZERO, |state| state.end_offset);
        let mut frames = vec![frame(keyed(target, flushed, &[key], &[], 1))];
        while matches!(opened.journal.prepare_spare(), Ok(Prepared::More)) {}
        let Ok(committed) = opened.journal.commit(&mut frames) else { return Some(key) };
        opened.flusher.accept(frames, committed.end);
        if opened.flusher.flush(at(1)).is_err() {
            return Some(key);
        }
        while opened.flusher.maintain(at(1)).is_ok_and(|maintained| maintained.more) {}
    }
    None
}

#[test]
fn a_retry_after_a_crash_at_any_change_is_stored_once() {
    for changes in 0.. {
        let disk = SimDisk::new();
        let mut opened = open(disk.clone(), data(), small(), at(0)).unwrap();
        commit(&mut opened, vec![Frame::Topic(topic(1))]);
        opened.flusher.flush(at(0)).unwrap();
        disk.halt_after(changes);
        let died_at = send(&mut opened, 0);
        drop(opened);
        disk.crash(changes);
        let mut opened = open(disk, data(), small(), at(2)).unwrap();
        // All that was sent is sent again.
        assert_eq!(send(&mut opened, 0), None);
        let end = opened.flusher.state().partitions[&partition(1, 0)].end_offset;
        assert_eq!(end, Offset::new(12), "a crash after {changes} changes");
        if died_at.is_none() {
            assert!(changes > 50, "the disk never halted");
            return;
        }
    }
}

/// A node with flushed keys in one generation.
fn filled(disk: &SimDisk) -> Opened<SimDisk> {
    let mut opened = open(disk.clone(), data(), small(), at(0)).unwrap();
    let keys: Vec<u64> = (0..500).collect();
    let batch = keyed(partition(1, 0), Offset::ZERO, &keys, &[3], 1);
    commit(&mut opened, vec![Frame::Topic(topic(1)), frame(batch)]);
    // Both slots name it: no older checkpoint helps.
    for _ in 0..2 {
        opened.flusher.flush(at(1)).unwrap();
    }
    opened
}

fn generation_file(disk: &SimDisk) -> std::path::PathBuf {
    let entries = disk.list(&data().join("segments")).unwrap();
    let entry = entries.into_iter().find(|entry| entry.name.ends_with(".key")).unwrap();
    assert!(segment_of_name(&entry.name).is_some());
    data().join("segments").join(entry.name)
}

#[test]
fn keys_of_a_lost_generation_are_never_called_new_until_it_is_given_up() {
    let disk = SimDisk::new();
    let opened = filled(&disk);
    let topic = topic(1).id;
    let (known, void) = (digest(&opened, topic, 1), digest(&opened, topic, 3));
    assert!(look(&opened, known).is_some() && look(&opened, void).is_none());
    drop(opened);
    disk.remove(&generation_file(&disk)).unwrap();

    let opened = open(disk.clone(), data(), small(), at(2)).unwrap();
    assert_eq!(opened.report.damaged.len(), 1, "{:?}", opened.report);
    for digest in [known, void] {
        assert!(opened.reader.may_hold_key(digest));
        assert!(matches!(opened.reader.find_key(digest), Err(ReadError::KeysLost { .. })));
    }
    drop(opened);
    let (report, plan) = verify_and_plan(&disk, data(), &mut |_| {}).unwrap();
    assert!(!report.is_sound());
    let [finding] = &plan.findings[..] else { panic!("{plan:?}") };
    let loss: Loss = finding.loss.to_string().parse().unwrap();
    repair(&disk, data(), small(), (&[loss], at(3)), &mut |_| {}).unwrap();
    assert!(verify(&disk, data(), &mut |_| {}).unwrap().is_sound());
    let opened = open(disk, data(), small(), at(4)).unwrap();
    assert!(look(&opened, known).is_some() && look(&opened, void).is_none());
}

#[test]
fn of_keys_that_are_given_up_those_of_kept_records_are_found_again() {
    let disk = SimDisk::new();
    let mut opened = open(disk.clone(), data(), small(), at(0)).unwrap();
    let (log, id) = (partition(1, 0), topic(1).id);
    let batch =
        |base, keys: [u64; 3], void: &[u32], wall| frame(keyed(log, Offset::new(base), &keys, void, wall));
    // The first batch is removed, and the second is older than the horizon.
    let trim = Frame::Trim { partition: log, log_start: Offset::new(3) };
    commit(
        &mut opened,
        vec![Frame::Topic(topic(1)), batch(0, [0, 1, 2], &[], 1), batch(3, [3, 4, 5], &[], 2)],
    );
    commit(&mut opened, vec![batch(6, [6, 7, 8], &[1], 2000), batch(9, [9, 10, 7], &[], 2001)]);
    opened.flusher.elapse(Duration::from_secs(5));
    opened.flusher.flush(at(2001)).unwrap();
    commit(&mut opened, vec![trim]);
    opened.flusher.elapse(Duration::from_secs(5));
    opened.flusher.flush(at(2001)).unwrap();
    let path = generation_file(&disk);
    drop(opened);
    disk.remove(&path).unwrap();

    let (_, plan) = verify_and_plan(&disk, data(), &mut |_| {}).unwrap();
    let losses: Vec<Loss> = plan.findings.iter().map(|finding| finding.loss.clone()).collect();
    let repaired = repair(&disk, data(), small(), (&losses, at(2002)), &mut |_| {}).unwrap();
    assert_eq!(repaired.keys_found, 5, "{repaired:?}");
    let mut opened = open(disk, data(), small(), at(2003)).unwrap();
    for key in 0..11 {
        let found = look(&opened, digest(&opened, id, key)).map(|entry| entry.place.offset.get());
        let expected = [6, 11, 8, 9, 10].into_iter().zip([6, 7, 8, 9, 10]).find(|(_, of)| *of == key);
        assert_eq!(found, expected.map(|(offset, _)| offset), "key {key}");
    }
    // They are remembered until the moment that was promised, and not for longer.
    for (seconds, is_known) in [(594, true), (2, false)] {
        opened.flusher.elapse(Duration::from_secs(seconds));
        while opened.flusher.maintain(at(2004)).unwrap().more {}
        assert_eq!(look(&opened, digest(&opened, id, 7)).is_some(), is_known);
    }
}

#[test]
fn a_damaged_filter_costs_only_time_and_a_damaged_block_is_named() {
    let disk = SimDisk::new();
    let opened = filled(&disk);
    let known = digest(&opened, topic(1).id, 1);
    let length = opened.reader.key_figures().disk_bytes;
    drop(opened);
    let path = generation_file(&disk);
    let blocks = 499u64.div_ceil(78);
    disk.flip(&path, 4096 * (1 + blocks) + 10, 1);
    let opened = open(disk.clone(), data(), small(), at(2)).unwrap();
    assert!(look(&opened, known).is_some());
    assert_eq!(opened.reader.key_figures().disk_bytes, length);
    drop(opened);
    assert!(verify(&disk, data(), &mut |_| {}).unwrap().is_sound());

    for block in 0..blocks {
        disk.flip(&path, 4096 * (1 + block) + 100, 1);
    }
    let opened = open(disk.clone(), data(), small(), at(2)).unwrap();
    assert!(matches!(opened.reader.find_key(known), Err(ReadError::KeysLost { .. })));
    drop(opened);
    assert!(!verify(&disk, data(), &mut |_| {}).unwrap().is_sound());
}

#[test]
fn keys_that_use_up_their_space_are_not_forgotten_for_it() {
    let disk = SimDisk::new();
    drop(filled(&disk));
    let mut options = small();
    options.keys.disk_bytes = 10_000;
    let mut opened = open(disk, data(), options, at(2)).unwrap();
    assert!(opened.reader.is_full_of_keys());
    assert!(look(&opened, digest(&opened, topic(1).id, 1)).is_some());

    opened.flusher.elapse(Duration::from_secs(601));
    opened.flusher.maintain(at(2)).unwrap();
    assert!(!opened.reader.is_full_of_keys());
    assert!(look(&opened, digest(&opened, topic(1).id, 1)).is_none());
}
