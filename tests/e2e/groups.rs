//! Consumer groups of the real binary: nothing that was acknowledged comes again, and nothing is left out.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use harness::{Broker, Lines, Process};
use rustix::process::Signal;
use serde_json::{Value, json};

/// Longest wait for something that must happen.
const LIMIT: Duration = Duration::from_secs(60);

/// A broker with a topic of four partitions with so many lines in each; and all lines.
fn broker(count: usize) -> (Broker, BTreeSet<String>) {
    let broker = Broker::start();
    broker.text(&["topic", "create", "orders", "--partitions", "4"]);
    let lines = (0..4).flat_map(|partition| send(&broker, partition, count)).collect();
    (broker, lines)
}

/// Sends so many lines to a partition.
fn send(broker: &Broker, partition: usize, count: usize) -> Vec<String> {
    let lines = Lines::numbered(partition * 1_000_000, count);
    let file = broker.file("lines.txt", lines.text().as_bytes());
    if count > 0 {
        broker.text(&["send", "orders", "--partition", &partition.to_string(), "--file", &file]);
    }
    lines.text().lines().map(str::to_owned).collect()
}

fn show(broker: &Broker) -> Value {
    broker.json(&["group", "show", "billing", "--json"])
}

fn partitions(shown: &Value) -> &[Value] {
    shown["partitions"].as_array().expect("a list of partitions")
}

/// A number of each partition, in order.
fn numbers(shown: &Value, name: &str) -> Vec<u64> {
    partitions(shown).iter().map(|item| item[name].as_u64().expect(name)).collect()
}

/// Owners of the partitions, each once.
fn owners(shown: &Value) -> BTreeSet<String> {
    partitions(shown).iter().filter_map(|item| item["owner"].as_str().map(str::to_owned)).collect()
}

/// Whether every partition has an owner that keeps it.
fn is_shared_out(shown: &Value) -> bool {
    partitions(shown).iter().all(|item| item["owner"].is_string() && item["revoked"] == json!(false))
}

/// Waits until what is shown of the group is as it should be.
fn wait_until(broker: &Broker, is_so: impl Fn(&Value) -> bool) -> Value {
    let since = Instant::now();
    loop {
        // The first member makes the group.
        let shown = broker.json(&["group", "ls", "--json"]);
        if let Some(group) = shown.get(0).filter(|group| is_so(group)) {
            return group.clone();
        }
        assert!(since.elapsed() < LIMIT, "{shown}");
    }
}

fn next_lines(member: &Process, count: usize) -> Vec<String> {
    (0..count).map(|_| member.stdout().next_line(LIMIT).expect("a line comes")).collect()
}

#[test]
fn each_record_is_printed_once_by_one_tail_after_the_other_also_over_a_kill_of_the_broker() {
    let (mut broker, lines) = broker(250);
    let mut seen: Vec<String> = Vec::new();
    for count in ["300", "1", "199", "500"] {
        let printed = broker.text(&["tail", "orders", "-g", "billing", "--from", "earliest", "-n", count]);
        seen.extend(printed.lines().map(str::to_owned));
        // What was acknowledged before the command ended survives.
        broker.kill();
        broker.restart();
        let committed: u64 = 1_000 - numbers(&show(&broker), "lag").iter().sum::<u64>();
        assert_eq!(committed, seen.len() as u64);
    }
    assert_eq!(seen.len(), 1_000);
    assert_eq!(BTreeSet::from_iter(seen), lines);
    let shown = show(&broker);
    assert_eq!(numbers(&shown, "committed"), numbers(&shown, "end_offset"));
    assert_eq!((owners(&shown), &shown["members"]), (BTreeSet::new(), &json!([])));
}

