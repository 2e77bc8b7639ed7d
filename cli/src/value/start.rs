//! Where reading starts: `earliest`, `latest`, `-10`, `@1234`, `2h`, `2026-11-20T10:00Z`.

use std::time::{Duration, SystemTime};

use super::{ValueError, duration, moment};

/// A place in every partition that is read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum From {
    /// The first record that is kept.
    Earliest,
    /// The records that come after the start.
    Latest,
    /// This many records before the end.
    Last(u64),
    /// The record with this offset.
    Offset(u64),
    /// The first record appended at most this long ago.
    Ago(Duration),
    /// The first record appended at this moment or later.
    At(SystemTime),
}

/// Reads a place to start from.
pub(crate) fn from(text: &str) -> Result<From, ValueError> {
    match text {
        "earliest" => return Ok(From::Earliest),
        "latest" => return Ok(From::Latest),
        _ => {}
    }
    if let Some(count) = text.strip_prefix('-') {
        return number(count).map(From::Last);
    }
    if let Some(offset) = text.strip_prefix('@') {
        return number(offset).map(From::Offset);
    }
    if text.contains(['T', ':']) {
        return moment(text).map(From::At);
    }
    match duration(text) {
        Ok(age) => Ok(From::Ago(age)),
        Err(ValueError::TooLarge) => Err(ValueError::TooLarge),
        // A text that begins like a date, such as 2026-11-20, deserves to be told about times.
        Err(ValueError::Unit { unit, .. }) if unit.starts_with('-') => {
            Err(ValueError::Moment(text.to_owned()))
        }
        Err(error @ (ValueError::Unit { .. } | ValueError::NoUnit { .. })) => Err(error),
        Err(ValueError::NoNumber { .. } | ValueError::Zero | ValueError::Moment(_) | ValueError::Start) => {
            Err(ValueError::Start)
        }
    }
}

/// Reads a plain number: digits and nothing else.
fn number(text: &str) -> Result<u64, ValueError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(ValueError::Start);
    }
    // Only digits are left, so the one thing that can be wrong is their number.
    text.parse().or(Err(ValueError::TooLarge))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read() {
        assert_eq!(from("earliest"), Ok(From::Earliest));
        assert_eq!(from("latest"), Ok(From::Latest));
        assert_eq!(from("-10"), Ok(From::Last(10)));
        assert_eq!(from("@1234"), Ok(From::Offset(1234)));
        assert_eq!(from("2h"), Ok(From::Ago(Duration::from_secs(7_200))));
        assert_eq!(from("2026-11-20T10:00Z"), Ok(From::At(moment("2026-11-20T10:00Z").unwrap())));
    }

    #[test]
    fn what_is_no_place_is_refused_with_the_nearest_reason() {
        assert_eq!(from("beginning"), Err(ValueError::Start));
        assert_eq!(from(""), Err(ValueError::Start));
        assert_eq!(from("-"), Err(ValueError::Start));
        assert_eq!(from("--10"), Err(ValueError::Start));
        assert_eq!(from("@+1"), Err(ValueError::Start));
        assert_eq!(from("@99999999999999999999"), Err(ValueError::TooLarge));
        assert!(matches!(from("2026-11-20"), Err(ValueError::Moment(_))));
        assert!(matches!(from("2026-11-20T10:00"), Err(ValueError::Moment(_))));
        assert!(matches!(from("2y"), Err(ValueError::Unit { .. })));
        assert!(matches!(from("12"), Err(ValueError::NoUnit { .. })));
    }
}
