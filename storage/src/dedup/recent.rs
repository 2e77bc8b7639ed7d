//! The keys of batches that are in no segment yet.

use std::collections::VecDeque;

use super::{KeyDigest, RecordPlace};
use weir_protocol::units::{Offset, PartitionId};

/// Memory of a key: 28 bytes of its own, and its share of the slots.
pub const RECENT_KEY_BYTES: u64 = 40;

/// Slots for 100 keys: with more of them empty, searches are shorter. A slot has 8 bytes.
const SLOTS_PER_100_KEYS: u64 = 150;
const _: () = assert!(28 + 8 * SLOTS_PER_100_KEYS / 100 <= RECENT_KEY_BYTES, "a key stays within its memory");

/// Invariant: a key is found from the moment it is pushed until as many as were pushed up to it are released.
///
/// A queue of the keys in the order in which they were appended, and an open hash table of their numbers. All memory is
/// taken once. Fingerprints are not kept: the batches of these keys are in memory, and have them.
#[derive(Debug)]
pub struct Recent {
    keys: VecDeque<Key>,
    /// How many keys may be held.
    keys_max: usize,
    /// How many keys were released, ever: the number of the first that is held.
    released: u64,
    /// Sorted by home, as far as there is no gap. A slot is found from the upper half of its own bits.
    slots: Box<[Slot]>,
}

/// The upper half are bits of the digest, which say where the slot would like to be; the lower half is the number of the
/// key, reduced, plus one. 0 is an empty slot.
type Slot = u64;

const EMPTY: Slot = 0;

/// 28 bytes.
#[derive(Clone, Copy, Debug)]
struct Key {
    digest: KeyDigest,
    partition: u32,
    offset: [u32; 2],
}
const _: () = assert!(size_of::<Key>() == 28, "a key has no padding");

impl Recent {
    /// An empty table that takes at most this memory.
    ///
    /// # Panics
    /// If that is no room for a single key.
    pub fn new(bytes: u64) -> Self {
        let keys_max = (bytes / RECENT_KEY_BYTES).min(u64::from(u32::MAX) / 2);
        assert!(keys_max > 0, "a table of keys has room for one");
        let slot_count = (keys_max * SLOTS_PER_100_KEYS).div_ceil(100).max(keys_max + 1);
        let size = |count: u64| usize::try_from(count).expect("fits memory");
        Self {
            keys: VecDeque::with_capacity(size(keys_max)),
            keys_max: size(keys_max),
            released: 0,
            slots: vec![EMPTY; size(slot_count)].into_boxed_slice(),
        }
    }

    /// How many more keys can be pushed.
    pub fn room(&self) -> usize {
        self.keys_max - self.keys.len()
    }

    /// How many keys can be held.
    pub const fn capacity(&self) -> usize {
        self.keys_max
    }

    /// How many keys are held.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether no key is held.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Takes note of the key of a record that was appended: the next one, in the order of the journal. One that is held
    /// already belongs to the later record from now on.
    ///
    /// # Panics
    /// If there is no room.
    pub fn push(&mut self, digest: KeyDigest, place: RecordPlace) {
        assert!(self.room() > 0, "who pushes a key has looked for room");
        let number = self.released + self.keys.len() as u64;
        let slot = self.slot(digest, number);
        match self.find(digest) {
            Ok(index) | Err(index) => self.set(index, slot),
        }
        let offset = place.offset.get();
        let halves = [offset >> 32, offset & 0xffff_ffff];
        let offset = halves.map(|half| u32::try_from(half).expect("half of its bits"));
        self.keys.push_back(Key { digest, partition: place.partition.get(), offset });
    }

    /// Where the record with a key stands.
    pub fn get(&self, digest: KeyDigest) -> Option<RecordPlace> {
        let index = self.find(digest).ok()?;
        let key = self.key_of(self.at(index))?;
        let [high, low] = key.offset.map(u64::from);
        let offset = Offset::new(high << 32 | low);
        Some(RecordPlace { partition: PartitionId::new(key.partition), offset })
    }

    /// Brings what [`Recent::get`] and [`Recent::push`] need for these keys closer. Memory that is far away is waited for once,
    /// not key by key.
    pub fn warm(&self, digests: &[KeyDigest]) {
        let slots = digests.iter().map(|digest| self.at(self.home(digest.high())));
        std::hint::black_box(slots.fold(0, |all, slot| all ^ slot));
    }

    /// Forgets all keys but those pushed after the first `count` since the table was made: these are found elsewhere.
    ///
    /// # Panics
    /// If so many were never pushed.
    pub fn release(&mut self, count: u64) {
        assert!(count <= self.released + self.keys.len() as u64, "only what was pushed can be released");
        if count == self.released + self.keys.len() as u64 {
            self.keys.clear();
            self.slots.fill(EMPTY);
            self.released = count;
        }
        while self.released < count {
            let Some(key) = self.keys.front().copied() else { break };
            let slot = self.slot(key.digest, self.released);
            if let Ok(index) = self.find(key.digest)
                && self.at(index) == slot
            {
                self.remove(index);
            }
            self.keys.pop_front();
            self.released += 1;
        }
    }

