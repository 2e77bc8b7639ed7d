//! `weir dlq ls`: groups with a dead-letter topic, and how much is there.

use serde_json::json;
use weir_client::Admin;

use crate::arguments::Global;
use crate::failure::{Exit, Failure};
use crate::output::{Align, Output, Table};

/// Lists the groups that have a dead-letter topic, in order of name and topic.
pub(super) async fn run(admin: &Admin, global: &Global, output: &mut Output) -> Result<Exit, Failure> {
    let mut list = Vec::new();
    let mut table = Table::new(&[
        ("DEAD-LETTER TOPIC", Align::Left),
        ("GROUP", Align::Left),
        ("TOPIC", Align::Left),
        ("LETTERS", Align::Right),
        ("WAITING", Align::Right),
    ]);
    for group in admin.list_groups().await? {
        let failures = admin.group_failures(&group.topic, &group.group).await?;
        let Some(topic) = failures.redelivery.dead_letter_topic() else { continue };
        let letters = stored(admin, topic).await?;
        let waiting: u32 = failures.partitions.iter().map(|partition| partition.letters).sum();
        table.row(vec![
            topic.to_owned(),
            group.group.clone(),
            group.topic.clone(),
            letters.map_or_else(|| "no topic".to_owned(), |letters| letters.to_string()),
            waiting.to_string(),
        ]);
        list.push(json!({
            "dead_letter": topic,
            "group": group.group,
            "topic": group.topic,
            "letters": letters,
            "waiting": waiting,
        }));
    }
    if global.json {
        output.document(&list)?
    } else {
        output.table(&table)?
    }
    Ok(Exit::Done)
}

/// Records in a topic; nothing if it does not exist.
async fn stored(admin: &Admin, topic: &str) -> Result<Option<u64>, Failure> {
    match admin.describe_topic(topic).await {
        Ok(described) => {
            let partitions = described.partitions.iter();
            Ok(Some(partitions.map(|partition| partition.end_offset - partition.start_offset).sum()))
        }
        Err(error) if error.kind() == weir_client::ErrorKind::NoSuchTopic => Ok(None),
        Err(error) => Err(error.into()),
    }
}
