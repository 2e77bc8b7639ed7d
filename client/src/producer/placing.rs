//! The way of a message into its batch: under one short lock, in the caller's thread.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, MutexGuard};
use std::task::{Context, Poll};
use std::time::SystemTime;

use weir_protocol::ErrorCode;
use weir_protocol::batch::{BatchBuilder, Expectation, RecordInput, TableRow};
use weir_protocol::limits::{IDEMPOTENCY_KEY_BYTES_MAX, NUMBER_MAX};
use weir_protocol::partitioner::routing_hash;
use weir_protocol::units::{PartitionId, Timestamp};

use crate::core::fingerprint::{fingerprint, record_key};
use crate::core::producer::{LaneId, PushError, Routing, Why};
use crate::deliveries::Deliveries;
use crate::delivery::{BatchCell, Delivery};
use crate::error::{ClientCode, Error};
use crate::failure::{SendError, SendFailure};
use crate::message::{Expect, Message, timestamp};
use crate::net::lane::LANES_MAX;
use crate::net::publish::{ProducerShared, State};
use crate::net::shared::lock;
use crate::producer::Producer;

/// Headers that are put into a batch without an allocation.
const HEADERS_ON_STACK: usize = 8;

/// Messages, and about how many bytes of them, that are put into batches under one lock: some microseconds.
const LOCKED_MESSAGES: usize = 64;
const LOCKED_BYTES: usize = 64 << 10;

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

impl Producer {
    /// Puts a message into its batch. `reserved` is the room it has been given already.
    pub(super) fn place(&self, message: &Message, reserved: Option<u64>) -> Result<Delivery, Refused> {
        self.check_circuit()?;
        let shared = self.shared();
        let (routing, row) = check(message, shared)?;
        let created = timestamp(message.create_time.unwrap_or_else(SystemTime::now));
        let mut placing = Placing::begin(shared);
        let placed = with_record(message, row, created, |record| {
            let (cell, index) = placing.push(routing, message.size(), reserved, record)?;
            Ok(Delivery::new(Arc::clone(cell), index))
        });
        placing.end();
        placed
    }

    /// Puts messages into their batches until one is refused, or as many as one lock should be held for. Says how many, and
    /// why the next was refused.
    pub(super) fn place_some(
        &self,
        messages: &[Message],
        deliveries: &mut Deliveries,
    ) -> (usize, Option<Refused>) {
        if let Err(refused) = self.check_circuit() {
            return (0, Some(refused));
        }
        let shared = self.shared();
        let now = timestamp(SystemTime::now());
        let mut bytes = 0;
        let mut placing = Placing::begin(shared);
        let mut place = |message: &Message| {
            let (routing, row) = check(message, shared)?;
            let created = message.create_time.map_or(now, timestamp);
            with_record(message, row, created, |record| {
                let (cell, index) = placing.push(routing, message.size(), None, record)?;
                deliveries.add(cell, index);
                bytes += message.size();
                Ok(bytes < LOCKED_BYTES)
            })
        };
        let mut taken = 0;
        let mut refused = None;
        for message in messages.iter().take(LOCKED_MESSAGES) {
            match place(message) {
                Ok(goes_on) => {
                    taken += 1;
                    if !goes_on {
                        break;
                    }
                }
                Err(why) => {
                    refused = Some(why);
                    break;
                }
            }
        }
        placing.end();
        (taken, refused)
    }

    fn check_circuit(&self) -> Result<(), Refused> {
        match self.shared().client.circuit_error() {
            None => Ok(()),
            Some(error) => {
                let retry_after = error.retry_after().unwrap_or_default();
                Err(Refused::Failed(error, SendFailure::CircuitOpen { retry_after }))
            }
        }
    }
}

/// Hands on what of a message goes into a batch.
fn with_record<R>(
    message: &Message,
    row: TableRow<'_>,
    created: Timestamp,
    use_record: impl FnOnce(&RecordInput<'_>) -> R,
) -> R {
    let (key, value) = (message.key.as_deref(), message.value.as_deref());
    let record = RecordInput { create_time: created, key, value, headers: &[], row };
    match message.headers.len() {
        0 => use_record(&record),
        count @ 1..=HEADERS_ON_STACK => {
            let mut headers: [(&str, Option<&[u8]>); HEADERS_ON_STACK] = Default::default();
            for (slot, (name, value)) in headers.iter_mut().zip(&message.headers) {
                *slot = (name.as_str(), value.as_deref());
            }
            let (headers, _) = headers.split_at(count);
            use_record(&RecordInput { headers, ..record })
        }
        _ => {
            let headers: Vec<(&str, Option<&[u8]>)> =
                message.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
            use_record(&RecordInput { headers: &headers, ..record })
        }
    }
}

/// What a message must be; and how it finds its partition.
fn check<'a>(message: &'a Message, shared: &ProducerShared) -> Result<(Routing, TableRow<'a>), Refused> {
    if message.size() > shared.record_bytes_max {
        return Err(too_large(message.size(), shared.record_bytes_max));
    }
    let mut row = TableRow::default();
    if shared.keyed_versions {
        row.record_key = Some(message.key.as_deref().map_or([0; 16], record_key));
    }
    if let Some(expect) = message.expect {
        row.expectation = Some(checked(expect, message)?);
        row.record_key = row.record_key.or_else(|| message.key.as_deref().map(record_key));
    }
    let routing_key = message.key.as_deref().or(message.idempotency_key.as_deref());
    let hash = routing_key.map(routing_hash);
    if let Some(key) = message.idempotency_key.as_deref() {
        if !(1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&key.len()) {
            let text =
                format!("an idempotency key has 1 to {IDEMPOTENCY_KEY_BYTES_MAX} bytes, not {}", key.len());
            return Err(Refused::Failed(Error::broker(ErrorCode::KeyInvalid, text), SendFailure::Other));
        }
        let headers = message.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref()));
        row.idempotency_key = Some(key);
        row.routing_hash = hash.unwrap_or(0);
        row.key_time = message.idempotency_time.map(timestamp);
        row.fingerprint = fingerprint(routing_key, message.value.as_deref(), headers);
    }
    let routing = match (message.partition, hash) {
        (Some(partition), _) => Routing::Partition(PartitionId::new(partition)),
        (None, Some(hash)) => Routing::Hash(hash),
        (None, None) => Routing::Any,
    };
    Ok((routing, row))
}

