//! The `weir` binary: broker, client, load generator and tools in one.
//!
//! One file, or folder, per subcommand. Each parses at its edge, does its work and returns how it ended; only this
//! file prints failures and sets the exit code.

#![forbid(unsafe_code)]

mod arguments;
mod bench;
mod code;
mod completions;
mod config;
mod connect;
mod ctx;
mod dedup;
mod dlq;
mod dump;
mod explain;
mod failure;
mod group;
mod interrupt;
mod man;
mod output;
mod plan;
mod progress;
mod record;
mod repair;
mod send;
mod serve;
mod snapshot;
mod tail;
mod topic;
mod value;
mod verify;
mod version;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

use crate::arguments::{Arguments, Command};
use crate::failure::{Exit, Failure};

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return arguments::explain(&error).into(),
    };
    match run(&arguments) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            say(&failure);
            failure.exit.into()
        }
    }
}

fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    let global = &arguments.global;
    match &arguments.command {
        Command::Serve(serve) => serve::run(serve, global),
        Command::Send(send) => send::run(send, global),
        Command::Tail(tail) => tail::run(tail, global),
        Command::Snapshot(snapshot) => snapshot::run(snapshot, global),
        Command::Topic(topic) => topic::run(topic, global),
        Command::Group(group) => group::run(group, global),
        Command::Dlq(dlq) => dlq::run(dlq, global),
        Command::Bench(bench) => bench::run(bench, global),
        Command::Verify(verify) => verify::run(verify, global),
        Command::Repair(repair) => repair::run(repair, global),
        Command::Dump(dump) => dump::run(dump, global),
        Command::Ctx(ctx) => ctx::run(ctx, global),
        Command::Dedup(dedup) => dedup::run(dedup, global),
        Command::Explain(explain) => explain::run(explain, global),
        Command::Plan(plan) => plan::run(plan, global),
        Command::Config(config) => config::run(config, global),
        Command::Completions(completions) => completions::run(completions),
        Command::Version => version::run(global),
        Command::Man(man) => man::run(man),
    }
}

/// Prints a failure to stderr. If that is closed as well, nobody can be told.
pub(crate) fn say(failure: &Failure) {
    if !failure.is_quiet() {
        chatter(&failure.to_string());
    }
}

/// Prints a line to stderr. If that is closed, nobody can be told.
pub(crate) fn chatter(line: &str) {
    writeln!(std::io::stderr(), "{line}").ok();
}
