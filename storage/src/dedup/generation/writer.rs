//! Writes a generation, once, from front to back.

use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::BufMut;
use weir_protocol::units::SegmentId;

use super::{
    BLOCK_ENTRIES, GenerationFacts, GenerationFile, TRAILER_BYTES, TRAILER_MAGIC, VERSION, encode_entry,
    encode_header, generation_name, seal_block,
};
use crate::dedup::filter::{Filter, FilterBuilder};
use crate::dedup::{Entry, KeyDigest};
use crate::disk::{Context, Disk, DiskError, File, Mode};
use crate::limits::WRITE_BYTES_MAX;
use crate::segment::SegmentIdentity;

/// A generation being written.
#[derive(Debug)]
pub(crate) struct GenerationWriter<D: Disk> {
    path: PathBuf,
    file: D::File,
    identity: SegmentIdentity,
    filter: FilterBuilder,
    fences: Vec<u32>,
    last: Option<KeyDigest>,
    entries: u64,
    /// The block that is being filled.
    block: Vec<u8>,
    block_entries: u32,
    /// What is not written yet, and where it will be.
    buffer: Vec<u8>,
    position: u64,
}

/// A generation that was written and synced.
#[derive(Debug)]
pub(crate) struct WrittenGeneration<F> {
    /// Its number.
    pub(crate) generation: SegmentId,
    /// What is to be said of it.
    pub(crate) facts: GenerationFacts,
    /// The file, open.
    pub(crate) file: GenerationFile<F>,
    /// Its filter.
    pub(crate) filter: Arc<Filter>,
}

impl<D: Disk> GenerationWriter<D> {
    /// Makes the file of a generation with at most so many keys.
    pub(crate) fn create(
        disk: &D,
        directory: &Path,
        identity: SegmentIdentity,
        entries_max: u64,
    ) -> Result<Self, DiskError> {
        let path = directory.join(generation_name(identity.segment));
        let file = disk.create(&path, Mode::Write, 0).context("make", &path)?;
        Ok(Self {
            path,
            file,
            identity,
            filter: FilterBuilder::new(entries_max),
            fences: Vec::new(),
            last: None,
            entries: 0,
            block: Vec::new(),
            block_entries: 0,
            buffer: encode_header(&identity),
            position: 0,
        })
    }

    /// Adds a key.
    ///
    /// # Panics
    /// If it does not come behind the one before.
    pub(crate) fn push(&mut self, entry: &Entry) -> Result<(), DiskError> {
        assert!(self.last.is_none_or(|last| last < entry.digest), "keys of a generation rise");
        self.last = Some(entry.digest);
        if self.block_entries == 0 {
            self.fences.push(u32::try_from(entry.digest.high() >> 32).expect("half of its bits"));
        }
        encode_entry(entry, &mut self.block);
        self.filter.push(entry.digest);
        self.entries += 1;
        self.block_entries += 1;
        if self.block_entries as usize == BLOCK_ENTRIES {
            self.finish_block()?;
        }
        Ok(())
    }

    /// Writes what is left and syncs the file. The directory is left to be synced.
    pub(crate) fn finish(
        mut self,
        class: u32,
        expires_us: u64,
    ) -> Result<WrittenGeneration<D::File>, DiskError> {
        if self.block_entries > 0 {
            self.finish_block()?;
        }
        let identity = self.identity;
        let (filter, cells) = self.filter.finish(|cells| identity.hash(cells));
        let mut directory = Vec::new();
        self.fences.iter().for_each(|fence| directory.put_u32_le(*fence));
        filter.shards().iter().for_each(|shard| shard.encode(&mut directory));
        let directory_hash = identity.hash(&directory);
        let mut trailer = Vec::with_capacity(TRAILER_BYTES);
        trailer.put_slice(&TRAILER_MAGIC);
        trailer.put_u32_le(VERSION);
        trailer.put_u32_le(u32::try_from(filter.shards().len()).expect("few shards"));
        trailer.put_u64_le(self.entries);
        trailer.put_u64_le(self.fences.len() as u64);
        trailer.put_u64_le(cells.len() as u64 / 2);
        trailer.put_u64_le(directory_hash);
        trailer.put_u64_le(identity.segment.get());
        trailer.put_slice(&identity.node);
        trailer.put_u64_le(identity.hash(&trailer));
        assert!(trailer.len() == TRAILER_BYTES, "the fields fill the trailer");
        let cells_at = self.position + self.buffer.len() as u64;
        let mut bytes = self.position;
        for part in [&self.buffer, &cells, &directory, &trailer] {
            for piece in part.chunks(WRITE_BYTES_MAX) {
                self.file.write_all_at(&[IoSlice::new(piece)], bytes).context("write", &self.path)?;
                bytes += piece.len() as u64;
            }
        }
        self.file.sync_data().context("sync", &self.path)?;
        let facts = GenerationFacts { bytes, entries: self.entries, directory_hash, class, expires_us };
        let file = GenerationFile {
            path: self.path,
            file: self.file,
            identity,
            fences: self.fences.into_boxed_slice(),
            shards: filter.shards().into(),
            cells: cells_at..cells_at + cells.len() as u64,
        };
        Ok(WrittenGeneration { generation: identity.segment, facts, file, filter: Arc::new(filter) })
    }

    fn finish_block(&mut self) -> Result<(), DiskError> {
        let number = self.fences.len() as u64 - 1;
        seal_block(&self.identity, number, self.block_entries, &mut self.block);
        self.buffer.append(&mut self.block);
        self.block_entries = 0;
        if self.buffer.len() >= WRITE_BYTES_MAX {
            let slice = IoSlice::new(&self.buffer);
            self.file.write_all_at(&[slice], self.position).context("write", &self.path)?;
            self.position += self.buffer.len() as u64;
            self.buffer.clear();
        }
        Ok(())
    }
}
