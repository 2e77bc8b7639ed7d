//! The receipt to come, and the result that the records of one batch share.

use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use weir_protocol::batch::ProducerBatch;
use weir_protocol::message::AckEntry;

use crate::error::Error;
use crate::exceptions::Exceptions;
use crate::failure::{SendError, SendFailure};
use crate::message::{Expect, Message, Receipt, from_record, system_time};
use crate::net::shared::lock;

/// Called with each message that failed and whose `Delivery` nobody holds.
pub(crate) type OnFailure = Arc<dyn Fn(SendError) + Send + Sync>;

/// The result of one batch, shared by the deliveries of its records: one allocation, one lock and one wake for all of them.
pub(crate) struct BatchCell {
    state: Mutex<State>,
    on_failure: OnFailure,
}

enum State {
    Pending {
        /// Those who wait, each in a slot that its delivery knows.
        wakers: Vec<Option<Waker>>,
        /// One bit for each record whose delivery was dropped.
        detached: Vec<u64>,
    },
    Stored {
        /// The receipt of the first record, from which those of the others follow.
        first: Receipt,
        /// The records that do not share it.
        exceptions: Exceptions,
    },
    Failed {
        error: Error,
        reason: SendFailure,
        /// The messages that nobody has taken yet, by their number in the batch.
        messages: Vec<Option<Message>>,
    },
}

impl BatchCell {
    pub(crate) fn new(on_failure: OnFailure) -> Arc<Self> {
        let state = State::Pending { wakers: Vec::new(), detached: Vec::new() };
        Arc::new(Self { state: Mutex::new(state), on_failure })
    }

    /// The receipts of a stored batch. The errors of records that are not stored and that nobody waits for are returned,
    /// for `on_failure`.
    pub(crate) fn stored(&self, entry: &AckEntry, mut exceptions: Exceptions) -> Vec<SendError> {
        let first = receipt(entry);
        let failed: Vec<u32> = exceptions.failed().collect();
        let mut orphans = Vec::new();
        if let State::Pending { detached, .. } = &*lock(&self.state) {
            let unheard = failed.into_iter().filter(|record| is_detached(detached, *record));
            orphans.extend(unheard.filter_map(|record| exceptions.result(record, &first)?.err()));
        }
        self.resolve(State::Stored { first, exceptions });
        orphans
    }

    /// Hands the messages of a failed batch back. Those that nobody waits for are returned, for the report or `on_failure`.
    pub(crate) fn failed(
        &self,
        error: &Error,
        reason: &SendFailure,
        batch: &ProducerBatch,
    ) -> Vec<SendError> {
        let mut messages: Vec<Option<Message>> = messages_of(batch).into_iter().map(Some).collect();
        let mut orphans = Vec::new();
        {
            let state = lock(&self.state);
            let State::Pending { detached, .. } = &*state else { return orphans };
            for (index, message) in messages.iter_mut().enumerate() {
                if is_detached(detached, u32::try_from(index).unwrap_or(u32::MAX)) {
                    orphans.push(SendError::new(error.clone(), message.take(), reason.clone()));
                }
            }
        }
        self.resolve(State::Failed { error: error.clone(), reason: reason.clone(), messages });
        orphans
    }

    fn resolve(&self, result: State) {
        let before = std::mem::replace(&mut *lock(&self.state), result);
        if let State::Pending { wakers, .. } = before {
            wakers.into_iter().flatten().for_each(Waker::wake);
        }
    }

    /// Gives the results of some records, in their order; or else the slot in which the waker stands now.
    pub(crate) fn poll(
        &self,
        records: Range<u32>,
        slot: u32,
        context: &Context<'_>,
        mut give: impl FnMut(Result<Receipt, SendError>),
    ) -> Result<(), u32> {
        match &mut *lock(&self.state) {
            State::Pending { wakers, .. } => {
                if let Some(Some(waker)) = wakers.get_mut(slot as usize) {
                    waker.clone_from(context.waker());
                    return Err(slot);
                }
                wakers.push(Some(context.waker().clone()));
                return Err(u32::try_from(wakers.len() - 1).expect("at most one for each record"));
            }
            State::Stored { first, exceptions } => records.for_each(|index| {
                let receipt = || Receipt { offset: first.offset + u64::from(index), ..first.clone() };
                give(exceptions.result(index, first).unwrap_or_else(|| Ok(receipt())));
            }),
            State::Failed { error, reason, messages } => records.for_each(|index| {
                let message = messages.get_mut(index as usize).and_then(Option::take);
                give(Err(SendError::new(error.clone(), message, reason.clone())));
            }),
        }
        Ok(())
    }

