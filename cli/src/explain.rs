//! `weir explain`: what each producer and reader of a topic waits for, and since when.

use serde_json::json;
use weir_client::Waiting;

use crate::arguments::Global;
use crate::connect::{ConnectOptions, connect, disconnect, runtime};
use crate::failure::{Exit, Failure};
use crate::interrupt::Interrupt;
use crate::output::{Align, Output, Table};
use crate::value::{DurationText, SizeText};

/// Shows what each producer and reader of a topic waits for, and since when.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A producer waits for: producer (to send more), disk, server-credit (memory), storage-full. A reader: \
    records (it has all), application (which takes nothing), connection (which is slow), cold-read, start, \
    delivery-memory, turn."
)]
pub(crate) struct ExplainArguments {
    /// The topic
    topic: String,
}

/// Runs `weir explain`.
pub(crate) fn run(arguments: &ExplainArguments, global: &Global) -> Result<Exit, Failure> {
    runtime()?.block_on(async {
        let mut interrupt = Interrupt::listen()?;
        tokio::select! {
            exit = explain(&arguments.topic, global) => exit,
            () = interrupt.asked() => Ok(Exit::Interrupted),
        }
    })
}

async fn explain(topic: &str, global: &Global) -> Result<Exit, Failure> {
    let client = connect(global, ConnectOptions::default()).await?;
    let waiting = client.admin().explain(topic).await;
    disconnect(client).await;
    let waiting = waiting?;
    let mut output = Output::open()?;
    if global.json {
        output.document(&waiting.iter().map(document).collect::<Vec<_>>())?;
    } else {
        output.table(&table(&waiting))?;
    }
    output.finish()?;
    Ok(Exit::Done)
}

fn document(waiting: &Waiting) -> serde_json::Value {
    json!({
        "role": role(waiting),
        "client": waiting.client_name,
        "connection": waiting.connection,
        "stream": waiting.stream,
        "partition": waiting.partition,
        "waits_for": waiting.waits_for.name(),
        "since_us": u64::try_from(waiting.since.as_micros()).unwrap_or(u64::MAX),
        "credit_bytes": waiting.credit_bytes,
        "held_bytes": waiting.held_bytes,
        "lag_records": waiting.lag_records,
    })
}

const fn role(waiting: &Waiting) -> &'static str {
    if waiting.partition.is_some() { "reader" } else { "producer" }
}

fn table(waiting: &[Waiting]) -> Table {
    let mut table = Table::new(&[
        ("ROLE", Align::Left),
        ("CLIENT", Align::Left),
        ("CONNECTION", Align::Right),
        ("PARTITION", Align::Right),
        ("WAITS-FOR", Align::Left),
        ("SINCE", Align::Right),
        ("CREDIT", Align::Right),
        ("HELD", Align::Right),
        ("LAG", Align::Right),
    ]);
    for one in waiting {
        let micros = u64::try_from(one.since.as_micros()).unwrap_or(u64::MAX);
        table.row(vec![
            role(one).to_owned(),
            if one.client_name.is_empty() { "-".to_owned() } else { one.client_name.clone() },
            format!("{}/{}", one.connection, one.stream),
            one.partition.map_or_else(|| "-".to_owned(), |partition| partition.to_string()),
            one.waits_for.name().to_owned(),
            // Below a millisecond nobody waits.
            DurationText(micros / 1000 * 1000).to_string(),
            SizeText(one.credit_bytes).to_string(),
            SizeText(one.held_bytes).to_string(),
            one.lag_records.to_string(),
        ]);
    }
    table
}
