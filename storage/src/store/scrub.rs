//! The scrub: reads sealed segments and generations of keys one after the other while the node serves, and tells what rot has done to them.
//! It changes nothing, and what it reads it reads from the medium.

use std::io::ErrorKind;
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use weir_protocol::units::SegmentId;

use super::shared::Shared;
use super::verify::DamagedRange;
use super::verify::keys::check_keys;
use super::verify::source::{Standing, damaged_batches, open};
use crate::checkpoint::SegmentFacts;
use crate::dedup::generation::GenerationFacts;
use crate::disk::{Context, Disk, DiskError, File};
use crate::segment::SegmentError;

/// Walks over all segments, again and again.
#[derive(Debug)]
pub struct Scrub<D: Disk> {
    shared: Arc<Shared<D>>,
    /// The segment that was looked at last in this pass.
    last: Option<SegmentId>,
}

/// A sealed file that counts.
enum Facts {
    Segment(SegmentFacts),
    Keys(GenerationFacts),
}

impl Facts {
    const fn bytes(&self) -> u64 {
        match self {
            Self::Segment(facts) => facts.bytes,
            Self::Keys(facts) => facts.bytes,
        }
    }
}

/// What a step of a scrub has found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Scrubbed {
    /// A segment, or a generation of keys, was read.
    Segment {
        /// Which.
        segment: SegmentId,
        /// What is damaged of it, and would be missed.
        damage: Vec<DamagedRange>,
    },
    /// It was asked to stop in the middle; the next step begins with the same segment.
    Stopped,
    /// All segments were read: the next step begins a new pass.
    PassEnded,
}

impl<D: Disk> Scrub<D> {
    pub(super) const fn new(shared: Arc<Shared<D>>) -> Self {
        Self { shared, last: None }
    }

    /// Reads the next segment. `pace` is told how many bytes were read after each batch; it may take its time, and may
    /// say that it is enough.
    ///
    /// # Errors
    /// [`DiskError`] if the disk failed to read. The next step goes on with the next segment.
    pub fn step(&mut self, mut pace: impl FnMut(u64) -> ControlFlow<()>) -> Result<Scrubbed, DiskError> {
        let before = self.last.map_or(Bound::Unbounded, Bound::Excluded);
        let next_segment = self.shared.catalog().next_segment(before);
        let next_keys = self.shared.keys().next(before);
        let next_file = next_segment.map(|(segment, facts)| (segment, Facts::Segment(facts))).into_iter();
        let next_file = next_file.chain(next_keys.map(|(number, facts)| (number, Facts::Keys(facts))));
        let Some((segment, facts)) = next_file.min_by_key(|(number, _)| *number) else {
            self.last = None;
            return Ok(Scrubbed::PassEnded);
        };
        let previous = self.last.replace(segment);
        let mut damage = Vec::new();
        let read = match &facts {
            Facts::Segment(facts) => self.read(segment, facts, &mut pace, &mut damage),
            Facts::Keys(facts) => self.read_keys(segment, *facts, &mut pace, &mut damage),
        };
        match read {
            Ok(ControlFlow::Continue(())) => {}
            Ok(ControlFlow::Break(())) => {
                self.last = previous;
                return Ok(Scrubbed::Stopped);
            }
            Err(SegmentError::Disk(error)) if error.source.kind() != ErrorKind::UnexpectedEof => {
                return Err(error);
            }
            Err(error) => damage.push(unreadable(&error, facts.bytes())),
        }
        // What was merged or given up meanwhile is missed by nobody.
        let is_kept = match facts {
            Facts::Segment(_) => self.shared.catalog().segment(segment).is_some(),
            Facts::Keys(_) => self.shared.keys().holds(segment),
        };
        if !is_kept {
            damage.clear();
        }
        damage.retain(|damage| !damage.is_harmless);
        Ok(Scrubbed::Segment { segment, damage })
    }

    fn read_keys(
        &self,
        generation: SegmentId,
        facts: GenerationFacts,
        pace: &mut dyn FnMut(u64) -> ControlFlow<()>,
        damage: &mut Vec<DamagedRange>,
    ) -> Result<ControlFlow<()>, SegmentError> {
        let place = self.shared.place();
        check_keys(place, (self.shared.identity(generation), facts), damage, pace)
    }

    fn read(
        &self,
        segment: SegmentId,
        facts: &SegmentFacts,
        pace: &mut dyn FnMut(u64) -> ControlFlow<()>,
        damage: &mut Vec<DamagedRange>,
    ) -> Result<ControlFlow<()>, SegmentError> {
        let (disk, directory) = self.shared.place();
        let Some(opened) = open(disk, directory, self.shared.identity(segment), facts, damage)? else {
            return Ok(ControlFlow::Continue(()));
        };
        let file = &opened.source.file;
        file.file.drop_cache().context("drop the cache of", &file.path)?;
        for (run, mut check) in opened.checks() {
            while let Some(checked) = check.step()? {
                if let Some(bad) = checked.damage {
                    let catalog = self.shared.catalog();
                    let standing = catalog
                        .partition(run.partition)
                        .map(|log| Standing { log_start: log.log_start, given_up: &log.given_up });
                    damage.push(damaged_batches(&file.path, run, bad, standing));
                }
                if pace(checked.length).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        // Nobody asked for these bytes: they must not push out what others read.
        file.file.drop_cache().context("drop the cache of", &file.path)?;
        Ok(ControlFlow::Continue(()))
    }
}

/// A segment that ends too early, or that a later version wrote.
fn unreadable(error: &SegmentError, bytes: u64) -> DamagedRange {
    let path = match error {
        SegmentError::Damaged { path, .. } | SegmentError::NewerFormat { path, .. } => path.clone(),
        SegmentError::Disk(error) => error.path.clone(),
    };
    DamagedRange { path, bytes: 0..bytes, what: error.to_string(), records: None, is_harmless: false }
}
