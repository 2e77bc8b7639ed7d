//! Reads again what was published since a moment, and nothing that comes later.
//!
//! With a broker running: `cargo run -p weir-client --example replay -- TOPIC SECONDS` prints the records of the last so many
//! seconds, in order within each partition, and says how many there were. No group moves by that: who reads without one leaves
//! no trace. To let a group read again, move it: `weir group reset GROUP --to 2h`.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::{Duration, SystemTime};

use weir_client::{Client, Start};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(topic), Some(seconds)) = (arguments.next(), arguments.next()) else {
        return Err("usage: replay TOPIC SECONDS".into());
    };
    let age = Duration::try_from_secs_f64(seconds.parse()?)?;
    let since = SystemTime::now().checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH);

    let weir = Client::from_env().await?;
    let mut records = weir.consumer(&topic).start(Start::Timestamp(since)).read_to_end().await?;
    let mut count = 0;
    while let Some(record) = records.recv().await {
        let record = record?;
        println!(
            "{} {} {}",
            record.partition,
            record.offset,
            String::from_utf8_lossy(record.value.as_deref().unwrap_or_default())
        );
        count += 1;
    }
    println!("replayed {count}");
    Ok(())
}
