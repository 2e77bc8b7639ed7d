//! Shows a batch and, where asked for, its records.

use std::ops::Range;

use weir_protocol::batch::StoredBatch;

use super::{DumpError, Item, Sink};

/// Bytes of a key or value that are shown.
const SHOWN_BYTES: usize = 32;

/// The item that stands for a batch.
pub(crate) fn item(level: u8, kind: &'static str, bytes: Range<u64>, batch: &StoredBatch) -> Item {
    let header = batch.producer.header();
    Item::new(level, kind, bytes)
        .text("partition", header.partition)
        .number("base_offset", batch.base_offset().get())
        .number("end_offset", batch.end_offset().get())
        .number("records", header.record_count)
        .moment("append_time", batch.section.append_time)
        .number("epoch", batch.section.partition_epoch.get())
        .number("producer", header.producer.get())
        .number("producer_epoch", header.producer_epoch.get())
        .number("sequence", header.sequence.get())
        .text("compression", header.compression.name())
        .number("body_bytes", header.body_bytes)
        .number("uncompressed_bytes", header.uncompressed_bytes)
}

/// Shows the records of a batch, if records are asked for.
pub(crate) fn records(
    level: u8,
    bytes: &Range<u64>,
    batch: &StoredBatch,
    sink: &mut Sink<'_>,
) -> Result<(), DumpError> {
    if !sink.options.records {
        return Ok(());
    }
    let header = batch.producer.header();
    let records = match batch.producer.records() {
        Ok(records) => records,
        Err(error) => return sink.put(Item::new(level, "records", bytes.clone()).damaged(error)),
    };
    for record in records {
        let record = match record {
            Ok(record) => record,
            Err(error) => return sink.put(Item::new(level, "record", bytes.clone()).damaged(error)),
        };
        let mut item = Item::new(level, "record", bytes.clone())
            .number("offset", batch.base_offset().advance(u64::from(record.offset_delta)).get())
            .moment("create_time", header.create_time_of(record.timestamp_delta_ms));
        for (name, length, content) in
            [("key", "key_bytes", &record.key), ("value", "value_bytes", &record.value)]
        {
            if let Some(content) = content {
                item = item.number(length, content.len() as u64).text(name, abbreviate(content));
            }
        }
        item = item.number("headers", record.headers.count());
        if batch.section.voids.contains(record.offset_delta) {
            item = item.text("void", "yes");
        }
        sink.put(item)?;
    }
    Ok(())
}

/// The first bytes, as text where they are text.
fn abbreviate(content: &[u8]) -> String {
    let shown = content.get(..SHOWN_BYTES).unwrap_or(content);
    let more = if shown.len() < content.len() { "…" } else { "" };
    format!("{}{more}", shown.escape_ascii())
}
