//! Recovers a data directory from one of its checkpoints and the journal behind it.

use std::sync::Arc;

use uuid::Uuid;
use weir_protocol::units::{Incarnation, Timestamp};

use super::leftovers;
use super::{Checkpoint, OpenError, OpenOptions, Opened, RecoveryReport, RecoveryVerdict, random_seed};
use crate::checkpoint::{Found, LoadError, Manifest, Paths, Slots, load};
use crate::disk::Disk;
use crate::journal::{Identity, Journal, Replay, ReplayFrom, Tail};
use crate::state::NodeState;
use crate::store::checkpointer::Checkpointer;
use crate::store::flusher::Flusher;
use crate::store::keys::Keys;
use crate::store::reader::Reader;
use crate::store::shared::Shared;

/// Bytes of frames that are kept in memory before they are written to segments.
const FLUSH_BYTES: u64 = 64 << 20;

/// What a recovery works with.
#[derive(Debug)]
pub(in crate::store) struct Recovery<D: Disk> {
    pub(in crate::store) disk: D,
    pub(in crate::store) paths: Paths,
    pub(in crate::store) options: OpenOptions,
    pub(in crate::store) now: Timestamp,
}

/// What goes on from a checkpoint.
#[derive(Debug)]
pub(in crate::store) struct Begun<D: Disk> {
    pub(in crate::store) flusher: Flusher<D>,
    reader: Reader<D>,
    report: RecoveryReport,
}

/// What comes out.
#[derive(Debug)]
pub(super) struct Recovered<D: Disk> {
    journal: Journal<D>,
    flusher: Flusher<D>,
    reader: Reader<D>,
    incarnation: Incarnation,
    node: Uuid,
    report: RecoveryReport,
}

impl<D: Disk> Recovered<D> {
    pub(super) fn into_opened(self, lock: D::Lock, repaired: Vec<String>) -> Opened<D> {
        Opened {
            state: self.flusher.state().clone(),
            key_seed: self.flusher.key_seed(),
            journal: self.journal,
            flusher: self.flusher,
            reader: self.reader,
            incarnation: self.incarnation,
            node: self.node,
            report: RecoveryReport { repaired: [repaired, self.report.repaired].concat(), ..self.report },
            lock,
        }
    }
}

impl<D: Disk> Recovery<D> {
    /// Recovers from a checkpoint.
    pub(super) fn run(
        self,
        checkpoint: Checkpoint<'_>,
        found: &[Found; 2],
    ) -> Result<Recovered<D>, OpenError> {
        let manifest = checkpoint.manifest;
        let identity = Identity { journal: manifest.journal, incarnation: manifest.incarnation };
        let from = ReplayFrom { identity, applied: manifest.applied, proven: manifest.applied };
        let replay = Replay::open(self.disk.clone(), &self.paths.journal, from)?;
        let begun = self.begin(checkpoint, found, replay.tail())?;
        let Begun { flusher, reader, mut report } = begun;
        let (journal, flusher) = self.replay(replay, flusher, &mut report)?;
        let incarnation = journal.identity().incarnation;
        Ok(Recovered { journal, flusher, reader, incarnation, node: Uuid::from_bytes(manifest.node), report })
    }

    /// Goes on from a checkpoint with a journal that was found whole, or of which the rest was given up.
    pub(in crate::store) fn begin(
        &self,
        checkpoint: Checkpoint<'_>,
        found: &[Found; 2],
        tail: &Tail,
    ) -> Result<Begun<D>, OpenError> {
        let Checkpoint { manifest, state, directories, catalog, unreadable, .. } = checkpoint;
        // From here on the journal is known to be whole: what a dead flush has left behind is in it.
        let mut slots = Slots::new(self.disk.clone(), self.paths.clone(), found);
        slots.distrust_above(manifest.generation);
        let leftovers = leftovers::find(&self.disk, &self.paths, manifest, &slots)?;
        let mut report = RecoveryReport {
            verdict: match tail {
                Tail::Torn { .. } => RecoveryVerdict::TornTail,
                Tail::Clean if manifest.clean => RecoveryVerdict::Clean,
                Tail::Clean => RecoveryVerdict::Recovered,
            },
            unknown_files: leftovers.unknown,
            repaired: directories.repaired,
            damaged: directories.damaged,
            unreadable,
            ..RecoveryReport::default()
        };
        for path in leftovers.removable {
            if self.disk.remove(&path).is_ok() {
                report.leftovers_removed.push(path);
            }
        }
        let (disk, paths) = (self.disk.clone(), self.paths.clone());
        let damaged = &mut report.damaged;
        let keys = Keys::load(&disk, &paths, manifest, (self.options.keys, damaged))?;
        let manifest = Manifest {
            // A version that did not know of keys has remembered none.
            key_seed: manifest
                .key_seed
                .or_else(|| Some(self.options.new_key_seed.unwrap_or_else(random_seed))),
            ..manifest.clone()
        };
        let (known, idle) = ((catalog, keys, manifest.running_us), self.options.idle_read_bytes);
        let shared = Arc::new(Shared::new(disk, paths.segments.clone(), manifest.node, known, idle));
        let reader = Reader::new(Arc::clone(&shared));
        let mut checkpointer =
            Checkpointer::new(self.disk.clone(), paths, Arc::clone(&shared), slots, manifest);
        checkpointer.skip_numbers(leftovers.free_segment, leftovers.free_state);
        checkpointer.retire(leftovers.retired_segments, leftovers.retired_states);
        // A segment that was salvaged is left as it is: it is neither merged nor removed.
        for (segment, runs) in &directories.whole {
            checkpointer.note_segment(*segment, runs);
        }
        for (_, log) in shared.catalog().partitions() {
            log.extents.iter().for_each(|extent| checkpointer.note_extent(extent));
        }
        Ok(Begun { flusher: Flusher::new(checkpointer, self.options.segments, state), reader, report })
    }

    /// Moves what the journal holds to segments, then lets it go on.
    fn replay(
        &self,
        mut replay: Replay<D>,
        mut flusher: Flusher<D>,
        report: &mut RecoveryReport,
    ) -> Result<(Journal<D>, Flusher<D>), OpenError> {
        report.bytes_replayed = replay.bytes();
        let mut is_full = false;
        while let Some((frames, end)) = replay.next_block()? {
            report.frames_replayed += frames.len() as u64;
            flusher.accept(frames.into_iter().map(|read| read.frame).collect(), end);
            if flusher.pending_bytes() >= FLUSH_BYTES && !is_full {
                flusher.apply()?;
                match flusher.write_staged(self.now) {
                    // What lies ahead may free space. Until then all waits in memory, as it did before the node died.
                    Err(error) if error.is_full() => is_full = true,
                    written => written?,
                }
            }
        }
        flusher.apply()?;
        flusher.write_all(self.now)?;
        report.quarantined = replay.set_aside(&self.paths.quarantine)?;
        let incarnation = replay.identity().incarnation.next();
        flusher.start_over(incarnation, replay.restart())?;
        let journal = Journal::resume(replay, incarnation, self.options.journal)?;
        Ok((journal, flusher))
    }
}

/// Reads the state that a manifest names.
pub(in crate::store) fn load_state<D: Disk>(
    disk: &D,
    paths: &Paths,
    manifest: &Manifest,
) -> Result<NodeState, OpenError> {
    load(disk, paths, manifest).map_err(|error| match error {
        LoadError::Damaged { path, what } => OpenError::Damaged { path, what },
        LoadError::NewerFormat { path, version, features } => {
            OpenError::NewerFormat { path, version, features }
        }
        LoadError::Disk(error) => OpenError::Disk(error),
    })
}
