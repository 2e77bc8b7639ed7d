//! Merges generations: fewer of them make fewer filters to ask.
//!
//! Only keys that are forgotten at about the same time are put together, so that whole generations can still be dropped.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;

use weir_protocol::units::{SegmentId, TopicId};

use super::{Generation, Keys};
use crate::dedup::generation::{
    GenerationFacts, GenerationFile, GenerationWriter, VERSIONS_CLASS, WrittenGeneration, class_horizon_us,
};
use crate::dedup::{Entry, KeyDigest};
use crate::disk::{Disk, DiskError, File};
use crate::segment::{SegmentError, SegmentIdentity};

/// Generations that are merged at once, at most.
const INPUTS_MAX: usize = 64;

/// Generations of a horizon are put together as far as they are forgotten within this part of it.
const SLICES_PER_HORIZON: u64 = 4;

/// Finds out what is worth to be merged: `files` of a similar size, or all of a slice that gets no more.
pub(in crate::store) fn plan<F: File>(
    keys: &Keys<F>,
    running_us: u64,
    (files, unmergeable): (usize, &BTreeSet<SegmentId>),
) -> Option<Vec<Generation<F>>> {
    let mut slices: BTreeMap<(u32, u64), Vec<&Generation<F>>> = BTreeMap::new();
    for held in keys.generations() {
        if held.file.is_some() && !unmergeable.contains(&held.number) {
            slices.entry(slice_of(held.facts.class, held.facts.expires_us)).or_default().push(held);
        }
    }
    slices.into_iter().find_map(|((class, slice), members)| {
        // What comes now is forgotten after half of the longest horizon of its class, at the earliest.
        let earliest = running_us.saturating_add(class_horizon_us(class) / 2);
        let is_closed = slice < slice_of(class, earliest).1;
        let chosen = if is_closed && members.len() > 1 { Some(members) } else { full_tier(members, files) };
        chosen.map(|chosen| chosen.into_iter().rev().take(INPUTS_MAX).cloned().collect())
    })
}

/// All generations of versions, as far as they can be merged: together they hold nothing twice, and nothing of topics that
/// are gone.
pub(in crate::store) fn plan_sweep<F: File>(
    keys: &Keys<F>,
    unmergeable: &BTreeSet<SegmentId>,
) -> Option<Vec<Generation<F>>> {
    let held = keys.generations().iter().rev().filter(|held| held.is_of_versions());
    let whole = held.filter(|held| held.file.is_some() && !unmergeable.contains(&held.number));
    let inputs: Vec<Generation<F>> = whole.take(INPUTS_MAX).cloned().collect();
    (!inputs.is_empty()).then_some(inputs)
}

fn slice_of(class: u32, expires_us: u64) -> (u32, u64) {
    (class, expires_us / (class_horizon_us(class) / SLICES_PER_HORIZON).max(1))
}

/// Generations of similar size, if there are enough: the bounds of a tier differ by a factor of eight.
fn full_tier<F>(members: Vec<&Generation<F>>, files: usize) -> Option<Vec<&Generation<F>>> {
    let mut tiers: BTreeMap<u32, Vec<&Generation<F>>> = BTreeMap::new();
    for held in members {
        tiers.entry(held.facts.entries.max(1).ilog2() / 3).or_default().push(held);
    }
    tiers.into_values().find(|tier| tier.len() >= files.max(2))
}

/// A merge that was begun.
#[derive(Debug)]
pub(in crate::store) struct KeyMerge<D: Disk> {
    inputs: Vec<Cursor<D::File>>,
    /// The next key of each input that has one.
    heads: BinaryHeap<Reverse<(KeyDigest, usize)>>,
    /// The key that is written next, unless another input has it, too.
    next: Option<Entry>,
    output: SegmentId,
    writer: GenerationWriter<D>,
    facts: GenerationFacts,
    /// The topics that keep versions; those of others are left out.
    versioned: BTreeSet<TopicId>,
}

/// Why a merge came to an end.
#[derive(Debug)]
pub(in crate::store) enum KeyMergeError {
    /// An input is damaged: it is left as it is.
    Damaged(SegmentId),
    /// The disk failed.
    Disk(DiskError),
}

impl From<DiskError> for KeyMergeError {
    fn from(error: DiskError) -> Self {
        Self::Disk(error)
    }
}

