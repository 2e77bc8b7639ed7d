//! The producer: takes messages, gives receipts.

mod builder;
mod permit;
mod placing;
mod sink;

use std::sync::Arc;
use std::time::Duration;

use crate::client::{ClientHandle, DrainReport};
use crate::core::producer::Why;
use crate::deliveries::Deliveries;
use crate::delivery::Delivery;
use crate::error::{ClientCode, Error};
use crate::failure::{BatchError, BlockedBy, Pressure, SendError, SendFailure, TryEnqueueError};
use crate::message::{Message, Receipt};
use crate::net::publish::ProducerShared;
use crate::net::shared::lock;
use crate::watch::Watch;

pub use builder::ProducerBuilder;
pub use permit::Permit;
use permit::Reservation;
use placing::{Enqueue, Refused};
pub use sink::ProducerSink;

/// Sends messages to one topic. Clones are the same producer.
///
/// Messages with the same key, and messages for the same partition, are stored in the order in which they were taken, also
/// across retries and reconnects. When the last clone is dropped, what was taken is still delivered, as long as the process
/// runs; [`Producer::close`] waits for it.
#[derive(Clone, Debug)]
pub struct Producer(Arc<Handle>);

#[derive(Debug)]
struct Handle {
    shared: Arc<ProducerShared>,
    /// Keeps the connection.
    _client: Arc<ClientHandle>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl Producer {
    fn new(shared: Arc<ProducerShared>, client: Arc<ClientHandle>) -> Self {
        Self(Arc::new(Handle { shared, _client: client }))
    }

    fn shared(&self) -> &Arc<ProducerShared> {
        &self.0.shared
    }

    /// Sends a message and waits for its receipt.
    ///
    /// Waits for room, as [`Producer::enqueue`] does, and then until the broker has stored the message as durably as the
    /// producer was built to ask. It is sent at once if its partition has nothing under way.
    ///
    /// # Errors
    /// The message comes back in the error, with the reason, unless it may be stored: then
    /// [`SendError::is_outcome_unknown`] says so.
    ///
    /// # Cancel safety
    /// If dropped before completion, the message either never left, or is delivered all the same; if it then fails,
    /// `on_failure` is told.
    pub async fn send(&self, message: Message) -> Result<Receipt, SendError> {
        self.enqueue(message).await?.await
    }

    /// Takes a message as soon as there is room for it. The [`Delivery`] returned is its receipt to come.
    ///
    /// Waits in order of arrival while the bound on what is in flight is reached, at most for the delivery time-out.
    ///
    /// # Errors
    /// If the message cannot be sent at all, the producer was closed, the breaker is open, or there was no room in time. The
    /// message comes back in the error.
    ///
    /// # Cancel safety
    /// If dropped before completion the message was not taken, and others get its place in the queue.
    pub fn enqueue(&self, message: Message) -> impl Future<Output = Result<Delivery, SendError>> + Send {
        // Written by hand: in an async function the message would be moved once more, which is felt at millions a second.
        Enqueue { producer: self, message, later: None }
    }

    /// Takes a message if there is room now.
    ///
    /// # Errors
    /// [`TryEnqueueError::Full`] with the message and what stands in the way; [`TryEnqueueError::Failed`] if it cannot be
    /// sent at all.
    pub fn try_enqueue(&self, message: Message) -> Result<Delivery, TryEnqueueError> {
        match self.place(&message, None) {
            Ok(delivery) => Ok(delivery),
            Err(Refused::Full) => Err(TryEnqueueError::Full(Box::new(message), self.pressure())),
            Err(refused) => Err(TryEnqueueError::Failed(self.send_error(refused, message))),
        }
    }

    /// Waits for room for one message of about so many bytes; [`Permit::send`] then takes it without waiting.
    ///
    /// # Errors
    /// As [`Producer::enqueue`], without a message.
    ///
    /// # Cancel safety
    /// If dropped before completion nothing was reserved, and others get its place in the queue.
    pub async fn reserve(&self, bytes: usize) -> Result<Permit<'_>, SendError> {
        let reservation = Reservation::new(self.shared(), bytes).granted().await?;
        Ok(Permit::new(self, reservation))
    }

    /// Takes messages, in their order, as soon as there is room for each; faster than one by one. The [`Deliveries`]
    /// returned are their receipts to come.
    ///
    /// Waits for room as [`Producer::enqueue`] does. A message that cannot be taken does not keep back the others: it fails
    /// through the [`Deliveries`].
    ///
    /// # Cancel safety
    /// If dropped before completion, messages that were taken are delivered all the same; failures go to `on_failure`.
    pub async fn enqueue_all(&self, messages: Vec<Message>) -> Deliveries {
        let mut deliveries = Deliveries::default();
        let mut messages = messages.into_iter();
        while !messages.as_slice().is_empty() {
            let (taken, refused) = self.place_some(messages.as_slice(), &mut deliveries);
            messages.by_ref().take(taken).for_each(drop);
            let Some(refused) = refused else { continue };
            let Some(message) = messages.next() else { break };
            let result = match refused {
                Refused::Full => self.enqueue_later(message).await,
                Refused::Failed(..) | Refused::Ended(_) => Err(self.send_error(refused, message)),
            };
            deliveries.push(result.unwrap_or_else(Delivery::failed));
        }
        deliveries
    }

