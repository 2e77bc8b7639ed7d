//! The two ways to read: for ever, and to the end seen at the start.

use std::time::Duration;

use weir_client::{BoundedRead, Consumer, ConsumerEvents, Delivered, Error};

/// A consumer of either kind.
#[derive(Debug)]
pub(crate) enum Reading {
    /// Waits for more.
    Endless(Consumer),
    /// Ends.
    Bounded(BoundedRead),
}

impl Reading {
    /// Adds up to `max` records, as soon as there are some or `wait` is over.
    pub(crate) async fn recv_into(
        &mut self,
        records: &mut Vec<Delivered>,
        max: usize,
        wait: Duration,
    ) -> Result<usize, Error> {
        match self {
            Self::Endless(consumer) => consumer.recv_into(records, max, wait).await,
            Self::Bounded(read) => read.recv_into(records, max, wait).await,
        }
    }

    /// Whether there is nothing more to come.
    pub(crate) fn is_finished(&self) -> bool {
        match self {
            Self::Endless(_) => false,
            Self::Bounded(read) => read.is_finished(),
        }
    }

    /// Ends reading; a member of a group leaves it.
    pub(crate) async fn finish(self, within: Duration) {
        match self {
            Self::Endless(consumer) => drop(consumer.drain(within).await),
            Self::Bounded(_) => {}
        }
    }

    /// What happens beside records.
    pub(crate) fn events(&self) -> ConsumerEvents {
        match self {
            Self::Endless(consumer) => consumer.events(),
            Self::Bounded(read) => read.events(),
        }
    }
}
