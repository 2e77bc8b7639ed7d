//! Opens a data directory: makes a new one, or recovers what is there.
//!
//! The best manifest, its state files, the run directories of its segments, then the journal behind it: what that
//! says is written to segments at once, and both slots then say that the journal goes on under the next incarnation.
//! Until the journal has been verified, nothing is changed.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;
use weir_protocol::units::{Incarnation, JournalPosition, Offset, PartitionKey, SegmentId, Timestamp};

use super::catalog::Catalog;
use super::checkpointer::Checkpointer;
use super::flusher::Flusher;
use super::keys::Keys;
use super::reader::Reader;
use super::shared::Shared;
use super::{FlushError, KeyOptions, SNAPSHOTS_DIRECTORY, SegmentOptions};
use crate::checkpoint::{Found, Manifest, ManifestError, Paths, Slots, is_slot_name, read_slot};
use crate::dedup::KeySeed;
use crate::disk::{Context, Disk, DiskError};
use crate::journal::{Identity, Journal, JournalId, JournalOptions};
use crate::state::NodeState;

mod checkpoint;
pub(super) mod directories;
mod error;
pub(super) mod leftovers;
mod recover;

pub(super) use checkpoint::{Checkpoint, unreadable};
pub use error::OpenError;
pub(super) use recover::{Recovery, load_state};

/// How a data directory is used.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct OpenOptions {
    /// Sizes of the journal.
    pub journal: JournalOptions,
    /// Sizes of segments.
    pub segments: SegmentOptions,
    /// How many idempotency keys are kept.
    pub keys: KeyOptions,
    /// Bytes of memory to read into that may be kept while nothing is read. Default 0.
    pub idle_read_bytes: usize,
    /// The secret of the digests of keys in a new data directory. Default: one that nobody can guess.
    pub new_key_seed: Option<KeySeed>,
}

/// A data directory in use.
#[derive(Debug)]
pub struct Opened<D: Disk> {
    /// For the thread that commits.
    pub journal: Journal<D>,
    /// For the thread that flushes.
    pub flusher: Flusher<D>,
    /// For those who read.
    pub reader: Reader<D>,
    /// What the log says. All of it is in segments.
    pub state: NodeState,
    /// Which start of the node this is.
    pub incarnation: Incarnation,
    /// The node's identity.
    pub node: Uuid,
    /// Makes digests of idempotency keys. All keys of the log are among those that the reader finds.
    pub key_seed: KeySeed,
    /// What was found.
    pub report: RecoveryReport,
    /// Keeps every other process out. To be dropped last.
    pub lock: D::Lock,
}

/// What was found when a data directory was opened.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RecoveryReport {
    /// In one word.
    pub verdict: RecoveryVerdict,
    /// Frames of the journal that no checkpoint had applied.
    pub frames_replayed: u64,
    /// Bytes of the journal that were read for them.
    pub bytes_replayed: u64,
    /// Where a torn tail of the journal was copied to.
    pub quarantined: Option<PathBuf>,
    /// Damage that could be made good, in words.
    pub repaired: Vec<String>,
    /// Segments that are missing or damaged beyond repair, in words.
    pub damaged: Vec<String>,
    /// Records that cannot be read, because their segment is missing or damaged. All others are served.
    pub unreadable: Vec<(PartitionKey, Range<Offset>)>,
    /// Files of a flush or merge that did not come to its end, which were removed.
    pub leftovers_removed: Vec<PathBuf>,
    /// Files that do not belong here. They were left alone.
    pub unknown_files: Vec<PathBuf>,
}

/// How the node had ended.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum RecoveryVerdict {
    /// There was nothing: the directory is new.
    #[default]
    New,
    /// It was shut down in order.
    Clean,
    /// It died; all it had acknowledged is there.
    Recovered,
    /// It died while it wrote. What it wrote last was acknowledged to nobody, and was set aside.
    TornTail,
}

