//! Makes checkpoints durable, then lets the readers see them, then takes away what they no longer name.
//!
//! Invariant: every file that a manifest on the disk may name is there, and every file that is there is named by one,
//! or listed as retired, or numbered from the next number on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use weir_protocol::units::{Incarnation, JournalPosition, Offset, PartitionKey, SegmentId};

use super::catalog::Extent;
use super::keys::Generation;
use super::shared::Shared;
use crate::checkpoint::{EncodedParts, Manifest, Part, Paths, SegmentFacts, Slots, state_name, write_parts};
use crate::dedup::generation::{GenerationFacts, WrittenGeneration, generation_name};
use crate::disk::{Context, Disk, DiskError};
use crate::segment::{Run, SegmentIdentity, WrittenSegment, index_name, segment_name};

/// How often something is written again, to a fresh file, before the failure is reported.
pub(super) const ATTEMPTS_MAX: u32 = 3;

/// See the module.
#[derive(Debug)]
pub(super) struct Checkpointer<D: Disk> {
    pub(super) disk: D,
    pub(super) paths: Paths,
    pub(super) shared: Arc<Shared<D>>,
    slots: Slots<D>,
    /// The last manifest that was written.
    manifest: Manifest,
    next_segment: SegmentId,
    next_state: u64,
    /// Bytes of batches of each segment, and how many of them count.
    usage: BTreeMap<SegmentId, Usage>,
    /// Generations that were written, until a checkpoint names them.
    generations: BTreeMap<SegmentId, Generation<D::File>>,
    /// Segments that are being written: to be removed if the node dies before they are named.
    unfinished: BTreeSet<SegmentId>,
    /// Files that were removed, while the directory was not synced since.
    removed_segments: BTreeSet<SegmentId>,
    removed_states: BTreeSet<u64>,
}

/// How much of a segment is used.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Usage {
    /// How many runs it was written with.
    pub(super) run_count: u64,
    /// Bytes of batches.
    pub(super) data_bytes: u64,
    /// Bytes of batches in extents of the catalog.
    pub(super) live_bytes: u64,
}

/// What a checkpoint changes.
#[derive(Debug, Default)]
pub(super) struct Change {
    /// Parts of the state that are written again.
    pub(super) parts: EncodedParts,
    /// The position up to which all is applied, if it has moved.
    pub(super) applied: Option<JournalPosition>,
    /// Under which incarnation the journal is written from here on, if that changes.
    pub(super) incarnation: Option<Incarnation>,
    /// Segments that are added.
    pub(super) added: Vec<WrittenSegment>,
    /// Segments that go, because others have taken their place.
    pub(super) replaced: BTreeSet<SegmentId>,
    /// Generations that are added.
    pub(super) added_keys: Vec<(SegmentId, GenerationFacts)>,
    /// Generations that go, because another has taken their place.
    pub(super) replaced_keys: BTreeSet<SegmentId>,
    /// How long the node has been running, if that is told: what expires by then goes.
    pub(super) running_us: Option<u64>,
    /// Bounds of partitions that have changed.
    pub(super) bounds: BTreeMap<PartitionKey, Bounds>,
    /// Partitions that are gone.
    pub(super) gone: BTreeSet<PartitionKey>,
    /// Whether the node shuts down in order after this.
    pub(super) clean: bool,
}

/// From where to where a partition reaches, in segments.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Bounds {
    /// Offset of the first record that is kept.
    pub(super) log_start: Offset,
    /// All below is in segments.
    pub(super) flushed_end: Offset,
}

impl<D: Disk> Checkpointer<D> {
    /// Goes on from a manifest. Numbers of new files start from those given, at least.
    pub(super) fn new(
        disk: D,
        paths: Paths,
        shared: Arc<Shared<D>>,
        slots: Slots<D>,
        manifest: Manifest,
    ) -> Self {
        Self {
            disk,
            paths,
            shared,
            slots,
            next_segment: manifest.next_segment,
            next_state: manifest.next_state,
            manifest,
            usage: BTreeMap::new(),
            generations: BTreeMap::new(),
            unfinished: BTreeSet::new(),
            removed_segments: BTreeSet::new(),
            removed_states: BTreeSet::new(),
        }
    }

    /// Never gives out numbers below these: there are files with such names.
    pub(super) fn skip_numbers(&mut self, segment: SegmentId, state: u64) {
        self.next_segment = self.next_segment.max(segment);
        self.next_state = self.next_state.max(state);
    }

    /// Lets files go as soon as no slot names them, and makes sure that they stay away.
    pub(super) fn retire(&mut self, segments: BTreeSet<SegmentId>, states: BTreeSet<u64>) {
        self.manifest.retired_segments.extend(segments);
        self.manifest.retired_states.extend(states);
    }

    /// Takes note of a segment, none of whose runs is in the catalog yet.
    pub(super) fn note_segment(&mut self, segment: SegmentId, runs: &[Run]) {
        let data_bytes = runs.iter().map(|run| run.bytes).sum();
        self.usage.insert(segment, Usage { run_count: runs.len() as u64, data_bytes, live_bytes: 0 });
    }

