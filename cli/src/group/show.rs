//! `weir group show`: members of a group, and where it stands in each partition.

use serde_json::{Value, json};
use weir_client::{
    Admin, FailingPartition, GroupDescription, GroupFailures, GroupMember, GroupPartition, GroupSummary,
};

use super::{Named, set};
use crate::arguments::Global;
use crate::failure::{Exit, Failure};
use crate::output::{Align, Output, Table};

/// Shows the groups of one name.
pub(super) async fn run(
    named: &Named,
    admin: &Admin,
    global: &Global,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let groups = describe(&named.find(admin).await?, admin).await?;
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
pub(super) async fn describe(groups: &[GroupSummary], admin: &Admin) -> Result<Vec<Described>, Failure> {
    let mut described = Vec::new();
    for summary in groups {
        let group = admin.describe_group(&summary.topic, &summary.group).await?;
        let failures = admin.group_failures(&summary.topic, &summary.group).await?;
        described.push(Described { group, failures });
    }
    Ok(described)
}

/// A group, and what it could not process.
pub(super) struct Described {
    group: GroupDescription,
    failures: GroupFailures,
}

impl Described {
    fn topic(&self) -> &str {
        &self.group.summary.topic
    }

    /// What has failed of a partition.
    fn failing(&self, partition: u32) -> Option<&FailingPartition> {
        self.failures.partitions.iter().find(|failing| failing.partition == partition)
    }
}

/// Groups of one name as one object: each member and each partition says which topic it is of.
pub(super) fn json(groups: &[Described]) -> Value {
    let name = groups.first().map(|group| group.group.summary.group.as_str());
    let member = |topic: &str, member: &GroupMember| {
        json!({
            "topic": topic,
            "member": member.member,
            "connected": member.connected,
            "partitions": member.partitions,
            "lease_left_ms": member.lease_left_ms,
        })
    };
    let partition = |topic: &str, partition: &GroupPartition, failing: Option<&FailingPartition>| {
        json!({
            "topic": topic,
            "partition": partition.partition,
            "committed": partition.committed,
            "end_offset": partition.end_offset,
            "lag": partition.lag,
            "owner": partition.owner,
            "lease": partition.lease,
            "revoked": partition.revoked,
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
        let topic = group.topic();
        members.extend(group.group.members.iter().map(|item| member(topic, item)));
        let all = group.group.partitions.iter();
        partitions.extend(all.map(|item| partition(topic, item, group.failing(item.partition))));
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
    ]);
    for group in groups {
        for member in &group.group.members {
            table.row(vec![
                member.member.clone(),
                group.topic().to_owned(),
                if member.connected { "yes" } else { "no" }.to_owned(),
                member.partitions.to_string(),
                member.lease_left_ms.to_string(),
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
        ("OWNER", Align::Left),
        ("STATE", Align::Left),
    ]);
    for group in groups {
        for partition in &group.group.partitions {
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
                partition.owner.clone().unwrap_or_default(),
                state.to_owned(),
            ]);
        }
    }
    output.table(&table)
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
