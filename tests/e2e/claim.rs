//! Claimed names: whoever had a name writes nothing more, also across a kill of the broker.

use std::time::Duration;

use harness::Broker;
use serde_json::json;

use crate::data::values;

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn whoever_had_a_name_is_fenced_by_the_next_also_after_a_kill() {
    let mut broker = Broker::start();
    broker.text(&["topic", "create", "orders", "--partitions", "2"]);
    let arguments = ["send", "orders", "--claim", "billing", "--receipts", "--timeout", "60s"];
    let mut first = broker.client(&arguments);
    first.feed(b"one\n");
    first.stdout().next_line(LIMIT).expect("it is stored");

    broker.kill();
    broker.restart();
    let second = broker.json(&["send", "orders", "two", "--claim", "billing", "--json"]);
    assert_eq!(second["token"], json!(2));
    first.feed(b"late\n");
    let told = first.finish().expect_code(7).stderr;
    assert!(told.contains("WEIR-3005"), "{told}");
    // Another name is another matter, and no name is none.
    assert_eq!(broker.json(&["send", "orders", "three", "--claim", "mail", "--json"])["token"], json!(1));
    assert_eq!(broker.json(&["send", "orders", "four", "--json"])["token"], json!(null));
    let mut stored: Vec<String> = values(&broker, "orders").lines().map(str::to_owned).collect();
    stored.sort_unstable();
    assert_eq!(stored, ["four", "one", "three", "two"]);
}
