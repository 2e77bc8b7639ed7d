//! A consumer that stands still for a while, and how it goes on then.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::progress::float;

/// A record that is at most this old is as new as can be expected: the consumer has caught up.
const CAUGHT_UP: Duration = Duration::from_millis(100);

/// Seconds that are told apart.
const SECONDS_MAX: usize = 3600;

/// What a consumer was given after a pause.
#[derive(Debug)]
pub(crate) struct Resumed {
    at: Instant,
    /// Bytes in each second, until it had caught up.
    bytes: Vec<u64>,
    caught_up: Option<Duration>,
}

impl Resumed {
    /// The pause is over.
    pub(crate) fn now() -> Self {
        Self { at: Instant::now(), bytes: Vec::new(), caught_up: None }
    }

    /// A record came that was so long on its way.
    pub(crate) fn count(&mut self, bytes: usize, age: Duration) {
        if self.caught_up.is_some() {
            return;
        }
        let since = self.at.elapsed();
        if age <= CAUGHT_UP {
            self.caught_up = Some(since);
        }
        let second = usize::try_from(since.as_secs()).unwrap_or(usize::MAX).min(SECONDS_MAX - 1);
        if second >= self.bytes.len() {
            self.bytes.resize(second + 1, 0);
        }
        if let Some(sum) = self.bytes.get_mut(second) {
            *sum += u64::try_from(bytes).unwrap_or(u64::MAX);
        }
    }

    /// As an object.
    pub(crate) fn json(&self) -> serde_json::Value {
        let megabytes: Vec<f64> = self.bytes.iter().map(|bytes| float(*bytes) / 1e6).collect();
        json!({ "mb_in_each_second": megabytes, "caught_up_seconds": self.caught_up.map(|time| time.as_secs_f64()) })
    }

    /// As a line.
    pub(crate) fn text(&self) -> String {
        let first = self.bytes.first().map_or(0.0, |bytes| float(*bytes) / 1e6);
        let caught_up = self
            .caught_up
            .map_or_else(|| "never".to_owned(), |time| format!("after {:.1} s", time.as_secs_f64()));
        format!("{first:.1} MB in the first second, caught up {caught_up}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_count_by_second_until_it_has_caught_up() {
        let mut resumed = Resumed::now();
        resumed.count(1_000_000, Duration::from_secs(60));
        resumed.count(2_000_000, CAUGHT_UP);
        resumed.count(4_000_000, Duration::ZERO);
        let json = resumed.json();
        assert_eq!(json["mb_in_each_second"], json!([3.0]));
        assert!(json["caught_up_seconds"].is_number(), "{json}");
    }
}
