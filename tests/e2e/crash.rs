//! A broker that dies in the middle loses nothing it said it had, and one `weir send` stores nothing twice.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use harness::{Broker, Lines, Process, json_lines, multiset};
use serde_json::{Value, json};

use crate::data::values;
use crate::faults::wait_until;

const LIMIT: Duration = Duration::from_secs(60);

/// Waits for the receipts of this many more records.
fn receipts(sender: &Process, count: usize) -> Vec<Value> {
    let line = |_| sender.stdout().next_line(LIMIT).expect("the sender still runs");
    let lines: Vec<String> = (0..count).map(line).collect();
    json_lines(&lines.join("\n"))
}

#[test]
fn one_send_survives_a_kill_and_stores_every_line_once_in_order() {
    // given: a send that has receipts for some records and has just been given more
    let mut broker = Broker::start();
    broker.text(&["topic", "create", "orders"]);
    let parts: Vec<Lines> = (0..4).map(|part| Lines::numbered(part * 5000, 5000)).collect();
    let mut sender = broker.client(&["send", "orders", "-", "--receipts", "--timeout", "60s"]);
    sender.feed(parts[0].text().as_bytes());
    receipts(&sender, 1000);
    for part in &parts[1..] {
        // when
        sender.feed(part.text().as_bytes());
        broker.kill();
        broker.restart();
    }
    // then
    let ended = sender.finish().expect_code(0);
    let all: String = parts.iter().map(Lines::text).collect();
    assert!(values(&broker, "orders") == all, "what is stored is not what was sent");
    let mut offsets = vec![None; 20_000];
    for receipt in json_lines(&ended.text()) {
        let record = usize::try_from(receipt["record"].as_u64().unwrap()).unwrap();
        assert!(
            offsets[record].replace(receipt["offset"].as_u64().unwrap()).is_none(),
            "two receipts: {receipt}"
        );
        assert_eq!(receipt["durability"], json!("durable"));
    }
    for (record, offset) in offsets.into_iter().enumerate() {
        assert_eq!(offset, Some(record as u64), "receipt of record {record}");
    }
}

#[test]
fn sixteen_partitions_survive_kills_without_loss_or_duplicate() {
    // given
    let mut broker = Broker::start();
    broker.text(&["topic", "create", "orders", "--partitions", "16"]);
    let lines = Lines::numbered(0, 200_000);
    let file = broker.file("lines.txt", lines.text().as_bytes());
    let sender = broker.client(&["send", "orders", "--file", &file, "--receipts", "--timeout", "60s"]);
    for _ in 0..3 {
        // when
        receipts(&sender, 20_000);
        broker.kill();
        broker.restart();
    }
    // then
    sender.finish().expect_code(0);
    let back = values(&broker, "orders");
    assert!(multiset(&back) == multiset(lines.text()), "lines were lost, doubled or changed");
}

/// What changes in a data directory at a moment to kill at.
type Moment = fn(&Path) -> u64;

/// A number of 8 bytes in a file of a data directory; 0 while it cannot be read.
fn number(path: &Path, at: u64) -> u64 {
    let mut field = [0; 8];
    let read = File::open(path).and_then(|file| file.read_exact_at(&mut field, at));
    read.map_or(0, |()| u64::from_le_bytes(field))
}

/// Which checkpoint is the newest.
fn generation(data: &Path) -> u64 {
    number(&data.join("manifest-0"), 40).max(number(&data.join("manifest-1"), 40))
}

/// Where the last journal file begins that has a place.
fn last_base(data: &Path) -> u64 {
    let base = |file: u32| number(&data.join(format!("journal/{file:04}.wal")), 64);
    (0..8).map(base).filter(|base| *base != u64::MAX).max().unwrap_or(0)
}

