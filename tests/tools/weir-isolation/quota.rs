//! A client that wants ten times its quota, and what is left for another.

use harness::Broker;

use crate::measure::{bench, full_rate, median, number, start, stop, whole};
use crate::{Row, Scale};

/// Seconds that a run takes.
const SECONDS: u64 = 8;

pub(crate) fn run(scale: Scale) -> anyhow::Result<Row> {
    let full = {
        let broker = Broker::start();
        full_rate(&broker, scale.of(1_500_000))?; // The journal grows once.
        full_rate(&broker, scale.of(1_500_000))?
    };
    // A tenth of what there is, and a quota for each with some room above that.
    let (load, quota) = (whole(full * 0.1), whole(full * 0.12));
    let broker = Broker::start_with(&["--quota-publish-rate", &format!("{}KiB", quota * 1000 / 1024)]);
    let modest =
        format!("send --size 1000 --rate {load}/s --records {} --client-name modest", load * SECONDS);
    let greedy = format!(
        "send --size 1000 --rate {}/s --records {} --client-name greedy",
        quota * 10,
        quota * 10 * (SECONDS + 3)
    );
    bench(&broker, &modest)?;
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..scale.rounds {
        alone.push(number(&bench(&broker, &modest)?, "/records_per_second")?);
        let greedy = start(&broker, &greedy);
        beside.push(number(&bench(&broker, &modest)?, "/records_per_second")?);
        stop(greedy)?;
    }
    let (alone, beside) = (median(alone)?, median(beside)?);
    let ratio = beside / alone;
    Ok(Row {
        what: "a client that sends ten times its quota, another at a tenth of full speed".to_owned(),
        goal: "the other at least 90 % of its rate alone",
        measured: format!(
            "{:.1} %: {:.1} MB/s, alone {:.1} MB/s",
            ratio * 100.0,
            beside / 1000.0,
            alone / 1000.0
        ),
        holds: ratio >= 0.9,
    })
}
