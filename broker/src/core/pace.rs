//! A pace: so many bytes a second and no more, in few long waits rather than many short ones.

/// Debt below this is not worth a wait: ten waits a second disturb nobody.
const WAIT_US_MIN: u64 = 100_000;

/// Work that is held to a rate. Time that passed without work is not made up for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Pace {
    bytes_per_second: u64,
    /// When all that was done would be done at exactly this rate, on the monotonic clock.
    paid_at_us: u64,
}

impl Pace {
    /// A pace of so many bytes a second.
    ///
    /// # Panics
    /// If the rate is 0: then there is no work to be held to it.
    pub const fn new(bytes_per_second: u64) -> Self {
        assert!(bytes_per_second > 0, "a rate of nothing takes forever");
        Self { bytes_per_second, paid_at_us: 0 }
    }

    /// Takes note of work that was done. Returns for how many microseconds to wait before more.
    pub fn spend(&mut self, bytes: u64, now_us: u64) -> u64 {
        let took = u128::from(bytes) * 1_000_000 / u128::from(self.bytes_per_second);
        let took = u64::try_from(took).unwrap_or(u64::MAX);
        self.paid_at_us = self.paid_at_us.max(now_us).saturating_add(took);
        let debt = self.paid_at_us - now_us;
        if debt < WAIT_US_MIN { 0 } else { debt }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn small_pieces_add_up_to_one_wait() {
        let mut pace = Pace::new(1_000_000);
        let waits: Vec<u64> = (0..10).map(|_| pace.spend(10_000, 0)).collect();
        assert_eq!(waits, [0, 0, 0, 0, 0, 0, 0, 0, 0, 100_000]);
    }

    #[test]
    fn a_rest_is_not_made_up_for() {
        let mut pace = Pace::new(1_000_000);
        assert_eq!(pace.spend(500_000, 0), 500_000);
        assert_eq!(pace.spend(500_000, 60_000_000), 500_000);
    }

    #[test]
    fn the_largest_numbers_do_no_harm() {
        let mut pace = Pace::new(1);
        assert_eq!(pace.spend(u64::MAX, 5), u64::MAX - 5);
        assert_eq!(pace.spend(u64::MAX, u64::MAX), 0);
    }

    proptest! {
        #[test]
        fn the_rate_is_never_exceeded_by_more_than_a_wait(
            rate in 1_000u64..1 << 30, pieces in vec(0u64..1 << 22, 1..200),
        ) {
            let (mut pace, mut now, mut done) = (Pace::new(rate), 0, 0u64);
            for piece in pieces {
                now += pace.spend(piece, now);
                done += piece;
                let allowed = u128::from(rate) * u128::from(now + WAIT_US_MIN) / 1_000_000;
                // Rounding down loses less than a microsecond for each piece.
                prop_assert!(u128::from(done) <= allowed + 200 * u128::from(rate) / 1_000_000 + 200);
            }
        }
    }
}
