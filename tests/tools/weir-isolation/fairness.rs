//! A producer that sends as fast as it can, and what it does to nine that send a little.

use harness::Broker;

use crate::measure::{bench, full_rate, median, number, start, stop, whole};
use crate::{Row, Scale};

/// Seconds that a run takes.
const SECONDS: u64 = 8;

pub(crate) fn run(scale: Scale) -> anyhow::Result<Row> {
    let broker = Broker::start();
    full_rate(&broker, scale.of(1_500_000))?; // The journal grows once.
    let full = full_rate(&broker, scale.of(1_500_000))?;
    let rate = whole(full * 0.09);
    let nine = format!(
        "send --size 1000 --producers 9 --connections 9 --rate {rate}/s --records {} --client-name nine",
        rate * SECONDS
    );
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..scale.rounds {
        alone.push(number(&bench(&broker, &nine)?, "/ack_latency_us/p99")?);
        let records = whole(full) * (SECONDS + 3);
        let fast = start(&broker, &format!("send --size 1000 --records {records} --client-name fast"));
        beside.push(number(&bench(&broker, &nine)?, "/ack_latency_us/p99")?);
        stop(fast)?;
    }
    let (alone, beside) = (median(alone)?, median(beside)?);
    Ok(Row {
        what: format!(
            "1 producer at full speed ({:.2} M records/s alone), 9 others at 1 % of that",
            full / 1e6
        ),
        goal: "p99 of the nine at most 2 x alone + 1 ms",
        measured: format!("{:.1} ms, alone {:.1} ms", beside / 1000.0, alone / 1000.0),
        holds: beside <= 2.0 * alone + 1000.0,
    })
}
