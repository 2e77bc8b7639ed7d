//! Sizes in bytes: `100`, `64KiB`, `10MB`, `1GiB`.

use std::fmt;

use super::{Units, ValueError};

const UNITS: Units = Units {
    table: &[
        ("", 1),
        ("B", 1),
        ("kB", 1_000),
        ("KB", 1_000),
        ("KiB", 1 << 10),
        ("MB", 1_000_000),
        ("MiB", 1 << 20),
        ("GB", 1_000_000_000),
        ("GiB", 1 << 30),
        ("TB", 1_000_000_000_000),
        ("TiB", 1 << 40),
    ],
    names: "B KB KiB MB MiB GB GiB TB TiB",
    example: "64KiB",
};

/// The units sizes are written in: powers of two only, as limits usually are.
const WRITTEN: Units = Units {
    table: &[("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)],
    names: UNITS.names,
    example: UNITS.example,
};

/// Reads a size: a whole number and, unless it is in bytes, its unit.
pub(crate) fn size(text: &str) -> Result<u64, ValueError> {
    UNITS.parse(text)
}

/// A size, written so that [`size`] reads it back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SizeText(pub(crate) u64);

impl fmt::Display for SizeText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        WRITTEN.write(self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimal_and_binary_units_differ() {
        let cases = [
            ("0", 0),
            ("100", 100),
            ("100B", 100),
            ("10KB", 10_000),
            ("64KiB", 65_536),
            ("10MB", 10_000_000),
            ("1MiB", 1_048_576),
            ("1GB", 1_000_000_000),
            ("1GiB", 1_073_741_824),
            ("2TiB", 2_199_023_255_552),
        ];
        for (text, bytes) in cases {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_size_is_refused() {
        assert!(matches!(size("10Mb"), Err(ValueError::Unit { .. })));
        assert!(matches!(size("MiB"), Err(ValueError::NoNumber { .. })));
        assert!(matches!(size("-1"), Err(ValueError::NoNumber { .. })));
        assert_eq!(size("99999999TiB"), Err(ValueError::TooLarge));
    }

    #[test]
    fn a_written_size_reads_back_the_same() {
        for bytes in [0, 1, 1_000, 1_024, 65_536, 1_114_112, 10 << 30, 3 << 40, u64::MAX] {
            assert_eq!(size(&SizeText(bytes).to_string()), Ok(bytes));
        }
        assert_eq!(SizeText(1_114_112).to_string(), "1088KiB");
    }
}
