//! How long and how much a topic keeps: a limit, or `none`.

use std::time::Duration;

use super::{ValueError, duration, size};

/// A limit that may be absent: `none` keeps everything.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Keep<T>(pub(crate) Option<T>);

/// Reads an age above zero, or `none`.
pub(crate) fn retention_age(text: &str) -> Result<Keep<Duration>, ValueError> {
    match text {
        "none" => Ok(Keep(None)),
        age => above_zero(duration(age)?).map(|age| Keep(Some(age))),
    }
}

/// Reads a size above zero, or `none`.
pub(crate) fn retention_bytes(text: &str) -> Result<Keep<u64>, ValueError> {
    match text {
        "none" => Ok(Keep(None)),
        bytes => above_zero(size(bytes)?).map(|bytes| Keep(Some(bytes))),
    }
}

/// Refuses zero: a limit of nothing would delete every record at once, which nobody means.
fn above_zero<T: Default + PartialEq>(value: T) -> Result<T, ValueError> {
    if value == T::default() { Err(ValueError::Zero) } else { Ok(value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn none_and_limits_are_read_and_zero_is_not() {
        assert_eq!(retention_age("none"), Ok(Keep(None)));
        assert_eq!(retention_age("7d"), Ok(Keep(Some(Duration::from_secs(604_800)))));
        assert_eq!(retention_age("0s"), Err(ValueError::Zero));
        assert_eq!(retention_bytes("none"), Ok(Keep(None)));
        assert_eq!(retention_bytes("10GiB"), Ok(Keep(Some(10 << 30))));
        assert_eq!(retention_bytes("0"), Err(ValueError::Zero));
        assert!(retention_bytes("None").is_err());
    }
}
