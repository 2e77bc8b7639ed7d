//! Messages: what goes in, the receipt that comes back, what comes out.

use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use weir_protocol::batch::{Expectation, Record};
use weir_protocol::lifetime::{LIFETIME_HEADER, lifetime_value};
use weir_protocol::units::{Durability, Epoch, Offset, Timestamp, TopicId};

use crate::checkpoint::Checkpoint;

/// A message: what is sent, and what a delivery carries.
///
/// ```
/// use weir_client::Message;
///
/// let message = Message::new("paid").key("order-7").header("trace", "af31");
/// assert_eq!(message.value.as_deref(), Some(&b"paid"[..]));
/// assert!(Message::tombstone("order-7").value.is_none());
/// ```
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Message {
    /// What it is about. Messages with one key go to one partition and keep their order.
    pub key: Option<Bytes>,
    /// Its payload. `None` is a statement (a tombstone), not an empty payload.
    pub value: Option<Bytes>,
    /// Named values beside the payload; names may repeat.
    pub headers: Vec<(String, Option<Bytes>)>,
    /// Key under which a retry will be recognised: 1 to 64 bytes.
    pub idempotency_key: Option<Bytes>,
    /// When that key was made, if it should not be stored later than the topic remembers keys. A key that is a UUID of version 7, as
    /// text, says it itself.
    pub idempotency_time: Option<SystemTime>,
    /// The partition it must go to; `None` leaves the choice to the key.
    pub partition: Option<u32>,
    /// What must be so for it to be stored.
    pub expect: Option<Expect>,
    /// When it was made; `None` for the moment of sending. Kept to the millisecond.
    pub create_time: Option<SystemTime>,
}

impl Message {
    /// A message with a payload.
    pub fn new(value: impl Into<Bytes>) -> Self {
        Self { value: Some(value.into()), ..Self::default() }
    }

    /// A message that says that what `key` names is gone.
    pub fn tombstone(key: impl Into<Bytes>) -> Self {
        Self { key: Some(key.into()), ..Self::default() }
    }

    /// Sets what it is about.
    #[must_use]
    pub fn key(mut self, key: impl Into<Bytes>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Adds a named value.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<Bytes>) -> Self {
        self.headers.push((name.to_owned(), Some(value.into())));
        self
    }

    /// Sets for how long after the broker has appended it the message is worth delivering: milliseconds, at least 1. Consumers leave
    /// out what is older by their own clock, with a gap of the reason [`GapReason::Expired`](crate::GapReason::Expired), and a
    /// group counts it as settled. It is kept in the header `weir-lifetime-ms`.
    #[must_use]
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.headers.retain(|(name, _)| name != LIFETIME_HEADER);
        self.header(LIFETIME_HEADER, lifetime_value(lifetime))
    }

    /// Sets the key under which a retry will be recognised.
    #[must_use]
    pub fn idempotency_key(mut self, key: impl Into<Bytes>) -> Self {
        self.idempotency_key = Some(key.into());
        self
    }

    /// Sets the key under which a retry will be recognised, and when it was made: if that is longer ago than the topic remembers keys,
    /// and the key is not remembered, the message is refused with `WEIR-3012`. Without it, it would be stored once more.
    #[must_use]
    pub fn idempotency_key_at(mut self, key: impl Into<Bytes>, time: SystemTime) -> Self {
        self.idempotency_time = Some(time);
        self.idempotency_key(key)
    }

    /// Sets the partition it must go to.
    #[must_use]
    pub const fn partition(mut self, partition: u32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// Sets what must be so for it to be stored.
    #[must_use]
    pub const fn expect(mut self, expect: Expect) -> Self {
        self.expect = Some(expect);
        self
    }

    /// Sets when it was made.
    #[must_use]
    pub const fn create_time(mut self, time: SystemTime) -> Self {
        self.create_time = Some(time);
        self
    }

    /// Bytes of key, value, headers and idempotency key: what it counts for in bounds on bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + length(value)).sum();
        length(&self.key) + length(&self.value) + length(&self.idempotency_key) + headers
    }
}

/// What must be so at the moment a message would be appended, for it to be stored. What was taken before it counts, whoever
/// sent it, even if it is not acknowledged yet.
///
/// If it is not so, the message alone is refused: with [`SendFailure::Expectation`](crate::SendFailure::Expectation), which
/// says what is so instead.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Expect {
    /// The next offset of its partition is this one: it will be the message's own. Such a message begins a batch.
    PartitionAt(u64),
    /// The last record with its key stands at this offset. The topic must keep versions of keys, and the message have a key.
    KeyAt(u64),
    /// There never was a record with its key. The topic must keep versions of keys, and the message have a key.
    KeyAbsent,
}