    /// Takes note of a run that is in the catalog.
    pub(super) fn note_extent(&mut self, extent: &Extent) {
        self.use_more(extent);
    }

    /// How much of each segment is used.
    pub(super) fn usage(&self) -> impl Iterator<Item = (SegmentId, Usage)> {
        self.usage.iter().map(|(segment, usage)| (*segment, *usage))
    }

    /// A number for a new segment, which will be removed if the node dies before a checkpoint names it.
    pub(super) fn begin_segment(&mut self) -> SegmentIdentity {
        let segment = self.next_segment;
        self.next_segment = segment.next();
        self.unfinished.insert(segment);
        self.shared.identity(segment)
    }

    /// Takes note of a generation that was written, and gives what the checkpoint is to say of it.
    pub(super) fn note_generation(
        &mut self,
        written: WrittenGeneration<D::File>,
    ) -> (SegmentId, GenerationFacts) {
        let (number, facts) = (written.generation, written.facts);
        let (file, filter) = (Some(Arc::new(written.file)), Some(written.filter));
        self.generations.insert(number, Generation { number, facts, file, filter });
        (number, facts)
    }

    /// Takes away a segment or generation that was begun and will not be named.
    pub(super) fn give_up_segment(&mut self, segment: SegmentId) {
        self.unfinished.remove(&segment);
        self.generations.remove(&segment);
        if self.remove_segment(segment) {
            self.removed_segments.insert(segment);
        } else {
            self.manifest.retired_segments.insert(segment);
        }
    }

    /// The last manifest that was written.
    pub(super) const fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Below this the journal is not needed.
    pub(super) fn release(&self) -> JournalPosition {
        self.slots.applied_by_both()
    }

    /// Whether a checkpoint without any change would free space.
    pub(super) fn has_garbage(&self) -> bool {
        let mut retired = self.manifest.retired_segments.iter();
        self.usage.values().any(|usage| usage.live_bytes == 0)
            || retired.any(|segment| self.slots.names_segment(*segment))
    }

    /// Makes a checkpoint durable; then the readers see it, and files that no slot names any more are removed.
    ///
    /// After an error nothing has changed for the readers, and the same change can be tried again.
    pub(super) fn commit(&mut self, change: &Change) -> Result<(), DiskError> {
        let mut manifest = self.manifest.clone();
        if !change.parts.parts.is_empty() {
            let places = self.write_state(&change.parts)?;
            manifest.parts.extend(places);
            self.sync_states()?;
        }
        if !change.added.is_empty() || !change.replaced.is_empty() || !change.added_keys.is_empty() {
            self.sync_segments()?;
        }
        self.complete(&mut manifest, change);
        for attempt in 1.. {
            match self.slots.write(&mut manifest) {
                Ok(()) => break,
                Err(error) if attempt == ATTEMPTS_MAX || error.is_full() => return Err(error),
                Err(_) => {}
            }
        }
        self.manifest = manifest;
        self.publish(change);
        self.remove_retired();
        Ok(())
    }

    /// Writes parts of the state to a fresh file, again if need be.
    fn write_state(
        &mut self,
        parts: &EncodedParts,
    ) -> Result<BTreeMap<Part, crate::checkpoint::PartPlace>, DiskError> {
        let mut attempt = 1;
        loop {
            let number = self.next_state;
            self.next_state += 1;
            // Retired from birth: it stays only if the manifest that is written next names it.
            self.manifest.retired_states.insert(number);
            match write_parts(&self.disk, &self.paths, &self.manifest.node, number, parts) {
                Ok(places) => return Ok(places),
                Err(error) if attempt == ATTEMPTS_MAX || error.is_full() => return Err(error),
                Err(_) => attempt += 1,
            }
        }
    }

    /// Makes names in the directory of state files durable, and those that were removed gone for good.
    fn sync_states(&mut self) -> Result<(), DiskError> {
        self.disk.sync_directory(&self.paths.state).context("sync", &self.paths.state)?;
        let removed = std::mem::take(&mut self.removed_states);
        self.manifest.retired_states.retain(|number| !removed.contains(number));
        Ok(())
    }

    /// Makes names in the directory of segments durable, and those that were removed gone for good.
    pub(super) fn sync_segments(&mut self) -> Result<(), DiskError> {
        self.disk.sync_directory(&self.paths.segments).context("sync", &self.paths.segments)?;
        let removed = std::mem::take(&mut self.removed_segments);
        self.manifest.retired_segments.retain(|segment| !removed.contains(segment));
        Ok(())
    }

