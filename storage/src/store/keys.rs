//! Generations of keys as readers see them, with as much of their filters as the memory for them holds.

use std::collections::BTreeMap;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use weir_protocol::units::SegmentId;

use super::reader::{KeyFigures, ReadError};
use crate::checkpoint::{Manifest, Paths};
use crate::dedup::filter::{Filter, Width, order_of};
use crate::dedup::generation::{GenerationFacts, GenerationFile, VERSIONS_CLASS};
use crate::dedup::{Entry, KeyDigest};
use crate::disk::{Disk, File};
use crate::segment::{SegmentError, SegmentIdentity};

mod merge;

pub(super) use merge::{KeyMerge, KeyMergeError, plan, plan_sweep};

/// How many idempotency keys are kept, and in which memory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct KeyOptions {
    /// Memory for filters. Where it is short, filters of older keys get coarser, then these keys are looked for on the disk.
    /// Default 256 MiB, for 100 million keys.
    pub filter_bytes: u64,
    /// Bytes of keys on the disk at which no more are taken, about. Default 16 GiB, for 300 million keys. Versions of records'
    /// keys may have half of it: they do not expire, and must leave room for what does.
    pub disk_bytes: u64,
}

/// Bytes of a key on the disk, about: its entry and its part of the filter.
pub const KEY_DISK_BYTES: u64 = 55;

impl Default for KeyOptions {
    fn default() -> Self {
        Self { filter_bytes: 256 << 20, disk_bytes: 16 << 30 }
    }
}

/// Invariant: each generation that the last checkpoint names is here, also if it cannot be read. So no key is taken for a
/// new one because of damage.
#[derive(Debug)]
pub(super) struct Keys<F> {
    options: KeyOptions,
    /// The newest first.
    generations: Vec<Generation<F>>,
}

/// A generation that counts.
#[derive(Debug)]
pub(super) struct Generation<F> {
    pub(super) number: SegmentId,
    pub(super) facts: GenerationFacts,
    /// `None` if it is missing or damaged.
    pub(super) file: Option<Arc<GenerationFile<F>>>,
    /// `None` if each key has to be looked for on the disk.
    pub(super) filter: Option<Arc<Filter>>,
}

impl<F> Clone for Generation<F> {
    fn clone(&self) -> Self {
        let (file, filter) = (self.file.clone(), self.filter.clone());
        Self { number: self.number, facts: self.facts, file, filter }
    }
}

impl<F: File> Generation<F> {
    /// Opens a generation that a manifest names, without a filter. What is wrong with one that cannot be read is added to
    /// `damaged`.
    pub(super) fn open<D: Disk<File = F>>(
        disk: &D,
        paths: &Paths,
        (identity, facts): (SegmentIdentity, GenerationFacts),
        damaged: &mut Vec<String>,
    ) -> Result<Self, SegmentError> {
        let number = identity.segment;
        let file = match GenerationFile::open(disk, &paths.segments, identity, facts) {
            Ok(file) => Some(Arc::new(file)),
            Err(error @ SegmentError::NewerFormat { .. }) => return Err(error),
            Err(error @ (SegmentError::Damaged { .. } | SegmentError::Disk(_))) => {
                damaged.push(format!("{error}: nobody knows which of its keys were used"));
                None
            }
        };
        Ok(Self { number, facts, file, filter: None })
    }

    /// Whether its entries say where the last records of keys stand.
    pub(super) const fn is_of_versions(&self) -> bool {
        self.facts.class == VERSIONS_CLASS
    }

    fn may_contain(&self, digest: KeyDigest) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.may_contain(digest))
    }

    fn width(&self) -> Width {
        self.filter.as_ref().map_or(Width::None, |filter| filter.width())
    }

    /// The same with a filter of this width, if it can be read.
    fn with_filter(mut self, width: Width) -> Self {
        let present = self.width();
        if width == present {
            return self;
        }
        self.filter = match &self.filter {
            Some(_) | None if width == Width::None => None,
            Some(filter) if present == Width::Wide => Some(Arc::new(filter.narrowed())),
            // A filter that cannot be read is none: its keys are looked for on the disk.
            Some(_) | None => {
                let read = self.file.as_ref().and_then(|file| file.filter(width).ok().flatten());
                read.map(Arc::new)
            }
        };
        self
    }
}

