//! Which files hold the journal from the checkpoint on. What is missing among them, or cut, is damage.

use std::ops::Range;
use std::path::{Path, PathBuf};

use weir_protocol::units::JournalPosition;

use super::error::{Damage, DamagedPart, Proof, ReplayError};
use super::file::{FoundFile, HEADER_PAGE_BYTES, RingFile, file_name};
use super::link::Link;
use super::replay::ReplayFrom;
use super::scan::Evidence;
use crate::disk::File;

/// The files that hold the journal from the checkpoint on, in order. A file that ends at the checkpoint is one of
/// them: it is kept until the next one has its place, so that a missing file is always noticed.
pub(super) fn chain<F: File>(
    found: Vec<FoundFile<F>>,
    from: &ReplayFrom,
    directory: &Path,
) -> Result<Vec<RingFile<F>>, ReplayError> {
    let mut files: Vec<(u64, RingFile<F>)> = Vec::new();
    let mut linked: Option<Linked> = None;
    for FoundFile { path, number, file, length, header, link } in found {
        let Some((header, base)) = header.and_then(|header| Some((header, header.base?))) else {
            continue;
        };
        let ring_file =
            RingFile { path, file, number, bytes: header.bytes, held: length.min(header.bytes), base };
        if ring_file.end() >= from.applied {
            linked = linked.max(link_of(&ring_file, link));
            files.push((length, ring_file));
        }
    }
    files.sort_by_key(|(_, file)| file.base);
    let mut chain: Vec<RingFile<F>> = Vec::new();
    for (length, file) in files {
        let proof = Proof::FileHeader { path: file.path.clone() };
        // The first file may begin before the checkpoint; each other one goes on where the one before ends.
        let expected = chain.last().map_or(from.applied, RingFile::end);
        if file.base > expected {
            let position = expected;
            return Err(ReplayError::Missing { directory: directory.to_owned(), position, proof });
        }
        if file.base < expected && !chain.is_empty() {
            let positions = file.base..expected;
            return Err(corrupt(damaged_part(file.path, 0..HEADER_PAGE_BYTES, positions, proof)));
        }
        if length < file.bytes && file.end() > from.applied {
            let positions = file.position(length.max(HEADER_PAGE_BYTES))..file.end();
            return Err(corrupt(damaged_part(file.path, length..file.bytes, positions, proof)));
        }
        chain.push(file);
    }
    missing_behind(&chain, linked, directory)?;
    if chain.is_empty() {
        let proof = Proof::Recorded { durable_end: from.applied.max(from.proven) };
        let position = from.applied;
        return Err(ReplayError::Missing { directory: directory.to_owned(), position, proof });
    }
    Ok(chain)
}

/// Where a file says that the next one begins, that file, and the next one.
pub(super) type Linked = (JournalPosition, PathBuf, PathBuf);

/// What a file says of the next one. A link that does not go on where the file ends is left over
/// from an earlier round.
pub(super) fn link_of<F: File>(file: &RingFile<F>, link: Option<Link>) -> Option<Linked> {
    let link = link.filter(|link| link.base == file.end())?;
    Some((link.base, file.path.clone(), file.path.with_file_name(file_name(link.number))))
}

/// Notices files that are missing together with all behind them: the last one names one more.
pub(super) fn missing_behind<F: File>(
    chain: &[RingFile<F>],
    linked: Option<Linked>,
    directory: &Path,
) -> Result<(), ReplayError> {
    match linked {
        Some((position, path, next)) if chain.last().is_some_and(|last| last.base < position) => {
            let proof = Proof::Link { path, next };
            Err(ReplayError::Missing { directory: directory.to_owned(), position, proof })
        }
        Some(_) | None => Ok(()),
    }
}

/// Looks into files whose headers are damaged: a block of the part that is to be replayed proves that its file is
/// needed, and that its header had been durable.
pub(super) fn find_needed<F: File>(unplaced: &[FoundFile<F>], from: &ReplayFrom) -> Result<(), ReplayError> {
    for file in unplaced {
        if let Some((byte, block)) = Evidence::in_unplaced(file, from.applied, &from.identity)? {
            let path = file.path.clone();
            let base = block.position.get().saturating_sub(byte - HEADER_PAGE_BYTES);
            let positions = JournalPosition::new(base)..block.end();
            let proof =
                Proof::Block { path: path.clone(), position: block.position, durable_end: block.durable_end };
            return Err(corrupt(damaged_part(path, 0..HEADER_PAGE_BYTES, positions, proof)));
        }
    }
    Ok(())
}

fn damaged_part(path: PathBuf, bytes: Range<u64>, positions: Range<JournalPosition>, proof: Proof) -> Damage {
    Damage { parts: vec![DamagedPart { path, bytes }], positions, proof }
}

pub(super) fn corrupt(damage: Damage) -> ReplayError {
    ReplayError::Corrupt(Box::new(damage))
}
