//! How far behind a group is, beyond a number of records: in bytes, and since when.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::{Duration, SystemTime};

use weir_client::{Client, GroupDescription, GroupPartition, Start};

use crate::failure::Failure;

/// Partitions of a group whose oldest record that is not settled is looked at: each takes a read.
const LOOKED_AT_MAX: usize = 64;

/// Longest wait for one of them.
const PATIENCE: Duration = Duration::from_secs(2);

/// How far behind a group is in a partition.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Behind {
    /// Bytes of the records that are not settled: their share of what the partition holds.
    pub(super) bytes: u64,
    /// When the first of them was appended, if it was looked at.
    pub(super) oldest: Option<SystemTime>,
}

impl Behind {
    /// How long the oldest has been waiting.
    pub(super) fn age(&self) -> Option<Duration> {
        self.oldest.map(|oldest| oldest.elapsed().unwrap_or_default())
    }
}

/// How far behind a group is in the partitions of which it has not settled all.
pub(super) async fn of(client: &Client, group: &GroupDescription) -> Result<BTreeMap<u32, Behind>, Failure> {
    let topic = &group.summary.topic;
    let mut behind = BTreeMap::new();
    let stored = client.admin().describe_topic(topic).await?.partitions;
    let lagging = group.partitions.iter().filter(|partition| partition.lag > 0);
    for (place, partition) in lagging.enumerate() {
        let oldest = if place < LOOKED_AT_MAX { oldest(client, topic, partition).await } else { None };
        let stored = stored.iter().find(|stored| stored.partition == partition.partition);
        let bytes = stored.map_or(0, |stored| {
            let records = stored.end_offset.saturating_sub(stored.start_offset).max(1);
            let share =
                u128::from(stored.bytes) * u128::from(partition.lag.min(records)) / u128::from(records);
            u64::try_from(share).unwrap_or(u64::MAX)
        });
        behind.insert(partition.partition, Behind { bytes, oldest });
    }
    Ok(behind)
}

/// When the first record that is not settled was appended. Nothing if it cannot be read now.
async fn oldest(client: &Client, topic: &str, partition: &GroupPartition) -> Option<SystemTime> {
    let start = Start::Offset(partition.partition, partition.committed);
    let read = client.consumer(topic).start(start).credit(NonZeroU32::MIN, 1);
    let mut read = read.subscribe().await.ok()?;
    let records = read.recv_batch(1, PATIENCE).await.ok()?;
    records.first().map(|record| record.timestamp)
}
