//! `weir group rm`: removes a group with its positions.

use serde_json::json;
use weir_client::Admin;

use super::Named;
use crate::arguments::Global;
use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::topic::confirm::confirm;

/// Removes a group that has no members, with its positions.
#[derive(Debug, clap::Args)]
pub(super) struct RmArguments {
    #[command(flatten)]
    group: Named,
    /// Do not ask
    #[arg(long, short = 'y')]
    yes: bool,
    /// Only say what would be removed
    #[arg(long)]
    dry_run: bool,
}

impl RmArguments {
    /// Asks, unless that is not needed.
    pub(super) fn confirm(&self) -> Result<(), Failure> {
        if self.yes || self.dry_run {
            return Ok(());
        }
        let name = &self.group.group;
        confirm(
            &format!("remove {name} with its positions"),
            &format!("removing {name} forgets its positions"),
        )
    }
}

/// Removes the group in all topics that are meant.
pub(super) async fn run(
    arguments: &RmArguments,
    admin: &Admin,
    global: &Global,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let groups = arguments.group.find(admin).await?;
    for group in &groups {
        if !arguments.dry_run {
            admin.delete_group(&group.topic, &group.group).await?;
        } else if !global.json {
            output
                .line(&format!("would remove {} of topic {}: lag {}", group.group, group.topic, group.lag))?;
        }
    }
    if global.json {
        let key = if arguments.dry_run { "would_remove" } else { "removed" };
        let topics: Vec<&str> = groups.iter().map(|group| group.topic.as_str()).collect();
        output.document(&json!({ key: arguments.group.group, "topics": topics }))?;
    }
    Ok(Exit::Done)
}
