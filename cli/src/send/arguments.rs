//! The options of `weir send`.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use weir_client::Expect;

use crate::value::{Rate, duration, rate};

/// How long a record may wait for its receipt unless told otherwise.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

/// Sends records to a topic and waits for their receipts.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "With --in json each line is an object with key, value, headers [{key, value}], id, id_time \
    (when that was made), partition, expect ({\"key_at\": 7}, {\"partition_at\": 7} or \"key_absent\") and create_time, times in microseconds since 1970; bytes that are not text stand in key_b64, value_b64 and id_b64. What 'weir tail --json' prints is \
    taken as it is: a line with an offset keeps its key, value, headers, id and create_time, but not its partition."
)]
pub(crate) struct SendArguments {
    /// The topic
    pub(crate) topic: String,
    /// One value to send; - reads from stdin, as does nothing
    #[arg(conflicts_with = "file")]
    pub(crate) value: Option<String>,
    /// Read from this file; - is stdin
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Key of the records that bring none
    #[arg(short, long)]
    pub(crate) key: Option<String>,
    /// Header of every record; may be repeated
    #[arg(short = 'H', long = "header", value_name = "NAME=VALUE", value_parser = header)]
    pub(crate) headers: Vec<(String, String)>,
    /// For how long after it is stored each record is worth delivering, such as 30s; those that bring their own keep it
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) lifetime: Option<Duration>,
    /// Idempotency key of a single record, 1 to 64 bytes
    #[arg(long, value_name = "KEY")]
    pub(crate) id: Option<String>,
    #[command(flatten)]
    pub(crate) expect: ExpectArguments,
    /// What the input is: a record per line, a JSON object per line, or one record
    #[arg(long = "in", value_name = "FORMAT", value_enum, default_value = "lines")]
    pub(crate) input: InputFormat,
    /// Send no faster than this, such as 1k/s
    #[arg(long, value_parser = rate)]
    pub(crate) rate: Option<Rate>,
    /// Claim this name among the topic's producers: whoever had it writes no more
    #[arg(long, value_name = "NAME")]
    pub(crate) claim: Option<String>,
    /// Make the topic if it is missing
    #[arg(long)]
    pub(crate) create: bool,
    /// Partition of the records that bring none
    #[arg(long, short)]
    pub(crate) partition: Option<u32>,
    /// What a receipt promises
    #[arg(long, value_enum, default_value = "durable")]
    pub(crate) durability: DurabilityChoice,
    /// How batches are compressed
    #[arg(long, value_enum, default_value = "none")]
    pub(crate) compression: CompressionChoice,
    /// How long to try to get a record stored while the broker is away [default: 30s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,
    /// Print a JSON object per record when it is stored
    #[arg(long)]
    pub(crate) receipts: bool,
}

/// What must be so for a single record to be stored.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
#[group(multiple = false)]
pub(crate) struct ExpectArguments {
    /// Store a single record only if its partition's next offset is this one
    #[arg(long, value_name = "OFFSET")]
    expect_partition_at: Option<u64>,
    /// Store a single record only if the last one with its key is at this offset
    #[arg(long, value_name = "OFFSET")]
    expect_key_at: Option<u64>,
    /// Store a single record only if there never was one with its key
    #[arg(long)]
    expect_key_absent: bool,
}

impl ExpectArguments {
    /// What was chosen.
    pub(crate) fn expect(self) -> Option<Expect> {
        let key_at = self.expect_key_at.map(Expect::KeyAt);
        let partition_at = self.expect_partition_at.map(Expect::PartitionAt);
        let absent = self.expect_key_absent.then_some(Expect::KeyAbsent);
        absent.or(key_at).or(partition_at)
    }
}

impl SendArguments {
    /// How long a record may wait for its receipt.
    pub(crate) fn delivery_timeout(&self) -> Duration {
        self.timeout.unwrap_or(TIMEOUT_DEFAULT)
    }
}

/// What the input is.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum InputFormat {
    /// A record per line; the newline is not part of it.
    Lines,
    /// A JSON object per line.
    Json,
    /// One record.
    Raw,
}

/// What a receipt promises.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub(crate) enum DurabilityChoice {
    /// The bytes were synced: they survive a power cut.
    #[default]
    Durable,
    /// The operating system has the bytes: they survive the death of the broker.
    Written,
}

impl From<DurabilityChoice> for weir_client::Durability {
    fn from(choice: DurabilityChoice) -> Self {
        match choice {
            DurabilityChoice::Durable => Self::Durable,
            DurabilityChoice::Written => Self::Written,
        }
    }
}

impl DurabilityChoice {
    /// The word for it in options and output.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Durable => "durable",
            Self::Written => "written",
        }
    }
}

/// How batches are compressed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub(crate) enum CompressionChoice {
    /// Not at all.
    #[default]
    None,
    /// Cheaply.
    Lz4,
    /// Densely.
    Zstd,
}

impl CompressionChoice {
    /// The word for it in options and output.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

impl From<CompressionChoice> for weir_client::Compression {
    fn from(choice: CompressionChoice) -> Self {
        match choice {
            CompressionChoice::None => Self::None,
            CompressionChoice::Lz4 => Self::Lz4,
            CompressionChoice::Zstd => Self::Zstd,
        }
    }
}

fn header(text: &str) -> Result<(String, String), &'static str> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_has_a_name_and_any_value() {
        assert_eq!(header("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert_eq!(header("a="), Ok(("a".to_owned(), String::new())));
        assert!(header("=b").is_err());
        assert!(header("a").is_err());
    }
}
