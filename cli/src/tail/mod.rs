//! `weir tail`: prints the records of a topic.

mod arguments;
mod gaps;
mod printer;
mod reading;

use std::time::Duration;

use weir_client::{Client, Delivered, Start};

use crate::arguments::Global;
use crate::connect::{ConnectOptions, connect, disconnect, runtime};
use crate::failure::{Exit, Failure};
use crate::interrupt::Interrupt;
use crate::progress::Progress;
use crate::value::From;

pub(crate) use arguments::TailArguments;
use gaps::Gaps;
use printer::Printer;
use reading::Reading;

/// Records taken at once: enough to make the waiting free, few enough to stay small.
const RECORDS_AT_ONCE: usize = 4096;

/// How long a member may take to leave its group.
const LEAVE_WITHIN: Duration = Duration::from_secs(5);

/// How long to wait for records before looking around again.
const WAIT: Duration = Duration::from_secs(1);

/// Runs `weir tail`.
pub(crate) fn run(arguments: &TailArguments, global: &Global) -> Result<Exit, Failure> {
    let printer = Printer::open(arguments, global)?;
    let runtime = runtime()?;
    let exit = runtime.block_on(async {
        let mut interrupt = Interrupt::listen()?;
        let (client, reading) = tokio::select! {
            opened = open(arguments, global) => opened?,
            () = interrupt.asked() => return Ok(Exit::Interrupted),
        };
        let (key, left) = (arguments.key.clone(), arguments.count);
        let is_member = arguments.group.is_some();
        let exit = Tail { printer, key, interrupt, left, is_member }.run(reading).await;
        disconnect(client).await;
        exit
    });
    runtime.shutdown_background();
    exit
}

async fn open(arguments: &TailArguments, global: &Global) -> Result<(Client, Reading), Failure> {
    let client = connect(global, ConnectOptions::default()).await?;
    let partitions = match &arguments.key {
        Some(key) => vec![partition_of_key(&arguments.topic, key, &client).await?],
        None => arguments.partitions.clone(),
    };
    let mut consumer = client.consumer(&arguments.topic).start(start(arguments, &partitions, &client).await?);
    if !partitions.is_empty() {
        consumer = consumer.partitions(partitions);
    }
    if let Some(group) = &arguments.group {
        consumer = consumer.group(group);
        if let Some(member) = &arguments.member {
            consumer = consumer.member(member, arguments.grace.unwrap_or_default());
        }
        if let Some(lease) = arguments.lease {
            consumer = consumer.lease(lease);
        }
    }
    let reading = if arguments.to_end {
        Reading::Bounded(consumer.read_to_end().await?)
    } else {
        Reading::Endless(consumer.subscribe().await?)
    };
    Ok((client, reading))
}

/// The client's word for where to start.
async fn start(arguments: &TailArguments, partitions: &[u32], client: &Client) -> Result<Start, Failure> {
    Ok(match arguments.from {
        From::Earliest => Start::Earliest,
        From::Latest => Start::Latest,
        From::Last(count) => Start::Last(count),
        From::At(moment) => Start::Timestamp(moment),
        From::Ago(age) => {
            let now = std::time::SystemTime::now();
            Start::Timestamp(now.checked_sub(age).unwrap_or(std::time::UNIX_EPOCH))
        }
        From::Offset(offset) => {
            Start::Offset(partition_of_offset(&arguments.topic, partitions, client).await?, offset)
        }
    })
}

/// The partition that an offset belongs to: there must be no choice.
async fn partition_of_offset(topic: &str, partitions: &[u32], client: &Client) -> Result<u32, Failure> {
    match partitions {
        [partition] => return Ok(*partition),
        [] => {
            let topic = client.admin().describe_topic(topic).await?;
            if topic.partitions.len() == 1 {
                return Ok(0);
            }
        }
        _ => {}
    }
    Err(Failure::usage("an offset belongs to one partition, and there are several").help("name it with -p"))
}

/// The partition with the records of a key.
async fn partition_of_key(topic: &str, key: &str, client: &Client) -> Result<u32, Failure> {
    let settings = client.admin().describe_topic(topic).await?.settings;
    settings.partition_of(key.as_bytes()).ok_or_else(|| {
        let text = format_args!(
            "producers of topic '{topic}' choose partitions: a key does not tell where its records are"
        );
        Failure::usage(text)
    })
}

struct Tail {
    printer: Printer,
    /// The key of the records that are printed; without one, all are.
    key: Option<String>,
    interrupt: Interrupt,
    /// Records still to print; without a bound, none.
    left: Option<u64>,
    /// What was printed is acknowledged.
    is_member: bool,
}

impl Tail {
    async fn run(mut self, mut reading: Reading) -> Result<Exit, Failure> {
        let mut gaps = Gaps::new(reading.events());
        let mut progress = Progress::start("read", self.left);
        let mut interrupted = false;
        let mut records: Vec<Delivered> = Vec::with_capacity(RECORDS_AT_ONCE);
        let mut wait = Duration::ZERO;
        while self.left != Some(0) && !reading.is_finished() && !interrupted {
            let max = self.left.map_or(RECORDS_AT_ONCE, |left| {
                usize::try_from(left).unwrap_or(RECORDS_AT_ONCE).min(RECORDS_AT_ONCE)
            });
            let mut outcome = Ok(());
            tokio::select! {
                biased;
                () = self.interrupt.asked() => interrupted = true,
                // A gap is told before the records behind it are printed.
                () = gaps.watch() => {}
                received = reading.recv_into(&mut records, max, wait) => outcome = received.map(drop),
            }
            // What has arrived is printed, whatever ended the wait.
            let idle = records.is_empty();
            self.print(&mut records, &mut progress)?;
            outcome?;
            if idle {
                progress.clear();
                self.printer.flush()?;
            }
            wait = if idle { WAIT } else { Duration::ZERO };
        }
        self.printer.flush()?;
        progress.clear();
        reading.finish(LEAVE_WITHIN).await;
        gaps.rest().await;
        if interrupted { Ok(Exit::Interrupted) } else { gaps.verdict() }
    }

    fn print(&mut self, records: &mut Vec<Delivered>, progress: &mut Progress) -> Result<(), Failure> {
        let key = self.key.as_deref().map(str::as_bytes);
        for record in records.iter().filter(|record| key.is_none() || record.key.as_deref() == key) {
            self.printer.print(record)?;
            if let Some(left) = &mut self.left {
                *left = left.saturating_sub(1);
            }
        }
        if self.is_member && !records.is_empty() {
            // Acknowledged is what somebody has, not what waits in a buffer.
            self.printer.flush()?;
            for record in records.drain(..) {
                drop(record.ack());
            }
        }
        records.clear();
        if !self.printer.is_terminal() {
            progress.show(self.printer.records(), self.printer.bytes(), self.printer.records());
        }
        Ok(())
    }
}