#[test]
fn kills_at_rolls_at_checkpoints_and_during_starts_lose_and_double_nothing() {
    // given
    let mut broker = Broker::start_with(&["--flush-bytes", "1MiB"]);
    broker.text(&["topic", "create", "orders", "--partitions", "4"]);
    let data = broker.data_directory();
    let mut sender = broker.client(&["send", "orders", "-", "--receipts", "--timeout", "60s"]);
    // More than half of a journal file, so that the next one gets its place; then more than one flush each.
    let (first, second, third) =
        (Lines::numbered(0, 160_000), Lines::numbered(160_000, 20_000), Lines::numbered(180_000, 20_000));
    let moments: [(&str, Moment, &Lines); 3] = [
        ("roll", last_base, &first),
        ("checkpoint", generation, &second),
        ("checkpoint", generation, &third),
    ];
    for (name, moment, lines) in moments {
        let before = moment(&data);
        std::thread::scope(|scope| {
            scope.spawn(|| sender.feed(lines.text().as_bytes()));
            wait_until(name, || moment(&data) != before);
            // when
            broker.kill();
            let before = generation(&data);
            broker.restart_and_kill(|| generation(&data) != before);
            broker.restart();
        });
    }
    // then
    sender.finish().expect_code(0);
    let back = values(&broker, "orders");
    let all: String = [first, second, third].iter().map(Lines::text).collect();
    assert!(multiset(&back) == multiset(&all), "lines were lost, doubled or changed");
}

#[test]
fn what_has_a_receipt_is_there_after_a_kill() {
    // given
    let mut broker = Broker::start();
    broker.text(&["topic", "create", "orders", "--partitions", "4"]);
    let lines = Lines::numbered(0, 10_000);
    let file = broker.file("lines.txt", lines.text().as_bytes());
    let printed = broker.text(&["send", "orders", "--file", &file, "--receipts"]);
    // when
    broker.kill();
    broker.restart();
    // then
    let place = |record: &Value| (record["partition"].as_u64(), record["offset"].as_u64());
    let mut receipts: Vec<_> = json_lines(&printed).iter().map(place).collect();
    let tail = broker.text(&["tail", "orders", "--from", "earliest", "--to-end", "--json"]);
    let mut stored: Vec<_> = json_lines(&tail).iter().map(place).collect();
    receipts.sort_unstable();
    stored.sort_unstable();
    assert_eq!(receipts.len(), lines.count());
    assert!(receipts == stored, "receipts and records differ");
}

#[test]
fn a_reader_goes_on_after_a_kill_without_gap_or_repetition() {
    // given
    let mut broker = Broker::start();
    broker.text(&["topic", "create", "orders"]);
    let (before, after) = (Lines::numbered(0, 1000), Lines::numbered(1000, 1000));
    let file = broker.file("before.txt", before.text().as_bytes());
    broker.text(&["send", "orders", "--file", &file]);
    let reader = broker.client(&["tail", "orders", "--from", "earliest", "-f", "%v\\n"]);
    let mut seen = String::new();
    let mut read = |count: usize| {
        for _ in 0..count {
            seen += &reader.stdout().next_line(LIMIT).expect("the reader still runs");
            seen += "\n";
        }
    };
    read(1000);
    // when
    broker.kill();
    broker.restart();
    let file = broker.file("after.txt", after.text().as_bytes());
    broker.text(&["send", "orders", "--file", &file]);
    read(1000);
    // then
    assert!(seen == format!("{}{}", before.text(), after.text()), "the reader saw something else");
}

#[test]
fn a_broker_that_stays_away_ends_a_send_with_the_number_of_open_records() {
    // given
    let mut broker = Broker::start();
    broker.text(&["topic", "create", "orders"]);
    let mut sender = broker.client(&["send", "orders", "-", "--receipts", "--timeout", "3s"]);
    sender.feed(b"stored\n");
    receipts(&sender, 1);
    // when
    broker.kill();
    sender.feed(b"lost 1\nlost 2\nlost 3\n");
    // then
    let ended = sender.finish().expect_code(5);
    assert!(ended.stderr.contains('3'), "3 records have no receipt: {}", ended.stderr);
    assert!(ended.took < Duration::from_secs(60), "it took {:?}", ended.took);
}
