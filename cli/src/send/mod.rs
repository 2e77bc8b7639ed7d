//! `weir send`: records from a file, stdin or the command line into a topic.

mod arguments;
mod feed;
mod input;
mod receipts;
mod tally;
mod template;

use std::sync::Arc;
use std::time::Instant;

use serde_json::json;
use weir_client::{Client, DrainReport, ErrorKind, Producer, TopicSpec};

use crate::arguments::Global;
use crate::code::Code;
use crate::connect::{ConnectOptions, connect, disconnect, runtime};
use crate::failure::{Exit, Failure};
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::progress::Progress;

pub(crate) use arguments::{CompressionChoice, DurabilityChoice, SendArguments};
use feed::{Fed, Feed};
use input::Input;
use receipts::ReceiptPrinter;
use tally::Tally;

/// Runs `weir send`.
pub(crate) fn run(arguments: &SendArguments, global: &Global) -> Result<Exit, Failure> {
    let mut input = Input::open(arguments)?;
    let runtime = runtime()?;
    let exit = runtime.block_on(async {
        let mut interrupt = Interrupt::listen()?;
        let opened = tokio::select! {
            opened = open(arguments, global, &mut input) => opened?,
            () = interrupt.asked() => return Ok(Exit::Interrupted),
        };
        send(opened, input, arguments, global, interrupt).await
    });
    // A thread may still wait for more input; the end of the process ends it.
    runtime.shutdown_background();
    exit
}

/// What sending needs, ready to go.
struct Opened {
    client: Client,
    producer: Producer,
    tally: Arc<Tally>,
}

/// Checks what can be checked before anything is changed, then connects.
async fn open(arguments: &SendArguments, global: &Global, input: &mut Input) -> Result<Opened, Failure> {
    input.check_first().await?;
    let options = ConnectOptions { timeout: arguments.timeout, ..ConnectOptions::default() };
    let client = connect(global, options).await?;
    if arguments.create {
        create(&client, &arguments.topic).await?;
    }
    let tally = Arc::new(Tally::default());
    let failures = Arc::clone(&tally);
    let mut builder = client.producer(&arguments.topic);
    if let Some(name) = &arguments.claim {
        builder = builder.claim(name);
    }
    let producer = builder
        .durability(arguments.durability.into())
        .compression(arguments.compression.into())
        .delivery_timeout(arguments.delivery_timeout())
        .on_failure(move |error| failures.failed(&error))
        .build()
        .await
        .map_err(|error| missing_topic(&error, &arguments.topic))?;
    Ok(Opened { client, producer, tally })
}

