//! The way of a message into its batch: under one short lock, in the caller's thread.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use weir_protocol::ErrorCode;
use weir_protocol::batch::{BatchBuilder, RecordInput, TableRow};
use weir_protocol::limits::IDEMPOTENCY_KEY_BYTES_MAX;
use weir_protocol::partitioner::routing_hash;
use weir_protocol::units::PartitionId;

use crate::core::fingerprint::fingerprint;
use crate::core::producer::{LaneId, PushError, Routing, Why};
use crate::delivery::{BatchCell, Delivery};
use crate::error::{ClientCode, Error};
use crate::failure::{SendError, SendFailure};
use crate::message::Message;
use crate::net::publish::{ProducerShared, State};
use crate::net::shared::lock;
use crate::producer::Producer;

/// A message that was not taken, and why.
pub(super) enum Refused {
    Full,
    Failed(Error, SendFailure),
    Ended(Why),
}

/// A message that waits for room.
type Later<'a> = Pin<Box<dyn Future<Output = Result<Delivery, SendError>> + Send + 'a>>;

/// A message that is being taken.
pub(super) struct Enqueue<'a> {
    pub(super) producer: &'a Producer,
    pub(super) message: Message,
    /// Waiting for room. Boxed, because most messages need not wait.
    pub(super) later: Option<Later<'a>>,
}

impl Future for Enqueue<'_> {
    type Output = Result<Delivery, SendError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let Some(later) = &mut this.later {
            return later.as_mut().poll(context);
        }
        match this.producer.place(&this.message, None) {
            Ok(delivery) => Poll::Ready(Ok(delivery)),
            Err(Refused::Full) => {
                let message = std::mem::take(&mut this.message);
                let later = this.later.insert(Box::pin(this.producer.enqueue_later(message)));
                later.as_mut().poll(context)
            }
            Err(refused) => {
                let message = std::mem::take(&mut this.message);
                Poll::Ready(Err(this.producer.send_error(refused, message)))
            }
        }
    }
}

/// What a message must be, whatever the topic; and how it finds its partition.
pub(super) fn check(message: &Message, record_bytes_max: usize) -> Result<(Routing, TableRow<'_>), Refused> {
    if message.size() > record_bytes_max {
        return Err(too_large(message.size(), record_bytes_max));
    }
    let mut row = TableRow::default();
    let routing_key = message.key.as_deref().or(message.idempotency_key.as_deref());
    let hash = routing_key.map(routing_hash);
    if let Some(key) = message.idempotency_key.as_deref() {
        if !(1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&key.len()) {
            let text =
                format!("an idempotency key has 1 to {IDEMPOTENCY_KEY_BYTES_MAX} bytes, not {}", key.len());
            return Err(Refused::Failed(Error::invalid(text), SendFailure::Other));
        }
        let headers = message.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref()));
        row.idempotency_key = Some(key);
        row.routing_hash = hash.unwrap_or(0);
        row.fingerprint = fingerprint(routing_key, message.value.as_deref(), headers);
    }
    let routing = match (message.partition, hash) {
        (Some(partition), _) => Routing::Partition(PartitionId::new(partition)),
        (None, Some(hash)) => Routing::Hash(hash),
        (None, None) => Routing::Any,
    };
    Ok((routing, row))
}

fn too_large(bytes: usize, limit: usize) -> Refused {
    let text = format!("a message of {bytes} bytes exceeds the limit of {limit} bytes");
    Refused::Failed(Error::client(ClientCode::TooLarge, text), SendFailure::TooLarge { limit })
}

/// A record on its way into a batch.
pub(super) struct Placing<'a> {
    pub(super) shared: &'a ProducerShared,
    pub(super) routing: Routing,
    pub(super) size: usize,
    pub(super) reserved: Option<u64>,
}

impl Placing<'_> {
    pub(super) fn push(&self, record: &RecordInput<'_>) -> Result<Delivery, Refused> {
        let mut wakes = [None, None];
        let (result, has_news) = {
            let mut state = lock(&self.shared.state);
            let state = &mut *state;
            if let Some(why) = &state.closing {
                return Err(Refused::Ended(why.clone()));
            }
            let cost = state.machine.window.cost(self.size);
            match self.reserved {
                Some(reserved) if reserved != cost => state.machine.window.adjust(reserved, cost),
                Some(_) => {}
                None if state.machine.window.try_reserve(cost) => {}
                None => return Err(Refused::Full),
            }
            let result = self.push_locked(state, record, cost, &mut wakes);
            if result.is_err() {
                match self.reserved {
                    // The reservation gives back what it took.
                    Some(reserved) => state.machine.window.adjust(cost, reserved),
                    None => state.machine.window.release(cost, 1),
                }
            }
            (result, state.machine.window.has_news())
        };
        if has_news {
            // Less was needed than reserved: the difference may be what somebody waits for.
            self.shared.with(|_, _| ());
        }
        wakes.into_iter().flatten().for_each(|lane| self.shared.wake_lane(lane));
        result
    }

    fn push_locked(
        &self,
        state: &mut State,
        record: &RecordInput<'_>,
        cost: u64,
        wakes: &mut [Option<LaneId>; 2],
    ) -> Result<Delivery, Refused> {
        let [closed, filled] = wakes;
        loop {
            let partition = state.machine.route(self.routing).map_err(|error| self.refused(error))?;
            match state.machine.push(partition, record, cost) {
                Ok(pushed) => {
                    *filled = pushed.wake;
                    return Ok(Delivery::new(Arc::clone(pushed.ticket), pushed.index));
                }
                Err(PushError::Closed { wake }) => *closed = closed.or(wake),
                Err(PushError::NeedsBatch { bytes_max, expected }) => {
                    let buffer = self.shared.buffer(expected.max(2 * self.size));
                    let cell = BatchCell::new(Arc::clone(&self.shared.on_failure));
                    let now = self.shared.client.now();
                    let builder = BatchBuilder::with_buffer(bytes_max, buffer);
                    state.machine.open_batch(partition, builder, cell, now);
                    self.shared.arm(state);
                }
                Err(error) => return Err(self.refused(error)),
            }
        }
    }

    fn refused(&self, error: PushError) -> Refused {
        match error {
            PushError::TooLarge { bytes, max } => too_large(bytes, max),
            PushError::TooManyHeaders { max } => Refused::Failed(
                Error::invalid(format!("a message has at most {max} headers")),
                SendFailure::Other,
            ),
            PushError::NoPartition => {
                let text = format!("topic '{}' has no such partition", self.shared.topic);
                let error = Error::broker(ErrorCode::PartitionNotFound, text);
                Refused::Failed(error, SendFailure::Other)
            }
            PushError::NeedsBatch { .. } | PushError::Closed { .. } => Refused::Full,
        }
    }
}
