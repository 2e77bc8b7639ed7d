//! `weir dedup`: what a broker remembers of idempotency keys.

mod show;
mod stats;

use weir_client::Admin;

use crate::arguments::Global;
use crate::connect::{ConnectOptions, connect, disconnect, runtime};
use crate::failure::{Exit, Failure};
use crate::interrupt::Interrupt;
use crate::output::Output;

pub(crate) use stats::outcomes;

/// Shows what a broker remembers of idempotency keys.
#[derive(Debug, clap::Args)]
pub(crate) struct DedupArguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Show whether a key is remembered, and which record it belongs to
    #[command(
        after_help = "Ends with exit code 3 if the key is not remembered: a record with it would be stored."
    )]
    Show(show::ShowArguments),
    /// Show how many keys there are, what they take, and what became of records with keys
    Stats {
        /// Only this topic
        topic: Option<String>,
    },
}

/// Runs `weir dedup`.
pub(crate) fn run(arguments: &DedupArguments, global: &Global) -> Result<Exit, Failure> {
    runtime()?.block_on(async {
        let mut interrupt = Interrupt::listen()?;
        tokio::select! {
            exit = perform(arguments, global) => exit,
            () = interrupt.asked() => Ok(Exit::Interrupted),
        }
    })
}

async fn perform(arguments: &DedupArguments, global: &Global) -> Result<Exit, Failure> {
    let client = connect(global, ConnectOptions::default()).await?;
    let mut output = Output::open()?;
    let exit = act(&arguments.action, &client.admin(), global, &mut output).await;
    disconnect(client).await;
    output.finish()?;
    exit
}

async fn act(action: &Action, admin: &Admin, global: &Global, output: &mut Output) -> Result<Exit, Failure> {
    match action {
        Action::Show(show) => show::run(show, admin, global, output).await,
        Action::Stats { topic } => stats::run(topic.as_deref(), admin, global, output).await,
    }
}
