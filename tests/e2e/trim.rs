//! Records that were given up stay away, and no others go.

use harness::{Broker, Lines};
use serde_json::{Value, json};

use crate::data::values;

/// A broker with a topic of one partition with 1,000 lines.
fn broker() -> (Broker, Lines) {
    let broker = Broker::start();
    let lines = Lines::numbered(0, 1000);
    let file = broker.file("lines.txt", lines.text().as_bytes());
    broker.text(&["send", "orders", "--create", "--file", &file]);
    (broker, lines)
}

/// The lines from one on.
fn from(lines: &Lines, first: usize) -> String {
    lines.text().lines().skip(first).map(|line| format!("{line}\n")).collect()
}

#[test]
fn what_was_trimmed_stays_away_after_a_kill_right_after_the_answer() {
    let (mut broker, lines) = broker();
    for before in [1, 400, 1000] {
        // when
        let text = before.to_string();
        let trimmed = broker.json(&["topic", "trim", "orders", "--before", &text, "--yes", "--json"]);
        broker.kill();
        broker.restart();
        // then
        assert_eq!(trimmed["partitions"][0]["start_offset"], json!(before));
        assert_eq!(values(&broker, "orders"), from(&lines, before));
        let shown = broker.json(&["topic", "show", "orders", "--json"]);
        assert_eq!(shown["partitions"][0]["start_offset"], json!(before), "{shown}");
        assert_eq!(shown["partitions"][0]["end_offset"], json!(1000), "{shown}");
        // A start below what is kept is refused with both bounds.
        let early = broker.run(&["tail", "orders", "--from", "@0", "--to-end"]);
        assert_ne!(early.code, Some(0));
        assert!(early.stderr.contains(&format!("{before} to 1000")), "{}", early.stderr);
    }
    // Once more changes nothing, and offsets go on where they were.
    let again = broker.json(&["topic", "trim", "orders", "--before", "7", "--yes", "--json"]);
    assert_eq!(again["partitions"][0]["records"], json!(0), "{again}");
    broker.text(&["send", "orders", "next"]);
    assert_eq!(values(&broker, "orders"), "next\n");
    let shown = broker.json(&["topic", "show", "orders", "--json"]);
    assert_eq!(shown["partitions"][0]["end_offset"], json!(1001), "{shown}");
}

#[test]
fn a_trim_that_is_not_meant_or_not_possible_changes_nothing() {
    let (broker, lines) = broker();
    broker.text(&["topic", "create", "wide", "--partitions", "2"]);
    let refused = |arguments: &[&str], code: i32, says: &str| {
        let finished = broker.run(&[&["topic", "trim"], arguments].concat()).expect_code(code);
        assert!(finished.stderr.contains(says), "{arguments:?}: {}", finished.stderr);
    };
    refused(&["orders", "--before", "10"], 2, "--yes");
    refused(&["orders", "--yes"], 2, "--before");
    refused(&["orders", "--before", "10", "--before-time", "1h", "--yes"], 2, "--before-time");
    refused(&["orders", "--before", "1001", "--yes"], 1, "0..=1000");
    refused(&["orders", "--before", "1", "--partition", "1", "--yes"], 3, "WEIR-2005");
    refused(&["other", "--before", "1", "--yes"], 3, "WEIR-2001");
    refused(&["wide", "--before", "1", "--yes"], 2, "--partition");
    let dry = broker.json(&["topic", "trim", "orders", "--before", "10", "--dry-run", "--json"]);
    assert_eq!(dry["partitions"][0]["records"], json!(10), "{dry}");
    assert_eq!(values(&broker, "orders"), lines.text());
}

#[test]
fn a_time_trims_every_partition_at_its_own_place() {
    // given: records before and after a moment, in two partitions, the early ones in segments
    let mut broker = Broker::start();
    broker.text(&["topic", "create", "wide", "--partitions", "2"]);
    for partition in ["0", "1"] {
        broker.text(&["send", "wide", "early", "--partition", partition]);
    }
    broker.kill();
    broker.restart();
    // A topic is made at a moment that the broker tells.
    broker.text(&["topic", "create", "clock"]);
    broker.text(&["send", "wide", "late", "--partition", "0"]);
    let shown = broker.text(&["topic", "show", "clock"]);
    let created = shown.lines().find_map(|line| line.strip_prefix("created")).expect("a line says it");
    // when
    let trimmed = broker.json(&["topic", "trim", "wide", "--before-time", created.trim(), "--yes", "--json"]);
    // then
    let starts: Vec<&Value> =
        (0..2).map(|partition| &trimmed["partitions"][partition]["start_offset"]).collect();
    assert_eq!(starts, [&json!(1), &json!(1)], "{trimmed}");
    assert_eq!(values(&broker, "wide"), "late\n");
}
