//! Reading the records of a run, and looking at each.

use std::time::{Duration, Instant, SystemTime};

use weir_client::{BoundedRead, Consumer, Delivered, Start};

use super::check::Check;
use super::latency::Latencies;
use super::pause::Resumed;
use super::produce::nanos;
use super::session::Session;
use crate::failure::Failure;

/// Records taken at once.
const RECORDS_AT_ONCE: usize = 8192;

/// How long to wait for records before looking around.
const WAIT: Duration = Duration::from_millis(500);

/// How long nothing may come before what is missing counts as lost.
const PATIENCE: Duration = Duration::from_secs(30);

/// How far the clock of the broker may be behind that of the client, where reading starts by time.
const CLOCK_SKEW: Duration = Duration::from_secs(60);

/// Where reading starts so that no record of the run is missed.
pub(crate) fn start(session: &Session) -> Start {
    if session.owns_topic() {
        return Start::Earliest;
    }
    let begun = session.run.base.elapsed() + CLOCK_SKEW;
    Start::Timestamp(SystemTime::now().checked_sub(begun).unwrap_or(SystemTime::UNIX_EPOCH))
}

/// Reads to the end; answers records and bytes, whether or not they belong to the run.
pub(crate) async fn to_end(mut read: BoundedRead, check: &mut Check<'_>) -> Result<(u64, u64), Failure> {
    let mut records: Vec<Delivered> = Vec::with_capacity(RECORDS_AT_ONCE);
    let (mut count, mut bytes) = (0, 0);
    while !read.is_finished() {
        read.recv_into(&mut records, RECORDS_AT_ONCE, WAIT).await?;
        for record in records.drain(..) {
            count += 1;
            bytes += u64::try_from(record.size()).unwrap_or(u64::MAX);
            check.look(record.partition, record.value.as_deref().unwrap_or_default());
        }
    }
    Ok((count, bytes))
}

/// What a consumer saw of a run.
#[derive(Debug)]
pub(crate) struct Watched {
    /// How long records were on their way.
    pub(crate) latencies: Latencies,
    /// How it went on after its pause, if there was one.
    pub(crate) resumed: Option<Resumed>,
}

/// Reads until every record of the run has come; notes how long each was on its way. Takes nothing for `pause` behind the
/// first ones.
pub(crate) async fn until_complete(
    consumer: &mut Consumer,
    check: &mut Check<'_>,
    base: Instant,
    mut pause: Option<Duration>,
) -> Result<Watched, Failure> {
    let mut records: Vec<Delivered> = Vec::with_capacity(RECORDS_AT_ONCE);
    let mut watched = Watched { latencies: Latencies::new(), resumed: None };
    let mut last = Instant::now();
    while !check.is_complete() && last.elapsed() < PATIENCE {
        consumer.recv_into(&mut records, RECORDS_AT_ONCE, WAIT).await?;
        if records.is_empty() {
            continue;
        }
        last = Instant::now();
        let now_ns = nanos(base.elapsed());
        for record in records.drain(..) {
            let Some(mark) = check.look(record.partition, record.value.as_deref().unwrap_or_default()) else {
                continue;
            };
            let age = Duration::from_nanos(now_ns.saturating_sub(mark.sent_ns));
            watched.latencies.record(age);
            if let Some(resumed) = &mut watched.resumed {
                resumed.count(record.size(), age);
            }
        }
        if let Some(pause) = pause.take() {
            tokio::time::sleep(pause).await;
            watched.resumed = Some(Resumed::now());
            last = Instant::now();
        }
    }
    Ok(watched)
}
