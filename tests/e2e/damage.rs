//! Damage on the disk of the real binary: what can be served is, the rest is named, and nothing is given up unasked.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a panic in a test is a failure with a line number"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use harness::{Broker, Weir, json_lines};
use serde_json::Value;

/// The files of a part of the data directory with this extension, in order.
fn files(data: &Path, part: &str, extension: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(data.join(part)).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = paths.filter(|path| path.extension().is_some_and(|it| it == extension)).collect();
    found.sort();
    found
}

/// Every file of a data directory that a start might change, with its bytes.
fn snapshot(data: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut directories = vec![data.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else {
                files.insert(path.clone(), std::fs::read(path).unwrap());
            }
        }
    }
    files
}

/// Flips a bit of a file.
fn flip(path: &Path, byte: u64) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[usize::try_from(byte).unwrap()] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

const TAIL: [&str; 7] = ["tail", "orders", "--from", "earliest", "--to-end", "-f", "%v\\n"];

/// Prints what is there of a topic of which offsets are missing; returns what was printed.
fn tail_with_gap(broker: &Broker, missing: &str) -> String {
    let ended = broker.run(&TAIL).expect_code(7);
    assert!(ended.stderr.contains("WEIR-5007") && ended.stderr.contains(missing), "{}", ended.stderr);
    ended.text()
}

#[test]
fn without_a_segment_the_broker_starts_serves_the_rest_and_names_what_is_missing() {
    // given: three segments, the first of which is lost, and the index of the last
    let mut broker = Broker::start();
    broker.text(&["topic", "create", "orders"]);
    for value in ["first", "second", "third"] {
        broker.text(&["send", "orders", value]);
        broker.terminate().expect_code(0);
        broker.restart();
    }
    broker.terminate().expect_code(0);
    let data = broker.data_directory();
    let segments = files(&data, "segments", "seg");
    assert_eq!(segments.len(), 3, "each stop writes a segment");
    std::fs::remove_file(&segments[0]).unwrap();
    std::fs::remove_file(segments[2].with_extension("idx")).unwrap();
    // when
    broker.restart();
    // then
    assert_eq!(tail_with_gap(&broker, "offsets 0..1 are damaged"), "second\nthird\n");
    broker.text(&["send", "orders", "fourth"]);
    assert_eq!(tail_with_gap(&broker, "offsets 0..1 are damaged"), "second\nthird\nfourth\n");
    broker.terminate().expect_code(0);
    // and: a segment whose end was cut off is read as far as it goes
    let cut = std::fs::OpenOptions::new().write(true).open(&segments[1]).unwrap();
    cut.set_len(4100).unwrap();
    broker.restart();
    assert_eq!(tail_with_gap(&broker, "offsets 0..2 are damaged"), "third\nfourth\n");
    // and: the loss can be accepted, then nothing complains but who reads it
    broker.terminate().expect_code(0);
    let data = data.to_str().unwrap();
    let found = broker.weir().run(&["verify", data, "--repair-plan"]).expect_code(1);
    assert!(found.text().contains("--accept-loss orders/0:0..2"), "{}", found.text());
    broker.weir().text(&["repair", data, "--accept-loss", "orders/0:0..2"]);
    assert!(broker.weir().text(&["verify", data]).contains("sound, some given up"));
    broker.restart();
    assert_eq!(tail_with_gap(&broker, "offsets 0..2 are damaged"), "third\nfourth\n");
}

/// The blocks with records of the first journal file, by `weir dump`.
fn blocks(weir: &Weir, file: &Path) -> Vec<Value> {
    let items = json_lines(&weir.text(&["dump", file.to_str().unwrap(), "--json"]));
    let mut blocks = Vec::new();
    let mut block = Value::Null;
    for item in items {
        match item["kind"].as_str() {
            Some("block") => block = item,
            Some("append") => blocks.push(block.clone()),
            _ => {}
        }
    }
    blocks
}

