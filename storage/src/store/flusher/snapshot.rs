//! Snapshots: a second data directory that holds everything up to now, made while the node goes on.
//!
//! Sealed segments never change, so one more name for each of them is a copy. The state is written anew, an empty journal
//! is made, and the manifests come last: before them no node starts from the directory.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use uuid::Uuid;
use weir_protocol::units::{Epoch, Incarnation, JournalPosition};

use super::Flusher;
use super::stage::encode_parts;
use crate::checkpoint::{Found, Manifest, Part, PartPlace, Paths, SLOTS, Slots, write_parts};
use crate::dedup::generation::generation_name;
use crate::disk::{BLOCK_BYTES, Context, Disk, DiskError, Mode};
use crate::frame::virtual_shard_of;
use crate::journal::{Identity, Journal, JournalError, JournalId, JournalOptions};
use crate::segment::{index_name, segment_name};
use crate::state::NodeState;

/// A snapshot that was made.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Snapshot {
    /// Where it is.
    pub directory: PathBuf,
    /// Segments it consists of.
    pub segments: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Why a snapshot was not made. What there was of it is removed, and no node starts from what cannot be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// There is a whole one already.
    #[error("{} is a snapshot already", directory.display())]
    Exists {
        /// Where.
        directory: PathBuf,
    },
    /// Not all is in segments: a flush failed, or came too early.
    #[error("not everything is in segments yet")]
    NotFlushed,
    /// The file system cannot give a segment one more name. Copies are not made instead: they would hold up the
    /// flusher for as long as all data takes to be copied.
    #[error(
        "{} cannot have a second name in {} ({source}): a snapshot needs a file system with hard links; stop the \
         broker and copy its data directory instead",
        path.display(), directory.display()
    )]
    NoLinks {
        /// The segment.
        path: PathBuf,
        /// Where its second name should have been.
        directory: PathBuf,
        /// What the file system says.
        source: std::io::Error,
    },
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The empty journal could not be made.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// A snapshot's journal is empty: the first start makes files of the length it wants.
const JOURNAL: JournalOptions =
    JournalOptions { file_bytes: 16 * BLOCK_BYTES, files: 2, files_max: 2, reserve_bytes: BLOCK_BYTES };

/// The node and its copy must not give out the same producer identities, which are made from the incarnation. The
/// copy's are so far ahead that the node will not be started as often, and by how much is left to chance, so that two
/// snapshots differ.
const INCARNATIONS_SKIPPED_MIN: u64 = 1 << 16;
const INCARNATIONS_SKIPPED_SPREAD: u64 = 1 << 20;

