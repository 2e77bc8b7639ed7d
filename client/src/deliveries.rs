//! The receipts to come of many messages.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::delivery::{BatchCell, Delivery, NO_SLOT};
use crate::failure::{BatchError, SendError};
use crate::message::Receipt;

/// The receipts to come of messages that were taken together: awaited for all of them, or one by one as an iterator.
///
/// Costs next to nothing for each message: those that stand side by side in a batch are one entry.
///
/// Dropping it never cancels a send: the messages go on, and if one fails, `on_failure` is told. It works under every
/// runtime.
///
/// # Cancel safety
/// `Deliveries` may be polled by reference in `select!`: no receipt is lost.
#[derive(Default)]
#[must_use = "await it, or call .detach() to let on_failure report errors"]
pub struct Deliveries {
    waiting: VecDeque<Part>,
    accepted: Vec<Receipt>,
    failed: Vec<SendError>,
}

enum Part {
    Run(Run),
    /// It failed at once.
    Failed(Box<SendError>),
}

impl Part {
    /// The delivery of the only message.
    fn into_delivery(self) -> Delivery {
        match self {
            Self::Run(mut run) => {
                let index = run.records.next().expect("a run is never empty");
                Delivery::new(Arc::clone(&run.cell), index)
            }
            Self::Failed(error) => Delivery::failed(*error),
        }
    }
}

/// Records that stand side by side in one batch.
struct Run {
    cell: Arc<BatchCell>,
    records: Range<u32>,
    slot: u32,
}

impl Drop for Run {
    fn drop(&mut self) {
        if !self.records.is_empty() {
            self.cell.detach(self.records.clone(), self.slot);
        }
    }
}

impl fmt::Debug for Deliveries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deliveries").field("waiting", &self.len()).finish_non_exhaustive()
    }
}

impl Deliveries {
    /// Adds a record of a batch.
    pub(crate) fn add(&mut self, cell: &Arc<BatchCell>, index: u32) {
        if let Some(Part::Run(run)) = self.waiting.back_mut()
            && run.records.end == index
            && Arc::ptr_eq(&run.cell, cell)
        {
            run.records.end += 1;
            return;
        }
        let run = Run { cell: Arc::clone(cell), records: index..index + 1, slot: NO_SLOT };
        self.waiting.push_back(Part::Run(run));
    }

    /// Adds a delivery.
    pub(crate) fn push(&mut self, delivery: Delivery) {
        match delivery.into_parts() {
            Ok((cell, index)) => self.add(&cell, index),
            Err(error) => self.waiting.push_back(Part::Failed(error)),
        }
    }

    /// Messages without a result so far.
    #[must_use]
    pub fn len(&self) -> usize {
        let records = self.waiting.iter().map(|part| match part {
            Part::Run(run) => run.records.len(),
            Part::Failed(_) => 1,
        });
        records.sum()
    }

    /// Whether every message has its result.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Does not wait; if a message fails, `on_failure` is told.
    pub fn detach(self) {}
}

/// One by one, in the order of the messages. Those already taken are no longer part of what is awaited.
impl Iterator for Deliveries {
    type Item = Delivery;

    fn next(&mut self) -> Option<Delivery> {
        if let Some(Part::Run(run)) = self.waiting.front_mut()
            && run.records.len() > 1
        {
            return run.records.next().map(|index| Delivery::new(Arc::clone(&run.cell), index));
        }
        self.waiting.pop_front().map(Part::into_delivery)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.len(), Some(self.len()))
    }
}

impl DoubleEndedIterator for Deliveries {
    fn next_back(&mut self) -> Option<Delivery> {
        if let Some(Part::Run(run)) = self.waiting.back_mut()
            && run.records.len() > 1
        {
            return run.records.next_back().map(|index| Delivery::new(Arc::clone(&run.cell), index));
        }
        self.waiting.pop_back().map(Part::into_delivery)
    }
}

