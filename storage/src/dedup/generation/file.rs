//! A sealed generation.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use weir_protocol::read::Reader;

use super::{
    COUNT_AT, ENTRY_BYTES, FEATURES_KNOWN, GenerationFacts, HEADER_BYTES, MAGIC, PAGE, TRAILER_BYTES,
    TRAILER_MAGIC, VERSION, block_hash, decode_entry, generation_name,
};
use crate::dedup::filter::{Filter, SHARD_BYTES, Shard, Width};
use crate::dedup::{Entry, KeyDigest};
use crate::disk::{Context, Disk, File, Mode};
use crate::segment::{SegmentError, SegmentIdentity};

/// An open generation, whose directory was right.
#[derive(Debug)]
pub(crate) struct GenerationFile<F> {
    pub(crate) path: PathBuf,
    pub(crate) file: F,
    pub(super) identity: SegmentIdentity,
    /// For each block, what its first digest begins with.
    pub(super) fences: Box<[u32]>,
    pub(super) shards: Arc<[Shard]>,
    /// Where the cells of the filter stand.
    pub(super) cells: Range<u64>,
}

impl<F: File> GenerationFile<F> {
    /// Opens a generation and verifies all but its blocks and cells.
    pub(crate) fn open<D: Disk<File = F>>(
        disk: &D,
        directory: &Path,
        identity: SegmentIdentity,
        facts: GenerationFacts,
    ) -> Result<Self, SegmentError> {
        let path = directory.join(generation_name(identity.segment));
        let file = disk.open(&path, Mode::Read).context("open", &path)?;
        let length = file.length().context("read the length of", &path)?;
        let damaged = |what, bytes| SegmentError::Damaged { path: path.clone(), what, bytes };
        if length != facts.bytes || length < (PAGE + TRAILER_BYTES) as u64 {
            return Err(damaged("length", length.min(facts.bytes)..length.max(facts.bytes)));
        }
        check_header(&file, &path, &identity)?;
        let trailer_at = length - TRAILER_BYTES as u64;
        let mut trailer = [0; TRAILER_BYTES];
        file.read_exact_at(&mut trailer, trailer_at).context("read", &path)?;
        let layout = Layout::decode(&trailer, &identity, &facts);
        let layout = layout.filter(|layout| layout.directory().end == trailer_at);
        let Some(layout) = layout else { return Err(damaged("trailer", trailer_at..length)) };
        let place = layout.directory();
        let mut bytes = vec![0; usize::try_from(place.end - place.start).expect("within the file")];
        file.read_exact_at(&mut bytes, place.start).context("read", &path)?;
        if identity.hash(&bytes) != facts.directory_hash {
            return Err(damaged("directory", place));
        }
        let (fences, shards) = bytes.split_at(layout.block_count * 4);
        let fences = fences.as_chunks().0.iter().map(|fence| u32::from_le_bytes(*fence)).collect();
        let mut reader = Reader::new(shards);
        let shards = (0..layout.shard_count).map(|_| Shard::decode(&mut reader)).collect::<Result<_, _>>();
        let Ok(shards) = shards else { return Err(damaged("directory", place)) };
        Ok(Self { path, file, identity, fences, shards, cells: layout.cells() })
    }

    /// What is known of a key. Reads one block, rarely two.
    pub(crate) fn find(&self, digest: KeyDigest) -> Result<Option<Entry>, SegmentError> {
        let prefix = digest.high() >> 32;
        let mut number = self.fences.partition_point(|fence| u64::from(*fence) < prefix).saturating_sub(1);
        while self.fences.get(number).is_some_and(|fence| u64::from(*fence) <= prefix) {
            let entries = self.block(number)?;
            if let Ok(index) = entries.binary_search_by_key(&digest, |entry| entry.digest) {
                return Ok(entries.get(index).copied());
            }
            number += 1;
        }
        Ok(None)
    }

    /// The keys of a block, in order.
    pub(crate) fn block(&self, number: usize) -> Result<Vec<Entry>, SegmentError> {
        let start = (PAGE * (number + 1)) as u64;
        let mut bytes = vec![0; PAGE];
        self.file.read_exact_at(&mut bytes, start).context("read", &self.path)?;
        self.decode_block(number, &bytes).ok_or_else(|| SegmentError::Damaged {
            path: self.path.clone(),
            what: "block",
            bytes: start..start + PAGE as u64,
        })
    }

    /// How many blocks there are.
    pub(crate) const fn block_count(&self) -> usize {
        self.fences.len()
    }

