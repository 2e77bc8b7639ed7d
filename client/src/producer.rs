//! Producer.

use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_sink::Sink;

use crate::client::DrainReport;
use crate::delivery::Delivery;
use crate::error::{BatchError, Error, Pressure, SendError, TryEnqueueError};
use crate::message::{Message, Receipt};
use crate::options::{Compression, Durability, Retry};
use crate::watch::Watch;

/// Chooses how a [`Producer`] works.
#[derive(Debug)]
pub struct ProducerBuilder {}

impl ProducerBuilder {
    pub(crate) fn new(_topic: &str) -> Self {
        Self {}
    }
    /// Least time a batch waits for more records; none by default.
    #[must_use]
    pub fn linger(self, _time: Duration) -> Self {
        self
    }
    /// Largest batch. 256 KiB and 65,536 messages by default.
    #[must_use]
    pub fn max_batch(self, _bytes: usize, _messages: usize) -> Self {
        self
    }
    /// Bound on what has no result. 32 MiB and 500,000 messages by default.
    #[must_use]
    pub fn max_in_flight(self, _bytes: usize, _messages: usize) -> Self {
        self
    }
    /// What a receipt shall promise. `Durable` by default.
    #[must_use]
    pub fn durability(self, _durability: Durability) -> Self {
        self
    }
    /// Compression of batches. None by default.
    #[must_use]
    pub fn compression(self, _compression: Compression) -> Self {
        self
    }
    /// Longest time from taking a message to its result. 2 min by default.
    #[must_use]
    pub fn delivery_timeout(self, _time: Duration) -> Self {
        self
    }
    /// Called with each message that failed and whose `Delivery` had been dropped.
    #[must_use]
    pub fn on_failure(self, _report: impl Fn(SendError) + Send + Sync + 'static) -> Self {
        self
    }
    /// When to send again what the broker could not take.
    #[must_use]
    pub fn retry(self, _retry: Retry) -> Self {
        self
    }
    /// Makes it.
    pub async fn build(self) -> Result<Producer, Error> {
        Err(Error::closed("client"))
    }
}

/// Sends messages to a topic. Clones are the same producer.
#[derive(Clone, Debug)]
pub struct Producer {}

impl Producer {
    /// Sends a message and waits for its receipt.
    pub async fn send(&self, message: Message) -> Result<Receipt, SendError> {
        Err(SendError::closed(Some(message)))
    }
    /// Waits for room only.
    pub async fn enqueue(&self, message: Message) -> Result<Delivery, SendError> {
        Err(SendError::closed(Some(message)))
    }
    /// Does not wait.
    pub fn try_enqueue(&self, message: Message) -> Result<Delivery, TryEnqueueError> {
        Err(TryEnqueueError::Failed(SendError::closed(Some(message))))
    }
    /// Waits for room for one message of so many bytes.
    pub async fn reserve(&self, _bytes: usize) -> Result<Permit<'_>, SendError> {
        Err(SendError::closed(None))
    }
    /// Sends all and waits for all receipts.
    pub async fn send_all(&self, _batch: Vec<Message>) -> Result<Vec<Receipt>, BatchError> {
        Err(BatchError { accepted: Vec::new(), failed: Vec::new() })
    }
    /// As a sink.
    pub fn sink(&self) -> ProducerSink {
        ProducerSink {}
    }
    /// How full it is.
    pub fn pressure(&self) -> Pressure {
        Pressure {
            in_flight_messages: 0,
            in_flight_bytes: 0,
            waiting_callers: 0,
            server_credit_bytes: 0,
            blocked_by: None,
            blocked_for: Duration::ZERO,
        }
    }
    /// How full it is, to watch.
    pub fn pressure_changes(&self) -> Watch<Pressure> {
        let (_, changes) = tokio::sync::watch::channel(());
        let own = self.clone();
        Watch::new(std::sync::Arc::new(move || own.pressure()), changes)
    }
    /// Waits until everything taken so far has its result.
    pub async fn flush(&self) -> Result<(), SendError> {
        Err(SendError::closed(None))
    }
    /// Takes no more, waits for the results, at most so long.
    pub async fn close(self, _deadline: Duration) -> DrainReport {
        DrainReport::default()
    }
}

/// Room for one message.
#[derive(Debug)]
pub struct Permit<'a>(PhantomData<&'a Producer>);

impl Permit<'_> {
    /// Uses it.
    pub fn send(self, _message: Message) -> Delivery {
        Delivery {}
    }
}

/// A producer as a sink.
#[derive(Debug)]
pub struct ProducerSink {}

impl Sink<Message> for ProducerSink {
    type Error = SendError;
    fn poll_ready(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        Poll::Ready(Ok(()))
    }
    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), SendError> {
        Err(SendError::closed(Some(message)))
    }
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        Poll::Ready(Ok(()))
    }
    fn poll_close(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        Poll::Ready(Ok(()))
    }
}
