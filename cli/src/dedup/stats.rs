//! `weir dedup stats`: keys in figures.

use serde_json::{Map, Value, json};
use weir_client::{Admin, DedupFigures, DedupStats, KeyedCounts};

use crate::arguments::Global;
use crate::failure::{Exit, Failure};
use crate::output::{Align, Output, Table};
use crate::value::{DurationText, SizeText};

/// Shows the figures of a topic, or of all.
pub(super) async fn run(
    topic: Option<&str>,
    admin: &Admin,
    global: &Global,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let stats = admin.dedup_stats(topic).await?;
    if global.json {
        output.document(&json(&stats))?
    } else {
        text(&stats, output)?
    }
    Ok(Exit::Done)
}

/// What became of records with keys, by outcome.
pub(crate) fn outcomes(counts: &KeyedCounts) -> [(&'static str, u64); 5] {
    let KeyedCounts { stored, duplicates, conflicts, expired, full } = *counts;
    [
        ("stored", stored),
        ("duplicates", duplicates),
        ("conflicts", conflicts),
        ("expired", expired),
        ("full", full),
    ]
}

fn json(stats: &DedupStats) -> Value {
    let keys = &stats.keys;
    let topics = stats.topics.iter().map(|topic| {
        let mut object = Map::new();
        object.insert("name".to_owned(), json!(topic.name));
        let horizon = topic.horizon.map(|time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
        object.insert("dedup_horizon_us".to_owned(), json!(horizon));
        let counts = outcomes(&topic.counts).map(|(name, count)| (name.to_owned(), json!(count)));
        object.extend(counts);
        Value::Object(object)
    });
    json!({
        "recent_keys": keys.recent_keys,
        "recent_keys_max": keys.recent_keys_max,
        "flushed_keys": keys.flushed_keys,
        "generations": keys.generations,
        "narrow_filters": keys.narrow_filters,
        "missing_filters": keys.missing_filters,
        "lost_generations": keys.lost_generations,
        "filter_bytes": keys.filter_bytes,
        "filter_bytes_max": keys.filter_bytes_max,
        "disk_bytes": keys.disk_bytes,
        "disk_bytes_max": keys.disk_bytes_max,
        "topics": topics.collect::<Vec<_>>(),
    })
}

fn text(stats: &DedupStats, output: &mut Output) -> Result<(), Failure> {
    for (name, value) in lines(&stats.keys) {
        output.line(&format!("{name:<20} {value}"))?;
    }
    output.line("")?;
    let mut columns = vec![("TOPIC", Align::Left), ("HORIZON", Align::Right)];
    let outcomes_columns = ["STORED", "DUPLICATES", "CONFLICTS", "EXPIRED", "FULL"];
    columns.extend(outcomes_columns.map(|name| (name, Align::Right)));
    let mut table = Table::new(&columns);
    for topic in &stats.topics {
        let horizon = topic.horizon.map(|time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
        let mut row = vec![
            topic.name.clone(),
            horizon.map_or_else(|| "none".to_owned(), |us| DurationText(us).to_string()),
        ];
        row.extend(outcomes(&topic.counts).map(|(_, count)| count.to_string()));
        table.row(row);
    }
    output.table(&table)
}

fn lines(keys: &DedupFigures) -> [(&'static str, String); 5] {
    let of = |bytes, max| format!("{} of {}", SizeText(bytes), SizeText(max));
    let filters = format!(
        "{}; {} generations at half width, {} without",
        of(keys.filter_bytes, keys.filter_bytes_max),
        keys.narrow_filters,
        keys.missing_filters
    );
    let generations = match keys.lost_generations {
        0 => keys.generations.to_string(),
        lost => format!("{}, of which {lost} cannot be read", keys.generations),
    };
    [
        ("keys in memory", format!("{} of {}", keys.recent_keys, keys.recent_keys_max)),
        ("keys on the disk", keys.flushed_keys.to_string()),
        ("generations", generations),
        ("filters", filters),
        ("disk", of(keys.disk_bytes, keys.disk_bytes_max)),
    ]
}
