//! `weir snapshot`: copies of everything a running broker holds.

use serde_json::json;

use crate::arguments::Global;
use crate::connect::{ConnectOptions, connect, disconnect, runtime};
use crate::failure::{Exit, Failure};
use crate::interrupt::Interrupt;
use crate::output::Output;

/// Makes snapshots of a running broker.
#[derive(Debug, clap::Args)]
pub(crate) struct SnapshotArguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Make a snapshot of everything the broker has acknowledged, and print its directory
    #[command(
        after_help = "The broker puts it into its data directory, as snapshots/NAME, where it shares the space of the \
        broker's own files. Start from it with 'weir serve --data-dir', there or from a copy elsewhere. It is \
        yours to remove."
    )]
    Create {
        /// Its name: 1 to 128 of A-Z a-z 0-9 . _ -
        #[arg(value_parser = name)]
        name: String,
    },
}

/// Refuses what looks like a place: a client cannot choose where on the broker's machine files are written.
fn name(text: &str) -> Result<String, String> {
    if text.contains('/') {
        return Err("a snapshot has a name, not a path: the broker puts it into its data directory, as \
             snapshots/NAME"
            .to_owned());
    }
    Ok(text.to_owned())
}

/// Runs `weir snapshot`.
pub(crate) fn run(arguments: &SnapshotArguments, global: &Global) -> Result<Exit, Failure> {
    let Action::Create { name } = &arguments.action;
    runtime()?.block_on(async {
        let mut interrupt = Interrupt::listen()?;
        tokio::select! {
            exit = create(name, global) => exit,
            () = interrupt.asked() => Ok(Exit::Interrupted),
        }
    })
}

async fn create(name: &str, global: &Global) -> Result<Exit, Failure> {
    let client = connect(global, ConnectOptions::default()).await?;
    let made = client.admin().create_snapshot(name).await;
    disconnect(client).await;
    let made = made?;
    let mut output = Output::open()?;
    if global.json {
        output.document(&json!({
            "name": name,
            "directory": made.directory,
            "segments": made.segments,
            "bytes": made.bytes,
        }))?;
    } else {
        output.line(&made.directory)?;
    }
    output.finish()?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_no_name() {
        assert_eq!(name("before-upgrade"), Ok("before-upgrade".to_owned()));
        assert!(name("/backup/today").is_err() && name("../today").is_err());
    }
}
