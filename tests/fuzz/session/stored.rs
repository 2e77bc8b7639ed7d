//! What storage holds of a partition, and how it answers those who read it.

use bytes::{Bytes, BytesMut};
use weir_broker::core::event::ColdWant;
use weir_broker::core::{ColdRead, ColdResult};
use weir_protocol::batch::StoredBatch;
use weir_protocol::units::Offset;

#[derive(Debug, Default)]
pub(super) struct Stored {
    batches: Vec<StoredBatch>,
    log_start: Offset,
    flushed_end: Offset,
}

impl Stored {
    pub(super) fn append(&mut self, batch: StoredBatch) {
        assert_eq!(batch.section.base_offset, self.end(), "offsets follow each other");
        self.batches.push(batch);
    }

    pub(super) fn end(&self) -> Offset {
        self.batches.last().map_or(Offset::ZERO, StoredBatch::end_offset)
    }

    pub(super) fn trim(&mut self, log_start: Offset) {
        assert!(log_start <= self.end(), "only what is there is given up");
        self.log_start = self.log_start.max(log_start);
    }

    /// Moves everything to segments: where they end, where records begin, and their bytes.
    pub(super) fn flush(&mut self) -> (Offset, Offset, u64) {
        self.flushed_end = self.end();
        let bytes = self.batches.iter().map(|batch| batch.length() as u64).sum();
        (self.flushed_end, self.log_start, bytes)
    }
}

/// The answer to a read: what is there, or a trouble that the input has chosen.
pub(super) fn answer(stored: Option<&Stored>, read: &ColdRead, how: u8) -> ColdResult {
    let Some(stored) = stored else { return ColdResult::NotFlushed };
    let (from, bytes_max) = match read.want {
        ColdWant::OffsetAt(time) => {
            let late = stored.batches.iter().find(|batch| batch.section.append_time >= time);
            let found =
                late.map(|batch| batch.section.base_offset).filter(|found| *found < stored.flushed_end);
            return if how % 8 == 7 { ColdResult::Failed } else { ColdResult::Offset(found) };
        }
        ColdWant::Batches { from, bytes_max } => (from, bytes_max),
    };
    if from < stored.log_start {
        return ColdResult::Trimmed { log_start: stored.log_start };
    }
    let mut there = stored.batches.iter().filter(|batch| batch.end_offset() > from);
    let Some(first) = there.next().filter(|batch| batch.end_offset() <= stored.flushed_end) else {
        return ColdResult::NotFlushed;
    };
    match how % 8 {
        6 => return ColdResult::Corrupt { from, to: first.end_offset() },
        7 => return ColdResult::Failed,
        _ => {}
    }
    let (mut bytes, mut end) = (BytesMut::new(), first.end_offset());
    first.encode(&mut bytes);
    for batch in there {
        if bytes.len() + batch.length() > usize::try_from(bytes_max).unwrap_or(usize::MAX)
            || batch.end_offset() > stored.flushed_end
        {
            break;
        }
        batch.encode(&mut bytes);
        end = batch.end_offset();
    }
    ColdResult::batches(Bytes::from(bytes), end, bytes_max)
}
