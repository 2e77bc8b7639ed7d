//! Idempotency keys: whoever sends a record again is told where it is, and nothing is stored twice.

use std::time::Duration;

use harness::{Broker, Finished, json_lines};
use serde_json::{Value, json};

use crate::data::values;

/// Sends one record with a key.
fn send(broker: &Broker, key: &str, value: &str) -> Finished {
    broker.run(&["send", "orders", value, "--id", key, "--receipts", "--timeout", "30s"])
}

/// The receipt of a record that is stored.
fn receipt(finished: &Finished) -> Value {
    json_lines(&finished.text()).remove(0)
}

#[test]
fn every_outcome_has_its_receipt_or_error_and_its_exit_code() {
    let broker = Broker::start();
    broker.text(&["topic", "create", "orders", "--partitions", "3"]);
    let first = receipt(&send(&broker, "pay-7", "100 EUR").expect_code(0));
    assert_eq!(first["duplicate"], json!(false));

    let again = receipt(&send(&broker, "pay-7", "100 EUR").expect_code(0));
    let expected = json!({ "duplicate": true });
    for name in ["partition", "offset", "timestamp"] {
        assert_eq!(again[name], first[name], "{name} of the original");
    }
    assert_eq!(again["duplicate"], expected["duplicate"]);

    let conflict = send(&broker, "pay-7", "200 EUR").expect_code(6).stderr;
    assert!(conflict.contains("WEIR-3011"), "{conflict}");
    let place = format!("offset {} of partition {}", first["offset"], first["partition"]);
    assert!(conflict.contains(&place), "{conflict}");

    let old = send(&broker, "017f22e2-79b0-7cc3-98c4-dc0c0c07398f", "late").expect_code(1).stderr;
    assert!(old.contains("WEIR-3012"), "{old}");
    let long = send(&broker, &"x".repeat(65), "long").expect_code(2).stderr;
    assert!(long.contains("WEIR-3015"), "{long}");
    assert_eq!(values(&broker, "orders"), "100 EUR\n");

    broker.text(&["topic", "edit", "orders", "--dedup", "none"]);
    let off = send(&broker, "pay-8", "1 EUR").expect_code(2).stderr;
    assert!(off.contains("WEIR-3014"), "{off}");
    assert_eq!(values(&broker, "orders"), "100 EUR\n");
}

/// Lines of JSON with a key each.
fn lines(numbers: std::ops::Range<u32>) -> String {
    let line = |number: u32| json!({ "id": format!("id-{number}"), "value": number.to_string() }).to_string();
    numbers.map(|number| line(number) + "\n").collect()
}

fn send_file(broker: &Broker, file: &str) -> Vec<Value> {
    let arguments = ["send", "orders", "--in", "json", "--file", file, "--receipts", "--timeout", "60s"];
    json_lines(&broker.text(&arguments))
}

#[test]
fn what_is_sent_again_after_kills_is_answered_with_its_originals() {
    // given: a sender that is killed together with its broker, at a moment nobody chose
    let mut broker = Broker::start_with(&["--flush-bytes", "256KiB"]);
    broker.text(&["topic", "create", "orders", "--partitions", "4"]);
    let file = broker.file("lines.json", lines(0..20_000).as_bytes());
    let arguments = ["send", "orders", "--in", "json", "--file", &file, "--receipts"];
    let sender = broker.client(&arguments);
    for _ in 0..500 {
        sender.stdout().next_line(Duration::from_secs(60)).expect("the sender still runs");
    }
    broker.kill();
    drop(sender);
    broker.restart();
    // when: another process sends all of it again, twice, with a kill between
    let first = send_file(&broker, &file);
    broker.kill();
    broker.restart();
    let second = send_file(&broker, &file);
    // then
    assert!(first.iter().filter(|receipt| receipt["duplicate"] == json!(true)).count() >= 500);
    assert_eq!((first.len(), second.len()), (20_000, 20_000));
    for (first, second) in first.iter().zip(&second) {
        assert_eq!(second["duplicate"], json!(true), "{second}");
        for name in ["partition", "offset", "timestamp"] {
            assert_eq!(second[name], first[name], "{name} of the original of {second}");
        }
    }
    let mut stored: Vec<u32> =
        values(&broker, "orders").lines().map(|value| value.parse().expect("a number")).collect();
    stored.sort_unstable();
    assert!(stored.into_iter().eq(0..20_000), "something was lost, or stored twice");
}