    /// The slot of a key, or the empty one where it would be put.
    fn find(&self, digest: KeyDigest) -> Result<usize, usize> {
        let wanted = digest.high() >> 32;
        let mut index = self.home(digest.high());
        loop {
            let slot = self.at(index);
            if slot == EMPTY {
                return Err(index);
            }
            if slot >> 32 == wanted && self.key_of(slot).is_some_and(|key| key.digest == digest) {
                return Ok(index);
            }
            index = self.after(index);
        }
    }

    /// Empties a slot, and moves those behind it back as far as they would like to be.
    fn remove(&mut self, index: usize) {
        let mut hole = index;
        let mut next = self.after(index);
        loop {
            let slot = self.at(next);
            if slot == EMPTY {
                break;
            }
            let home = self.home(slot);
            // Cyclic distances: what would have to leave its home's reach stays.
            let reach = self.distance(home, next);
            if reach >= self.distance(hole, next) {
                self.set(hole, slot);
                hole = next;
            }
            next = self.after(next);
        }
        self.set(hole, EMPTY);
    }

    fn slot(&self, digest: KeyDigest, number: u64) -> Slot {
        let reduced = number % self.keys_max as u64;
        (digest.high() >> 32) << 32 | (reduced + 1)
    }

    /// The key a slot belongs to.
    fn key_of(&self, slot: Slot) -> Option<&Key> {
        let keys_max = self.keys_max as u64;
        let reduced = (slot & 0xffff_ffff).checked_sub(1)?;
        let first = self.released % keys_max;
        let behind = if reduced >= first { reduced - first } else { reduced + keys_max - first };
        self.keys.get(usize::try_from(behind).ok()?)
    }

    /// Where a slot with these upper bits would like to be.
    fn home(&self, bits: u64) -> usize {
        let index = ((bits >> 32) * self.slots.len() as u64) >> 32;
        usize::try_from(index).expect("below the number of slots")
    }

    const fn after(&self, index: usize) -> usize {
        if index + 1 == self.slots.len() { 0 } else { index + 1 }
    }

    const fn distance(&self, from: usize, to: usize) -> usize {
        if to >= from { to - from } else { to + self.slots.len() - from }
    }

    fn at(&self, index: usize) -> Slot {
        *self.slots.get(index).expect("an index of a slot")
    }

    fn set(&mut self, index: usize, slot: Slot) {
        *self.slots.get_mut(index).expect("an index of a slot") = slot;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn digest(number: u64) -> KeyDigest {
        // Few different upper halves, the last of them at the very end of the table: all that can collide does.
        let high = [0, 1 << 60, u64::MAX][usize::try_from(number % 3).unwrap()];
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&high.to_be_bytes());
        bytes[8..].copy_from_slice(&number.to_be_bytes());
        KeyDigest(bytes)
    }

    const fn place(number: u64) -> RecordPlace {
        RecordPlace { partition: PartitionId::new(7), offset: Offset::new(number << 30) }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push(u64),
        Release(u64),
    }

    proptest! {
        #[test]
        fn what_was_pushed_is_found_until_it_is_released(
            keys_max in 1u64..20,
            steps in proptest::collection::vec(
                prop_oneof![(0u64..30).prop_map(Step::Push), (0u64..20).prop_map(Step::Release)], 0..200),
        ) {
            let mut recent = Recent::new(keys_max * RECENT_KEY_BYTES + 39);
            let mut model: Vec<u64> = Vec::new();
            let mut released = 0;
            for step in steps {
                match step {
                    Step::Push(key) if recent.room() > 0 => {
                        recent.push(digest(key), place(model.len() as u64));
                        model.push(key);
                    }
                    Step::Push(_) => prop_assert_eq!(model.len() - released, usize::try_from(keys_max).unwrap()),
                    Step::Release(more) => {
                        released = (released + usize::try_from(more).unwrap()).min(model.len());
                        recent.release(released as u64);
                    }
                }
                let held = model.iter().enumerate().skip(released);
                let found: BTreeMap<u64, u64> = held.map(|(number, key)| (*key, number as u64)).collect();
                for key in 0..30 {
                    prop_assert_eq!(recent.get(digest(key)), found.get(&key).map(|number| place(*number)));
                }
                prop_assert_eq!(recent.len(), model.len() - released);
            }
        }
    }

    #[test]
    fn a_full_table_stays_within_its_memory() {
        let recent = Recent::new(1 << 20);
        let bytes = recent.keys.capacity() * size_of::<Key>() + recent.slots.len() * size_of::<Slot>();
        assert!(bytes <= 1 << 20, "{bytes}");
        assert_eq!(recent.room(), (1 << 20) / 40);
    }
}
