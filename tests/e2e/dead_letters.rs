//! Records that keep failing, with the real binary and the real client: each is set aside once, nothing else is lost, and what
//! was set aside can be sent again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use harness::{Broker, Lines};
use serde_json::Value;
use weir_client::{Client, Consumer, Delivered, OnDrop, Redelivery, Start};

use crate::data::values;

/// Longest wait for something that must happen.
const LIMIT: Duration = Duration::from_secs(60);

/// Whether a line keeps failing.
fn is_bad(line: &str) -> bool {
    line.split(' ').next().is_some_and(|number| number.ends_with('7'))
}

fn line(record: &Delivered) -> String {
    String::from_utf8(record.message.value.clone().expect("a line").to_vec()).expect("lines are text")
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be made")
}

async fn client(broker: &Broker) -> Client {
    Client::connect(broker.url()).await.expect("the broker answers")
}

async fn join(client: &Client) -> Consumer {
    let redelivery = Redelivery::exponential(Duration::from_millis(10), Duration::from_millis(20));
    let consumer = client.consumer("orders").group("billing").start(Start::Earliest);
    let consumer = consumer.redelivery(redelivery.max_attempts(3).dead_letter("orders.dlq"));
    consumer.subscribe().await.expect("a member joins")
}

async fn next(consumer: &mut Consumer) -> Delivered {
    let received = tokio::time::timeout(LIMIT, consumer.recv()).await.expect("a record comes");
    received.expect("it does not end").expect("it can be read")
}

fn topics(broker: &Broker) -> Vec<String> {
    broker.text(&["topic", "create", "orders", "--partitions", "2"]);
    broker.text(&["topic", "create", "orders.dlq"]);
    let lines = Lines::numbered(0, 100);
    let file = broker.file("lines.txt", lines.text().as_bytes());
    broker.text(&["send", "orders", "--file", &file]);
    lines.text().lines().map(str::to_owned).collect()
}

fn letters(broker: &Broker) -> Vec<Value> {
    let shown = broker.text(&["dlq", "show", "orders.dlq", "--json", "-n", "1000"]);
    shown.lines().map(|line| serde_json::from_str(line).expect("a line is an object")).collect()
}

/// Waits until no letter is on its way any more.
fn wait_for_letters(broker: &Broker, count: u64) {
    let since = std::time::Instant::now();
    loop {
        let listed = broker.json(&["dlq", "ls", "--json"]);
        let group = listed.get(0);
        if group.is_some_and(|group| group["letters"] == count && group["waiting"] == 0) {
            return;
        }
        assert!(since.elapsed() < LIMIT, "{listed}");
    }
}

#[test]
fn what_keeps_failing_is_set_aside_once_also_over_a_kill_and_can_be_sent_again() {
    let mut broker = Broker::start();
    let all = topics(&broker);
    let bad: BTreeSet<&str> = all.iter().map(String::as_str).filter(|line| is_bad(line)).collect();
    assert_eq!(bad.len(), 10);
    runtime().block_on(async {
        let client = client(&broker).await;
        let mut consumer = join(&client).await;
        let mut attempts: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        let mut left: BTreeSet<&str> = all.iter().map(String::as_str).collect();
        let mut received = 0;
        while !left.is_empty() {
            let record = next(&mut consumer).await;
            received += 1;
            if received == 40 {
                broker.kill();
                broker.restart();
            }
            let (line, attempt) = (line(&record), record.attempt);
            attempts.entry(line.clone()).or_default().push(attempt);
            let is_last = attempt == 3;
            let said = if is_bad(&line) { record.nack_because(None, "it is bad") } else { record.ack() };
            // Nothing is certain about what the broker was told just before it was killed: it is said again then.
            if said.await.is_ok() && (is_last || !is_bad(&line)) {
                left.remove(line.as_str());
            }
        }
        consumer.drain(LIMIT).await;
        for line in &bad {
            let seen = &attempts[*line];
            assert!(seen.is_sorted() && seen.last() == Some(&3), "{line}: {seen:?}");
        }
        client.drain(LIMIT).await;
    });
    wait_for_letters(&broker, bad.len() as u64);
    let found = letters(&broker);
    assert_eq!(found.len(), bad.len());
    let places: BTreeSet<String> = found.iter().map(|letter| letter["origin"].to_string()).collect();
    assert_eq!(places.len(), bad.len(), "one letter for each record");
    for letter in &found {
        assert_eq!((&letter["attempts"], &letter["group"]), (&3.into(), &"billing".into()), "{letter}");
        assert_eq!((&letter["reason"], &letter["origin"]["topic"]), (&"it is bad".into(), &"orders".into()));
    }
    let set_aside = values(&broker, "orders.dlq");
    assert_eq!(set_aside.lines().collect::<BTreeSet<_>>(), bad);

    let redrive = |more: &[&str]| {
        let command = [&["dlq", "redrive", "orders.dlq", "--rate", "1k/s", "--json"], more].concat();
        broker.json(&command)
    };
    assert_eq!(redrive(&["--dry-run"])["would_send"], bad.len());
    assert_eq!(redrive(&["--yes", "-n", "4"])["sent"], 4);
    assert_eq!(redrive(&["--yes"])["sent"], bad.len() - 4);
    assert_eq!(redrive(&["--yes"])["sent"], 0, "what was sent is not sent again");
    let again = values(&broker, "orders");
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    again.lines().for_each(|line| *counts.entry(line).or_default() += 1);
    assert!(all.iter().all(|line| counts[line.as_str()] == 1 + usize::from(is_bad(line))), "{counts:?}");

    let purge = |more: &str| broker.json(&["dlq", "purge", "orders.dlq", "--json", more]);
    assert_eq!(purge("--dry-run")["would_remove"], bad.len());
    assert_eq!(purge("--yes")["removed"], bad.len());
    assert_eq!(letters(&broker), Vec::<Value>::new());
}

