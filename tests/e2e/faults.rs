//! A disk that fails or is full, under the real binary: every call goes through the C library, so a shim that is loaded
//! before it can make it fail.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use harness::{Broker, Finished, Lines, Process, json_lines};
use serde_json::Value;

use crate::data::values;

const LIMIT: Duration = Duration::from_secs(60);

/// The shim, built once.
fn shim() -> &'static Path {
    static SHIM: OnceLock<PathBuf> = OnceLock::new();
    SHIM.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("e2e/faults/shim.c");
        let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join("weir-faults.so");
        // Another process may build it at the same time: each has a file of its own until it is whole.
        let own = library.with_extension(format!("{}.so", std::process::id()));
        let built = Command::new("cc")
            .args(["-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o"])
            .arg(&own)
            .arg(&source)
            .args(["-ldl", "-lpthread"])
            .output()
            .expect("there is a C compiler");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        std::fs::rename(&own, &library).expect("the directory of temporary files is writable");
        library
    })
}

/// A broker on a disk that can be made to fail.
struct Faulty {
    broker: Broker,
    rules: PathBuf,
    log: PathBuf,
    /// Rules that have been made: each file has a name of its own until it takes its place.
    made: u32,
}

impl Faulty {
    /// Starts with these rules in force.
    fn start(arguments: &[&str], rules: &str) -> Self {
        let broker = Broker::new();
        let home = broker.weir().home().to_owned();
        let mut faulty = Self { broker, rules: home.join("rules"), log: home.join("log"), made: 0 };
        faulty.plan(rules);
        let text = |path: &Path| path.to_str().expect("temporary directories have plain names").to_owned();
        let environment = [
            ("LD_PRELOAD", text(shim())),
            ("WEIR_FAULT_ROOT", text(&faulty.broker.data_directory())),
            ("WEIR_FAULT_RULES", text(&faulty.rules)),
            ("WEIR_FAULT_LOG", text(&faulty.log)),
        ];
        faulty.broker.set_environment(&environment);
        faulty.broker.serve_with(arguments);
        faulty
    }

    /// From now on the disk fails by these rules; see the shim.
    fn plan(&mut self, rules: &str) {
        self.made += 1;
        let fresh = self.rules.with_extension(self.made.to_string());
        std::fs::write(&fresh, rules).expect("the home is writable");
        std::fs::rename(&fresh, &self.rules).expect("the home is writable");
    }

    /// Waits until a failure of this sort has come.
    fn wait_for(&self, failure: &str) {
        wait_until(failure, || self.failures().lines().any(|line| line.contains(failure)));
    }

    fn failures(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Names of segments and of files of the journal.
    fn files(&self) -> Vec<String> {
        let list = |name: &str| {
            let entries = std::fs::read_dir(self.broker.data_directory().join(name)).expect("it is there");
            entries
                .map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned())
                .collect::<Vec<_>>()
        };
        let mut names = [list("segments"), list("journal")].concat();
        names.retain(|name| name.ends_with(".seg") || name.ends_with(".wal"));
        names.sort();
        names
    }

    fn send(&self, lines: &Lines, timeout: &str) -> Finished {
        let file = self.broker.file("lines.txt", lines.text().as_bytes());
        self.broker.run(&["send", "orders", "--file", &file, "--timeout", timeout])
    }
}

/// Looks at something outside of the process again and again.
pub(crate) fn wait_until(what: &str, mut is_there: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_there() {
        assert!(began.elapsed() < LIMIT, "{what} did not come");
        std::thread::yield_now();
    }
}

/// Waits for the receipts of this many more records.
fn receipts(sender: &Process, count: usize) -> Vec<Value> {
    let line = |_| sender.stdout().next_line(LIMIT).expect("the sender still runs");
    let lines: Vec<String> = (0..count).map(line).collect();
    json_lines(&lines.join("\n"))
}