/// What a message expects, if it can be said of it.
fn checked(expect: Expect, message: &Message) -> Result<Expectation, Refused> {
    let expectation = expect.to_wire();
    let problem = if expectation.is_of_key() && message.key.is_none() {
        "a message that expects something of its key has a key".to_owned()
    } else if expect.offset() > NUMBER_MAX {
        format!("{} is no offset", expect.offset())
    } else {
        return Ok(expectation);
    };
    Err(Refused::Failed(Error::invalid(problem), SendFailure::Other))
}

fn too_large(bytes: usize, limit: usize) -> Refused {
    let text = format!("a message of {bytes} bytes exceeds the limit of {limit} bytes");
    Refused::Failed(Error::client(ClientCode::TooLarge, text), SendFailure::TooLarge { limit })
}

/// Messages are put into their batches under one lock. Long messages are copied in it, so nobody may hold it for many.
pub(super) struct Placing<'a> {
    shared: &'a ProducerShared,
    state: MutexGuard<'a, State>,
    /// The lanes that have something to send now and had not before, a bit for each.
    wakes: u64,
}

const _: () = assert!(LANES_MAX <= u64::BITS, "there is a bit for each lane");

impl<'a> Placing<'a> {
    pub(super) fn begin(shared: &'a ProducerShared) -> Self {
        Self { shared, state: lock(&shared.state), wakes: 0 }
    }

    /// Puts a record into a batch. `reserved` is the room it has been given already. Returns the batch and the record's
    /// number in it.
    pub(super) fn push(
        &mut self,
        routing: Routing,
        size: usize,
        reserved: Option<u64>,
        record: &RecordInput<'_>,
    ) -> Result<(&Arc<BatchCell>, u32), Refused> {
        if let Some(why) = &self.state.closing {
            return Err(Refused::Ended(why.clone()));
        }
        let window = &mut self.state.machine.window;
        let cost = window.cost(size);
        match reserved {
            Some(reserved) if reserved != cost => window.adjust(reserved, cost),
            Some(_) => {}
            None if window.try_reserve(cost) => {}
            None => return Err(Refused::Full),
        }
        match self.push_reserved(routing, size, cost, record) {
            Ok((partition, index)) => {
                let ticket = self.state.machine.newest_ticket(partition);
                Ok((ticket.expect("a batch that takes records is awaited"), index))
            }
            Err(refused) => {
                let window = &mut self.state.machine.window;
                match reserved {
                    // The reservation gives back what it took.
                    Some(reserved) => window.adjust(cost, reserved),
                    None => window.release(cost, 1),
                }
                Err(refused)
            }
        }
    }

    fn push_reserved(
        &mut self,
        routing: Routing,
        size: usize,
        cost: u64,
        record: &RecordInput<'_>,
    ) -> Result<(PartitionId, u32), Refused> {
        loop {
            let machine = &mut self.state.machine;
            let partition = match machine.route(routing) {
                Ok(partition) => partition,
                Err(error) => return Err(self.refused(error)),
            };
            match machine.push(partition, record, cost) {
                Ok(pushed) => {
                    self.wake(pushed.wake);
                    return Ok((partition, pushed.index));
                }
                Err(PushError::Closed { wake }) => self.wake(wake),
                Err(PushError::NeedsBatch { bytes_max, expected }) => {
                    let buffer = self.shared.buffer(expected.max(2 * size));
                    let cell = BatchCell::new(Arc::clone(&self.shared.on_failure));
                    let now = self.shared.client.now();
                    let builder = BatchBuilder::with_buffer(bytes_max, buffer);
                    machine.open_batch(partition, builder, cell, now);
                    self.shared.arm(&mut self.state);
                }
                Err(error) => return Err(self.refused(error)),
            }
        }
    }

    fn wake(&mut self, lane: Option<LaneId>) {
        if let Some(LaneId(lane)) = lane {
            self.wakes |= 1 << lane;
        }
    }

    /// Gives the lock back, then tells everybody who has to know.
    pub(super) fn end(self) {
        let Self { shared, state, mut wakes } = self;
        let has_news = state.machine.window.has_news();
        drop(state);
        if has_news {
            // Less was needed than reserved: the difference may be what somebody waits for.
            shared.with(|_, _| ());
        }
        while wakes != 0 {
            let lane = wakes.trailing_zeros();
            wakes &= wakes - 1;
            shared.wake_lane(LaneId(lane));
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
