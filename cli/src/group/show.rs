//! `weir group show`: members of a group, and where it stands in each partition.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};
use weir_client::{
    Client, FailingPartition, GroupDescription, GroupFailures, GroupMember, GroupPartition, GroupSummary,
    WaitsFor,
};

use super::behind::{self, Behind};
use super::{Named, set};
use crate::arguments::Global;
use crate::failure::{Exit, Failure};
use crate::output::{Align, Output, Table};
use crate::value::{DurationText, SizeText, to_micros};

/// Shows the groups of one name.
pub(super) async fn run(
    named: &Named,
    client: &Client,
    global: &Global,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let groups = describe(&named.find(&client.admin()).await?, client).await?;
    if global.json {
        output.document(&json(&groups))?;
        return Ok(Exit::Done);
    }
    members(&groups, output)?;
    output.line("")?;
    partitions(&groups, output)?;
    failing(&groups, output)?;
    Ok(Exit::Done)
}

/// All there is to know of some groups.
pub(super) async fn describe(groups: &[GroupSummary], client: &Client) -> Result<Vec<Described>, Failure> {
    let admin = client.admin();
    let mut described = Vec::new();
    for summary in groups {
        let group = admin.describe_group(&summary.topic, &summary.group).await?;
        let failures = admin.group_failures(&summary.topic, &summary.group).await?;
        let behind = behind::of(client, &group).await?;
        described.push(Described { group, failures, behind });
    }
    Ok(described)
}

/// A group, what it could not process, and how far behind it is.
pub(super) struct Described {
    group: GroupDescription,
    failures: GroupFailures,
    behind: BTreeMap<u32, Behind>,
}

impl Described {
    fn topic(&self) -> &str {
        &self.group.summary.topic
    }

    /// What has failed of a partition.
    fn failing(&self, partition: u32) -> Option<&FailingPartition> {
        self.failures.partitions.iter().find(|failing| failing.partition == partition)
    }

    fn behind(&self, partition: u32) -> Behind {
        self.behind.get(&partition).copied().unwrap_or_default()
    }

    /// What a member's reading of its partitions waits for, each cause once.
    fn waits_for(&self, member: &str) -> Vec<&'static str> {
        let owned = self.group.partitions.iter().filter(|item| item.owner.as_deref() == Some(member));
        let causes: BTreeSet<_> = owned.filter_map(|item| item.waits_for).collect();
        causes.into_iter().map(WaitsFor::name).collect()
    }
}

/// Groups of one name as one object: each member and each partition says which topic it is of.
pub(super) fn json(groups: &[Described]) -> Value {
    let name = groups.first().map(|group| group.group.summary.group.as_str());
    let member = |group: &Described, member: &GroupMember| {
        json!({
            "topic": group.topic(),
            "member": member.member,
            "connected": member.connected,
            "partitions": member.partitions,
            "lease_left_ms": member.lease_left_ms,
            "waits_for": group.waits_for(&member.member),
        })
    };
    let partition = |group: &Described, partition: &GroupPartition| {
        let (failing, behind) = (group.failing(partition.partition), group.behind(partition.partition));
        json!({
            "topic": group.topic(),
            "partition": partition.partition,
            "committed": partition.committed,
            "end_offset": partition.end_offset,
            "lag": partition.lag,
            "lag_bytes": behind.bytes,
            "lag_ms": behind.age().map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
            "oldest_unacked": behind.oldest.map(to_micros),
            "owner": partition.owner,
            "lease": partition.lease,
            "revoked": partition.revoked,
            "waits_for": partition.waits_for.map(WaitsFor::name),
            "settled_above": partition.settled_above,
            "failing": failing.map_or(0, |failing| failing.records),
            "first_failing": failing.and_then(|failing| failing.first),
            "failed": failing.map_or(0, |failing| failing.failed),
            "returned": failing.map_or(0, |failing| failing.returned),
            "letters": failing.map_or(0, |failing| failing.letters),
            "letters_wait_for": failing.and_then(|failing| failing.letters_wait_for),
        })
    };
    let (mut members, mut partitions, mut redelivery) = (Vec::new(), Vec::new(), Vec::new());
    for group in groups {
        members.extend(group.group.members.iter().map(|item| member(group, item)));
        partitions.extend(group.group.partitions.iter().map(|item| partition(group, item)));
        redelivery.push(set::json(&group.failures.redelivery));
    }
    let topics: Vec<&str> = groups.iter().map(Described::topic).collect();
    json!({
        "group": name,
        "topics": topics,
        "members": members,
        "partitions": partitions,
        "redelivery": redelivery,
    })
}

