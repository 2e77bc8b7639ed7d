//! Records that can be recognised: producer, number, time of sending, a check over them, and known bytes behind.
//!
//! They are cut out of large buffers, so that making one costs a few nanoseconds and no allocation; a buffer is used
//! again once all records that were cut from it are gone.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// Bytes of the header: producer u32, number u64, time u64, check u32, little endian.
const HEADER_BYTES: usize = 24;
const _: () = assert!(HEADER_BYTES as u64 == super::arguments::SIZE_MIN, "the smallest value is a header");

/// Bytes of a key: 16 hexadecimal digits.
const KEY_BYTES: usize = 16;

/// Size of a buffer, unless one record is longer.
const BUFFER_BYTES: usize = 256 << 10;

/// Buffers looked at before a fresh one is taken.
const BUFFERS_TRIED: usize = 4;

/// Buffers kept for being used again. Beyond it the oldest is left to its records.
const BUFFERS_KEPT: usize = 512;

/// What is the same for all records of a run.
#[derive(Debug)]
pub(crate) struct Pattern {
    run: u64,
    filler: Vec<u8>,
    keys: Option<u64>,
}

/// What a record says about itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Mark {
    /// Which producer made it.
    pub(crate) producer: u32,
    /// Its number among the records of the producer, from 0.
    pub(crate) number: u64,
    /// When it was sent, in nanoseconds since the start of the run.
    pub(crate) sent_ns: u64,
}

/// Why a value is not one of the run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Foreign {
    /// It was made by something else.
    Unknown,
    /// It was made by this run, and other bytes came back.
    Damaged,
}

impl Pattern {
    /// A pattern for values of `size` bytes. `run` tells it from those of other runs.
    pub(crate) fn new(run: u64, size: usize, keys: Option<u64>) -> Self {
        let mut state = run | 1;
        let filler = (HEADER_BYTES..size).map(|_| {
            state = mix(state);
            state.to_le_bytes()[0]
        });
        Self { run, filler: filler.collect(), keys }
    }

    /// What tells the run from others.
    pub(crate) const fn run(&self) -> u64 {
        self.run
    }

    /// Bytes of a key and a value.
    fn record_bytes(&self) -> usize {
        let key = if self.keys.is_some() { KEY_BYTES } else { 0 };
        key + HEADER_BYTES + self.filler.len()
    }

    /// Bytes of the keys and values of so many records.
    pub(crate) fn bytes(&self, records: u64) -> u64 {
        records.saturating_mul(u64::try_from(self.record_bytes()).unwrap_or(u64::MAX))
    }

    fn header(&self, mark: Mark) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        let (producer, rest) = header.split_at_mut(4);
        let (number, rest) = rest.split_at_mut(8);
        let (sent, check) = rest.split_at_mut(8);
        producer.copy_from_slice(&mark.producer.to_le_bytes());
        number.copy_from_slice(&mark.number.to_le_bytes());
        sent.copy_from_slice(&mark.sent_ns.to_le_bytes());
        check.copy_from_slice(&self.check(mark).to_le_bytes());
        header
    }

    /// The number of which half is the check: it depends on everything in the header.
    fn check(&self, mark: Mark) -> u32 {
        // Odd factors keep every bit of the fields apart; one round of mixing does the rest.
        let number = mark.number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let sent = mark.sent_ns.wrapping_mul(0xc2b2_ae3d_27d4_eb4f);
        let sum = mix(self.run ^ number ^ sent ^ u64::from(mark.producer));
        u32::try_from(sum >> 32).expect("half of 64 bits fits 32")
    }

    /// Reads a value back.
    pub(crate) fn read(&self, value: &[u8]) -> Result<Mark, Foreign> {
        let (header, filler) = value.split_at_checked(HEADER_BYTES).ok_or(Foreign::Unknown)?;
        let mut fields = header;
        let mark = Mark {
            producer: u32::from_le_bytes(take(&mut fields)),
            number: u64::from_le_bytes(take(&mut fields)),
            sent_ns: u64::from_le_bytes(take(&mut fields)),
        };
        if u32::from_le_bytes(take(&mut fields)) != self.check(mark) {
            return Err(Foreign::Unknown);
        }
        if filler == self.filler { Ok(mark) } else { Err(Foreign::Damaged) }
    }
}

/// The next `N` bytes of a header.
fn take<const N: usize>(fields: &mut &[u8]) -> [u8; N] {
    let (head, tail) = fields.split_first_chunk::<N>().expect("the fields are as long as a header");
    *fields = tail;
    *head
}

/// Scatters the bits of a number (the finaliser of SplitMix64).
fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// Cuts the records of one producer.
#[derive(Debug)]
pub(crate) struct Cutter<'a> {
    pattern: &'a Pattern,
    producer: u32,
    next: u64,
    /// A buffer full of records, headers not yet written.
    template: Vec<u8>,
    current: BytesMut,
    used: VecDeque<BytesMut>,
}

