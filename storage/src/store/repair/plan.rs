//! What could be given up, without doing it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use weir_protocol::units::{JournalPosition, Offset, PartitionKey, SegmentId, Timestamp};

use super::follow::{Follower, Step};
use super::loss::Loss;
use crate::checkpoint::{Found, Paths};
use crate::dedup::generation::EXTENSION;
use crate::disk::Disk;
use crate::journal::{Identity, Replay, ReplayError, ReplayFrom};
use crate::segment::segment_of_name;
use crate::state::{GivenUp, NodeState};
use crate::store::open::{Checkpoint, OpenError, choose, read_slots};
use crate::store::verify::VerifyReport;

/// Damaged parts of a journal that are looked for. A journal with more is past repair.
const JOURNAL_FINDINGS_MAX: usize = 1000;

/// What could be done about damage.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RepairPlan {
    /// What is damaged, and can be given up.
    pub findings: Vec<Finding>,
    /// What is damaged, and is not helped by giving something up.
    pub obstacles: Vec<String>,
}

/// Something that is damaged.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Finding {
    /// What would be given up.
    pub loss: Loss,
    /// What is wrong.
    pub what: String,
    /// Bytes that would be given up; 0 if they are missing or all of them are made good.
    pub bytes: u64,
    /// The records that would be given up with it.
    pub records: Vec<AffectedRecords>,
    /// Files that would be kept in `quarantine/`, in whole or in part.
    pub files: Vec<PathBuf>,
}

/// Records that would be given up.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AffectedRecords {
    /// The partition.
    pub partition: PartitionKey,
    /// Name of its topic.
    pub topic: String,
    /// The offsets.
    pub offsets: Range<Offset>,
    /// Whether it is known that these are lost. If not, they are the most that can be lost, so that none is used again.
    pub is_exact: bool,
}

/// Works out what could be given up, from what a verification found.
pub(in crate::store) fn plan<D: Disk>(
    disk: &D,
    paths: &Paths,
    report: &VerifyReport,
) -> Result<RepairPlan, OpenError> {
    let mut plan = RepairPlan::default();
    for partition in &report.partitions {
        let mut damaged = GivenUp::default();
        partition.damaged.iter().for_each(|range| damaged.add(range.clone()));
        for offsets in damaged.ranges() {
            plan.findings.push(in_segments(report, partition.partition, &partition.topic, offsets));
        }
    }
    plan.findings.extend(lost_keys(report));
    let found = read_slots(disk, paths)?;
    if let Some(checkpoint) = newest(disk, paths, &found)? {
        journal(disk, paths, checkpoint, &mut plan)?;
    }
    Ok(plan)
}

/// Generations of keys that cannot be read, or not all of them.
fn lost_keys(report: &VerifyReport) -> impl Iterator<Item = Finding> {
    let mut lost: BTreeMap<SegmentId, Finding> = BTreeMap::new();
    for damage in report.damage.iter().filter(|damage| !damage.is_harmless) {
        let name = damage.path.file_name().and_then(|name| name.to_str());
        let is_keys = damage.path.extension().is_some_and(|extension| extension == EXTENSION);
        let Some(number) = name.and_then(segment_of_name).filter(|_| is_keys) else { continue };
        let finding = lost.entry(number).or_insert_with(|| Finding {
            loss: Loss::Keys(number),
            what: format!(
                "{}: {}; what is sent again under one of its keys is stored again if the first record is not kept any more",
                damage.path.display(),
                damage.what
            ),
            bytes: 0,
            records: Vec::new(),
            files: vec![damage.path.clone()],
        });
        finding.bytes += damage.bytes.end - damage.bytes.start;
    }
    lost.into_values()
}

/// The checkpoint that a start would use.
pub(super) fn newest<'a, D: Disk>(
    disk: &D,
    paths: &Paths,
    found: &'a [Found; 2],
) -> Result<Option<Checkpoint<'a>>, OpenError> {
    let mut manifests: Vec<_> = found.iter().filter_map(Found::manifest).collect();
    manifests.retain(|manifest| manifest.born);
    manifests.sort_by_key(|manifest| std::cmp::Reverse(manifest.generation));
    if manifests.is_empty() {
        return Ok(None);
    }
    choose(disk, paths, &manifests, &mut Vec::new()).map(Some)
}

fn in_segments(
    report: &VerifyReport,
    partition: PartitionKey,
    topic: &str,
    offsets: &Range<Offset>,
) -> Finding {
    let mut finding = Finding {
        loss: Loss::Records {
            topic: topic.to_owned(),
            partition: partition.partition,
            offsets: offsets.clone(),
        },
        what: String::new(),
        bytes: 0,
        records: vec![AffectedRecords {
            partition,
            topic: topic.to_owned(),
            offsets: offsets.clone(),
            is_exact: true,
        }],
        files: Vec::new(),
    };
    let mut what = Vec::new();
    for damage in report.damage.iter().filter(|damage| !damage.is_harmless) {
        // A segment without a run directory may have held anything.
        let concerns = damage.records.as_ref().is_none_or(|(key, records)| {
            *key == partition && records.start < offsets.end && offsets.start < records.end
        });
        if concerns && damage.path.extension().is_some_and(|extension| extension == "seg") {
            finding.bytes += damage.records.as_ref().map_or(0, |_| damage.bytes.end - damage.bytes.start);
            what.push(format!("{}: {}", damage.path.display(), damage.what));
            finding.files.push(damage.path.clone());
        }
    }
    what.dedup();
    finding.files.dedup();
    finding.what = what.join("; ");
    finding
}

