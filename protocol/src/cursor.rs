//! A group's cursor in a partition: what is settled stays settled, and the floor never goes back.
//!
//! Everything below the floor is settled, and some records above it: a bit each, in a window of fixed size. So a million
//! acknowledgements out of order take 128 KiB, whatever their order. Broker, disk and client count with the same type.

use std::collections::VecDeque;

use bytes::BufMut;

use crate::error::{DecodeError, Problem};
use crate::limits::CURSOR_WINDOW_RECORDS;
use crate::read::Reader;
use crate::units::Offset;
use crate::write::Write;

/// Records of a word.
const WORD: u64 = u64::BITS as u64;

/// What a group has settled of a partition.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Cursor {
    floor: u64,
    /// A bit for each record from the last multiple of 64 at or below the floor. The bits below the floor and at it are
    /// 0, and the last word is not 0: equal cursors have equal words.
    words: VecDeque<u64>,
}

/// A record lies too far above the floor to be settled before those below it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "offset {offset} lies more than {CURSOR_WINDOW_RECORDS} records above {floor}, the first that is not settled"
)]
pub struct BeyondWindow {
    /// The offset after the last that was to be settled.
    pub offset: Offset,
    /// The first record that is not settled.
    pub floor: Offset,
}

impl Cursor {
    /// Everything below `floor` is settled, and nothing above.
    pub const fn at(floor: Offset) -> Self {
        Self { floor: floor.get(), words: VecDeque::new() }
    }

    /// The first record that is not settled.
    pub const fn floor(&self) -> Offset {
        Offset::new(self.floor)
    }

    /// The offset up to which records can be settled now.
    pub const fn window_end(&self) -> Offset {
        Offset::new(self.floor.saturating_add(CURSOR_WINDOW_RECORDS))
    }

    /// Whether a record is settled.
    pub fn contains(&self, offset: Offset) -> bool {
        let offset = offset.get();
        if offset < self.floor {
            return true;
        }
        let distance = offset - self.base();
        let word = usize::try_from(distance / WORD).ok().and_then(|index| self.words.get(index));
        word.is_some_and(|word| word >> (distance % WORD) & 1 == 1)
    }

    /// Records above the floor that are settled.
    pub fn settled_above(&self) -> u64 {
        self.words.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    /// Words of 64 records that it keeps above its floor.
    pub fn words(&self) -> usize {
        self.words.len()
    }

    /// The most words it keeps once these ranges have been settled, one after the other.
    pub fn words_with(&self, ranges: &[(Offset, Offset)]) -> usize {
        let kept = u64::try_from(self.words.len()).unwrap_or(u64::MAX);
        let (mut floor, mut end) = (self.floor, self.base() + WORD * kept);
        for (from, to) in ranges {
            if from.get() <= floor {
                floor = floor.max(to.get());
            }
            end = end.max(to.get());
        }
        let words = if end <= floor { 0 } else { (end - floor / WORD * WORD).div_ceil(WORD) };
        usize::try_from(words).unwrap_or(usize::MAX).min(CURSOR_WORDS_MAX)
    }

    /// Settles the records in `from..to`. Says whether that changed anything.
    ///
    /// # Errors
    /// [`BeyondWindow`] if they end too far above the floor; nothing is settled then.
    ///
    /// # Panics
    /// Never: what lies within the window can be counted.
    pub fn settle(&mut self, from: Offset, to: Offset) -> Result<bool, BeyondWindow> {
        if from >= to || to <= self.floor() {
            return Ok(false);
        }
        if from <= self.floor() {
            self.raise(to);
            return Ok(true);
        }
        if to > self.window_end() {
            return Err(BeyondWindow { offset: to, floor: self.floor() });
        }
        let (first, end) = (from.get() - self.base(), to.get() - self.base());
        let words = usize::try_from(end.div_ceil(WORD)).expect("the window is small");
        if self.words.len() < words {
            self.words.resize(words, 0);
        }
        let mut changed = false;
        let mut at = first;
        while at < end {
            let until = ((at / WORD + 1) * WORD).min(end);
            let mask = mask(at % WORD, until - at);
            let index = usize::try_from(at / WORD).expect("the window is small");
            if let Some(word) = self.words.get_mut(index) {
                changed |= *word & mask != mask;
                *word |= mask;
            }
            at = until;
        }
        Ok(changed)
    }

    /// Settles everything below `floor`, and what follows it without a gap.
    pub fn raise(&mut self, floor: Offset) {
        if floor.get() <= self.floor {
            return;
        }
        let old_base = self.base();
        self.floor = floor.get();
        self.drop_words((self.base() - old_base) / WORD);
        // The floor passes what had been settled ahead of it.
        while let Some(word) = self.words.front() {
            let settled = u64::from((word >> (self.floor % WORD)).trailing_ones());
            if settled == 0 {
                break;
            }
            self.floor += settled;
            if !self.floor.is_multiple_of(WORD) {
                break;
            }
            self.drop_words(1);
        }
        let below = mask(0, self.floor % WORD);
        if let Some(word) = self.words.front_mut() {
            *word &= !below;
        }
        while self.words.back() == Some(&0) {
            self.words.pop_back();
        }
    }

    fn drop_words(&mut self, count: u64) {
        let count = usize::try_from(count).unwrap_or(usize::MAX).min(self.words.len());
        self.words.drain(..count);
    }

    /// The record that the first bit stands for.
    const fn base(&self) -> u64 {
        self.floor / WORD * WORD
    }

    /// Length of the encoded cursor.
    pub fn encoded_bytes(&self) -> usize {
        8 + 4 + 8 * self.words.len()
    }

    /// Writes the cursor: floor, count of words, words.
    pub fn encode(&self, out: &mut impl BufMut) {
        out.put_u64_le(self.floor);
        out.put_count(self.words.len());
        self.words.iter().for_each(|word| out.put_u64_le(*word));
    }

    /// Reads a cursor.
    ///
    /// # Errors
    /// What is wrong, and at which byte.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let floor = reader.offset()?;
        let at = reader.position();
        let count = reader.count("cursor words", 8)?;
        if count > CURSOR_WORDS_MAX {
            let (value, max) = (count as u64, CURSOR_WORDS_MAX as u64);
            return Err(DecodeError::new(at, Problem::TooLarge { what: "cursor words", value, max }));
        }
        let words: VecDeque<u64> = (0..count).map(|_| reader.u64()).collect::<Result<_, _>>()?;
        let below = mask(0, floor.get() % WORD + 1);
        let first = words.front().copied().unwrap_or(0);
        if first & below != 0 || words.back() == Some(&0) {
            return Err(DecodeError::new(at, Problem::Invalid { what: "cursor words", value: first }));
        }
        Ok(Self { floor: floor.get(), words })
    }
}

