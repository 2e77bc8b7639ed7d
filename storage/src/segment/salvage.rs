//! Finds what is left in a segment whose run directory is lost together with some of its batches.

use super::directory::take_note;
use super::{HEADER_PAGE_BYTES, Index, Run, SegmentError, SegmentFile, Step, Walk};
use crate::disk::{Context, Disk, File};

/// The batches that are whole, as runs. What lies behind a damaged batch is found by its length or, if that is lost
/// with it, by the index; where there is none, the search ends.
///
/// A batch is believed by its own checksum alone here: the caller takes only what is missing elsewhere.
pub(crate) fn salvage<D: Disk>(
    disk: &D,
    segment: &SegmentFile<D::File>,
    bytes: u64,
    directory_hash: u64,
) -> Result<Vec<Run>, SegmentError> {
    let length = segment.file.length().context("read the length of", &segment.path)?.min(bytes);
    let index = Index::map(disk, segment, directory_hash)?;
    let mut runs = Vec::new();
    if length <= HEADER_PAGE_BYTES {
        return Ok(runs);
    }
    let mut walk = Walk::new(segment, HEADER_PAGE_BYTES..length);
    loop {
        let (position, next) = match walk.step() {
            Ok(Step::Batch { batch, position }) => {
                take_note(&mut runs, &batch, position);
                continue;
            }
            Ok(Step::Damaged { position, length }) => (position, length.map(|length| position + length)),
            Ok(Step::End) => break,
            // A part that the disk cannot read is a damaged part.
            Err(_) => (walk.position(), None),
        };
        let indexed = || Some(index.as_ref()?.after_position_anywhere(position)?.position);
        match next.or_else(indexed) {
            Some(next) if next < length => walk.skip_to(next),
            Some(_) | None => break,
        }
    }
    Ok(runs)
}
