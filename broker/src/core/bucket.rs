//! A token bucket: so much a second, and so much more at once after a rest.
//!
//! It remembers one moment, the one at which it will be full again, so its level needs no upkeep. What cannot be
//! turned away any more is taken all the same and leaves a debt. That, and time as an argument, is why no library
//! does it.

/// A rate with some slack.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Bucket {
    per_second: u64,
    burst: u64,
    /// On the monotonic clock, in nanoseconds.
    full_at_ns: u64,
}

const NS_PER_SECOND: u64 = 1_000_000_000;

impl Bucket {
    /// A full bucket.
    ///
    /// # Panics
    /// If the rate is 0: it would never fill.
    pub const fn new(per_second: u64, burst: u64) -> Self {
        assert!(per_second > 0, "a bucket fills");
        Self { per_second, burst, full_at_ns: 0 }
    }

    /// Takes so much if it is there, or nothing, and says how many microseconds it takes to fill up that far.
    /// More than the burst is never there.
    ///
    /// # Errors
    /// The wait.
    pub fn take(&mut self, amount: u64, now_us: u64) -> Result<(), u64> {
        let empty_again_ns = self.after(amount, now_us);
        let debt = debt_us(empty_again_ns, self.burst_ns(), now_us);
        if debt > 0 {
            return Err(debt);
        }
        self.full_at_ns = empty_again_ns;
        Ok(())
    }

    /// Takes so much, whether it is there or not. Returns for how many microseconds nothing more should be taken.
    pub fn spend(&mut self, amount: u64, now_us: u64) -> u64 {
        self.full_at_ns = self.after(amount, now_us);
        self.debt_us(now_us)
    }

    /// Microseconds until what was taken too much is made good.
    pub fn debt_us(&self, now_us: u64) -> u64 {
        debt_us(self.full_at_ns, self.burst_ns(), now_us)
    }

    /// Whether nothing that was taken is missing: a new bucket would be the same.
    pub const fn is_full(&self, now_us: u64) -> bool {
        self.full_at_ns <= now_us.saturating_mul(1000)
    }

    /// When it would be full again if so much were taken now.
    fn after(&self, amount: u64, now_us: u64) -> u64 {
        let fills_in = nanoseconds(amount, self.per_second);
        self.full_at_ns.max(now_us.saturating_mul(1000)).saturating_add(fills_in)
    }

    fn burst_ns(&self) -> u64 {
        nanoseconds(self.burst, self.per_second)
    }
}

fn debt_us(full_at_ns: u64, burst_ns: u64, now_us: u64) -> u64 {
    full_at_ns.saturating_sub(burst_ns).saturating_sub(now_us.saturating_mul(1000)).div_ceil(1000)
}

fn nanoseconds(amount: u64, per_second: u64) -> u64 {
    let exact = (u128::from(amount) * u128::from(NS_PER_SECOND)).div_ceil(u128::from(per_second));
    u64::try_from(exact).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn after_a_rest_the_burst_is_there_and_then_the_rate() {
        let mut bucket = Bucket::new(10, 5);
        assert!((0..5).all(|_| bucket.take(1, 0).is_ok()));
        assert_eq!(bucket.take(1, 0), Err(100_000), "a tenth of a second for each");
        assert_eq!(bucket.take(1, 100_000), Ok(()));
        assert_eq!(bucket.take(5, 100_000), Err(500_000));
        assert!(bucket.is_full(600_000) && !bucket.is_full(599_999));
        assert_eq!(bucket.take(6, 10_000_000), Err(100_000), "a rest gives no more than the burst");
    }

    #[test]
    fn what_was_taken_too_much_is_paid_with_time() {
        let mut bucket = Bucket::new(1_000_000, 1000);
        assert_eq!(bucket.spend(1000, 0), 0);
        assert_eq!(bucket.spend(2_000_000, 0), 2_000_000);
        assert_eq!(bucket.debt_us(1_500_000), 500_000);
        assert_eq!(bucket.debt_us(2_000_000), 0);
    }

    #[test]
    fn the_largest_numbers_do_no_harm() {
        let mut bucket = Bucket::new(1, u64::MAX);
        assert_eq!(bucket.take(u64::MAX, u64::MAX), Ok(()));
        assert_eq!(Bucket::new(u64::MAX, 0).spend(u64::MAX, 7), 1_000_000);
    }

    proptest! {
        #[test]
        fn over_any_time_no_more_is_taken_than_rate_and_burst(
            per_second in 1u64..1_000_000, burst in 0u64..10_000,
            steps in vec((0u64..2000, 0u64..50_000, any::<bool>()), 1..200),
        ) {
            let mut bucket = Bucket::new(per_second, burst);
            let (mut now, mut taken) = (0u64, 0u64);
            for (amount, pause, waits) in steps {
                now += pause;
                match bucket.take(amount, now) {
                    Ok(()) => taken += amount,
                    Err(wait) if waits && amount <= burst => {
                        now += wait;
                        prop_assert_eq!(bucket.take(amount, now), Ok(()), "the wait it named is enough");
                        taken += amount;
                    }
                    Err(_) => {}
                }
                let allowed = u128::from(burst) + u128::from(per_second) * u128::from(now) / 1_000_000 + 1;
                prop_assert!(u128::from(taken) <= allowed, "{taken} of {allowed}");
            }
        }
    }
}
