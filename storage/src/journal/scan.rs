//! Looks through what lies behind the last good block for evidence: blocks that say how far the journal was durable.

use std::ops::Range;
use std::path::Path;

use weir_protocol::units::JournalPosition;

use super::Identity;
use super::block::BlockHeader;
use super::error::Proof;
use super::file::{FoundFile, HEADER_PAGE_BYTES, RingFile};
use crate::disk::{BLOCK_BYTES, Context, DiskError, File};

/// Bytes that are read at once.
const WINDOW_BYTES: usize = 512 << 10;

/// What was found behind the last good block.
#[derive(Debug)]
pub(super) struct Evidence {
    /// Where the last good block ends.
    behind: JournalPosition,
    /// The block that proves most.
    pub(super) proof: Option<(JournalPosition, Proof)>,
    /// The first block that does not lie right there.
    pub(super) next: Option<JournalPosition>,
    /// Where the last block ends. Where not even its header is whole, that is the end of its file: no length is believed.
    pub(super) end: Option<JournalPosition>,
}

impl Evidence {
    /// Nothing yet.
    pub(super) const fn none(behind: JournalPosition) -> Self {
        Self { behind, proof: None, next: None, end: None }
    }

    fn add(&mut self, header: &BlockHeader, path: &Path) {
        if self.proof.as_ref().is_none_or(|(durable_end, _)| header.durable_end > *durable_end) {
            let (position, durable_end) = (header.position, header.durable_end);
            let proof = Proof::Block { path: path.to_owned(), position, durable_end };
            self.proof = Some((durable_end, proof));
        }
        if header.position > self.behind && self.next.is_none_or(|next| header.position < next) {
            self.next = Some(header.position);
        }
        self.end = self.end.max(Some(header.end()));
    }

    /// Looks at every page of a file behind the end of the last good block. A header is enough: what it says was true
    /// when it was written, whether or not its frames got to the disk.
    pub(super) fn gather<F: File>(
        &mut self,
        file: &RingFile<F>,
        end: JournalPosition,
        identity: &Identity,
    ) -> Result<(), DiskError> {
        let read = |buffer: &mut [u8], byte| file.read(buffer, byte);
        for_each_page(read, file.byte(end.max(file.base))..file.bytes, |byte, page| {
            let position = file.position(byte);
            if let Some(header) = BlockHeader::decode(page, identity, position) {
                self.add(&header, &file.path);
            } else if BlockHeader::resembles(page, identity, position, end) {
                self.end = self.end.max(Some(file.end()));
            }
        })
    }

    /// The first block of this journal and incarnation, at or behind `from`, in a file that does not say which part
    /// of the journal it holds.
    pub(super) fn in_unplaced<F: File>(
        file: &FoundFile<F>,
        from: JournalPosition,
        identity: &Identity,
    ) -> Result<Option<(u64, BlockHeader)>, DiskError> {
        let mut found = None;
        let end = file.length - file.length % BLOCK_BYTES;
        let read =
            |buffer: &mut [u8], byte| file.file.read_exact_at(buffer, byte).context("read", &file.path);
        for_each_page(read, HEADER_PAGE_BYTES..end, |byte, page| {
            let header = BlockHeader::decode_anywhere(page, identity);
            if let Some(header) = header.filter(|header| found.is_none() && header.position >= from) {
                found = Some((byte, header));
            }
        })?;
        Ok(found)
    }
}

/// Shows each page between two bytes of a file.
fn for_each_page(
    read_at: impl Fn(&mut [u8], u64) -> Result<(), DiskError>,
    range: Range<u64>,
    mut each: impl FnMut(u64, &[u8]),
) -> Result<(), DiskError> {
    let page_bytes = usize::try_from(BLOCK_BYTES).expect("a page fits every memory");
    let mut window = vec![0; WINDOW_BYTES];
    let mut at = range.start;
    while at < range.end {
        let left = usize::try_from(range.end - at).unwrap_or(usize::MAX);
        let (read, _) = window.split_at_mut(left.min(WINDOW_BYTES));
        read_at(read, at)?;
        for page in read.chunks(page_bytes) {
            each(at, page);
            at += page.len() as u64;
        }
    }
    Ok(())
}