#[test]
fn a_start_with_damaged_unflushed_records_is_refused_until_they_are_given_up() {
    // given: five records that only the journal holds, the second of which rots
    let mut broker = Broker::start();
    broker.text(&["topic", "create", "orders"]);
    for value in ["one", "two", "three", "four", "five"] {
        broker.text(&["send", "orders", value]);
    }
    broker.kill();
    let data = broker.data_directory();
    let journal = files(&data, "journal", "wal").remove(0);
    let blocks = blocks(broker.weir(), &journal);
    assert_eq!(blocks.len(), 5, "each record is a block of its own");
    flip(&journal, blocks[1]["from"].as_u64().unwrap() + 150);
    let before = snapshot(&data);
    // when
    let path = data.to_str().unwrap();
    let serve = ["serve", "--listen", "127.0.0.1:0", "--data-dir", path];
    let refused = broker.weir().run(&serve).expect_code(1);
    // then: the verdict says where and how it is known, and nothing was changed
    for part in
        ["WEIR-5009", "acknowledged data is damaged", "0000.wal", "proof", "nothing was changed", "verify"]
    {
        assert!(refused.stderr.contains(part), "no {part:?} in {}", refused.stderr);
    }
    assert!(snapshot(&data) == before, "a refused start has changed something");
    let dumped = broker.weir().run(&["dump", journal.to_str().unwrap()]).expect_code(1);
    assert!(dumped.text().contains("DAMAGED") && dumped.stderr.contains("WEIR-5011"), "{}", dumped.stderr);

    // when: the plan is asked for, the range is changed, and nothing is accepted
    let plan = broker.weir().run(&["verify", path, "--repair-plan", "--json"]).expect_code(1);
    let plan: Value = serde_json::from_str(&plan.text()).unwrap();
    let command = plan["repair_plan"]["command"].as_str().unwrap();
    let range = command.split_once("--accept-loss ").unwrap().1;
    assert!(range.starts_with("journal:"), "{command}");
    let none = broker.weir().run(&["repair", path]).expect_code(2);
    assert!(none.stderr.contains("--accept-loss"), "{}", none.stderr);
    let other = broker.weir().run(&["repair", path, "--accept-loss", "journal:0..4096"]).expect_code(4);
    assert!(other.stderr.contains(range), "{}", other.stderr);
    // then
    assert!(snapshot(&data) == before, "nothing was accepted, but something has changed");

    // when: exactly what is damaged is accepted
    let done = broker.weir().text(&["repair", path, "--accept-loss", range]);
    // then: it is kept, and the rest is served
    assert!(done.contains("kept in") && done.contains("recorded in"), "{done}");
    let kept = files(&data, "quarantine", "lost");
    let fragment = broker.weir().run(&["dump", kept[0].to_str().unwrap(), "--records"]);
    assert!(fragment.text().contains("block"), "{}", fragment.text());
    broker.weir().text(&["verify", path]);
    broker.restart();
    assert_eq!(tail_with_gap(&broker, "offsets 1..2 are damaged"), "one\nthree\nfour\nfive\n");
    let again = broker.weir().run(&["repair", path, "--accept-loss", range]).expect_code(1);
    assert!(again.stderr.contains("in use"), "a running broker is left alone: {}", again.stderr);
    broker.text(&["send", "orders", "six"]);
}

#[test]
fn a_data_directory_is_listed_and_its_files_are_shown() {
    let mut broker = Broker::start();
    broker.text(&["send", "orders", "hello", "--create", "-k", "user-42"]);
    broker.terminate().expect_code(0);
    let data = broker.data_directory();
    let listed = broker.weir().json(&["dump", data.to_str().unwrap(), "--json"]);
    let kinds: Vec<&str> =
        listed.as_array().unwrap().iter().filter_map(|file| file["kind"].as_str()).collect();
    for kind in ["manifest", "journal", "segment", "index", "state"] {
        assert!(kinds.contains(&kind), "no {kind} in {listed}");
    }
    for file in listed.as_array().unwrap().iter().filter(|file| file["kind"] != "other") {
        let path = file["file"].as_str().unwrap();
        assert!(!broker.weir().text(&["dump", path]).is_empty(), "{path}");
    }
    let segment = &files(&data, "segments", "seg")[0];
    let shown = broker.weir().text(&["dump", segment.to_str().unwrap(), "--records"]);
    assert!(shown.contains("key=user-42") && shown.contains("value_bytes=5 value=hello"), "{shown}");
    let foreign = broker.file("notes.txt", b"nothing of Weir's");
    let refused = broker.weir().run(&["dump", &foreign]).expect_code(1);
    assert!(refused.stderr.contains("notes.txt"), "{}", refused.stderr);
}
