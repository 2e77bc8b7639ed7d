//! Retention: which records may go, as a pure function.

use weir_protocol::message::TopicSettings;
use weir_protocol::units::{Offset, Timestamp};

use super::catalog::PartitionLog;

/// The log start that the settings of its topic ask for. Never before the present one.
///
/// Whole runs only, the oldest first: a run goes when its last batch is older than the age, or while what would
/// remain is still at least the bytes that are to be kept.
pub(super) fn log_start(log: &PartitionLog, settings: &TopicSettings, now: Timestamp) -> Offset {
    let mut start = log.log_start;
    let mut bytes = log.bytes;
    for extent in &log.extents {
        let age_us = now.as_micros().saturating_sub(extent.last_append_time.as_micros());
        let too_old = settings.retention_age_us.is_some_and(|max| {
            // A clock that went back makes records younger than nothing.
            u64::try_from(age_us).is_ok_and(|age_us| age_us > max)
        });
        let remaining = bytes - extent.bytes;
        let too_many = settings.retention_bytes.is_some_and(|max| remaining >= max.max(1));
        if !too_old && !too_many {
            break;
        }
        bytes = remaining;
        start = start.max(extent.end_offset);
    }
    start
}

#[cfg(test)]
mod tests;