#[test]
fn members_share_the_partitions_and_one_that_leaves_gives_its_own_back() {
    let (broker, _none) = broker(0);
    let member = |name: &str| {
        broker.client(&["tail", "orders", "-g", "billing", "--from", "earliest", "--member", name])
    };
    let (left, right) = (member("left"), member("right"));
    let both: BTreeSet<String> = ["left".to_owned(), "right".to_owned()].into();
    let shown = wait_until(&broker, |shown| is_shared_out(shown) && owners(shown) == both);
    let counts: Vec<&Value> =
        shown["members"].as_array().unwrap().iter().map(|item| &item["partitions"]).collect();
    assert_eq!(counts, [&json!(2), &json!(2)], "{shown}");
    let mut expected: Vec<String> = (0..4).flat_map(|partition| send(&broker, partition, 10)).collect();
    wait_until(&broker, |shown| numbers(shown, "lag").iter().sum::<u64>() == 0);
    left.signal(Signal::TERM);
    let left = left.finish().expect_code(130);
    let shown = wait_until(&broker, |shown| owners(shown) == ["right".to_owned()].into());
    assert_eq!(
        shown["members"].as_array().unwrap().len(),
        1,
        "it has left, and was not only silent: {shown}"
    );
    broker.text(&["send", "orders", "last", "--partition", "0"]);
    wait_until(&broker, |shown| numbers(shown, "lag").iter().sum::<u64>() == 0);
    right.signal(Signal::TERM);
    let right = right.finish().expect_code(130);
    let mut printed: Vec<String> = [left.text(), right.text()].concat().lines().map(str::to_owned).collect();
    printed.sort();
    expected.push("last".to_owned());
    expected.sort();
    assert_eq!(printed, expected);
    assert!(!left.text().is_empty() && !right.text().is_empty(), "both had a share");
}

#[test]
fn what_a_killed_member_had_goes_to_another_once_its_lease_has_run_out() {
    let (broker, lines) = broker(25);
    let arguments = ["tail", "orders", "-g", "billing", "--from", "earliest", "--lease", "1s", "--member"];
    let killed = broker.client(&[&arguments[..], &["killed"]].concat());
    let first = next_lines(&killed, 100);
    let heir = broker.client(&[&arguments[..], &["heir"]].concat());
    wait_until(&broker, |shown| owners(shown).contains("heir"));
    killed.signal(Signal::KILL);
    let since = Instant::now();
    wait_until(&broker, |shown| is_shared_out(shown) && owners(shown) == ["heir".to_owned()].into());
    assert!(since.elapsed() < Duration::from_secs(20), "it took {:?}", since.elapsed());
    broker.text(&["send", "orders", "after", "--partition", "0"]);
    broker.text(&["send", "orders", "after", "--partition", "3"]);
    wait_until(&broker, |shown| numbers(shown, "lag").iter().sum::<u64>() == 0);
    heir.signal(Signal::TERM);
    let heir = heir.finish().expect_code(130).text();
    assert_eq!(BTreeSet::from_iter(first.iter().cloned()), lines);
    // At least once: what was printed just before the kill may come again, and nothing else.
    assert_eq!(heir.lines().filter(|line| *line == "after").count(), 2);
    assert!(heir.lines().all(|line| line == "after" || first.iter().any(|before| before == line)), "{heir}");
}

#[test]
fn a_reset_moves_a_group_also_while_it_has_members() {
    let (broker, all) = broker(50);
    let reset = |arguments: &[&str]| {
        broker.json(&[&["group", "reset", "billing", "--json", "--to"], arguments].concat())
    };
    let member = broker.client(&["tail", "orders", "-g", "billing", "--from", "earliest"]);
    assert_eq!(BTreeSet::from_iter(next_lines(&member, 200)), all);
    wait_until(&broker, |shown| numbers(shown, "lag").iter().sum::<u64>() == 0);
    let before = numbers(&show(&broker), "committed");
    let planned = reset(&["earliest", "--dry-run"]);
    assert_eq!(numbers(&planned, "from"), before);
    assert_eq!((numbers(&planned, "to"), numbers(&show(&broker), "committed")), (vec![0; 4], before));
    reset(&["earliest"]);
    assert_eq!(BTreeSet::from_iter(next_lines(&member, 200)), all, "everything comes again");
    wait_until(&broker, |shown| numbers(shown, "lag").iter().sum::<u64>() == 0);
    member.signal(Signal::TERM);
    assert_eq!(member.finish().expect_code(130).text().lines().count(), 400);
    reset(&["latest"]);
    reset(&["@3", "--partition", "2"]);
    let shown = show(&broker);
    let ends = numbers(&shown, "end_offset");
    assert_eq!(numbers(&shown, "committed"), [ends[0], ends[1], 3, ends[3]]);
    reset(&["1h"]);
    assert_eq!(numbers(&show(&broker), "committed"), [0; 4]);
    let beyond = broker.run(&["group", "reset", "billing", "--to", "@999999", "--partition", "1"]);
    assert!(beyond.expect_code(1).stderr.contains("WEIR-4001"));
}

