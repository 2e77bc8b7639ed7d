//! Verifies segments and their indexes, batch by batch.

use std::ops::ControlFlow;

use super::keys::check_keys;
use super::source::{Standing, damaged_batches, open};
use super::{Progress, VerifyReport};
use crate::checkpoint::{Manifest, Paths, SegmentFacts};
use crate::disk::Disk;
use crate::segment::SegmentIdentity;
use crate::state::NodeState;
use crate::store::open::OpenError;
use crate::store::open::directories::Directories;

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
        let keys = manifest.generations.values().map(|facts| facts.bytes);
        let bytes_total = manifest.segments.values().map(|facts| facts.bytes).chain(keys).sum();
        Self { disk, paths, manifest, state, progress, bytes_total, bytes_done: 0, bytes_told: 0 }
    }

    /// Verifies everything. Returns the run directories that could be read, made again or found in part.
    pub(super) fn run(&mut self, report: &mut VerifyReport) -> Result<Directories, OpenError> {
        let mut found = Directories::default();
        for (segment, facts) in &self.manifest.segments {
            let identity = SegmentIdentity { node: self.manifest.node, segment: *segment };
            self.segment(identity, facts, &mut found, report)?;
        }
        Ok(found)
    }

    /// Verifies all generations of keys.
    pub(super) fn keys(&mut self, report: &mut VerifyReport) -> Result<(), OpenError> {
        for (generation, facts) in &self.manifest.generations {
            let identity = SegmentIdentity { node: self.manifest.node, segment: *generation };
            let place = (self.disk, self.paths.segments.as_path());
            let mut pace = |bytes| {
                self.done(bytes);
                ControlFlow::Continue(())
            };
            let checked = check_keys(place, (identity, *facts), &mut report.damage, &mut pace)?;
            assert!(checked.is_continue(), "nobody stops a verification");
        }
        self.tell(self.bytes_total);
        report.bytes += self.bytes_done;
        Ok(())
    }

    fn segment(
        &mut self,
        identity: SegmentIdentity,
        facts: &SegmentFacts,
        found: &mut Directories,
        report: &mut VerifyReport,
    ) -> Result<(), OpenError> {
        let opened = open(self.disk, &self.paths.segments, identity, facts, &mut report.damage)?;
        let Some(opened) = opened else {
            return Ok(());
        };
        for (run, mut check) in opened.checks() {
            let state = self.state.partitions.get(&run.partition);
            let standing =
                state.map(|state| Standing { log_start: state.log_start, given_up: &state.given_up });
            while let Some(checked) = check.step()? {
                if let Some(damage) = checked.damage {
                    report.damage.push(damaged_batches(&opened.source.file.path, run, damage, standing));
                }
                self.done(checked.length);
            }
        }
        let into = if opened.is_whole { &mut found.whole } else { &mut found.salvaged };
        into.push((identity.segment, opened.runs));
        Ok(())
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
