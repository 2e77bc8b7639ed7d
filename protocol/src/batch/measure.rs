//! How much a stored batch is, without a look at what it holds.

use crate::batch::{BROKER_SECTION_BYTES, PRODUCER_HEADER_BYTES};
use crate::read::Reader;
use crate::units::Offset;

/// What the headers of a stored batch say of its size. Nothing of it is verified.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BatchMeasure {
    /// Length of the whole batch.
    pub bytes: usize,
    /// Offset of the first record.
    pub base_offset: Offset,
    /// Records, void ones included.
    pub records: u32,
}

impl BatchMeasure {
    /// Measures the batch at the front of `bytes`; nothing if it is not whole.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        reader.take(4).ok()?;
        let total = reader.u32().ok()? as usize;
        let base_offset = reader.offset().ok()?;
        reader.take(12).ok()?;
        let extension = usize::from(reader.u16().ok()?);
        reader.take(2 + extension + 12).ok()?;
        let records = reader.u32().ok()?;
        let is_whole =
            total >= BROKER_SECTION_BYTES + extension + PRODUCER_HEADER_BYTES && total <= bytes.len();
        is_whole.then_some(Self { bytes: total, base_offset, records })
    }

    /// The offset after the last record.
    pub const fn end_offset(&self) -> Offset {
        self.base_offset.advance(self.records as u64)
    }
}
