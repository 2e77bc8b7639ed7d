//! What becomes of the records of a batch, one by one.

use weir_protocol::batch::{ProducerBatch, TableRow, Voids};
use weir_protocol::message::{OriginalRecord, RecordException, RecordFate};
use weir_protocol::units::{Offset, PartitionKey, Timestamp, TopicId};
use weir_storage::dedup::{Entry, KeyDigest, RecordPlace};

use super::counts::{add, count};
use super::{Dedup, Found, KeyCounts, KeyKnown, uuid};
use crate::core::subscription::Partitions;

/// Where the records of a batch would stand.
#[derive(Clone, Copy, Debug)]
pub struct Placing {
    /// The partition.
    pub partition: PartitionKey,
    /// The offset of its first record.
    pub base_offset: Offset,
    /// When it is appended.
    pub append_time: Timestamp,
    /// How long the topic remembers keys; `None` if it does not.
    pub horizon_us: Option<u64>,
}

/// What is to be done with a batch.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Decision {
    /// Append it, with these records void.
    Append(Vec<RecordException>),
    /// Nothing of it counts.
    Skip(Vec<RecordException>),
    /// Look for these keys first.
    Probe(Vec<KeyDigest>),
    /// Let it wait until there is room for its keys.
    Wait,
}

/// A record that has a key, and its payload.
#[derive(Clone, Copy)]
struct Holder {
    place: RecordPlace,
    append_time: Timestamp,
    fingerprint: [u8; 16],
}

impl Dedup {
    /// Decides a batch with keys. If it is to be appended, its new keys are taken: the caller appends it in the same step.
    /// `found` is what a probe for its keys has found, if there was one.
    pub fn decide(
        &mut self,
        batch: &ProducerBatch,
        placing: &Placing,
        found: Option<&Found>,
        partitions: &Partitions,
    ) -> Decision {
        let topic = placing.partition.topic;
        self.digest_all(topic, batch);
        if self.is_short(self.digests.len()) {
            return Decision::Wait;
        }
        self.recent.warm(&self.digests);
        if found.is_none() {
            let unsure = self.unsure();
            if !unsure.is_empty() {
                return Decision::Probe(unsure);
            }
        }
        let is_full = self.older.is_full();
        let record_count = batch.header().record_count;
        let digests = std::mem::take(&mut self.digests);
        let mut counts = KeyCounts::default();
        let mut next = digests.iter();
        let mut exceptions = Vec::new();
        for (record, row) in (0..record_count).zip(batch.table().rows()) {
            let Some(digest) = row.idempotency_key.and_then(|_| next.next()) else { continue };
            let own = Own { batch, placing, voids: &Voids::NONE };
            let fate = self.fate(&row, *digest, own, (found, partitions));
            let has_room = self.recent.room() > 0 && !is_full;
            let fate = fate.or_else(|| (!has_room).then_some(RecordFate::Full));
            count(&mut counts, fate.as_ref());
            match fate {
                Some(fate) => exceptions.push(RecordException { record, fate }),
                None => {
                    let offset = placing.base_offset.advance(u64::from(record));
                    self.recent.push(*digest, RecordPlace { partition: placing.partition.partition, offset });
                }
            }
        }
        self.digests = digests;
        add(&mut self.counted, &counts);
        add(self.counted_by_topic.entry(topic).or_default(), &counts);
        let nothing_counts = exceptions.len() == record_count as usize;
        if nothing_counts { Decision::Skip(exceptions) } else { Decision::Append(exceptions) }
    }

    /// What became of the void records of a batch that was decided before.
    pub fn decided(
        &mut self,
        batch: &ProducerBatch,
        placing: &Placing,
        voids: &Voids,
        known: (Option<&Found>, &Partitions),
    ) -> Decision {
        self.digest_all(placing.partition.topic, batch);
        let mut next = self.digests.iter();
        let (mut exceptions, mut unsure) = (Vec::new(), Vec::new());
        for (record, row) in (0..batch.header().record_count).zip(batch.table().rows()) {
            let digest = row.idempotency_key.and_then(|_| next.next());
            if !voids.contains(record) {
                continue;
            }
            unsure.extend(digest.filter(|digest| known.0.is_none() && self.is_unsure(**digest)));
            let holder = digest.and_then(|digest| self.holder(*digest, Own { batch, placing, voids }, known));
            // There was no room for the key of a record that has no holder and no other reason: it may be sent again.
            let fate = holder.map(|holder| holder.fate(&row)).or_else(|| refusal(&row, placing));
            let fate = fate.unwrap_or(RecordFate::Full);
            exceptions.push(RecordException { record, fate });
        }
        if unsure.is_empty() { Decision::Append(exceptions) } else { Decision::Probe(unsure) }
    }

