//! Expectations: of writers that expect the same, one is stored, and the others are told what is so.

use harness::{Broker, Finished, json_lines};
use serde_json::json;

use crate::data::values;

fn send(broker: &Broker, value: &str, more: &[&str]) -> Finished {
    let mut arguments = vec!["send", "accounts", value, "--receipts", "--timeout", "30s"];
    arguments.extend_from_slice(more);
    broker.run(&arguments)
}

fn offset(finished: Finished) -> u64 {
    let receipt = json_lines(&finished.expect_code(0).text()).remove(0);
    receipt.get("offset").and_then(serde_json::Value::as_u64).expect("a receipt has an offset")
}

/// A refusal that names what is so instead.
fn expect_unmet(finished: Finished, actual: &str) {
    let told = finished.expect_code(6).stderr;
    assert!(told.contains("WEIR-3016") && told.contains(actual), "{told}");
}

#[test]
fn who_expects_what_is_so_is_stored_and_who_does_not_is_told_what_is() {
    let mut broker = Broker::start();
    broker.text(&["topic", "create", "accounts", "--keyed-versions"]);
    let first = offset(send(&broker, "opened", &["-k", "ann", "--expect-key-absent"]));
    expect_unmet(send(&broker, "opened again", &["-k", "ann", "--expect-key-absent"]), "offset 0");
    let none = "there is no record with its key";
    expect_unmet(send(&broker, "paid", &["-k", "bob", "--expect-key-at", "0"]), none);
    let second = offset(send(&broker, "paid", &["-k", "ann", "--expect-key-at", &first.to_string()]));
    expect_unmet(send(&broker, "late", &["-k", "ann", "--expect-key-at", "0"]), &format!("offset {second}"));
    let next = offset(send(&broker, "note", &["--expect-partition-at", &(second + 1).to_string()])) + 1;
    expect_unmet(send(&broker, "late", &["--expect-partition-at", "0"]), &format!("offset {next}"));

    // What is known of a key outlives a kill, and the record.
    broker.kill();
    broker.restart();
    broker.text(&["topic", "trim", "accounts", "--partition", "0", "--before", &next.to_string(), "--yes"]);
    expect_unmet(send(&broker, "opened", &["-k", "ann", "--expect-key-absent"]), &format!("offset {second}"));
    let third = offset(send(&broker, "closed", &["-k", "ann", "--expect-key-at", &second.to_string()]));
    assert_eq!(third, next);
    assert_eq!(values(&broker, "accounts"), "closed\n");

    // An idempotency key comes first.
    let again = ["-k", "bob", "--id", "b-1", "--expect-key-absent"];
    let stored = offset(send(&broker, "opened", &again));
    assert_eq!(offset(send(&broker, "opened", &again)), stored);
}

#[test]
fn lines_of_json_expect_each_for_itself_and_one_key_can_be_read() {
    let broker = Broker::start();
    broker.text(&["topic", "create", "accounts", "--keyed-versions", "--partitions", "3"]);
    let line =
        |key: &str, value: u32, expect| json!({ "key": key, "value": value.to_string(), "expect": expect });
    let lines = [
        line("a", 1, json!("key_absent")),
        line("b", 2, json!("key_absent")),
        line("a", 3, json!("key_absent")),
        line("c", 4, json!({ "key_at": 9 })),
        json!({ "key": "a", "value": "5" }),
    ];
    let file = broker.file("lines.json", lines.map(|line| line.to_string() + "\n").concat().as_bytes());
    let told = broker.run(&["send", "accounts", "--in", "json", "--file", &file]).expect_code(7).stderr;
    assert!(told.contains("2 records have no receipt, 3 have one"), "{told}");
    let key = ["tail", "accounts", "--from", "earliest", "--to-end", "--key", "a"];
    assert_eq!(broker.text(&key), "1\n5\n");
}

#[test]
fn what_cannot_be_expected_is_refused_with_its_reason() {
    let broker = Broker::start();
    broker.text(&["topic", "create", "accounts"]);
    let told = send(&broker, "v", &["-k", "a", "--expect-key-absent"]).expect_code(2).stderr;
    assert!(told.contains("WEIR-3017") && told.contains("--keyed-versions"), "{told}");
    let told = send(&broker, "v", &["--expect-key-at", "3"]).expect_code(2).stderr;
    assert!(told.contains("has a key"), "{told}");
    send(&broker, "v", &["--expect-key-at", "3", "--expect-partition-at", "3"]).expect_code(2);
    let told = broker.run(&["send", "accounts", "--expect-partition-at", "3"]).expect_code(2).stderr;
    assert!(told.contains("one record"), "{told}");

    broker.text(&["topic", "create", "versioned", "--keyed-versions"]);
    broker.text(&["topic", "edit", "versioned", "--no-keyed-versions"]);
    let arguments = ["send", "versioned", "v", "-k", "a", "--expect-key-absent"];
    let told = broker.run(&arguments).expect_code(2).stderr;
    assert!(told.contains("WEIR-3017"), "{told}");
}
