//! A batch that is being taken apart: its records, one after the other.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use weir_protocol::DecodeError;
use weir_protocol::batch::{Record, Records, StoredBatch, Voids};
use weir_protocol::lifetime::{LIFETIME_HEADER, is_over};
use weir_protocol::units::{Epoch, Offset, PartitionId, Timestamp, TopicId};

use crate::consumer::event::{ConsumerEvent, GapReason};
use crate::consumer::settle::{Lease, Leased};
use crate::message::{Delivered, from_record, system_time, timestamp};
use crate::net::subscribe::ConsumerShared;

/// A batch that is being taken apart.
#[derive(Debug)]
pub(super) struct Batch {
    records: Records,
    /// Idempotency keys, if any record has one.
    keys: Vec<Option<Bytes>>,
    voids: Voids,
    pub(super) partition: PartitionId,
    base: Offset,
    pub(super) from: Offset,
    until: Offset,
    appended: Timestamp,
    epoch: Epoch,
    /// Where its records are settled.
    leased: Option<Lease>,
    created: Timestamp,
    /// The last creation time that was converted, as most records of a batch share it.
    last_created: (i64, SystemTime),
}

impl Batch {
    pub(super) fn new(
        stored: StoredBatch,
        partition: PartitionId,
        (from, until): (Offset, Offset),
        leased: Option<Lease>,
    ) -> Result<Self, DecodeError> {
        let StoredBatch { section, producer } = stored;
        let table = producer.table();
        let keys = if table.has_idempotency_keys() {
            table.rows().map(|row| row.idempotency_key.map(|key| producer.bytes().slice_ref(key))).collect()
        } else {
            Vec::new()
        };
        let created = producer.header().create_time;
        Ok(Self {
            records: producer.records()?,
            keys,
            voids: section.voids,
            partition,
            base: section.base_offset,
            from,
            until,
            appended: section.append_time,
            epoch: section.partition_epoch,
            leased,
            created,
            last_created: (0, system_time(created)),
        })
    }

    /// The next record that is wanted.
    pub(super) fn next(
        &mut self,
        shared: &ConsumerShared,
        topic_id: TopicId,
    ) -> Option<Result<Delivered, DecodeError>> {
        loop {
            if self.from >= self.until {
                return None;
            }
            let record = match self.records.next()? {
                Ok(record) => record,
                Err(error) => return Some(Err(error)),
            };
            let offset = self.base.advance(u64::from(record.offset_delta));
            if offset < self.from {
                continue;
            }
            self.from = offset.advance(1);
            let index = record.offset_delta;
            if !self.voids.is_empty() && self.voids.contains(index) {
                self.pass_by(shared, offset, GapReason::Void);
                continue;
            }
            if self.has_expired(&record) {
                self.pass_by(shared, offset, GapReason::Expired);
                continue;
            }
            let leased = match &self.leased {
                Some(lease) => match lease.hand_out(offset) {
                    None => continue,
                    held => held,
                },
                None => None,
            };
            let created = self.created_at(record.timestamp_delta_ms);
            let mut message = from_record(record, created);
            message.partition = Some(self.partition.get());
            if let Some(key) = self.keys.get_mut(index as usize) {
                message.idempotency_key = key.take();
            }
            return Some(Ok(Delivered {
                topic: Arc::clone(&shared.topic),
                partition: self.partition.get(),
                offset: offset.get(),
                timestamp: system_time(self.appended),
                attempt: leased.as_ref().map_or(1, Leased::attempt),
                message,
                topic_id,
                partition_epoch: self.epoch,
                leased,
            }));
        }
    }

    /// Records at the end that do not count will not come: that settles them.
    pub(super) fn pass_rest(&self) {
        if let Some(leased) = &self.leased {
            leased.pass(self.until);
        }
    }

    fn created_at(&mut self, delta_ms: i64) -> SystemTime {
        if self.last_created.0 != delta_ms {
            let moment = self.created.saturating_add_micros(delta_ms.saturating_mul(1000));
            self.last_created = (delta_ms, system_time(moment));
        }
        self.last_created.1
    }

    /// Whether a record is older than it is worth delivering.
    fn has_expired(&self, record: &Record) -> bool {
        let lifetime = record.headers.find(LIFETIME_HEADER);
        lifetime.is_some_and(|value| is_over(&value, self.appended, timestamp(SystemTime::now())))
    }

    /// A record is not handed out. In a group, whatever comes next settles it.
    fn pass_by(&self, shared: &ConsumerShared, offset: Offset, reason: GapReason) {
        let (partition, from) = (self.partition.get(), offset.get());
        shared.tell(ConsumerEvent::Gap { partition, from, to: from + 1, reason });
    }
}