    /// Nobody waits for some records any more.
    pub(crate) fn detach(&self, records: Range<u32>, slot: u32) {
        let mut failed = Vec::new();
        match &mut *lock(&self.state) {
            State::Pending { wakers, detached } => {
                if let Some(waker) = wakers.get_mut(slot as usize) {
                    *waker = None;
                }
                let words = records.end.div_ceil(u64::BITS) as usize;
                if detached.len() < words {
                    detached.resize(words, 0);
                }
                for index in records {
                    if let Some(word) = detached.get_mut(index as usize / 64) {
                        *word |= 1 << (index % 64);
                    }
                }
            }
            State::Stored { first, exceptions } => {
                failed.extend(records.filter_map(|index| exceptions.result(index, first)?.err()));
            }
            State::Failed { error, reason, messages } => failed.extend(records.filter_map(|index| {
                let message = messages.get_mut(index as usize).and_then(Option::take)?;
                Some(SendError::new(error.clone(), Some(message), reason.clone()))
            })),
        }
        failed.into_iter().for_each(|failed| (self.on_failure)(failed));
    }
}

/// The receipt of the first record of a batch.
pub(crate) fn receipt(entry: &AckEntry) -> Receipt {
    Receipt {
        partition: entry.partition.get(),
        offset: entry.base_offset.get(),
        timestamp: system_time(entry.append_time),
        duplicate: entry.duplicate,
        durability: entry.durability,
    }
}

/// Whether the delivery of a record was dropped.
fn is_detached(detached: &[u64], record: u32) -> bool {
    let word = detached.get(record as usize / 64).copied().unwrap_or(0);
    word >> (record % 64) & 1 == 1
}

/// The messages of a batch, as they were before they were put into it.
pub(crate) fn messages_of(batch: &ProducerBatch) -> Vec<Message> {
    let header = batch.header();
    let Ok(records) = batch.records() else { return Vec::new() };
    let create = header.create_time;
    let messages = records.filter_map(Result::ok).zip(batch.table().rows()).map(|(record, row)| {
        let made = create.saturating_add_micros(record.timestamp_delta_ms.saturating_mul(1000));
        let mut message = from_record(record, system_time(made));
        message.idempotency_key = row.idempotency_key.map(|key| batch.bytes().slice_ref(key));
        message.expect = row.expectation.map(Expect::from_wire);
        message
    });
    messages.collect()
}

/// A receipt to come.
///
/// Dropping it never cancels the send: the message goes on, and if it fails, `on_failure` is told. It works under every
/// runtime.
///
/// # Cancel safety
/// A `Delivery` may be polled by reference in `select!`: no receipt is lost.
#[must_use = "await it, or call .detach() to let on_failure report errors"]
pub struct Delivery {
    // Flat, not an enum of states: one is moved for every message, and an enum with a tag in front is moved in pieces that the
    // processor has to put together again.
    /// The batch whose result is awaited; `None` once it was there, or for what failed at once.
    cell: Option<Arc<BatchCell>>,
    /// What failed at once.
    error: Option<Box<SendError>>,
    /// Number of the record in the batch.
    index: u32,
    /// Where the waker stands.
    slot: u32,
}

/// No waker was left yet.
pub(crate) const NO_SLOT: u32 = u32::MAX;

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_waiting = self.cell.is_some();
        f.debug_struct("Delivery")
            .field("is_waiting", &is_waiting)
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}

impl Delivery {
    pub(crate) const fn new(cell: Arc<BatchCell>, index: u32) -> Self {
        Self { cell: Some(cell), error: None, index, slot: NO_SLOT }
    }

    pub(crate) fn failed(error: SendError) -> Self {
        Self { cell: None, error: Some(Box::new(error)), index: 0, slot: NO_SLOT }
    }

    /// What it waits for: a record of a batch, or what failed at once.
    pub(crate) fn into_parts(mut self) -> Result<(Arc<BatchCell>, u32), Box<SendError>> {
        match self.cell.take() {
            Some(cell) => Ok((cell, self.index)),
            None => Err(self.error.take().expect("a delivery that was ready is not handed on")),
        }
    }

    /// Does not wait; if the message fails, `on_failure` is told.
    pub fn detach(self) {}
}

impl Future for Delivery {
    type Output = Result<Receipt, SendError>;

