//! When a key was made, if it says so.

use uuid::{Uuid, Version};
use weir_protocol::units::Timestamp;

/// Length of a UUID as text with hyphens.
const TEXT_BYTES: usize = 36;

/// The time in a key that is a UUID of version 7, as text. Bytes that are no text could be one by chance.
pub(super) fn made_at(key: &[u8]) -> Option<Timestamp> {
    if key.len() != TEXT_BYTES {
        return None;
    }
    let id = Uuid::try_parse_ascii(key).ok()?;
    if id.get_version() != Some(Version::SortRand) {
        return None;
    }
    let (seconds, nanos) = id.get_timestamp()?.to_unix();
    let micros = i64::try_from(seconds).ok()?.checked_mul(1_000_000)?;
    Some(Timestamp::from_micros(micros.checked_add(i64::from(nanos / 1000))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_uuid_of_version_7_as_text_says_when_it_was_made() {
        // The example of RFC 9562: 2022-02-22T19:22:22Z.
        let at = Some(Timestamp::from_micros(1_645_557_742_000_000));
        assert_eq!(made_at(b"017F22E2-79B0-7CC3-98C4-DC0C0C07398F"), at);
        assert_eq!(made_at(b"017F22E2-79B0-4CC3-98C4-DC0C0C07398F"), None, "version 4");
        assert_eq!(made_at(b"017F22E279B07CC398C4DC0C0C07398F0000"), None);
        assert_eq!(made_at(b"pay-7"), None);
    }
}
