//! Recovers a data directory from one of its checkpoints and the journal behind it.

use std::sync::Arc;

use uuid::Uuid;
use weir_protocol::units::{Incarnation, SegmentId, Timestamp};

use super::leftovers;
use super::{OpenError, OpenOptions, Opened, RecoveryReport, RecoveryVerdict};
use crate::checkpoint::{Found, LoadError, Manifest, Paths, SegmentFacts, Slots, load};
use crate::disk::Disk;
use crate::journal::{Identity, Journal, Replay, ReplayFrom, Tail};
use crate::segment::{Run, SegmentError, SegmentFile, SegmentIdentity, rebuild};
use crate::state::NodeState;
use crate::store::catalog::{Catalog, Extent};
use crate::store::checkpointer::Checkpointer;
use crate::store::flusher::Flusher;
use crate::store::reader::Reader;
use crate::store::shared::Shared;

/// Bytes of frames that are kept in memory before they are written to segments.
const FLUSH_BYTES: u64 = 64 << 20;

/// What a recovery works with.
#[derive(Debug)]
pub(super) struct Recovery<D: Disk> {
    pub(super) disk: D,
    pub(super) paths: Paths,
    pub(super) options: OpenOptions,
    pub(super) now: Timestamp,
}

/// What comes out.
#[derive(Debug)]
pub(super) struct Recovered<D: Disk> {
    journal: Journal<D>,
    flusher: Flusher<D>,
    reader: Reader<D>,
    incarnation: Incarnation,
    node: Uuid,
    report: RecoveryReport,
}

impl<D: Disk> Recovered<D> {
    pub(super) fn into_opened(self, lock: D::Lock, repaired: Vec<String>) -> Opened<D> {
        Opened {
            state: self.flusher.state().clone(),
            journal: self.journal,
            flusher: self.flusher,
            reader: self.reader,
            incarnation: self.incarnation,
            node: self.node,
            report: RecoveryReport { repaired, ..self.report },
            lock,
        }
    }
}

impl<D: Disk> Recovery<D> {
    /// Recovers from `manifest`.
    pub(super) fn run(
        self,
        manifest: &Manifest,
        found: &[Found; 2],
        repaired: &mut Vec<String>,
    ) -> Result<Recovered<D>, OpenError> {
        let state = load_state(&self.disk, &self.paths, manifest)?;
        let segments = read_segments(&self.disk, &self.paths, manifest, repaired)?;
        let catalog = build_catalog(&state, manifest, &segments);
        if let Some((partition, offset)) = catalog.find_gap() {
            return Err(OpenError::Gap { partition, offset });
        }
        let identity = Identity { journal: manifest.journal, incarnation: manifest.incarnation };
        let from = ReplayFrom { identity, applied: manifest.applied, proven: manifest.applied };
        let replay = Replay::open(self.disk.clone(), &self.paths.journal, from)?;
        // From here on the journal is known to be whole: what a dead flush has left behind is in it.
        let mut slots = Slots::new(self.disk.clone(), self.paths.clone(), found);
        slots.distrust_above(manifest.generation);
        let leftovers = leftovers::find(&self.disk, &self.paths, manifest, &slots)?;
        let mut report = RecoveryReport {
            verdict: match replay.tail() {
                Tail::Torn { .. } => RecoveryVerdict::TornTail,
                Tail::Clean if manifest.clean => RecoveryVerdict::Clean,
                Tail::Clean => RecoveryVerdict::Recovered,
            },
            unknown_files: leftovers.unknown,
            ..RecoveryReport::default()
        };
        for path in leftovers.removable {
            if self.disk.remove(&path).is_ok() {
                report.leftovers_removed.push(path);
            }
        }
        let (disk, paths) = (self.disk.clone(), self.paths.clone());
        let shared = Arc::new(Shared::new(disk, paths.segments.clone(), manifest.node, catalog));
        let reader = Reader::new(Arc::clone(&shared));
        let mut checkpointer =
            Checkpointer::new(self.disk.clone(), paths, Arc::clone(&shared), slots, manifest.clone());
        checkpointer.skip_numbers(leftovers.free_segment, leftovers.free_state);
        checkpointer.retire(leftovers.retired_segments, leftovers.retired_states);
        for (segment, runs) in &segments {
            checkpointer.note_segment(*segment, runs);
        }
        for (_, log) in shared.catalog().partitions() {
            log.extents.iter().for_each(|extent| checkpointer.note_extent(extent));
        }
        let flusher = Flusher::new(checkpointer, self.options.segments, state);
        let (journal, flusher) = self.replay(replay, flusher, &mut report)?;
        let incarnation = journal.identity().incarnation;
        Ok(Recovered { journal, flusher, reader, incarnation, node: Uuid::from_bytes(manifest.node), report })
    }

