//! Verifies a data directory while no broker uses it: every byte that counts is read, and nothing is changed.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use uuid::Uuid;
use weir_protocol::units::{Incarnation, Offset, PartitionKey};

use super::open::directories::Directories;
use super::open::{Checkpoint, OpenError, leftovers, read_slots, refuse_if_used, unreadable};
use crate::checkpoint::{Found, Manifest, Paths, Slots};
use crate::disk::{Context, Disk};
use crate::journal::{Identity, Replay, ReplayError, ReplayFrom, Tail};
use crate::state::NodeState;

pub(super) mod keys;
mod planned;
mod segments;
pub(super) mod source;

pub use planned::verify_and_plan;

/// How far a verification is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Progress {
    /// Bytes that were read.
    pub bytes_done: u64,
    /// Bytes that there are to read, about.
    pub bytes_total: u64,
}

/// What was found in a data directory.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct VerifyReport {
    /// The node's identity.
    pub node: Uuid,
    /// How often the node was started.
    pub incarnation: Incarnation,
    /// Each partition that exists and ever had a record.
    pub partitions: Vec<PartitionVerdict>,
    /// What is damaged.
    pub damage: Vec<DamagedRange>,
    /// Frames of the journal that are in no segment yet.
    pub journal_frames: u64,
    /// Whether the journal ends with a write that was cut off, and acknowledged to nobody.
    pub torn_tail: bool,
    /// Bytes that were verified.
    pub bytes: u64,
    /// Files that do not belong here.
    pub unknown_files: Vec<PathBuf>,
}

/// What was found of a partition.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PartitionVerdict {
    /// The partition.
    pub partition: PartitionKey,
    /// Name of its topic.
    pub topic: String,
    /// Offset of the first record that is kept.
    pub log_start: Offset,
    /// The offset after the last record, those in the journal included.
    pub end_offset: Offset,
    /// Bytes in segments.
    pub bytes: u64,
    /// Records that cannot be read, in order. Those that were given up are not among them.
    pub damaged: Vec<Range<Offset>>,
    /// Records that may be lost with a damaged part of the journal: the most that can be.
    pub doubtful: Vec<Range<Offset>>,
    /// Records that an operator gave up, in order.
    pub given_up: Vec<Range<Offset>>,
}

/// Something that is damaged.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DamagedRange {
    /// The file.
    pub path: PathBuf,
    /// Which of its bytes.
    pub bytes: Range<u64>,
    /// What stands there.
    pub what: String,
    /// The records that cannot be read because of it; `None` if it can be made good from elsewhere.
    pub records: Option<(PartitionKey, Range<Offset>)>,
    /// Whether the broker starts and serves all records in spite of it.
    pub is_harmless: bool,
}

impl VerifyReport {
    /// Whether every record and every key can be read.
    pub fn is_sound(&self) -> bool {
        self.damage.iter().all(|damage| damage.is_harmless)
            && self.partitions.iter().all(|partition| partition.damaged.is_empty())
    }
}

