//! Runs of the load tool, and what they measured.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use harness::{Broker, Process};
use rustix::process::Signal;
use serde_json::Value;

/// Longest a run may take.
const RUN_WITHIN: Duration = Duration::from_secs(280);

/// Starts a run of the load tool.
pub(crate) fn start(broker: &Broker, arguments: &str) -> Process {
    let words: Vec<&str> = ["bench"].into_iter().chain(arguments.split(' ')).chain(["--json"]).collect();
    broker.client_for(RUN_WITHIN, &words)
}

/// What a run reports; it fails if anything was lost, duplicated, reordered or damaged.
pub(crate) fn report(run: Process) -> anyhow::Result<Value> {
    Ok(serde_json::from_slice(&run.finish().expect_code(0).stdout)?)
}

/// Ends a run early; it cleans up behind itself.
pub(crate) fn stop(run: Process) -> anyhow::Result<()> {
    ensure!(!run.has_ended(), "a load was done before what was measured beside it");
    run.signal(Signal::INT);
    run.finish();
    Ok(())
}

/// Runs the load tool.
pub(crate) fn bench(broker: &Broker, arguments: &str) -> anyhow::Result<Value> {
    report(start(broker, arguments))
}

/// A number of a report, by its path.
pub(crate) fn number(report: &Value, path: &str) -> anyhow::Result<f64> {
    report.pointer(path).and_then(Value::as_f64).with_context(|| format!("no {path} in {report}"))
}

/// The one in the middle; of an even number of them the lower one.
pub(crate) fn median(mut values: Vec<f64>) -> anyhow::Result<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().context("nothing was measured")
}

/// The rate of publishing as fast as it goes, in records of 1,000 bytes a second.
pub(crate) fn full_rate(broker: &Broker, records: u64) -> anyhow::Result<f64> {
    let report = bench(broker, &format!("send --records {records} --size 1000"))?;
    number(&report, "/records_per_second")
}

/// The nearest whole number.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rates are far below 2^53, and positive"
)]
pub(crate) fn whole(number: f64) -> u64 {
    number.round() as u64
}