    /// Moves what the journal holds to segments, then lets it go on.
    fn replay(
        &self,
        mut replay: Replay<D>,
        mut flusher: Flusher<D>,
        report: &mut RecoveryReport,
    ) -> Result<(Journal<D>, Flusher<D>), OpenError> {
        report.bytes_replayed = replay.bytes();
        while let Some((frames, end)) = replay.next_block()? {
            report.frames_replayed += frames.len() as u64;
            flusher.accept(frames.into_iter().map(|read| read.frame).collect(), end);
            if flusher.pending_bytes() >= FLUSH_BYTES {
                flusher.apply()?;
                flusher.write_staged(self.now)?;
            }
        }
        flusher.apply()?;
        flusher.write_staged(self.now)?;
        report.quarantined = replay.set_aside(&self.paths.quarantine)?;
        let incarnation = replay.identity().incarnation.next();
        flusher.start_over(incarnation, replay.restart())?;
        let journal = Journal::resume(replay, incarnation, self.options.journal)?;
        Ok((journal, flusher))
    }
}

/// Reads the state that a manifest names.
pub(in crate::store) fn load_state<D: Disk>(
    disk: &D,
    paths: &Paths,
    manifest: &Manifest,
) -> Result<NodeState, OpenError> {
    load(disk, paths, manifest).map_err(|error| match error {
        LoadError::Damaged { path, what } => OpenError::Damaged { path, what },
        LoadError::NewerFormat { path, version, features } => {
            OpenError::NewerFormat { path, version, features }
        }
        LoadError::Disk(error) => OpenError::Disk(error),
    })
}

/// Reads the run directories of all segments.
fn read_segments<D: Disk>(
    disk: &D,
    paths: &Paths,
    manifest: &Manifest,
    repaired: &mut Vec<String>,
) -> Result<Vec<(SegmentId, Vec<Run>)>, OpenError> {
    let mut segments = Vec::with_capacity(manifest.segments.len());
    for (segment, facts) in &manifest.segments {
        let identity = SegmentIdentity { node: manifest.node, segment: *segment };
        segments.push((*segment, read_runs(disk, paths, identity, facts, repaired)?));
    }
    Ok(segments)
}

fn read_runs<D: Disk>(
    disk: &D,
    paths: &Paths,
    identity: SegmentIdentity,
    facts: &SegmentFacts,
    repaired: &mut Vec<String>,
) -> Result<Vec<Run>, OpenError> {
    let file = SegmentFile::open(disk, &paths.segments, identity).map_err(|error| {
        if error.source.kind() == std::io::ErrorKind::NotFound {
            OpenError::Damaged { path: error.path, what: "missing".to_owned() }
        } else {
            OpenError::Disk(error)
        }
    })?;
    match file.runs(facts.bytes, facts.directory_hash) {
        Ok(runs) => Ok(runs),
        Err(SegmentError::Damaged { path, what, bytes }) => {
            if let Some(runs) = rebuild(&file, facts.bytes, facts.directory_hash)? {
                repaired.push(format!("the {what} of {} was made again from its batches", path.display()));
                return Ok(runs);
            }
            Err(SegmentError::Damaged { path, what, bytes }.into())
        }
        Err(error) => Err(error.into()),
    }
}

/// Finds out which runs count: those of partitions that exist, with records that were not given up.
pub(in crate::store) fn build_catalog(
    state: &NodeState,
    manifest: &Manifest,
    segments: &[(SegmentId, Vec<Run>)],
) -> Catalog {
    let mut catalog = Catalog::default();
    for (segment, facts) in &manifest.segments {
        catalog.add_segment(*segment, *facts);
    }
    for (segment, runs) in segments {
        for (number, run) in runs.iter().enumerate() {
            let partition = state.partitions.get(&run.partition);
            if partition.is_some_and(|partition| run.end_offset > partition.log_start) {
                catalog.add(run.partition, Extent::of(*segment, number, run));
            }
        }
    }
    for (partition, state) in &state.partitions {
        catalog.set_bounds(*partition, state.log_start, state.end_offset);
    }
    catalog
}
