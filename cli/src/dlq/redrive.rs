//! `weir dlq redrive`: sends letters to the topics they came from.
//!
//! It is a member of a group of the dead-letter topic: a letter is acknowledged once its record is stored, so that whoever
//! redrives again goes on where the last one stopped. A record that was stored but not acknowledged is recognised by its key.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use weir_client::{Client, Consumer, Delivered, OnDrop, Producer, Start};

use super::letter::Letter;
use crate::arguments::Global;
use crate::code::Code;
use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::topic::confirm::confirm;
use crate::value::{Rate, rate};

/// Sends letters to the topics they came from, or to another one, and does not send them again.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "All groups of a topic read what is sent to it. Letters stay in the dead-letter topic until retention or \
    'weir dlq purge' removes them; a group of that topic, 'redrive', knows which have been sent."
)]
pub(super) struct RedriveArguments {
    /// The dead-letter topic
    topic: String,
    /// Send them to this topic [default: where each came from]
    #[arg(long, value_name = "TOPIC")]
    to: Option<String>,
    /// At most so many
    #[arg(short = 'n', long, value_name = "COUNT")]
    count: Option<u64>,
    /// How fast
    #[arg(long, value_parser = rate, default_value = "100/s")]
    rate: Rate,
    /// Do not ask
    #[arg(long, short = 'y')]
    yes: bool,
    /// Only say what would be sent
    #[arg(long)]
    dry_run: bool,
}

/// The group that knows which letters were sent.
const GROUP: &str = "redrive";

/// How long nothing may come before the letters count as dealt with.
const IDLE: Duration = Duration::from_secs(3);

/// How long the group may take to take note of the last ones.
const LEAVE_WITHIN: Duration = Duration::from_secs(5);

impl RedriveArguments {
    /// Asks, unless that is not needed.
    pub(super) fn confirm(&self) -> Result<(), Failure> {
        if self.yes || self.dry_run {
            return Ok(());
        }
        let name = &self.topic;
        confirm(&format!("send the letters of {name} again"), &format!("redriving {name} sends records"))
    }
}

/// What was done.
#[derive(Clone, Copy, Debug, Default)]
struct Done {
    sent: u64,
    skipped: u64,
}

/// Sends letters one after the other, as fast as the rate allows.
pub(super) async fn run(
    arguments: &RedriveArguments,
    client: &Client,
    global: &Global,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let left = left(arguments, client).await?;
    let done = if arguments.dry_run {
        Done { sent: left, skipped: 0 }
    } else if left == 0 {
        Done::default()
    } else {
        let consumer = client.consumer(&arguments.topic).group(GROUP).start(Start::Earliest);
        let mut consumer = consumer.on_drop(OnDrop::LeaveToTimeout).subscribe().await?;
        let done = redrive(arguments, (client, left), &mut consumer).await;
        consumer.drain(LEAVE_WITHIN).await;
        done?
    };
    let key = if arguments.dry_run { "would_send" } else { "sent" };
    if global.json {
        let document = json!({ "topic": arguments.topic, key: done.sent, "skipped": done.skipped });
        output.document(&document)?;
    } else {
        let skipped = if done.skipped > 0 { format!(", skipped {}", done.skipped) } else { String::new() };
        output.line(&format!("{} {} letters{skipped}", key.replace('_', " "), done.sent))?;
    }
    Ok(Exit::Done)
}

/// Letters that have not been sent, as many as are meant.
async fn left(arguments: &RedriveArguments, client: &Client) -> Result<u64, Failure> {
    let admin = client.admin();
    let described = admin.describe_topic(&arguments.topic).await?;
    let stored = described.partitions.iter().map(|partition| partition.end_offset - partition.start_offset);
    let left = match admin.describe_group(&arguments.topic, GROUP).await {
        Ok(group) => group.summary.lag,
        Err(error) if error.kind() == weir_client::ErrorKind::NoSuchGroup => stored.sum(),
        Err(error) => return Err(error.into()),
    };
    Ok(left.min(arguments.count.unwrap_or(u64::MAX)))
}

async fn redrive(
    arguments: &RedriveArguments,
    (client, left): (&Client, u64),
    consumer: &mut Consumer,
) -> Result<Done, Failure> {
    let mut producers: BTreeMap<String, Producer> = BTreeMap::new();
    let mut done = Done::default();
    let started = tokio::time::Instant::now();
    while done.sent + done.skipped < left {
        let received = tokio::time::timeout(IDLE, consumer.recv()).await;
        // Somebody else may redrive, too, or retention may have been here.
        let Ok(Some(record)) = received else { break };
        let record = record?;
        tokio::time::sleep_until(started + arguments.rate.due(done.sent)).await;
        if send(arguments, client, &mut producers, &record).await? {
            done.sent += 1;
        } else {
            done.skipped += 1;
        }
        record.ack().await?;
    }
    for producer in producers.into_values() {
        producer.close(LEAVE_WITHIN).await;
    }
    Ok(done)
}

/// Sends the record of a letter. Says whether there was one.
async fn send(
    arguments: &RedriveArguments,
    client: &Client,
    producers: &mut BTreeMap<String, Producer>,
    record: &Delivered,
) -> Result<bool, Failure> {
    let letter = Letter(record);
    let Some((origin, message)) = letter.origin().zip(letter.original()) else { return Ok(false) };
    let topic = arguments.to.as_deref().unwrap_or(origin);
    if !producers.contains_key(topic) {
        producers.insert(topic.to_owned(), client.producer(topic).build().await?);
    }
    let Some(producer) = producers.get(topic) else { return Ok(false) };
    match producer.send(message).await {
        Ok(_) => Ok(true),
        Err(error) => {
            let place = format!("partition {} offset {}", record.partition, record.offset);
            let text = format_args!("the letter at {place} could not be sent to '{topic}': {error}");
            Err(Failure::new(Exit::Partial, Code::NoReceipt, text)
                .help("what was sent is noted: redrive again to go on"))
        }
    }
}
