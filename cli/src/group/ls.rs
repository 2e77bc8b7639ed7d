//! `weir group ls`: every group on a line.

use serde_json::Value;
use weir_client::Client;

use super::show;
use crate::arguments::Global;
use crate::failure::{Exit, Failure};
use crate::output::{Align, Output, Table};

/// Lists the groups in order of name and topic.
pub(super) async fn run(client: &Client, global: &Global, output: &mut Output) -> Result<Exit, Failure> {
    let groups = client.admin().list_groups().await?;
    if global.json {
        let mut list: Vec<Value> = Vec::new();
        for same in groups.chunk_by(|left, right| left.group == right.group) {
            list.push(show::json(&show::describe(same, client).await?));
        }
        output.document(&list)?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&[
        ("GROUP", Align::Left),
        ("TOPIC", Align::Left),
        ("MEMBERS", Align::Right),
        ("PARTITIONS", Align::Right),
        ("LAG", Align::Right),
    ]);
    for group in groups {
        table.row(vec![
            group.group,
            group.topic,
            group.members.to_string(),
            group.partitions.to_string(),
            group.lag.to_string(),
        ]);
    }
    output.table(&table)?;
    Ok(Exit::Done)
}
