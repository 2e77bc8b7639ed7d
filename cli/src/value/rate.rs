//! Rates: `500/s`, `1k/s`, `2M/s`, `90/m`.

use std::time::Duration;

use super::{Units, ValueError};

const NANOS_PER_SECOND: u128 = 1_000_000_000;

const UNITS: Units = Units {
    table: &[
        ("/s", 1),
        ("k/s", 1_000),
        ("M/s", 1_000_000),
        ("/m", 1),
        ("k/m", 1_000),
        ("/h", 1),
        ("k/h", 1_000),
    ],
    names: "/s k/s M/s /m k/m /h k/h",
    example: "1k/s",
};

/// How often something happens: `count` times per `period`. Both are above zero.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Rate {
    count: u64,
    period: Duration,
}

impl Rate {
    /// How often in a second.
    pub(crate) fn per_second(self) -> f64 {
        crate::progress::float(self.count) / self.period.as_secs_f64()
    }

    /// How often in a second, at least once.
    pub(crate) fn whole_per_second(self) -> u64 {
        (self.count / self.period.as_secs().max(1)).max(1)
    }

    /// When, after the first, the event with this number is due. The first has number 0.
    pub(crate) fn due(self, number: u64) -> Duration {
        let nanos = u128::from(number) * self.period.as_nanos() / u128::from(self.count);
        // More seconds than 64 bits hold are past the end of every run.
        let seconds = u64::try_from(nanos / NANOS_PER_SECOND).unwrap_or(u64::MAX);
        let rest = u32::try_from(nanos % NANOS_PER_SECOND).expect("a remainder of 10^9 fits 32 bits");
        Duration::new(seconds, rest)
    }
}

/// Reads a rate: a whole number and one of `/s k/s M/s /m k/m /h k/h`.
pub(crate) fn rate(text: &str) -> Result<Rate, ValueError> {
    let count = UNITS.parse(text)?;
    if count == 0 {
        return Err(ValueError::Zero);
    }
    let seconds = match text.chars().last() {
        Some('h') => 3_600,
        Some('m') => 60,
        _ => 1,
    };
    Ok(Rate { count, period: Duration::from_secs(seconds) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_due_at_even_distances() {
        let thousand = rate("1k/s").unwrap();
        assert_eq!(thousand.due(0), Duration::ZERO);
        assert_eq!(thousand.due(1), Duration::from_millis(1));
        assert_eq!(thousand.due(1_000_000), Duration::from_secs(1_000));
        assert_eq!(rate("90/m").unwrap().due(3), Duration::from_secs(2));
        assert_eq!(rate("1/h").unwrap().due(2), Duration::from_secs(7_200));
        assert_eq!(rate("2M/s").unwrap().due(1), Duration::from_nanos(500));
    }

    #[test]
    fn rounding_does_not_add_up() {
        let third = rate("3/s").unwrap();
        assert_eq!(third.due(3_000_000), Duration::from_secs(1_000_000));
    }

    #[test]
    fn what_is_not_a_rate_is_refused() {
        assert!(matches!(rate("1000"), Err(ValueError::NoUnit { .. })));
        assert!(matches!(rate("1K/s"), Err(ValueError::Unit { .. })));
        assert!(matches!(rate("1k"), Err(ValueError::Unit { .. })));
        assert_eq!(rate("0/s"), Err(ValueError::Zero));
        assert_eq!(rate("99999999999999999M/s"), Err(ValueError::TooLarge));
    }
}
