//! Consumers that stand still while producers go on, and then go on themselves.

use anyhow::Context as _;
use harness::{Broker, Watch};
use serde_json::Value;

use crate::measure::{bench, number};
use crate::{Row, Scale};

/// Records in a second: with 1,000 bytes each 200 MB/s.
const RATE: u64 = 200_000;

pub(crate) fn run(scale: Scale) -> anyhow::Result<Row> {
    let pause = scale.of(60);
    // So long that producers go on after the pause, too.
    let seconds = pause + scale.of(15).max(3);
    let broker = Broker::start_with(&["--memory", "256MiB"]);
    let watch = Watch::over(broker.process().id());
    let load = format!("--records {} --rate {RATE}/s --producers 4 --connections 2", RATE * seconds);
    let report = bench(&broker, &format!("e2e --size 1000 {load} --pause {pause}s"))?;
    let held = watch.finish();

    let peak = held.peak_bytes >> 20;
    let rates = report.pointer("/resumed/mb_in_each_second").and_then(Value::as_array).context("no rates")?;
    let rate = |second: usize| rates.get(second).and_then(Value::as_f64).unwrap_or_default();
    let caught_up = number(&report, "/resumed/caught_up_seconds").ok();
    let late = number(&report, "/publish_seconds")? - number(&(seconds.into()), "")?;
    let fast_again = rate(1) >= 200.0 || caught_up.is_some_and(|seconds| seconds < 2.0);
    let caught_up = caught_up.map_or_else(|| "never".to_owned(), |seconds| format!("after {seconds:.1} s"));
    Ok(Row {
        what: format!(
            "`--memory 256MiB`, producers at 200 MB/s, consumer stopped for {pause} s, then resumed"
        ),
        goal: "memory never above 256 MiB, nothing lost, full rate again within 1 s",
        measured: format!(
            "at most {peak} MiB in {} looks; nothing lost; consumer at {:.0} MB/s in the first second and {:.0} in the next, caught up \
             {caught_up}; producers {late:.1} s late at the end",
            held.looks,
            rate(0),
            rate(1),
        ),
        holds: held.peak_bytes <= 256 << 20 && fast_again && late < 1.0,
    })
}
