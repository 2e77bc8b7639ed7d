//! `weir topic`: list, make, show, change and remove topics.

mod create;
mod edit;
mod ls;
mod rm;
mod settings;
mod show;

use weir_client::Admin;

use crate::arguments::Global;
use crate::connect::{ConnectOptions, connect, disconnect, runtime};
use crate::failure::{Exit, Failure};
use crate::interrupt::Interrupt;
use crate::output::Output;

/// Lists, makes, shows, changes and removes topics.
#[derive(Debug, clap::Args)]
pub(crate) struct TopicArguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List the topics
    Ls,
    /// Make a topic
    Create(create::CreateArguments),
    /// Show a topic and its partitions
    Show {
        /// Its name
        name: String,
    },
    /// Change the settings of a topic
    Edit(edit::EditArguments),
    /// Remove topics with all their records
    Rm(rm::RmArguments),
}

/// Runs `weir topic`.
pub(crate) fn run(arguments: &TopicArguments, global: &Global) -> Result<Exit, Failure> {
    let runtime = runtime()?;
    runtime.block_on(async {
        let mut interrupt = Interrupt::listen()?;
        tokio::select! {
            exit = perform(arguments, global) => exit,
            () = interrupt.asked() => Ok(Exit::Interrupted),
        }
    })
}

async fn perform(arguments: &TopicArguments, global: &Global) -> Result<Exit, Failure> {
    if let Action::Rm(rm) = &arguments.action {
        // Asked before connecting: a missing answer needs no broker.
        rm.confirm()?;
    }
    let client = connect(global, ConnectOptions::default()).await?;
    let admin = client.admin();
    let mut output = Output::open()?;
    let exit = act(&arguments.action, &admin, global, &mut output).await;
    disconnect(client).await;
    output.finish()?;
    exit
}

async fn act(action: &Action, admin: &Admin, global: &Global, output: &mut Output) -> Result<Exit, Failure> {
    match action {
        Action::Ls => ls::run(admin, global, output).await,
        Action::Create(create) => create::run(create, admin, global, output).await,
        Action::Show { name } => show::run(name, admin, global, output).await,
        Action::Edit(edit) => edit::run(edit, admin, global, output).await,
        Action::Rm(rm) => rm::run(rm, admin, global, output).await,
    }
}
