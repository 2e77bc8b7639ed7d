//! Publishes a message and reads it back.
//!
//! With a broker running (`weir serve`): `cargo run -p weir-client --example hello`.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use weir_client::{Client, Ensured, Message, Start, TopicSpec};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let weir = Client::from_env().await?;
    if weir.admin().ensure_topic(TopicSpec::new("hello")).await? == Ensured::Created {
        println!("topic 'hello' was made");
    }

    let producer = weir.producer("hello").build().await?;
    let receipt = producer.send(Message::new("hello, world").key("user-42")).await?;
    println!("partition {} offset {} duplicate {}", receipt.partition, receipt.offset, receipt.duplicate);

    let start = Start::Offset(receipt.partition, receipt.offset);
    let mut records = weir.consumer("hello").start(start).read_to_end().await?;
    while let Some(record) = records.recv().await {
        let record = record?;
        println!("{}: {:?}", record.offset, record.value);
    }
    Ok(())
}
