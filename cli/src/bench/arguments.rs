//! The options of `weir bench`.

use std::time::Duration;

use super::ids::{Ids, ids};
use super::scan::Scan;
use crate::connect::TransportChoice;
use crate::send::{CompressionChoice, DurabilityChoice};
use crate::value::{Rate, duration, rate, size};

/// Producers of one run: each has a thread.
const PRODUCERS_MAX: u64 = 256;

/// Smallest value: what a record must carry to be checked.
pub(crate) const SIZE_MIN: u64 = 24;

/// Largest value: the largest record there is by default.
const SIZE_MAX: u64 = weir_protocol::limits::RECORD_BYTES_MAX_DEFAULT as u64;

/// Measures a broker, and checks that it loses, duplicates and reorders nothing.
#[derive(Debug, clap::Args)]
pub(crate) struct BenchArguments {
    #[command(subcommand)]
    pub(crate) what: What,
}

/// What is measured.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum What {
    /// Publishing: rate and time to the receipt
    Send(Load),
    /// Catching up: rate of reading what is stored
    Tail(Load),
    /// Both at once: time from publishing to delivery
    E2e(E2eLoad),
    /// Reading all a topic holds, again and again, to see what that does to others
    Scan(Scan),
}

/// The load of a run from end to end.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct E2eLoad {
    #[command(flatten)]
    pub(crate) load: Load,
    /// Once it has its first records the consumer takes nothing for so long; says how it goes on then
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) pause: Option<Duration>,
}

/// The load of a run.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Load {
    /// Records in all
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) records: u64,
    /// Bytes of each value
    #[arg(long, default_value = "1000", value_name = "SIZE", value_parser = record_size)]
    pub(crate) size: usize,
    /// Producers that share the records
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=PRODUCERS_MAX as i64))]
    pub(crate) producers: u32,
    /// Connections that share the producers
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=PRODUCERS_MAX as i64))]
    pub(crate) connections: u32,
    /// Partitions of the topic
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) partitions: u32,
    /// Different keys; without, records have no key
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) keys: Option<u64>,
    /// Idempotency keys: unique, or dup=50% to send so many records again, which checks every answer
    #[arg(long, value_name = "unique|dup=P%", value_parser = ids, conflicts_with = "rate")]
    pub(crate) ids: Option<Ids>,
    /// What a receipt promises
    #[arg(long, value_enum, default_value = "durable")]
    pub(crate) durability: DurabilityChoice,
    /// How batches are compressed
    #[arg(long, value_enum, default_value = "none")]
    pub(crate) compression: CompressionChoice,
    /// Bytes each producer may have without a receipt; less than two records: one at a time
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    pub(crate) in_flight: Option<usize>,
    /// Open loop: send at this rate in all, and count from the moment a record was due
    #[arg(long, value_parser = rate)]
    pub(crate) rate: Option<Rate>,
    /// Largest batch
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    pub(crate) batch: Option<usize>,
    /// Use this topic, and leave it there
    #[arg(long, value_name = "TOPIC")]
    pub(crate) topic: Option<String>,
    /// Transport profile of the client
    #[arg(long, value_enum, default_value = "auto")]
    pub(crate) transport: TransportChoice,
}

impl Load {
    /// Whether each record waits for the receipt of the one before.
    pub(crate) fn is_one_at_a_time(&self) -> bool {
        self.in_flight.is_some_and(|bytes| bytes < 2 * self.size)
    }

    /// Records of the producer with this number: as even a share as there is.
    pub(crate) fn share(&self, producer: u32) -> u64 {
        let producers = u64::from(self.producers);
        self.records / producers + u64::from(u64::from(producer) < self.records % producers)
    }
}

fn bytes(text: &str) -> Result<usize, String> {
    let bytes = size(text).map_err(|error| error.to_string())?;
    match usize::try_from(bytes) {
        Ok(0) => Err("it must be above zero".to_owned()),
        Ok(bytes) => Ok(bytes),
        Err(error) => Err(error.to_string()),
    }
}

fn record_size(text: &str) -> Result<usize, String> {
    let bytes = size(text).map_err(|error| error.to_string())?;
    if !(SIZE_MIN..=SIZE_MAX).contains(&bytes) {
        return Err(format!("a value has {SIZE_MIN} to {SIZE_MAX} bytes, so that it can be recognised"));
    }
    usize::try_from(bytes).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        load: Load,
    }

    fn load(arguments: &[&str]) -> Load {
        Line::try_parse_from([&["bench"], arguments].concat()).unwrap().load
    }

    #[test]
    fn shares_add_up_to_all_records() {
        let load = load(&["--records", "10", "--producers", "4"]);
        let shares: Vec<u64> = (0..4).map(|producer| load.share(producer)).collect();
        assert_eq!(shares, [3, 3, 2, 2]);
    }

    #[test]
    fn room_for_less_than_two_records_is_one_at_a_time() {
        assert!(load(&["--size", "1000", "--in-flight", "1000"]).is_one_at_a_time());
        assert!(!load(&["--size", "1000", "--in-flight", "2000"]).is_one_at_a_time());
        assert!(!load(&[]).is_one_at_a_time());
    }

    #[test]
    fn records_must_be_recognisable() {
        assert!(record_size("23").is_err());
        assert_eq!(record_size("24"), Ok(24));
        assert_eq!(record_size("1MiB"), Ok(1 << 20));
        assert!(record_size("2MiB").is_err());
    }
}
