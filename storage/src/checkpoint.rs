//! Checkpoints: a manifest in two slots that says which files hold what the journal said up to a position.
//!
//! The slots are written in turns, so that whatever happens to one while it is written, the other is whole. A file is
//! removed only when neither slot may name it any more, and the journal keeps what either slot has not applied: each
//! slot alone, with the journal, is the whole truth.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, IoSlice};
use std::path::{Path, PathBuf};

use weir_protocol::units::{Incarnation, JournalPosition, SegmentId, VirtualShard};

use crate::dedup::KeySeed;
use crate::dedup::generation::GenerationFacts;
use crate::disk::{Context, Disk, DiskError, File, Mode};
use crate::journal::JournalId;

mod codec;
pub(crate) mod dump;
mod state_file;

pub(crate) use codec::ManifestError;
pub(crate) use state_file::{EncodedParts, LoadError, load, state_id_of_name, state_name, write_parts};

/// Places of the parts of a data directory.
#[derive(Clone, Debug)]
pub(crate) struct Paths {
    /// The directory itself.
    pub(crate) root: PathBuf,
    /// The journal's files.
    pub(crate) journal: PathBuf,
    /// Segments and their indexes.
    pub(crate) segments: PathBuf,
    /// State files.
    pub(crate) state: PathBuf,
    /// What was set aside by a recovery.
    pub(crate) quarantine: PathBuf,
}

impl Paths {
    /// The places under a data directory.
    pub(crate) fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            journal: root.join("journal"),
            segments: root.join("segments"),
            state: root.join("state"),
            quarantine: root.join("quarantine"),
        }
    }

    /// The file of a slot.
    pub(crate) fn slot(&self, slot: usize) -> PathBuf {
        self.root.join(SLOT_NAMES.get(slot).expect("there are two slots"))
    }
}

/// How many slots there are.
pub(crate) const SLOTS: usize = 2;

/// Names of the slots' files.
const SLOT_NAMES: [&str; SLOTS] = ["manifest-0", "manifest-1"];

/// A part of the state that is written as a whole.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Part {
    /// All topics.
    Topics,
    /// All consumer groups.
    Groups,
    /// The partitions of a virtual shard.
    Shard(VirtualShard),
}

/// Where a part of the state stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct PartPlace {
    /// Number of the state file.
    pub(crate) file: u64,
    /// Its first byte.
    pub(crate) position: u64,
    /// Its length.
    pub(crate) bytes: u64,
    /// Its hash.
    pub(crate) hash: u64,
}

/// What the checkpoint says of a segment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct SegmentFacts {
    /// Length of the file.
    pub(crate) bytes: u64,
    /// Hash of its run directory.
    pub(crate) directory_hash: u64,
}

/// A checkpoint.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Manifest {
    /// Number of the checkpoint; the highest valid one counts.
    pub(crate) generation: u64,
    /// The node's UUID.
    pub(crate) node: [u8; 16],
    /// The journal that goes on behind the checkpoint.
    pub(crate) journal: JournalId,
    /// Which start of the node writes the journal.
    pub(crate) incarnation: Incarnation,
    /// All frames below have been applied.
    pub(crate) applied: JournalPosition,
    /// Number of the next segment.
    pub(crate) next_segment: SegmentId,
    /// Number of the next state file.
    pub(crate) next_state: u64,
    /// Whether the node was shut down in order after this.
    pub(crate) clean: bool,
    /// Whether the journal was made. Before that nothing can have been written to it.
    pub(crate) born: bool,
    /// The segments.
    pub(crate) segments: BTreeMap<SegmentId, SegmentFacts>,
    /// The generations of keys.
    pub(crate) generations: BTreeMap<SegmentId, GenerationFacts>,
    /// Makes digests of keys; `None` if no version that knew of them has written it.
    pub(crate) key_seed: Option<KeySeed>,
    /// How long the node has been running, in all, in microseconds: the time by which keys grow old.
    pub(crate) running_us: u64,
    /// The parts of the state; one that is absent is empty.
    pub(crate) parts: BTreeMap<Part, PartPlace>,
    /// Segments and generations that are to be removed when the other slot does not name them either.
    pub(crate) retired_segments: BTreeSet<SegmentId>,
    /// State files that are to be removed when the other slot does not name them either.
    pub(crate) retired_states: BTreeSet<u64>,
}

impl Found {
    /// The manifest, if there is one.
    pub(crate) fn manifest(&self) -> Option<&Manifest> {
        match self {
            Self::Manifest(manifest) => Some(manifest),
            Self::Missing | Self::Damaged => None,
        }
    }
}

impl Manifest {
    /// Numbers of the segments and generations it names.
    pub(crate) fn sealed_files(&self) -> impl Iterator<Item = SegmentId> {
        self.segments.keys().chain(self.generations.keys()).copied()
    }

    /// Numbers of the state files it names.
    pub(crate) fn state_files(&self) -> BTreeSet<u64> {
        self.parts.values().map(|place| place.file).collect()
    }
}

/// What is known of a slot.
#[derive(Debug, Default)]
struct Slot {
    generation: u64,
    /// The lowest position that a manifest in it may say was applied.
    applied: JournalPosition,
    /// The segments and generations that a manifest in it may name.
    segments: BTreeSet<SegmentId>,
    /// The state files that a manifest in it may name.
    states: BTreeSet<u64>,
    /// Whether this process wrote the file last, and without a failure. Of any other file it is not known what a
    /// failed sync has made of it: another takes its place.
    is_sound: bool,
}

/// The two slots.
#[derive(Debug)]
pub(crate) struct Slots<D: Disk> {
    disk: D,
    paths: Paths,
    slots: [Slot; 2],
    next_generation: u64,
}