impl<F: File> Keys<F> {
    /// No keys.
    pub(super) const fn new(options: KeyOptions) -> Self {
        Self { options, generations: Vec::new() }
    }

    /// The keys that a manifest names.
    pub(super) fn load<D: Disk<File = F>>(
        disk: &D,
        paths: &Paths,
        manifest: &Manifest,
        (options, damaged): (KeyOptions, &mut Vec<String>),
    ) -> Result<Self, SegmentError> {
        let mut generations = Vec::new();
        for (number, facts) in &manifest.generations {
            let identity = SegmentIdentity { node: manifest.node, segment: *number };
            generations.push(Generation::open(disk, paths, (identity, *facts), damaged)?);
        }
        Ok(Self::fitted(options, generations))
    }

    /// These keys after a checkpoint, which names `named`. Those that were not there before are taken from `written`.
    pub(super) fn after(
        &self,
        named: &BTreeMap<SegmentId, GenerationFacts>,
        written: &mut BTreeMap<SegmentId, Generation<F>>,
    ) -> Self {
        let present = self.generations.iter().filter(|held| named.contains_key(&held.number)).cloned();
        let added = named.keys().filter_map(|number| written.remove(number));
        let generations: Vec<_> = present.chain(added).collect();
        assert!(generations.len() == named.len(), "no generation that counts is missing");
        Self::fitted(self.options, generations)
    }

    /// Gives each generation as wide a filter as there is memory for. The newest come first.
    fn fitted(options: KeyOptions, mut generations: Vec<Generation<F>>) -> Self {
        generations.sort_by_key(|held| std::cmp::Reverse(held.number));
        let memory = |held: &Generation<F>, width| {
            held.file.as_ref().map_or(0, |file| file.memory() + file.filter_memory(width))
        };
        let mut widths = vec![Width::Wide; generations.len()];
        let mut used: u64 = generations.iter().map(|held| memory(held, Width::Wide)).sum();
        for narrower in [Width::Narrow, Width::None] {
            for (held, width) in generations.iter().zip(&mut widths).rev() {
                if used > options.filter_bytes {
                    used -= memory(held, *width) - memory(held, narrower);
                    *width = narrower;
                }
            }
        }
        let fitted = generations.into_iter().zip(widths).map(|(held, width)| held.with_filter(width));
        Self { options, generations: fitted.collect() }
    }

    /// Whether these are not exactly the generations of a manifest.
    pub(super) fn differ_from(&self, named: &BTreeMap<SegmentId, GenerationFacts>) -> bool {
        let held = self.generations.iter().rev().map(|held| held.number);
        !held.eq(named.keys().copied())
    }

    /// Whether there may be such a key. If not, there surely is none.
    pub(super) fn may_contain(&self, digest: KeyDigest) -> bool {
        self.generations.iter().any(|held| held.may_contain(digest))
    }

    /// Marks those of some keys that may be known. Those without a mark surely are not.
    pub(super) fn mark(&self, digests: &[KeyDigest], marks: &mut [bool]) {
        // Each filter is far larger than a cache: in this order the parts of it that are near are looked at together.
        let mut order: Vec<(u64, u32)> = digests.iter().map(|digest| order_of(*digest)).zip(0u32..).collect();
        order.sort_unstable();
        let sorted: Vec<KeyDigest> =
            order.iter().filter_map(|(_, at)| digests.get(*at as usize)).copied().collect();
        let mut found = vec![false; sorted.len()];
        for held in &self.generations {
            match &held.filter {
                Some(filter) => filter.mark(&sorted, &mut found),
                None => found.fill(true),
            }
        }
        for ((_, at), found) in order.into_iter().zip(found) {
            if let Some(mark) = marks.get_mut(at as usize) {
                *mark |= found;
            }
        }
    }

