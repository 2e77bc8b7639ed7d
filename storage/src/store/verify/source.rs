//! One segment under verification: opened, and its runs checked batch by batch.

use std::ops::Range;
use std::path::{Path, PathBuf};

use weir_protocol::units::Offset;

use super::DamagedRange;
use crate::checkpoint::SegmentFacts;
use crate::disk::Disk;
use crate::segment::{
    Index, Run, SegmentError, SegmentFile, SegmentIdentity, Source, Step, Walk, index_name, rebuild, salvage,
};
use crate::state::GivenUp;
use crate::store::catalog::SALVAGED_RUN;

/// A segment that can be read, at least in part.
pub(in crate::store) struct Opened<D: Disk> {
    pub(in crate::store) source: Source<D>,
    /// Its runs, as far as they are known.
    pub(in crate::store) runs: Vec<Run>,
    /// Whether these are all of them. If not, they were found by their batches.
    pub(in crate::store) is_whole: bool,
}

/// A check of the batches of a run.
pub(in crate::store) struct RunCheck<'a, D: Disk> {
    source: &'a Source<D>,
    number: usize,
    run: &'a Run,
    walk: Walk<'a, D::File>,
    expected: Offset,
}

/// A step of a check.
pub(in crate::store) struct Checked {
    /// Bytes that were looked at.
    pub(in crate::store) length: u64,
    /// Records that should stand there and do not, with the bytes they should have.
    pub(in crate::store) damage: Option<(Range<u64>, Range<Offset>)>,
}

/// Opens a segment with its run directory, which may have to be made again from the batches. What is found to be damaged
/// is added to `found`; `None` if the segment is missing.
pub(in crate::store) fn open<D: Disk>(
    disk: &D,
    segments: &Path,
    identity: SegmentIdentity,
    facts: &SegmentFacts,
    found: &mut Vec<DamagedRange>,
) -> Result<Option<Opened<D>>, SegmentError> {
    let file = match SegmentFile::open(disk, segments, identity) {
        Ok(file) => file,
        Err(error) if error.source.kind() == std::io::ErrorKind::NotFound => {
            found.push(damage(error.path, 0..facts.bytes, "segment is missing", false));
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    let mut is_whole = true;
    let runs = match file.runs(facts.bytes, facts.directory_hash) {
        Ok(runs) => runs,
        Err(SegmentError::Damaged { path, what, bytes }) => {
            let rebuilt = rebuild(&file, facts.bytes, facts.directory_hash)?;
            is_whole = rebuilt.is_some();
            found.push(damage(path, bytes, what, is_whole));
            match rebuilt {
                Some(runs) => runs,
                None => salvage(disk, &file, facts.bytes, facts.directory_hash)?,
            }
        }
        Err(error) => return Err(error),
    };
    let index = Index::map(disk, &file, facts.directory_hash)?;
    if index.is_none() {
        let path = segments.join(index_name(identity.segment));
        found.push(damage(path, 0..0, "index is missing or damaged; it will be made again", true));
    }
    Ok(Some(Opened { source: Source { file, index }, runs, is_whole }))
}

impl<D: Disk> Opened<D> {
    /// A check of each run.
    pub(in crate::store) fn checks(&self) -> impl Iterator<Item = (&Run, RunCheck<'_, D>)> {
        self.runs.iter().enumerate().map(|(number, run)| {
            let number = if self.is_whole { number } else { SALVAGED_RUN };
            (run, RunCheck::new(&self.source, number, run))
        })
    }
}

impl<'a, D: Disk> RunCheck<'a, D> {
    /// A check of the run with this number in the segment's directory.
    fn new(source: &'a Source<D>, number: usize, run: &'a Run) -> Self {
        let walk = Walk::new(&source.file, run.range());
        Self { source, number, run, walk, expected: run.base_offset }
    }

    /// Checks the next batch; `None` at the end of the run.
    pub(in crate::store) fn step(&mut self) -> Result<Option<Checked>, SegmentError> {
        let (expected, run) = (self.expected, self.run);
        match self.walk.step()? {
            Step::Batch { batch, position } => {
                let length = batch.length() as u64;
                let is_ours = batch.producer.header().partition == run.partition;
                let damage = if !is_ours || batch.base_offset() < expected {
                    let next = batch.end_offset().max(expected);
                    Some((position..position + length, expected..next.min(run.end_offset)))
                } else if batch.base_offset() > expected {
                    Some((position..position, expected..batch.base_offset()))
                } else {
                    None
                };
                if is_ours {
                    self.expected = expected.max(batch.end_offset());
                }
                Ok(Some(Checked { length, damage }))
            }
            Step::Damaged { position, length } => {
                let (next, offset) = self.source.resume(self.number, run, position, length)?;
                self.expected = offset;
                self.walk.skip_to(next);
                let damage = Some((position..next, expected..offset));
                Ok(Some(Checked { length: next - position, damage }))
            }
            Step::End if expected < run.end_offset => {
                let end = run.range().end;
                self.expected = run.end_offset;
                Ok(Some(Checked { length: 0, damage: Some((end..end, expected..run.end_offset)) }))
            }
            Step::End => Ok(None),
        }
    }
}

fn damage(path: PathBuf, bytes: Range<u64>, what: &str, is_harmless: bool) -> DamagedRange {
    DamagedRange { path, bytes, what: what.to_owned(), records: None, is_harmless }
}

/// What of the records of a partition is not missed by anybody.
#[derive(Clone, Copy)]
pub(in crate::store) struct Standing<'a> {
    pub(in crate::store) log_start: Offset,
    pub(in crate::store) given_up: &'a GivenUp,
}

/// Damage of batches of a run, as far as its records count; without a `standing` the partition is gone.
pub(in crate::store) fn damaged_batches(
    path: &Path,
    run: &Run,
    (bytes, records): (Range<u64>, Range<Offset>),
    standing: Option<Standing<'_>>,
) -> DamagedRange {
    let mut found = damage(path.to_owned(), bytes, "batches", true);
    if let Some(Standing { log_start, given_up }) = standing {
        let records = records.start.max(log_start)..records.end;
        found.is_harmless = given_up.remainder(&records).is_empty();
        found.records = (!records.is_empty()).then_some((run.partition, records));
    }
    found
}
