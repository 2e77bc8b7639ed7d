//! How long topics may remember keys, given the room there is, and what a change of that means.

use std::time::Duration;

use weir_protocol::ErrorCode;
use weir_protocol::message::TopicSettings;
use weir_protocol::units::Timestamp;
use weir_storage::store::KEY_DISK_BYTES;

use super::Refusal;

/// Keys go with the file they stand in, at most half a horizon after their time.
const KEPT_PERCENT: u128 = 150;

/// Keys in a second of a topic that says nothing of them.
const KEYS_PER_SECOND_LEAST: u32 = 1;

/// What all topics together need for the keys they promise to remember, of what there is.
#[derive(Debug)]
pub(super) struct KeyNeeds {
    limit: u64,
    taken: u128,
}

impl KeyNeeds {
    pub(super) const fn new(limit: u64) -> Self {
        Self { limit, taken: 0 }
    }

    pub(super) fn add(&mut self, settings: &TopicSettings) {
        self.taken += bytes_of(settings);
    }

    pub(super) fn remove(&mut self, settings: &TopicSettings) {
        self.taken -= bytes_of(settings);
    }

    /// Whether there is room for the keys of a topic, in place of what it needed before.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidSetting`], with the arithmetic. What needs no more than before is never refused.
    pub(super) fn check(
        &self,
        settings: &TopicSettings,
        before: Option<&TopicSettings>,
    ) -> Result<(), Refusal> {
        let Some(horizon_us) = settings.dedup_horizon_us else { return Ok(()) };
        if horizon_us == 0 {
            return Err((ErrorCode::InvalidSetting, "a horizon of 0 would remember no key".to_owned()));
        }
        let (needed, before) = (bytes_of(settings), before.map_or(0, bytes_of));
        let others = self.taken - before;
        let limit = u128::from(self.limit);
        if needed <= before || needed + others <= limit {
            return Ok(());
        }
        let rate = rate_of(settings);
        let horizon = Duration::from_micros(horizon_us);
        let most_s = limit.saturating_sub(others) * 100
            / (u128::from(rate) * u128::from(KEY_DISK_BYTES) * KEPT_PERCENT);
        let detail = format!(
            "a horizon of {horizon:?} at {rate} keys/s needs {needed} bytes of disk: {rate}/s x {horizon:?} x 1.5, as keys go in \
             groups, x {KEY_DISK_BYTES} bytes; there are {limit}, of which other topics need {others}; at this rate {most_s} s fit"
        );
        Err((ErrorCode::InvalidSetting, detail))
    }
}

/// Bytes on the disk that the keys of a topic need.
fn bytes_of(settings: &TopicSettings) -> u128 {
    let horizon_us = u128::from(settings.dedup_horizon_us.unwrap_or(0));
    let keys = (horizon_us * u128::from(rate_of(settings))).div_ceil(1_000_000) * KEPT_PERCENT / 100;
    keys * u128::from(KEY_DISK_BYTES)
}

fn rate_of(settings: &TopicSettings) -> u32 {
    settings.dedup_keys_per_second.unwrap_or(0).max(KEYS_PER_SECOND_LEAST)
}

/// From when on all keys are remembered that were used, once settings are changed: what was used before may have been forgotten
/// under the old horizon already, although it is within the new one.
pub(super) fn since(old: &TopicSettings, new: &TopicSettings, key_time: Timestamp) -> Timestamp {
    let micros = |horizon_us: u64| i64::try_from(horizon_us).unwrap_or(i64::MAX);
    match (old.dedup_horizon_us, new.dedup_horizon_us) {
        (Some(before), Some(after)) if after > before => {
            old.dedup_since.max(Timestamp::from_micros(key_time.as_micros().saturating_sub(micros(before))))
        }
        // Nobody knows for how long none were remembered.
        (None, Some(_)) => old.dedup_since.max(key_time),
        (Some(_), Some(_)) | (_, None) => old.dedup_since,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(horizon_s: Option<u64>, rate: Option<u32>) -> TopicSettings {
        TopicSettings {
            partitions: 1,
            retention_age_us: None,
            retention_bytes: None,
            batch_bytes_max: 1 << 20,
            explicit_partitions: false,
            dedup_horizon_us: horizon_s.map(|seconds| seconds * 1_000_000),
            keyed_versions: false,
            dedup_keys_per_second: rate,
            dedup_since: Timestamp::ZERO,
        }
    }

    #[test]
    fn a_horizon_that_does_not_fit_is_refused_with_the_arithmetic() {
        // Room for 1,000 keys of one topic and half as many again, while another one needs a tenth of it.
        let mut needs = KeyNeeds::new(KEY_DISK_BYTES * 1_500);
        needs.add(&settings(Some(100), None));
        assert_eq!(needs.check(&settings(Some(90), Some(10)), None), Ok(()));
        let (code, detail) = needs.check(&settings(Some(91), Some(10)), None).unwrap_err();
        assert_eq!(code, ErrorCode::InvalidSetting);
        for part in ["91s at 10 keys/s", "1365", "other topics need", "90 s fit"] {
            let part = if part == "1365" { (1_365 * KEY_DISK_BYTES).to_string() } else { part.to_owned() };
            assert!(detail.contains(&part), "{part}: {detail}");
        }
        assert_eq!(needs.check(&settings(None, Some(1_000_000)), None), Ok(()));
        assert!(needs.check(&settings(Some(0), None), None).is_err());
        // What a topic had is its own, and may shrink even if there is less room by now.
        needs.add(&settings(Some(900), None));
        assert_eq!(needs.check(&settings(Some(90), Some(10)), Some(&settings(Some(900), None))), Ok(()));
        let small = KeyNeeds { limit: 1, taken: needs.taken };
        assert_eq!(small.check(&settings(Some(50), None), Some(&settings(Some(100), None))), Ok(()));
        assert!(small.check(&settings(Some(101), None), Some(&settings(Some(100), None))).is_err());
        needs.remove(&settings(Some(900), None));
        needs.remove(&settings(Some(100), None));
        assert_eq!(needs.taken, 0);
    }

    #[test]
    fn what_may_be_forgotten_already_has_expired_under_a_longer_horizon() {
        let at = |seconds: i64| Timestamp::from_micros(seconds * 1_000_000);
        let now = at(1000);
        let from = |old: TopicSettings, new| since(&old, &settings(new, None), now);
        assert_eq!(from(settings(Some(10), None), Some(100)), at(990));
        assert_eq!(from(settings(Some(100), None), Some(10)), Timestamp::ZERO);
        assert_eq!(from(settings(None, None), Some(10)), now);
        assert_eq!(from(settings(Some(10), None), None), Timestamp::ZERO);
        let earlier = TopicSettings { dedup_since: at(995), ..settings(Some(10), None) };
        assert_eq!(from(earlier, Some(100)), at(995), "it never goes back");
    }
}