/// Opens a data directory, which is made if it does not exist.
///
/// # Errors
/// [`OpenError`].
///
/// # Panics
/// If the options make no sense.
pub fn open<D: Disk>(
    disk: D,
    directory: &Path,
    options: OpenOptions,
    now: Timestamp,
) -> Result<Opened<D>, OpenError> {
    let paths = Paths::new(directory);
    disk.create_directory(directory).context("make", directory)?;
    let Some(lock) = disk.lock(directory).context("lock", directory)? else {
        return Err(OpenError::Locked { directory: directory.to_owned() });
    };
    let found = read_slots(&disk, &paths)?;
    let [first, second] = &found;
    let mut manifests: Vec<&Manifest> = [first, second].into_iter().filter_map(Found::manifest).collect();
    manifests.sort_by_key(|manifest| std::cmp::Reverse(manifest.generation));
    let Some(best) = manifests.first() else {
        if let [Found::Missing, Found::Missing] = &found {
            refuse_if_snapshot(&disk, directory)?;
        }
        refuse_if_used(&disk, &paths)?;
        return create(disk, paths, options, &found, lock);
    };
    if !best.born {
        return create(disk, paths, options, &found, lock);
    }
    let damaged_slot = found.iter().any(|found| matches!(found, Found::Damaged));
    let mut repaired: Vec<String> = damaged_slot
        .then(|| "one manifest was damaged; the other one is whole".to_owned())
        .into_iter()
        .collect();
    manifests.retain(|manifest| manifest.born);
    let checkpoint = choose(&disk, &paths, &manifests, &mut repaired)?;
    let recovery = Recovery { disk, paths, options, now };
    Ok(recovery.run(checkpoint, &found)?.into_opened(lock, repaired))
}

/// The checkpoint that can read most: the newest one, unless something only that one names is damaged. Each is whole by
/// itself, and the journal still has all behind the older one.
pub(super) fn choose<'a, D: Disk>(
    disk: &D,
    paths: &Paths,
    manifests: &[&'a Manifest],
    repaired: &mut Vec<String>,
) -> Result<Checkpoint<'a>, OpenError> {
    let mut best: Option<Checkpoint<'_>> = None;
    let mut first_error = None;
    for manifest in manifests {
        match Checkpoint::read(disk, paths, manifest) {
            Ok(found) if best.as_ref().is_none_or(|best| found.lost() < best.lost()) => {
                if let Some(newer) = best.replace(found) {
                    repaired.push(format!("the newest checkpoint cannot be used: {}", newer.trouble()));
                }
            }
            Ok(_) => {}
            Err(error) if error.concerns_checkpoint() => {
                repaired.push(format!("the newest checkpoint cannot be used: {error}"));
                first_error.get_or_insert(error);
            }
            Err(error) => return Err(first_error.unwrap_or(error)),
        }
        if best.as_ref().is_some_and(|best| best.lost() == 0) {
            break;
        }
    }
    best.ok_or_else(|| first_error.expect("there was a manifest, and it could not be used"))
}

/// What stands in the two slots.
pub(super) fn read_slots<D: Disk>(disk: &D, paths: &Paths) -> Result<[Found; 2], OpenError> {
    let read = |slot| {
        read_slot(disk, &paths.slot(slot)).map_err(|error| match error {
            ManifestError::NewerFormat { path, version, features } => {
                OpenError::NewerFormat { path, version, features }
            }
            ManifestError::Disk(error) => OpenError::Disk(error),
        })
    };
    Ok([read(0)?, read(1)?])
}

/// Without a manifest only an empty directory is taken for a new one: what is missing may be the manifest.
pub(super) fn refuse_if_used<D: Disk>(disk: &D, paths: &Paths) -> Result<(), OpenError> {
    for directory in [&paths.journal, &paths.segments, &paths.state] {
        let files = leftovers::list(disk, directory)?;
        if let Some(entry) = files.first() {
            return Err(OpenError::NoManifest {
                directory: paths.root.clone(),
                found: directory.join(&entry.name),
            });
        }
    }
    let ours = |name: &str| name == "lock" || is_slot_name(name);
    let files = disk.list(&paths.root).context("list", &paths.root)?;
    match files.into_iter().find(|entry| !ours(&entry.name)) {
        Some(entry) => Err(OpenError::NotADataDirectory { directory: paths.root.clone(), found: entry.name }),
        None => Ok(()),
    }
}

