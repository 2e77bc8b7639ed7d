//! The flusher: moves what the journal made durable to segments and checkpoints, and keeps them in shape.

use std::collections::BTreeSet;
use std::ops::Range;

use weir_protocol::units::{Incarnation, JournalPosition, Offset, PartitionKey, SegmentId, Timestamp};

use super::checkpointer::{Change, Checkpointer};
use super::keys::KeyMerge;
use super::merge::{self, Merge, MergeStep};
use super::open::OpenError;
use super::{SegmentOptions, retain};
use crate::disk::{Disk, DiskError};
use crate::frame::Frame;
use crate::state::{ApplyError, NodeState};

mod free;
mod keys;
mod rebuild;
mod snapshot;
mod stage;

pub use snapshot::{Snapshot, SnapshotError};
use stage::Stage;

/// Owned by one thread; all calls block on the disk.
///
/// Invariant: a frame that was accepted is either below the position that the last checkpoint has applied, or still
/// held here: whatever fails, a later flush writes it.
#[derive(Debug)]
pub struct Flusher<D: Disk> {
    checkpointer: Checkpointer<D>,
    options: SegmentOptions,
    /// What all frames up to the stage say, and retention.
    state: NodeState,
    /// Frames that are not applied to the state yet, in the order of the journal, and their end.
    accepted: Vec<Frame>,
    accepted_bytes: u64,
    /// Records of batches with keys that were accepted since the last flush.
    pending_keys: u64,
    accepted_end: JournalPosition,
    stage: Stage,
    merge: Option<Merge<D>>,
    key_merge: Option<KeyMerge<D>>,
    /// How long the node has been running, in all.
    running_us: u64,
    /// Partitions whose log start retention has moved while nobody was told of it.
    moved: BTreeSet<PartitionKey>,
    /// When retention was last looked after.
    retained: Option<Timestamp>,
    /// Segments and generations that cannot be merged because they are damaged.
    unmergeable: BTreeSet<SegmentId>,
}

/// What a flush has done.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Flushed {
    /// The journal may reuse the space below.
    pub release: JournalPosition,
    /// Partitions of which more is in segments now: all below the offset is.
    pub ends: Vec<(PartitionKey, Offset)>,
    /// Partitions whose log start was moved by retention.
    pub log_starts: Vec<(PartitionKey, Offset)>,
    /// Bytes of batches that were written.
    pub bytes: u64,
    /// Of the idempotency keys of all records that count, in the order of the journal, so many are in generations since
    /// the start.
    pub keys: u64,
}

/// What a step of maintenance has done.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Maintained {
    /// Whether another step is useful right away.
    pub more: bool,
    /// The journal may reuse the space below.
    pub release: JournalPosition,
    /// Partitions whose log start was moved by retention.
    pub log_starts: Vec<(PartitionKey, Offset)>,
    /// Bytes that were copied.
    pub bytes: u64,
}

/// Why a flush or a step of maintenance failed. Nothing is lost: it can be tried again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FlushError {
    /// The disk failed, three times in a row for what may be written again.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl FlushError {
    /// Whether there was no space.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Disk(error) => error.is_full(),
        }
    }

    /// Whether the same call can succeed later.
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Disk(_) => true,
        }
    }
}

/// What a checkpoint stands for, besides what was flushed.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// The node goes on.
    Running,
    /// The node shuts down in order.
    Clean,
    /// From here on the journal is written under this incarnation.
    Restart(Incarnation),
}

/// Retention is looked after this often.
const RETENTION_INTERVAL_US: i64 = 1_000_000;

impl<D: Disk> Flusher<D> {
    pub(super) fn new(checkpointer: Checkpointer<D>, options: SegmentOptions, state: NodeState) -> Self {
        let manifest = checkpointer.manifest();
        let (accepted_end, running_us) = (manifest.applied, manifest.running_us);
        let seed = manifest.key_seed.expect("a node that runs has one");
        Self {
            checkpointer,
            options,
            state,
            accepted: Vec::new(),
            accepted_bytes: 0,
            pending_keys: 0,
            accepted_end,
            stage: Stage::new(accepted_end, seed),
            merge: None,
            key_merge: None,
            running_us,
            moved: BTreeSet::new(),
            retained: None,
            unmergeable: BTreeSet::new(),
        }
    }

