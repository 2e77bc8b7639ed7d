//! Idempotency keys: which record belongs to a key, exactly and within bounded memory.
//!
//! The truth is the log: each batch carries keys and fingerprints in its record table. What is kept besides is an index of
//! it. The newest keys, those of batches that are in no segment yet, are in memory ([`Recent`]). All older ones are on the disk,
//! in generations: sorted files that never change, each with a filter in memory that tells most new keys from those it holds. A
//! generation is dropped as a whole when none of its keys has to be remembered any more.
//!
//! Where the last record with a key of its own stands, its *version*, is such an entry, too, under a digest of its own kind. Its
//! fingerprint is the topic, so that it can be told when it is not needed any more.

mod digest;
pub(crate) mod filter;
pub(crate) mod generation;
mod recent;

use weir_protocol::batch::StoredBatch;
use weir_protocol::units::{Offset, PartitionId, PartitionKey, Timestamp, TopicId};

pub use digest::{Fingerprint, KeyDigest, KeySeed};
pub(crate) use generation::ENTRY_BYTES;
pub use recent::{RECENT_KEY_BYTES, Recent};

/// Where the record with a key stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RecordPlace {
    /// The partition of its topic.
    pub partition: PartitionId,
    /// Its offset there.
    pub offset: Offset,
}

/// What is known of a key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Entry {
    /// The key.
    pub digest: KeyDigest,
    /// What tells its record from another one.
    pub fingerprint: Fingerprint,
    /// Where the record stands.
    pub place: RecordPlace,
    /// When it was appended.
    pub append_time: Timestamp,
}

/// Memory of a key on its way to a file, which it has beside that of [`RECENT_KEY_BYTES`].
pub const STAGED_KEY_BYTES: u64 = size_of::<Entry>() as u64;

impl Entry {
    /// Of two records with one key, the one appended later is the greater.
    pub(crate) const fn age(&self) -> (i64, u64) {
        (self.append_time.as_micros(), self.place.offset.get())
    }
}

/// The entries of a batch: one for each record that counts and has a key, in order.
pub fn entries(seed: &KeySeed, topic: TopicId, batch: &StoredBatch) -> impl Iterator<Item = Entry> {
    let (section, header) = (&batch.section, batch.producer.header());
    let table = batch.producer.table();
    let rows = table.has_idempotency_keys().then(|| (0u32..).zip(table.rows()));
    rows.into_iter().flatten().filter_map(move |(number, row)| {
        let key = row.idempotency_key?;
        if section.voids.contains(number) {
            return None;
        }
        let offset = section.base_offset.advance(u64::from(number));
        Some(Entry {
            digest: seed.digest(topic, row.routing_hash, key),
            fingerprint: Fingerprint(row.fingerprint),
            place: RecordPlace { partition: header.partition.partition, offset },
            append_time: section.append_time,
        })
    })
}

/// The versions that a batch makes: one entry for each record that counts and has a key, as far as the batch names keys. Of
/// one key the last entry is true.
pub fn versions(seed: &KeySeed, partition: PartitionKey, batch: &StoredBatch) -> impl Iterator<Item = Entry> {
    let (section, table) = (&batch.section, batch.producer.table());
    let rows = table.has_record_keys().then(|| (0u32..).zip(table.rows()));
    rows.into_iter().flatten().filter_map(move |(number, row)| {
        let record_key = row.record_key.filter(|_| !section.voids.contains(number))?;
        let offset = section.base_offset.advance(u64::from(number));
        Some(Entry {
            digest: seed.version(partition, record_key),
            fingerprint: Fingerprint(partition.topic.to_bytes()),
            place: RecordPlace { partition: partition.partition, offset },
            append_time: section.append_time,
        })
    })
}

/// The fingerprint of the record at an offset of a batch; `None` if it has no key, or does not count.
pub fn fingerprint_at(batch: &StoredBatch, offset: Offset) -> Option<Fingerprint> {
    let number = u32::try_from(offset.get().checked_sub(batch.base_offset().get())?).ok()?;
    if batch.section.voids.contains(number) {
        return None;
    }
    let row = batch.producer.table().rows().nth(usize::try_from(number).ok()?)?;
    row.idempotency_key.map(|_| Fingerprint(row.fingerprint))
}
