//! Records that do not share the result of their batch.

use weir_protocol::batch::ProducerBatch;
use weir_protocol::message::{OriginalRecord, RecordException, RecordFate};

use crate::delivery::messages_of;
use crate::error::Error;
use crate::failure::{SendError, SendFailure};
use crate::message::{Message, Receipt, system_time};

/// The exceptions of one batch, in order of record.
#[derive(Debug, Default)]
pub(crate) struct Exceptions {
    topic: String,
    records: Vec<(RecordException, Option<Message>)>,
}

impl Exceptions {
    /// With the messages of those that are not stored, so that they can be handed back.
    pub(crate) fn new(topic: &str, exceptions: Vec<RecordException>, batch: &ProducerBatch) -> Self {
        if exceptions.is_empty() {
            return Self::default();
        }
        let mut messages: Vec<Option<Message>> = Vec::new();
        if exceptions.iter().any(is_failed) {
            messages = messages_of(batch).into_iter().map(Some).collect();
        }
        let mut message = |exception: &RecordException| {
            let taken = messages.get_mut(exception.record as usize).and_then(Option::take);
            taken.filter(|_| is_failed(exception))
        };
        let records =
            exceptions.into_iter().map(|exception| (exception, message(&exception))).collect::<Vec<_>>();
        Self { topic: topic.to_owned(), records }
    }

    /// The result of a record, where it is not that of the batch; `first` is the receipt of the batch's first record.
    pub(crate) fn result(&mut self, record: u32, first: &Receipt) -> Option<Result<Receipt, SendError>> {
        let at = self.records.binary_search_by_key(&record, |(exception, _)| exception.record).ok()?;
        let (exception, message) = self.records.get_mut(at)?;
        if let RecordFate::Duplicate(original) = &exception.fate {
            return Some(Ok(receipt_of(original, first)));
        }
        let (error, reason) = explain(&self.topic, &exception.fate, first)?;
        Some(Err(SendError::new(error, message.take(), reason)))
    }

    /// The numbers of the records that are not stored.
    pub(crate) fn failed(&self) -> impl Iterator<Item = u32> + '_ {
        let failed = self.records.iter().filter(|(exception, _)| is_failed(exception));
        failed.map(|(exception, _)| exception.record)
    }
}

/// Whether a record is not stored.
pub(crate) const fn is_failed(exception: &RecordException) -> bool {
    exception.fate.code().is_some()
}

fn receipt_of(original: &OriginalRecord, first: &Receipt) -> Receipt {
    Receipt {
        partition: original.partition.get(),
        offset: original.offset.get(),
        timestamp: system_time(original.append_time),
        duplicate: true,
        ..first.clone()
    }
}

/// The error a record's fate stands for, if it is not stored.
pub(crate) fn explain(topic: &str, fate: &RecordFate, first: &Receipt) -> Option<(Error, SendFailure)> {
    let (detail, reason) = match fate {
        RecordFate::Duplicate(_) => return None,
        RecordFate::Conflict(original) => {
            let original = Receipt { duplicate: false, ..receipt_of(original, first) };
            let at = format!("it is at offset {} of partition {}", original.offset, original.partition);
            (format!("topic '{topic}': {at}"), SendFailure::IdempotencyConflict { original })
        }
        RecordFate::Expired => (format!("topic '{topic}'"), SendFailure::IdempotencyExpired),
        RecordFate::Full => (format!("topic '{topic}'"), SendFailure::DedupFull),
        RecordFate::Off | RecordFate::VersionsOff => (format!("topic '{topic}'"), SendFailure::Other),
        RecordFate::Unmet(actual) => {
            let actual = actual.get();
            (
                format!("topic '{topic}': it is at offset {actual}"),
                SendFailure::Expectation { actual: Some(actual) },
            )
        }
        RecordFate::UnmetAbsent => {
            let text = format!("topic '{topic}': there is no record with its key");
            (text, SendFailure::Expectation { actual: None })
        }
        RecordFate::VersionsFull => (format!("topic '{topic}'"), SendFailure::VersionsFull),
    };
    Some((Error::broker(fate.code()?, detail), reason))
}
