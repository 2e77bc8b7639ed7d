//! `weir group`: list, show, set, move and remove consumer groups.

mod behind;
mod ls;
mod reset;
mod rm;
mod set;
mod show;

use weir_client::{Admin, GroupSummary};

use crate::arguments::Global;
use crate::code::Code;
use crate::connect::{ConnectOptions, connect, disconnect, runtime};
use crate::failure::{Exit, Failure};
use crate::interrupt::Interrupt;
use crate::output::Output;

/// Lists, shows, sets, moves and removes consumer groups.
#[derive(Debug, clap::Args)]
pub(crate) struct GroupArguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List the groups
    Ls,
    /// Show a group, its members and where it stands
    Show {
        #[command(flatten)]
        group: Named,
    },
    /// Move a group, also while it has members
    Reset(reset::ResetArguments),
    /// Say what a group does with records that fail
    Set(set::SetArguments),
    /// Remove a group with its positions
    Rm(rm::RmArguments),
}

/// A group, in all topics that it reads or in one.
#[derive(Debug, clap::Args)]
struct Named {
    /// Its name
    group: String,
    /// Only in this topic [default: all topics that it reads]
    #[arg(long, short)]
    topic: Option<String>,
}

impl Named {
    /// The groups of this name: one for each topic.
    async fn find(&self, admin: &Admin) -> Result<Vec<GroupSummary>, Failure> {
        let meant = |group: &GroupSummary| {
            group.group == self.group && self.topic.as_ref().is_none_or(|topic| *topic == group.topic)
        };
        let found: Vec<GroupSummary> = admin.list_groups().await?.into_iter().filter(meant).collect();
        if found.is_empty() {
            let text = format_args!("no consumer group '{}'", self.group);
            return Err(Failure::new(Exit::NotFound, Code::GroupNotFound, text)
                .help("'weir group ls' shows those there are"));
        }
        Ok(found)
    }
}

/// Runs `weir group`.
pub(crate) fn run(arguments: &GroupArguments, global: &Global) -> Result<Exit, Failure> {
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
        Action::Rm(rm) => rm.confirm()?,
        Action::Ls | Action::Show { .. } | Action::Reset(_) | Action::Set(_) => {}
    }
    let client = connect(global, ConnectOptions::default()).await?;
    let admin = client.admin();
    let mut output = Output::open()?;
    let exit = match action {
        Action::Ls => ls::run(&client, global, &mut output).await,
        Action::Show { group } => show::run(group, &client, global, &mut output).await,
        Action::Reset(reset) => reset::run(reset, &admin, global, &mut output).await,
        Action::Set(set) => set::run(set, &admin, global, &mut output).await,
        Action::Rm(rm) => rm::run(rm, &admin, global, &mut output).await,
    };
    disconnect(client).await;
    output.finish()?;
    exit
}
