//! Keys on their way from frames to generations: written with the batches they stand in, merged, and dropped when their time
//! is over.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use weir_protocol::batch::StoredBatch;
use weir_protocol::units::{PartitionKey, SegmentId, TopicId};

use super::{FlushError, Flusher, Maintained};
use crate::dedup::generation::{GenerationFacts, GenerationWriter, VERSIONS_CLASS, horizon_class};
use crate::dedup::{ENTRY_BYTES, Entry, KeySeed, entries, versions};
use crate::disk::{Disk, DiskError};
use crate::frame::Frame;
use crate::state::NodeState;
use crate::store::checkpointer::{ATTEMPTS_MAX, Change, Checkpointer};
use crate::store::keys::{KeyMerge, KeyMergeError, plan, plan_sweep};

/// Keys of a flush that are put side by side before they are written.
const GATHERED_KEYS: usize = 256;

/// Keys of frames that are applied and not in a checkpoint.
#[derive(Debug)]
pub(super) struct StagedKeys {
    seed: KeySeed,
    /// By class of their horizon; with the longest of these.
    unwritten: BTreeMap<u32, (u64, Vec<Entry>)>,
    /// Generations that no checkpoint names yet.
    pub(super) written: Vec<(SegmentId, GenerationFacts)>,
    /// Generations that are given up.
    pub(super) given_up: BTreeSet<SegmentId>,
    /// How many keys and versions there were in all frames since the start, also in those of topics that are gone.
    pub(super) count: u64,
    /// Topics may have gone since the versions were last swept.
    pub(super) unswept: bool,
}

impl StagedKeys {
    pub(super) const fn new(seed: KeySeed) -> Self {
        Self {
            seed,
            unwritten: BTreeMap::new(),
            written: Vec::new(),
            given_up: BTreeSet::new(),
            count: 0,
            unswept: true,
        }
    }

    /// Takes the keys of a batch, for as long as its topic remembers them now, and its versions, if the topic keeps them.
    pub(super) fn note(&mut self, state: &NodeState, partition: PartitionKey, batch: &StoredBatch) {
        let settings = state.topics.get(&partition.topic).map(|definition| definition.settings);
        let seed = self.seed;
        let horizon_us = settings.and_then(|settings| settings.dedup_horizon_us);
        self.take(
            horizon_us.map(|horizon| (horizon_class(horizon), horizon)),
            entries(&seed, partition.topic, batch),
        );
        let keeps_versions = settings.is_some_and(|settings| settings.keyed_versions);
        self.take(keeps_versions.then_some((VERSIONS_CLASS, u64::MAX)), versions(&seed, partition, batch));
    }

    /// Takes the keys of a batch that were lost, to be remembered for so many microseconds more with those of a class.
    pub(super) fn note_for(&mut self, class: (u32, u64), topic: TopicId, batch: &StoredBatch) {
        let seed = self.seed;
        self.take(Some(class), entries(&seed, topic, batch));
    }

    /// Keys that are held here and in no generation.
    pub(super) fn held(&self) -> usize {
        self.unwritten.values().map(|(_, entries)| entries.len()).sum()
    }

    /// Takes entries of a class with their horizon; without one, they are only counted.
    fn take(&mut self, class: Option<(u32, u64)>, entries: impl Iterator<Item = Entry>) {
        let mut entries = entries.peekable();
        match class {
            Some((class, horizon_us)) if entries.peek().is_some() => {
                let class = self.unwritten.entry(class).or_default();
                let before = class.1.len();
                class.1.extend(entries);
                class.0 = class.0.max(horizon_us);
                self.count += (class.1.len() - before) as u64;
            }
            Some(_) | None => self.count += entries.count() as u64,
        }
    }

    /// Writes all keys to generations, one for each class.
    pub(super) fn write<D: Disk>(
        &mut self,
        checkpointer: &mut Checkpointer<D>,
        running_us: u64,
    ) -> Result<(), DiskError> {
        while let Some(class) = self.unwritten.first_entry() {
            let number = *class.key();
            let (horizon_us, entries) = class.get();
            let expires_us = running_us.saturating_add(*horizon_us);
            let written = write_generation(checkpointer, entries, (number, expires_us))?;
            self.written.push(written);
            class.remove();
        }
        Ok(())
    }
}

/// Writes one file; after a failure again, to a fresh one.
fn write_generation<D: Disk>(
    checkpointer: &mut Checkpointer<D>,
    entries: &[Entry],
    (class, expires_us): (u32, u64),
) -> Result<(SegmentId, GenerationFacts), DiskError> {
    let order = order_of(entries);
    let mut attempt = 1;
    loop {
        let identity = checkpointer.begin_segment();
        let directory = &checkpointer.paths.segments;
        let written = GenerationWriter::create(&checkpointer.disk, directory, identity, entries.len() as u64)
            .and_then(|mut writer| {
                in_order(entries, &order, |entry| writer.push(entry))?;
                writer.finish(class, expires_us)
            });
        match written {
            Ok(written) => return Ok(checkpointer.note_generation(written)),
            Err(error) => {
                checkpointer.give_up_segment(identity.segment);
                if attempt == ATTEMPTS_MAX || error.is_full() {
                    return Err(error);
                }
                attempt += 1;
            }
        }
    }
}

