//! `weir dedup show`: a single key.

use serde_json::{Value, json};
use weir_client::{Admin, RememberedKey};

use crate::arguments::Global;
use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::value::{DurationText, to_micros};

#[derive(Debug, clap::Args)]
pub(super) struct ShowArguments {
    /// The topic
    topic: String,
    /// The idempotency key
    key: String,
    /// The key of the record it was sent with, if it was: that is part of its identity
    #[arg(short = 'k', long, value_name = "KEY")]
    record_key: Option<String>,
}

/// Shows the key.
pub(super) async fn run(
    arguments: &ShowArguments,
    admin: &Admin,
    global: &Global,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let ShowArguments { topic, key, record_key } = arguments;
    let found = match record_key {
        Some(record_key) => admin.find_idempotency_key_of(topic, record_key, key).await?,
        None => admin.find_idempotency_key(topic, key).await?,
    };
    match (&found, global.json) {
        (_, true) => output.document(&json(found.as_ref()))?,
        (Some(found), false) => text(found, output)?,
        (None, false) => output.line("not remembered: a record with this key would be stored")?,
    }
    Ok(if found.is_some() { Exit::Done } else { Exit::NotFound })
}

fn json(found: Option<&RememberedKey>) -> Value {
    let Some(found) = found else { return json!({ "remembered": false }) };
    json!({
        "remembered": true,
        "partition": found.partition,
        "offset": found.offset,
        "timestamp": to_micros(found.timestamp),
        "fingerprint": hex(&found.fingerprint),
        "remaining_us": u64::try_from(found.remaining.as_micros()).unwrap_or(u64::MAX),
        "recent": found.is_recent,
    })
}

fn text(found: &RememberedKey, output: &mut Output) -> Result<(), Failure> {
    let appended =
        jiff::Timestamp::try_from(found.timestamp).map_or_else(|_| String::new(), |time| time.to_string());
    let remaining = u64::try_from(found.remaining.as_micros()).unwrap_or(u64::MAX);
    for (name, value) in [
        ("partition", found.partition.to_string()),
        ("offset", found.offset.to_string()),
        ("appended", appended),
        ("fingerprint", hex(&found.fingerprint)),
        ("remembered-for", format!("{}, at least", DurationText(remaining))),
        ("in", if found.is_recent { "memory" } else { "a generation on the disk" }.to_owned()),
    ] {
        output.line(&format!("{name:<20} {value}"))?;
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
