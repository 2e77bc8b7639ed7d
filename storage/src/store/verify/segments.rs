//! Verifies segments and their indexes, batch by batch.

use weir_protocol::units::SegmentId;

use super::source::{RunCheck, Source, damaged_batches};
use super::{Progress, VerifyReport};
use crate::checkpoint::{Manifest, Paths, SegmentFacts};
use crate::disk::Disk;
use crate::segment::{Run, SegmentIdentity};
use crate::state::NodeState;
use crate::store::open::OpenError;

/// Bytes between two reports of progress, about.
const PROGRESS_BYTES: u64 = 64 << 20;

/// Verifies all segments that a manifest names.
pub(super) struct Verifier<'a, D: Disk> {
    disk: &'a D,
    paths: &'a Paths,
    manifest: &'a Manifest,
    state: &'a NodeState,
    progress: &'a mut dyn FnMut(Progress),
    bytes_total: u64,
    bytes_done: u64,
    bytes_told: u64,
}

impl<'a, D: Disk> Verifier<'a, D> {
    pub(super) fn new(
        disk: &'a D,
        paths: &'a Paths,
        manifest: &'a Manifest,
        state: &'a NodeState,
        progress: &'a mut dyn FnMut(Progress),
    ) -> Self {
        let bytes_total = manifest.segments.values().map(|facts| facts.bytes).sum();
        Self { disk, paths, manifest, state, progress, bytes_total, bytes_done: 0, bytes_told: 0 }
    }

    /// Verifies everything. Returns the run directories that could be read or made again.
    pub(super) fn run(&mut self, report: &mut VerifyReport) -> Result<Vec<(SegmentId, Vec<Run>)>, OpenError> {
        let mut segments = Vec::new();
        for (segment, facts) in &self.manifest.segments {
            let identity = SegmentIdentity { node: self.manifest.node, segment: *segment };
            if let Some(runs) = self.segment(identity, facts, report)? {
                segments.push((*segment, runs));
            }
        }
        self.tell(self.bytes_total);
        report.bytes += self.bytes_done;
        Ok(segments)
    }

    fn segment(
        &mut self,
        identity: SegmentIdentity,
        facts: &SegmentFacts,
        report: &mut VerifyReport,
    ) -> Result<Option<Vec<Run>>, OpenError> {
        let opened = Source::open(self.disk, &self.paths.segments, identity, facts, &mut report.damage)?;
        let Some((source, runs)) = opened else {
            return Ok(None);
        };
        for (number, run) in runs.iter().enumerate() {
            let mut check = RunCheck::new(&source, number, run);
            while let Some(checked) = check.step()? {
                if let Some(damage) = checked.damage {
                    let log_start = self.state.partitions.get(&run.partition).map(|state| state.log_start);
                    report.damage.push(damaged_batches(&source.file.path, run, damage, log_start));
                }
                self.done(checked.length);
            }
        }
        Ok(Some(runs))
    }

    fn done(&mut self, bytes: u64) {
        self.bytes_done += bytes;
        if self.bytes_done - self.bytes_told >= PROGRESS_BYTES {
            self.tell(self.bytes_done);
        }
    }

    fn tell(&mut self, bytes_done: u64) {
        self.bytes_told = self.bytes_done;
        (self.progress)(Progress { bytes_done, bytes_total: self.bytes_total });
    }
}