#[test]
fn a_failed_sync_ends_the_broker_with_its_reason_and_a_restart_has_all_receipts() {
    // given: once the sync fails, each later one would seem to succeed
    let mut faulty = Faulty::start(&[], "");
    faulty.broker.text(&["topic", "create", "orders"]);
    let (before, after) = (Lines::numbered(0, 2000), Lines::numbered(2000, 2000));
    let mut sender = faulty.broker.client(&["send", "orders", "-", "--receipts", "--timeout", "3s"]);
    sender.feed(before.text().as_bytes());
    let mut known = receipts(&sender, 2000);
    // when
    faulty.plan("sync .wal EIO 1\n");
    sender.feed(after.text().as_bytes());
    // then
    let ended = faulty.broker.ended();
    assert!(ended.code.is_some_and(|code| code != 0), "exit code {:?}\n{}", ended.code, ended.stderr);
    let says = |what| ended.stderr.contains(what);
    assert!(says("cannot sync") && says(".wal") && says("Input/output error"), "{}", ended.stderr);
    assert_eq!(faulty.failures().lines().count(), 1, "nothing was tried again: {}", faulty.failures());
    let sent = sender.finish();
    assert_ne!(sent.code, Some(0), "not everything can have been acknowledged");
    known.extend(json_lines(&sent.text()));
    faulty.plan("");
    faulty.broker.restart();
    let stored: Vec<String> = values(&faulty.broker, "orders").lines().map(str::to_owned).collect();
    let all = format!("{}{}", before.text(), after.text());
    let all: Vec<&str> = all.lines().collect();
    assert!(known.len() >= 2000);
    for receipt in known {
        let at = |field: &str| usize::try_from(receipt[field].as_u64().expect("a number")).unwrap();
        let place = stored.get(at("offset")).map(String::as_str);
        assert_eq!(place, Some(all[at("record")]), "{receipt}");
    }
}

#[test]
fn a_disk_without_space_for_segments_or_checkpoints_refuses_producers_serves_readers_and_recovers() {
    for full in [
        "reserve segments ENOSPC 0\nwrite segments ENOSPC 0\n",
        "create state ENOSPC 0\n",
        "write manifest ENOSPC 0\n",
    ] {
        // given
        let mut faulty = Faulty::start(&["--flush-bytes", "1MiB"], "");
        faulty.broker.text(&["topic", "create", "orders"]);
        let first = Lines::numbered(0, 20_000);
        faulty.send(&first, "60s").expect_code(0);
        // when: the next flush finds the disk full
        faulty.plan(full);
        let mut all = first.text().to_owned();
        let mut next = 20_000;
        let refused = loop {
            let more = Lines::numbered(next, 60_000);
            all.push_str(more.text());
            next += 60_000;
            let sent = faulty.send(&more, "3s");
            // Until a flush has failed there is nothing to refuse.
            if sent.code != Some(0) {
                break sent;
            }
            assert!(next < 2_000_000, "{full}: the disk is full and nobody notices");
        };
        let kept = faulty.files();
        // then
        assert_eq!(refused.code, Some(5), "{full}: {}", refused.stderr);
        let stored = values(&faulty.broker, "orders");
        assert!(stored.len() >= first.text().len() && all.starts_with(&stored), "{full}: reads go on");
        assert!(faulty.failures().lines().count() > 1, "{full}: it is tried again");
        // when: there is space again
        faulty.plan("");
        let third = Lines::numbered(next, 1000);
        faulty.send(&third, "60s").expect_code(0);
        // then
        let now = values(&faulty.broker, "orders");
        assert!(now == format!("{stored}{}", third.text()), "{full}: nothing is lost or doubled");
        let files = faulty.files();
        assert!(kept.iter().all(|name| files.contains(name)), "{full}: {kept:?} became {files:?}");
        faulty.broker.kill();
        faulty.broker.restart();
        assert!(values(&faulty.broker, "orders") == now, "{full}: a restart has it all");
    }
}

#[test]
fn a_disk_without_space_for_the_journal_to_grow_stops_nothing_and_it_grows_later() {
    // given: there was space for one file of the journal
    let full = "reserve 0001.wal ENOSPC 0\n";
    let mut faulty = Faulty::start(&[], full);
    faulty.wait_for("0001.wal");
    faulty.broker.text(&["topic", "create", "orders"]);
    // when
    let first = Lines::numbered(0, 5000);
    faulty.send(&first, "60s").expect_code(0);
    assert_eq!(faulty.files(), ["0000.wal"]);
    // then
    assert!(values(&faulty.broker, "orders") == first.text());
    faulty.plan("");
    let second = Lines::numbered(5000, 10);
    faulty.send(&second, "60s").expect_code(0);
    let grown = faulty.broker.data_directory().join("journal/0001.wal");
    wait_until("the next file of the journal", || grown.exists());
    assert!(values(&faulty.broker, "orders") == format!("{}{}", first.text(), second.text()));
}

#[test]
fn short_writes_are_completed() {
    // given
    let mut faulty = Faulty::start(&["--flush-bytes", "1MiB"], "");
    faulty.broker.text(&["topic", "create", "orders"]);
    // when
    faulty.plan("write .wal SHORT 50\nwrite segments SHORT 20\n");
    let lines = Lines::numbered(0, 30_000);
    faulty.send(&lines, "60s").expect_code(0);
    faulty.wait_for("write");
    // then
    assert!(values(&faulty.broker, "orders") == lines.text());
    faulty.broker.kill();
    faulty.broker.restart();
    assert!(values(&faulty.broker, "orders") == lines.text());
}
