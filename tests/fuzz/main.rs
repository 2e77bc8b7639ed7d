//! Everything that reads bytes of others is given bytes that nobody meant: see `harness::fuzz` for how.
//!
//! Each target states what must hold whatever it is given. What it reaches decides which inputs are worth changing further.

#![expect(clippy::indexing_slicing, reason = "a panic in a test is a failure with a line number")]
#![expect(clippy::wildcard_enum_match_arm, reason = "few of what can happen concerns a client")]

mod batches;
mod directories;
mod frames;
mod session;

use harness::fuzz::{Target, from_hex};

#[test]
fn frames() {
    let done = harness::fuzz::run(&Target {
        name: "frames",
        command: "cargo test -p tests --no-default-features --test fuzz frames",
        seeds: golden,
        check: frames::check,
        rounds: 20_000,
    });
    println!("{done}");
}

#[test]
fn batches() {
    let done = harness::fuzz::run(&Target {
        name: "batches",
        command: "cargo test -p tests --no-default-features --test fuzz batches",
        seeds: batches::seeds,
        check: batches::check,
        rounds: 5_000,
    });
    println!("{done}");
}

#[test]
fn directories() {
    let done = harness::fuzz::run(&Target {
        name: "directories",
        command: "cargo test -p tests --no-default-features --test fuzz directories",
        seeds: directories::seeds,
        check: directories::check,
        rounds: 400,
    });
    println!("{done}");
}

#[test]
fn session() {
    let done = harness::fuzz::run(&Target {
        name: "session",
        command: "cargo test -p tests --no-default-features --test fuzz session",
        seeds: session::seeds,
        check: session::check,
        rounds: 3_000,
    });
    println!("{done}");
}

/// What is wrong with some bytes, without the numbers in it.
fn kind(error: &weir_protocol::DecodeError) -> String {
    let text = error.problem.to_string();
    text.split(" is ").next().unwrap_or_default().chars().filter(|c| !c.is_ascii_digit()).collect()
}

/// Golden bytes of every message and of the batch.
fn golden() -> Vec<Vec<u8>> {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("wire");
    let entries = std::fs::read_dir(directory).expect("golden bytes are there");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("golden bytes are readable").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "hex"));
    paths.sort();
    paths
        .iter()
        .map(|path| from_hex(&std::fs::read_to_string(path).expect("golden bytes are text")))
        .collect()
}