/// Verifies a data directory. `progress` is told now and then.
///
/// # Errors
/// [`OpenError`] if there is nothing that could be verified, or if the disk failed. Damage is no error.
pub fn verify<D: Disk>(
    disk: &D,
    directory: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<VerifyReport, OpenError> {
    let _lock = lock(disk, directory)?;
    verify_locked(disk, &Paths::new(directory), progress)
}

/// Verifies a data directory that the caller has locked, where it can be.
pub(super) fn verify_locked<D: Disk>(
    disk: &D,
    paths: &Paths,
    progress: &mut dyn FnMut(Progress),
) -> Result<VerifyReport, OpenError> {
    let found = read_slots(disk, paths)?;
    let mut report = VerifyReport::default();
    note_slots(paths, &found, &mut report);
    let Some(Checkpoint { manifest, state, .. }) = choose(disk, paths, &found, &mut report)? else {
        refuse_if_used(disk, paths)?;
        return Err(OpenError::Empty { directory: paths.root.clone() });
    };
    report.node = Uuid::from_bytes(manifest.node);
    report.incarnation = manifest.incarnation;
    let slots = Slots::new(disk.clone(), paths.clone(), &found);
    report.unknown_files = leftovers::find(disk, paths, manifest, &slots)?.unknown;
    let mut verifier = segments::Verifier::new(disk, paths, manifest, &state, progress);
    let directories = verifier.run(&mut report)?;
    judge(&state, manifest, &directories, &mut report);
    verifier.keys(&mut report)?;
    verify_journal(disk, paths, manifest, state, &mut report)?;
    Ok(report)
}

/// Keeps brokers out, where the file system lets us. Where none has ever been there is nobody to keep out.
fn lock<D: Disk>(disk: &D, directory: &Path) -> Result<Option<D::Lock>, OpenError> {
    use std::io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
    match disk.lock_existing(directory) {
        Ok(Some(lock)) => Ok(Some(lock)),
        Ok(None) => Err(OpenError::Locked { directory: directory.to_owned() }),
        Err(error) if matches!(error.kind(), PermissionDenied | ReadOnlyFilesystem) => Ok(None),
        Err(error) => Err(error).context("lock", directory).map_err(OpenError::from),
    }
}

fn note_slots(paths: &Paths, found: &[Found; 2], report: &mut VerifyReport) {
    for (slot, found) in found.iter().enumerate() {
        let what = match found {
            Found::Manifest(_) => continue,
            Found::Missing => "manifest is missing",
            Found::Damaged => "manifest is damaged",
        };
        let path = paths.slot(slot);
        report.damage.push(DamagedRange {
            path,
            bytes: 0..0,
            what: what.to_owned(),
            records: None,
            is_harmless: true,
        });
    }
}

/// The checkpoint that a start would use.
fn choose<'a, D: Disk>(
    disk: &D,
    paths: &Paths,
    found: &'a [Found; 2],
    report: &mut VerifyReport,
) -> Result<Option<Checkpoint<'a>>, OpenError> {
    let mut manifests: Vec<_> = found.iter().filter_map(Found::manifest).collect();
    manifests.sort_by_key(|manifest| std::cmp::Reverse(manifest.generation));
    let mut usable: Vec<Checkpoint<'_>> = Vec::new();
    let mut damaged = Vec::new();
    for manifest in manifests {
        match Checkpoint::read(disk, paths, manifest) {
            Ok(checkpoint) => usable.push(checkpoint),
            Err(OpenError::Damaged { path, what }) => damaged.push((path, what)),
            Err(error) => return Err(error),
        }
    }
    let best = usable.into_iter().min_by_key(Checkpoint::lost);
    if best.is_none()
        && let Some((path, what)) = damaged.pop()
    {
        return Err(OpenError::Damaged { path, what });
    }
    report.damage.extend(damaged.into_iter().map(|(path, what)| DamagedRange {
        path,
        bytes: 0..0,
        what,
        records: None,
        is_harmless: true,
    }));
    Ok(best)
}

/// Works out what the damage means for each partition.
fn judge(state: &NodeState, manifest: &Manifest, directories: &Directories, report: &mut VerifyReport) {
    let catalog = directories.catalog(state, manifest);
    let mut damaged: BTreeMap<PartitionKey, Vec<Range<Offset>>> = BTreeMap::new();
    let lost = unreadable(&catalog, state);
    if lost.is_empty() {
        // What is in no segment that can be read was trimmed, or given up.
        report.damage.iter_mut().filter(|damage| damage.records.is_none()).for_each(|damage| {
            damage.is_harmless = true;
        });
    }
    for (partition, records) in lost {
        damaged.entry(partition).or_default().push(records);
    }
    for damage in &report.damage {
        let Some((partition, records)) = &damage.records else { continue };
        let given_up = state.partitions.get(partition).map(|state| &state.given_up);
        let left = given_up.map_or_else(|| vec![records.clone()], |given_up| given_up.remainder(records));
        damaged.entry(*partition).or_default().extend(left);
    }
    for (partition, state_of) in &state.partitions {
        let mut ranges = damaged.remove(partition).unwrap_or_default();
        ranges.sort_by_key(|range| (range.start, range.end));
        report.partitions.push(PartitionVerdict {
            partition: *partition,
            topic: state.topics.get(&partition.topic).map_or_else(String::new, |topic| topic.name.clone()),
            log_start: state_of.log_start,
            end_offset: state_of.end_offset,
            bytes: catalog.partition(*partition).map_or(0, |log| log.bytes),
            damaged: ranges,
            doubtful: Vec::new(),
            given_up: state_of.given_up.ranges().to_vec(),
        });
    }
}

