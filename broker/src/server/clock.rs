//! The only place that reads clocks.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use weir_protocol::units::Timestamp;

use crate::core::Now;

/// The wall clock.
pub fn wall_now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// Both clocks, the monotonic one counting from when this was made.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// Starts counting.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// The time.
    pub fn now(&self) -> Now {
        let monotonic_us = u64::try_from(self.0.elapsed().as_micros()).unwrap_or(u64::MAX);
        Now { monotonic_us, wall: wall_now() }
    }

    /// The moment that a time of [`Clock::now`] is.
    pub fn instant(&self, monotonic_us: u64) -> Instant {
        self.0 + Duration::from_micros(monotonic_us)
    }
}
