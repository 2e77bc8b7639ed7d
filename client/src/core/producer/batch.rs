//! One batch on its way: open, closed, being sealed, sealed; and how it ends.

use weir_protocol::batch::{BatchBuilder, BatchIdentity, Compression, ProducerBatch};
use weir_protocol::message::RecordException;

use crate::core::producer::types::{BatchNumber, Failed, Why};
use crate::core::time::Mono;

/// One batch from its first record to its result.
#[derive(Debug)]
pub(super) struct Batch<T> {
    pub(super) number: BatchNumber,
    /// Who waits for the result; nobody any more once they were told.
    pub(super) ticket: Option<T>,
    pub(super) content: Content,
    pub(super) records: u32,
    /// What its records count for in the window.
    pub(super) cost: u64,
    pub(super) opened: Mono,
    pub(super) attempts: u32,
    /// It was sent and the answer was lost.
    pub(super) maybe_stored: bool,
    /// It need not wait for more records.
    pub(super) due: bool,
    /// Records whose result is not that of the batch, as far as the broker has told.
    pub(super) exceptions: Vec<RecordException>,
}

/// A batch that came to its end without being stored, as far as is known.
#[derive(Debug)]
pub(super) struct Ended<T> {
    pub(super) number: BatchNumber,
    /// Who waits for the result, if anybody still does.
    pub(super) ticket: Option<T>,
    /// What it gives back to the window: cost and messages. Nothing if it stays because its sequence is used up.
    pub(super) freed: Option<(u64, u32)>,
    pub(super) records: u32,
    pub(super) failed: Failed,
}

#[derive(Debug)]
pub(super) enum Content {
    /// Takes records.
    Open(Box<BatchBuilder>),
    /// Full.
    Closed(Box<BatchBuilder>),
    /// The driver computes its checksum.
    Sealing,
    /// Ready to be sent, or sent.
    Sealed(ProducerBatch),
}

impl<T> Batch<T> {
    /// A batch that takes records.
    pub(super) fn new(number: BatchNumber, ticket: T, builder: BatchBuilder, now: Mono) -> Self {
        Self {
            number,
            ticket: Some(ticket),
            content: Content::Open(Box::new(builder)),
            records: 0,
            cost: 0,
            opened: now,
            attempts: 0,
            maybe_stored: false,
            due: false,
            exceptions: Vec::new(),
        }
    }

    pub(super) fn length(&self) -> usize {
        match &self.content {
            Content::Open(builder) | Content::Closed(builder) => builder.length(),
            Content::Sealing => 0,
            Content::Sealed(batch) => batch.length(),
        }
    }

    /// Ends the batch without a result. Not for one that is being sealed.
    pub(super) fn end(self, why: Why, identity: &BatchIdentity) -> Option<Ended<T>> {
        let batch = match self.content {
            Content::Open(builder) | Content::Closed(builder) => builder.finish(identity, Compression::None),
            Content::Sealing => return None,
            Content::Sealed(batch) => batch,
        };
        let failed = Failed { batch, attempts: self.attempts, maybe_stored: self.maybe_stored, why };
        let freed = Some((self.cost, self.records));
        Some(Ended { number: self.number, ticket: self.ticket, freed, records: self.records, failed })
    }

    /// The bytes, once it is sealed.
    pub(super) fn into_sealed(self) -> Option<ProducerBatch> {
        match self.content {
            Content::Sealed(batch) => Some(batch),
            Content::Open(_) | Content::Closed(_) | Content::Sealing => None,
        }
    }
}

/// The same bytes where the identity is still the same, else with a new header.
pub(super) fn readdress(batch: ProducerBatch, identity: &BatchIdentity) -> ProducerBatch {
    let header = batch.header();
    let is_same = header.producer == identity.producer
        && header.producer_epoch == identity.producer_epoch
        && header.sequence == identity.sequence;
    if is_same { batch } else { batch.readdressed(identity) }
}
