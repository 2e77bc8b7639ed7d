//! What can be chosen for a topic, as flags and as output.

use std::fmt::Display;
use std::time::Duration;

use serde_json::{Map, Value, json};
use weir_client::TopicSettings;

use crate::value::{Keep, rate, retention_age, retention_bytes, size};

/// The settings that can be changed at any time.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Changeable {
    /// How long records are kept, such as 7d; none keeps them
    #[arg(long, value_name = "AGE|none", value_parser = retention_age)]
    pub(crate) retention: Option<Keep<Duration>>,
    /// How much of each partition is kept, such as 10GiB; none for no limit
    #[arg(long, value_name = "SIZE|none", value_parser = retention_bytes)]
    pub(crate) retention_bytes: Option<Keep<u64>>,
    /// Longest batch the topic takes, which also limits its records [default: 1088KiB]
    #[arg(long, value_name = "SIZE", value_parser = batch_max)]
    pub(crate) batch_max: Option<u32>,
    /// How long idempotency keys are remembered, such as 1h; none refuses records that have one [default: 10m]
    #[arg(long, value_name = "TIME|none", value_parser = retention_age)]
    pub(crate) dedup: Option<Keep<Duration>>,
    /// Idempotency keys expected in a second, such as 1k/s: a --dedup that there is no room for is refused [default: 1/s]
    #[arg(long, value_name = "RATE", value_parser = key_rate)]
    pub(crate) dedup_rate: Option<u32>,
}

/// Reads a size of a batch. What is beyond 32 bits is beyond every limit of the protocol.
fn batch_max(text: &str) -> Result<u32, String> {
    let bytes = size(text).map_err(|error| error.to_string())?;
    u32::try_from(bytes).map_err(|error| format!("no batch can be that long: {error}"))
}

/// Reads a rate of keys, in whole keys a second.
fn key_rate(text: &str) -> Result<u32, String> {
    let rate = rate(text).map_err(|error| error.to_string())?;
    u32::try_from(rate.whole_per_second()).map_err(|error| format!("no broker takes as many: {error}"))
}

/// The settings as an object.
pub(crate) fn json(settings: &TopicSettings) -> Map<String, Value> {
    let mut object = Map::new();
    object.insert("partitions".to_owned(), json!(settings.partitions));
    object.insert("retention_age_us".to_owned(), json!(age_us(settings)));
    object.insert("retention_bytes".to_owned(), json!(settings.retention_bytes));
    object.insert("batch_bytes_max".to_owned(), json!(settings.batch_bytes_max));
    object.insert("explicit_partitions".to_owned(), json!(settings.explicit_partitions));
    object.insert("dedup_horizon_us".to_owned(), json!(horizon_us(settings)));
    object.insert("keyed_versions".to_owned(), json!(settings.keyed_versions));
    object.insert("dedup_keys_per_second".to_owned(), json!(settings.dedup_keys_per_second));
    object
}

/// How long records are kept, in microseconds.
pub(crate) fn age_us(settings: &TopicSettings) -> Option<u64> {
    settings.retention_age.map(micros)
}

/// How long idempotency keys are remembered, in microseconds.
pub(crate) fn horizon_us(settings: &TopicSettings) -> Option<u64> {
    settings.dedup_horizon.map(micros)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// A limit, or the word for none.
pub(crate) fn kept(limit: Option<impl Display>) -> String {
    limit.map_or_else(|| "none".to_owned(), |limit| limit.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_have_32_bit_sizes() {
        assert_eq!(batch_max("1MiB"), Ok(1 << 20));
        assert!(batch_max("4GiB").is_err());
        assert!(batch_max("big").is_err());
    }

    #[test]
    fn rates_of_keys_are_whole() {
        assert_eq!((key_rate("2k/s"), key_rate("120/m"), key_rate("1/h")), (Ok(2000), Ok(2), Ok(1)));
        assert!(key_rate("5000M/s").is_err() && key_rate("2").is_err());
    }
}
