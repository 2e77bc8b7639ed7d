//! Consumer.

use std::num::NonZeroU32;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;

use crate::checkpoint::Checkpoint;
use crate::client::DrainReport;
use crate::error::Error;
use crate::message::Delivered;
use crate::options::Start;
use crate::watch::Watch;

/// Chooses what a [`Consumer`] reads.
#[derive(Clone, Debug)]
pub struct ConsumerBuilder {}

impl ConsumerBuilder {
    pub(crate) fn new(_topic: &str) -> Self {
        Self {}
    }
    /// Only these partitions; all by default.
    #[must_use]
    pub fn partitions(self, _partitions: impl IntoIterator<Item = u32>) -> Self {
        self
    }
    /// Where to start; `Latest` by default.
    #[must_use]
    pub fn start(self, _start: Start) -> Self {
        self
    }
    /// How much is read ahead.
    #[must_use]
    pub fn credit(self, _messages: NonZeroU32, _bytes: usize) -> Self {
        self
    }
    /// Starts reading, without an end.
    pub async fn subscribe(self) -> Result<Consumer, Error> {
        Err(Error::closed("client"))
    }
    /// Reads to the end seen at the start.
    pub async fn read_to_end(self) -> Result<BoundedRead, Error> {
        Err(Error::closed("client"))
    }
}

/// Reads a topic. Never ends by itself and goes on after a lost connection.
#[derive(Debug)]
pub struct Consumer {}

/// Reads a topic up to the end seen at the start.
#[derive(Debug)]
pub struct BoundedRead {}

/// What happens to a consumer beside records.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum ConsumerEvent {
    /// The connection was lost.
    Reconnecting,
    /// Reading goes on.
    Reconnected,
    /// Offsets that will not come.
    Gap {
        /// The partition.
        partition: u32,
        /// First missing offset.
        from: u64,
        /// The offset after the last missing one.
        to: u64,
        /// Why.
        reason: GapReason,
    },
    /// So many events were not looked at in time and are gone.
    Missed(u64),
}

/// Why offsets are missing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum GapReason {
    /// Removed by retention or trimming.
    Retention,
    /// Damaged on disk.
    Corrupt,
    /// Records that do not count, such as duplicates.
    Void,
}

/// The events of a consumer.
#[derive(Debug)]
pub struct ConsumerEvents {}

impl ConsumerEvents {
    /// The next event; `None` once the consumer is gone.
    pub async fn recv(&mut self) -> Option<ConsumerEvent> {
        None
    }
}

macro_rules! reads {
    ($name:ident) => {
        impl $name {
            /// The next record.
            pub async fn recv(&mut self) -> Option<Result<Delivered, Error>> {
                None
            }
            /// Up to `max` records: as soon as there are some, or none after `wait`.
            pub async fn recv_batch(
                &mut self,
                _max: usize,
                _wait: Duration,
            ) -> Result<Vec<Delivered>, Error> {
                Err(Error::closed("client"))
            }
            /// As `recv_batch`, into a vector that is there already. Returns how many were added.
            pub async fn recv_into(
                &mut self,
                _records: &mut Vec<Delivered>,
                _max: usize,
                _wait: Duration,
            ) -> Result<usize, Error> {
                Err(Error::closed("client"))
            }
            /// What happens beside records.
            pub fn events(&self) -> ConsumerEvents {
                ConsumerEvents {}
            }
            /// Positions of all partitions after what was received.
            pub fn checkpoint(&self) -> Checkpoint {
                Checkpoint::default()
            }
            /// Records of each partition that are there and have not been received.
            pub fn lag(&self) -> Watch<Vec<(u32, u64)>> {
                let (_, changes) = tokio::sync::watch::channel(());
                Watch::new(std::sync::Arc::new(Vec::new), changes)
            }
        }

        impl Stream for $name {
            type Item = Result<Delivered, Error>;
            fn poll_next(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
                Poll::Ready(None)
            }
        }
    };
}

reads!(Consumer);
reads!(BoundedRead);

impl BoundedRead {
    /// Whether everything up to the end seen at the start was received.
    pub fn is_finished(&self) -> bool {
        true
    }
}

impl Consumer {
    /// Moves to another position.
    pub async fn seek(&mut self, _start: Start) -> Result<(), Error> {
        Err(Error::closed("client"))
    }
    /// Stops giving out records.
    pub fn pause(&self) {}
    /// Goes on.
    pub fn resume(&self) {}
    /// Ends reading.
    pub async fn drain(self, _deadline: Duration) -> DrainReport {
        DrainReport::default()
    }
}