/// Reads a generation from front to back.
#[derive(Debug)]
struct Cursor<F> {
    number: SegmentId,
    file: Arc<GenerationFile<F>>,
    next_block: usize,
    entries: std::vec::IntoIter<Entry>,
    head: Option<Entry>,
}

impl<D: Disk> KeyMerge<D> {
    /// Begins to merge inputs of one class into a generation of this identity. `versioned` are the topics that keep versions.
    pub(in crate::store) fn begin(
        disk: &D,
        directory: &std::path::Path,
        identity: SegmentIdentity,
        (inputs, versioned): (Vec<Generation<D::File>>, BTreeSet<TopicId>),
    ) -> Result<Self, DiskError> {
        let entries_max = inputs.iter().map(|held| held.facts.entries).sum();
        let facts = GenerationFacts {
            bytes: 0,
            entries: 0,
            directory_hash: 0,
            class: inputs.iter().map(|held| held.facts.class).max().unwrap_or_default(),
            expires_us: inputs.iter().map(|held| held.facts.expires_us).max().unwrap_or_default(),
        };
        let cursors = inputs.into_iter().filter_map(|held| {
            let file = held.file?;
            let entries = Vec::new().into_iter();
            Some(Cursor { number: held.number, file, next_block: 0, entries, head: None })
        });
        Ok(Self {
            inputs: cursors.collect(),
            heads: BinaryHeap::new(),
            next: None,
            output: identity.segment,
            writer: GenerationWriter::create(disk, directory, identity, entries_max)?,
            facts,
            versioned,
        })
    }

    /// Copies at most so many keys; says whether these were all.
    pub(in crate::store) fn step(&mut self, entries_max: u64) -> Result<bool, KeyMergeError> {
        if self.heads.is_empty() && self.next.is_none() {
            for number in 0..self.inputs.len() {
                self.advance(number)?;
            }
        }
        for _ in 0..entries_max {
            let Some(Reverse((_, number))) = self.heads.pop() else {
                if let Some(last) = self.next.take() {
                    self.writer.push(&last)?;
                }
                return Ok(true);
            };
            let Some(entry) = self.inputs.get_mut(number).and_then(|input| input.head.take()) else {
                continue;
            };
            match self.next {
                _ if !self.is_needed(&entry) => {}
                Some(next) if next.digest == entry.digest => {
                    self.next = [next, entry].into_iter().max_by_key(Entry::age);
                }
                Some(next) => {
                    self.writer.push(&next)?;
                    self.next = Some(entry);
                }
                None => self.next = Some(entry),
            }
            self.advance(number)?;
        }
        Ok(false)
    }

    /// Whether an entry says anything of a topic that there is. That of idempotency keys is forgotten with their horizon.
    fn is_needed(&self, entry: &Entry) -> bool {
        self.facts.class != VERSIONS_CLASS
            || self.versioned.contains(&TopicId::from_bytes(entry.fingerprint.0))
    }

    /// Seals what was merged.
    pub(in crate::store) fn finish(self) -> Result<WrittenGeneration<D::File>, DiskError> {
        self.writer.finish(self.facts.class, self.facts.expires_us)
    }

    /// The generation that is written.
    pub(in crate::store) const fn output(&self) -> SegmentId {
        self.output
    }

    /// The generations that are merged.
    pub(in crate::store) fn inputs(&self) -> BTreeSet<SegmentId> {
        self.inputs.iter().map(|input| input.number).collect()
    }

    fn advance(&mut self, number: usize) -> Result<(), KeyMergeError> {
        let Some(input) = self.inputs.get_mut(number) else { return Ok(()) };
        let head = input.next().map_err(|error| match error {
            SegmentError::Disk(error) => KeyMergeError::Disk(error),
            SegmentError::Damaged { .. } | SegmentError::NewerFormat { .. } => {
                KeyMergeError::Damaged(input.number)
            }
        })?;
        if let Some(head) = head {
            self.heads.push(Reverse((head.digest, number)));
        }
        input.head = head;
        Ok(())
    }
}

impl<F: File> Cursor<F> {
    fn next(&mut self) -> Result<Option<Entry>, SegmentError> {
        if let Some(entry) = self.entries.next() {
            return Ok(Some(entry));
        }
        if self.next_block == self.file.block_count() {
            return Ok(None);
        }
        self.entries = self.file.block(self.next_block)?.into_iter();
        self.next_block += 1;
        Ok(self.entries.next())
    }
}