/// A journal that can be replayed around its damage, with the parts that are damaged and how that is known.
pub(super) type Salvaged<D> = (Replay<D>, Vec<(Range<JournalPosition>, String)>);

/// Replays a journal around all of its damage, or says why that cannot be done.
pub(super) fn replay_past<D: Disk>(
    disk: &D,
    paths: &Paths,
    from: ReplayFrom,
) -> Result<Result<Salvaged<D>, String>, OpenError> {
    let mut given_up: Vec<Range<JournalPosition>> = Vec::new();
    let mut found = Vec::new();
    loop {
        match Replay::open_past(disk.clone(), &paths.journal, from, &given_up) {
            Ok(replay) => return Ok(Ok((replay, found))),
            Err(ReplayError::Corrupt(damage))
                if !given_up.contains(&damage.positions) && given_up.len() < JOURNAL_FINDINGS_MAX =>
            {
                given_up.push(damage.positions.clone());
                found.push((damage.positions.clone(), damage.to_string()));
            }
            Err(ReplayError::Disk(error)) => return Err(error.into()),
            Err(ReplayError::NewerFormat { path, version, features }) => {
                return Err(OpenError::NewerFormat { path, version, features });
            }
            Err(error @ ReplayError::Missing { .. }) => {
                let why = "what it held is not known, so it cannot be given up: restore it from a copy";
                return Ok(Err(format!("{error}; {why}")));
            }
            Err(error) => return Ok(Err(error.to_string())),
        }
    }
}

fn journal<D: Disk>(
    disk: &D,
    paths: &Paths,
    checkpoint: Checkpoint<'_>,
    plan: &mut RepairPlan,
) -> Result<(), OpenError> {
    let manifest = checkpoint.manifest;
    let identity = Identity { journal: manifest.journal, incarnation: manifest.incarnation };
    let from = ReplayFrom { identity, applied: manifest.applied, proven: manifest.applied };
    let (mut replay, found) = match replay_past(disk, paths, from)? {
        Ok(replayed) => replayed,
        Err(what) => {
            plan.obstacles.push(what);
            return Ok(());
        }
    };
    let mut findings = Vec::new();
    for path in replay.unheaded() {
        findings.push(headless(path, &replay));
    }
    for (positions, what) in found {
        let bytes = positions.end.since(positions.start);
        let loss = Loss::Journal(positions);
        findings.push(Finding { loss, what, bytes, records: Vec::new(), files: vec![paths.journal.clone()] });
    }
    if findings.is_empty() {
        return Ok(());
    }
    // Which loss belongs to which part cannot always be told: all of them are named with the last.
    match losses(&mut replay, checkpoint.state) {
        Ok(records) => findings.last_mut().expect("there is one").records = records,
        Err(what) => plan.obstacles.push(what),
    }
    plan.findings.append(&mut findings);
    Ok(())
}

/// A file whose header can be written again: nothing of it is lost.
fn headless<D: Disk>(path: &Path, replay: &Replay<D>) -> Finding {
    Finding {
        loss: Loss::Journal(replay.positions_of(path)),
        what: format!("the header of {} is damaged; it is made again from its blocks", path.display()),
        bytes: 0,
        records: Vec::new(),
        files: vec![path.to_owned()],
    }
}

fn losses<D: Disk>(replay: &mut Replay<D>, state: NodeState) -> Result<Vec<AffectedRecords>, String> {
    let mut follower = Follower::new(state, replay.holes(), Timestamp::ZERO);
    let mut lost = Vec::new();
    loop {
        let block = replay.blocks_read();
        let Some((frames, _)) = replay.next_block().map_err(|error| error.to_string())? else { break };
        for read in frames {
            let steps = follower.follow(read.frame, block).map_err(|error| error.to_string())?;
            lost.extend(steps.into_iter().filter_map(only_lost));
        }
    }
    lost.extend(follower.finish().into_iter().filter_map(only_lost));
    let affected = lost.into_iter().map(|lost| AffectedRecords {
        partition: lost.partition,
        topic: follower
            .state
            .topics
            .get(&lost.partition.topic)
            .map_or_else(|| lost.partition.topic.to_string(), |topic| topic.name.clone()),
        offsets: lost.offsets,
        is_exact: lost.is_exact,
    });
    Ok(affected.collect())
}

fn only_lost(step: Step) -> Option<super::follow::LostRecords> {
    match step {
        Step::Lost(lost) => Some(lost),
        Step::Frame(_) => None,
    }
}
