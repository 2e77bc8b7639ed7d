//! A reader of old records at full speed, and what it does to those who read the newest.

use harness::Broker;

use crate::measure::{bench, median, number, report, start};
use crate::{Row, Scale};

/// Records in a second that are published and read at the tail.
const RATE: u64 = 20_000;

/// Seconds that a run takes.
const SECONDS: u64 = 10;

pub(crate) fn run(scale: Scale) -> anyhow::Result<Row> {
    let records = scale.of(2_700_000);
    // The other broker is the unrelated process: it costs the machine the same, and shares nothing with the tail but that.
    let brokers = [(); 2].map(|()| Broker::start_with(&["--memory", "256MiB"]));
    for broker in &brokers {
        broker.text(&["topic", "create", "backlog"]);
        bench(broker, &format!("send --topic backlog --size 1000 --records {records}"))?;
    }
    let [broker, unrelated] = &brokers;
    let (mut beside, mut within) = (Side::default(), Side::default());
    for _ in 0..scale.rounds {
        beside.measure(broker, unrelated)?;
        within.measure(broker, broker)?;
    }
    let (beside, within) = (beside.middle()?, within.middle()?);
    let ratio = within.0 / beside.0;
    Ok(Row {
        what: format!(
            "tail at {RATE} records/s, while {:.1} GB are read at full speed, `--memory 256MiB`",
            gigabytes(records)
        ),
        goal: "p99 at most 1.2 x that beside the same reader of an unrelated broker",
        measured: format!(
            "{ratio:.2} x: {:.1} ms with the reader at {:.0} MB/s, {:.1} ms beside an unrelated one at {:.0} MB/s",
            within.0 / 1000.0,
            within.1,
            beside.0 / 1000.0,
            beside.1,
        ),
        holds: ratio <= 1.2,
    })
}

/// Runs of one kind.
#[derive(Default)]
struct Side {
    p99_us: Vec<f64>,
    /// How fast the backlog was read, in MB/s.
    speed: Vec<f64>,
}

impl Side {
    /// Publishes and reads at the tail of one broker, while a backlog is read from one.
    fn measure(&mut self, tail: &Broker, backlog: &Broker) -> anyhow::Result<()> {
        let scan = start(backlog, &format!("scan backlog --for {}s", SECONDS + 3));
        let load = format!("--rate {RATE}/s --records {}", RATE * SECONDS);
        self.p99_us
            .push(number(&bench(tail, &format!("e2e --size 1000 {load}"))?, "/delivery_latency_us/p99")?);
        self.speed.push(number(&report(scan)?, "/mb_per_second")?);
        Ok(())
    }

    fn middle(self) -> anyhow::Result<(f64, f64)> {
        Ok((median(self.p99_us)?, median(self.speed)?))
    }
}

/// Of records of 1,000 bytes.
fn gigabytes(records: u64) -> f64 {
    f64::from(u32::try_from(records).unwrap_or(u32::MAX)) / 1e6
}
