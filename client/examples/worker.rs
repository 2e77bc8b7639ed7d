//! A worker: enters payments into a ledger, sets aside what is no payment, and waits while the ledger is away.
//!
//! With a broker running, in as many terminals as you like: `cargo run -p weir-client --example worker -- TOPIC GROUP LEDGER`.
//! The members of GROUP share the partitions of TOPIC. A record is an amount; it becomes a line `PARTITION OFFSET AMOUNT` of the
//! file LEDGER. What is no amount goes to the topic TOPIC.dlq, at once: `weir dlq show TOPIC.dlq`. A directory that is not there
//! stands for a database that is down: nothing is set aside for that, and nothing else is tried meanwhile. SIGTERM ends it in
//! order.
//!
//! A worker that is killed leaves records that are dealt with again by another one. The ledger has them twice then, under the
//! same partition and offset: by these it knows them.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use weir_client::{Breaker, Client, Delivered, Handler, HandlerError, Redelivery, Start, TopicSpec};

/// Enters payments into a file.
struct Ledger(PathBuf);

impl Handler for Ledger {
    async fn handle(&self, record: &Delivered) -> Result<(), HandlerError> {
        let text = String::from_utf8_lossy(record.value.as_deref().unwrap_or_default()).into_owned();
        let Ok(amount) = text.trim().parse::<i64>() else {
            println!("rejected {text}");
            return Err(HandlerError::Reject(format!("'{text}' is no amount")));
        };
        let mut file = match OpenOptions::new().create(true).append(true).open(&self.0) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                println!("waiting for the ledger");
                return Err(HandlerError::unavailable(error));
            }
            // Anything else may pass, too, but costs the record an attempt.
            opened => opened?,
        };
        file.write_all(format!("{} {} {amount}\n", record.partition, record.offset).as_bytes())?;
        println!("entered {amount}");
        Ok(())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(topic), Some(group), Some(ledger)) = (arguments.next(), arguments.next(), arguments.next())
    else {
        return Err("usage: worker TOPIC GROUP LEDGER".into());
    };
    let mut asked = signal(SignalKind::terminate())?;
    let weir = Client::from_env().await?;
    let dead_letter = format!("{topic}.dlq");
    weir.admin().ensure_topic(TopicSpec::new(&dead_letter)).await?;
    // A payment that fails for another reason is tried eight times, within some minutes.
    let redelivery = Redelivery::exponential(Duration::from_secs(1), Duration::from_secs(60));
    let payments = weir.consumer(&topic).group(&group).start(Start::Earliest);
    let payments =
        payments.redelivery(redelivery.max_attempts(8).dead_letter(&dead_letter)).subscribe().await?;
    let report = payments
        .run(Ledger(PathBuf::from(ledger)))
        .concurrency(8)
        .timeout(Duration::from_secs(10))
        .breaker(Breaker::open_after(5).cool_down(Duration::from_millis(500)))
        .shutdown(async move {
            asked.recv().await;
        })
        .await?;
    println!("handled {} rejected {}", report.handled, report.rejected);
    Ok(())
}
