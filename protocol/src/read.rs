//! Bounded reader over received bytes: with `write`, the only place that indexes them.

use bytes::Bytes;

use crate::error::{DecodeError, Problem};
use crate::limits::NUMBER_MAX;
use crate::units::{Offset, Sequence};

/// Reads values from the front of a byte slice and remembers where it is.
///
/// All numbers are little endian. No method allocates more than the input holds.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    /// A reader at the start of `bytes`.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    /// All bytes the reader was made over, read or not.
    pub const fn whole(&self) -> &'a [u8] {
        self.bytes
    }

    /// How many bytes have been read.
    pub const fn position(&self) -> usize {
        self.position
    }

    /// How many bytes are left.
    pub const fn remaining(&self) -> usize {
        self.bytes.len() - self.position
    }

    /// An error about the value that comes next.
    pub const fn error(&self, problem: Problem) -> DecodeError {
        DecodeError::new(self.position, problem)
    }

    /// The next `len` bytes.
    ///
    /// # Errors
    /// [`Problem::Truncated`] if fewer are left.
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let Some(taken) = self.bytes.get(self.position..).and_then(|rest| rest.get(..len)) else {
            return Err(self.error(Problem::Truncated { needed: len, available: self.remaining() }));
        };
        self.position += len;
        Ok(taken)
    }

    /// All bytes that are left.
    pub fn rest(&mut self) -> &'a [u8] {
        let rest = self.bytes.get(self.position..).unwrap_or(&[]);
        self.position = self.bytes.len();
        rest
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let taken = self.take(N)?;
        Ok(taken.try_into().expect("take returns exactly N bytes"))
    }

    /// One byte.
    ///
    /// # Errors
    /// [`Problem::Truncated`].
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    /// Two bytes.
    ///
    /// # Errors
    /// [`Problem::Truncated`].
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    /// Four bytes.
    ///
    /// # Errors
    /// [`Problem::Truncated`].
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// Eight bytes.
    ///
    /// # Errors
    /// [`Problem::Truncated`].
    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// Eight bytes, signed.
    ///
    /// # Errors
    /// [`Problem::Truncated`].
    pub fn i64(&mut self) -> Result<i64, DecodeError> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    /// Sixteen bytes as they are.
    ///
    /// # Errors
    /// [`Problem::Truncated`].
    pub fn bytes16(&mut self) -> Result<[u8; 16], DecodeError> {
        self.array()
    }

    /// An offset, small enough to be calculated with.
    ///
    /// # Errors
    /// [`Problem::Truncated`], [`Problem::TooLarge`].
    pub fn offset(&mut self) -> Result<Offset, DecodeError> {
        self.number("offset").map(Offset::new)
    }

    /// A sequence, small enough to be calculated with.
    ///
    /// # Errors
    /// [`Problem::Truncated`], [`Problem::TooLarge`].
    pub fn sequence(&mut self) -> Result<Sequence, DecodeError> {
        self.number("sequence").map(Sequence::new)
    }

    fn number(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        let at = self.position;
        let value = self.u64()?;
        if value <= NUMBER_MAX {
            return Ok(value);
        }
        Err(DecodeError::new(at, Problem::TooLarge { what, value, max: NUMBER_MAX }))
    }

    /// One byte that is 0 or 1.
    ///
    /// # Errors
    /// [`Problem::Truncated`], [`Problem::Invalid`].
    pub fn flag(&mut self, what: &'static str) -> Result<bool, DecodeError> {
        let at = self.position;
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(DecodeError::new(at, Problem::Invalid { what, value: u64::from(other) })),
        }
    }

    /// A count that precedes items of at least `item_len` bytes each, so that a count larger than the input
    /// can hold is refused before anything is allocated for it.
    ///
    /// # Errors
    /// [`Problem::Truncated`], [`Problem::TooLarge`].
    pub fn count(&mut self, what: &'static str, item_len: usize) -> Result<usize, DecodeError> {
        let at = self.position;
        let count = self.u32()? as usize;
        let max = self.remaining() / item_len.max(1);
        if count > max {
            let problem = Problem::TooLarge { what, value: count as u64, max: max as u64 };
            return Err(DecodeError::new(at, problem));
        }
        Ok(count)
    }

    /// Text of at most `max` bytes, preceded by its length in two bytes.
    ///
    /// # Errors
    /// [`Problem::Truncated`], [`Problem::TooLarge`], [`Problem::Utf8`].
    pub fn text(&mut self, what: &'static str, max: usize) -> Result<String, DecodeError> {
        let at = self.position;
        let len = usize::from(self.u16()?);
        if len > max {
            let problem = Problem::TooLarge { what, value: len as u64, max: max as u64 };
            return Err(DecodeError::new(at, problem));
        }
        let start = self.position;
        let taken = self.take(len)?;
        match std::str::from_utf8(taken) {
            Ok(text) => Ok(text.to_owned()),
            Err(error) => Err(DecodeError::new(start + error.valid_up_to(), Problem::Utf8(what))),
        }
    }

    /// An unsigned number in 1 to 10 bytes of 7 bits, least significant first.
    ///
    /// # Errors
    /// [`Problem::Truncated`]; [`Problem::Invalid`] if it does not fit 64 bits.
    pub fn varint(&mut self) -> Result<u64, DecodeError> {
        let at = self.position;
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::new(at, Problem::Invalid { what: "varint", value }))
    }

    /// A signed number in zigzag form: small absolute values take few bytes.
    ///
    /// # Errors
    /// As [`Reader::varint`].
    pub fn zigzag(&mut self) -> Result<i64, DecodeError> {
        let raw = self.varint()?;
        Ok((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed())
    }

    /// Says that the input must end here.
    ///
    /// # Errors
    /// [`Problem::Trailing`] if it does not.
    pub const fn finish(self) -> Result<(), DecodeError> {
        match self.remaining() {
            0 => Ok(()),
            left => Err(self.error(Problem::Trailing(left))),
        }
    }
}

