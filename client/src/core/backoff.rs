//! Delays between tries, and the bound on how many of all sends may be retries.

use std::time::Duration;

use crate::core::random::Random;
use crate::options::Retry;

/// The delay before the next try after `failures` failures in a row (at least one).
///
/// Full jitter: drawn from nothing to the exponential value, because clients that all failed at one moment must not
/// all come back at one moment.
#[must_use]
pub fn delay(retry: &Retry, failures: u32, random: &mut Random) -> Duration {
    let doublings = failures.saturating_sub(1).min(31);
    let ceiling = retry.min.saturating_mul(1 << doublings).min(retry.max);
    if !retry.jitter {
        return ceiling;
    }
    let micros = u64::try_from(ceiling.as_micros()).unwrap_or(u64::MAX - 1);
    Duration::from_micros(random.below(micros + 1))
}

/// Retries are at most a given share of first tries, beyond a small reserve.
#[derive(Clone, Debug)]
pub struct Budget {
    /// Thousandths of a retry that a first try earns.
    earned: u64,
    /// Thousandths of a retry that may be spent.
    saved: u64,
}

/// What may be saved: bounds a burst of retries after a quiet time.
const SAVED_MAX: u64 = 100_000;

/// What is there at the start, so that the first failures are retried at once.
const SAVED_AT_START: u64 = 10_000;

impl Budget {
    /// A budget of `ratio` retries for each first try.
    #[must_use]
    pub fn new(ratio: f32) -> Self {
        let thousandths = Duration::try_from_secs_f32(ratio).unwrap_or(Duration::ZERO).as_millis();
        Self { earned: u64::try_from(thousandths).unwrap_or(u64::MAX).min(SAVED_MAX), saved: SAVED_AT_START }
    }

    /// A first try was made.
    pub fn earn(&mut self) {
        self.saved = (self.saved + self.earned).min(SAVED_MAX);
    }

    /// Whether a retry may be made now. If so, it is counted.
    pub const fn spend(&mut self) -> bool {
        let Some(left) = self.saved.checked_sub(1000) else { return false };
        self.saved = left;
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn delays_double_up_to_the_longest() {
        let retry = Retry::exponential(Duration::from_millis(10), Duration::from_millis(70));
        let mut random = Random::new(1);
        let delays: Vec<u128> = (1..=5).map(|n| delay(&retry, n, &mut random).as_millis()).collect();
        assert_eq!(delays, [10, 20, 40, 70, 70]);
    }

    proptest! {
        #[test]
        fn jitter_stays_under_the_exponential_value(failures in 1u32..80, seed: u64) {
            let retry = Retry::exponential(Duration::from_millis(10), Duration::from_secs(1));
            let ceiling = delay(&retry, failures, &mut Random::new(seed));
            prop_assert!(delay(&retry.full_jitter(), failures, &mut Random::new(seed)) <= ceiling);
        }

        #[test]
        fn retries_stay_within_the_share_of_first_tries(steps in proptest::collection::vec(any::<bool>(), 0..2000)) {
            let mut budget = Budget::new(0.1);
            let (mut firsts, mut retries) = (0u64, 0u64);
            for first in steps {
                if first {
                    budget.earn();
                    firsts += 1;
                } else if budget.spend() {
                    retries += 1;
                }
                prop_assert!(retries <= firsts / 10 + 10);
            }
        }
    }
}