/// Replays the journal, as far as it can be.
fn verify_journal<D: Disk>(
    disk: &D,
    paths: &Paths,
    manifest: &Manifest,
    mut state: NodeState,
    report: &mut VerifyReport,
) -> Result<(), OpenError> {
    if !manifest.born {
        return Ok(());
    }
    let identity = Identity { journal: manifest.journal, incarnation: manifest.incarnation };
    let from = ReplayFrom { identity, applied: manifest.applied, proven: manifest.applied };
    let replayed = Replay::open(disk.clone(), &paths.journal, from)
        .and_then(|replay| replay_all(replay, &mut state, report));
    match replayed {
        Ok(Ok(())) => {
            for verdict in &mut report.partitions {
                if let Some(state) = state.partitions.get(&verdict.partition) {
                    verdict.end_offset = state.end_offset;
                    verdict.log_start = state.log_start;
                }
            }
            add_new_partitions(&state, report);
            Ok(())
        }
        Ok(Err(error)) => {
            note_journal(paths.journal.clone(), 0..0, error.to_string(), report);
            Ok(())
        }
        Err(ReplayError::Disk(error)) => Err(error.into()),
        Err(ReplayError::NewerFormat { path, version, features }) => {
            Err(OpenError::NewerFormat { path, version, features })
        }
        Err(ReplayError::Corrupt(damage)) => {
            for part in &damage.parts {
                note_journal(part.path.clone(), part.bytes.clone(), damage.to_string(), report);
            }
            Ok(())
        }
        Err(error) => {
            note_journal(paths.journal.clone(), 0..0, error.to_string(), report);
            Ok(())
        }
    }
}

fn replay_all<D: Disk>(
    mut replay: Replay<D>,
    state: &mut NodeState,
    report: &mut VerifyReport,
) -> Result<Result<(), crate::state::ApplyError>, ReplayError> {
    report.torn_tail = matches!(replay.tail(), Tail::Torn { .. });
    report.bytes += replay.bytes();
    while let Some((frames, _)) = replay.next_block()? {
        report.journal_frames += frames.len() as u64;
        for read in frames {
            if let Err(error) = state.try_apply(&read.frame) {
                return Ok(Err(error));
            }
        }
    }
    Ok(Ok(()))
}

fn note_journal(path: PathBuf, bytes: Range<u64>, what: String, report: &mut VerifyReport) {
    report.damage.push(DamagedRange { path, bytes, what, records: None, is_harmless: false });
}

/// Partitions of which nothing is in segments yet.
fn add_new_partitions(state: &NodeState, report: &mut VerifyReport) {
    for (partition, state_of) in &state.partitions {
        if report.partitions.iter().all(|verdict| verdict.partition != *partition) {
            report.partitions.push(PartitionVerdict {
                partition: *partition,
                topic: state
                    .topics
                    .get(&partition.topic)
                    .map_or_else(String::new, |topic| topic.name.clone()),
                log_start: state_of.log_start,
                end_offset: state_of.end_offset,
                bytes: 0,
                damaged: Vec::new(),
                doubtful: Vec::new(),
                given_up: state_of.given_up.ranges().to_vec(),
            });
        }
    }
    report.partitions.retain(|verdict| state.partitions.contains_key(&verdict.partition));
    report.partitions.sort_by_key(|verdict| verdict.partition);
}
