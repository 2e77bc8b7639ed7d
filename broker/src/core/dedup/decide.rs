//! What becomes of the records of a batch, one by one.

use weir_protocol::ErrorCode;
use weir_protocol::batch::{Expectation, ProducerBatch, TableRow, Voids};
use weir_protocol::message::{OriginalRecord, RecordException, RecordFate, TopicSettings};
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
    /// How the topic remembers keys; `None` if it does not.
    pub memory: Option<KeyMemory>,
    /// Whether the topic keeps versions of records' keys.
    pub keyed_versions: bool,
}

/// How a topic remembers keys.
#[derive(Clone, Copy, Debug)]
pub struct KeyMemory {
    /// For so many microseconds.
    pub horizon_us: u64,
    /// But none that was made before, for sure.
    pub since: Timestamp,
}

impl KeyMemory {
    /// What was chosen for a topic; `None` if it remembers no keys.
    pub fn of(settings: &TopicSettings) -> Option<Self> {
        settings.dedup_horizon_us.map(|horizon_us| Self { horizon_us, since: settings.dedup_since })
    }
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

impl Decision {
    /// How many records are told of, one by one.
    pub const fn told(&self) -> usize {
        match self {
            Self::Append(exceptions) | Self::Skip(exceptions) => exceptions.len(),
            Self::Probe(_) | Self::Wait => 0,
        }
    }
}

/// A record that has a key, and its payload.
#[derive(Clone, Copy)]
struct Holder {
    place: RecordPlace,
    append_time: Timestamp,
    fingerprint: [u8; 16],
}

impl Dedup {
    /// Decides a batch with keys or expectations. If it is to be appended, its new keys are taken: the caller appends it in the
    /// same step.
    /// `found` is what a probe for its keys has found, if there was one.
    pub fn decide(
        &mut self,
        batch: &ProducerBatch,
        placing: &Placing,
        found: Option<&Found>,
        partitions: &Partitions,
    ) -> Decision {
        let topic = placing.partition.topic;
        self.digest_all(batch);
        if self.is_short(self.digests.len() + self.versions.len()) {
            return Decision::Wait;
        }
        if found.is_none() {
            let unsure = self.unsure(batch, placing);
            if !unsure.is_empty() {
                return Decision::Probe(unsure);
            }
        }
        // Behind the filters, which drive everything else out of the caches.
        self.recent.warm(&self.digests);
        self.recent.warm(&self.versions);
        let is_full = self.older.is_full();
        let record_count = batch.header().record_count;
        let (digests, versions) = (std::mem::take(&mut self.digests), std::mem::take(&mut self.versions));
        let (mut next_digest, mut next_version) = (digests.iter().copied(), versions.iter().copied());
        let mut counts = KeyCounts::default();
        let mut exceptions = Vec::new();
        for (record, row) in (0..record_count).zip(batch.table().rows()) {
            let digest = row.idempotency_key.and_then(|_| next_digest.next());
            let version = row.record_key.and_then(|_| next_version.next());
            let own = Own { batch, placing, voids: &Voids::NONE };
            let fate = digest
                .and_then(|digest| self.fate(&row, digest, own, (found, partitions)))
                .or_else(|| self.unmet(&row, version, placing, found))
                .or_else(|| self.no_room(digest, version, is_full));
            if digest.is_some() || fate.is_some() {
                count(&mut counts, fate.as_ref());
            }
            if let Some(fate) = fate {
                self.unmet_expectations += u64::from(fate.code() == Some(ErrorCode::ExpectationFailed));
                exceptions.push(RecordException { record, fate });
                continue;
            }
            let offset = placing.base_offset.advance(u64::from(record));
            let place = RecordPlace { partition: placing.partition.partition, offset };
            digest.into_iter().chain(version).for_each(|digest| self.recent.push(digest, place));
        }
        (self.digests, self.versions) = (digests, versions);
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
        self.digest_all(batch);
        let (mut next_digest, mut next_version) =
            (self.digests.iter().copied(), self.versions.iter().copied());
        let (mut exceptions, mut unsure) = (Vec::new(), Vec::new());
        for (record, row) in (0..batch.header().record_count).zip(batch.table().rows()) {
            let digest = row.idempotency_key.and_then(|_| next_digest.next());
            let version = row.record_key.and_then(|_| next_version.next());
            if !voids.contains(record) {
                continue;
            }
            let asked = version.filter(|_| asks_for_key(&row, placing));
            let is_unsure = |digest: &KeyDigest| known.0.is_none() && self.is_unsure(*digest);
            unsure.extend(digest.into_iter().chain(asked).filter(is_unsure));
            let holder = digest.and_then(|digest| self.holder(digest, Own { batch, placing, voids }, known));
            let fate = holder.map(|holder| holder.fate(&row)).or_else(|| refusal(&row, placing));
            let fate = fate.or_else(|| self.unmet(&row, version, placing, known.0));
            // There was no room for a record that has no holder and no other reason: it may be sent again.
            let full = if digest.is_some() { RecordFate::Full } else { RecordFate::VersionsFull };
            exceptions.push(RecordException { record, fate: fate.unwrap_or(full) });
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

    /// The keys of which it takes a look at the disk to know whether they are taken, or where their last record stands.
    fn unsure(&mut self, batch: &ProducerBatch, placing: &Placing) -> Vec<KeyDigest> {
        self.marks.clear();
        self.marks.resize(self.digests.len(), false);
        self.older.mark(&self.digests, &mut self.marks);
        let marked = self.digests.iter().zip(&self.marks).filter(|(_, mark)| **mark);
        let keys = marked.map(|(digest, _)| *digest).filter(|digest| self.recent.get(*digest).is_none());
        let named = batch.table().rows().filter(|row| row.record_key.is_some()).zip(&self.versions);
        let asked = named.filter(|(row, _)| asks_for_key(row, placing)).map(|(_, version)| *version);
        keys.chain(asked.filter(|version| self.is_unsure(*version))).collect()
    }

    fn is_unsure(&self, digest: KeyDigest) -> bool {
        self.older.may_hold(digest) && self.recent.get(digest).is_none()
    }

    /// Why a record with an idempotency key does not count, unless there is no room; nothing if it is new.
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
    let key = row.idempotency_key?;
    let Some(KeyMemory { horizon_us, since }) = placing.memory else { return Some(RecordFate::Off) };
    let horizon_us = i64::try_from(horizon_us).unwrap_or(i64::MAX);
    let is_old = |made_at: Timestamp| {
        made_at < since || made_at.saturating_add_micros(horizon_us) <= placing.append_time
    };
    let made_at = row.key_time.or_else(|| uuid::made_at(key));
    made_at.is_some_and(is_old).then_some(RecordFate::Expired)
}

/// Whether a record expects something that is known of its key only.
fn asks_for_key(row: &TableRow<'_>, placing: &Placing) -> bool {
    placing.keyed_versions && row.expectation.is_some_and(Expectation::is_of_key)
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
