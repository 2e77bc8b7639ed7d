//! What happens to a consumer beside records.

use tokio::sync::broadcast::{self, error::RecvError};

use crate::core::consumer::Missing;

/// Something that happened beside records.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum ConsumerEvent {
    /// The connection was lost; reading goes on when it is back.
    Reconnecting,
    /// The connection is back.
    Reconnected,
    /// A partition was leased to this member of a group.
    Assigned(u32),
    /// A partition was given back, as it was asked for.
    Revoked(u32),
    /// A lease has ended before its partition was given back.
    Lost(u32),
    /// Offsets that will not come. Told when reading goes past them.
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
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum GapReason {
    /// They were removed by retention or trimming.
    Retention,
    /// Their records are damaged on disk.
    Corrupt,
    /// Their records do not count: they are duplicates.
    Void,
    /// Their records are older than they said they are worth delivering.
    Expired,
}

impl From<Missing> for ConsumerEvent {
    fn from(missing: Missing) -> Self {
        use weir_protocol::message::GapReason as Wire;
        let reason = match missing.reason {
            Wire::Retention => GapReason::Retention,
            Wire::Corrupt => GapReason::Corrupt,
        };
        let (partition, from, to) = (missing.partition.get(), missing.from.get(), missing.to.get());
        Self::Gap { partition, from, to, reason }
    }
}

/// The events of a consumer, from the moment of asking for them.
#[derive(Debug)]
pub struct ConsumerEvents(broadcast::Receiver<ConsumerEvent>);

impl ConsumerEvents {
    pub(super) const fn new(events: broadcast::Receiver<ConsumerEvent>) -> Self {
        Self(events)
    }

    /// The next event. Waits until there is one; `None` once the consumer is gone.
    ///
    /// # Cancel safety
    /// If dropped before completion no event is lost.
    pub async fn recv(&mut self) -> Option<ConsumerEvent> {
        match self.0.recv().await {
            Ok(event) => Some(event),
            Err(RecvError::Lagged(count)) => Some(ConsumerEvent::Missed(count)),
            Err(RecvError::Closed) => None,
        }
    }
}