impl Expect {
    pub(crate) const fn to_wire(self) -> Expectation {
        match self {
            Self::PartitionAt(offset) => Expectation::PartitionAt(Offset::new(offset)),
            Self::KeyAt(offset) => Expectation::KeyAt(Offset::new(offset)),
            Self::KeyAbsent => Expectation::KeyAbsent,
        }
    }

    pub(crate) const fn from_wire(expectation: Expectation) -> Self {
        match expectation {
            Expectation::PartitionAt(offset) => Self::PartitionAt(offset.get()),
            Expectation::KeyAt(offset) => Self::KeyAt(offset.get()),
            Expectation::KeyAbsent => Self::KeyAbsent,
        }
    }

    /// The largest offset it names.
    pub(crate) const fn offset(self) -> u64 {
        match self {
            Self::PartitionAt(offset) | Self::KeyAt(offset) => offset,
            Self::KeyAbsent => 0,
        }
    }
}

/// Proof that a message was stored.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Receipt {
    /// The partition it went to.
    pub partition: u32,
    /// Its number there.
    pub offset: u64,
    /// When the broker appended it.
    pub timestamp: SystemTime,
    /// It had been stored before, by an earlier try.
    pub duplicate: bool,
    /// What has been reached: never more than the truth.
    pub durability: Durability,
}

/// A record that was read.
///
/// Its bytes are slices of the frame they came in (up to the topic's largest batch and more): copy what you keep for
/// long.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Delivered {
    /// Name of the topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: u32,
    /// Its number in the partition.
    pub offset: u64,
    /// When the broker appended it.
    pub timestamp: SystemTime,
    /// Which attempt at the record this is, from 1: one more for each time that it failed in its group or came back. Always 1
    /// without a group.
    pub attempt: u32,
    /// What was sent; `partition` and `create_time` in it are set.
    pub message: Message,
    pub(crate) topic_id: TopicId,
    pub(crate) partition_epoch: Epoch,
    /// Where it is settled, if it came to a member of a group.
    #[cfg(feature = "net")]
    pub(crate) leased: Option<crate::consumer::Leased>,
}

impl Delivered {
    /// When it was made, as its producer says.
    #[must_use]
    pub fn create_time(&self) -> SystemTime {
        self.message.create_time.unwrap_or(self.timestamp)
    }

    /// The position after this record: from there reading goes on without it.
    #[must_use]
    pub fn checkpoint(&self) -> Checkpoint {
        Checkpoint::of(self.topic_id, self.partition, self.offset + 1, self.partition_epoch)
    }
}

impl Deref for Delivered {
    type Target = Message;

    fn deref(&self) -> &Message {
        &self.message
    }
}

/// A record as a message, made at this moment.
pub(crate) fn from_record(record: Record, created: SystemTime) -> Message {
    let headers = if record.headers.count() == 0 {
        Vec::new()
    } else {
        record.headers.iter().map(|header| (header.key, header.value)).collect()
    };
    Message {
        key: record.key,
        value: record.value,
        headers,
        idempotency_key: None,
        idempotency_time: None,
        partition: None,
        expect: None,
        create_time: Some(created),
    }
}

/// The wire's moment as the standard library's.
pub(crate) fn system_time(timestamp: Timestamp) -> SystemTime {
    let micros = timestamp.as_micros();
    let distance = Duration::from_micros(micros.unsigned_abs());
    let moment = if micros < 0 { UNIX_EPOCH.checked_sub(distance) } else { UNIX_EPOCH.checked_add(distance) };
    moment.unwrap_or(UNIX_EPOCH)
}

/// The standard library's moment as the wire's.
pub(crate) fn timestamp(time: SystemTime) -> Timestamp {
    // Not through `as_micros`: its 128 bits are felt here, once for each message.
    let micros = |distance: Duration| {
        let whole = i64::try_from(distance.as_secs()).unwrap_or(i64::MAX).saturating_mul(1_000_000);
        whole.saturating_add(i64::from(distance.subsec_micros()))
    };
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => Timestamp::from_micros(micros(since)),
        Err(before) => Timestamp::from_micros(-micros(before.duration())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_survive_both_directions() {
        for micros in [0, 1, 1_700_000_000_123_456, -1, -86_400_000_000] {
            let moment = Timestamp::from_micros(micros);
            assert_eq!(timestamp(system_time(moment)), moment);
        }
    }

    #[test]
    fn size_counts_every_byte_that_travels() {
        let message = Message::new("12345").key("12").header("ab", "c").idempotency_key("xyz");
        assert_eq!(message.size(), 5 + 2 + 3 + 3);
    }

    #[test]
    fn a_message_has_one_lifetime() {
        let message = Message::new("x").lifetime(Duration::from_secs(9)).lifetime(Duration::from_millis(20));
        assert_eq!(message.headers, [("weir-lifetime-ms".to_owned(), Some(Bytes::from_static(b"20")))]);
    }
}
