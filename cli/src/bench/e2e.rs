//! `weir bench e2e`: how long a record takes from its producer to its consumer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use weir_client::{Consumer, Start};

use super::check::{Check, Verified};
use super::produce::{Run, produce, producers};
use super::read::{self, Watched};
use super::report::Report;
use super::send::summary;
use super::session::{Session, cpu_time};
use crate::code::Code;
use crate::failure::{Exit, Failure};

/// Publishes and reads at the same time; the consumer may stand still for a while.
pub(crate) async fn run(session: &Session, pause: Option<Duration>) -> Result<Report, Failure> {
    let run = &session.run;
    let start = if session.owns_topic() { Start::Earliest } else { Start::Latest };
    let consumer = session.client().consumer(&run.topic).start(start).subscribe().await?;
    let producers = producers(run, &session.clients).await?;
    let cpu = cpu_time();
    let started = Instant::now();
    let reader = Arc::clone(run);
    let reading = tokio::task::spawn_blocking(move || read_on_thread(&reader, consumer, pause));
    let produced = produce(run, producers).await?;
    let (watched, verified) = reading.await.expect("reading does not panic")?;
    let (published, acks) = summary(&produced);
    Ok(Report {
        what: "e2e",
        records: run.load.records,
        bytes: run.pattern.bytes(run.load.records),
        elapsed: started.elapsed(),
        published: Some(published),
        cached: None,
        resumed: watched.resumed,
        cpu: cpu_time().saturating_sub(cpu),
        latencies: vec![("delivery_latency_us", watched.latencies), ("ack_latency_us", acks)],
        verified,
    })
}

/// Reads apart from the thread that drives the connection, as an application would.
fn read_on_thread(
    run: &Run,
    mut consumer: Consumer,
    pause: Option<Duration>,
) -> Result<(Watched, Verified), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(|error| {
        Failure::new(Exit::Failed, Code::File, format_args!("cannot start a thread: {error}"))
    })?;
    let mut check = Check::new(&run.pattern, &run.load);
    let watched = runtime.block_on(read::until_complete(&mut consumer, &mut check, run.base, pause))?;
    Ok((watched, check.finish()))
}