/// Without a manifest a snapshot was not finished, however little of it there is: it is not taken for a new directory.
fn refuse_if_snapshot<D: Disk>(disk: &D, directory: &Path) -> Result<(), OpenError> {
    let above = directory.parent().filter(|above| above.ends_with(SNAPSHOTS_DIRECTORY));
    let Some(data) = above.and_then(Path::parent) else { return Ok(()) };
    let files = leftovers::list(disk, data)?;
    if files.iter().any(|entry| is_slot_name(&entry.name)) {
        return Err(OpenError::UnfinishedSnapshot { directory: directory.to_owned() });
    }
    Ok(())
}

/// Makes a new data directory. The manifest comes first, so that a start that dies in between leaves something that
/// the next one knows to be empty.
fn create<D: Disk>(
    disk: D,
    paths: Paths,
    options: OpenOptions,
    found: &[Found; 2],
    lock: D::Lock,
) -> Result<Opened<D>, OpenError> {
    let node = Uuid::new_v4();
    let journal = JournalId::from_bytes(Uuid::new_v4().into_bytes());
    let incarnation = Incarnation::new(1);
    let key_seed = options.new_key_seed.unwrap_or_else(random_seed);
    let mut manifest = Manifest {
        generation: 0,
        node: node.into_bytes(),
        journal,
        incarnation,
        applied: JournalPosition::ZERO,
        next_segment: SegmentId::new(1),
        next_state: 1,
        clean: false,
        born: false,
        segments: std::collections::BTreeMap::new(),
        generations: std::collections::BTreeMap::new(),
        key_seed: Some(key_seed),
        running_us: 0,
        parts: std::collections::BTreeMap::new(),
        retired_segments: std::collections::BTreeSet::new(),
        retired_states: std::collections::BTreeSet::new(),
    };
    let mut slots = Slots::new(disk.clone(), paths.clone(), found);
    slots.write(&mut manifest)?;
    for directory in [&paths.segments, &paths.state, &paths.quarantine] {
        disk.create_directory(directory).context("make", directory)?;
    }
    let identity = Identity { journal, incarnation };
    let journal = Journal::create(disk.clone(), &paths.journal, identity, options.journal)?;
    disk.sync_directory(&paths.root).context("sync", &paths.root)?;
    sync_parent(&disk, &paths.root)?;
    manifest.born = true;
    slots.write(&mut manifest)?;
    slots.write(&mut manifest)?;
    let catalog = Catalog::default();
    let known = (catalog, Keys::new(options.keys), manifest.running_us);
    let idle = options.idle_read_bytes;
    let shared = Arc::new(Shared::new(disk.clone(), paths.segments.clone(), manifest.node, known, idle));
    let checkpointer = Checkpointer::new(disk, paths, Arc::clone(&shared), slots, manifest);
    let state = NodeState::default();
    Ok(Opened {
        journal,
        flusher: Flusher::new(checkpointer, options.segments, state.clone()),
        reader: Reader::new(shared),
        state,
        incarnation,
        node,
        key_seed,
        report: RecoveryReport::default(),
        lock,
    })
}

/// A seed that nobody can guess.
fn random_seed() -> KeySeed {
    KeySeed::from_bytes(Uuid::new_v4().into_bytes())
}

/// Makes the name of a new directory durable, where it has a parent that may be synced.
fn sync_parent<D: Disk>(disk: &D, directory: &Path) -> Result<(), DiskError> {
    match directory.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => disk.sync_directory(parent).context("sync", parent),
        Some(_) | None => Ok(()),
    }
}

impl From<FlushError> for OpenError {
    fn from(error: FlushError) -> Self {
        match error {
            FlushError::Disk(error) => Self::Disk(error),
        }
    }
}
