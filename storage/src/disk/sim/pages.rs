//! The bytes of a simulated file: sparse pages, shared between what is cached and what is durable.

use std::collections::BTreeMap;
use std::sync::Arc;

const PAGE: usize = 4096;
const PAGE_BYTES: u64 = PAGE as u64;

/// The content of a file. Pages that were never written are zero and cost nothing.
#[derive(Clone, Debug, Default)]
pub(super) struct Pages {
    pages: BTreeMap<u64, Arc<[u8; PAGE]>>,
    length: u64,
}

impl Pages {
    pub(super) const fn length(&self) -> u64 {
        self.length
    }

    /// Cuts, or extends with zeros.
    pub(super) fn set_length(&mut self, length: u64) {
        if length < self.length {
            self.length = length;
            self.forget_beyond_length();
        }
        self.length = length;
    }

    /// Drops what was written beyond the length.
    pub(super) fn forget_beyond_length(&mut self) {
        let length = self.length;
        self.pages.split_off(&length.div_ceil(PAGE_BYTES));
        let within = in_page(length);
        if within > 0
            && let Some(page) = self.pages.get_mut(&(length / PAGE_BYTES))
        {
            Arc::make_mut(page).iter_mut().skip(within).for_each(|byte| *byte = 0);
        }
    }

    /// Fills `buffer` from `position` on; whether the file is long enough.
    pub(super) fn read(&self, buffer: &mut [u8], position: u64) -> bool {
        if position.saturating_add(buffer.len() as u64) > self.length {
            return false;
        }
        for_each_page(position, buffer.len(), |number, within, range| {
            let target = buffer.get_mut(range).expect("pieces lie within the buffer");
            match self.pages.get(&number) {
                Some(page) => {
                    let bytes = page.get(within..within + target.len());
                    target.copy_from_slice(bytes.expect("pieces lie within a page"));
                }
                None => target.fill(0),
            }
        });
        true
    }

    /// Writes `bytes` at `position`. The length stays: what lies beyond it is not seen until it grows.
    pub(super) fn write(&mut self, bytes: &[u8], position: u64) {
        for_each_page(position, bytes.len(), |number, within, range| {
            let source = bytes.get(range).expect("pieces lie within the bytes");
            let page = self.pages.entry(number).or_insert_with(|| Arc::new([0; PAGE]));
            let target = Arc::make_mut(page).get_mut(within..within + source.len());
            target.expect("pieces lie within a page").copy_from_slice(source);
        });
    }
}

/// Cuts a range of bytes where pages end: page number, place in the page, place in the range.
fn for_each_page(position: u64, length: usize, mut each: impl FnMut(u64, usize, std::ops::Range<usize>)) {
    let mut done = 0;
    while done < length {
        let at = position + done as u64;
        let within = in_page(at);
        let piece = (length - done).min(PAGE - within);
        each(at / PAGE_BYTES, within, done..done + piece);
        done += piece;
    }
}

fn in_page(position: u64) -> usize {
    usize::try_from(position % PAGE_BYTES).expect("the remainder is below a page")
}
