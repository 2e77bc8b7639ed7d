//! Records that could not be processed: what a member says of them, and what becomes of them.

use bytes::{BufMut, Bytes};

use crate::code::ErrorCode;
use crate::error::{DecodeError, Problem};
use crate::frame::{FRAME_HEADER_BYTES, FrameKind};
use crate::limits::{FAILURES_PER_FRAME_MAX, REASON_BYTES_MAX, REQUEST_FRAME_BYTES_MAX};
use crate::message::Message;
use crate::message::failure::read_code;
use crate::read::Reader;
use crate::units::{LeaseEpoch, Offset, PartitionId};
use crate::write::Write;

/// Records have failed. Answered by [`RecordsFailed`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FailRecords {
    /// Number of the statement.
    pub number: u64,
    /// The partition.
    pub partition: PartitionId,
    /// The lease under which they were delivered.
    pub lease: LeaseEpoch,
    /// The records.
    pub records: Vec<FailedRecord>,
}

/// A record that has failed, or comes back.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FailedRecord {
    /// Its offset.
    pub offset: Offset,
    /// The attempt that failed: what a later one has delivered is not meant.
    pub attempt: u32,
    /// What is to become of it.
    pub verdict: Verdict,
    /// Why, in words.
    pub reason: String,
}

/// What is to become of a record that has failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// It is delivered again, after the group's backoff.
    Retry,
    /// It is delivered again after so many milliseconds.
    RetryAfter(u32),
    /// It is given up: it goes to the dead-letter topic.
    Reject,
    /// It comes back as it went: nobody tried it to its end.
    Return,
}

/// What becomes of records that have failed: durable, or refused as a whole.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RecordsFailed {
    /// Number of the statement.
    pub number: u64,
    /// The partition.
    pub partition: PartitionId,
    /// Why it was refused; `None` if it is durable.
    pub refused: Option<ErrorCode>,
    /// What becomes of each, in the order in which they were named; nothing if it was refused.
    pub outcomes: Vec<FailureOutcome>,
}

/// What becomes of a record that has failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FailureOutcome {
    /// Its offset.
    pub offset: Offset,
    /// How it goes on.
    pub next: AfterFailure,
}

/// How it goes on with a record that has failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AfterFailure {
    /// It is delivered again.
    Again {
        /// The number of that attempt.
        attempt: u32,
        /// Milliseconds until then.
        wait_ms: u32,
        /// Why it was not given up, although it should have been.
        refused: Option<ErrorCode>,
    },
    /// It is settled, and on its way to the dead-letter topic.
    DeadLetter,
    /// It had been settled before, or this attempt was over.
    Over,
}

/// Records of a partition that have failed before. Comes ahead of the lease it names.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PartitionFailures {
    /// The partition.
    pub partition: PartitionId,
    /// The lease.
    pub lease: LeaseEpoch,
    /// The records, in order of offset.
    pub records: Vec<FailingRecord>,
}

/// A record that has failed and is to be delivered again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FailingRecord {
    /// Its offset.
    pub offset: Offset,
    /// The number of the next attempt.
    pub attempt: u32,
    /// Milliseconds until then.
    pub wait_ms: u32,
}

const RETRY: u8 = 0;
const RETRY_AFTER: u8 = 1;
const REJECT: u8 = 2;
const RETURN: u8 = 3;

const AGAIN: u8 = 0;
const DEAD_LETTER: u8 = 1;
const OVER: u8 = 2;

/// Bytes of a failed record without its reason.
const FAILED_RECORD_BYTES_MIN: usize = 8 + 4 + 1 + 4 + 2;
const OUTCOME_BYTES: usize = 8 + 1 + 4 + 4 + 2;
const FAILING_RECORD_BYTES: usize = 8 + 4 + 4;

fn bounded(reader: &mut Reader<'_>, what: &'static str, item_bytes: usize) -> Result<usize, DecodeError> {
    let at = reader.position();
    let count = reader.count(what, item_bytes)?;
    if count > FAILURES_PER_FRAME_MAX {
        let (value, max) = (count as u64, FAILURES_PER_FRAME_MAX as u64);
        return Err(DecodeError::new(at, Problem::TooLarge { what, value, max }));
    }
    Ok(count)
}

/// A code that may be missing.
pub(super) fn optional_code(reader: &mut Reader<'_>) -> Result<Option<ErrorCode>, DecodeError> {
    if reader.clone().u16()? == 0 {
        return reader.u16().map(|_| None);
    }
    read_code(reader).map(Some)
}

impl FailRecords {
    /// Most bytes of the records of one statement: requests are short.
    pub const RECORDS_BYTES_MAX: usize = REQUEST_FRAME_BYTES_MAX as usize - (8 + 4 + 8 + 4);

    /// Most records that our client names in one statement: there is always memory for the answer to so many.
    pub const RECORDS_AT_ONCE: usize = 128;
}

impl RecordsFailed {
    /// Length of the frame that answers for so many records.
    #[must_use]
    pub const fn frame_bytes(records: usize) -> usize {
        FRAME_HEADER_BYTES + 8 + 4 + 2 + 4 + records * OUTCOME_BYTES
    }
}

impl FailedRecord {
    /// Length of its encoding.
    #[must_use]
    pub const fn encoded_bytes(&self) -> usize {
        FAILED_RECORD_BYTES_MIN + self.reason.len()
    }

