//! What scripts rely on: the shapes of `--json`.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use harness::{Broker, json_lines};
use serde_json::{Value, json};

/// Names of an object's fields, in order.
fn fields(object: &Value) -> Vec<&str> {
    object.as_object().expect("an object").keys().map(String::as_str).collect()
}

/// The object has at least these fields.
fn has(object: &Value, expected: &[&str]) {
    for field in expected {
        assert!(fields(object).contains(field), "no {field} in {object}");
    }
}

#[test]
fn a_record_is_an_object_with_the_fixed_fields() {
    let broker = Broker::start();
    broker.text(&["send", "orders", "hello", "--create", "-k", "user-42", "-H", "trace=abc"]);
    let printed = broker.text(&["tail", "orders", "--from", "earliest", "--to-end", "--json"]);
    let records = json_lines(&printed);
    assert_eq!(records.len(), 1);
    let record = &records[0];
    has(record, &["topic", "partition", "offset", "timestamp", "key", "value", "headers"]);
    assert_eq!(
        (&record["topic"], &record["partition"], &record["offset"]),
        (&json!("orders"), &json!(0), &json!(0))
    );
    assert_eq!((&record["key"], &record["value"]), (&json!("user-42"), &json!("hello")));
    assert_eq!(record["headers"], json!([{"key": "trace", "value": "abc"}]));
    // Microseconds: between 2020 and 2100.
    let timestamp = record["timestamp"].as_i64().expect("a whole number");
    assert!((1_577_836_800_000_000..4_102_444_800_000_000).contains(&timestamp), "{timestamp}");
}

#[test]
fn a_topic_is_shown_with_its_partitions_and_settings() {
    let broker = Broker::start();
    broker.text(&[
        "topic",
        "create",
        "orders",
        "--partitions",
        "3",
        "--retention",
        "7d",
        "--retention-bytes",
        "1GiB",
    ]);
    broker.text(&["send", "orders", "hello"]);
    let shown = broker.json(&["topic", "show", "orders", "--json"]);
    assert_eq!(shown["name"], json!("orders"));
    let partitions = shown["partitions"].as_array().expect("a list");
    assert_eq!(partitions.len(), 3);
    for (number, partition) in partitions.iter().enumerate() {
        has(partition, &["partition", "start_offset", "end_offset", "bytes"]);
        assert_eq!(partition["partition"], json!(number));
    }
    let ends: u64 = partitions.iter().filter_map(|partition| partition["end_offset"].as_u64()).sum();
    assert_eq!(ends, 1);
    let text = shown.to_string();
    assert!(
        text.contains("1073741824") && text.contains("604800000000"),
        "settings in bytes and us: {shown}"
    );
    let listed = broker.json(&["topic", "ls", "--json"]);
    assert_eq!(listed[0]["name"], json!("orders"));
    assert_eq!(listed[0]["partitions"], json!(3));
}

#[test]
fn a_receipt_has_the_fixed_fields() {
    let broker = Broker::start();
    broker.text(&["topic", "create", "orders"]);
    let file = broker.file("lines.txt", b"a\nb\n");
    let printed = broker.text(&["send", "orders", "--file", &file, "--receipts"]);
    let receipts = json_lines(&printed);
    assert_eq!(receipts.len(), 2);
    for (number, receipt) in receipts.iter().enumerate() {
        has(receipt, &["record", "partition", "offset", "timestamp", "duplicate", "durability"]);
        assert_eq!((&receipt["record"], &receipt["offset"]), (&json!(number), &json!(number)));
        assert_eq!((&receipt["duplicate"], &receipt["durability"]), (&json!(false), &json!("durable")));
    }
}

#[test]
fn a_version_is_an_object() {
    let printed = harness::Weir::new().json(&["version", "--json"]);
    has(&printed, &["version"]);
}

#[test]
fn a_load_run_reports_rates_latencies_and_what_it_verified() {
    let broker = Broker::start();
    let run = "bench send --records 2000 --size 100 --producers 2 --partitions 3 --json";
    let report = broker.json(&run.split(' ').collect::<Vec<_>>());
    has(&report, &["records_per_second", "mb_per_second", "ack_latency_us", "client_cpu_seconds"]);
    has(&report["ack_latency_us"], &["p50", "p90", "p99", "p999", "max"]);
    assert!(report.to_string().contains("verified"), "it says what was verified: {report}");
    assert_eq!(broker.json(&["topic", "ls", "--json"]), json!([]), "its topic is gone");
}

#[test]
fn a_data_directory_can_be_checked_when_its_broker_is_gone() {
    let mut broker = Broker::start();
    let file = broker.file("lines.txt", "line\n".repeat(10_000).as_bytes());
    broker.text(&["send", "orders", "--create", "--file", &file]);
    broker.terminate().expect_code(0);
    let data = broker.data_directory();
    broker.weir().text(&["verify", data.to_str().unwrap(), "--json"]);
}

#[test]
fn metrics_and_health_are_served_where_asked_for() {
    // A port that was free a moment ago.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let broker = Broker::start_with(&["--metrics", &address.to_string()]);
    let get = |path: &str| {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    assert!(get("/live").starts_with("HTTP/1.1 200"));
    assert!(get("/ready").starts_with("HTTP/1.1 200"));
    broker.text(&["send", "orders", "hello", "--create"]);
    let metrics = get("/metrics");
    assert!(metrics.starts_with("HTTP/1.1 200") && metrics.contains("# TYPE weir_"), "{metrics}");
    assert!(get("/no-such-page").starts_with("HTTP/1.1 404"));
}
