//! What the flusher and all readers share: the catalog, the keys, open segments, and memory to read into.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use weir_protocol::units::{Offset, SegmentId};

use super::buffers::{Buffer, Buffers};
use super::catalog::{Catalog, Extent};
use super::keys::Keys;
use super::reader::ReadError;
use crate::dedup::KeyDigest;
use crate::disk::{Disk, DiskError};
use crate::segment::{Index, SegmentError, SegmentFile, SegmentIdentity};

/// Segments that are kept open for reading. Bounds file descriptors; the one that was not read for longest goes first.
const OPEN_SEGMENTS_MAX: usize = 256;

/// Places where a reader stopped that are remembered, so that it goes on without searching. Some hundred KiB.
const PLACES_MAX: usize = 4096;

/// See the module. No lock is held while the disk is used.
#[derive(Debug)]
pub(super) struct Shared<D: Disk> {
    disk: D,
    segments: PathBuf,
    node: [u8; 16],
    catalog: RwLock<Catalog>,
    keys: RwLock<Arc<Keys<D::File>>>,
    /// How long the node has been running, in all, as the flusher was told last.
    running_us: AtomicU64,
    open: Mutex<OpenSegments<D>>,
    places: Mutex<HashMap<(SegmentId, u32, Offset), u64>>,
    buffers: Arc<Buffers>,
}

/// An open segment with its index, if there is one and it could be made again.
#[derive(Debug)]
pub(super) struct OpenSegment<D: Disk> {
    pub(super) file: SegmentFile<D::File>,
    pub(super) index: Option<Index<D::Map>>,
}

#[derive(Debug)]
struct OpenSegments<D: Disk> {
    /// With the number of the access that used it last.
    segments: BTreeMap<SegmentId, (Arc<OpenSegment<D>>, u64)>,
    accesses: u64,
}

impl<D: Disk> Shared<D> {
    pub(super) fn new(
        disk: D,
        segments: PathBuf,
        node: [u8; 16],
        (catalog, keys, running_us): (Catalog, Keys<D::File>, u64),
        idle_read_bytes: usize,
    ) -> Self {
        Self {
            disk,
            segments,
            node,
            catalog: RwLock::new(catalog),
            keys: RwLock::new(Arc::new(keys)),
            running_us: AtomicU64::new(running_us),
            open: Mutex::new(OpenSegments { segments: BTreeMap::new(), accesses: 0 }),
            places: Mutex::default(),
            buffers: Buffers::new(idle_read_bytes),
        }
    }

    /// The catalog, to look something up.
    pub(super) fn catalog(&self) -> RwLockReadGuard<'_, Catalog> {
        // Each change of the catalog is whole, whatever happened to the thread that made it.
        self.catalog.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The catalog, to be changed. Only the flusher does.
    pub(super) fn catalog_mut(&self) -> RwLockWriteGuard<'_, Catalog> {
        self.catalog.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The keys that are in generations.
    pub(super) fn keys(&self) -> Arc<Keys<D::File>> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts other keys in their place. Only the flusher does.
    pub(super) fn set_keys(&self, keys: Keys<D::File>) {
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
    }

    /// How long the node has been running, in microseconds: by it keys grow old.
    pub(super) fn running_us(&self) -> u64 {
        // Alone it says nothing of other memory.
        self.running_us.load(Ordering::Relaxed)
    }

    /// Tells how long the node has been running. Only the flusher does.
    pub(super) fn set_running_us(&self, running_us: u64) {
        self.running_us.store(running_us, Ordering::Relaxed);
    }

    /// Whether there may be such a key. Reads no disk.
    pub(super) fn may_hold_key(&self, digest: KeyDigest) -> bool {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).may_contain(digest)
    }

    /// The disk, and the directory of the segments.
    pub(super) fn place(&self) -> (&D, &Path) {
        (&self.disk, &self.segments)
    }

    pub(super) fn identity(&self, segment: SegmentId) -> SegmentIdentity {
        SegmentIdentity { node: self.node, segment }
    }

    /// Opens the segment of an extent; `None` if the extent is not in the catalog any more.
    pub(super) fn open(&self, extent: &Extent) -> Result<Option<Arc<OpenSegment<D>>>, ReadError> {
        if let Some(open) = lock(&self.open).touch(extent.segment) {
            return Ok(Some(open));
        }
        let Some(facts) = self.catalog().segment(extent.segment) else {
            return Ok(None);
        };
        let identity = self.identity(extent.segment);
        let file = match SegmentFile::open(&self.disk, &self.segments, identity) {
            Ok(file) => file,
            Err(DiskError { source, .. })
                if source.kind() == std::io::ErrorKind::NotFound
                    && self.catalog().segment(extent.segment).is_none() =>
            {
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        let runs = || file.runs(facts.bytes, facts.directory_hash);
        let index = match Index::open(&self.disk, &file, facts.directory_hash, runs) {
            Ok(index) => Some(index),
            Err(SegmentError::Damaged { .. } | SegmentError::NewerFormat { .. }) => None,
            Err(SegmentError::Disk(error)) => return Err(error.into()),
        };
        let open = Arc::new(OpenSegment { file, index });
        lock(&self.open).insert(extent.segment, Arc::clone(&open));
        Ok(Some(open))
    }

    /// Closes a segment that was removed, as soon as nobody reads it.
    pub(super) fn close(&self, segment: SegmentId) {
        lock(&self.open).segments.remove(&segment);
    }

    /// Where the batch with an offset starts, if a reader stopped there. Forgets it.
    pub(super) fn take_place(&self, extent: &Extent, offset: Offset) -> Option<u64> {
        lock(&self.places).remove(&(extent.segment, extent.run, offset))
    }

    /// Remembers where a reader stopped. Segments never change, so it stays right.
    pub(super) fn put_place(&self, extent: &Extent, offset: Offset, position: u64) {
        let mut places = lock(&self.places);
        if places.len() >= PLACES_MAX {
            places.clear();
        }
        places.insert((extent.segment, extent.run, offset), position);
    }

    /// Memory of this length, with any content.
    pub(super) fn buffer(&self, length: usize) -> Buffer {
        self.buffers.take(length)
    }
}

impl<D: Disk> OpenSegments<D> {
    fn touch(&mut self, segment: SegmentId) -> Option<Arc<OpenSegment<D>>> {
        self.accesses += 1;
        let (open, access) = self.segments.get_mut(&segment)?;
        *access = self.accesses;
        Some(Arc::clone(open))
    }

    fn insert(&mut self, segment: SegmentId, open: Arc<OpenSegment<D>>) {
        if self.segments.len() >= OPEN_SEGMENTS_MAX {
            let oldest =
                self.segments.iter().min_by_key(|(_, (_, access))| *access).map(|(segment, _)| *segment);
            if let Some(oldest) = oldest {
                self.segments.remove(&oldest);
            }
        }
        self.accesses += 1;
        self.segments.insert(segment, (open, self.accesses));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is behind these locks is a cache: any state of it is right.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
