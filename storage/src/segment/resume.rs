//! Finds the way on behind a batch that is damaged.

use weir_protocol::units::Offset;

use super::{Index, Run, SegmentError, SegmentFile, walk_sections};
use crate::disk::Disk;

/// A segment and its index.
#[derive(Debug)]
pub(crate) struct Source<D: Disk> {
    pub(crate) file: SegmentFile<D::File>,
    pub(crate) index: Option<Index<D::Map>>,
}

impl<D: Disk> Source<D> {
    /// Where the next batch behind a damaged one starts, and with which offset. If the length of the damaged one is
    /// lost, the index knows where another one starts.
    pub(crate) fn resume(
        &self,
        number: usize,
        run: &Run,
        bad: u64,
        length: Option<u64>,
    ) -> Result<(u64, Offset), SegmentError> {
        let end = run.range().end;
        if let Some(next) = length.map(|length| bad + length).filter(|next| *next < end) {
            let first = walk_sections(&self.file, next..end, |section, _| Some(section.base_offset))?;
            if let Ok(Some(offset)) = first {
                return Ok((next, offset));
            }
        }
        let number = u32::try_from(number).expect("runs of one segment are limited to 32 bits");
        let entry = self.index.as_ref().and_then(|index| index.after_position(number, bad));
        Ok(entry.map_or((end, run.end_offset), |entry| (entry.position, entry.base_offset)))
    }
}
