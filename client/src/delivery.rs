//! The receipt to come, and the result that the records of one batch share.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use weir_protocol::batch::ProducerBatch;
use weir_protocol::message::AckEntry;

use crate::error::Error;
use crate::failure::{SendError, SendFailure};
use crate::message::{Message, Receipt, from_record, system_time};
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
    Stored(Receipt),
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

    /// The receipts of a stored batch: that of the first record, from which the others follow.
    pub(crate) fn stored(&self, entry: &AckEntry) {
        let receipt = Receipt {
            partition: entry.partition.get(),
            offset: entry.base_offset.get(),
            timestamp: system_time(entry.append_time),
            duplicate: entry.duplicate,
            durability: entry.durability,
        };
        self.resolve(State::Stored(receipt));
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
                let word = detached.get(index / 64).copied().unwrap_or(0);
                if word >> (index % 64) & 1 == 1 {
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

    /// Nobody waits for a record any more.
    fn detach(&self, index: u32, slot: Option<usize>) {
        let failed = {
            let mut state = lock(&self.state);
            match &mut *state {
                State::Pending { wakers, detached } => {
                    if let Some(waker) = slot.and_then(|slot| wakers.get_mut(slot)) {
                        *waker = None;
                    }
                    let word = index as usize / 64;
                    if detached.len() <= word {
                        detached.resize(word + 1, 0);
                    }
                    if let Some(word) = detached.get_mut(word) {
                        *word |= 1 << (index % 64);
                    }
                    None
                }
                State::Stored(_) => None,
                State::Failed { error, reason, messages } => {
                    let message = messages.get_mut(index as usize).and_then(Option::take);
                    message.map(|message| SendError::new(error.clone(), Some(message), reason.clone()))
                }
            }
        };
        if let Some(failed) = failed {
            (self.on_failure)(failed);
        }
    }
}

/// The messages of a batch, as they were before they were put into it.
pub(crate) fn messages_of(batch: &ProducerBatch) -> Vec<Message> {
    let header = batch.header();
    let Ok(records) = batch.records() else { return Vec::new() };
    let rows: Vec<Option<bytes::Bytes>> =
        batch.table().rows().map(|row| row.idempotency_key.map(|key| batch.bytes().slice_ref(key))).collect();
    let create = header.create_time;
    let messages = records.filter_map(Result::ok).zip(rows).map(|(record, key)| {
        let made = create.saturating_add_micros(record.timestamp_delta_ms.saturating_mul(1000));
        let mut message = from_record(record, system_time(made));
        message.idempotency_key = key;
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
pub struct Delivery(Waiting);

enum Waiting {
    /// For the result of a batch.
    Batch { cell: Arc<BatchCell>, index: u32, slot: Option<usize> },
    /// For nothing: it failed at once.
    Failed(Option<Box<SendError>>),
    /// It was there.
    Done,
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.0 {
            Waiting::Batch { .. } => "waiting",
            Waiting::Failed(_) => "failed",
            Waiting::Done => "done",
        };
        f.debug_tuple("Delivery").field(&state).finish()
    }
}

impl Delivery {
    pub(crate) const fn new(cell: Arc<BatchCell>, index: u32) -> Self {
        Self(Waiting::Batch { cell, index, slot: None })
    }

    pub(crate) fn failed(error: SendError) -> Self {
        Self(Waiting::Failed(Some(Box::new(error))))
    }

    /// Does not wait; if the message fails, `on_failure` is told.
    pub fn detach(self) {}
}

impl Future for Delivery {
    type Output = Result<Receipt, SendError>;

    /// # Panics
    /// If polled again after it was ready.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let (cell, index, slot) = match &mut self.0 {
            Waiting::Batch { cell, index, slot } => (cell, *index, slot),
            Waiting::Failed(error) => {
                let error = error.take().expect("a delivery is polled until it is ready");
                self.0 = Waiting::Done;
                return Poll::Ready(Err(*error));
            }
            Waiting::Done => panic!("a delivery is polled until it is ready"),
        };
        let result = match &mut *lock(&cell.state) {
            State::Pending { wakers, .. } => {
                let waiting = slot.and_then(|slot| wakers.get_mut(slot)).and_then(Option::as_mut);
                if let Some(waker) = waiting {
                    waker.clone_from(context.waker());
                } else {
                    *slot = Some(wakers.len());
                    wakers.push(Some(context.waker().clone()));
                }
                return Poll::Pending;
            }
            State::Stored(first) => Ok(Receipt { offset: first.offset + u64::from(index), ..first.clone() }),
            State::Failed { error, reason, messages } => {
                let message = messages.get_mut(index as usize).and_then(Option::take);
                Err(SendError::new(error.clone(), message, reason.clone()))
            }
        };
        self.0 = Waiting::Done;
        Poll::Ready(result)
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if let Waiting::Batch { cell, index, slot } = &self.0 {
            cell.detach(*index, *slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use weir_protocol::batch::{BatchBuilder, BatchIdentity, Compression, RecordInput};
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
        cell.stored(&ack());
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
}