    fn encode(&self, out: &mut impl BufMut) {
        out.put_u64_le(self.offset.get());
        out.put_u32_le(self.attempt);
        let (kind, after_ms) = match self.verdict {
            Verdict::Retry => (RETRY, 0),
            Verdict::RetryAfter(ms) => (RETRY_AFTER, ms),
            Verdict::Reject => (REJECT, 0),
            Verdict::Return => (RETURN, 0),
        };
        out.put_u8(kind);
        out.put_u32_le(after_ms);
        out.put_text(&self.reason);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (offset, attempt) = (reader.offset()?, reader.u32()?);
        let at = reader.position();
        let verdict = match (reader.u8()?, reader.u32()?) {
            (RETRY, 0) => Verdict::Retry,
            (RETRY_AFTER, ms) => Verdict::RetryAfter(ms),
            (REJECT, 0) => Verdict::Reject,
            (RETURN, 0) => Verdict::Return,
            (kind, _) => {
                return Err(DecodeError::new(
                    at,
                    Problem::Invalid { what: "verdict", value: u64::from(kind) },
                ));
            }
        };
        Ok(Self { offset, attempt, verdict, reason: reader.text("reason", REASON_BYTES_MAX)? })
    }
}

impl FailureOutcome {
    fn encode(&self, out: &mut impl BufMut) {
        out.put_u64_le(self.offset.get());
        let (kind, attempt, wait_ms, refused) = match self.next {
            AfterFailure::Again { attempt, wait_ms, refused } => (AGAIN, attempt, wait_ms, refused),
            AfterFailure::DeadLetter => (DEAD_LETTER, 0, 0, None),
            AfterFailure::Over => (OVER, 0, 0, None),
        };
        out.put_u8(kind);
        out.put_u32_le(attempt);
        out.put_u32_le(wait_ms);
        out.put_u16_le(refused.map_or(0, ErrorCode::number));
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let offset = reader.offset()?;
        let at = reader.position();
        let (kind, attempt, wait_ms) = (reader.u8()?, reader.u32()?, reader.u32()?);
        let next = match (kind, attempt, wait_ms, optional_code(reader)?) {
            (AGAIN, attempt, wait_ms, refused) => AfterFailure::Again { attempt, wait_ms, refused },
            (DEAD_LETTER, 0, 0, None) => AfterFailure::DeadLetter,
            (OVER, 0, 0, None) => AfterFailure::Over,
            (kind, ..) => {
                return Err(DecodeError::new(
                    at,
                    Problem::Invalid { what: "outcome", value: u64::from(kind) },
                ));
            }
        };
        Ok(Self { offset, next })
    }
}

impl Message for FailRecords {
    const KIND: FrameKind = FrameKind::FailRecords;

    fn encode(&self, out: &mut impl BufMut) {
        out.put_u64_le(self.number);
        out.put_u32_le(self.partition.get());
        out.put_u64_le(self.lease.get());
        out.put_count(self.records.len());
        self.records.iter().for_each(|record| record.encode(out));
    }

    fn decode(reader: &mut Reader<'_>, _body: &Bytes) -> Result<Self, DecodeError> {
        let number = reader.u64()?;
        let partition = PartitionId::new(reader.u32()?);
        let lease = LeaseEpoch::new(reader.u64()?);
        let count = bounded(reader, "failed record count", FAILED_RECORD_BYTES_MIN)?;
        let records = (0..count).map(|_| FailedRecord::decode(reader)).collect::<Result<_, _>>()?;
        Ok(Self { number, partition, lease, records })
    }
}

impl Message for RecordsFailed {
    const KIND: FrameKind = FrameKind::RecordsFailed;

    fn encode(&self, out: &mut impl BufMut) {
        out.put_u64_le(self.number);
        out.put_u32_le(self.partition.get());
        out.put_u16_le(self.refused.map_or(0, ErrorCode::number));
        out.put_count(self.outcomes.len());
        self.outcomes.iter().for_each(|outcome| outcome.encode(out));
    }

    fn decode(reader: &mut Reader<'_>, _body: &Bytes) -> Result<Self, DecodeError> {
        let number = reader.u64()?;
        let partition = PartitionId::new(reader.u32()?);
        let refused = optional_code(reader)?;
        let count = bounded(reader, "outcome count", OUTCOME_BYTES)?;
        let outcomes = (0..count).map(|_| FailureOutcome::decode(reader)).collect::<Result<_, _>>()?;
        Ok(Self { number, partition, refused, outcomes })
    }
}

impl Message for PartitionFailures {
    const KIND: FrameKind = FrameKind::PartitionFailures;

    fn encode(&self, out: &mut impl BufMut) {
        out.put_u32_le(self.partition.get());
        out.put_u64_le(self.lease.get());
        out.put_count(self.records.len());
        for record in &self.records {
            out.put_u64_le(record.offset.get());
            out.put_u32_le(record.attempt);
            out.put_u32_le(record.wait_ms);
        }
    }

    fn decode(reader: &mut Reader<'_>, _body: &Bytes) -> Result<Self, DecodeError> {
        let partition = PartitionId::new(reader.u32()?);
        let lease = LeaseEpoch::new(reader.u64()?);
        let count = bounded(reader, "failing record count", FAILING_RECORD_BYTES)?;
        let record = |reader: &mut Reader<'_>| {
            Ok(FailingRecord { offset: reader.offset()?, attempt: reader.u32()?, wait_ms: reader.u32()? })
        };
        let records = (0..count).map(|_| record(reader)).collect::<Result<_, _>>()?;
        Ok(Self { partition, lease, records })
    }
}