/// Words a window can touch.
const CURSOR_WORDS_MAX: usize = (CURSOR_WINDOW_RECORDS / WORD) as usize + 1;

/// `count` bits from the bit `from` on.
const fn mask(from: u64, count: u64) -> u64 {
    if count >= WORD { u64::MAX << from } else { ((1 << count) - 1) << from }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn settle(cursor: &mut Cursor, from: u64, to: u64) -> Result<bool, BeyondWindow> {
        cursor.settle(Offset::new(from), Offset::new(to))
    }

    #[test]
    fn the_floor_passes_what_was_settled_ahead_of_it() {
        let mut cursor = Cursor::at(Offset::new(60));
        assert_eq!(settle(&mut cursor, 61, 200), Ok(true));
        assert_eq!((cursor.floor().get(), cursor.settled_above()), (60, 139));
        assert_eq!(settle(&mut cursor, 60, 61), Ok(true));
        assert_eq!(cursor, Cursor::at(Offset::new(200)));
    }

    #[test]
    fn nothing_is_settled_beyond_the_window() {
        let mut cursor = Cursor::at(Offset::new(5));
        let end = cursor.window_end().get();
        assert_eq!(settle(&mut cursor, end - 1, end), Ok(true));
        let before = cursor.clone();
        let beyond = BeyondWindow { offset: Offset::new(end + 1), floor: Offset::new(5) };
        assert_eq!(settle(&mut cursor, 7, end + 1), Err(beyond));
        assert_eq!(cursor, before);
        assert_eq!(settle(&mut cursor, 5, end + 99), Ok(true), "what begins at the floor has no bound");
        assert_eq!(cursor, Cursor::at(Offset::new(end + 99)));
    }

    #[test]
    fn words_that_no_cursor_would_write_are_refused() {
        for (floor, words) in [(3, vec![0b111]), (3, vec![0b1000]), (3, vec![1 << 9, 0]), (64, vec![1])] {
            let mut bytes = Vec::new();
            bytes.put_u64_le(floor);
            bytes.put_count(words.len());
            words.iter().for_each(|word| bytes.put_u64_le(*word));
            let error = Cursor::decode(&mut Reader::new(&bytes)).unwrap_err();
            assert_eq!(error.position, 8, "{floor} {words:?}: {error}");
        }
    }

    proptest! {
        #[test]
        fn a_cursor_is_the_set_of_what_was_settled(
            start in 0u64..200, steps in vec((0u64..700, 1u64..150), 0..60),
        ) {
            let mut cursor = Cursor::at(Offset::new(start));
            let mut model: BTreeSet<u64> = (0..start).collect();
            for (from, count) in steps {
                let before = model.len();
                let (words, most) =
                    (cursor.words(), cursor.words_with(&[(Offset::new(from), Offset::new(from + count))]));
                prop_assert!(from > cursor.floor().get() || most <= words, "what begins at the floor needs no more");
                model.extend(from..from + count);
                let changed = settle(&mut cursor, from, from + count).unwrap();
                prop_assert_eq!(changed, model.len() != before);
                prop_assert!(cursor.words() <= most);
                let floor = (0..).find(|offset| !model.contains(offset)).unwrap();
                prop_assert_eq!(cursor.floor().get(), floor);
                prop_assert_eq!(cursor.settled_above(), model.range(floor..).count() as u64);
                for offset in 0..900 {
                    prop_assert_eq!(cursor.contains(Offset::new(offset)), model.contains(&offset));
                }
                let mut bytes = Vec::new();
                cursor.encode(&mut bytes);
                prop_assert_eq!(bytes.len(), cursor.encoded_bytes());
                let mut reader = Reader::new(&bytes);
                prop_assert_eq!(Cursor::decode(&mut reader), Ok(cursor.clone()));
                prop_assert_eq!(reader.remaining(), 0);
            }
        }
    }
}