    /// Fills in what a manifest says after a change.
    fn complete(&self, manifest: &mut Manifest, change: &Change) {
        manifest.applied = change.applied.unwrap_or(manifest.applied);
        manifest.incarnation = change.incarnation.unwrap_or(manifest.incarnation);
        manifest.clean = change.clean;
        manifest.next_segment = self.next_segment;
        manifest.next_state = self.next_state;
        let dead = self.usage.iter().filter(|(_, usage)| usage.live_bytes == 0).map(|(segment, _)| *segment);
        let mut gone: BTreeSet<_> = dead.chain(change.replaced.iter().copied()).collect();
        manifest.segments.retain(|segment, _| !gone.contains(segment));
        manifest.running_us = change.running_us.unwrap_or(manifest.running_us);
        manifest.generations.extend(change.added_keys.iter().copied());
        let is_over = |number: &SegmentId, facts: &mut GenerationFacts| {
            change.replaced_keys.contains(number)
                || change.running_us.is_some_and(|running_us| facts.expires_us <= running_us)
        };
        gone.extend(manifest.generations.extract_if(.., is_over).map(|(number, _)| number));
        for written in &change.added {
            let facts = SegmentFacts { bytes: written.bytes, directory_hash: written.directory_hash };
            manifest.segments.insert(written.segment, facts);
        }
        manifest.retired_segments.clone_from(&self.manifest.retired_segments);
        manifest.retired_segments.extend(gone);
        manifest.retired_segments.extend(self.unfinished.iter().chain(&self.removed_segments));
        let named: BTreeSet<_> = manifest.sealed_files().collect();
        manifest.retired_segments.retain(|segment| !named.contains(segment));
        let used = manifest.state_files();
        manifest.retired_states.clone_from(&self.manifest.retired_states);
        manifest.retired_states.extend(self.manifest.state_files());
        manifest.retired_states.retain(|number| !used.contains(number));
    }

    /// Lets the readers see what is durable now.
    fn publish(&mut self, change: &Change) {
        self.publish_keys(change);
        let mut extents: BTreeMap<PartitionKey, Vec<Extent>> = BTreeMap::new();
        for written in &change.added {
            self.unfinished.remove(&written.segment);
            self.note_segment(written.segment, &written.runs);
            for (number, run) in written.runs.iter().enumerate() {
                let extent = Extent::of(written.segment, number, run);
                extents.entry(run.partition).or_default().push(extent);
            }
        }
        let shared = Arc::clone(&self.shared);
        let mut catalog = shared.catalog_mut();
        for written in &change.added {
            let facts = SegmentFacts { bytes: written.bytes, directory_hash: written.directory_hash };
            catalog.add_segment(written.segment, facts);
        }
        if change.replaced.is_empty() {
            for (partition, extents) in extents {
                for extent in extents {
                    catalog.add(partition, extent);
                    self.use_more(&extent);
                }
            }
        } else {
            for extent in catalog.replace(&change.replaced, &extents) {
                self.use_more(&extent);
            }
        }
        for (partition, bounds) in &change.bounds {
            let removed = catalog.set_bounds(*partition, bounds.log_start, bounds.flushed_end);
            self.use_less(&removed);
        }
        for partition in &change.gone {
            self.use_less(&catalog.remove_partition(*partition));
        }
        let manifest = &self.manifest;
        self.usage.retain(|segment, _| manifest.segments.contains_key(segment));
        for segment in &manifest.retired_segments {
            catalog.remove_segment(*segment);
        }
    }

    /// Keys first: what is in segments need not be looked for elsewhere.
    fn publish_keys(&mut self, change: &Change) {
        change.added_keys.iter().for_each(|(number, _)| {
            self.unfinished.remove(number);
        });
        let is_changed = self.shared.keys().differ_from(&self.manifest.generations);
        if is_changed {
            let keys = self.shared.keys().after(&self.manifest.generations, &mut self.generations);
            self.shared.set_keys(keys);
        }
    }

    fn use_more(&mut self, extent: &Extent) {
        if let Some(usage) = self.usage.get_mut(&extent.segment) {
            usage.live_bytes += extent.bytes;
        }
    }

    fn use_less(&mut self, extents: &[Extent]) {
        for extent in extents {
            if let Some(usage) = self.usage.get_mut(&extent.segment) {
                usage.live_bytes -= extent.bytes;
            }
        }
    }

    /// Removes a segment with its index, or a generation; says whether all that has its number is gone.
    fn remove_segment(&self, segment: SegmentId) -> bool {
        let segments = &self.paths.segments;
        remove(&self.disk, &segments.join(segment_name(segment)))
            && remove(&self.disk, &segments.join(index_name(segment)))
            && remove(&self.disk, &segments.join(generation_name(segment)))
    }

    /// Removes retired files that no slot may name. What cannot be removed is tried again after the next checkpoint.
    fn remove_retired(&mut self) {
        for segment in &self.manifest.retired_segments {
            let named = self.slots.names_segment(*segment) || self.unfinished.contains(segment);
            if !named && !self.removed_segments.contains(segment) {
                self.shared.close(*segment);
                if self.remove_segment(*segment) {
                    self.removed_segments.insert(*segment);
                }
            }
        }
        for number in &self.manifest.retired_states {
            if !self.slots.names_state(*number) && !self.removed_states.contains(number) {
                let removed = remove(&self.disk, &self.paths.state.join(state_name(*number)));
                if removed {
                    self.removed_states.insert(*number);
                }
            }
        }
    }
}

/// Removes a file; says whether it is gone.
fn remove<D: Disk>(disk: &D, path: &std::path::Path) -> bool {
    match disk.remove(path) {
        Ok(()) => true,
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}
