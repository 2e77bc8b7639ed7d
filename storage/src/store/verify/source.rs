//! One segment under verification: opened, and its runs checked batch by batch.

use std::ops::Range;
use std::path::{Path, PathBuf};

use weir_protocol::units::Offset;

use super::DamagedRange;
use crate::checkpoint::SegmentFacts;
use crate::disk::Disk;
use crate::segment::{
    Index, Run, SegmentError, SegmentFile, SegmentIdentity, Step, Walk, index_name, rebuild, walk_sections,
};

/// A segment and its index.
pub(in crate::store) struct Source<D: Disk> {
    pub(in crate::store) file: SegmentFile<D::File>,
    index: Option<Index<D::Map>>,
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

impl<D: Disk> Source<D> {
    /// Opens a segment with its run directory, which may have to be made again from the batches. What is found to be
    /// damaged is added to `damage`; `None` if nothing of the segment can be read.
    pub(in crate::store) fn open(
        disk: &D,
        segments: &Path,
        identity: SegmentIdentity,
        facts: &SegmentFacts,
        found: &mut Vec<DamagedRange>,
    ) -> Result<Option<(Self, Vec<Run>)>, SegmentError> {
        let file = match SegmentFile::open(disk, segments, identity) {
            Ok(file) => file,
            Err(error) if error.source.kind() == std::io::ErrorKind::NotFound => {
                found.push(damage(error.path, 0..facts.bytes, "segment is missing", false));
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        let runs = match file.runs(facts.bytes, facts.directory_hash) {
            Ok(runs) => runs,
            Err(SegmentError::Damaged { path, what, bytes }) => {
                let rebuilt = rebuild(&file, facts.bytes, facts.directory_hash)?;
                found.push(damage(path, bytes, what, rebuilt.is_some()));
                let Some(runs) = rebuilt else {
                    return Ok(None);
                };
                runs
            }
            Err(error) => return Err(error),
        };
        let index = Index::map(disk, &file, facts.directory_hash)?;
        if index.is_none() {
            let path = segments.join(index_name(identity.segment));
            found.push(damage(path, 0..0, "index is missing or damaged; it will be made again", true));
        }
        Ok(Some((Self { file, index }, runs)))
    }

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

impl<'a, D: Disk> RunCheck<'a, D> {
    /// A check of the run with this number in the segment's directory.
    pub(in crate::store) fn new(source: &'a Source<D>, number: usize, run: &'a Run) -> Self {
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

/// Damage of batches of a run, as far as its records count: those below `log_start` were given up, and without one
/// the partition is gone.
pub(in crate::store) fn damaged_batches(
    path: &Path,
    run: &Run,
    (bytes, records): (Range<u64>, Range<Offset>),
    log_start: Option<Offset>,
) -> DamagedRange {
    let counts = log_start.is_some_and(|log_start| records.end > log_start) && !records.is_empty();
    let mut found = damage(path.to_owned(), bytes, "batches", !counts);
    if let Some(log_start) = log_start.filter(|_| counts) {
        found.records = Some((run.partition, records.start.max(log_start)..records.end));
    }
    found
}