    /// Bytes of memory besides those of a filter.
    pub(crate) fn memory(&self) -> u64 {
        (self.fences.len() * 4 + self.shards.len() * SHARD_BYTES) as u64
    }

    /// Bytes of memory of a filter of this width.
    pub(crate) const fn filter_memory(&self, width: Width) -> u64 {
        let cells = (self.cells.end - self.cells.start) / 2;
        match width {
            Width::None => 0,
            Width::Narrow => cells,
            Width::Wide => 2 * cells,
        }
    }

    /// Reads and verifies the filter.
    pub(crate) fn filter(&self, width: Width) -> Result<Option<Filter>, SegmentError> {
        let length = usize::try_from(self.cells.end - self.cells.start).expect("within the file");
        let mut cells = vec![0; length];
        self.file.read_exact_at(&mut cells, self.cells.start).context("read", &self.path)?;
        for shard in self.shards.iter() {
            if cells.get(shard.bytes()).is_none_or(|cells| self.identity.hash(cells) != shard.hash) {
                let bytes = self.cells.clone();
                return Err(SegmentError::Damaged { path: self.path.clone(), what: "filter", bytes });
            }
        }
        Ok(Filter::from_bytes(Arc::clone(&self.shards), &cells, width))
    }

    fn decode_block(&self, number: usize, bytes: &[u8]) -> Option<Vec<Entry>> {
        let (covered, hash) = bytes.split_last_chunk::<8>()?;
        if u64::from_le_bytes(*hash) != block_hash(&self.identity, number as u64, covered) {
            return None;
        }
        let count = covered.get(COUNT_AT..)?.first_chunk().copied().map(u32::from_le_bytes)?;
        let mut reader = Reader::new(covered.get(..count as usize * ENTRY_BYTES)?);
        (0..count).map(|_| decode_entry(&mut reader).ok()).collect()
    }
}

/// What a trailer says.
struct Layout {
    block_count: usize,
    shard_count: usize,
    cell_count: u64,
}

impl Layout {
    fn decode(
        trailer: &[u8; TRAILER_BYTES],
        identity: &SegmentIdentity,
        facts: &GenerationFacts,
    ) -> Option<Self> {
        let (covered, hash) = trailer.split_last_chunk::<8>()?;
        let mut reader = Reader::new(covered);
        let is_ours = identity.hash(covered) == u64::from_le_bytes(*hash)
            && reader.take(TRAILER_MAGIC.len()).ok()? == TRAILER_MAGIC;
        let version = reader.u32().ok()?;
        let shard_count = reader.u32().ok()? as usize;
        let entries = reader.u64().ok()?;
        let block_count = usize::try_from(reader.u64().ok()?).ok()?;
        let cell_count = reader.u64().ok()?;
        let fits = entries == facts.entries && cell_count <= facts.bytes && block_count as u64 <= facts.bytes;
        (is_ours && version == VERSION && fits).then_some(Self { block_count, shard_count, cell_count })
    }

    const fn cells(&self) -> Range<u64> {
        let start = (PAGE * (self.block_count + 1)) as u64;
        start..start + self.cell_count * 2
    }

    const fn directory(&self) -> Range<u64> {
        let start = self.cells().end;
        start..start + (self.block_count * 4 + self.shard_count * SHARD_BYTES) as u64
    }
}

fn check_header<F: File>(file: &F, path: &Path, identity: &SegmentIdentity) -> Result<(), SegmentError> {
    let mut header = [0; HEADER_BYTES];
    file.read_exact_at(&mut header, 0).context("read", path)?;
    let damaged =
        || SegmentError::Damaged { path: path.to_owned(), what: "header", bytes: 0..HEADER_BYTES as u64 };
    let Some((covered, hash)) = header.split_last_chunk::<8>() else { return Err(damaged()) };
    let mut reader = Reader::new(covered);
    let magic = reader.take(MAGIC.len()).unwrap_or_default();
    let (version, _, _) = (reader.u32(), reader.u32(), reader.u64());
    let (read_only, must) = (reader.u64(), reader.u64());
    let (Ok(version), Ok(read_only), Ok(must)) = (version, read_only, must) else { return Err(damaged()) };
    if magic != MAGIC || identity.hash(covered) != u64::from_le_bytes(*hash) {
        return Err(damaged());
    }
    let features = (read_only | must) & !FEATURES_KNOWN;
    if version != VERSION || features != 0 {
        return Err(SegmentError::NewerFormat { path: path.to_owned(), version, features });
    }
    Ok(())
}