/// The part of `whole` that `part` is, as a cheap clone.
///
/// # Panics
/// If `part` is not a slice of `whole`.
pub fn slice_of(whole: &Bytes, part: &[u8]) -> Bytes {
    whole.slice_ref(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_takes_all_or_nothing() {
        let mut reader = Reader::new(&[1, 2, 3]);
        assert_eq!(reader.u16(), Ok(0x0201));
        let truncated = Problem::Truncated { needed: 2, available: 1 };
        assert_eq!(reader.u16(), Err(DecodeError::new(2, truncated)));
        assert_eq!(reader.take(usize::MAX).unwrap_err().position, 2);
        assert_eq!((reader.position(), reader.remaining()), (2, 1));
        assert_eq!(reader.clone().finish(), Err(DecodeError::new(2, Problem::Trailing(1))));
        assert_eq!(reader.rest(), [3]);
        assert_eq!(reader.finish(), Ok(()));
    }

    #[test]
    fn numbers_to_be_calculated_with_leave_room() {
        let largest = NUMBER_MAX.to_le_bytes();
        let beyond = (NUMBER_MAX + 1).to_le_bytes();
        assert_eq!(Reader::new(&largest).offset(), Ok(Offset::new(NUMBER_MAX)));
        assert_eq!(Reader::new(&largest).sequence(), Ok(Sequence::new(NUMBER_MAX)));
        assert!(Reader::new(&beyond).offset().is_err());
        assert!(Reader::new(&beyond).sequence().is_err());
    }

    #[test]
    fn a_count_is_believed_only_if_its_items_can_be_there() {
        let bytes = [3, 0, 0, 0, 1, 1, 1, 1, 1, 1];
        assert_eq!(Reader::new(&bytes).count("items", 2), Ok(3));
        let problem = Problem::TooLarge { what: "items", value: 3, max: 2 };
        assert_eq!(Reader::new(&bytes).count("items", 3), Err(DecodeError::new(0, problem)));
    }

    #[test]
    fn flags_are_zero_or_one() {
        assert_eq!(Reader::new(&[0]).flag("on"), Ok(false));
        assert_eq!(Reader::new(&[1]).flag("on"), Ok(true));
        let problem = Problem::Invalid { what: "on", value: 2 };
        assert_eq!(Reader::new(&[2]).flag("on"), Err(DecodeError::new(0, problem)));
    }

    #[test]
    fn text_that_is_not_utf8_is_refused_where_it_stops_being() {
        let error = Reader::new(&[3, 0, b'a', 0xff, b'b']).text("name", 10).unwrap_err();
        assert_eq!(error, DecodeError::new(3, Problem::Utf8("name")));
    }
}
