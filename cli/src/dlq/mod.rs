//! `weir dlq`: records that consumer groups have given up.

mod letter;
mod ls;
mod purge;
mod redrive;
mod show;

use crate::arguments::Global;
use crate::connect::{ConnectOptions, connect, disconnect, runtime};
use crate::failure::{Exit, Failure};
use crate::interrupt::Interrupt;
use crate::output::Output;

/// Lists, shows, sends again and removes records that consumer groups have given up.
#[derive(Debug, clap::Args)]
pub(crate) struct DlqArguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List the groups that have a dead-letter topic
    Ls,
    /// Show the letters in a dead-letter topic
    Show(show::ShowArguments),
    /// Send letters to the topics they came from
    Redrive(redrive::RedriveArguments),
    /// Remove all letters of a dead-letter topic
    Purge(purge::PurgeArguments),
}

/// Runs `weir dlq`.
pub(crate) fn run(arguments: &DlqArguments, global: &Global) -> Result<Exit, Failure> {
    let runtime = runtime()?;
    runtime.block_on(async {
        let mut interrupt = Interrupt::listen()?;
        tokio::select! {
            exit = perform(&arguments.action, global) => exit,
            () = interrupt.asked() => Ok(Exit::Interrupted),
        }
    })
}

async fn perform(action: &Action, global: &Global) -> Result<Exit, Failure> {
    // Asked before connecting: a missing answer needs no broker.
    match action {
        Action::Redrive(redrive) => redrive.confirm()?,
        Action::Purge(purge) => purge.confirm()?,
        Action::Ls | Action::Show(_) => {}
    }
    let client = connect(global, ConnectOptions::default()).await?;
    let mut output = Output::open()?;
    let exit = match action {
        Action::Ls => ls::run(&client.admin(), global, &mut output).await,
        Action::Show(show) => show::run(show, &client, global, &mut output).await,
        Action::Redrive(redrive) => redrive::run(redrive, &client, global, &mut output).await,
        Action::Purge(purge) => purge::run(purge, &client.admin(), global, &mut output).await,
    };
    disconnect(client).await;
    output.finish()?;
    exit
}
