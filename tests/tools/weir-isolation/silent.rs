//! Subscriptions that never read, and what is left for others.

use std::time::Duration;

use harness::bare::{Reading, Stalled};
use harness::{Broker, Watch};

use crate::measure::{bench, full_rate, median};
use crate::{Row, Scale};

/// Longest that subscriptions may take until they are open.
const OPEN_WITHIN: Duration = Duration::from_secs(60);

/// Bytes that each of them is sent before it stands still.
const GRANTED_BYTES: u64 = 32 << 10;

pub(crate) fn run(scale: Scale) -> anyhow::Result<Row> {
    let (connections, lanes) = (100, usize::try_from(scale.of(100))?);
    let records = scale.of(1_500_000);
    let broker = Broker::start_with(&["--memory", "512MiB", "--connections-max", "256"]);
    let watch = Watch::over(broker.process().id());
    broker.text(&["topic", "create", "old"]);
    bench(&broker, "send --topic old --size 1000 --records 10000")?;
    let old = (broker.address(), broker.topic_id("old"));
    full_rate(&broker, records)?; // The journal grows once.
    let (mut before, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..scale.rounds {
        before.push(full_rate(&broker, records)?);
        let stalled = Stalled::open(old, (connections, lanes), Reading::Granted(GRANTED_BYTES));
        stalled.wait_for(connections * lanes, OPEN_WITHIN);
        beside.push(full_rate(&broker, records)?);
        anyhow::ensure!(stalled.lanes() == connections * lanes, "{} lanes are left", stalled.lanes());
    }
    let peak = watch.finish().peak_bytes;
    let (before, beside) = (median(before)?, median(beside)?);
    let ratio = beside / before;
    Ok(Row {
        what: format!(
            "{} subscriptions that never read, on {connections} connections, `--memory 512MiB --connections-max 256`",
            connections * lanes
        ),
        goal: "publish rate of others at least 95 % of before",
        measured: format!(
            "{:.1} %: {:.2} M records/s, before {:.2}; memory at most {} MiB",
            ratio * 100.0,
            beside / 1e6,
            before / 1e6,
            peak >> 20
        ),
        holds: ratio >= 0.95 && peak <= 512 << 20,
    })
}