#[test]
fn a_record_that_fails_holds_its_partition_up_and_one_that_is_dropped_comes_back() {
    let broker = Broker::start();
    broker.text(&["topic", "create", "orders"]);
    broker.text(&["topic", "create", "orders.dlq"]);
    let file = broker.file("lines.txt", b"a\nb\nc\n");
    broker.text(&["send", "orders", "--file", &file]);
    runtime().block_on(async {
        let client = client(&broker).await;
        let mut consumer = join(&client).await;
        let first = next(&mut consumer).await;
        assert_eq!((line(&first).as_str(), first.attempt), ("a", 1));
        drop(first);
        let first = next(&mut consumer).await;
        assert_eq!((line(&first).as_str(), first.attempt), ("a", 2), "it comes back at once");
        first.nack(Some(Duration::from_millis(300))).await.expect("the lease lasts");
        let since = std::time::Instant::now();
        let first = next(&mut consumer).await;
        assert_eq!((line(&first).as_str(), first.attempt), ("a", 3), "nothing overtakes it");
        assert!(since.elapsed() >= Duration::from_millis(250), "it came too early");
        first.reject("no good").await.expect("there is a dead-letter topic");
        for expected in ["b", "c"] {
            let record = next(&mut consumer).await;
            assert_eq!((line(&record).as_str(), record.attempt), (expected, 1));
            record.in_progress().await.expect("the lease lasts");
            record.ack().await.expect("the lease lasts");
        }
        consumer.drain(LIMIT).await;
        client.drain(LIMIT).await;
    });
    wait_for_letters(&broker, 1);
    let found = letters(&broker);
    assert_eq!((&found[0]["attempts"], &found[0]["returned"]), (&2.into(), &1.into()), "{found:?}");
    assert_eq!(found[0]["reason"], "no good");
}

#[test]
fn without_a_dead_letter_topic_a_rejected_record_is_kept_and_the_reason_told() {
    let broker = Broker::start();
    broker.text(&["topic", "create", "orders"]);
    let file = broker.file("lines.txt", b"a\n");
    broker.text(&["send", "orders", "--file", &file]);
    runtime().block_on(async {
        let client = client(&broker).await;
        let consumer = client.consumer("orders").group("billing").start(Start::Earliest);
        let consumer = consumer.redelivery(Redelivery::exponential(Duration::ZERO, Duration::ZERO));
        let mut consumer =
            consumer.on_drop(OnDrop::LeaveToTimeout).subscribe().await.expect("a member joins");
        let error = next(&mut consumer).await.reject("no good").await.expect_err("there is no such topic");
        assert_eq!(error.code(), "WEIR-4113");
        let record = next(&mut consumer).await;
        assert_eq!((line(&record).as_str(), record.attempt), ("a", 2));
        drop(record);
        consumer.drain(LIMIT).await;
        client.drain(LIMIT).await;
    });
    let refused = broker.run(&["group", "set", "billing", "--max-attempts", "3", "--dead-letter", "none"]);
    refused.expect_code(1);
    broker.text(&["topic", "create", "orders.dlq"]);
    broker.text(&["group", "set", "billing", "--max-attempts", "3", "--dead-letter", "orders.dlq"]);
    let shown = broker.json(&["group", "show", "billing", "--json"]);
    assert_eq!(
        (&shown["redelivery"][0]["max_attempts"], &shown["redelivery"][0]["backoff_max_ms"]),
        (&3.into(), &0.into())
    );
    assert_eq!(
        (&shown["partitions"][0]["failing"], &shown["partitions"][0]["failed"]),
        (&1.into(), &1.into())
    );
}
