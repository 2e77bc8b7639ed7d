//! `weir dlq show`: the letters in a dead-letter topic.

use weir_client::{Client, Start};

use super::letter::Letter;
use crate::arguments::Global;
use crate::failure::{Exit, Failure};
use crate::output::{Align, Output, Table};

/// Shows the letters in a dead-letter topic: where each came from, and why it was given up.
#[derive(Debug, clap::Args)]
#[command(after_help = "'weir tail' prints the records themselves.")]
pub(super) struct ShowArguments {
    /// The dead-letter topic
    topic: String,
    /// At most so many
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 100)]
    count: usize,
}

/// Shows letters, partition by partition in the order in which they came.
pub(super) async fn run(
    arguments: &ShowArguments,
    client: &Client,
    global: &Global,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let mut read = client.consumer(&arguments.topic).start(Start::Earliest).read_to_end().await?;
    let mut table = Table::new(&[
        ("PLACE", Align::Left),
        ("ORIGIN", Align::Left),
        ("GROUP", Align::Left),
        ("ATTEMPTS", Align::Right),
        ("KEY", Align::Left),
        ("REASON", Align::Left),
    ]);
    let mut left = arguments.count;
    while left > 0
        && let Some(record) = read.recv().await
    {
        let record = record?;
        let letter = Letter(&record);
        if global.json {
            output.object(&letter.json())?
        } else {
            table.row(letter.row())
        }
        left -= 1;
    }
    if !global.json {
        output.table(&table)?;
    }
    Ok(Exit::Done)
}