/// Where the keys of a flush stand in the order of their digests, behind the first half of the digest, which hardly any two share:
/// sorting these pairs takes a fraction of what it takes to sort the keys themselves. Of one key the later record comes first.
fn order_of(entries: &[Entry]) -> Vec<(u64, u32)> {
    let mut order: Vec<_> = (0u32..).zip(entries).map(|(at, entry)| (entry.digest.high(), at)).collect();
    order.sort_unstable();
    for alike in order.chunk_by_mut(|(one, _), (other, _)| one == other).filter(|alike| alike.len() > 1) {
        let entry = |at: u32| entries.get(at as usize).map(|entry| (entry.digest, Reverse(entry.age())));
        alike.sort_unstable_by_key(|(_, at)| entry(*at));
    }
    order
}

/// Takes the keys in this order, each once: of one that was used twice, which takes more than a horizon, the later record
/// counts.
fn in_order(
    entries: &[Entry],
    order: &[(u64, u32)],
    mut take: impl FnMut(&Entry) -> Result<(), DiskError>,
) -> Result<(), DiskError> {
    let mut last = None;
    let mut gathered = Vec::with_capacity(GATHERED_KEYS);
    for part in order.chunks(GATHERED_KEYS) {
        // They are all over the memory: it is waited for many of them at once, not for one after the other.
        gathered.clear();
        gathered.extend(part.iter().filter_map(|(_, at)| entries.get(*at as usize)).copied());
        for entry in &gathered {
            if last.replace(entry.digest) != Some(entry.digest) {
                take(entry)?;
            }
        }
    }
    Ok(())
}

/// Idempotency keys in a frame, at most.
pub(super) fn keys_of(frame: &Frame) -> u64 {
    let Frame::Append { batch, .. } = frame else { return 0 };
    let has_keys = batch.producer.table().has_idempotency_keys();
    if has_keys { batch.producer.header().record_count.into() } else { 0 }
}

impl<D: Disk> Flusher<D> {
    /// Time has passed while the node was running: by it keys grow old. A clock that nobody can set must tell it.
    pub fn elapse(&mut self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.running_us = self.running_us.saturating_add(micros);
        self.checkpointer.shared.set_running_us(self.running_us);
    }

    /// Makes digests of keys.
    pub(in crate::store) fn key_seed(&self) -> KeySeed {
        self.stage.keys.seed
    }

    /// Whether there are keys that need not be remembered any more.
    pub(super) fn has_expired_keys(&self) -> bool {
        let mut facts = self.checkpointer.manifest().generations.values();
        facts.any(|facts| facts.expires_us <= self.running_us)
    }

    /// A step of merging keys; says whether there was anything to do.
    pub(super) fn merge_keys(&mut self, done: &mut Maintained) -> Result<bool, FlushError> {
        let Some(mut merge) = self.begin_key_merge()? else { return Ok(false) };
        done.more = true;
        let output = merge.output();
        let entries_max = (self.options.merge_step_bytes / ENTRY_BYTES as u64).max(1);
        let is_done = match merge.step(entries_max) {
            Ok(is_done) => is_done,
            Err(error) => {
                self.checkpointer.give_up_segment(output);
                return match error {
                    KeyMergeError::Damaged(generation) => {
                        self.unmergeable.insert(generation);
                        Ok(true)
                    }
                    KeyMergeError::Disk(error) => Err(error.into()),
                };
            }
        };
        done.bytes += entries_max * ENTRY_BYTES as u64;
        if !is_done {
            self.key_merge = Some(merge);
            return Ok(true);
        }
        let replaced_keys = merge.inputs();
        let committed = merge.finish().and_then(|written| {
            let added_keys = vec![self.checkpointer.note_generation(written)];
            self.checkpointer.commit(&Change { added_keys, replaced_keys, ..Change::default() })
        });
        if let Err(error) = committed {
            self.checkpointer.give_up_segment(output);
            return Err(error.into());
        }
        Ok(true)
    }

    fn begin_key_merge(&mut self) -> Result<Option<KeyMerge<D>>, FlushError> {
        if let Some(merge) = self.key_merge.take() {
            return Ok(Some(merge));
        }
        let keys = self.checkpointer.shared.keys();
        let files = self.options.merge_files;
        let sweep = if self.stage.keys.unswept && keys.is_full_of_versions() {
            self.stage.keys.unswept = false;
            plan_sweep(&keys, &self.unmergeable)
        } else {
            None
        };
        let planned = sweep.or_else(|| plan(&keys, self.running_us, (files, &self.unmergeable)));
        let Some(inputs) = planned else { return Ok(None) };
        let topics = self.state.topics.values().filter(|topic| topic.settings.keyed_versions);
        let versioned = topics.map(|topic| topic.id).collect();
        let identity = self.checkpointer.begin_segment();
        let Checkpointer { disk, paths, .. } = &self.checkpointer;
        match KeyMerge::begin(disk, &paths.segments, identity, (inputs, versioned)) {
            Ok(merge) => Ok(Some(merge)),
            Err(error) => {
                self.checkpointer.give_up_segment(identity.segment);
                Err(error.into())
            }
        }
    }

    /// Gives up generations of keys with the next checkpoint: nobody knows any more which keys they had.
    pub(in crate::store) fn give_up_keys(&mut self, generations: impl Iterator<Item = SegmentId>) {
        self.stage.keys.given_up.extend(generations);
    }

    /// Gives up a merge of keys that was begun.
    pub(super) fn stop_key_merge(&mut self) {
        if let Some(merge) = self.key_merge.take() {
            self.checkpointer.give_up_segment(merge.output());
        }
    }
}
