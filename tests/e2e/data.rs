//! What is sent comes back.

use harness::{Broker, Lines, json_lines, multiset};
use serde_json::{Value, json};

/// Prints values only, one on each line.
const VALUES: [&str; 5] = ["--from", "earliest", "--to-end", "-f", "%v\\n"];

/// All values of a topic.
pub(crate) fn values(broker: &Broker, topic: &str) -> String {
    broker.text(&[&["tail", topic][..], &VALUES].concat())
}

#[test]
fn a_file_comes_back_identical_from_one_partition() {
    // given
    let broker = Broker::start();
    let lines = Lines::numbered(0, 100_000);
    let file = broker.file("lines.txt", lines.text().as_bytes());
    // when
    let report = broker.json(&["send", "orders", "--create", "--file", &file, "--json"]);
    // then
    assert_eq!(report["records"], json!(lines.count()));
    assert!(report["seconds"].as_f64().is_some_and(|seconds| seconds > 0.0), "{report}");
    assert!(report["bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{report}");
    assert!(values(&broker, "orders") == lines.text(), "the text came back changed");
}

#[test]
fn sixteen_partitions_give_back_every_line_once() {
    // given
    let broker = Broker::start();
    broker.text(&["topic", "create", "orders", "--partitions", "16"]);
    let lines = Lines::numbered(0, 100_000);
    let file = broker.file("lines.txt", lines.text().as_bytes());
    // when
    broker.text(&["send", "orders", "--file", &file]);
    // then
    let back = values(&broker, "orders");
    assert!(multiset(&back) == multiset(lines.text()), "lines were lost, doubled or changed");
    let shown = broker.json(&["topic", "show", "orders", "--json"]);
    let partitions = shown["partitions"].as_array().expect("a list");
    let used = partitions.iter().filter(|partition| partition["end_offset"] != json!(0)).count();
    assert!(used > 1, "keyless lines spread over partitions: {shown}");
}

#[test]
fn a_key_keeps_its_partition_and_its_order() {
    // given
    let broker = Broker::start();
    broker.text(&["topic", "create", "orders", "--partitions", "8"]);
    let objects: Vec<String> = (0..2000)
        .map(|number| json!({"key": format!("key-{}", number % 37), "value": number.to_string()}).to_string())
        .collect();
    let file = broker.file("lines.json", objects.join("\n").as_bytes());
    // when
    broker.text(&["send", "orders", "--in", "json", "--file", &file]);
    // then
    let mut places = std::collections::BTreeMap::<String, (u64, i64)>::new();
    let records = json_lines(&broker.text(&["tail", "orders", "--from", "earliest", "--to-end", "--json"]));
    assert_eq!(records.len(), 2000);
    let mut by_partition: Vec<&Value> = records.iter().collect();
    by_partition.sort_by_key(|record| (record["partition"].as_u64(), record["offset"].as_u64()));
    for record in by_partition {
        let partition = record["partition"].as_u64().unwrap();
        let number: i64 = record["value"].as_str().unwrap().parse().unwrap();
        let place = places.entry(record["key"].to_string()).or_insert((partition, -1));
        assert_eq!(place.0, partition, "{record} is not where its key lives");
        assert!(place.1 < number, "{record} came after {}", place.1);
        place.1 = number;
    }
}

#[test]
fn lines_of_stdin_are_records_whatever_is_in_them() {
    // given
    let broker = Broker::start();
    let mut sender = broker.client(&["send", "orders", "-", "--create"]);
    // when
    sender.feed(b"first\n\n  spaced  \n\xff\xfe not text\nlast without end");
    sender.finish().expect_code(0);
    // then
    let records = json_lines(&broker.text(&["tail", "orders", "--from", "earliest", "--to-end", "--json"]));
    let values: Vec<&Value> = records.iter().map(|record| &record["value"]).collect();
    assert_eq!(values[..3], [&json!("first"), &json!(""), &json!("  spaced  ")]);
    assert_eq!(records[3]["value_b64"], json!("//4gbm90IHRleHQ="));
    assert_eq!(values[4], &json!("last without end"));
    assert_eq!(records.len(), 5);
}

#[test]
fn what_tail_prints_as_json_can_be_sent_again_without_loss() {
    // given
    let broker = Broker::start();
    broker.text(&["topic", "create", "a"]);
    broker.text(&["topic", "create", "b"]);
    let objects = [
        json!({"key": "k", "value": "v", "headers": [{"key": "h", "value": "1"}, {"key": "h", "value_b64": "/w=="}]}),
        json!({"key": null, "value": ""}),
        json!({"key": "", "value": null}),
        json!({"key_b64": "/wA=", "value_b64": "AP8="}),
    ];
    let text: Vec<String> = objects.iter().map(Value::to_string).collect();
    let file = broker.file("in.json", text.join("\n").as_bytes());
    broker.text(&["send", "a", "--in", "json", "--file", &file]);
    // when
    let tail = ["--from", "earliest", "--to-end", "--json"];
    let printed = broker.text(&[&["tail", "a"][..], &tail].concat());
    let again = broker.file("again.json", printed.as_bytes());
    broker.text(&["send", "b", "--in", "json", "--file", &again]);
    // then
    let stripped = |topic: &str| -> Vec<Value> {
        let mut records = json_lines(&broker.text(&[&["tail", topic][..], &tail].concat()));
        for record in &mut records {
            let record = record.as_object_mut().expect("an object");
            for place in ["topic", "offset", "timestamp"] {
                assert!(record.remove(place).is_some(), "every record says its {place}");
            }
        }
        records
    };
    assert_eq!(stripped("a"), stripped("b"));
    assert_eq!(stripped("a").len(), objects.len());
}

#[test]
fn a_compressed_file_comes_back_as_it_was() {
    for compression in ["lz4", "zstd"] {
        let broker = Broker::start();
        let lines = Lines::numbered(0, 20_000);
        let file = broker.file("lines.txt", lines.text().as_bytes());
        broker.text(&["send", "orders", "--create", "--compression", compression, "--file", &file]);
        assert!(values(&broker, "orders") == lines.text(), "{compression} changed the text");
    }
}

#[test]
fn a_reader_that_waits_sees_what_is_sent_later() {
    // given
    let broker = Broker::start();
    broker.text(&["topic", "create", "orders"]);
    broker.text(&["send", "orders", "early"]);
    let reader = broker.client(&["tail", "orders", "--from", "earliest", "-f", "%v\\n"]);
    let limit = std::time::Duration::from_secs(30);
    assert_eq!(reader.stdout().next_line(limit).as_deref(), Some("early"));
    // when
    broker.text(&["send", "orders", "late"]);
    // then
    assert_eq!(reader.stdout().next_line(limit).as_deref(), Some("late"));
}
