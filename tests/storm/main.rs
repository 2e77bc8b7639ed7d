//! The real binary and real clients in a storm: kills, pauses, a bad network between them. What every client saw is written
//! down and judged by the checker of the simulator.
//!
//! Each test draws its storm from a seed. Then everything is healed, and all that was sent must have its outcome, all readers
//! must have everything, and all that was promised must be there after one more kill. Processes and the system's scheduler
//! have their own minds, so a seed repeats a storm, but a run only in kind.
//!
//! `WEIR_SEED` draws other storms, `WEIR_SEEDS` is how many each test goes through. A kill leaves the system's cache: that
//! records were synced is shown by `tests/power` only.

#![expect(clippy::unwrap_used, reason = "a panic in a test is a failure with a line number")]

mod end;
mod plan;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::thread;

use harness::Random;

use crate::plan::Plan;
use crate::world::World;

/// Goes through the storms of a test, or of the part of one that has several side by side.
fn storms(test: &str, part: &str, draw: fn(&mut Random) -> Plan) {
    let number = |name| std::env::var(name).ok().map(|number: String| number.parse::<u64>().unwrap());
    let first = number("WEIR_SEED").unwrap_or(1);
    for seed in first..first + number("WEIR_SEEDS").unwrap_or(1) {
        let plan = draw(&mut Random::new(seed));
        let ended = catch_unwind(AssertUnwindSafe(|| storm(&format!("{test}{part}-{seed}"), seed, &plan)));
        let again =
            format!("WEIR_SEED={seed} cargo test -p tests --test storm -- --exact {test} --nocapture");
        match ended {
            Ok(sum) => say(&format!("{test}{part} seed {seed}: {sum}")),
            Err(panic) => {
                say(&format!("{test}{part} seed {seed} failed: {plan:?}\nagain: {again}"));
                resume_unwind(panic);
            }
        }
    }
}

/// Goes through one storm, and says what it saw.
fn storm(name: &str, seed: u64, plan: &Plan) -> String {
    let mut world = World::begin(name, seed, plan);
    for step in &plan.steps {
        thread::sleep(step.quiet);
        world.strike(&step.fault);
    }
    world.end()
}

#[expect(clippy::print_stdout, reason = "shown where the test fails, and with --nocapture")]
fn say(line: &str) {
    println!("{line}");
}

#[test]
fn kills() {
    storms("kills", "", plan::kills);
}

#[test]
fn mixtures() {
    storms("mixtures", "", plan::mixtures);
}

#[test]
fn network() {
    storms("network", "", plan::network);
}

/// Pauses longer than the idle time-outs of both sides, side by side: they take their time, but no work.
#[test]
fn asleep() {
    thread::scope(|scope| {
        scope.spawn(|| storms("asleep", "-broker", plan::broker_asleep));
        scope.spawn(|| storms("asleep", "-clients", plan::clients_asleep));
    });
}
