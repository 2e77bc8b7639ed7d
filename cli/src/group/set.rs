//! `weir group set`: what a group does with records that fail.

use std::time::Duration;

use serde_json::{Value, json};
use weir_client::{Admin, GroupSummary, Redelivery};

use super::Named;
use crate::arguments::Global;
use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::value::duration;

/// Says what a group does with records that fail. What is not named stays as it is.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A record that fails comes back after the shortest backoff; each further failure doubles it, up to the \
    longest. After so many failures it goes to the dead-letter topic, which must exist: 'weir dlq' shows what is there."
)]
pub(super) struct SetArguments {
    #[command(flatten)]
    group: Named,
    /// Time from the first failure of a record to its next delivery [default of a new group: 1s]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    backoff_min: Option<Duration>,
    /// Longest time from a failure to the next delivery [default of a new group: 5m]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    backoff_max: Option<Duration>,
    /// Failures after which a record is given up; 0 for never [default of a new group: 0]
    #[arg(long, value_name = "COUNT")]
    max_attempts: Option<u32>,
    /// Topic for records that are given up
    #[arg(long, value_name = "TOPIC")]
    dead_letter: Option<String>,
}

/// Sets the groups of one name.
pub(super) async fn run(
    arguments: &SetArguments,
    admin: &Admin,
    global: &Global,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let groups = arguments.group.find(admin).await?;
    let mut set = Vec::new();
    for group in groups {
        let before = admin.group_failures(&group.topic, &group.group).await?.redelivery;
        let redelivery = changed(arguments, &before);
        admin.set_redelivery(&group.topic, &group.group, &redelivery).await?;
        set.push(shown(&group, &redelivery));
    }
    if global.json {
        output.document(&set)?;
    }
    Ok(Exit::Done)
}

fn changed(arguments: &SetArguments, before: &Redelivery) -> Redelivery {
    let (min, max) = before.backoff();
    let min = arguments.backoff_min.unwrap_or(min);
    let max = arguments.backoff_max.unwrap_or(max);
    let attempts = arguments.max_attempts.or_else(|| before.attempts()).unwrap_or(0);
    let redelivery = Redelivery::exponential(min, max).max_attempts(attempts);
    match arguments.dead_letter.as_deref().or_else(|| before.dead_letter_topic()) {
        Some(topic) => redelivery.dead_letter(topic),
        None => redelivery,
    }
}

fn shown(group: &GroupSummary, redelivery: &Redelivery) -> Value {
    json!({ "group": group.group, "topic": group.topic, "redelivery": json(redelivery) })
}

/// What a group does with records that fail, as an object.
pub(super) fn json(redelivery: &Redelivery) -> Value {
    let (min, max) = redelivery.backoff();
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    json!({
        "backoff_min_ms": millis(min),
        "backoff_max_ms": millis(max),
        "max_attempts": redelivery.attempts(),
        "dead_letter": redelivery.dead_letter_topic(),
    })
}
