//! Errors a user can make: each says what is wrong, ends with the right code, and leaves nothing half done.

use std::net::UdpSocket;
use std::time::Duration;

use harness::{Broker, Finished, Process, Weir};
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(60);

/// The error names what it is about, has a code that leads to its page, and printed nothing to stdout.
fn says(finished: Finished, code: i32, words: &[&str]) {
    let finished = finished.expect_code(code);
    for word in words {
        assert!(
            finished.stderr.contains(word),
            "{}: \"{word}\" is not in {}",
            finished.what,
            finished.stderr
        );
    }
    assert!(finished.stderr.contains("WEIR-"), "{}: no code in {}", finished.what, finished.stderr);
    assert!(finished.stdout.is_empty(), "{} printed {}", finished.what, finished.text());
    assert!(!finished.stderr.contains("panicked"), "{}", finished.stderr);
}

#[test]
fn a_missing_topic_names_the_command_that_makes_it() {
    let broker = Broker::start();
    says(broker.run(&["send", "orders", "hello"]), 3, &["orders", "weir topic create"]);
    says(broker.run(&["tail", "orders", "--to-end"]), 3, &["orders"]);
    says(broker.run(&["topic", "show", "orders"]), 3, &["orders"]);
    says(broker.run(&["topic", "rm", "orders", "--yes"]), 3, &["orders"]);
    assert_eq!(broker.json(&["topic", "ls", "--json"]), json!([]));
}

#[test]
fn a_topic_that_exists_is_a_conflict() {
    let broker = Broker::start();
    broker.text(&["topic", "create", "orders"]);
    says(broker.run(&["topic", "create", "orders"]), 6, &["orders"]);
}

#[test]
fn a_port_in_use_is_named() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let weir = Weir::new();
    says(weir.run(&["serve", "--listen", &address, "--data-dir", "data"]), 1, &[&address]);
    assert!(!weir.home().join("data").exists(), "nothing is left half done");
}

#[test]
fn a_data_directory_in_use_is_left_alone() {
    let broker = Broker::start();
    broker.text(&["topic", "create", "orders"]);
    let data = broker.data_directory();
    let second = ["serve", "--listen", "127.0.0.1:0", "--data-dir", data.to_str().unwrap()];
    says(broker.weir().run(&second), 1, &[data.to_str().unwrap()]);
    broker.text(&["send", "orders", "still here"]);
}

#[test]
fn a_data_directory_that_cannot_be_made_is_named() {
    let weir = Weir::new();
    std::fs::write(weir.home().join("file"), "in the way").unwrap();
    says(weir.run(&["serve", "--listen", "127.0.0.1:0", "--data-dir", "file/data"]), 1, &["file"]);
}

#[test]
fn a_directory_of_something_else_is_not_taken_over() {
    let weir = Weir::new();
    let directory = weir.home().join("photos");
    std::fs::create_dir(&directory).unwrap();
    std::fs::write(directory.join("cat.jpg"), "miaow").unwrap();
    says(weir.run(&["serve", "--listen", "127.0.0.1:0", "--data-dir", "photos"]), 1, &["photos"]);
    assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 1, "nothing was added");
}

#[test]
fn a_bad_url_is_a_usage_error() {
    let weir = Weir::new();
    for url in ["http://127.0.0.1:7400", "weir://", "weir://host:port", "weir://127.0.0.1:7400?pin=nonsense"]
    {
        says(weir.run(&["topic", "ls", "--url", url]), 2, &[]);
    }
}

#[test]
fn no_url_at_all_says_how_to_give_one() {
    says(Weir::new().run(&["topic", "ls"]), 2, &["WEIR_URL"]);
}

#[test]
fn a_wrong_pin_is_refused_and_nothing_is_sent() {
    let broker = Broker::start();
    broker.text(&["topic", "create", "orders"]);
    let (rest, last) = broker.url().split_at(broker.url().len() - 1);
    let wrong = format!("{rest}{}", if last == "0" { "1" } else { "0" });
    for url in [wrong.as_str(), broker.url_without_pin()] {
        let finished = broker.weir().run(&["send", "orders", "hello", "--url", url]);
        assert!(matches!(finished.code, Some(4 | 5)), "{} ended with {:?}", finished.what, finished.code);
        assert!(finished.stderr.contains("WEIR-"), "{}", finished.stderr);
    }
    let shown = broker.json(&["topic", "show", "orders", "--json"]);
    assert_eq!(shown["partitions"][0]["end_offset"], json!(0));
}

