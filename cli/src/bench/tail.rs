//! `weir bench tail`: how fast a broker gives out what it holds, at first and again.

use std::time::{Duration, Instant};

use super::check::{Check, Verified};
use super::produce::{produce, producers};
use super::read;
use super::report::Report;
use super::session::{Session, cpu_time};
use crate::code::Code;
use crate::failure::{Exit, Failure};

/// Fills the topic, then measures reading it from the start of the run to the end, twice: segments are written past the
/// cache of the system, so that only the second time they come from memory.
pub(crate) async fn run(session: &Session) -> Result<Report, Failure> {
    let run = &session.run;
    let producers = producers(run, &session.clients).await?;
    produce(run, producers).await?;
    let cpu = cpu_time();
    let first = pass(session).await?;
    let cpu = cpu_time().saturating_sub(cpu);
    let again = pass(session).await?;
    if first.verified.is_clean() && (again.records != first.records || !again.verified.is_clean()) {
        let text = format_args!("reading again gave something else: {}", again.verified.text());
        return Err(Failure::new(Exit::Failed, Code::Unverified, text));
    }
    Ok(Report {
        what: "tail",
        records: first.records,
        bytes: first.bytes,
        elapsed: first.elapsed,
        published: None,
        resumed: None,
        cached: Some(again.elapsed),
        cpu,
        latencies: Vec::new(),
        verified: first.verified,
    })
}

/// Reading everything once.
struct Pass {
    records: u64,
    bytes: u64,
    elapsed: Duration,
    verified: Verified,
}

async fn pass(session: &Session) -> Result<Pass, Failure> {
    let run = &session.run;
    let mut check = Check::new(&run.pattern, &run.load);
    let started = Instant::now();
    let read = session.client().consumer(&run.topic).start(read::start(session)).read_to_end().await?;
    let (records, bytes) = read::to_end(read, &mut check).await?;
    Ok(Pass { records, bytes, elapsed: started.elapsed(), verified: check.finish() })
}