#[test]
fn keys_outlive_their_records_and_duplicates_within_a_batch_are_void() {
    let mut broker = Broker::start();
    broker.text(&["topic", "create", "orders"]);
    let file = broker.file("lines.json", (lines(0..10) + &lines(5..15)).as_bytes());
    let receipts = send_file(&broker, &file);
    for number in 10..15 {
        assert_eq!(receipts[number]["offset"], receipts[number - 5]["offset"], "{}", receipts[number]);
    }
    let expected: String = (0..15).map(|number| format!("{number}\n")).collect();
    assert_eq!(values(&broker, "orders"), expected);

    broker.text(&["topic", "trim", "orders", "--partition", "0", "--before", "20", "--yes"]);
    broker.kill();
    broker.restart();
    assert_eq!(values(&broker, "orders"), "");
    let again = receipt(&send(&broker, "id-3", "3").expect_code(0));
    assert_eq!((&again["duplicate"], &again["offset"]), (&json!(true), &receipts[3]["offset"]));
    assert_eq!(values(&broker, "orders"), "");
}

#[test]
fn what_is_remembered_of_a_key_can_be_asked_for_before_and_after_a_restart() {
    let mut broker = Broker::start();
    broker.text(&["topic", "create", "orders", "--partitions", "2", "--dedup", "1h"]);
    let sent = receipt(&send(&broker, "pay-7", "100 EUR").expect_code(0));
    send(&broker, "pay-7", "200 EUR").expect_code(6);
    broker.text(&["send", "orders", "x", "--id", "pay-7", "-k", "user-42"]);
    let show = |broker: &Broker, key: &str, more: &[&str]| {
        let finished = broker.run(&[&["dedup", "show", "orders", key, "--json"], more].concat());
        serde_json::from_str::<Value>(&finished.text()).expect("a document")
    };
    let recent = show(&broker, "pay-7", &[]);
    for name in ["partition", "offset", "timestamp"] {
        assert_eq!(recent[name], sent[name], "{name} of {recent}");
    }
    assert_eq!((&recent["recent"], &recent["remaining_us"]), (&json!(true), &json!(3_600_000_000_u64)));
    assert_ne!(show(&broker, "pay-7", &["-k", "user-42"])["fingerprint"], recent["fingerprint"]);
    let free = broker.run(&["dedup", "show", "orders", "pay-8"]).expect_code(3);
    assert!(free.text().contains("not remembered"), "{}", free.text());
    let shown: Value = serde_json::from_str(&broker.text(&["topic", "show", "orders", "--json"])).unwrap();
    let expected = json!({ "stored": 2, "duplicates": 0, "conflicts": 1, "expired": 0, "full": 0 });
    assert_eq!(shown["keyed_records"], expected);

    broker.kill();
    broker.restart();
    let old = show(&broker, "pay-7", &[]);
    assert_eq!((&old["recent"], &old["fingerprint"]), (&json!(false), &recent["fingerprint"]));
    let remaining_us = old["remaining_us"].as_u64().expect("a number");
    assert!((3_590_000_000..=3_600_000_000).contains(&remaining_us), "{remaining_us}");
    let stats: Value = serde_json::from_str(&broker.text(&["dedup", "stats", "--json"])).unwrap();
    assert_eq!((&stats["flushed_keys"], &stats["topics"][0]["stored"]), (&json!(2), &json!(0)));
}

#[test]
fn a_horizon_that_there_is_no_room_for_is_refused_with_the_arithmetic() {
    let broker = Broker::start_with(&["--key-disk", "64MiB"]);
    let create = |name: &str, more: &[&str]| broker.run(&[&["topic", "create", name], more].concat());
    create("fits", &["--dedup", "1h", "--dedup-rate", "100/s"]).expect_code(0);
    let refused = create("orders", &["--dedup", "1d", "--dedup-rate", "100/s"]).expect_code(2).stderr;
    for part in ["WEIR-2004", "86400s at 100 keys/s", "55 bytes", "s fit"] {
        assert!(refused.contains(part), "{part}: {refused}");
    }
    create("orders", &["--dedup", "10m"]).expect_code(0);
    let longer = broker.run(&["topic", "edit", "orders", "--dedup", "3650d"]).expect_code(2).stderr;
    assert!(longer.contains("WEIR-2004"), "{longer}");
    broker.text(&["topic", "edit", "orders", "--dedup", "1h", "--dedup-rate", "2/s"]);
    let shown: Value = serde_json::from_str(&broker.text(&["topic", "show", "orders", "--json"])).unwrap();
    assert_eq!(shown["dedup_keys_per_second"], json!(2));
}