impl<'a> Cutter<'a> {
    /// Cuts for the producer with this number.
    pub(crate) fn new(pattern: &'a Pattern, producer: u32) -> Self {
        let record = pattern.record_bytes();
        let key = if pattern.keys.is_some() { KEY_BYTES } else { 0 };
        let one: Vec<u8> =
            vec![0; key + HEADER_BYTES].into_iter().chain(pattern.filler.iter().copied()).collect();
        let template = one.repeat((BUFFER_BYTES / record).max(1));
        Self { pattern, producer, next: 0, template, current: BytesMut::new(), used: VecDeque::new() }
    }

    /// The next key and value, sent at `sent_ns`.
    pub(crate) fn cut(&mut self, sent_ns: u64) -> (Option<Bytes>, Bytes) {
        if self.current.is_empty() {
            self.refill();
        }
        let mark = Mark { producer: self.producer, number: self.next, sent_ns };
        self.next += 1;
        let key = self.pattern.keys.map(|keys| self.cut_key(mix(mark.number) % keys));
        let mut value = self.current.split_to(HEADER_BYTES + self.pattern.filler.len());
        value
            .get_mut(..HEADER_BYTES)
            .expect("a value is longer than its header")
            .copy_from_slice(&self.pattern.header(mark));
        (key, value.freeze())
    }

    fn cut_key(&mut self, number: u64) -> Bytes {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut key = self.current.split_to(KEY_BYTES);
        for (digit, shift) in key.iter_mut().zip((0..64).step_by(4).rev()) {
            let nibble = usize::try_from(number >> shift & 0xf).expect("four bits fit");
            *digit = *DIGITS.get(nibble).expect("four bits are below 16");
        }
        key.freeze()
    }

    /// Takes a buffer whose records are gone, one of the oldest.
    fn free(&mut self, length: usize) -> Option<BytesMut> {
        for _ in 0..BUFFERS_TRIED {
            let mut oldest = self.used.pop_front()?;
            if oldest.try_reclaim(length) {
                return Some(oldest);
            }
            // One record that is kept for long must not stand in the way of the other buffers.
            self.used.push_back(oldest);
        }
        None
    }

    /// Goes on with a free buffer, or a fresh one.
    fn refill(&mut self) {
        let length = self.template.len();
        if self.next > 0 {
            self.used.push_back(std::mem::take(&mut self.current));
        }
        self.current = self.free(length).unwrap_or_else(|| BytesMut::with_capacity(length));
        if self.used.len() > BUFFERS_KEPT {
            self.used.pop_front();
        }
        self.current.extend_from_slice(&self.template);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_cut_is_recognised() {
        for size in [24, 25, 100, 1_000, 300_000] {
            let pattern = Pattern::new(7, size, None);
            let mut cutter = Cutter::new(&pattern, 3);
            for number in 0..5_000 / u64::try_from(size).unwrap() + 3 {
                let (key, value) = cutter.cut(number * 10);
                assert_eq!((key, value.len()), (None, size));
                assert_eq!(pattern.read(&value), Ok(Mark { producer: 3, number, sent_ns: number * 10 }));
            }
        }
    }

    #[test]
    fn any_changed_byte_is_noticed() {
        let pattern = Pattern::new(7, 40, None);
        let (_, value) = Cutter::new(&pattern, 0).cut(99);
        for index in 0..value.len() {
            let mut changed = value.to_vec();
            changed[index] ^= 1;
            let expected = if index < HEADER_BYTES { Foreign::Unknown } else { Foreign::Damaged };
            assert_eq!(pattern.read(&changed), Err(expected), "byte {index}");
        }
        assert_eq!(pattern.read(&value[..30]), Err(Foreign::Damaged), "cut short");
        assert_eq!(pattern.read(&value[..10]), Err(Foreign::Unknown));
        assert_eq!(Pattern::new(8, 40, None).read(&value), Err(Foreign::Unknown), "another run");
    }

    #[test]
    fn there_are_as_many_keys_as_asked_for() {
        let pattern = Pattern::new(7, 24, Some(10));
        let mut cutter = Cutter::new(&pattern, 0);
        let keys: std::collections::BTreeSet<Bytes> = (0..1_000).map(|_| cutter.cut(0).0.unwrap()).collect();
        assert_eq!(keys.len(), 10);
        assert!(keys.iter().all(|key| key.len() == KEY_BYTES));
    }

    #[test]
    fn records_that_are_held_keep_their_bytes_while_buffers_are_used_again() {
        let pattern = Pattern::new(7, 100, None);
        let mut cutter = Cutter::new(&pattern, 0);
        let held: Vec<Bytes> = (0..5_000).map(|_| cutter.cut(0).1).collect();
        for _ in 0..100_000 {
            drop(cutter.cut(0));
        }
        for (number, value) in (0..).zip(held) {
            assert_eq!(pattern.read(&value).unwrap().number, number);
        }
        assert!(cutter.used.len() < 10, "{} buffers are kept", cutter.used.len());
    }
}