    /// Sends messages and waits for all their receipts, which come in the order of the input.
    ///
    /// # Errors
    /// What was stored and what was not, if anything was not.
    ///
    /// # Cancel safety
    /// If dropped before completion, messages that were taken are delivered all the same; failures go to `on_failure`.
    pub async fn send_all(&self, messages: Vec<Message>) -> Result<Vec<Receipt>, BatchError> {
        self.enqueue_all(messages).await.await
    }

    /// The fencing token of the name that the producer has claimed: each later holder has a higher one. Whatever is written
    /// elsewhere on behalf of the holder can carry it, so that what an earlier holder does late can be told and refused there.
    /// `None` without a name.
    #[must_use]
    pub fn token(&self) -> Option<u64> {
        self.shared().token
    }

    /// The producer as a sink.
    #[must_use]
    pub fn sink(&self) -> ProducerSink {
        ProducerSink::new(self.clone())
    }

    /// How full the producer is, and why it waits, if it does.
    #[must_use]
    pub fn pressure(&self) -> Pressure {
        pressure(self.shared())
    }

    /// How full the producer is, to be watched. It changes when batches get their results.
    #[must_use]
    pub fn pressure_changes(&self) -> Watch<Pressure> {
        let shared = Arc::clone(self.shared());
        let changes = shared.pressure.subscribe();
        Watch::new(Arc::new(move || pressure(&shared)), changes)
    }

    /// Waits until everything taken so far has its result. What lingers is sent at once.
    ///
    /// # Errors
    /// The last failure, without its message, if anything failed meanwhile.
    ///
    /// # Cancel safety
    /// If dropped before completion nothing changes.
    pub async fn flush(&self) -> Result<(), SendError> {
        let shared = self.shared();
        let (mark, failed) = shared.with(|state, _| (state.machine.flush(), state.failed));
        shared.resolved_below(mark).await;
        let state = lock(&shared.state);
        match &state.last_failure {
            Some((error, reason)) if state.failed > failed => {
                Err(SendError::new(error.clone(), None, reason.clone()))
            }
            _ => Ok(()),
        }
    }

    /// Takes no more messages, waits for the results of those it took, at most so long, and reports. All clones are closed.
    ///
    /// Messages without a result when the time is up are handed back in the report.
    ///
    /// # Cancel safety
    /// If dropped before completion the producer is closed all the same, and goes on delivering; failures go to `on_failure`.
    pub async fn close(self, deadline: Duration) -> DrainReport {
        close(self.shared(), deadline).await
    }

    async fn enqueue_later(&self, message: Message) -> Result<Delivery, SendError> {
        match Reservation::new(self.shared(), message.size()).granted().await {
            Ok(reservation) => self.place_reserved(message, reservation),
            Err(error) => Err(SendError { message: Some(Box::new(message)), ..error }),
        }
    }

    fn place_reserved(&self, message: Message, mut reservation: Reservation) -> Result<Delivery, SendError> {
        let cost = reservation.cost();
        match self.place(&message, Some(cost)) {
            Ok(delivery) => {
                reservation.used();
                Ok(delivery)
            }
            Err(refused) => Err(self.send_error(refused, message)),
        }
    }

    fn send_error(&self, refused: Refused, message: Message) -> SendError {
        match refused {
            Refused::Full => SendError::new(
                Error::client(ClientCode::Timeout, "no room"),
                Some(message),
                SendFailure::Other,
            ),
            Refused::Failed(error, reason) => SendError::new(error, Some(message), reason),
            Refused::Ended(why) => self.shared().closed_error(&why, Some(message)),
        }
    }
}

fn pressure(shared: &ProducerShared) -> Pressure {
    let is_circuit_open = shared.client.circuit_error().is_some();
    let now = shared.client.now();
    let state = lock(&shared.state);
    let blocked = state.machine.blocked();
    let window = &state.machine.window;
    Pressure {
        in_flight_messages: window.messages(),
        in_flight_bytes: window.bytes(),
        waiting_callers: u32::try_from(window.waiting()).unwrap_or(u32::MAX),
        server_credit_bytes: state.machine.credit(),
        blocked_by: blocked.map(|(cause, _)| {
            let is_breaker = is_circuit_open && cause == BlockedBy::Disconnected;
            if is_breaker { BlockedBy::CircuitOpen } else { cause }
        }),
        blocked_for: blocked.map_or(Duration::ZERO, |(_, since)| now.since(since)),
    }
}

/// Closes a producer and waits for its results, at most so long.
pub(crate) async fn close(shared: &ProducerShared, deadline: Duration) -> DrainReport {
    let until = shared.client.now().after(deadline);
    shared.close();
    let mark = shared.with(|state, _| state.machine.flush());
    let timed_out = tokio::select! {
        () = shared.resolved_below(mark) => false,
        () = shared.client.sleep_until(until) => true,
    };
    if timed_out {
        shared.with(|state, _| state.undelivered = Some(Vec::new()));
    }
    shared.end(if timed_out { &Why::TimedOut } else { &Why::Closed });
    let mut state = lock(&shared.state);
    DrainReport {
        delivered: state.delivered,
        failed: state.failed,
        undelivered: state.undelivered.take().unwrap_or_default(),
        acks_flushed: 0,
        timed_out,
    }
}
