//! `weir bench scan`: a reader of everything a topic holds, at full speed, again and again.

use std::time::{Duration, Instant};

use serde_json::json;
use weir_client::{Delivered, Start};

use super::session::cpu_time;
use crate::arguments::Global;
use crate::connect::{ConnectOptions, TransportChoice, connect, disconnect};
use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::progress::float;
use crate::value::duration;

/// Records taken at once.
const RECORDS_AT_ONCE: usize = 8192;

/// How long to wait for records before looking around.
const WAIT: Duration = Duration::from_millis(100);

/// What is read, and for how long.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Scan {
    /// The topic
    pub(crate) topic: String,
    /// End after this time
    #[arg(long = "for", value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub(crate) time: Duration,
    /// Transport profile of the client
    #[arg(long, value_enum, default_value = "auto")]
    pub(crate) transport: TransportChoice,
}

/// Reads until the time is over.
pub(crate) async fn run(scan: &Scan, global: &Global) -> Result<Exit, Failure> {
    let options = ConnectOptions { transport: scan.transport, ..ConnectOptions::default() };
    let client = connect(global, options).await?;
    let (began, cpu) = (Instant::now(), cpu_time());
    let mut records: Vec<Delivered> = Vec::with_capacity(RECORDS_AT_ONCE);
    let (mut bytes, mut count, mut passes) = (0u64, 0u64, 0u64);
    while began.elapsed() < scan.time {
        let mut read = client.consumer(&scan.topic).start(Start::Earliest).read_to_end().await?;
        while !read.is_finished() && began.elapsed() < scan.time {
            read.recv_into(&mut records, RECORDS_AT_ONCE, WAIT).await?;
            count += u64::try_from(records.len()).unwrap_or(u64::MAX);
            for record in records.drain(..) {
                bytes += u64::try_from(record.size()).unwrap_or(u64::MAX);
            }
        }
        passes += u64::from(read.is_finished());
    }
    let (seconds, cpu) = (began.elapsed().as_secs_f64(), cpu_time().saturating_sub(cpu).as_secs_f64());
    disconnect(client).await;
    let rate = float(bytes) / 1e6 / seconds;
    let mut output = Output::open()?;
    if global.json {
        output.document(&json!({
            "bench": "scan", "topic": scan.topic, "records": count, "bytes": bytes, "passes": passes,
            "seconds": seconds, "mb_per_second": rate, "client_cpu_seconds": cpu,
        }))?;
    } else {
        output.line(&format!("{count} records, {rate:.1} MB/s, {passes} times to the end"))?;
    }
    output.finish()?;
    Ok(Exit::Done)
}
