//! Power cuts under the real binary. A kill leaves the system's cache, so it cannot show that anything was synced; this can.
//!
//! The disk is a file of a small file system in user space (FUSE), with a loop device over it, and an ext4 on that. So the
//! test sees every write and every flush that ext4 makes, and a cut keeps some of the unflushed sectors and forgets the rest.
//! After each cut ext4 recovers on the same disk, then `weir verify` and `weir serve` do, while the next cut may come.
//!
//! `WEIR_SEED` draws other cuts, `WEIR_SEEDS` is how many disks are used up, one for each seed, three by default. What a broker writes depends
//! on time, so a seed repeats a run only in kind.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a panic in a test is a failure with a line number"
)]

mod disk;
mod fuse;
mod history;
mod sectors;

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use harness::{Broker, Process, Random, Weir, weir_binary};
use rustix::process::Signal;

use crate::disk::{Disk, Powered};
use crate::history::History;

/// Cuts that each disk sees.
const CUTS: u64 = 10;

/// About as many flushes as a start takes.
const START_FLUSHES: u64 = 20;

/// Fewer flushes than a load takes, also one in large commits.
const LOAD_FLUSHES: u64 = 16;

/// Longest all cuts of a disk may take together.
const LIMIT: Duration = Duration::from_secs(300);

/// Set in the process that has its own mounts.
const INSIDE: &str = "WEIR_POWER_SEED";

/// So small that segments and checkpoints are written during each load.
const SERVE: [&str; 2] = ["--flush-bytes", "1MiB"];

#[test]
fn no_power_cut_takes_what_had_a_durable_receipt_or_was_read() {
    if let Ok(seed) = std::env::var(INSIDE) {
        return cut_again_and_again(seed.parse().unwrap());
    }
    if let Some(missing) = missing() {
        say(&format!("SKIP power cuts of the real binary: {missing}"));
        return;
    }
    let number = |name| std::env::var(name).ok().map(|number: String| number.parse::<u64>().unwrap());
    let first = number("WEIR_SEED").unwrap_or(0);
    for seed in first..first + number("WEIR_SEEDS").unwrap_or(3) {
        // Mounts of a namespace go with its last process, however that ends; loop devices go with their mounts.
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private"]).arg(std::env::current_exe().unwrap());
        command.args(["--exact", "no_power_cut_takes_what_had_a_durable_receipt_or_was_read", "--nocapture"]);
        command.env(INSIDE, seed.to_string()).env("WEIR_BIN", weir_binary());
        let ended = Process::start(command, LIMIT).finish();
        assert_eq!(ended.code, Some(0), "WEIR_SEED={seed}\n{}\n{}", ended.text(), ended.stderr);
        say(ended.stderr.trim_end());
    }
}

/// What this machine lacks, if anything.
fn missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("it needs root".to_owned());
    }
    let devices = ["/dev/fuse", "/dev/loop-control"];
    if let Some(device) = devices.into_iter().find(|device| !Path::new(device).exists()) {
        return Some(format!("there is no {device}"));
    }
    if let Err(error) = File::options().read(true).write(true).open("/dev/fuse") {
        return Some(format!("/dev/fuse cannot be opened: {error}"));
    }
    let attempts: [&[&str]; 4] = [
        &["mkfs.ext4", "-V"],
        &["losetup", "--find"],
        &["grep", "-qw", "ext4", "/proc/filesystems"],
        &["unshare", "--mount", "--propagation", "private", "mount", "-t", "tmpfs", "none", "/mnt"],
    ];
    attempts.into_iter().find_map(|attempt| {
        let output = Command::new(attempt[0]).args(&attempt[1..]).output();
        let is_there = output.is_ok_and(|output| output.status.success());
        (!is_there).then(|| format!("`{}` fails", attempt.join(" ")))
    })
}

/// Prints a line also when the test passes.
fn say(line: &str) {
    writeln!(std::io::stderr(), "{line}").ok();
}

fn cut_again_and_again(seed: u64) {
    let mut random = Random::new(seed);
    let disk = Disk::formatted();
    let mut history = History::default();
    for cut in 1..=CUTS {
        let began = Instant::now();
        let powered = disk.power_on();
        let torn = verify(&powered, &history);
        // Each third comes while the broker starts, at first on an empty disk, later while it recovers from the one before.
        let moment = if cut % 3 == 1 {
            cut_while_starting(&powered, &mut random);
            "while starting"
        } else {
            cut_under_load(&powered, &mut random, &mut history);
            "under load"
        };
        let cut_was = powered.cut(random.fork());
        let (known, took) = (history.known(), began.elapsed());
        say(&format!(
            "WEIR_SEED={seed} cut {cut} {moment}: {cut_was:?}, {torn} before, {known} known, {took:?}"
        ));
    }
    let powered = disk.power_on();
    verify(&powered, &history);
    history.check(&Broker::start_in_with(&powered.data(), &SERVE));
}

/// What a cut left is sound: nothing that counts is damaged. Returns what is said about the torn tail.
fn verify(powered: &Powered<'_>, history: &History) -> String {
    // Before anything is known, a cut may have come before there was a data directory.
    if history.known() == 0 {
        return "nothing".to_owned();
    }
    let verdict = Weir::new().json(&["verify", powered.data().to_str().unwrap(), "--json"]);
    assert_eq!(verdict["sound"], true, "{verdict:#}");
    format!("torn tail {}", verdict["torn_tail"])
}

/// Cuts the power at one of the first flushes of a start, or right behind it.
fn cut_while_starting(powered: &Powered<'_>, random: &mut Random) {
    powered.cut_after(random.below(START_FLUSHES), random.fork());
    let data = powered.data();
    let weir = Weir::new();
    let serve = ["serve", "--data-dir", data.to_str().unwrap(), "--listen", "127.0.0.1:0"];
    let broker = weir.start(&[&serve[..], &SERVE].concat());
    // It becomes ready, or ends because its disk fails.
    broker.stdout().next_line(LIMIT);
    powered.cut(random.fork());
}

/// Checks what the cut before has left, and cuts the power while records are sent and read.
fn cut_under_load(powered: &Powered<'_>, random: &mut Random, history: &mut History) {
    let broker = Broker::start_in_with(&powered.data(), &SERVE);
    broker.text(&["topic", "create", "orders", "--partitions", "4", "--if-missing"]);
    history.check(&broker);
    let first = history.sent();
    let file = broker.file("lines.txt", history.more().as_bytes());
    let reader = broker.client(&[&["tail", "orders", "--from", "earliest"][..], &history::FORMAT].concat());
    powered.cut_after(random.below(LOAD_FLUSHES), random.fork());
    // when
    let sender = broker.client(&["send", "orders", "--file", &file, "--receipts", "--timeout", "60s"]);
    let began = Instant::now();
    while !powered.is_cut() && !sender.has_ended() {
        assert!(began.elapsed() < LIMIT, "neither the cut nor the end came");
        std::thread::yield_now();
    }
    powered.cut(random.fork());
    drop(broker);
    let [sender, reader] = [sender, reader].map(|process| {
        process.signal(Signal::KILL);
        process.finish().text()
    });
    // No sync succeeds after a cut, so whatever was said, also behind it, has to be true.
    history.learn_receipts(first, &sender);
    history.learn_records(&reader);
}
