//! An account that is nothing but its events: each deposit or withdrawal is a record with the account's name as its key, and the
//! balance is their sum. Whoever adds an event says which one it has seen last, so of two that decide at once one has to look
//! again: no update is lost, and no account is overdrawn, however many of these run side by side.
//!
//! With a broker running: `weir topic create accounts --keyed-versions`, then
//! `cargo run -p weir-client --example account -- accounts ann 100`, and `-- accounts ann -30` for a withdrawal. A fourth
//! argument does it so many times.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use weir_client::{Client, Expect, Message, Producer, SendFailure};

/// How often an event is tried before others are taken to be too busy.
const TRIES_MAX: u32 = 100;

type Failure = Box<dyn std::error::Error>;

/// An account as its events tell it.
#[derive(Clone, Copy, Debug, Default)]
struct Account {
    balance: i64,
    /// Where its last event stands.
    last: Option<u64>,
}

impl Account {
    async fn load(weir: &Client, topic: &str, name: &str) -> Result<Self, Failure> {
        let mut account = Self::default();
        let mut events = weir.read_key(topic, name.to_owned()).await?;
        while let Some(event) = events.recv().await {
            let event = event?;
            let amount = event.value.as_deref().ok_or("an event without an amount")?;
            account.balance += std::str::from_utf8(amount)?.parse::<i64>()?;
            account.last = Some(event.offset);
        }
        Ok(account)
    }

    /// What the next event is to be stored after.
    fn expectation(self) -> Expect {
        self.last.map_or(Expect::KeyAbsent, Expect::KeyAt)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [topic, name, amount, rest @ ..] = arguments.as_slice() else {
        return Err("usage: account TOPIC NAME AMOUNT [TIMES]".into());
    };
    let amount: i64 = amount.parse()?;
    let times: u32 = rest.first().map_or(Ok(1), |times| times.parse())?;
    let weir = Client::from_env().await?;
    let producer = weir.producer(topic).build().await?;
    for _ in 0..times {
        let balance = change(&weir, &producer, (topic, name), amount).await?;
        println!("{balance}");
    }
    Ok(())
}

/// Adds an event, if the account allows it as it is when the event is stored.
async fn change(
    weir: &Client,
    producer: &Producer,
    (topic, name): (&str, &str),
    amount: i64,
) -> Result<i64, Failure> {
    for _ in 0..TRIES_MAX {
        let account = Account::load(weir, topic, name).await?;
        let balance = account.balance + amount;
        if balance < 0 {
            return Err(format!("{name} has {} and cannot spend {}", account.balance, -amount).into());
        }
        let event = Message::new(amount.to_string()).key(name.to_owned()).expect(account.expectation());
        match producer.send(event).await {
            Ok(_) => return Ok(balance),
            // Somebody was faster: what was decided may not hold any more.
            Err(error) if matches!(error.reason, SendFailure::Expectation { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(format!("{TRIES_MAX} others were faster").into())
}