    /// Takes over durable frames, in the order of the journal. `end` is the position behind the last.
    ///
    /// # Panics
    /// If the journal goes back.
    pub fn accept(&mut self, frames: Vec<Frame>, end: JournalPosition) {
        assert!(end >= self.accepted_end, "the journal goes forward");
        self.accepted_end = end;
        self.accepted_bytes += frames.iter().map(|frame| frame.length() as u64).sum::<u64>();
        self.pending_keys += frames.iter().map(keys::keys_of).sum::<u64>();
        self.accepted.extend(frames);
    }

    /// Bytes of frames that are held here and not in segments.
    pub const fn pending_bytes(&self) -> u64 {
        self.accepted_bytes + self.stage.bytes()
    }

    /// Idempotency keys that are held here and not in generations, at most.
    pub const fn pending_keys(&self) -> u64 {
        self.pending_keys
    }

    /// Writes all accepted batches to segments, and a checkpoint.
    ///
    /// # Errors
    /// [`FlushError`]. All frames are kept, and what was already written is not written again.
    ///
    /// # Panics
    /// If the frames do not follow what was accepted before.
    pub fn flush(&mut self, now: Timestamp) -> Result<Flushed, FlushError> {
        self.apply().expect("accepted frames follow each other");
        self.retain(now);
        self.write_all(now)?;
        let bytes = self.stage.written_bytes();
        let ends = self.stage.ends(&self.state);
        // Without anything new, a checkpoint is still of use if it brings the older slot up to date.
        if !self.stage.is_empty() || self.checkpointer.release() < self.stage.applied {
            self.checkpoint(Kind::Running)?;
        }
        self.pending_keys = 0;
        let (release, keys) = (self.checkpointer.release(), self.stage.keys.count);
        Ok(Flushed { release, ends, log_starts: self.take_moved(), bytes, keys })
    }

    /// One bounded step of retention, of merging small segments, or of removing those that are not needed.
    ///
    /// Does nothing while a failed flush waits to be repeated.
    ///
    /// # Errors
    /// [`FlushError`]. What was begun is given up, and will be begun again.
    pub fn maintain(&mut self, now: Timestamp) -> Result<Maintained, FlushError> {
        let mut done = Maintained { release: self.checkpointer.release(), ..Maintained::default() };
        if !self.stage.is_empty() {
            return Ok(done);
        }
        self.retain(now);
        if !self.stage.is_empty() || self.checkpointer.has_garbage() || self.has_expired_keys() {
            self.checkpoint(Kind::Running)?;
            done.more = true;
        } else if !self.merge_keys(&mut done)? {
            self.merge_step(now, &mut done)?;
        }
        done.release = self.checkpointer.release();
        done.log_starts = self.take_moved();
        Ok(done)
    }

    /// Flushes everything and marks the directory as shut down in order.
    ///
    /// # Errors
    /// [`FlushError`]. Nothing is lost: the next start reads the journal.
    ///
    /// # Panics
    /// As [`Flusher::flush`].
    pub fn close(mut self, now: Timestamp) -> Result<(), FlushError> {
        if let Some(merge) = self.merge.take() {
            merge.give_up(&mut self.checkpointer);
        }
        self.stop_key_merge();
        self.flush(now)?;
        // Both slots say so: whichever survives, the next start has nothing to replay.
        self.checkpoint(Kind::Clean)?;
        self.checkpoint(Kind::Clean)
    }

    /// What the frames up to the last flush say, and retention.
    pub const fn state(&self) -> &NodeState {
        &self.state
    }

    /// How many segments the last checkpoint names.
    #[cfg(test)]
    pub(super) fn live_segments(&self) -> usize {
        self.checkpointer.manifest().segments.len()
    }

    /// Applies the accepted frames to the state and stages their batches.
    pub(super) fn apply(&mut self) -> Result<(), ApplyError> {
        for frame in std::mem::take(&mut self.accepted) {
            self.stage.apply(&mut self.state, frame)?;
        }
        self.accepted_bytes = 0;
        self.stage.applied = self.accepted_end;
        Ok(())
    }

    /// Gives up records, behind all frames that were accepted.
    pub(super) fn give_up(
        &mut self,
        partition: PartitionKey,
        records: Range<Offset>,
        now: Timestamp,
    ) -> Result<(), OpenError> {
        self.apply()?;
        // What comes before and what comes behind do not follow each other: they make two runs, in two segments.
        self.write_staged(now)?;
        self.state.partitions.entry(partition).or_default().give_up(records);
        self.stage.touch(partition);
        Ok(())
    }

