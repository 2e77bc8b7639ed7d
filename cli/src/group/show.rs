//! `weir group show`: members of a group, and where it stands in each partition.

use serde_json::{Value, json};
use weir_client::{Admin, GroupDescription, GroupMember, GroupPartition, GroupSummary};

use super::Named;
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
    Ok(Exit::Done)
}

/// All there is to know of some groups.
pub(super) async fn describe(
    groups: &[GroupSummary],
    admin: &Admin,
) -> Result<Vec<GroupDescription>, Failure> {
    let mut described = Vec::new();
    for group in groups {
        described.push(admin.describe_group(&group.topic, &group.group).await?);
    }
    Ok(described)
}

/// Groups of one name as one object: each member and each partition says which topic it is of.
pub(super) fn json(groups: &[GroupDescription]) -> Value {
    let name = groups.first().map(|group| group.summary.group.as_str());
    let member = |topic: &str, member: &GroupMember| {
        json!({
            "topic": topic,
            "member": member.member,
            "connected": member.connected,
            "partitions": member.partitions,
            "lease_left_ms": member.lease_left_ms,
        })
    };
    let partition = |topic: &str, partition: &GroupPartition| {
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
        })
    };
    let (mut members, mut partitions) = (Vec::new(), Vec::new());
    for group in groups {
        let topic = group.summary.topic.as_str();
        members.extend(group.members.iter().map(|item| member(topic, item)));
        partitions.extend(group.partitions.iter().map(|item| partition(topic, item)));
    }
    let topics: Vec<&str> = groups.iter().map(|group| group.summary.topic.as_str()).collect();
    json!({ "group": name, "topics": topics, "members": members, "partitions": partitions })
}

fn members(groups: &[GroupDescription], output: &mut Output) -> Result<(), Failure> {
    let mut table = Table::new(&[
        ("MEMBER", Align::Left),
        ("TOPIC", Align::Left),
        ("CONNECTED", Align::Left),
        ("PARTITIONS", Align::Right),
        ("LEASE LEFT MS", Align::Right),
    ]);
    for group in groups {
        for member in &group.members {
            table.row(vec![
                member.member.clone(),
                group.summary.topic.clone(),
                if member.connected { "yes" } else { "no" }.to_owned(),
                member.partitions.to_string(),
                member.lease_left_ms.to_string(),
            ]);
        }
    }
    output.table(&table)
}

fn partitions(groups: &[GroupDescription], output: &mut Output) -> Result<(), Failure> {
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
        for partition in &group.partitions {
            let state = match (&partition.owner, partition.revoked) {
                (None, _) => "free",
                (Some(_), false) => "leased",
                (Some(_), true) => "revoked",
            };
            table.row(vec![
                group.summary.topic.clone(),
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
