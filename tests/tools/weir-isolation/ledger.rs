//! What counting memory and sharing credit cost, against a broker that does neither.

use std::path::PathBuf;

use harness::Broker;

use crate::measure::{full_rate, median};
use crate::{Row, Scale};

/// Names the binary of a broker whose ledger and credit do nothing.
const WITHOUT: &str = "WEIR_BIN_WITHOUT_LEDGER";

pub(crate) fn run(scale: Scale) -> anyhow::Result<Row> {
    let binary = std::env::var_os(WITHOUT).map(PathBuf::from);
    let binary =
        binary.ok_or_else(|| anyhow::anyhow!("{WITHOUT} names no binary; benches/isolation builds it"))?;
    let (broker, bare) = (Broker::start(), Broker::start_of(&binary));
    let records = scale.of(1_500_000);
    for broker in [&broker, &bare] {
        full_rate(broker, records)?; // The journal grows once.
    }
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for _ in 0..2 * scale.rounds {
        with.push(full_rate(&broker, records)?);
        without.push(full_rate(&bare, records)?);
    }
    let (with, without) = (median(with)?, median(without)?);
    let ratio = with / without;
    Ok(Row {
        what: "publish rate, against a copy whose ledger and credit do nothing".to_owned(),
        goal: "at least 97 %",
        measured: format!(
            "{:.1} %: {:.2} M records/s, the copy {:.2}",
            ratio * 100.0,
            with / 1e6,
            without / 1e6
        ),
        holds: ratio >= 0.97,
    })
}
