//! What the producers and readers of a topic wait for, as the broker sees it.

use std::time::Duration;

use weir_protocol::message as wire;
pub use weir_protocol::message::WaitsFor;

use super::Admin;
use crate::core::requests::Repeat;
use crate::error::Error;
use crate::net::shared::expect;

/// A lane of a producer, or a reader of a partition, and what it waits for.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Waiting {
    /// The partition that is read; `None` for a lane of a producer, which serves several.
    pub partition: Option<u32>,
    /// Number of the connection since the broker started.
    pub connection: u64,
    /// Number of the stream in its connection.
    pub stream: u64,
    /// The name that the client gave itself; may be empty.
    pub client_name: String,
    /// What is waited for.
    pub waits_for: WaitsFor,
    /// How long nothing has moved for it.
    pub since: Duration,
    /// Bytes it may still send, or be sent.
    pub credit_bytes: u64,
    /// Bytes of it that the broker holds: not durable yet, or not left yet.
    pub held_bytes: u64,
    /// Records that a reader has before it.
    pub lag_records: u64,
}

impl Admin {
    /// What every producer and reader of a topic waits for, producers first. Taken page by page: what changes
    /// meanwhile may be seen before or after.
    ///
    /// # Errors
    /// `WEIR-2001` if there is no such topic.
    ///
    /// # Cancel safety
    /// If dropped before completion nothing happened.
    pub async fn explain(&self, topic: &str) -> Result<Vec<Waiting>, Error> {
        let mut waiting = Vec::new();
        let mut after = None;
        loop {
            let name = topic.to_owned();
            let make = move |request| wire::Explain { request, name, after };
            let answer = self.shared().request(make, Repeat::Harmless).await?;
            let page: wire::Explanation = expect(&answer)?;
            after = page.waits.last().map(|wait| wait.id);
            let is_last = !page.more || after.is_none();
            waiting.extend(page.waits.into_iter().map(Waiting::from_wire));
            if is_last {
                return Ok(waiting);
            }
        }
    }
}

impl Waiting {
    fn from_wire(wait: wire::Wait) -> Self {
        Self {
            partition: wait.id.is_reader.then_some(wait.id.partition.get()),
            connection: wait.id.connection,
            stream: wait.id.stream,
            client_name: wait.client_name,
            waits_for: wait.waits_for,
            since: Duration::from_micros(wait.since_us),
            credit_bytes: wait.credit_bytes,
            held_bytes: wait.held_bytes,
            lag_records: wait.lag_records,
        }
    }
}