/// Makes the topic unless it is there.
async fn create(client: &Client, topic: &str) -> Result<(), Failure> {
    match client.admin().create_topic(TopicSpec::new(topic)).await {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn missing_topic(error: &weir_client::Error, topic: &str) -> Failure {
    let failure = Failure::from(error);
    if error.kind() == ErrorKind::NoSuchTopic {
        return failure.help(format!("make it with 'weir topic create {topic}', or give --create"));
    }
    failure
}

async fn send(
    opened: Opened,
    input: Input,
    arguments: &SendArguments,
    global: &Global,
    interrupt: Interrupt,
) -> Result<Exit, Failure> {
    let Opened { client, producer, tally } = opened;
    let started = Instant::now();
    let printer = arguments.receipts.then(|| ReceiptPrinter::start(Arc::clone(&tally))).transpose()?;
    let mut progress = Progress::start("sent", input.total_bytes());
    let feed = Feed::new(&producer, &tally, printer.as_ref(), arguments, interrupt);
    let fed = feed.run(input, &mut progress).await;
    let token = producer.token();
    let report = producer.close(arguments.delivery_timeout()).await;
    if let Some(printer) = printer {
        printer.finish().await;
    }
    let summary = Summary::new(&fed, &report, &tally, (started, token));
    progress.finish(summary.records, summary.bytes);
    if global.json {
        summary.print(&arguments.topic)?;
    }
    disconnect(client).await;
    verdict(fed, &summary, &tally)
}

/// What has been achieved.
#[derive(Debug)]
struct Summary {
    records: u64,
    bytes: u64,
    without_receipt: u64,
    seconds: f64,
    /// Of the name that was claimed.
    token: Option<u64>,
}

impl Summary {
    fn new(fed: &Fed, report: &DrainReport, tally: &Tally, (started, token): (Instant, Option<u64>)) -> Self {
        let lost: usize = report.undelivered.iter().map(weir_client::Message::size).sum();
        let lost = u64::try_from(lost).unwrap_or(u64::MAX);
        Self {
            records: report.delivered,
            bytes: fed.bytes.saturating_sub(lost.max(tally.failed_bytes())),
            without_receipt: fed.records.saturating_sub(report.delivered),
            seconds: started.elapsed().as_secs_f64(),
            token,
        }
    }

    fn print(&self, topic: &str) -> Result<(), Failure> {
        let mut output = Output::open()?;
        output.object(&json!({
            "topic": topic,
            "records": self.records,
            "bytes": self.bytes,
            "seconds": self.seconds,
            "without_receipt": self.without_receipt,
            "token": self.token,
        }))?;
        output.finish()
    }
}

/// How the command ends.
fn verdict(fed: Fed, summary: &Summary, tally: &Tally) -> Result<Exit, Failure> {
    let interrupted = fed.interrupted;
    let Some(failure) = tally.first().or(fed.failure) else {
        return if interrupted { stopped(summary) } else { complete(summary) };
    };
    let counts =
        format_args!("{} records have no receipt, {} have one", summary.without_receipt, summary.records);
    let partial = summary.records > 0 && failure.exit != Exit::Unreachable;
    let failure = failure.and(counts);
    Err(if partial { failure.exit(Exit::Partial) } else { failure })
}

fn stopped(summary: &Summary) -> Result<Exit, Failure> {
    if summary.without_receipt == 0 {
        return Ok(Exit::Interrupted);
    }
    complete(summary).map_err(|failure| failure.exit(Exit::Interrupted))
}

/// Success, if every record that was taken has its receipt.
fn complete(summary: &Summary) -> Result<Exit, Failure> {
    if summary.without_receipt == 0 {
        return Ok(Exit::Done);
    }
    let text = format_args!("{} records have no receipt: no answer came in time", summary.without_receipt);
    Err(Failure::new(Exit::Unreachable, Code::NoReceipt, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(records: u64, without_receipt: u64) -> Summary {
        Summary { records, bytes: 0, without_receipt, seconds: 1.0, token: None }
    }

    fn fed(failure: Option<Failure>, interrupted: bool) -> Fed {
        Fed { records: 0, bytes: 0, failure, interrupted }
    }

    #[test]
    fn all_receipts_are_success() {
        assert_eq!(verdict(fed(None, false), &summary(5, 0), &Tally::default()), Ok(Exit::Done));
        assert_eq!(verdict(fed(None, true), &summary(5, 0), &Tally::default()), Ok(Exit::Interrupted));
    }

    #[test]
    fn missing_receipts_are_counted_in_the_message() {
        let failure = verdict(fed(None, false), &summary(5, 3), &Tally::default()).unwrap_err();
        assert_eq!(failure.exit, Exit::Unreachable);
        assert!(failure.to_string().contains("3 records have no receipt"), "{failure}");
        let stopped = verdict(fed(None, true), &summary(5, 3), &Tally::default()).unwrap_err();
        assert_eq!(stopped.exit, Exit::Interrupted);
    }

    #[test]
    fn a_wrong_line_after_good_ones_is_partial_and_alone_it_is_not() {
        let wrong = || Some(Failure::new(Exit::Failed, Code::Input, "line 7"));
        assert_eq!(
            verdict(fed(wrong(), false), &summary(5, 0), &Tally::default()).unwrap_err().exit,
            Exit::Partial
        );
        assert_eq!(
            verdict(fed(wrong(), false), &summary(0, 0), &Tally::default()).unwrap_err().exit,
            Exit::Failed
        );
        let gone = Some(Failure::new(Exit::Unreachable, Code::Input, "gone"));
        assert_eq!(
            verdict(fed(gone, false), &summary(5, 2), &Tally::default()).unwrap_err().exit,
            Exit::Unreachable
        );
    }
}
