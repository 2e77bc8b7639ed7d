//! What a user may choose, with the defaults.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use crate::checkpoint::Checkpoint;

pub use weir_protocol::batch::Compression;
pub use weir_protocol::units::Durability;

/// How the broker's certificate is checked. There is no way not to check it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Tls {
    /// Against the certificate authorities the system trusts.
    System,
    /// Against the certificates in a PEM file.
    CaFile(PathBuf),
    /// It must be the one certificate whose DER form has this SHA-256.
    Pin([u8; 32]),
}

/// When to try again.
///
/// The delay before try `n` is drawn from `0..min * 2^n`, at most `max` (full jitter), so that many clients of a broker
/// that comes back do not all come at once. The budget bounds retries of publishes to a share of the first tries; beyond it
/// they wait the longest delay.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Retry {
    pub(crate) min: Duration,
    pub(crate) max: Duration,
    pub(crate) jitter: bool,
    pub(crate) budget: f32,
    pub(crate) attempts: Option<u32>,
}

impl Default for Retry {
    /// 20 ms to 2 s with full jitter, a budget of 10 %, for ever.
    fn default() -> Self {
        Self::exponential(Duration::from_millis(20), Duration::from_secs(2)).full_jitter()
    }
}

impl Retry {
    /// Delays that double from `min` to `max`, for ever.
    #[must_use]
    pub fn exponential(min: Duration, max: Duration) -> Self {
        Self { min, max: max.max(min), jitter: false, budget: 0.1, attempts: None }
    }

    /// Draws each delay from nothing to its exponential value.
    #[must_use]
    pub const fn full_jitter(mut self) -> Self {
        self.jitter = true;
        self
    }

    /// Bounds retries of publishes to this share of the first tries.
    #[must_use]
    pub const fn budget(mut self, ratio: f32) -> Self {
        self.budget = ratio;
        self
    }

    /// Gives a connection up after so many failed tries in a row; the client is closed then.
    #[must_use]
    pub const fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = Some(attempts);
        self
    }

    /// Never gives up.
    #[must_use]
    pub const fn forever(mut self) -> Self {
        self.attempts = None;
        self
    }
}

/// When to stop asking what does not answer: a broker, so that calls fail at once instead of waiting, or whatever a
/// [handler](crate::Handler) needs, so that it is left alone for a while.
///
/// There is none by default: a broker that restarts is waited for, as long as the time-outs allow.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Breaker {
    pub(crate) failures: u32,
    pub(crate) cool_down: Duration,
}

impl Breaker {
    /// Opens after so many failures in a row: of tries to connect, or of a handler. Cools down for 10 s.
    #[must_use]
    pub const fn open_after(failures: u32) -> Self {
        Self { failures, cool_down: Duration::from_secs(10) }
    }

    /// For how long it stays open before the next try.
    #[must_use]
    pub const fn cool_down(mut self, time: Duration) -> Self {
        self.cool_down = time;
        self
    }
}

/// How datagrams are made.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum TransportProfile {
    /// By the broker's address.
    #[default]
    Auto,
    /// Datagrams of up to 65,000 bytes: a third of the CPU time, on the loopback interface only.
    Loopback,
    /// Datagrams of up to 1,452 bytes, in bursts.
    Network,
}

/// Where reading starts.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Start {
    /// With the first record that is kept.
    Earliest,
    /// With the next record that becomes visible.
    #[default]
    Latest,
    /// One partition, with this offset. Where no partitions were named, only this one is read.
    Offset(u32, u64),
    /// With the first record appended at or after this moment.
    Timestamp(SystemTime),
    /// So many records before the end of each partition.
    Last(u64),
    /// Where a checkpoint says; partitions it does not name start with their first record.
    Resume(Checkpoint),
}

/// What becomes of a record that a member of a group drops without a word: neither acknowledged, nor failed.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum OnDrop {
    /// It comes back at once, and if it is dropped again, after a while. It does not count as failed.
    #[default]
    Redeliver,
    /// Nothing, as long as the lease of its partition lasts. For those who acknowledge by checkpoints, or through the last
    /// record of many.
    LeaveToTimeout,
}

/// What a group does with records that fail. It is stored with the group.
///
/// ```
/// use std::time::Duration;
/// use weir_client::Redelivery;
///
/// let redelivery = Redelivery::exponential(Duration::from_secs(1), Duration::from_secs(300))
///     .max_attempts(8)
///     .dead_letter("orders.dlq");
/// assert_ne!(redelivery, Redelivery::default());
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Redelivery(pub(crate) weir_protocol::Redelivery);

impl Default for Redelivery {
    /// From a second to five minutes, for ever.
    fn default() -> Self {
        Self(weir_protocol::Redelivery::default())
    }
}

impl Redelivery {
    /// The first failure of a record is followed by `min` without it; each further one doubles that, up to `max`. At most a
    /// day.
    #[must_use]
    pub fn exponential(min: Duration, max: Duration) -> Self {
        let millis = |time: Duration| u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
        let (backoff_min_ms, backoff_max_ms) = (millis(min), millis(max.max(min)));
        Self(weir_protocol::Redelivery {
            backoff_min_ms,
            backoff_max_ms,
            ..weir_protocol::Redelivery::default()
        })
    }

    /// After so many failures a record goes to the dead-letter topic; 0 for never. Needs a [`dead_letter`](Self::dead_letter).
    #[must_use]
    pub const fn max_attempts(mut self, count: u32) -> Self {
        self.0.attempts_max = count;
        self
    }

    /// The topic for records that are given up. It must exist, and recognise records that are sent again.
    #[must_use]
    pub fn dead_letter(mut self, topic: &str) -> Self {
        self.0.dead_letter = Some(topic.to_owned());
        self
    }

    /// Time from the first failure to the next attempt, and the longest time.
    #[must_use]
    pub fn backoff(&self) -> (Duration, Duration) {
        let millis = |ms: u32| Duration::from_millis(u64::from(ms));
        (millis(self.0.backoff_min_ms), millis(self.0.backoff_max_ms))
    }

    /// Failures after which a record is given up, if ever.
    #[must_use]
    pub fn attempts(&self) -> Option<u32> {
        (self.0.attempts_max > 0).then_some(self.0.attempts_max)
    }

    /// Name of the dead-letter topic.
    #[must_use]
    pub fn dead_letter_topic(&self) -> Option<&str> {
        self.0.dead_letter.as_deref()
    }
}
