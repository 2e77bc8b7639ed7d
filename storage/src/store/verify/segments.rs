//! Verifies segments and their indexes, batch by batch.

use std::ops::Range;
use std::path::PathBuf;

use weir_protocol::units::Offset;

use super::{DamagedRange, Progress, VerifyReport};
use crate::checkpoint::{Manifest, Paths, SegmentFacts};
use crate::disk::Disk;
use crate::segment::{
    Index, Run, SegmentError, SegmentFile, SegmentIdentity, Source, Step, Walk, index_name, rebuild, salvage,
};
use crate::state::NodeState;
use crate::store::catalog::SALVAGED_RUN;
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
        let bytes_total = manifest.segments.values().map(|facts| facts.bytes).sum();
        Self { disk, paths, manifest, state, progress, bytes_total, bytes_done: 0, bytes_told: 0 }
    }

    /// Verifies everything. Returns the run directories that could be read, made again or found in part.
    pub(super) fn run(&mut self, report: &mut VerifyReport) -> Result<Directories, OpenError> {
        let mut found = Directories::default();
        for (segment, facts) in &self.manifest.segments {
            let identity = SegmentIdentity { node: self.manifest.node, segment: *segment };
            self.segment(identity, facts, &mut found, report)?;
        }
        self.tell(self.bytes_total);
        report.bytes += self.bytes_done;
        Ok(found)
    }

    fn segment(
        &mut self,
        identity: SegmentIdentity,
        facts: &SegmentFacts,
        found: &mut Directories,
        report: &mut VerifyReport,
    ) -> Result<(), OpenError> {
        let file = match SegmentFile::open(self.disk, &self.paths.segments, identity) {
            Ok(file) => file,
            Err(error) if error.source.kind() == std::io::ErrorKind::NotFound => {
                report.damage.push(damage(error.path, 0..facts.bytes, "segment is missing", false));
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let mut is_whole = true;
        let runs = match file.runs(facts.bytes, facts.directory_hash) {
            Ok(runs) => runs,
            Err(SegmentError::Damaged { path, what, bytes }) => {
                let rebuilt = rebuild(&file, facts.bytes, facts.directory_hash)?;
                is_whole = rebuilt.is_some();
                report.damage.push(damage(path, bytes, what, is_whole));
                match rebuilt {
                    Some(runs) => runs,
                    None => salvage(self.disk, &file, facts.bytes, facts.directory_hash)?,
                }
            }
            Err(error) => return Err(error.into()),
        };
        let index = Index::map(self.disk, &file, facts.directory_hash)?;
        if index.is_none() {
            let path = self.paths.segments.join(index_name(identity.segment));
            report.damage.push(damage(
                path,
                0..0,
                "index is missing or damaged; it will be made again",
                true,
            ));
        }
        let file = Source { file, index };
        for (number, run) in runs.iter().enumerate() {
            let number = if is_whole { number } else { SALVAGED_RUN };
            self.verify_run(&file, number, run, report)?;
        }
        let into = if is_whole { &mut found.whole } else { &mut found.salvaged };
        into.push((identity.segment, runs));
        Ok(())
    }

    fn verify_run(
        &mut self,
        source: &Source<D>,
        number: usize,
        run: &Run,
        report: &mut VerifyReport,
    ) -> Result<(), OpenError> {
        let file = &source.file;
        let mut walk = Walk::new(file, run.range());
        let mut expected = run.base_offset;
        loop {
            match walk.step()? {
                Step::Batch { batch, position } => {
                    let length = batch.length() as u64;
                    let is_ours = batch.producer.header().partition == run.partition;
                    if !is_ours || batch.base_offset() < expected {
                        let next = batch.end_offset().max(expected);
                        let bytes = position..position + length;
                        self.note((file, run), bytes, expected..next.min(run.end_offset), report);
                    } else if batch.base_offset() > expected {
                        self.note((file, run), position..position, expected..batch.base_offset(), report);
                    }
                    if is_ours {
                        expected = expected.max(batch.end_offset());
                    }
                    self.done(length);
                }
                Step::Damaged { position, length } => {
                    let (next, offset) = source.resume(number, run, position, length)?;
                    self.note((file, run), position..next, expected..offset, report);
                    self.done(next - position);
                    expected = offset;
                    walk.skip_to(next);
                }
                Step::End => break,
            }
        }
        if expected < run.end_offset {
            self.note((file, run), run.range().end..run.range().end, expected..run.end_offset, report);
        }
        Ok(())
    }

    /// Takes note of records that cannot be read, as far as they count.
    fn note(
        &self,
        place: (&SegmentFile<D::File>, &Run),
        bytes: Range<u64>,
        records: Range<Offset>,
        report: &mut VerifyReport,
    ) {
        let (file, run) = place;
        let mut found = damage(file.path.clone(), bytes, "batches", true);
        if let Some(state) = self.state.partitions.get(&run.partition) {
            let records = records.start.max(state.log_start)..records.end;
            found.is_harmless = state.given_up.remainder(&records).is_empty();
            found.records = (!records.is_empty()).then_some((run.partition, records));
        }
        report.damage.push(found);
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

fn damage(path: PathBuf, bytes: Range<u64>, what: &str, is_harmless: bool) -> DamagedRange {
    DamagedRange { path, bytes, what: what.to_owned(), records: None, is_harmless }
}
