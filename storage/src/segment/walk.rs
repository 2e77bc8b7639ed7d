//! Walks over the batches of a byte range of a segment.

use std::ops::Range;

use bytes::Bytes;
use weir_protocol::batch::{BROKER_SECTION_BYTES, BrokerSection, StoredBatch};
use weir_protocol::limits::BATCH_RECORDS_MAX;
use weir_protocol::read::Reader;
use weir_protocol::{DecodeError, Problem};

use super::{SegmentError, SegmentFile};
use crate::disk::File;

/// Bytes read at once. A batch that is longer is read by itself.
const WINDOW_BYTES: u64 = 1 << 20;

/// Bytes read at once by a walk that only looks at the broker's sections.
const SECTION_WINDOW_BYTES: u64 = 64 << 10;

/// Longest broker section: the fixed part and one bit for each record.
const SECTION_BYTES_MAX: u64 = (BROKER_SECTION_BYTES + BATCH_RECORDS_MAX as usize / 8) as u64;

/// Length of the batch at the start of `bytes`, by its broker section, whose checksum is right; `None` if there are
/// too few bytes to tell.
pub(crate) fn batch_length(bytes: &[u8]) -> Result<Option<(BrokerSection, usize)>, DecodeError> {
    if bytes.len() < BROKER_SECTION_BYTES {
        return Ok(None);
    }
    match BrokerSection::decode(&mut Reader::new(bytes)) {
        Ok(found) => Ok(Some(found)),
        Err(DecodeError { problem: Problem::Truncated { .. }, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A step of a walk.
#[derive(Debug)]
pub(crate) enum Step {
    /// The next batch, verified.
    Batch {
        /// The batch.
        batch: StoredBatch,
        /// Where it starts.
        position: u64,
    },
    /// Here is no batch. The walk cannot go on.
    Damaged {
        /// Where the batch should start.
        position: u64,
        /// Length of the batch, if its broker section is whole.
        length: Option<u64>,
    },
    /// The range is over.
    End,
}

/// A walk that verifies every batch.
#[derive(Debug)]
pub(crate) struct Walk<'a, F> {
    segment: &'a SegmentFile<F>,
    /// What was read and not yet walked over; starts at `range.start`.
    window: Bytes,
    /// What is left of the range.
    range: Range<u64>,
}

impl<'a, F: File> Walk<'a, F> {
    /// A walk over a range that starts with a batch.
    pub(crate) fn new(segment: &'a SegmentFile<F>, range: Range<u64>) -> Self {
        Self { segment, window: Bytes::new(), range }
    }

    /// Takes the next batch.
    pub(crate) fn step(&mut self) -> Result<Step, SegmentError> {
        let position = self.range.start;
        if self.range.is_empty() {
            return Ok(Step::End);
        }
        let left = self.range.end - position;
        loop {
            let needed = match batch_length(&self.window) {
                Ok(Some((_, length))) if length <= self.window.len() => break,
                Ok(Some((_, length))) => length as u64,
                Ok(None) => SECTION_BYTES_MAX.min(left),
                Err(_) => return Ok(Step::Damaged { position, length: None }),
            };
            if needed > left || needed <= self.window.len() as u64 {
                return Ok(Step::Damaged { position, length: None });
            }
            let read = needed.max(WINDOW_BYTES).min(left);
            let mut window = vec![0; usize::try_from(read).expect("a batch fits memory")];
            self.segment.read(&mut window, position)?;
            self.window = Bytes::from(window);
        }
        let length = batch_length(&self.window).ok().flatten().map(|(_, length)| length as u64);
        match StoredBatch::decode(&mut self.window) {
            Ok(batch) => {
                self.range.start += batch.length() as u64;
                Ok(Step::Batch { batch, position })
            }
            Err(_) => Ok(Step::Damaged { position, length }),
        }
    }

    /// Where the next batch should start.
    pub(crate) const fn position(&self) -> u64 {
        self.range.start
    }

    /// Goes on at a later position.
    pub(crate) fn skip_to(&mut self, position: u64) {
        assert!(position >= self.range.start, "a walk goes forward");
        self.range.start = position.min(self.range.end);
        self.window = Bytes::new();
    }
}

/// Walks over the broker's sections of a range that starts with a batch, without verifying the rest of the batches,
/// until `visit` returns something. Gives `Err` with the position where no batch is found.
pub(crate) fn walk_sections<F: File, T>(
    segment: &SegmentFile<F>,
    range: Range<u64>,
    mut visit: impl FnMut(&BrokerSection, u64) -> Option<T>,
) -> Result<Result<Option<T>, u64>, SegmentError> {
    let mut position = range.start;
    let mut window = Vec::new();
    while position < range.end {
        let length =
            usize::try_from((range.end - position).min(SECTION_WINDOW_BYTES)).expect("a window fits memory");
        window.resize(length, 0);
        segment.read(&mut window, position)?;
        let start = position;
        loop {
            let at = usize::try_from(position - start).unwrap_or(usize::MAX);
            let Some(rest) = window.get(at..).filter(|rest| !rest.is_empty()) else {
                break;
            };
            match batch_length(rest) {
                Ok(Some((section, length))) => {
                    if let Some(found) = visit(&section, position) {
                        return Ok(Ok(Some(found)));
                    }
                    position += length as u64;
                }
                // Not at the start of the window: the rest of the section is in the next one.
                Ok(None) if position > start => break,
                Ok(None) | Err(_) => return Ok(Err(position)),
            }
        }
    }
    Ok(Ok(None))
}
