//! `weir topic show`: a topic, its settings and what each partition holds.

use serde_json::json;
use weir_client::{Admin, KeyedCounts, TopicDescription};

use super::settings::{self, kept};
use crate::arguments::Global;
use crate::dedup::outcomes;
use crate::failure::{Exit, Failure};
use crate::output::{Align, Output, Table};
use crate::value::{DurationText, SizeText, to_micros};

/// Shows one topic.
pub(crate) async fn run(
    name: &str,
    admin: &Admin,
    global: &Global,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let topic = admin.describe_topic(name).await?;
    let keyed = admin.dedup_stats(Some(name)).await?.topics.pop().map(|topic| topic.counts);
    let keyed = keyed.unwrap_or_default();
    if global.json {
        output.document(&json(&topic, &keyed))?
    } else {
        text(&topic, &keyed, output)?
    }
    Ok(Exit::Done)
}

fn json(topic: &TopicDescription, keyed: &KeyedCounts) -> serde_json::Value {
    let partitions: Vec<serde_json::Value> = topic
        .partitions
        .iter()
        .map(|partition| {
            json!({
                "partition": partition.partition,
                "start_offset": partition.start_offset,
                "end_offset": partition.end_offset,
                "bytes": partition.bytes,
            })
        })
        .collect();
    let mut object = settings::json(&topic.settings);
    // In a list the number of partitions stands under this name; here the partitions themselves do.
    object.remove("partitions");
    object.insert("name".to_owned(), json!(topic.name));
    object.insert("id".to_owned(), json!(topic.id.to_string()));
    object.insert("created".to_owned(), json!(to_micros(topic.created)));
    let keyed: serde_json::Map<_, _> =
        outcomes(keyed).into_iter().map(|(name, count)| (name.to_owned(), json!(count))).collect();
    object.insert("keyed_records".to_owned(), json!(keyed));
    object.insert("partitions".to_owned(), json!(partitions));
    serde_json::Value::Object(object)
}

fn text(topic: &TopicDescription, keyed: &KeyedCounts, output: &mut Output) -> Result<(), Failure> {
    let chosen = &topic.settings;
    let created =
        jiff::Timestamp::try_from(topic.created).map_or_else(|_| String::new(), |time| time.to_string());
    for (name, value) in [
        ("name", topic.name.clone()),
        ("id", topic.id.to_string()),
        ("created", created),
        ("retention", kept(settings::age_us(chosen).map(DurationText))),
        ("retention-bytes", kept(chosen.retention_bytes.map(SizeText))),
        ("batch-max", SizeText(chosen.batch_bytes_max.into()).to_string()),
        ("explicit-partitions", chosen.explicit_partitions.to_string()),
        ("dedup", kept(settings::horizon_us(chosen).map(DurationText))),
        ("dedup-rate", format!("{}/s", chosen.dedup_keys_per_second.unwrap_or(1))),
        ("keyed-records", outcomes(keyed).map(|(name, count)| format!("{count} {name}")).join(", ")),
        ("keyed-versions", chosen.keyed_versions.to_string()),
    ] {
        output.line(&format!("{name:<20} {value}"))?;
    }
    output.line("")?;
    let columns = ["PARTITION", "START", "END", "RECORDS", "BYTES"].map(|name| (name, Align::Right));
    let mut table = Table::new(&columns);
    for partition in &topic.partitions {
        table.row(vec![
            partition.partition.to_string(),
            partition.start_offset.to_string(),
            partition.end_offset.to_string(),
            partition.end_offset.saturating_sub(partition.start_offset).to_string(),
            partition.bytes.to_string(),
        ]);
    }
    output.table(&table)
}
