//! What can be wrong with received bytes.

use thiserror::Error;

/// Received bytes that are not what they should be, and where.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("at byte {position}: {problem}")]
pub struct DecodeError {
    /// Distance of the first wrong byte from the start of what was decoded.
    pub position: usize,
    /// What is wrong there.
    pub problem: Problem,
}

impl DecodeError {
    /// `problem` at `position`.
    pub const fn new(position: usize, problem: Problem) -> Self {
        Self { position, problem }
    }

    /// The same problem, seen from `bytes` further out.
    #[must_use]
    pub const fn shifted(self, bytes: usize) -> Self {
        Self { position: self.position.saturating_add(bytes), problem: self.problem }
    }
}

/// The ways in which bytes can be wrong.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum Problem {
    /// The input ends too early.
    #[error("{needed} more bytes needed, {available} left")]
    Truncated {
        /// Bytes the next value takes.
        needed: usize,
        /// Bytes that are there.
        available: usize,
    },
    /// Bytes follow where nothing should.
    #[error("{0} bytes too many")]
    Trailing(usize),
    /// A number exceeds its limit.
    #[error("{what} is {value}, the limit is {max}")]
    TooLarge {
        /// Name of the field.
        what: &'static str,
        /// Its value.
        value: u64,
        /// The largest allowed value.
        max: u64,
    },
    /// A value that has no meaning here.
    #[error("{what} cannot be {value}")]
    Invalid {
        /// Name of the field.
        what: &'static str,
        /// Its value.
        value: u64,
    },
    /// Two fields contradict each other.
    #[error("{what} is {value}, but must be {expected}")]
    Mismatch {
        /// Name of the field.
        what: &'static str,
        /// Its value.
        value: u64,
        /// The value that the rest of the input demands.
        expected: u64,
    },
    /// A checksum does not match its bytes.
    #[error("checksum of the {what} is {computed:#010x}, but {stored:#010x} is stored")]
    Checksum {
        /// Which section.
        what: &'static str,
        /// The checksum that stands in the input.
        stored: u32,
        /// The checksum of the bytes that are there.
        computed: u32,
    },
    /// Text that is not UTF-8.
    #[error("{0} is not UTF-8")]
    Utf8(&'static str),
    /// A compressed body that cannot be restored.
    #[error("{0} body cannot be decompressed")]
    Compression(&'static str),
}
