//! How records that fail come back, and when they do no longer.

use bytes::BufMut;

use crate::error::DecodeError;
use crate::limits::{BACKOFF_MS_MAX, NAME_BYTES_MAX};
use crate::read::Reader;
use crate::write::Write;

/// What a group does with records that fail.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Redelivery {
    /// Milliseconds from the first failure of a record to its next delivery. Doubled by each further failure.
    pub backoff_min_ms: u32,
    /// Most milliseconds from a failure to the next delivery.
    pub backoff_max_ms: u32,
    /// Failures after which a record goes to the dead-letter topic; 0 if it comes back for ever.
    pub attempts_max: u32,
    /// Name of the topic for records that were given up.
    pub dead_letter: Option<String>,
}

impl Default for Redelivery {
    /// From a second to five minutes, for ever.
    fn default() -> Self {
        Self { backoff_min_ms: 1000, backoff_max_ms: 300_000, attempts_max: 0, dead_letter: None }
    }
}

impl Redelivery {
    /// What is wrong with it, if anything.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        let Self { backoff_min_ms, backoff_max_ms, attempts_max, dead_letter } = self;
        if backoff_min_ms > backoff_max_ms || *backoff_max_ms > BACKOFF_MS_MAX {
            return Some(format!(
                "a backoff from {backoff_min_ms} to {backoff_max_ms} ms: it rises, to at most {BACKOFF_MS_MAX} ms"
            ));
        }
        if *attempts_max > 0 && dead_letter.is_none() {
            return Some(format!(
                "after {attempts_max} attempts a record needs a dead-letter topic to go to"
            ));
        }
        None
    }

    /// Milliseconds from the failure to the next delivery of a record that has failed so many times; none without a failure.
    #[must_use]
    pub fn backoff_ms(&self, failed: u32) -> u32 {
        let Some(doublings) = failed.checked_sub(1) else { return 0 };
        let grown = u64::from(self.backoff_min_ms) << doublings.min(32);
        u32::try_from(grown).unwrap_or(u32::MAX).min(self.backoff_max_ms)
    }

    /// Whether a record that has failed so many times is given up.
    #[must_use]
    pub const fn is_over(&self, failed: u32) -> bool {
        self.attempts_max > 0 && failed >= self.attempts_max
    }

    /// Length of its encoding.
    #[must_use]
    pub fn encoded_bytes(&self) -> usize {
        4 + 4 + 4 + 2 + self.dead_letter.as_ref().map_or(0, String::len)
    }

    /// Writes it: the shortest and the longest backoff, attempts, the topic's name (empty: none).
    pub fn encode(&self, out: &mut impl BufMut) {
        out.put_u32_le(self.backoff_min_ms);
        out.put_u32_le(self.backoff_max_ms);
        out.put_u32_le(self.attempts_max);
        out.put_text(self.dead_letter.as_deref().unwrap_or(""));
    }

    /// Reads it.
    ///
    /// # Errors
    /// What is wrong, and at which byte.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let [backoff_min_ms, backoff_max_ms, attempts_max] = [reader.u32()?, reader.u32()?, reader.u32()?];
        let name = reader.text("dead-letter topic", NAME_BYTES_MAX)?;
        let dead_letter = (!name.is_empty()).then_some(name);
        Ok(Self { backoff_min_ms, backoff_max_ms, attempts_max, dead_letter })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redelivery(backoff_min_ms: u32, backoff_max_ms: u32, attempts_max: u32) -> Redelivery {
        Redelivery { backoff_min_ms, backoff_max_ms, attempts_max, dead_letter: None }
    }

    #[test]
    fn the_backoff_doubles_up_to_its_bound() {
        let policy = redelivery(300, 1000, 0);
        let backoff = [0, 1, 2, 3, u32::MAX].map(|failed| policy.backoff_ms(failed));
        assert_eq!(backoff, [0, 300, 600, 1000, 1000]);
        assert_eq!(redelivery(0, 1000, 0).backoff_ms(9), 0);
        assert_eq!(redelivery(BACKOFF_MS_MAX, BACKOFF_MS_MAX, 0).backoff_ms(99), BACKOFF_MS_MAX);
    }

    #[test]
    fn a_record_is_given_up_at_the_bound_and_never_without_one() {
        assert_eq!([1, 2, 3].map(|failed| redelivery(1, 1, 2).is_over(failed)), [false, true, true]);
        assert!(!redelivery(1, 1, 0).is_over(u32::MAX));
    }

    #[test]
    fn what_contradicts_itself_is_named() {
        assert_eq!(Redelivery::default().fault(), None);
        assert!(redelivery(2, 1, 0).fault().is_some());
        assert!(redelivery(1, BACKOFF_MS_MAX + 1, 0).fault().is_some());
        assert!(redelivery(1, 1, 3).fault().is_some(), "nowhere to go");
        let dead_letter = Some("orders.dlq".to_owned());
        assert_eq!(Redelivery { dead_letter, ..redelivery(1, 1, 3) }.fault(), None);
    }
}
