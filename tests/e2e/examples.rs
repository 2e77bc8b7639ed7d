//! The example programs, with kills on both sides.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use harness::{Broker, Process, example};
use rustix::process::Signal;

use crate::data::values;

const LIMIT: Duration = Duration::from_secs(60);

/// Starts an example that finds its broker by itself.
fn start(broker: &Broker, name: &str, arguments: &[&str]) -> Process {
    let mut command = std::process::Command::new(example(name));
    command.args(arguments).env("WEIR_URL", broker.url());
    Process::start(command, LIMIT)
}

#[test]
fn an_outbox_publishes_each_key_once_however_often_both_sides_are_killed() {
    let mut broker = Broker::start();
    broker.text(&["topic", "create", "orders", "--partitions", "2"]);
    let directory = tempfile::tempdir().expect("temporary directories can be made");
    let lines: String = (0..2000).map(|number| format!("key-{number} value-{number}\n")).collect();
    std::fs::write(directory.path().join("outbox"), &lines).expect("the directory can be written");
    let path = directory.path().to_str().expect("temporary paths are text");
    for round in 0..4 {
        let outbox = start(&broker, "outbox", &[path, "orders"]);
        for _ in 0..150 {
            outbox.stdout().next_line(LIMIT).expect("there is more to publish");
        }
        if round % 2 == 0 {
            broker.kill();
            outbox.signal(Signal::KILL);
            broker.restart();
        } else {
            outbox.signal(Signal::KILL);
        }
    }
    start(&broker, "outbox", &[path, "orders"]).finish().expect_code(0);
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for line in values(&broker, "orders").lines() {
        *counts.entry(line.to_owned()).or_default() += 1;
    }
    assert!(lines.lines().all(|line| counts.get(line) == Some(&1)), "not each line once: {counts:?}");
    assert_eq!(counts.len(), 2000);
}

#[test]
fn accounts_lose_no_update_and_are_never_overdrawn_however_many_change_them_at_once() {
    let broker = Broker::start();
    broker.text(&["topic", "create", "accounts", "--partitions", "2", "--keyed-versions"]);
    let each = |amount, times| {
        let begin = |_| start(&broker, "account", &["accounts", "ann", amount, times]);
        let processes: Vec<Process> = (0..4).map(begin).collect();
        processes.into_iter().map(Process::finish).collect::<Vec<_>>()
    };
    for finished in each("10", "10") {
        finished.expect_code(0);
    }
    // There is enough for 40 of 48 withdrawals.
    let refused =
        each("-10", "12").into_iter().filter(|finished| finished.stderr.contains("cannot spend 10"));
    assert!(refused.count() >= 1, "somebody came too late");
    let amounts: Vec<i64> =
        values(&broker, "accounts").lines().map(|amount| amount.parse().expect("an amount")).collect();
    assert_eq!(amounts.iter().filter(|amount| **amount == 10).count(), 40);
    assert_eq!(amounts.iter().sum::<i64>(), 0);
    let mut balance = 0;
    assert!(amounts.into_iter().all(|amount| {
        balance += amount;
        balance >= 0
    }));
}

