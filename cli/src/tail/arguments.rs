//! The options of `weir tail`.

use crate::record::Format;
use crate::value::{From, from};

/// Prints the records of a topic.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Formats of -f: %t topic, %p partition, %o offset, %k key, %v value, %T time of appending in \
    microseconds, %h headers, %i idempotency key, %% percent; \\n \\r \\t \\0 \\\\ as usual. Exit code 7 says that damaged \
    records were left out."
)]
pub(crate) struct TailArguments {
    /// The topic
    pub(crate) topic: String,
    /// Where to start: earliest, latest, -COUNT, @OFFSET, an age such as 2h or a time such as 2026-11-20T10:00Z
    #[arg(long, value_name = "WHERE", default_value = "latest", value_parser = from, allow_hyphen_values = true)]
    pub(crate) from: From,
    /// Stop at the end seen at the start
    #[arg(long)]
    pub(crate) to_end: bool,
    /// Stop after so many records
    #[arg(short = 'n', long = "count", value_name = "COUNT")]
    pub(crate) count: Option<u64>,
    /// Only these partitions; may be repeated
    #[arg(short, long = "partition", value_name = "PARTITION", value_delimiter = ',')]
    pub(crate) partitions: Vec<u32>,
    /// How to print a record [default: %v\n]
    #[arg(short, long, value_parser = Format::parse, conflicts_with = "json", allow_hyphen_values = true)]
    pub(crate) format: Option<Format>,
}
