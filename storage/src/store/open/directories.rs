//! Reads the run directories of all segments. A segment that is missing or damaged keeps nobody from starting: what
//! is left of it is served, and reads of the rest are told which records they cannot have.

use std::io::ErrorKind;
use std::ops::Range;

use weir_protocol::units::{Offset, SegmentId};

use super::OpenError;
use crate::checkpoint::{Manifest, Paths, SegmentFacts};
use crate::disk::Disk;
use crate::segment::{Run, SegmentError, SegmentFile, SegmentIdentity, rebuild, salvage};
use crate::state::NodeState;
use crate::store::catalog::{Catalog, Extent, SALVAGED_RUN};

/// What the run directories say.
#[derive(Debug, Default)]
pub(in crate::store) struct Directories {
    /// Of the segments whose directory is whole, or was made again.
    pub(in crate::store) whole: Vec<(SegmentId, Vec<Run>)>,
    /// What was found in segments whose directory cannot be made again.
    pub(in crate::store) salvaged: Vec<(SegmentId, Vec<Run>)>,
    /// Damage that was made good, in words.
    pub(in crate::store) repaired: Vec<String>,
    /// Segments that are missing or of which not all is left, in words.
    pub(in crate::store) damaged: Vec<String>,
}

/// Reads the run directories of all segments that a manifest names.
pub(in crate::store) fn read<D: Disk>(
    disk: &D,
    paths: &Paths,
    manifest: &Manifest,
) -> Result<Directories, OpenError> {
    let mut found = Directories::default();
    for (segment, facts) in &manifest.segments {
        let identity = SegmentIdentity { node: manifest.node, segment: *segment };
        found.read_segment(disk, paths, identity, facts)?;
    }
    Ok(found)
}

/// How often a disk is asked for what it fails to read. What it still does not give counts as damaged until the next start,
/// and readers pass over it: that must not come of a fault that goes away.
const READ_TRIES: usize = 8;

fn insist<T>(mut read: impl FnMut() -> Result<T, SegmentError>) -> Result<T, SegmentError> {
    let mut result = read();
    for _ in 1..READ_TRIES {
        if !matches!(result, Err(SegmentError::Disk(_))) {
            break;
        }
        result = read();
    }
    result
}

impl Directories {
    fn read_segment<D: Disk>(
        &mut self,
        disk: &D,
        paths: &Paths,
        identity: SegmentIdentity,
        facts: &SegmentFacts,
    ) -> Result<(), OpenError> {
        let segment = identity.segment;
        let file = match SegmentFile::open(disk, &paths.segments, identity) {
            Ok(file) => file,
            Err(error) if error.source.kind() == ErrorKind::NotFound => {
                self.damaged.push(format!("{} is missing", error.path.display()));
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let error = match insist(|| file.runs(facts.bytes, facts.directory_hash)) {
            Ok(runs) => {
                self.whole.push((segment, runs));
                return Ok(());
            }
            Err(error @ SegmentError::NewerFormat { .. }) => return Err(error.into()),
            Err(error @ (SegmentError::Damaged { .. } | SegmentError::Disk(_))) => error,
        };
        if let Ok(Some(runs)) = insist(|| rebuild(&file, facts.bytes, facts.directory_hash)) {
            self.repaired.push(format!("{error}; it was made again from its batches"));
            self.whole.push((segment, runs));
            return Ok(());
        }
        let left = insist(|| salvage(disk, &file, facts.bytes, facts.directory_hash)).unwrap_or_default();
        self.damaged.push(format!("{error}, and so are some of its batches"));
        self.salvaged.push((segment, left));
        Ok(())
    }

    /// Finds out which runs count: those of partitions that exist, with records that were not trimmed.
    pub(in crate::store) fn catalog(&self, state: &NodeState, manifest: &Manifest) -> Catalog {
        let mut catalog = Catalog::default();
        for (segment, facts) in &manifest.segments {
            catalog.add_segment(*segment, *facts);
        }
        for (segment, runs) in &self.whole {
            for (number, run) in runs.iter().enumerate() {
                let partition = state.partitions.get(&run.partition);
                if partition.is_some_and(|partition| run.end_offset > partition.log_start) {
                    catalog.add(run.partition, Extent::of(*segment, number, run));
                }
            }
        }
        for (partition, state) in &state.partitions {
            catalog.set_bounds(*partition, state.log_start, state.end_offset);
            catalog.set_given_up(*partition, state.given_up.clone());
        }
        for (segment, runs) in &self.salvaged {
            for run in runs {
                // Nothing but its own checksum speaks for it: it counts only where all other segments lack it.
                let is_missing = catalog.partition(run.partition).is_some_and(|log| {
                    // The first gap may begin in the middle of a run: its older records were trimmed.
                    let records = run.base_offset.max(log.log_start)..run.end_offset;
                    let fits = |gap: &Range<Offset>| gap.start <= records.start && records.end <= gap.end;
                    !records.is_empty() && log.gaps().iter().any(fits)
                });
                if is_missing {
                    catalog.add(run.partition, Extent::of(*segment, SALVAGED_RUN, run));
                }
            }
        }
        catalog
    }
}
