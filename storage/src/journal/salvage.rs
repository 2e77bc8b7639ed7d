//! Replay around damage: what lies behind a part of the journal that an operator gives up.
//!
//! Only a repair comes here; a start never does. Files that are missing, cut, or without a header are damage like any
//! other: their part of the journal can be given up, and what is whole behind it is replayed.

use std::ops::Range;
use std::path::{Path, PathBuf};

use weir_protocol::units::{JournalPosition, VirtualShard};

use super::chain::{link_of, missing_behind};
use super::error::{Proof, ReplayError};
use super::file::{self, FoundFile, HEADER_PAGE_BYTES, RingFile};
use super::quarantine;
use super::replay::{Replay, ReplayFrom, Sequences};
use super::scan::Evidence;
use crate::disk::{BLOCK_BYTES, Context, Disk, DiskError, File, Mode};

/// A part of the journal that was given up.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Hole {
    /// Where it lies.
    pub(crate) positions: Range<JournalPosition>,
    /// How many good blocks come before it, marks included.
    pub(crate) blocks_before: usize,
    /// For each virtual shard, the sequence of the first frame in it.
    expected: Sequences,
    /// For each virtual shard, the sequence of the first frame behind it.
    found: Sequences,
}

impl Hole {
    /// How many frames of a virtual shard it held; `None` if there is no frame before or behind it to tell.
    pub(crate) fn frames_lost(&self, shard: VirtualShard) -> Option<u64> {
        let shard = usize::from(shard.get());
        let (expected, found) = (self.expected.get(shard)?.as_ref()?, self.found.get(shard)?.as_ref()?);
        found.get().checked_sub(expected.get())
    }
}

impl<D: Disk> Replay<D> {
    /// As [`Replay::open`], but leaves out the parts of the journal that are given up. Changes nothing.
    ///
    /// # Errors
    /// [`ReplayError::Corrupt`] names the first damage that is not given up. The other errors are those that giving
    /// something up does not help.
    pub(crate) fn open_past(
        disk: D,
        directory: &Path,
        from: ReplayFrom,
        given_up: &[Range<JournalPosition>],
    ) -> Result<Self, ReplayError> {
        let found = file::find(&disk, directory, from.identity.journal)?;
        let (chain, unheaded) = chain(found, &from, directory)?;
        let mut replay = Self::over(disk, directory, from, chain);
        replay.unheaded = unheaded;
        loop {
            let bad = replay.verify_blocks()?;
            match replay.decide(bad) {
                Ok(()) => break,
                Err(ReplayError::Corrupt(damage))
                    if given_up.contains(&damage.positions) && damage.positions.end > replay.end =>
                {
                    replay.skip(damage.positions);
                }
                Err(error) => return Err(error),
            }
        }
        replay.end_hole();
        Ok(replay)
    }

    /// Goes on behind a part that is given up.
    fn skip(&mut self, positions: Range<JournalPosition>) {
        self.end_hole();
        self.follows = self.end;
        self.end = positions.end;
        let expected = std::mem::take(&mut self.sequences);
        let found = Sequences::default();
        self.holes.push(Hole { positions, blocks_before: self.blocks.len(), expected, found });
    }

    /// All frames behind the last hole, up to the next one or the end, have been seen.
    fn end_hole(&mut self) {
        let firsts = std::mem::take(&mut self.firsts);
        if let Some(hole) = self.holes.last_mut() {
            hole.found = firsts;
        }
    }

    /// The parts that were left out, in order.
    pub(crate) fn holes(&self) -> &[Hole] {
        &self.holes
    }

    /// How many blocks have been read.
    pub(crate) const fn blocks_read(&self) -> usize {
        self.read
    }

    /// Files whose header is damaged though they hold a part of the journal.
    pub(crate) fn unheaded(&self) -> &[PathBuf] {
        &self.unheaded
    }