/// What stands in a slot.
#[derive(Debug)]
pub(crate) enum Found {
    /// There is no file.
    Missing,
    /// There is something that is no manifest.
    Damaged,
    /// A manifest.
    Manifest(Box<Manifest>),
}

impl<D: Disk> Slots<D> {
    /// Takes over the slots as they were found.
    pub(crate) fn new(disk: D, paths: Paths, found: &[Found; 2]) -> Self {
        let slots = [0, 1].map(|index| match found.get(index) {
            Some(Found::Manifest(manifest)) => Slot {
                generation: manifest.generation,
                applied: manifest.applied,
                segments: manifest.sealed_files().collect(),
                states: manifest.state_files(),
                is_sound: false,
            },
            Some(Found::Missing | Found::Damaged) | None => Slot::default(),
        });
        let next_generation = slots.iter().map(|slot| slot.generation).max().unwrap_or(0) + 1;
        Self { disk, paths, slots, next_generation }
    }

    /// Lets manifests above a generation be overwritten first: something that they name is damaged.
    pub(crate) fn distrust_above(&mut self, generation: u64) {
        for slot in self.slots.iter_mut().filter(|slot| slot.generation > generation) {
            slot.generation = 0;
        }
    }

    /// Writes a manifest to the older slot and makes it durable. Sets its generation.
    ///
    /// After an error the slot may hold the manifest or not: what it names is kept until the slot was written again.
    pub(crate) fn write(&mut self, manifest: &mut Manifest) -> Result<(), DiskError> {
        manifest.generation = self.next_generation;
        self.next_generation += 1;
        let [first, second] = &self.slots;
        let index = usize::from(second.generation < first.generation);
        let path = self.paths.slot(index);
        let slot = self.slots.get_mut(index).expect("there are two slots");
        slot.segments.extend(manifest.sealed_files());
        slot.states.extend(manifest.state_files());
        let bytes = manifest.encode();
        if std::mem::take(&mut slot.is_sound) {
            overwrite(&self.disk, &path, &bytes)?;
        } else {
            replace(&self.disk, &path, &bytes)?;
        }
        *slot = Slot {
            generation: manifest.generation,
            applied: manifest.applied,
            segments: manifest.sealed_files().collect(),
            states: manifest.state_files(),
            is_sound: true,
        };
        Ok(())
    }

    /// Below this the journal is not needed, whichever slot survives.
    pub(crate) fn applied_by_both(&self) -> JournalPosition {
        let [first, second] = &self.slots;
        first.applied.min(second.applied)
    }

    /// Whether a manifest on the disk may name a segment or a generation.
    pub(crate) fn names_segment(&self, segment: SegmentId) -> bool {
        self.slots.iter().any(|slot| slot.segments.contains(&segment))
    }

    /// Whether a manifest on the disk may name a state file.
    pub(crate) fn names_state(&self, file: u64) -> bool {
        self.slots.iter().any(|slot| slot.states.contains(&file))
    }
}

/// Writes over a sound file. If that is torn, the other slot is whole.
fn overwrite<D: Disk>(disk: &D, path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
    let file = disk.open(path, Mode::Write).context("open", path)?;
    // What a longer manifest left behind the end is never looked at.
    file.write_all_at(&[IoSlice::new(bytes)], 0).context("write", path)?;
    file.sync_data().context("sync", path)
}

/// Puts a fresh file in the place of one that may be missing or unsound.
fn replace<D: Disk>(disk: &D, path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
    let unfinished = path.with_extension(UNFINISHED_EXTENSION);
    match disk.remove(&unfinished) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error).context("remove", &unfinished);
        }
        Ok(()) | Err(_) => {}
    }
    let file = disk.create(&unfinished, Mode::Write, 0).context("make", &unfinished)?;
    file.write_all_at(&[IoSlice::new(bytes)], 0).context("write", &unfinished)?;
    file.sync_data().context("sync", &unfinished)?;
    disk.rename(&unfinished, path).context("rename", &unfinished)?;
    let root = path.parent().expect("slots lie in the data directory");
    disk.sync_directory(root).context("sync", root)
}

/// Whether a file of the data directory is a slot, or one that is being made.
pub(crate) fn is_slot_name(name: &str) -> bool {
    let name =
        name.strip_suffix(UNFINISHED_EXTENSION).and_then(|name| name.strip_suffix('.')).unwrap_or(name);
    SLOT_NAMES.contains(&name)
}

/// Reads a slot from the medium: what the system caches may be what it failed to write.
pub(crate) fn read_slot<D: Disk>(disk: &D, path: &Path) -> Result<Found, ManifestError> {
    let file = match disk.open(path, Mode::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Found::Missing),
        Err(error) => return Err(error).context("open", path).map_err(ManifestError::from),
    };
    file.sync_data().context("sync", path)?;
    file.drop_cache().context("drop the cache of", path)?;
    let length = file.length().context("read the length of", path)?;
    if length > MANIFEST_BYTES_MAX {
        return Ok(Found::Damaged);
    }
    let mut bytes = vec![0; usize::try_from(length).expect("limited")];
    file.read_exact_at(&mut bytes, 0).context("read", path)?;
    Ok(Manifest::decode(&bytes, path)?.map_or(Found::Damaged, |manifest| Found::Manifest(Box::new(manifest))))
}

/// Longest manifest that is believed: ten million segments.
const MANIFEST_BYTES_MAX: u64 = 256 << 20;

const UNFINISHED_EXTENSION: &str = "new";

#[cfg(test)]
mod tests;
