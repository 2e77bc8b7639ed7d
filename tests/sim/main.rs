//! The machines of broker and client in a simulated world: each seed is a world with its own faults, and always the same.
//!
//! `WEIR_SEEDS=n` runs so many worlds, `WEIR_SEED=n` one of a workload. Of a world, `WEIR_EVENTS=n` runs the beginning,
//! `WEIR_STRIKES=n` ends the faults after so many events, `WEIR_RECORDS=n` lets so few records be sent, and
//! `WEIR_WITHOUT=Kill,Stall` leaves classes of faults out. `WEIR_AS_FOUND=1` does not look for a shorter failure.

#![expect(clippy::indexing_slicing, reason = "a panic in a test is a failure with a line number")]
#![expect(clippy::print_stdout, reason = "a run says what it met, and how to see a failure again")]
#![expect(clippy::wildcard_enum_match_arm, reason = "errors that are none of the expected ones are defects")]

mod broker;
mod client;
mod coverage;
mod extent;
mod faults;
mod network;
mod run;
mod scheduler;
mod shorten;
mod workload;
mod world;

use std::process::Command;

use extent::Extent;
use workload::ALL;

#[test]
fn steady() {
    run::run(&ALL[0]);
}

#[test]
fn written() {
    run::run(&ALL[1]);
}

#[test]
fn backlog() {
    run::run(&ALL[2]);
}

#[test]
fn retention() {
    run::run(&ALL[3]);
}

#[test]
fn crowd() {
    run::run(&ALL[4]);
}

#[test]
fn impatient() {
    run::run(&ALL[5]);
}

#[test]
fn wide() {
    run::run(&ALL[6]);
}

#[test]
fn keys() {
    run::run(&ALL[7]);
}

#[test]
fn groups() {
    run::run(&ALL[8]);
}

#[test]
fn counters() {
    run::run(&ALL[9]);
}

/// Worlds until one fails, or somebody ends the process: `cargo test … --test sim -- --ignored --nocapture without_end`.
#[test]
#[ignore = "it never ends by itself"]
fn without_end() {
    run::run_on();
}

/// The traces of some worlds.
fn traces() -> String {
    let extent = Extent { events: 5000, ..Extent::from_environment() };
    let worlds = (900..902).flat_map(|seed| ALL.iter().map(move |workload| (seed, workload)));
    worlds.map(|(seed, workload)| format!("{:016x} ", run::world(seed, workload, &extent).trace)).collect()
}

#[test]
fn a_seed_gives_the_same_trace_in_two_runs_and_in_two_processes() {
    let here = traces();
    if std::env::var_os("WEIR_TRACES").is_some() {
        println!("traces: {here}");
        return;
    }
    assert_eq!(here, traces(), "two runs in one process");
    let name = "a_seed_gives_the_same_trace_in_two_runs_and_in_two_processes";
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env("WEIR_TRACES", "1")
        .output()
        .unwrap();
    let said = String::from_utf8(child.stdout).unwrap();
    assert!(said.contains(&here), "another process has other traces: {said} instead of {here}");
}
