//! Durations: `500ms`, `30s`, `5m`, `2h`, `7d`.

use std::fmt;
use std::time::Duration;

use super::{Units, ValueError};

const MICROS_PER_SECOND: u64 = 1_000_000;

const UNITS: Units = Units {
    table: &[
        ("us", 1),
        ("ms", 1_000),
        ("s", MICROS_PER_SECOND),
        ("m", 60 * MICROS_PER_SECOND),
        ("h", 3_600 * MICROS_PER_SECOND),
        ("d", 86_400 * MICROS_PER_SECOND),
    ],
    names: "us ms s m h d",
    example: "30s",
};

/// Reads a duration: a whole number and one of `us ms s m h d`.
pub(crate) fn duration(text: &str) -> Result<Duration, ValueError> {
    UNITS.parse(text).map(Duration::from_micros)
}

/// A duration in microseconds, written so that [`duration`] reads it back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DurationText(pub(crate) u64);

impl fmt::Display for DurationText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 { f.write_str("0s") } else { UNITS.write(self.0, f) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_unit_is_what_it_says() {
        let cases = [
            ("7us", 7),
            ("500ms", 500_000),
            ("30s", 30_000_000),
            ("5m", 300_000_000),
            ("2h", 7_200_000_000),
            ("7d", 604_800_000_000),
            ("0s", 0),
        ];
        for (text, micros) in cases {
            assert_eq!(duration(text), Ok(Duration::from_micros(micros)), "{text}");
            assert_eq!(DurationText(micros).to_string(), text);
        }
    }

    #[test]
    fn what_is_not_a_duration_is_refused_with_its_reason() {
        assert!(matches!(duration("30"), Err(ValueError::NoUnit { .. })));
        assert!(matches!(duration(""), Err(ValueError::NoNumber { .. })));
        assert!(matches!(duration("-5s"), Err(ValueError::NoNumber { .. })));
        assert!(matches!(duration("5 s"), Err(ValueError::Unit { unit, .. }) if unit == " s"));
        assert!(matches!(duration("1.5h"), Err(ValueError::Unit { .. })));
        assert!(matches!(duration("5M"), Err(ValueError::Unit { .. })));
        assert_eq!(duration("99999999999999d"), Err(ValueError::TooLarge));
        assert_eq!(duration("99999999999999999999999s"), Err(ValueError::TooLarge));
    }

    #[test]
    fn odd_durations_are_written_in_the_unit_that_divides_them() {
        assert_eq!(DurationText(90_000_000).to_string(), "90s");
        assert_eq!(DurationText(1_500).to_string(), "1500us");
    }
}
