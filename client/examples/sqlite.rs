//! Each record takes effect exactly once in a database, whatever dies in between: the position is stored in the transaction
//! of the effect.
//!
//! With a broker running: `cargo run -p weir-client --example sqlite -- TOPIC FILE` counts the words that are published, in a
//! table of a SQLite file. Kill it at any moment and start it again: it goes on behind the last record whose effect is in the
//! file. The broker remembers nothing of it, so no acknowledgement can be lost or come too early.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Transaction};
use weir_client::{Checkpoint, Client, Delivered, Start};

/// Records that share a transaction.
const AT_ONCE: usize = 100;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(topic), Some(file)) = (arguments.next(), arguments.next()) else {
        return Err("usage: sqlite TOPIC FILE".into());
    };
    let mut database = Connection::open(file)?;
    database.execute_batch(
        "CREATE TABLE IF NOT EXISTS words (word TEXT PRIMARY KEY, count INTEGER NOT NULL);
         CREATE TABLE IF NOT EXISTS position (only INTEGER PRIMARY KEY CHECK (only = 0), checkpoint TEXT NOT NULL);",
    )?;
    let mut checkpoint = stored(&database)?;
    println!("has {}", total(&database)?);

    let weir = Client::from_env().await?;
    // Without a position everything is read from the first record on.
    let mut records = weir.consumer(&topic).start(Start::Resume(checkpoint.clone())).subscribe().await?;
    loop {
        let some = records.recv_batch(AT_ONCE, Duration::from_secs(3600)).await?;
        let transaction = database.transaction()?;
        for record in &some {
            count(&transaction, record)?;
            checkpoint.merge(&record.checkpoint());
        }
        store(&transaction, &checkpoint)?;
        transaction.commit()?;
        println!("counted {}", some.len());
    }
}

/// The effect of a record.
fn count(transaction: &Transaction<'_>, record: &Delivered) -> rusqlite::Result<usize> {
    transaction.execute(
        "INSERT INTO words VALUES (?1, 1) ON CONFLICT (word) DO UPDATE SET count = count + 1",
        [String::from_utf8_lossy(record.value.as_deref().unwrap_or_default())],
    )
}

/// All that was counted, and how many words there are.
fn total(database: &Connection) -> rusqlite::Result<String> {
    database.query_row("SELECT COALESCE(SUM(count), 0), COUNT(*) FROM words", [], |row| {
        let (counted, words): (i64, i64) = (row.get(0)?, row.get(1)?);
        Ok(format!("{counted} of {words}"))
    })
}

/// Where the database stands.
fn stored(database: &Connection) -> Result<Checkpoint, Box<dyn std::error::Error>> {
    let text: Option<String> =
        database.query_row("SELECT checkpoint FROM position", [], |row| row.get(0)).optional()?;
    Ok(text.map(|text| serde_json::from_str(&text)).transpose()?.unwrap_or_default())
}

fn store(transaction: &Transaction<'_>, checkpoint: &Checkpoint) -> Result<(), Box<dyn std::error::Error>> {
    let text = serde_json::to_string(checkpoint)?;
    transaction.execute("INSERT OR REPLACE INTO position VALUES (0, ?1)", [text])?;
    Ok(())
}