#[test]
fn it_is_shown_how_far_behind_a_group_is_and_what_its_members_wait_for() {
    let (broker, _lines) = broker(50);
    broker.text(&["tail", "orders", "-g", "billing", "--from", "earliest", "-n", "20"]);
    let shown = show(&broker);
    assert_eq!(numbers(&shown, "lag").iter().sum::<u64>(), 180);
    for partition in partitions(&shown) {
        let told =
            |name: &str| partition[name].as_u64().unwrap_or_else(|| panic!("no {name} in {partition}"));
        assert!(told("lag_bytes") > told("lag") && told("lag_ms") < 3_600_000, "{partition}");
        let first = format!("@{}", partition["committed"]);
        let number = partition["partition"].to_string();
        let read = ["tail", "orders", "--partition", &number, "--from", &first, "-n", "1", "--json"];
        let record: Value = serde_json::from_str(&broker.text(&read)).expect("a record");
        assert_eq!(partition["oldest_unacked"], record["timestamp"]);
    }
    let member = broker.client(&["tail", "orders", "-g", "billing"]);
    next_lines(&member, 180);
    let waits = |shown: &Value| shown["members"][0]["waits_for"] == json!(["records"]);
    let shown = wait_until(&broker, |shown| waits(shown) && numbers(shown, "lag") == [0; 4]);
    assert_eq!(numbers(&shown, "lag_bytes"), [0; 4]);
    assert!(
        partitions(&shown)
            .iter()
            .all(|item| item["oldest_unacked"].is_null() && item["waits_for"] == "records")
    );
    member.signal(Signal::TERM);
    member.finish().expect_code(130);
}

#[test]
fn what_cannot_be_done_has_a_code_and_changes_nothing() {
    let (broker, _lines) = broker(3);
    let fails = |arguments: &[&str], code: i32, says: &str| {
        let finished = broker.run(arguments).expect_code(code);
        assert!(finished.stderr.contains(says), "{arguments:?}: {}", finished.stderr);
    };
    fails(&["group", "show", "billing"], 3, "WEIR-4101");
    fails(&["group", "reset", "billing", "--to", "latest"], 3, "WEIR-4101");
    fails(&["tail", "nothing", "-g", "billing"], 3, "WEIR-2001");
    fails(&["tail", "orders", "-g", "a b", "-n", "1"], 2, "WEIR-2003");
    let member = broker.client(&["tail", "orders", "-g", "billing", "--from", "earliest"]);
    next_lines(&member, 12);
    fails(&["group", "rm", "billing"], 2, "--yes");
    fails(&["group", "rm", "billing", "--yes"], 6, "WEIR-4105");
    member.signal(Signal::TERM);
    member.finish().expect_code(130);
    let listed = broker.json(&["group", "ls", "--json"]);
    assert_eq!((&listed[0]["group"], &listed[0]["partitions"][3]["lag"]), (&json!("billing"), &json!(0)));
    broker.text(&["group", "rm", "billing", "--yes"]);
    assert_eq!(broker.json(&["group", "ls", "--json"]), json!([]));
    broker.text(&["tail", "orders", "-g", "billing", "--from", "earliest", "-n", "12"]);
    broker.text(&["topic", "rm", "orders", "--yes"]);
    assert_eq!(broker.json(&["group", "ls", "--json"]), json!([]), "positions live as long as the topic");
}
