//! An outbox: what is to be published stands in a file, and is sent until the broker has it, once for each key.
//!
//! The application appends lines `KEY VALUE` to `outbox` in a directory, in the same step in which it changes its own state: with a
//! database this is a table, and a transaction. This program publishes them and notes the keys it has receipts for in `done`.
//! Both it and the broker may be killed at any moment: it starts from the files, and the keys keep every line from being
//! stored twice.
//!
//! With a broker running: `cargo run -p weir-client --example outbox -- DIRECTORY TOPIC`. It ends when every line is published.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use weir_client::{Class, Client, Message, Producer, Receipt, SendError};

/// Lines that are on their way together.
const WINDOW: usize = 100;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(directory), Some(topic)) = (arguments.next(), arguments.next()) else {
        return Err("usage: outbox DIRECTORY TOPIC".into());
    };
    let directory = Path::new(&directory);
    let weir = Client::from_env().await?;
    let producer = weir.producer(&topic).build().await?;

    let done: HashSet<String> = lines(&directory.join("done"))?.into_iter().collect();
    let mut journal = OpenOptions::new().create(true).append(true).open(directory.join("done"))?;
    let outbox = lines(&directory.join("outbox"))?;
    let pending: Vec<&str> =
        outbox.iter().map(String::as_str).filter(|line| !done.contains(key_of(line))).collect();
    for some in pending.chunks(WINDOW) {
        publish(&producer, some, &mut journal).await?;
    }
    println!("published");
    Ok(())
}

/// Publishes lines, and notes that they are done once all of them are.
async fn publish(producer: &Producer, lines: &[&str], done: &mut File) -> Result<(), SendError> {
    let sends = lines.iter().map(|line| send(producer, line));
    let mut keys = String::new();
    // Each is taken at once and waited for in turn, so that they travel together.
    let mut deliveries = Vec::new();
    for send in sends {
        deliveries.push(tokio::spawn(send));
    }
    for (line, delivery) in lines.iter().zip(deliveries) {
        let receipt = delivery.await.expect("sending does not panic")?;
        println!("{} {} {}", key_of(line), receipt.offset, receipt.duplicate);
        keys.push_str(key_of(line));
        keys.push('\n');
    }
    // If this is lost the lines are sent again, and answered with the same receipts.
    done.write_all(keys.as_bytes()).and_then(|()| done.sync_data()).expect("the directory can be written");
    Ok(())
}

/// Sends a line until its result is known.
fn send(producer: &Producer, line: &str) -> impl Future<Output = Result<Receipt, SendError>> + use<> {
    let message = Message::new(line.to_owned()).idempotency_key(key_of(line).to_owned());
    let producer = producer.clone();
    async move {
        loop {
            match producer.send(message.clone()).await {
                // It may be stored or not: with its key it can be sent again all the same.
                Err(error) if error.error.class() != Class::Fatal => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                result => return result,
            }
        }
    }
}

fn key_of(line: &str) -> &str {
    line.split_whitespace().next().unwrap_or_default()
}

/// The whole lines of a file; whoever wrote it may have been killed within the last one.
fn lines(path: &Path) -> io::Result<Vec<String>> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        other => other?,
    };
    let whole = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
    Ok(whole.filter(|line| !line.is_empty()).map(str::to_owned).collect())
}
