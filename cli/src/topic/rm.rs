//! `weir topic rm`: removes topics with all their records.

use serde_json::json;
use weir_client::{Admin, ErrorKind};

use super::confirm::confirm;
use crate::arguments::Global;
use crate::failure::{Exit, Failure};
use crate::output::Output;

/// Removes topics with all their records.
#[derive(Debug, clap::Args)]
pub(crate) struct RmArguments {
    /// Their names
    #[arg(required = true)]
    names: Vec<String>,
    /// Do not ask
    #[arg(long, short = 'y')]
    yes: bool,
    /// Only say what would be removed
    #[arg(long)]
    dry_run: bool,
    /// It is no error if a topic is missing
    #[arg(long)]
    if_exists: bool,
}

impl RmArguments {
    /// Asks, unless that is not needed.
    pub(crate) fn confirm(&self) -> Result<(), Failure> {
        if self.yes || self.dry_run {
            return Ok(());
        }
        let names = self.names.join(", ");
        confirm(&format!("remove {names} with all records"), &format!("removing {names} deletes all records"))
    }
}

/// Removes the topics one after the other, and stops at the first that cannot be.
pub(crate) async fn run(
    arguments: &RmArguments,
    admin: &Admin,
    global: &Global,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let mut removed = Vec::new();
    for name in &arguments.names {
        let done = if arguments.dry_run {
            describe(name, admin, global, output).await
        } else {
            admin.delete_topic(name).await.map_err(Box::from)
        };
        match done {
            Ok(()) => removed.push(name.as_str()),
            Err(error) if arguments.if_exists && error.kind() == ErrorKind::NoSuchTopic => {}
            Err(error) => return Err(partly(Failure::from(*error), &removed)),
        }
    }
    if global.json {
        let key = if arguments.dry_run { "would_remove" } else { "removed" };
        output.document(&json!({ key: removed }))?;
    }
    Ok(Exit::Done)
}

/// Says what removing a topic would delete.
async fn describe(
    name: &str,
    admin: &Admin,
    global: &Global,
    output: &mut Output,
) -> Result<(), Box<weir_client::Error>> {
    let topic = admin.describe_topic(name).await?;
    if !global.json {
        let count = |partition: &weir_client::PartitionDescription| {
            partition.end_offset.saturating_sub(partition.start_offset)
        };
        let records: u64 = topic.partitions.iter().map(count).sum();
        let line = format!("would remove {name}: {} partitions, {records} records", topic.partitions.len());
        // Whether anybody reads it shows at the end.
        output.line(&line).ok();
    }
    Ok(())
}

/// Tells what was removed before the failure.
fn partly(failure: Failure, removed: &[&str]) -> Failure {
    if removed.is_empty() {
        return failure;
    }
    failure.and(format_args!("{} was removed before", removed.join(", "))).exit(Exit::Partial)
}
