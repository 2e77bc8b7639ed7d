//! The records of one key.

use std::sync::Arc;

use bytes::Bytes;

use super::{BoundedRead, ConsumerBuilder};
use crate::admin::{TopicSettings, topic};
use crate::client::ClientHandle;
use crate::error::Error;
use crate::message::Delivered;
use crate::options::Start;

/// The records with one key that are kept, in order, up to the end that was seen at the start.
///
/// All of the key's partition is read, and what has another key is dropped here: it costs as much as to read the partition.
#[derive(Debug)]
pub struct KeyHistory {
    key: Bytes,
    read: BoundedRead,
}

impl KeyHistory {
    pub(crate) async fn open(client: Arc<ClientHandle>, name: &str, key: Bytes) -> Result<Self, Error> {
        let settings = TopicSettings::from_wire(&topic(&client.shared, name).await?.settings);
        let Some(partition) = settings.partition_of(&key) else {
            let text = format!(
                "producers of topic '{name}' choose partitions: a key does not tell where its records are"
            );
            return Err(Error::invalid(text));
        };
        let consumer = ConsumerBuilder::new(client, name).partitions([partition]).start(Start::Earliest);
        Ok(Self { key, read: consumer.read_to_end().await? })
    }

    /// The next record with the key. `None` after the last.
    ///
    /// # Cancel safety
    /// If dropped before completion no record is lost.
    pub async fn recv(&mut self) -> Option<Result<Delivered, Error>> {
        loop {
            match self.read.recv().await {
                Some(Ok(record)) if record.key.as_ref() != Some(&self.key) => {}
                other => return other,
            }
        }
    }
}
