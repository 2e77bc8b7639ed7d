//! The scenarios of isolation: what some clients do to a broker's memory and to other clients. `benches/isolation` builds and
//! runs it; it prints a row of a table for each, and fails if one misses its goal.
//!
//! Ratios are of runs that took turns, so that what else the machine does moves both sides.

mod backlog;
mod fairness;
mod ledger;
mod measure;
mod quota;
mod silent;
mod stall;

use std::process::ExitCode;

use anyhow::bail;

/// What a scenario came to.
struct Row {
    /// What was done.
    what: String,
    /// What is wanted of it.
    goal: &'static str,
    /// What was measured.
    measured: String,
    /// Whether the goal is met.
    holds: bool,
}

/// How large the scenarios are.
#[derive(Clone, Copy, Debug)]
struct Scale {
    /// Divides times and numbers of records: 1 for the figures, more to see that a scenario works.
    divisor: u64,
    /// Runs of each side.
    rounds: u32,
}

impl Scale {
    /// A number at this scale.
    const fn of(self, number: u64) -> u64 {
        let scaled = number / self.divisor;
        if scaled == 0 { 1 } else { scaled }
    }
}

type Scenario = fn(Scale) -> anyhow::Result<Row>;

const SCENARIOS: [(&str, Scenario); 6] = [
    ("stall", stall::run),
    ("backlog", backlog::run),
    ("silent", silent::run),
    ("fairness", fairness::run),
    ("quota", quota::run),
    ("ledger", ledger::run),
];

#[expect(clippy::print_stdout, reason = "the table is what it is for")]
fn main() -> anyhow::Result<ExitCode> {
    let mut names: Vec<String> = std::env::args().skip(1).collect();
    let small = names.iter().position(|name| name == "--small").map(|at| names.remove(at)).is_some();
    let scale = if small { Scale { divisor: 10, rounds: 1 } } else { Scale { divisor: 1, rounds: 3 } };
    if let Some(unknown) = names.iter().find(|name| !SCENARIOS.iter().any(|(known, _)| known == name)) {
        bail!("no scenario {unknown}; there are: {}", SCENARIOS.map(|(name, _)| name).join(" "));
    }
    println!("| scenario | goal | measured |\n|---|---|---|");
    let mut missed = false;
    for (name, run) in
        SCENARIOS.iter().filter(|(name, _)| names.is_empty() || names.iter().any(|one| one == name))
    {
        let row = run(scale)?;
        let verdict = if row.holds { "" } else { " **missed**" };
        println!("| `{name}`: {} | {} | {}{verdict} |", row.what, row.goal, row.measured);
        missed |= !row.holds;
    }
    Ok(ExitCode::from(u8::from(missed)))
}
