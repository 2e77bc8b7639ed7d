//! Trims on their way: those that wait to learn which offset a time means, and those that wait for the journal.

use std::collections::BTreeMap;

use weir_protocol::ErrorCode;
use weir_protocol::units::{Offset, PartitionKey, Timestamp};

use crate::core::coordinator::Refusal;
use crate::core::event::ColdWant;
use crate::core::{Actions, ColdAnswer, ColdRead, ColdResult, LaneId};

/// Trims by time that may wait for segments to be read. A client that meets the limit tries again.
const LOOKUPS_MAX: usize = 1024;

/// A trim as it was asked for, but for the offset.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Trim {
    /// Where the answer goes.
    pub lane: LaneId,
    /// The request that is answered.
    pub request: u32,
    /// The partition.
    pub key: PartitionKey,
    /// Nothing is to be given up.
    pub dry_run: bool,
}

/// A trim that waits for the journal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PendingTrim {
    /// What was asked.
    pub trim: Trim,
    /// The first record that is kept.
    pub log_start: Offset,
}

/// The trims whose offset is being looked up in segments.
#[derive(Debug, Default)]
pub struct TrimLookups {
    waiting: BTreeMap<u32, Lookup>,
    next: u32,
}

#[derive(Debug)]
struct Lookup {
    trim: Trim,
    /// The offset if no record in segments is as late.
    otherwise: Offset,
}

impl TrimLookups {
    /// Asks segments which offset a time means.
    ///
    /// # Errors
    /// [`ErrorCode::Throttled`] if as many lookups wait as may.
    pub fn begin(
        &mut self,
        trim: Trim,
        (time, otherwise): (Timestamp, Offset),
        actions: &mut Actions,
    ) -> Result<(), Refusal> {
        if self.waiting.len() >= LOOKUPS_MAX {
            let detail = format!("{LOOKUPS_MAX} trims by time are being looked up already");
            return Err((ErrorCode::Throttled, detail));
        }
        // Far fewer wait than there are numbers, so the next one is free.
        let generation = self.next;
        self.next = self.next.wrapping_add(1);
        self.waiting.insert(generation, Lookup { trim, otherwise });
        let want = ColdWant::OffsetAt(time);
        actions.cold_reads.push(ColdRead { lane: trim.lane, key: trim.key, generation, want });
        Ok(())
    }

    /// Takes the trim that an answer belongs to, with the offset or why there is none. Answers for others are left alone:
    /// a control stream is no lane of a subscription.
    pub fn take(&mut self, answer: &ColdAnswer) -> Option<(Trim, Result<Offset, Refusal>)> {
        let ColdRead { lane, generation, .. } = answer.read;
        if self.waiting.get(&generation)?.trim.lane != lane {
            return None;
        }
        let Lookup { trim, otherwise } = self.waiting.remove(&generation)?;
        let found = match &answer.result {
            ColdResult::Offset(found) => Ok(found.unwrap_or(otherwise)),
            ColdResult::Corrupt { from, to } => Err((
                ErrorCode::DataCorrupt,
                format!("offsets {from} to {to} cannot be read for their times"),
            )),
            ColdResult::Batches { .. }
            | ColdResult::Longer(_)
            | ColdResult::Trimmed { .. }
            | ColdResult::NotFlushed
            | ColdResult::Failed => Err((ErrorCode::Internal, "the time index cannot be read".to_owned())),
        };
        Some((trim, found))
    }
}
