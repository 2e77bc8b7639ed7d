//! `weir topic ls`: every topic on a line.

use serde_json::json;
use weir_client::Admin;

use super::settings::{self, kept};
use crate::arguments::Global;
use crate::failure::{Exit, Failure};
use crate::output::{Align, Output, Table};
use crate::value::{DurationText, SizeText};

/// Lists the topics in order of name.
pub(crate) async fn run(admin: &Admin, global: &Global, output: &mut Output) -> Result<Exit, Failure> {
    let topics = admin.list_topics().await?;
    if global.json {
        let list: Vec<serde_json::Value> = topics
            .iter()
            .map(|topic| {
                let mut object = settings::json(&topic.settings);
                object.insert("name".to_owned(), json!(topic.name));
                object.insert("id".to_owned(), json!(topic.id.to_string()));
                serde_json::Value::Object(object)
            })
            .collect();
        output.document(&list)?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&[
        ("NAME", Align::Left),
        ("PARTITIONS", Align::Right),
        ("RETENTION", Align::Right),
        ("RETENTION-BYTES", Align::Right),
        ("BATCH-MAX", Align::Right),
    ]);
    for topic in &topics {
        let chosen = &topic.settings;
        table.row(vec![
            topic.name.clone(),
            chosen.partitions.to_string(),
            kept(settings::age_us(chosen).map(DurationText)),
            kept(chosen.retention_bytes.map(SizeText)),
            SizeText(chosen.batch_bytes_max.into()).to_string(),
        ]);
    }
    output.table(&table)?;
    Ok(Exit::Done)
}
