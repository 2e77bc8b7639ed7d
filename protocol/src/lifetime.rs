//! How long a record is worth delivering.

use core::time::Duration;

use crate::units::Timestamp;

/// Name of the header that says for how many milliseconds after it was appended a record is worth delivering, in decimal digits.
/// Whoever delivers to an application leaves out what is older; what says anything else lives for ever.
pub const LIFETIME_HEADER: &str = "weir-lifetime-ms";

/// The value of [`LIFETIME_HEADER`] for a lifetime: milliseconds, at least 1.
#[must_use]
pub fn lifetime_value(lifetime: Duration) -> String {
    lifetime.as_millis().max(1).to_string()
}

/// Whether a record that was appended at a time, and whose header has this value, is not worth delivering any more.
#[must_use]
pub fn is_over(value: &[u8], appended: Timestamp, now: Timestamp) -> bool {
    let lifetime = core::str::from_utf8(value).ok().and_then(|text| text.parse::<u64>().ok());
    lifetime.is_some_and(|ms| {
        let lifetime_us = i64::try_from(ms.saturating_mul(1000)).unwrap_or(i64::MAX);
        appended.saturating_add_micros(lifetime_us) <= now
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_lives_as_long_as_it_says_and_for_ever_if_it_says_nothing_sensible() {
        let at = Timestamp::from_micros;
        let value = lifetime_value(Duration::from_micros(2_900));
        assert_eq!(value, "2");
        assert!(!is_over(value.as_bytes(), at(5), at(2_004)));
        assert!(is_over(value.as_bytes(), at(5), at(2_005)));
        assert_eq!(lifetime_value(Duration::ZERO), "1");
        assert!(!is_over(lifetime_value(Duration::MAX).as_bytes(), at(5), at(i64::MAX - 1)));
        for text in ["", "-1", "1.5", " 1", "\u{663}"] {
            assert!(!is_over(text.as_bytes(), at(0), at(i64::MAX)), "{text:?}");
        }
    }
}