/// All receipts in the order of the messages, or what has one and what has none.
impl Future for Deliveries {
    type Output = Result<Vec<Receipt>, BatchError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { waiting, accepted, failed } = &mut *self;
        while let Some(part) = waiting.front_mut() {
            if let Part::Run(run) = part {
                let give = |result| match result {
                    Ok(receipt) => accepted.push(receipt),
                    Err(error) => failed.push(error),
                };
                if let Err(slot) = run.cell.poll(run.records.clone(), run.slot, context, give) {
                    run.slot = slot;
                    return Poll::Pending;
                }
                run.records = 0..0;
            }
            if let Some(Part::Failed(error)) = waiting.pop_front() {
                failed.push(*error);
            }
        }
        let (accepted, failed) = (std::mem::take(accepted), std::mem::take(failed));
        Poll::Ready(if failed.is_empty() { Ok(accepted) } else { Err(BatchError { accepted, failed }) })
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use weir_protocol::message::AckEntry;
    use weir_protocol::units::{Durability, Epoch, Offset, PartitionId, Sequence, Timestamp};

    use super::*;
    use crate::error::Error;
    use crate::exceptions::Exceptions;
    use crate::failure::SendFailure;

    fn cell() -> Arc<BatchCell> {
        BatchCell::new(Arc::new(|_| ()))
    }

    fn store(cell: &BatchCell, offset: u64) {
        let entry = AckEntry {
            partition: PartitionId::ZERO,
            sequence: Sequence::ZERO,
            base_offset: Offset::new(offset),
            append_time: Timestamp::from_micros(5),
            partition_epoch: Epoch::ZERO,
            durability: Durability::Durable,
            duplicate: false,
        };
        assert!(cell.stored(&entry, Exceptions::default()).is_empty());
    }

    fn refused() -> Delivery {
        Delivery::failed(SendError::new(Error::closed("producer"), None, SendFailure::Closed))
    }

    fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
        Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
    }

    fn offsets(receipts: &[Receipt]) -> Vec<u64> {
        receipts.iter().map(|receipt| receipt.offset).collect()
    }

    #[test]
    fn receipts_come_in_the_order_of_the_messages_whatever_comes_first() {
        let (first, second) = (cell(), cell());
        let mut deliveries = Deliveries::default();
        for index in 3..6 {
            deliveries.add(&first, index);
        }
        deliveries.add(&second, 0);
        deliveries.add(&first, 6);
        assert_eq!((deliveries.len(), deliveries.waiting.len()), (5, 3));
        assert!(poll(&mut deliveries).is_pending());
        store(&second, 50);
        assert!(poll(&mut deliveries).is_pending());
        store(&first, 100);
        let Poll::Ready(Ok(receipts)) = poll(&mut deliveries) else { panic!("all are stored") };
        assert_eq!(offsets(&receipts), [103, 104, 105, 50, 106]);
    }

    #[test]
    fn what_failed_at_once_does_not_hide_the_others() {
        let cell = cell();
        let mut deliveries = Deliveries::default();
        deliveries.add(&cell, 0);
        deliveries.push(refused());
        deliveries.push(Delivery::new(Arc::clone(&cell), 1));
        store(&cell, 7);
        let Poll::Ready(Err(error)) = poll(&mut deliveries) else { panic!("one has failed") };
        assert_eq!((offsets(&error.accepted), error.failed.len()), (vec![7, 8], 1));
    }

    #[test]
    fn they_can_be_taken_one_by_one_from_both_ends() {
        let cell = cell();
        let mut deliveries = Deliveries::default();
        (0..3).for_each(|index| deliveries.add(&cell, index));
        deliveries.push(refused());
        store(&cell, 7);
        let ready = |delivery: Option<Delivery>| match poll(&mut delivery?) {
            Poll::Ready(result) => Some(result.ok().map(|receipt| receipt.offset)),
            Poll::Pending => None,
        };
        assert_eq!(ready(deliveries.next_back()), Some(None));
        assert_eq!(ready(deliveries.next()), Some(Some(7)));
        assert_eq!(ready(deliveries.next_back()), Some(Some(9)));
        assert_eq!(ready(deliveries.next()), Some(Some(8)));
        assert!(deliveries.is_empty() && deliveries.next().is_none() && deliveries.next_back().is_none());
    }
}
