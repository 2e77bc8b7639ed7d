//! Gives up what was chosen: copies and the record first, then one checkpoint that changes everything at once.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::ops::Range;
use std::path::{Path, PathBuf};

use weir_protocol::units::{Offset, PartitionKey, Timestamp};

use super::follow::{Follower, Step};
use super::plan::{Finding, newest, replay_past};
use super::{Loss, RepairError, Repaired, record};
use crate::checkpoint::{Found, Paths, Slots};
use crate::disk::{Context, Disk, DiskError};
use crate::journal::{Identity, Replay, ReplayFrom};
use crate::state::{GIVEN_UP_RANGES_MAX, NodeState};
use crate::store::open::{Checkpoint, OpenError, OpenOptions, Recovery, leftovers, read_slots};

/// Bytes of frames that are kept in memory before they are written to segments.
const FLUSH_BYTES: u64 = 64 << 20;

/// Does what the module says. `chosen` covers all damage of the journal.
pub(super) fn act<D: Disk>(
    disk: &D,
    paths: &Paths,
    (options, now): (OpenOptions, Timestamp),
    chosen: Vec<Finding>,
    repaired: &mut Repaired,
) -> Result<(), RepairError> {
    let found = read_slots(disk, paths)?;
    let Some(checkpoint) = newest(disk, paths, &found)? else {
        return Err(OpenError::Empty { directory: paths.root.clone() }.into());
    };
    let manifest = checkpoint.manifest;
    let identity = Identity { journal: manifest.journal, incarnation: manifest.incarnation };
    let from = ReplayFrom { identity, applied: manifest.applied, proven: manifest.applied };
    let (replay, _) = replay_past(disk, paths, from)?.map_err(|what| RepairError::Hopeless { what })?;
    refuse_if_too_many(&checkpoint.state, &chosen)?;

    disk.create_directory(&paths.quarantine).context("make", &paths.quarantine)?;
    let mut copies = Vec::new();
    for hole in replay.holes() {
        copies.push(replay.copy_hole(hole, &paths.quarantine)?);
    }
    let mut segments: BTreeSet<PathBuf> = segments_of(&chosen).map(Path::to_owned).collect();
    if !replay.holes().is_empty() {
        // What a dead flush has left behind goes with the next checkpoint, but it may hold what the journal has lost.
        let slots = Slots::new(disk.clone(), paths.clone(), &found);
        segments.extend(leftovers::find(disk, paths, manifest, &slots)?.removable);
    }
    for path in &segments {
        copies.extend(keep(disk, path, &paths.quarantine)?);
    }
    disk.sync_directory(&paths.quarantine).context("sync", &paths.quarantine)?;
    disk.sync_directory(&paths.root).context("sync", &paths.root)?;
    let incarnation = identity.incarnation.next();
    repaired.record = Some(record::write(disk, paths, (incarnation, now), &chosen, &copies)?);
    repaired.quarantined = copies;

    replay.write_headers()?;
    let state = checkpoint.state.clone();
    let recovery = Recovery { disk: disk.clone(), paths: paths.clone(), options, now };
    repaired.keys_found = give_up(&recovery, (checkpoint, &found), replay, (&state, &chosen))?;
    repaired.given_up = chosen;
    Ok(())
}

/// Moves what the journal holds to segments, notes what is lost, and makes the checkpoint that says so. Returns how many keys of
/// generations that are given up were found again.
fn give_up<D: Disk>(
    recovery: &Recovery<D>,
    (checkpoint, found): (Checkpoint<'_>, &[Found; 2]),
    mut replay: Replay<D>,
    (state, chosen): (&NodeState, &[Finding]),
) -> Result<u64, RepairError> {
    let now = recovery.now;
    let begun = recovery.begin(checkpoint, found, replay.tail())?;
    let mut flusher = begun.flusher;
    flusher.give_up_keys(chosen.iter().filter_map(|finding| match finding.loss {
        Loss::Keys(generation) => Some(generation),
        Loss::Journal(_) | Loss::Records { .. } => None,
    }));
    for (partition, records) in in_segments(chosen) {
        flusher.give_up(partition, records, now)?;
    }
    let mut known = state.clone();
    for (partition, records) in in_segments(chosen) {
        known.partitions.entry(partition).or_default().give_up(records);
    }
    let mut follower = Follower::new(known, replay.holes(), now);
    loop {
        let block = replay.blocks_read();
        let Some((frames, end)) = replay.next_block().map_err(OpenError::from)? else { break };
        for read in frames {
            for step in follower.follow(read.frame, block).map_err(OpenError::from)? {
                match step {
                    Step::Frame(frame) => flusher.accept(vec![frame], end),
                    Step::Lost(lost) => flusher.give_up(lost.partition, lost.offsets, now)?,
                }
            }
        }
        flusher.accept(Vec::new(), end);
        if flusher.pending_bytes() >= FLUSH_BYTES {
            flusher.apply().map_err(OpenError::from)?;
            flusher.write_staged(now)?;
        }
    }
    for step in follower.finish() {
        match step {
            Step::Lost(lost) => flusher.give_up(lost.partition, lost.offsets, now)?,
            Step::Frame(frame) => flusher.accept(vec![frame], replay.end()),
        }
    }
    flusher.apply().map_err(OpenError::from)?;
    flusher.write_staged(now)?;
    let keys_found = flusher.rebuild_keys()?;
    replay.set_aside(&recovery.paths.quarantine)?;
    let incarnation = replay.identity().incarnation.next();
    flusher.start_over(incarnation, replay.restart()).map_err(OpenError::from)?;
    Ok(keys_found)
}

/// The records of segments among what was chosen.
fn in_segments(chosen: &[Finding]) -> impl Iterator<Item = (PartitionKey, Range<Offset>)> {
    chosen
        .iter()
        .filter(|finding| matches!(finding.loss, Loss::Records { .. }))
        .flat_map(|finding| &finding.records)
        .map(|records| (records.partition, records.offsets.clone()))
}

/// A partition's memory of what it gave up is bounded; it is checked before anything is done.
fn refuse_if_too_many(state: &NodeState, chosen: &[Finding]) -> Result<(), RepairError> {
    for records in chosen.iter().flat_map(|finding| &finding.records) {
        let partition = records.partition;
        let more = chosen.iter().flat_map(|finding| &finding.records);
        let more = more.filter(|records| records.partition == partition).count();
        let before = state.partitions.get(&partition).map_or(0, |state| state.given_up.ranges().len());
        if before + more > GIVEN_UP_RANGES_MAX {
            return Err(RepairError::TooManyRanges { partition });
        }
    }
    Ok(())
}

/// The segments that hold records that are given up, and generations of keys that are.
fn segments_of(chosen: &[Finding]) -> impl Iterator<Item = &Path> {
    let segments = chosen.iter().filter(|finding| !matches!(finding.loss, Loss::Journal(_)));
    segments.flat_map(|finding| finding.files.iter().map(PathBuf::as_path))
}

/// Keeps a sealed file under one more name, so that it stays when its segment goes. `None` if it is missing.
fn keep<D: Disk>(disk: &D, path: &Path, quarantine: &Path) -> Result<Option<PathBuf>, DiskError> {
    let kept = quarantine.join(path.file_name().expect("segments have names"));
    match disk.link(path, &kept) {
        // An earlier repair that died may have kept it; it never changes.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(Some(kept)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        linked => linked.context("link", path).map(|()| Some(kept)),
    }
}
