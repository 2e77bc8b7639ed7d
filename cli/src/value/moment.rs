//! Moments on the wall clock: as people write them, and as integers in microseconds since the Unix epoch.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::ValueError;

/// Reads a moment such as `2026-11-20T10:00Z`, `2026-11-20T10:00:00.5+01:00`. The offset is required: a time
/// without one means different moments to different people.
pub(crate) fn moment(text: &str) -> Result<SystemTime, ValueError> {
    match text.parse::<jiff::Timestamp>() {
        Ok(timestamp) => Ok(from_micros(timestamp.as_microsecond())),
        Err(_) => Err(ValueError::Moment(text.to_owned())),
    }
}

/// Microseconds from the Unix epoch to `time`; negative before it.
pub(crate) fn to_micros(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_micros()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_micros()).map_or(i64::MIN, |micros| -micros),
    }
}

/// The moment `micros` microseconds after the Unix epoch, or before it if negative.
pub(crate) fn from_micros(micros: i64) -> SystemTime {
    let distance = Duration::from_micros(micros.unsigned_abs());
    let moment = if micros < 0 { UNIX_EPOCH.checked_sub(distance) } else { UNIX_EPOCH.checked_add(distance) };
    moment.expect("64 bits of microseconds lie within the clock of Linux")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_need_an_offset() {
        let ten = UNIX_EPOCH + Duration::from_secs(1_795_168_800);
        assert_eq!(moment("2026-11-20T10:00Z"), Ok(ten));
        assert_eq!(moment("2026-11-20T10:00:00Z"), Ok(ten));
        assert_eq!(moment("2026-11-20 11:00:00+01:00"), Ok(ten));
        assert_eq!(moment("2026-11-20T10:00:00.25Z"), Ok(ten + Duration::from_millis(250)));
        assert!(matches!(moment("2026-11-20T10:00"), Err(ValueError::Moment(_))));
        assert!(matches!(moment("2026-11-20"), Err(ValueError::Moment(_))));
        assert!(matches!(moment("yesterday"), Err(ValueError::Moment(_))));
    }

    #[test]
    fn micros_round_trip_on_both_sides_of_the_epoch() {
        for micros in [0, 1, -1, 1_795_168_800_123_456, -62_000_000_000_000_000, i64::MAX, i64::MIN + 1] {
            assert_eq!(to_micros(from_micros(micros)), micros);
        }
    }
}
