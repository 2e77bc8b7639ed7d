//! Expectations: whether what a record expects of its partition, or of its key, is so at the moment it is decided.
//!
//! Invariant: what an expectation is compared with is the state in which the record would be appended: with everything that
//! was taken before it, durable or not, and nothing else.

use weir_protocol::batch::{Expectation, TableRow};
use weir_protocol::message::RecordFate;
use weir_protocol::units::Offset;
use weir_storage::dedup::KeyDigest;

use super::{Dedup, Found, Placing};

impl Dedup {
    /// Why what a record expects is not so; nothing if it is, or if it expects nothing. `version` stands for the record's key.
    pub(super) fn unmet(
        &self,
        row: &TableRow<'_>,
        version: Option<KeyDigest>,
        placing: &Placing,
        found: Option<&Found>,
    ) -> Option<RecordFate> {
        let (expected, actual) = match row.expectation? {
            // Only the first record of a batch expects that.
            Expectation::PartitionAt(offset) => (Some(offset), Some(placing.base_offset)),
            Expectation::KeyAt(_) | Expectation::KeyAbsent if !placing.keyed_versions => {
                return Some(RecordFate::VersionsOff);
            }
            Expectation::KeyAt(offset) => (Some(offset), self.last_offset(version?, found)),
            Expectation::KeyAbsent => (None, self.last_offset(version?, found)),
        };
        (actual != expected).then(|| actual.map_or(RecordFate::UnmetAbsent, RecordFate::Unmet))
    }

    /// The offset of the last record with a key: in a batch that is in memory, or among those a probe has found.
    fn last_offset(&self, version: KeyDigest, found: Option<&Found>) -> Option<Offset> {
        let place = self.recent.get(version).or_else(|| Some(found?.get(&version)?.place));
        place.map(|place| place.offset)
    }

    /// Why there is no room to remember a record by its idempotency key, or by its own key; nothing if there is. `is_full` says
    /// whether there is none for idempotency keys on the disk.
    pub(super) fn no_room(
        &self,
        key: Option<KeyDigest>,
        version: Option<KeyDigest>,
        is_full: bool,
    ) -> Option<RecordFate> {
        let needed = usize::from(key.is_some()) + usize::from(version.is_some());
        let lacks_room = self.recent.room() < needed;
        if key.is_some() && (lacks_room || is_full) {
            return Some(RecordFate::Full);
        }
        let is_full = version.is_some() && (lacks_room || self.older.is_full_of_versions());
        is_full.then_some(RecordFate::VersionsFull)
    }
}