fn members(groups: &[Described], output: &mut Output) -> Result<(), Failure> {
    let mut table = Table::new(&[
        ("MEMBER", Align::Left),
        ("TOPIC", Align::Left),
        ("CONNECTED", Align::Left),
        ("PARTITIONS", Align::Right),
        ("LEASE LEFT MS", Align::Right),
        ("WAITS FOR", Align::Left),
    ]);
    for group in groups {
        for member in &group.group.members {
            table.row(vec![
                member.member.clone(),
                group.topic().to_owned(),
                if member.connected { "yes" } else { "no" }.to_owned(),
                member.partitions.to_string(),
                member.lease_left_ms.to_string(),
                group.waits_for(&member.member).join(", "),
            ]);
        }
    }
    output.table(&table)
}

fn partitions(groups: &[Described], output: &mut Output) -> Result<(), Failure> {
    let mut table = Table::new(&[
        ("TOPIC", Align::Left),
        ("PARTITION", Align::Right),
        ("COMMITTED", Align::Right),
        ("END", Align::Right),
        ("LAG", Align::Right),
        ("BYTES", Align::Right),
        ("OLDEST", Align::Right),
        ("OWNER", Align::Left),
        ("STATE", Align::Left),
        ("WAITS FOR", Align::Left),
    ]);
    for group in groups {
        for partition in &group.group.partitions {
            let behind = group.behind(partition.partition);
            let state = match (&partition.owner, partition.revoked) {
                (None, _) => "free",
                (Some(_), false) => "leased",
                (Some(_), true) => "revoked",
            };
            table.row(vec![
                group.topic().to_owned(),
                partition.partition.to_string(),
                partition.committed.to_string(),
                partition.end_offset.to_string(),
                partition.lag.to_string(),
                SizeText(behind.bytes).to_string(),
                behind.age().map_or_else(|| "-".to_owned(), age),
                partition.owner.clone().unwrap_or_default(),
                state.to_owned(),
                partition.waits_for.map_or("-", WaitsFor::name).to_owned(),
            ]);
        }
    }
    output.table(&table)
}

/// How long the oldest record has been waiting, to the millisecond.
fn age(age: Duration) -> String {
    let millis = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
    DurationText(millis.saturating_mul(1000)).to_string()
}

/// What the groups could not process; nothing is said if there is nothing of it.
fn failing(groups: &[Described], output: &mut Output) -> Result<(), Failure> {
    let mut table = Table::new(&[
        ("TOPIC", Align::Left),
        ("PARTITION", Align::Right),
        ("FAILING", Align::Right),
        ("FIRST", Align::Right),
        ("FAILED", Align::Right),
        ("RETURNED", Align::Right),
        ("LETTERS", Align::Right),
        ("LETTERS WAIT FOR", Align::Left),
    ]);
    let mut is_empty = true;
    for group in groups {
        for failing in &group.failures.partitions {
            is_empty = false;
            table.row(vec![
                group.topic().to_owned(),
                failing.partition.to_string(),
                failing.records.to_string(),
                failing.first.map_or_else(|| "-".to_owned(), |first| first.to_string()),
                failing.failed.to_string(),
                failing.returned.to_string(),
                failing.letters.to_string(),
                failing.letters_wait_for.unwrap_or("-").to_owned(),
            ]);
        }
    }
    if is_empty {
        return Ok(());
    }
    output.line("")?;
    output.table(&table)
}