#[test]
fn nobody_there_is_unreachable() {
    // Nothing listens on the port once the socket is gone.
    let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("weir://127.0.0.1:{port}?pin=sha256:{}", "0".repeat(64));
    let weir = Weir::new();
    let finished = weir.run(&["topic", "ls", "--url", &url]);
    assert!(finished.took < LIMIT, "it took {:?}", finished.took);
    says(finished, 5, &[&port.to_string()]);
}

#[test]
fn flags_out_of_range_are_usage_errors() {
    let weir = Weir::new();
    for line in [
        "topic create orders --partitions 0",
        "topic create orders --partitions 10001",
        "topic create orders --retention soon",
        "serve --listen nonsense",
        "serve --no-such-flag",
        "tail orders --from yesterday-ish",
        "send orders --timeout never --file x",
        "bench send --size -1",
        "no-such-command",
    ] {
        let arguments: Vec<&str> = line.split(' ').collect();
        says(weir.run(&arguments), 2, &[]);
    }
}

#[test]
fn a_broker_is_not_opened_to_the_network_by_accident() {
    let finished = Weir::new().run(&["serve", "--listen", "0.0.0.0:0", "--data-dir", "data"]);
    assert!(matches!(finished.code, Some(1 | 2)), "{:?} {}", finished.code, finished.stderr);
    assert!(finished.stderr.contains("insecure"), "the flag that allows it is named: {}", finished.stderr);
}

#[test]
fn a_missing_file_is_named() {
    let broker = Broker::start();
    broker.text(&["topic", "create", "orders"]);
    says(broker.run(&["send", "orders", "--file", "no-such-file"]), 3, &["no-such-file"]);
}

#[test]
fn a_file_that_is_not_json_is_refused_by_line() {
    let broker = Broker::start();
    broker.text(&["topic", "create", "orders"]);
    let text = broker.file("text.txt", b"hello\n");
    says(broker.run(&["send", "orders", "--in", "json", "--file", &text]), 1, &["line 1"]);
    let binary = broker.file("binary", &[0xff, 0x00, 0xfe, b'\n']);
    says(broker.run(&["send", "orders", "--in", "json", "--file", &binary]), 1, &["line 1"]);
    let shown = broker.json(&["topic", "show", "orders", "--json"]);
    assert_eq!(shown["partitions"][0]["end_offset"], json!(0), "nothing was stored");
}

#[test]
fn a_record_too_large_names_the_limit_and_stores_nothing() {
    let broker = Broker::start();
    broker.text(&["topic", "create", "orders"]);
    let file = broker.file("large.txt", &vec![b'x'; 3 << 20]);
    let finished = broker.run(&["send", "orders", "--file", &file]).expect_code(1);
    assert!(finished.stderr.contains("limit") && finished.stderr.contains("WEIR-"), "{}", finished.stderr);
    let shown = broker.json(&["topic", "show", "orders", "--json"]);
    assert_eq!(shown["partitions"][0]["end_offset"], json!(0));
    broker.text(&["send", "orders", "small"]);
}

#[test]
fn the_largest_record_gets_through() {
    let broker = Broker::start();
    let value = vec![b'x'; 1 << 20];
    let file = broker.file("large.txt", &value);
    broker.text(&["send", "orders", "--create", "--file", &file]);
    let back = broker.text(&["tail", "orders", "--from", "earliest", "--to-end", "-f", "%v"]);
    assert!(back.as_bytes() == value, "the record came back changed");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let broker = Broker::start();
    let file = broker.file("lines.txt", "line\n".repeat(100_000).as_bytes());
    broker.text(&["send", "orders", "--create", "--file", &file]);
    let mut command = std::process::Command::new("sh");
    command
        .arg("-c")
        .arg("\"$WEIR\" tail orders --from earliest --to-end -f '%v\\n' --url \"$URL\" | head -n 1");
    command.env("WEIR", harness::weir_binary()).env("URL", broker.url());
    let finished = Process::start(command, LIMIT).finish().expect_code(0);
    assert_eq!((finished.text().as_str(), finished.stderr.as_str()), ("line\n", ""));
}
