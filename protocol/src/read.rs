//! Bounded reader over received bytes: with `write`, the only place that indexes them.

use bytes::Bytes;

use crate::error::{DecodeError, Problem};

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
