//! Records as text: the JSON that `tail` prints and `send` takes, and the formats of `tail -f`.

mod format;
mod json_in;
mod json_out;

use bytes::Bytes;
use weir_client::Delivered;

use crate::value::to_micros;

pub(crate) use format::Format;
pub(crate) use json_in::parse_line;
pub(crate) use json_out::write_json;

/// A record that was read, as the printers see it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row<'a> {
    /// Its topic.
    pub(crate) topic: &'a str,
    /// Its partition.
    pub(crate) partition: u32,
    /// Its number in the partition.
    pub(crate) offset: u64,
    /// When the broker appended it, in microseconds since the epoch.
    pub(crate) timestamp: i64,
    /// When its producer made it, in microseconds since the epoch.
    pub(crate) create_time: i64,
    /// Its key.
    pub(crate) key: Option<&'a [u8]>,
    /// Its value; none for a tombstone.
    pub(crate) value: Option<&'a [u8]>,
    /// Its headers.
    pub(crate) headers: &'a [(String, Option<Bytes>)],
    /// Its idempotency key.
    pub(crate) id: Option<&'a [u8]>,
}

impl<'a> From<&'a Delivered> for Row<'a> {
    fn from(record: &'a Delivered) -> Self {
        let message = &record.message;
        Self {
            topic: &record.topic,
            partition: record.partition,
            offset: record.offset,
            timestamp: to_micros(record.timestamp),
            create_time: to_micros(record.create_time()),
            key: message.key.as_deref(),
            value: message.value.as_deref(),
            headers: &message.headers,
            id: message.idempotency_key.as_deref(),
        }
    }
}
