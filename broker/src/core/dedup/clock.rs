//! The time by which keys age.

use weir_protocol::units::Timestamp;

use crate::core::Now;

/// A clock that starts with the wall clock and then goes on evenly: a jump of the wall clock neither forgets a key early nor
/// makes one look as if it had been sent before.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeyClock {
    /// When the newest record was appended that is stored.
    newest: Timestamp,
    started: Option<(u64, Timestamp)>,
}

impl KeyClock {
    /// Starts no earlier than the newest record that is stored.
    pub const fn not_before(&mut self, newest: Timestamp) {
        self.newest = newest;
    }

    /// The time.
    pub fn now(&mut self, now: Now) -> Timestamp {
        let start = (now.monotonic_us, now.wall.max(self.newest));
        let (monotonic_us, wall) = *self.started.get_or_insert(start);
        let since = now.monotonic_us.saturating_sub(monotonic_us);
        wall.saturating_add_micros(i64::try_from(since).unwrap_or(i64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jumps_of_the_wall_clock_do_not_count() {
        let mut clock = KeyClock::default();
        let at = |monotonic_us, wall| Now { monotonic_us, wall: Timestamp::from_micros(wall) };
        assert_eq!(clock.now(at(5, 1000)), Timestamp::from_micros(1000));
        assert_eq!(clock.now(at(7, 9_000_000)), Timestamp::from_micros(1002));
        assert_eq!(clock.now(at(9, -9_000_000)), Timestamp::from_micros(1004));
        let mut behind = KeyClock::default();
        behind.not_before(Timestamp::from_micros(2000));
        assert_eq!(
            behind.now(at(6, 1001)),
            Timestamp::from_micros(2000),
            "the clock was set back while it was off"
        );
    }
}
