//! Snapshots of a broker that is busy, and brokers that start from them.

use std::path::Path;
use std::time::Duration;

use harness::{Broker, Lines, Process, json_lines};
use serde_json::Value;

use crate::data::values;

const LIMIT: Duration = Duration::from_secs(60);

/// Waits for the receipts of this many more records.
fn receipts(sender: &Process, count: usize) -> Vec<Value> {
    let line = |_| sender.stdout().next_line(LIMIT).expect("the sender still runs");
    let lines: Vec<String> = (0..count).map(line).collect();
    json_lines(&lines.join("\n"))
}

/// Starts a second broker from a snapshot of the first.
fn from_snapshot(directory: &str) -> Broker {
    Broker::start_in(Path::new(directory))
}

#[test]
fn a_snapshot_under_load_holds_everything_acknowledged_before_it() {
    // given: a broker that takes records without a pause
    let mut broker = Broker::start();
    broker.text(&["topic", "create", "orders", "--partitions", "4"]);
    let lines = Lines::numbered(0, 400_000);
    let file = broker.file("lines.txt", lines.text().as_bytes());
    let sender = broker.client(&["send", "orders", "--file", &file, "--receipts", "--timeout", "60s"]);
    let mut before = receipts(&sender, 20_000);
    // when
    let made = broker.json(&["snapshot", "create", "first", "--json"]);
    before.extend(receipts(&sender, 20_000));
    broker.kill();
    broker.restart();
    // then
    let directory = made["directory"].as_str().expect("it says where");
    let copy = from_snapshot(directory);
    let tail = copy.text(&["tail", "orders", "--from", "earliest", "--to-end", "--json"]);
    let place = |record: &Value| (record["partition"].as_u64(), record["offset"].as_u64());
    let stored: std::collections::BTreeSet<_> = json_lines(&tail).iter().map(place).collect();
    for receipt in &before[..20_000] {
        assert!(stored.contains(&place(receipt)), "{receipt} was acknowledged before the snapshot");
    }
    sender.finish().expect_code(0);
    // The copy is a broker of its own: what is sent to it does not reach the first, nor the other way round.
    copy.text(&["topic", "create", "own"]);
    copy.text(&["send", "own", "mine"]);
    assert_eq!(values(&copy, "own"), "mine\n");
    broker.run(&["topic", "show", "own"]).expect_code(3);
    assert_ne!(copy.url(), broker.url(), "it has a certificate of its own");
}

#[test]
fn a_snapshot_survives_that_the_broker_gives_up_what_is_in_it() {
    let mut broker = Broker::start();
    let lines = Lines::numbered(0, 2_000);
    let file = broker.file("lines.txt", lines.text().as_bytes());
    broker.text(&["send", "orders", "--create", "--file", &file]);
    let directory = broker.text(&["snapshot", "create", "kept"]);
    broker.text(&["topic", "rm", "orders", "--yes"]);
    broker.terminate().expect_code(0);
    broker.restart();
    let verified = broker.weir().text(&["verify", directory.trim()]);
    let copy = from_snapshot(directory.trim());
    assert!(values(&copy, "orders") == lines.text(), "the copy is not what was sent: {verified}");
}

#[test]
fn a_snapshot_has_a_new_plain_name_or_is_not_made() {
    let broker = Broker::start();
    broker.text(&["snapshot", "create", "one"]);
    let again = broker.run(&["snapshot", "create", "one"]).expect_code(6);
    assert!(again.stderr.contains("WEIR-6001"), "{}", again.stderr);
    for name in ["../out", "/tmp/out", "", ".", "..", ".hidden", "a b"] {
        let refused = broker.run(&["snapshot", "create", name]).expect_code(2);
        assert!(refused.stderr.contains("name"), "{name}: {}", refused.stderr);
    }
    let snapshots = broker.data_directory().join("snapshots");
    let names: Vec<_> =
        std::fs::read_dir(snapshots).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["one"]);
}
