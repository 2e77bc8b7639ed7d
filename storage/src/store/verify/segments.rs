//! Verifies segments and their indexes, batch by batch.

use std::ops::Range;
use std::path::PathBuf;

use weir_protocol::units::{Offset, SegmentId};

use super::{DamagedRange, Progress, VerifyReport};
use crate::checkpoint::{Manifest, Paths, SegmentFacts};
use crate::disk::Disk;
use crate::segment::{
    Index, Run, SegmentError, SegmentFile, SegmentIdentity, Step, Walk, index_name, rebuild, walk_sections,
};
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
        let file = match SegmentFile::open(self.disk, &self.paths.segments, identity) {
            Ok(file) => file,
            Err(error) if error.source.kind() == std::io::ErrorKind::NotFound => {
                report.damage.push(damage(error.path, 0..facts.bytes, "segment is missing", false));
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        let runs = match file.runs(facts.bytes, facts.directory_hash) {
            Ok(runs) => runs,
            Err(SegmentError::Damaged { path, what, bytes }) => {
                let rebuilt = rebuild(&file, facts.bytes, facts.directory_hash)?;
                report.damage.push(damage(path, bytes, what, rebuilt.is_some()));
                let Some(runs) = rebuilt else {
                    return Ok(None);
                };
                runs
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
            self.verify_run(&file, number, run, report)?;
        }
        Ok(Some(runs))
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
        let log_start = self.state.partitions.get(&run.partition).map(|state| state.log_start);
        let counts = log_start.is_some_and(|log_start| records.end > log_start) && !records.is_empty();
        let mut found = damage(file.path.clone(), bytes, "batches", !counts);
        if let Some(log_start) = log_start.filter(|_| counts) {
            found.records = Some((run.partition, records.start.max(log_start)..records.end));
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

/// A segment and its index.
struct Source<D: Disk> {
    file: SegmentFile<D::File>,
    index: Option<Index<D::Map>>,
}

impl<D: Disk> Source<D> {
    /// Where the next batch behind a damaged one starts, and with which offset. If the length of the damaged one is
    /// lost, the index knows where another one starts.
    fn resume(
        &self,
        number: usize,
        run: &Run,
        bad: u64,
        length: Option<u64>,
    ) -> Result<(u64, Offset), SegmentError> {
        let end = run.range().end;
        if let Some(next) = length.map(|length| bad + length).filter(|next| *next < end) {
            let first = walk_sections(&self.file, next..end, |section, _| Some(section.base_offset))?;
            if let Ok(Some(offset)) = first {
                return Ok((next, offset));
            }
        }
        let number = u32::try_from(number).expect("runs of one segment are limited to 32 bits");
        let entry = self.index.as_ref().and_then(|index| index.after_position(number, bad));
        Ok(entry.map_or((end, run.end_offset), |entry| (entry.position, entry.base_offset)))
    }
}