    /// # Panics
    /// If polled again after it was ready.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let (index, slot) = (self.index, self.slot);
        let Some(cell) = &self.cell else {
            let error = self.error.take().expect("a delivery is not polled again after it was ready");
            return Poll::Ready(Err(*error));
        };
        let mut result = None;
        match cell.poll(index..index + 1, slot, context, |given| result = Some(given)) {
            Ok(()) => {
                self.cell = None;
                Poll::Ready(result.expect("one record has one result"))
            }
            Err(slot) => {
                self.slot = slot;
                Poll::Pending
            }
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if let Some(cell) = &self.cell {
            cell.detach(self.index..self.index + 1, self.slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use weir_protocol::batch::{BatchBuilder, BatchIdentity, Compression, RecordInput};
    use weir_protocol::message::{OriginalRecord, RecordException, RecordFate};
    use weir_protocol::units::{
        Durability, Epoch, Offset, PartitionId, PartitionKey, ProducerId, Sequence, Timestamp, TopicId,
    };

    use super::*;

    fn batch(values: &[&str]) -> ProducerBatch {
        let mut builder = BatchBuilder::new(10_000);
        for value in values {
            let record = RecordInput { value: Some(value.as_bytes()), ..RecordInput::default() };
            builder.push(&record).unwrap();
        }
        let partition = PartitionKey { topic: TopicId::from_bytes([0; 16]), partition: PartitionId::ZERO };
        let identity = BatchIdentity {
            producer: ProducerId::ZERO,
            producer_epoch: Epoch::ZERO,
            sequence: Sequence::ZERO,
            partition,
        };
        builder.finish(&identity, Compression::None)
    }

    fn ack() -> AckEntry {
        AckEntry {
            partition: PartitionId::new(3),
            sequence: Sequence::ZERO,
            base_offset: Offset::new(100),
            append_time: Timestamp::from_micros(5),
            partition_epoch: Epoch::ZERO,
            durability: Durability::Durable,
            duplicate: false,
        }
    }

    fn poll(delivery: &mut Delivery) -> Poll<Result<Receipt, SendError>> {
        Pin::new(delivery).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    #[expect(clippy::wildcard_enum_match_arm, reason = "the rest is treated alike, also what may be added")]
    fn each_record_has_its_own_offset() {
        let cell = BatchCell::new(Arc::new(|_| ()));
        let mut deliveries: Vec<Delivery> =
            (0..3).map(|index| Delivery::new(Arc::clone(&cell), index)).collect();
        assert!(poll(&mut deliveries[1]).is_pending());
        assert!(cell.stored(&ack(), Exceptions::default()).is_empty());
        let offsets: Vec<u64> = deliveries
            .iter_mut()
            .map(|delivery| match poll(delivery) {
                Poll::Ready(Ok(receipt)) => receipt.offset,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(offsets, [100, 101, 102]);
    }

    #[test]
    #[expect(clippy::wildcard_enum_match_arm, reason = "the rest is treated alike, also what may be added")]
    fn a_failure_hands_each_message_to_whoever_is_there_for_it() {
        let reported = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&reported);
        let cell = BatchCell::new(Arc::new(move |_| {
            counter.fetch_add(1, Ordering::Relaxed);
        }));
        let mut deliveries: Vec<Delivery> =
            (0..3).map(|index| Delivery::new(Arc::clone(&cell), index)).collect();
        deliveries.remove(1).detach();
        let orphans = cell.failed(&Error::closed("producer"), &SendFailure::Closed, &batch(&["a", "b", "c"]));
        let value = |error: &SendError| error.message.as_ref().unwrap().value.clone().unwrap();
        assert_eq!(orphans.iter().map(value).collect::<Vec<_>>(), ["b"]);
        match poll(&mut deliveries[1]) {
            Poll::Ready(Err(error)) => assert_eq!(value(&error), "c"),
            other => panic!("{other:?}"),
        }
        assert_eq!(reported.load(Ordering::Relaxed), 0);
        drop(deliveries);
        assert_eq!(reported.load(Ordering::Relaxed), 1, "one was dropped after the failure, unread");
    }

    #[test]
    fn a_record_may_have_another_result_than_its_batch() {
        let reported = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&reported);
        let cell = BatchCell::new(Arc::new(move |_| {
            counter.fetch_add(1, Ordering::Relaxed);
        }));
        let mut deliveries: Vec<Delivery> =
            (0..5).map(|index| Delivery::new(Arc::clone(&cell), index)).collect();
        deliveries.remove(4).detach();
        let batch = batch(&["a", "b", "c", "d", "e"]);
        let original = OriginalRecord {
            partition: PartitionId::new(1),
            offset: Offset::new(7),
            append_time: Timestamp::from_micros(2),
        };
        let fates = [
            RecordFate::Duplicate(original),
            RecordFate::Conflict(original),
            RecordFate::Expired,
            RecordFate::Full,
        ];
        let exceptions = (1..).zip(fates).map(|(record, fate)| RecordException { record, fate }).collect();
        let orphans = cell.stored(&ack(), Exceptions::new("orders", exceptions, &batch));
        assert_eq!(orphans.len(), 1, "nobody waits for the last");
        assert!(matches!(orphans[0].reason, SendFailure::DedupFull));

        let mut results = deliveries.iter_mut().map(|delivery| match poll(delivery) {
            Poll::Ready(result) => result,
            Poll::Pending => panic!("all have their results"),
        });
        let place = |receipt: Receipt| (receipt.partition, receipt.offset, receipt.duplicate);
        assert_eq!(results.next().unwrap().map(place).unwrap(), (3, 100, false));
        assert_eq!(results.next().unwrap().map(place).unwrap(), (1, 7, true));
        let conflict = results.next().unwrap().unwrap_err();
        assert!(matches!(&conflict.reason,
            SendFailure::IdempotencyConflict { original } if place(original.clone()) == (1, 7, false)));
        assert_eq!(conflict.message.unwrap().value.as_deref(), Some(&b"c"[..]), "the message comes back");
        let expired = results.next().unwrap().unwrap_err();
        assert_eq!((expired.error.code(), expired.error.kind()), ("WEIR-3012", crate::ErrorKind::Expired));
    }
}