/// Posts a body under a key. Gives status and text; nothing if the endpoint went away.
fn post(address: &str, key: &str, body: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    let head = format!(
        "POST /payments HTTP/1.1\r\nHost: x\r\nConnection: close\r\nIdempotency-Key: {key}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + body).as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let status: u16 = answer.split_whitespace().nth(1)?.parse().ok()?;
    let text = answer.split("\r\n\r\n").nth(1)?.trim().to_owned();
    Some((status, text))
}

#[test]
fn an_endpoint_answers_a_repeated_request_as_it_did_before_also_after_kills() {
    let mut broker = Broker::start();
    broker.text(&["topic", "create", "payments"]);
    let endpoint = |broker: &Broker| {
        let process = start(broker, "payments", &["payments", "127.0.0.1:0"]);
        let ready = process.stdout().next_line(LIMIT).expect("it becomes ready");
        let address = ready.strip_prefix("ready http://").expect("its address").to_owned();
        (process, address)
    };
    let (process, address) = endpoint(&broker);
    let first = post(&address, "pay-7", "100 EUR").expect("an answer");
    assert_eq!(first, (201, "0:0".to_owned()));
    assert_eq!(post(&address, "pay-7", "100 EUR"), Some((200, "0:0".to_owned())));
    assert_eq!(post(&address, "pay-7", "200 EUR").expect("an answer").0, 422);
    let old = post(&address, "017f22e2-79b0-7cc3-98c4-dc0c0c07398f", "1 EUR").expect("an answer");
    assert_eq!(old.0, 410);
    assert_eq!(post(&address, &"x".repeat(65), "1 EUR").expect("an answer").0, 400);

    process.signal(Signal::KILL);
    broker.kill();
    broker.restart();
    let (_process, address) = endpoint(&broker);
    assert_eq!(post(&address, "pay-7", "100 EUR"), Some((200, "0:0".to_owned())));
    assert_eq!(post(&address, "pay-8", "100 EUR"), Some((201, "0:1".to_owned())));
    assert_eq!(values(&broker, "payments"), "100 EUR\n100 EUR\n");
}

#[test]
fn a_replay_prints_what_was_published_since_a_moment() {
    let broker = Broker::start();
    broker.text(&["topic", "create", "orders"]);
    broker.text(&["send", "orders", "first"]);
    broker.text(&["send", "orders", "second"]);
    let replayed =
        |seconds: &str| start(&broker, "replay", &["orders", seconds]).finish().expect_code(0).text();
    assert_eq!(replayed("3600"), "0 0 first\n0 1 second\nreplayed 2\n");
    assert_eq!(replayed("0"), "replayed 0\n", "nothing is newer than now");
    assert_eq!(broker.json(&["group", "ls", "--json"]), serde_json::json!([]));
}

#[test]
fn a_worker_enters_each_payment_also_over_kills_and_sets_aside_what_is_none() {
    let broker = Broker::start();
    broker.text(&["topic", "create", "payments", "--partitions", "2"]);
    let amounts: String = (1..=300).map(|amount| format!("{amount}\n")).collect();
    let file = broker.file("amounts.txt", (amounts + "a lot\n").as_bytes());
    broker.text(&["send", "payments", "--file", &file]);
    let directory = tempfile::tempdir().expect("temporary directories can be made");
    let database = directory.path().join("database");
    let ledger = database.join("ledger");
    let work = || start(&broker, "worker", &["payments", "book", ledger.to_str().expect("paths are text")]);

    let down = work();
    assert_eq!(down.stdout().next_line(LIMIT).as_deref(), Some("waiting for the ledger"));
    std::fs::create_dir(&database).expect("the directory can be written");
    number_behind(&down, "entered ");
    down.signal(Signal::KILL);
    let last = work();
    let entered = || {
        let text = std::fs::read_to_string(&ledger).unwrap_or_default();
        text.lines().filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect::<BTreeSet<u32>>()
    };
    while entered().len() < 300 {
        last.stdout().next_line(LIMIT).expect("there is more to enter");
    }
    let letters = || broker.text(&["dlq", "show", "payments.dlq", "--json"]);
    let since = Instant::now();
    while !letters().contains("'a lot' is no amount") {
        assert!(since.elapsed() < LIMIT, "{}", letters());
    }
    last.signal(Signal::TERM);
    last.finish().expect_code(0);
    assert!(entered().into_iter().eq(1..=300));
    assert_eq!(letters().lines().count(), 1, "an outage is no reason to set a payment aside");
    let shown = broker.json(&["group", "show", "book", "--json"]);
    let lags = shown["partitions"].as_array().expect("partitions").iter().map(|item| item["lag"].as_u64());
    assert_eq!(lags.collect::<Vec<_>>(), [Some(0), Some(0)], "what was entered is settled: {shown}");
}

#[test]
fn each_record_takes_effect_once_in_a_database_however_often_its_reader_is_killed() {
    let mut broker = Broker::start();
    broker.text(&["topic", "create", "texts", "--partitions", "2"]);
    let words: String = (0..2000).map(|number| format!("word-{number}\n")).collect();
    let file = broker.file("words.txt", words.as_bytes());
    broker.text(&["send", "texts", "--file", &file]);
    let directory = tempfile::tempdir().expect("temporary directories can be made");
    let path = directory.path().join("words.db");
    let count = |broker: &Broker| start(broker, "sqlite", &["texts", path.to_str().expect("paths are text")]);
    for round in 0..3 {
        let reader = count(&broker);
        number_behind(&reader, "counted ");
        reader.signal(Signal::KILL);
        if round == 1 {
            broker.kill();
            broker.restart();
        }
    }
    let last = count(&broker);
    let had = last.stdout().next_line(LIMIT).expect("it says where it begins");
    let had = had.strip_prefix("has ").and_then(|had| had.split(' ').next()?.parse::<u64>().ok());
    let mut counted = had.expect("a number");
    assert!(counted > 0, "it goes on where another was killed");
    while counted < 2000 {
        counted += number_behind(&last, "counted ");
    }
    last.signal(Signal::KILL);
    let after = count(&broker).stdout().next_line(LIMIT);
    assert_eq!(after.as_deref(), Some("has 2000 of 2000"));
}

/// The next line that begins so, and the number behind it.
fn number_behind(process: &Process, what: &str) -> u64 {
    loop {
        let line = process.stdout().next_line(LIMIT).expect("a line comes");
        if let Some(number) = line.strip_prefix(what) {
            return number.trim().parse().expect("a number");
        }
    }
}

#[test]
fn a_job_is_done_by_one_process_at_a_time_and_by_another_after_a_kill() {
    let broker = Broker::start();
    let directory = tempfile::tempdir().expect("temporary directories can be made");
    let ledger = directory.path().join("ledger");
    let path = ledger.to_str().expect("temporary paths are text");
    let first = start(&broker, "cron", &["nightly", path]);
    let token = number_behind(&first, "leader ");
    let second = start(&broker, "cron", &["nightly", path]);
    for _ in 0..3 {
        assert_eq!(first.stdout().next_line(LIMIT).as_deref(), Some("ran"));
    }
    first.signal(Signal::KILL);
    let next = number_behind(&second, "leader ");
    assert!(next > token);
    for _ in 0..2 {
        assert_eq!(second.stdout().next_line(LIMIT).as_deref(), Some("ran"));
    }
    second.signal(Signal::KILL);
    let text = std::fs::read_to_string(&ledger).expect("the ledger can be read");
    let tokens: Vec<u64> = text.lines().filter_map(|line| line.strip_suffix(" ran")?.parse().ok()).collect();
    assert!(tokens.is_sorted() && tokens.contains(&token) && tokens.contains(&next), "{text}");
}
