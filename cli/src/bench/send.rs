//! `weir bench send`: how fast a broker takes records, and how long a receipt takes.

use super::check::{Check, Verified};
use super::latency::Latencies;
use super::produce::{Produced, produce, producers};
use super::read;
use super::report::Report;
use super::session::{Session, cpu_time};
use crate::failure::Failure;

/// Measures publishing, then reads everything back.
pub(crate) async fn run(session: &Session) -> Result<Report, Failure> {
    let producers = producers(&session.run, &session.clients).await?;
    let cpu = cpu_time();
    let produced = produce(&session.run, producers).await?;
    let cpu = cpu_time().saturating_sub(cpu);
    let (elapsed, latencies) = summary(&produced);
    let load = &session.run.load;
    Ok(Report {
        what: "send",
        records: load.records,
        bytes: session.run.pattern.bytes(load.records),
        elapsed,
        published: None,
        resumed: None,
        cached: None,
        cpu,
        latencies: vec![("ack_latency_us", latencies)],
        verified: verify(session).await?,
    })
}

/// From the first send to the last receipt of all producers, and their times to the receipt.
pub(crate) fn summary(produced: &[Produced]) -> (std::time::Duration, Latencies) {
    let mut latencies = Latencies::new();
    produced.iter().for_each(|produced| latencies.add(&produced.latencies));
    let first = produced.iter().map(|produced| produced.first_send).min();
    let last = produced.iter().map(|produced| produced.last_receipt).max();
    let elapsed = last.zip(first).map(|(last, first)| last.saturating_duration_since(first));
    (elapsed.unwrap_or_default(), latencies)
}

async fn verify(session: &Session) -> Result<Verified, Failure> {
    let run = &session.run;
    let mut check = Check::new(&run.pattern, &run.load);
    let read = session.client().consumer(&run.topic).start(read::start(session)).read_to_end().await?;
    read::to_end(read, &mut check).await?;
    Ok(check.finish())
}
