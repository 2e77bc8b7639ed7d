//! `weir group reset`: moves a group to another position.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use weir_client::{Admin, GroupSummary, MovedPosition, Start};

use super::Named;
use crate::arguments::Global;
use crate::failure::{Exit, Failure};
use crate::output::{Align, Output, Table};
use crate::value::{From, from};

/// Moves a group to another position, also while it has members: they go on from there.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Records before the new position are not delivered to the group any more; records behind it are, also \
    those that it had acknowledged. An acknowledgement of what was delivered before the move does not count."
)]
pub(super) struct ResetArguments {
    #[command(flatten)]
    group: Named,
    /// Where to: earliest, latest, -COUNT, @OFFSET, an age such as 2h or a time such as 2026-11-20T10:00Z
    #[arg(long, value_name = "WHERE", value_parser = from, allow_hyphen_values = true)]
    to: From,
    /// Only this partition; an offset needs it if there is more than one [default: all]
    #[arg(long, short)]
    partition: Option<u32>,
    /// Only say what would be moved
    #[arg(long)]
    dry_run: bool,
}

/// Moves the group in one topic after the other.
pub(super) async fn run(
    arguments: &ResetArguments,
    admin: &Admin,
    global: &Global,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let groups = arguments.group.find(admin).await?;
    let mut moved: Vec<(String, MovedPosition)> = Vec::new();
    for group in groups {
        for to in starts(arguments, &group, admin).await? {
            let done = admin.reset_group(&group.topic, &group.group, &to, arguments.dry_run).await?;
            moved.extend(done.into_iter().map(|position| (group.topic.clone(), position)));
        }
    }
    if global.json {
        output.document(&json(arguments, &moved))?
    } else {
        table(&moved, output)?
    }
    Ok(Exit::Done)
}

/// The client's words for where to: one for the group, or one for the partition that is named.
async fn starts(
    arguments: &ResetArguments,
    group: &GroupSummary,
    admin: &Admin,
) -> Result<Vec<Start>, Failure> {
    let partition = match (arguments.partition, arguments.to) {
        (Some(partition), _) => partition,
        (None, From::Offset(_)) if group.partitions > 1 => {
            let count = group.partitions;
            let text =
                format_args!("topic '{}' has {count} partitions, and an offset belongs to one", group.topic);
            return Err(Failure::usage(text).help("name it with --partition"));
        }
        (None, From::Offset(_)) => 0,
        (None, to) => return Ok(vec![start(to, 0)]),
    };
    if let From::Offset(_) = arguments.to {
        return Ok(vec![start(arguments.to, partition)]);
    }
    // What is meant for one partition is what a move of all would do to it.
    let planned = admin.reset_group(&group.topic, &group.group, &start(arguments.to, 0), true).await?;
    let named = planned.into_iter().filter(|position| position.partition == partition);
    let starts: Vec<Start> = named.map(|position| Start::Offset(partition, position.to)).collect();
    if starts.is_empty() {
        return Err(Failure::usage(format_args!("topic '{}' has no partition {partition}", group.topic)));
    }
    Ok(starts)
}

fn start(to: From, partition: u32) -> Start {
    match to {
        From::Earliest => Start::Earliest,
        From::Latest => Start::Latest,
        From::Last(count) => Start::Last(count),
        From::Offset(offset) => Start::Offset(partition, offset),
        From::At(moment) => Start::Timestamp(moment),
        From::Ago(age) => Start::Timestamp(SystemTime::now().checked_sub(age).unwrap_or(UNIX_EPOCH)),
    }
}

fn json(arguments: &ResetArguments, moved: &[(String, MovedPosition)]) -> Value {
    let partition = |(topic, position): &(String, MovedPosition)| {
        json!({
            "topic": topic,
            "partition": position.partition,
            "from": position.from,
            "to": position.to,
        })
    };
    let partitions: Vec<Value> = moved.iter().map(partition).collect();
    json!({ "group": arguments.group.group, "dry_run": arguments.dry_run, "partitions": partitions })
}

fn table(moved: &[(String, MovedPosition)], output: &mut Output) -> Result<(), Failure> {
    let mut table = Table::new(&[
        ("TOPIC", Align::Left),
        ("PARTITION", Align::Right),
        ("FROM", Align::Right),
        ("TO", Align::Right),
    ]);
    for (topic, position) in moved {
        table.row(vec![
            topic.clone(),
            position.partition.to_string(),
            position.from.to_string(),
            position.to.to_string(),
        ]);
    }
    output.table(&table)
}
