//! The options of `weir tail`.

use std::time::Duration;

use crate::record::Format;
use crate::value::{From, duration, from};

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
    /// As a member of this consumer group: what was printed is acknowledged. A group that does not exist is made, and stands
    /// where --from says
    #[arg(short, long, value_name = "GROUP", conflicts_with_all = ["to_end", "partitions"])]
    pub(crate) group: Option<String>,
    /// Name of this member, unique in its group [default: made up]
    #[arg(long, value_name = "NAME", requires = "group")]
    pub(crate) member: Option<String>,
    /// For how long partitions wait for a member with a name after it has left
    #[arg(long, value_name = "TIME", requires = "member", value_parser = duration)]
    pub(crate) grace: Option<Duration>,
    /// How long a member keeps its partitions without being heard of [default: 10s]
    #[arg(long, value_name = "TIME", requires = "group", value_parser = duration)]
    pub(crate) lease: Option<Duration>,
    /// Only the records with this key; all of its partition is read
    #[arg(short, long, conflicts_with_all = ["partitions", "group"])]
    pub(crate) key: Option<String>,
    /// How to print a record [default: %v\n]
    #[arg(short, long, value_parser = Format::parse, conflicts_with = "json", allow_hyphen_values = true)]
    pub(crate) format: Option<Format>,
}