    /// What is known of a key, and the running time until which it is; the latest, if it was used again after it was
    /// forgotten.
    pub(super) fn find(&self, digest: KeyDigest) -> Result<Option<(Entry, u64)>, ReadError> {
        let mut found: Option<(Entry, u64)> = None;
        for held in self.generations.iter().filter(|held| held.may_contain(digest)) {
            let lost = ReadError::KeysLost { generation: held.number };
            let Some(file) = &held.file else { return Err(lost) };
            let entry = file.find(digest).map_err(|error| match error {
                SegmentError::Damaged { .. } | SegmentError::NewerFormat { .. } => lost,
                SegmentError::Disk(error) => ReadError::Disk(error),
            })?;
            let entry = entry.map(|entry| (entry, held.facts.expires_us));
            found = [found, entry].into_iter().flatten().max_by_key(|(entry, _)| entry.age());
        }
        Ok(found)
    }

    /// Whether no more keys are taken.
    pub(super) fn is_full(&self) -> bool {
        self.disk_bytes() >= self.options.disk_bytes
    }

    /// Whether no more versions are taken.
    pub(super) fn is_full_of_versions(&self) -> bool {
        let versions = self.generations.iter().filter(|held| held.is_of_versions());
        let bytes: u64 = versions.map(|held| held.facts.bytes).sum();
        self.is_full() || bytes >= self.options.disk_bytes / 2
    }

    /// How many keys there are, and what they take.
    pub(super) fn figures(&self) -> KeyFigures {
        let memory = |held: &Generation<F>| {
            held.file.as_ref().map_or(0, |file| file.memory() + file.filter_memory(held.width()))
        };
        let readable = || self.generations.iter().filter(|held| held.file.is_some());
        let count = |width| readable().filter(|held| held.width() == width).count() as u64;
        KeyFigures {
            keys: self.generations.iter().map(|held| held.facts.entries).sum(),
            generations: self.generations.len() as u64,
            narrow_filters: count(Width::Narrow),
            missing_filters: count(Width::None),
            lost: self.generations.len() as u64 - readable().count() as u64,
            disk_bytes: self.disk_bytes(),
            disk_bytes_max: self.options.disk_bytes,
            memory_bytes: self.generations.iter().map(memory).sum(),
            memory_bytes_max: self.options.filter_bytes,
        }
    }

    /// Bytes on the disk.
    fn disk_bytes(&self) -> u64 {
        self.generations.iter().map(|held| held.facts.bytes).sum()
    }

    /// Whether a generation counts.
    pub(super) fn holds(&self, number: SegmentId) -> bool {
        self.generations.iter().any(|held| held.number == number)
    }

    /// The first generation in a range that begins there.
    pub(super) fn next(&self, from: Bound<SegmentId>) -> Option<(SegmentId, GenerationFacts)> {
        let in_range = self.generations.iter().rev();
        let found = in_range.into_iter().find(|held| (from, Bound::Unbounded).contains(&held.number));
        found.map(|held| (held.number, held.facts))
    }

    /// The generations, the newest first.
    pub(super) fn generations(&self) -> &[Generation<F>] {
        &self.generations
    }
}

/// What keeps the keys of a manifest from being read, with their number. The disk may fail for other reasons.
pub(super) fn unreadable<D: Disk>(
    disk: &D,
    paths: &Paths,
    manifest: &Manifest,
) -> Result<BTreeMap<SegmentId, u64>, SegmentError> {
    let mut lost = BTreeMap::new();
    for (number, facts) in &manifest.generations {
        let identity = SegmentIdentity { node: manifest.node, segment: *number };
        if Generation::open(disk, paths, (identity, *facts), &mut Vec::new())?.file.is_none() {
            lost.insert(*number, facts.entries.max(1));
        }
    }
    Ok(lost)
}