    /// What is known of a key without I/O.
    pub fn known(&self, topic: TopicId, routing_hash: u64, key: &[u8], partitions: &Partitions) -> KeyKnown {
        let digest = self.seed.digest(topic, routing_hash, key);
        let holder = self.recent.get(digest).and_then(|place| in_memory(topic, place, partitions));
        match holder {
            Some(Holder { place, append_time, fingerprint }) => {
                KeyKnown::Recent { place, append_time, fingerprint }
            }
            None if self.older.may_hold(digest) => KeyKnown::Unsure(digest),
            None => KeyKnown::Free,
        }
    }

    /// The keys of which it takes a look at the disk to know whether they are taken.
    fn unsure(&mut self) -> Vec<KeyDigest> {
        self.marks.clear();
        self.marks.resize(self.digests.len(), false);
        self.older.mark(&self.digests, &mut self.marks);
        let marked = self.digests.iter().zip(&self.marks).filter(|(_, mark)| **mark);
        marked.map(|(digest, _)| *digest).filter(|digest| self.recent.get(*digest).is_none()).collect()
    }

    fn is_unsure(&self, digest: KeyDigest) -> bool {
        self.older.may_hold(digest) && self.recent.get(digest).is_none()
    }

    /// Why a record does not count, unless there is no room; nothing if it is new.
    fn fate(
        &self,
        row: &TableRow<'_>,
        digest: KeyDigest,
        own: Own<'_>,
        known: (Option<&Found>, &Partitions),
    ) -> Option<RecordFate> {
        let refusal = refusal(row, own.placing);
        if refusal == Some(RecordFate::Off) {
            return refusal;
        }
        if let Some(holder) = self.holder(digest, own, known) {
            return Some(holder.fate(row));
        }
        refusal
    }

    /// The record that has a key: in this batch, in one that is in memory, or among those a probe has found.
    fn holder(
        &self,
        digest: KeyDigest,
        own: Own<'_>,
        (found, partitions): (Option<&Found>, &Partitions),
    ) -> Option<Holder> {
        let Some(place) = self.recent.get(digest) else {
            let Entry { place, append_time, fingerprint, .. } = *found?.get(&digest)?;
            return Some(Holder { place, append_time, fingerprint: fingerprint.0 });
        };
        own.holder(place).or_else(|| in_memory(own.placing.partition.topic, place, partitions))
    }
}

/// Why a key would not be taken, whoever has it.
fn refusal(row: &TableRow<'_>, placing: &Placing) -> Option<RecordFate> {
    let Some(horizon_us) = placing.horizon_us else { return Some(RecordFate::Off) };
    let horizon_us = i64::try_from(horizon_us).unwrap_or(i64::MAX);
    let is_old = |made_at: Timestamp| made_at.saturating_add_micros(horizon_us) <= placing.append_time;
    row.idempotency_key.and_then(uuid::made_at).is_some_and(is_old).then_some(RecordFate::Expired)
}

/// The batch that is decided.
#[derive(Clone, Copy)]
struct Own<'a> {
    batch: &'a ProducerBatch,
    placing: &'a Placing,
    voids: &'a Voids,
}

impl Own<'_> {
    /// The record at a place, if it is one of this batch.
    fn holder(&self, place: RecordPlace) -> Option<Holder> {
        let behind = place.offset.get().checked_sub(self.placing.base_offset.get())?;
        let record = u32::try_from(behind).ok()?;
        let is_own = place.partition == self.placing.partition.partition
            && record < self.batch.header().record_count
            && !self.voids.contains(record);
        let fingerprint = self.batch.table().fingerprint(record);
        is_own.then_some(Holder { place, append_time: self.placing.append_time, fingerprint })
    }
}

/// The record at a place of a topic, whose batch is in memory.
fn in_memory(topic: TopicId, place: RecordPlace, partitions: &Partitions) -> Option<Holder> {
    let partition = partitions.get(&PartitionKey { topic, partition: place.partition })?;
    let batch = partition.tail().from(place.offset).next()?;
    let record = u32::try_from(place.offset.since(batch.base_offset())).ok()?;
    let fingerprint = batch.producer.table().fingerprint(record);
    Some(Holder { place, append_time: batch.section.append_time, fingerprint })
}

impl Holder {
    /// What that means for another record with the same key.
    fn fate(&self, row: &TableRow<'_>) -> RecordFate {
        let original = OriginalRecord {
            partition: self.place.partition,
            offset: self.place.offset,
            append_time: self.append_time,
        };
        if self.fingerprint == row.fingerprint {
            RecordFate::Duplicate(original)
        } else {
            RecordFate::Conflict(original)
        }
    }
}
