//! What comes back of messages that have no receipt, and what a producer waits for.

use std::fmt;
use std::time::Duration;

use crate::error::{Class, Error};
use crate::message::{Message, Receipt};

/// Why a message has no receipt.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum SendFailure {
    /// It fits no batch of this topic.
    TooLarge {
        /// Bytes a batch of the topic may have.
        limit: usize,
    },
    /// Its idempotency key belongs to another record, with another payload.
    IdempotencyConflict {
        /// Where that one is.
        original: Receipt,
    },
    /// Its idempotency key is older than the topic remembers keys: nobody can tell whether it was stored.
    IdempotencyExpired,
    /// The broker has no room to remember its idempotency key now.
    DedupFull,
    /// What it expected is not so.
    Expectation {
        /// What is so: the next offset of its partition, or the offset of the last record with its key; `None` if there never
        /// was one.
        actual: Option<u64>,
    },
    /// The broker has no room to remember the version of its key now.
    VersionsFull,
    /// No answer came in time.
    DeliveryTimeout {
        /// How often it was sent.
        attempts: u32,
        /// Whether it may be stored all the same.
        outcome_unknown: bool,
    },
    /// The broker asked to wait longer than the message may take.
    Throttled {
        /// How long it asked to wait.
        retry_after: Duration,
    },
    /// The circuit breaker is open.
    CircuitOpen {
        /// When the breaker tries again.
        retry_after: Duration,
    },
    /// The producer or the client has been closed.
    Closed,
    /// Anything else: see the error.
    Other,
}

/// A message that was not sent, or whose fate is not known; with the message, where it could be kept.
#[derive(Debug)]
pub struct SendError {
    /// What went wrong.
    pub error: Error,
    /// The message. `None` where none belongs to the failure (such as in `flush`).
    pub message: Option<Box<Message>>,
    /// What went wrong, for programs.
    pub reason: SendFailure,
}

impl SendError {
    pub(crate) fn new(error: Error, message: Option<Message>, reason: SendFailure) -> Self {
        Self { error, message: message.map(Box::new), reason }
    }

    pub(crate) fn closed(message: Option<Message>) -> Self {
        Self::new(Error::closed("producer"), message, SendFailure::Closed)
    }

    /// Whether the message may be stored although there is no receipt.
    #[must_use]
    pub fn is_outcome_unknown(&self) -> bool {
        self.error.class() == Class::OutcomeUnknown
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for SendError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// Why [`Producer::try_enqueue`](crate::Producer::try_enqueue) did not take a message.
#[derive(Debug)]
pub enum TryEnqueueError {
    /// There is no room now. Here is the message, and what stands in the way.
    Full(Box<Message>, Pressure),
    /// The message cannot be sent.
    Failed(SendError),
}

impl fmt::Display for TryEnqueueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(_, pressure) => {
                let bytes = pressure.in_flight_bytes;
                write!(f, "no room: {} messages, {bytes} bytes in flight", pressure.in_flight_messages)
            }
            Self::Failed(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for TryEnqueueError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Full(..) => None,
            Self::Failed(error) => Some(error),
        }
    }
}

/// Some messages of [`Producer::send_all`](crate::Producer::send_all) have no receipt.
#[derive(Debug)]
pub struct BatchError {
    /// Receipts of those that landed, in order of the input.
    pub accepted: Vec<Receipt>,
    /// The others, in order of the input.
    pub failed: Vec<SendError>,
}

impl fmt::Display for BatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.accepted.len() + self.failed.len();
        write!(f, "{} of {all} messages were not delivered", self.failed.len())?;
        match self.failed.first() {
            Some(first) => write!(f, "; the first: {first}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for BatchError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.failed.first().map(|first| first as &(dyn std::error::Error + 'static))
    }
}

/// What a producer waits for.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum BlockedBy {
    /// Its own bound on what is in flight.
    LocalBuffer,
    /// The broker has granted no more bytes.
    ServerCredit,
    /// The broker enforces a quota.
    Quota,
    /// The broker has no space to store anything.
    StorageFull,
    /// There is no connection.
    Disconnected,
    /// The circuit breaker is open.
    CircuitOpen,
}

/// How full a producer is, and why it waits.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Pressure {
    /// Messages accepted that have no result yet.
    pub in_flight_messages: u64,
    /// Their bytes.
    pub in_flight_bytes: u64,
    /// Callers that wait for room.
    pub waiting_callers: u32,
    /// Bytes the broker would take at once.
    pub server_credit_bytes: u64,
    /// What it waits for, if it waits.
    pub blocked_by: Option<BlockedBy>,
    /// For how long it has waited.
    pub blocked_for: Duration,
}