    /// Writes staged batches to segments.
    pub(super) fn write_staged(&mut self, now: Timestamp) -> Result<(), DiskError> {
        self.stage.write(&mut self.checkpointer, &self.options, &self.state, (now, self.running_us))
    }

    /// As [`Flusher::write_staged`], when all frames there are were applied. On a full disk space is freed first.
    pub(super) fn write_all(&mut self, now: Timestamp) -> Result<(), FlushError> {
        if let Err(error) = self.write_staged(now) {
            // A start has not looked after it yet.
            self.retain(now);
            // Nothing more can be written, so what frees space must not wait until it is.
            if !error.is_full() || !self.free_space()? {
                return Err(error.into());
            }
            self.write_staged(now)?;
        }
        Ok(())
    }

    /// Makes durable what was staged and written. On a full disk space is freed first.
    fn checkpoint(&mut self, kind: Kind) -> Result<(), FlushError> {
        if let Err(error) = self.commit_staged(kind) {
            if !error.is_full() || !self.free_space()? {
                return Err(error.into());
            }
            self.commit_staged(kind)?;
        }
        Ok(())
    }

    fn commit_staged(&mut self, kind: Kind) -> Result<(), DiskError> {
        let mut change = self.stage.change(&self.state);
        change.running_us = Some(self.running_us);
        match kind {
            Kind::Running => {}
            Kind::Clean => change.clean = true,
            Kind::Restart(incarnation) => change.incarnation = Some(incarnation),
        }
        let committed = self.checkpointer.commit(&change);
        self.stage.settle(change, committed.is_ok());
        committed
    }

    /// The checkpoint that ends a recovery: from now on the journal goes on elsewhere, under another incarnation.
    pub(super) fn start_over(
        &mut self,
        incarnation: Incarnation,
        restart: JournalPosition,
    ) -> Result<(), FlushError> {
        self.accepted_end = restart;
        self.stage.applied = restart;
        // The keys of the frames that were recovered are counted by nobody: they are in generations already.
        self.stage.keys.count = 0;
        self.checkpoint(Kind::Restart(incarnation))?;
        self.checkpoint(Kind::Restart(incarnation))
    }

    /// Moves log starts as the topics' settings ask for.
    fn retain(&mut self, now: Timestamp) {
        let elapsed = self.retained.map(|last| now.as_micros().saturating_sub(last.as_micros()));
        if elapsed.is_some_and(|elapsed| (0..RETENTION_INTERVAL_US).contains(&elapsed)) {
            return;
        }
        self.retained = Some(now);
        let catalog = self.checkpointer.shared.catalog();
        for (partition, log) in catalog.partitions() {
            let Some(topic) = self.state.topics.get(&partition.topic) else {
                continue;
            };
            let Some(state) = self.state.partitions.get_mut(&partition) else {
                continue;
            };
            let log_start = retain::log_start(log, &topic.settings, now);
            if log_start > state.log_start {
                state.trim(log_start);
                self.stage.touch(partition);
                self.moved.insert(partition);
            }
        }
    }

    /// Log starts that were moved since this was last asked for.
    fn take_moved(&mut self) -> Vec<(PartitionKey, Offset)> {
        let moved = std::mem::take(&mut self.moved).into_iter();
        moved.filter_map(|key| Some((key, self.state.partitions.get(&key)?.log_start))).collect()
    }

    fn merge_step(&mut self, now: Timestamp, done: &mut Maintained) -> Result<(), FlushError> {
        let mut merge = match self.merge.take() {
            Some(merge) => merge,
            None => match merge::plan(&self.checkpointer, &self.options, &self.unmergeable) {
                Some(plan) => Merge::begin(&self.checkpointer, plan)?,
                None => return Ok(()),
            },
        };
        done.more = true;
        match merge.step(&mut self.checkpointer, &self.options, now) {
            Ok(MergeStep::More { bytes }) => {
                done.bytes = bytes;
                self.merge = Some(merge);
            }
            Ok(MergeStep::Done { bytes }) => {
                done.bytes = bytes;
                let change = Change { added: merge.outputs(), replaced: merge.inputs(), ..Change::default() };
                if let Err(error) = self.checkpointer.commit(&change) {
                    merge.give_up(&mut self.checkpointer);
                    return Err(error.into());
                }
            }
            Ok(MergeStep::Damaged { segment }) => {
                self.unmergeable.insert(segment);
                merge.give_up(&mut self.checkpointer);
            }
            Err(error) => {
                merge.give_up(&mut self.checkpointer);
                return Err(error.into());
            }
        }
        Ok(())
    }
}
