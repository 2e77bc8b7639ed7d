//! `weir topic`: list, make, show, change, trim and remove topics.

pub(crate) mod confirm;
mod create;
mod edit;
mod ls;
mod rm;
mod settings;
mod show;
mod trim;

use weir_client::Admin;

use crate::arguments::Global;
use crate::connect::{ConnectOptions, connect, disconnect, runtime};
use crate::failure::{Exit, Failure};
use crate::interrupt::Interrupt;
use crate::output::Output;

/// Lists, makes, shows, changes, trims and removes topics.
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
    /// Give up the records below an offset or a time
    Trim(trim::TrimArguments),
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
    // Asked before connecting: a missing answer needs no broker.
    match &arguments.action {
        Action::Rm(rm) => rm.confirm()?,
        Action::Trim(trim) => trim.confirm()?,
        Action::Ls | Action::Create(_) | Action::Show { .. } | Action::Edit(_) => {}
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
        Action::Trim(trim) => trim::run(trim, admin, global, output).await,
        Action::Rm(rm) => rm::run(rm, admin, global, output).await,
    }
}