    /// Which part of the journal a file holds; nothing if it is none of its files.
    pub(crate) fn positions_of(&self, path: &Path) -> Range<JournalPosition> {
        let file = self.chain.iter().find(|file| file.path == path);
        file.map_or_else(Range::default, RingFile::positions)
    }

    /// Writes damaged headers again: their blocks tell what stood there.
    pub(crate) fn write_headers(&self) -> Result<(), DiskError> {
        for file in self.chain.iter().filter(|file| self.unheaded.contains(&file.path)) {
            let writable = self.disk.open(&file.path, Mode::Write).context("open", &file.path)?;
            let RingFile { path, number, bytes, held, base, .. } = file;
            let file = RingFile {
                path: path.clone(),
                file: writable,
                number: *number,
                bytes: *bytes,
                held: *held,
                base: *base,
            };
            file.write_header(self.from.identity.journal, Some(*base))?;
        }
        Ok(())
    }

    /// Copies a part that is given up to a file in `quarantine` and makes the copy durable.
    pub(crate) fn copy_hole(&self, hole: &Hole, quarantine: &Path) -> Result<PathBuf, DiskError> {
        let name = quarantine::name(&self.from.identity, hole.positions.start, "lost");
        quarantine::copy(&self.disk, (quarantine, &name), self.chain.iter(), &hole.positions)
    }

    /// How far files that are missing or were cut prove that the journal had been durable: the next one's header was
    /// synced before that was used, and the length of a file never changes.
    pub(super) fn proof_of_files(&self) -> Option<(JournalPosition, Proof)> {
        let mut expected = self.from.applied;
        let mut proven = None;
        for file in self.chain.iter() {
            let proof = || Proof::FileHeader { path: file.path.clone() };
            if file.base > expected && file.base > self.end {
                proven = Some((file.base, proof()));
            }
            if file.held < file.bytes && file.end() > self.end {
                proven = Some((file.end(), proof()));
            }
            expected = expected.max(file.end());
        }
        proven
    }
}

/// The files that hold the journal from the checkpoint on, in order, and those among them without a header.
fn chain<F: File>(
    found: Vec<FoundFile<F>>,
    from: &ReplayFrom,
    directory: &Path,
) -> Result<(Vec<RingFile<F>>, Vec<PathBuf>), ReplayError> {
    let mut chain: Vec<RingFile<F>> = Vec::new();
    let mut unheaded = Vec::new();
    let mut linked = None;
    for found in found {
        let place = match &found.header {
            Some(header) => header.base.map(|base| (base, header.bytes)),
            None => {
                let block = Evidence::in_unplaced(&found, from.applied, &from.identity)?;
                let place = block.and_then(|(byte, block)| {
                    let base = block.position.get().checked_sub(byte - HEADER_PAGE_BYTES)?;
                    Some((JournalPosition::new(base), found.length - found.length % BLOCK_BYTES))
                });
                unheaded.extend(place.map(|_| found.path.clone()));
                place
            }
        };
        let FoundFile { path, number, file, length, link, .. } = found;
        let Some((base, bytes)) = place else { continue };
        let file = RingFile { path, file, number, bytes, held: length.min(bytes), base };
        if file.end() >= from.applied {
            linked = linked.max(link_of(&file, link));
            chain.push(file);
        }
    }
    chain.sort_by_key(|file| file.base);
    let overlap = chain.iter().zip(chain.iter().skip(1)).find(|(file, next)| file.end() > next.base);
    if let Some((_, next)) = overlap {
        return Err(ReplayError::Foreign { path: next.path.clone() });
    }
    // How much stood in a last file is known by nobody, so it cannot be given up.
    missing_behind(&chain, linked, directory)?;
    if chain.is_empty() {
        let proof = Proof::Recorded { durable_end: from.applied.max(from.proven) };
        let position = from.applied;
        return Err(ReplayError::Missing { directory: directory.to_owned(), position, proof });
    }
    Ok((chain, unheaded))
}
