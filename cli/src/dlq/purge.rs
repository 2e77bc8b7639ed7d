//! `weir dlq purge`: removes all letters of a dead-letter topic.

use serde_json::json;
use weir_client::{Admin, Trim, TrimBefore};

use crate::arguments::Global;
use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::topic::confirm::confirm;

/// Removes all letters of a dead-letter topic that are there now.
#[derive(Debug, clap::Args)]
pub(super) struct PurgeArguments {
    /// The dead-letter topic
    topic: String,
    /// Do not ask
    #[arg(long, short = 'y')]
    yes: bool,
    /// Only say what would be removed
    #[arg(long)]
    dry_run: bool,
}

impl PurgeArguments {
    /// Asks, unless that is not needed.
    pub(super) fn confirm(&self) -> Result<(), Failure> {
        if self.yes || self.dry_run {
            return Ok(());
        }
        let name = &self.topic;
        confirm(&format!("remove all letters of {name}"), &format!("purging {name} deletes records"))
    }
}

/// Trims every partition to its end.
pub(super) async fn run(
    arguments: &PurgeArguments,
    admin: &Admin,
    global: &Global,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let described = admin.describe_topic(&arguments.topic).await?;
    let mut removed = 0;
    for info in described.partitions {
        let before = TrimBefore::Offset(info.end_offset);
        let trim = Trim { partition: info.partition, before, dry_run: arguments.dry_run };
        let trimmed = admin.trim(&arguments.topic, trim).await?;
        removed += trimmed.start_offset.saturating_sub(trimmed.old_start_offset);
    }
    let key = if arguments.dry_run { "would_remove" } else { "removed" };
    if global.json {
        output.document(&json!({ "topic": arguments.topic, key: removed }))?;
    } else {
        output.line(&format!("{} {removed} letters", key.replace('_', " ")))?;
    }
    Ok(Exit::Done)
}
