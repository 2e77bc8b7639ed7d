//! Keys of generations that are given up: those whose records are still there are found again.
//!
//! What was in a generation is not known any more, but the truth is the log: each record says its key itself. What retention
//! has removed is lost.

use std::sync::Arc;

use weir_protocol::batch::StoredBatch;
use weir_protocol::units::{Offset, PartitionKey, Timestamp};

use super::Flusher;
use crate::dedup::generation::{VERSIONS_CLASS, class_horizon_us};
use crate::disk::{Disk, DiskError};
use crate::store::reader::{ReadError, Reader};

/// Keys that are gathered before they are written, some 80 bytes each.
const KEYS_HELD_MAX: usize = 1 << 19;

/// Bytes that are read at once.
const READ_BYTES: usize = 1 << 20;

impl<D: Disk> Flusher<D> {
    /// Remembers the keys of all records that are kept and may have been in the generations that are given up, for as long as
    /// these would have been. Says how many.
    ///
    /// How old a record is, its append time says: if the node stood still meanwhile, it may seem older than it is by the time
    /// that counts.
    pub(in crate::store) fn rebuild_keys(&mut self) -> Result<u64, DiskError> {
        let generations = &self.checkpointer.manifest().generations;
        let lost = self.stage.keys.given_up.iter().filter_map(|number| generations.get(number));
        let lost = lost.filter(|facts| facts.class != VERSIONS_CLASS);
        let longest = lost.map(|facts| (facts.class, facts.expires_us)).reduce(|one, other| {
            let ((class, expires_us), (other_class, other_expires_us)) = (one, other);
            (class.max(other_class), expires_us.max(other_expires_us))
        });
        let Some((class, expires_us)) = longest else { return Ok(0) };
        let remembered_us = expires_us.saturating_sub(self.running_us);
        let newest = self.state.partitions.values().map(|state| state.last_append_time).max();
        let horizon_us = i64::try_from(class_horizon_us(class)).unwrap_or(i64::MAX);
        let since = newest.unwrap_or(Timestamp::ZERO).saturating_add_micros(-horizon_us);

        let reader = Reader::new(Arc::clone(&self.checkpointer.shared));
        let before = self.stage.keys.count;
        for partition in self.keyed_partitions() {
            let first = self.checkpointer.shared.catalog().at_time(partition, since);
            let Some(first) = first.map(|extent| extent.base_offset) else { continue };
            let mut from = first.max(reader.log_start(partition));
            while from < reader.flushed_end(partition) {
                let (batches, next) = read(&reader, partition, from)?;
                from = next;
                for batch in batches.iter().filter(|batch| batch.section.append_time >= since) {
                    self.stage.keys.note_for((class, remembered_us), partition.topic, batch);
                }
                if self.stage.keys.held() >= KEYS_HELD_MAX {
                    self.stage.keys.write(&mut self.checkpointer, self.running_us)?;
                }
            }
        }
        self.stage.keys.write(&mut self.checkpointer, self.running_us)?;
        Ok(self.stage.keys.count - before)
    }

    /// The partitions of topics that remember keys.
    fn keyed_partitions(&self) -> Vec<PartitionKey> {
        let remembers = |partition: &&PartitionKey| {
            let topic = self.state.topics.get(&partition.topic);
            topic.is_some_and(|topic| topic.settings.dedup_horizon_us.is_some())
        };
        self.state.partitions.keys().filter(remembers).copied().collect()
    }
}

/// Some batches, and where to go on. What cannot be read is named by who reads it for its records.
fn read<D: Disk>(
    reader: &Reader<D>,
    partition: PartitionKey,
    from: Offset,
) -> Result<(Vec<StoredBatch>, Offset), DiskError> {
    let next = match reader.read(partition, from, READ_BYTES) {
        Ok(mut chunk) => {
            let batches = std::iter::from_fn(|| StoredBatch::decode(&mut chunk.bytes).ok());
            return Ok((batches.collect(), chunk.end_offset));
        }
        Err(ReadError::Corrupt { to, .. }) => to,
        Err(ReadError::Disk(error)) => return Err(error),
        Err(ReadError::OutOfRange { .. } | ReadError::NotFlushed | ReadError::KeysLost { .. }) => from,
    };
    let is_forward = next > from;
    Ok((Vec::new(), if is_forward { next } else { reader.flushed_end(partition) }))
}
