//! `weir bench tail`: how fast a broker gives out what it holds.

use std::time::Instant;

use super::check::Check;
use super::produce::{produce, producers};
use super::read;
use super::report::Report;
use super::session::{Session, cpu_time};
use crate::failure::Failure;

/// Fills the topic, then measures reading it from the start of the run to the end.
pub(crate) async fn run(session: &Session) -> Result<Report, Failure> {
    let run = &session.run;
    let producers = producers(run, &session.clients).await?;
    produce(run, producers).await?;
    let mut check = Check::new(&run.pattern, &run.load);
    let started = Instant::now();
    let cpu = cpu_time();
    let read = session.client().consumer(&run.topic).start(read::start(session)).read_to_end().await?;
    let (records, bytes) = read::to_end(read, &mut check).await?;
    Ok(Report {
        what: "tail",
        records,
        bytes,
        elapsed: started.elapsed(),
        cpu: cpu_time().saturating_sub(cpu),
        latencies: Vec::new(),
        verified: check.finish(),
    })
}