impl<D: Disk> Flusher<D> {
    /// Makes a data directory that holds everything that was flushed. What an attempt that died has left there is made
    /// anew.
    ///
    /// Keeps the identity of the node, which all segments carry. Epochs of all partitions rise, and the incarnation
    /// jumps ahead: what is written to the copy can be told from what the node writes.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn snapshot(&self, directory: &Path) -> Result<Snapshot, SnapshotError> {
        if !self.stage.is_empty() || !self.accepted.is_empty() {
            return Err(SnapshotError::NotFlushed);
        }
        let disk = &self.checkpointer.disk;
        let target = Paths::new(directory);
        if has_manifest(disk, &target)? {
            return Err(SnapshotError::Exists { directory: directory.to_owned() });
        }
        clear(disk, &target)?;
        let made = self.fill(&target);
        if made.is_err() {
            // Without a manifest no node starts from what cannot be removed.
            drop(clear(disk, &target));
        }
        made
    }

    fn fill(&self, target: &Paths) -> Result<Snapshot, SnapshotError> {
        let disk = &self.checkpointer.disk;
        for directory in [&target.root, &target.segments, &target.state, &target.quarantine] {
            disk.create_directory(directory).context("make", directory)?;
        }
        self.link_segments(target)?;
        let last = self.checkpointer.manifest();
        let parts = write_state(disk, target, last, &self.state)?;
        let journal = JournalId::from_bytes(Uuid::new_v4().into_bytes());
        let incarnation = Incarnation::new(last.incarnation.get() + skipped());
        Journal::create(disk.clone(), &target.journal, Identity { journal, incarnation }, JOURNAL)?;
        for directory in [&target.segments, &target.state, &target.root] {
            disk.sync_directory(directory).context("sync", directory)?;
        }
        // The directory for snapshots may be new, too.
        for above in target.root.ancestors().skip(1).take(2) {
            disk.sync_directory(above).context("sync", above)?;
        }
        let mut manifest = Manifest {
            generation: 0,
            node: last.node,
            journal,
            incarnation,
            applied: JournalPosition::ZERO,
            next_segment: last.next_segment,
            next_state: last.next_state + 1,
            clean: true,
            born: true,
            segments: last.segments.clone(),
            generations: last.generations.clone(),
            key_seed: last.key_seed,
            running_us: last.running_us,
            parts,
            retired_segments: std::collections::BTreeSet::new(),
            retired_states: std::collections::BTreeSet::new(),
        };
        let mut slots = Slots::new(disk.clone(), target.clone(), &[Found::Missing, Found::Missing]);
        for _ in 0..SLOTS {
            slots.write(&mut manifest)?;
        }
        Ok(Snapshot {
            directory: target.root.clone(),
            segments: manifest.segments.len() as u64,
            bytes: manifest.segments.values().map(|facts| facts.bytes).sum(),
        })
    }

    /// Gives all segments, their indexes and all generations of keys a second name.
    fn link_segments(&self, target: &Paths) -> Result<(), SnapshotError> {
        let (disk, paths) = (&self.checkpointer.disk, &self.checkpointer.paths);
        for segment in self.checkpointer.manifest().segments.keys() {
            link(disk, &paths.segments, &target.segments, &segment_name(*segment))?;
            match link(disk, &paths.segments, &target.segments, &index_name(*segment)) {
                // An index can be made again.
                Err(SnapshotError::Disk(error)) if error.source.kind() == ErrorKind::NotFound => {}
                linked => linked?,
            }
        }
        for generation in self.checkpointer.manifest().generations.keys() {
            link(disk, &paths.segments, &target.segments, &generation_name(*generation))?;
        }
        Ok(())
    }
}

/// Whether a node would start from the directory, or refuse to because a manifest is damaged.
fn has_manifest<D: Disk>(disk: &D, target: &Paths) -> Result<bool, DiskError> {
    for slot in 0..SLOTS {
        let path = target.slot(slot);
        match disk.open(&path, Mode::Read) {
            Ok(_) => return Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error).context("open", &path),
        }
    }
    Ok(false)
}

/// Removes all files of a snapshot, the manifests first.
fn clear<D: Disk>(disk: &D, target: &Paths) -> Result<(), DiskError> {
    for directory in [&target.root, &target.segments, &target.state, &target.journal] {
        let entries = match disk.list(directory) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            listed => listed.context("list", directory)?,
        };
        for entry in &entries {
            let path = directory.join(&entry.name);
            disk.remove(&path).context("remove", &path)?;
        }
        if !entries.is_empty() {
            disk.sync_directory(directory).context("sync", directory)?;
        }
    }
    Ok(())
}

/// Writes the whole state to one file, with the epochs of the copy.
fn write_state<D: Disk>(
    disk: &D,
    target: &Paths,
    last: &Manifest,
    state: &NodeState,
) -> Result<BTreeMap<Part, PartPlace>, DiskError> {
    let mut state = state.clone();
    for partition in state.partitions.values_mut() {
        partition.epoch = Epoch::new(partition.epoch.get().saturating_add(1));
    }
    let shards = state.partitions.keys().map(|partition| Part::Shard(virtual_shard_of(*partition)));
    let parts = encode_parts(&state, &shards.chain([Part::Topics, Part::Groups]).collect());
    write_parts(disk, target, &last.node, last.next_state, &parts)
}

fn skipped() -> u64 {
    INCARNATIONS_SKIPPED_MIN + Uuid::new_v4().as_u64_pair().0 % INCARNATIONS_SKIPPED_SPREAD
}

/// Gives a sealed file the same name in another directory.
fn link<D: Disk>(disk: &D, from: &Path, to: &Path, name: &str) -> Result<(), SnapshotError> {
    let path = from.join(name);
    match disk.link(&path, &to.join(name)) {
        Err(source) if is_no_link(source.kind()) => {
            Err(SnapshotError::NoLinks { path, directory: to.to_owned(), source })
        }
        linked => Ok(linked.context("link", &path)?),
    }
}

/// What file systems say that cannot give a file one more name.
fn is_no_link(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::CrossesDevices
            | ErrorKind::Unsupported
            | ErrorKind::TooManyLinks
            | ErrorKind::PermissionDenied
    )
}
