//! `weir-check` and histories written by hand: for each anomaly one that has it, and its nearest twin that has not.

#![expect(clippy::unwrap_used, reason = "a panic in a test is a failure with a line number")]

use std::path::{Path, PathBuf};
use std::process::Command;

use harness::check::INVARIANTS;
use tempfile::TempDir;

/// Histories, the invariant that the bad one breaks, and the lines of it that show that.
const TWINS: [(&str, &str, &[usize]); 28] = [
    ("lost-write", "no acknowledged write is lost", &[3, 4, 7]),
    ("lost-cache", "no acknowledged write is lost", &[2, 3, 4]),
    ("two-values", "an offset holds one value", &[1, 2, 3, 4, 5]),
    ("duplicate-value", "a value has one offset", &[1, 2, 4, 5]),
    ("duplicate-answer", "a duplicate is answered with the place of the original", &[2, 4, 5]),
    ("reordering", "records keep the order in which they were sent", &[1, 2, 3, 4, 5]),
    ("phantom", "what is read was sent", &[5, 6]),
    ("corrupt", "what is read was sent", &[4, 5]),
    ("failed-visible", "what failed is not visible", &[1, 2, 5]),
    ("unread", "what was read stays", &[4, 5]),
    ("skipped-poll", "a reader gets each offset once, in order", &[7, 8, 9]),
    ("repeated-poll", "a reader gets each offset once, in order", &[3, 4, 5]),
    ("false-gap", "what is announced as missing is missing", &[4, 5]),
    ("credit", "nothing is sent beyond the credit", &[1, 2, 3]),
    ("level", "an answer promises no less than was asked for", &[1, 2]),
    ("key-twice", "a key has one record", &[1, 2, 3, 4, 5, 6, 7]),
    ("key-answer", "an answer about a key is true", &[4, 5, 6, 7, 8]),
    ("key-moved", "a record with a key has one place", &[1, 2, 3, 4, 5]),
    ("two-owners", "a partition of a group has one owner at a time", &[5, 6, 7]),
    ("settled-again", "what a group has settled is not delivered to it again", &[5, 6, 7]),
    ("position-fell", "the position of a group never goes back", &[6, 8, 9]),
    ("settled-lost", "the position of a group never goes back", &[6, 7, 8]),
    ("left-out", "a group gets every record", &[7, 8]),
    ("group-behind", "a group gets every record", &[8]),
    ("lost-update", "no update of a counter is lost", &[1, 2, 3, 4, 5, 6, 7]),
    ("no-outcome", "everything comes to its end", &[3]),
    ("reader-behind", "everything comes to its end", &[5, 6, 7]),
    ("not-given-back", "everything comes to its end", &[1]),
];

/// Exit code, stdout and stderr of the tool.
fn judged(files: &[&Path]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_weir-check")).args(files).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn by_hand(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("histories").join(format!("{name}.jsonl"))
}

/// The tool's exit code, stdout and stderr for a file with this content, with `FILE` for its path.
fn judged_text(content: &str) -> (i32, String, String) {
    let home = TempDir::new().unwrap();
    let file = home.path().join("history.jsonl");
    std::fs::write(&file, content).unwrap();
    let (code, stdout, stderr) = judged(&[&file]);
    let plain = |text: String| text.replace(file.to_str().unwrap(), "FILE");
    (code, plain(stdout), plain(stderr))
}

#[test]
fn each_anomaly_is_told_from_its_nearest_good_twin() {
    for (name, invariant, lines) in TWINS {
        let bad = by_hand(&format!("{name}.bad"));
        let (code, stdout, stderr) = judged(&[&bad]);
        assert_eq!((code, stderr.as_str()), (1, ""), "{name}:\n{stdout}");
        let (_, finding) = stdout.split_once(&format!("broken: {invariant}\n")).expect(name);
        let finding = finding.split("broken: ").next().unwrap();
        let prefix = format!("  {}:", bad.display());
        let shown: Vec<usize> = finding
            .lines()
            .filter_map(|line| line.strip_prefix(&prefix)?.split(':').next()?.parse().ok())
            .collect();
        assert_eq!(shown, lines, "{name}:\n{stdout}");

        let (code, stdout, stderr) = judged(&[&by_hand(&format!("{name}.good"))]);
        assert_eq!((code, stderr.as_str()), (0, ""), "{name}:\n{stdout}");
    }
}

#[test]
fn every_invariant_has_a_history_that_breaks_it_and_every_history_is_judged() {
    for (invariant, _) in INVARIANTS {
        assert!(TWINS.iter().any(|(_, broken, _)| broken == invariant), "no history breaks: {invariant}");
    }
    let directory = by_hand("any").parent().unwrap().to_owned();
    let names = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
    let files = names.filter(|name| name.to_str().unwrap().ends_with(".jsonl")).count();
    assert_eq!(files, 2 * TWINS.len());
}

const SENT: &str = r#"{"op":"send","client":1,"partition":0,"value":5,"level":"durable"}"#;

#[test]
fn outcomes_are_kept_apart() {
    let more = SENT.replace("5,", "6,") + "\n" + &SENT.replace("5,", "7,") + "\n" + &SENT.replace("5,", "8,");
    let stored = r#"{"op":"stored","value":5,"offset":0,"level":"durable","duplicate":false}"#;
    let rest = "{\"op\":\"failed\",\"value\":6}\n{\"op\":\"in_doubt\",\"value\":7}\n";
    let (code, stdout, _) = judged_text(&format!("{SENT}\n{more}\n{stored}\n{rest}"));
    assert_eq!(code, 0);
    let sum = "7 events: 4 records sent, 1 stored, 1 failed, 1 in doubt, 1 without an outcome, 0 delivered";
    assert!(stdout.contains(sum), "{stdout}");
    assert!(stdout.contains("not told: everything comes to its end"), "{stdout}");
}

#[test]
fn what_is_no_history_is_refused_with_its_place() {
    let cases = [
        (format!("{SENT}\n{{\"op\":\"sent\"}}\n"), "FILE:2:", "unknown variant `sent`"),
        (format!("{SENT}\n\n{{\"op\":\"settled\"\n"), "FILE:3:15:", "EOF"),
        (format!("{SENT}\n{SENT}\n"), "FILE:2:1:", "value 5 was sent before: FILE:1"),
        ("{\"op\":\"failed\",\"value\":5}\n".to_owned(), "FILE:1:1:", "value 5 was not sent before"),
        (
            format!(
                "{SENT}\n{}{}",
                "{\"op\":\"failed\",\"value\":5}\n", "{\"op\":\"in_doubt\",\"value\":5}\n"
            ),
            "FILE:3:1:",
            "value 5 had an outcome before: FILE:2",
        ),
        (SENT.replace("client", "klient"), "FILE:1:", "unknown field `klient`"),
        (SENT.replace(":5", ":-5"), "FILE:1:", "-5"),
        ("\n\n".to_owned(), "", "there is no event"),
        ("\u{1}\u{2}".to_owned(), "FILE:1:1:", "expected value"),
    ];
    for (content, place, what) in cases {
        let (code, stdout, stderr) = judged_text(&content);
        assert_eq!((code, stdout.as_str()), (2, ""), "{content}: {stderr}");
        assert!(stderr.starts_with(place) && stderr.contains(what), "{content}: {stderr}");
    }
    let (code, _, stderr) = judged(&[Path::new("/nowhere/history.jsonl")]);
    assert_eq!(code, 2);
    assert!(stderr.contains("/nowhere/history.jsonl: cannot be read"), "{stderr}");
    assert_eq!(judged(&[]).0, 2, "without a file there is nothing to judge");
}

#[test]
fn a_last_line_torn_by_a_kill_is_left_out_and_named() {
    for cut in [SENT.len() - 1, SENT.len() / 2, 1] {
        let (code, stdout, stderr) = judged_text(&format!("{SENT}\n{}", &SENT[..cut]));
        assert_eq!((code, stderr.as_str()), (0, "FILE: the last line is torn and left out\n"), "{stdout}");
        assert!(stdout.contains("in 1 events: 1 records sent"), "{stdout}");
    }
    // A line that lacks nothing but its end is whole.
    let (code, _, stderr) = judged_text(SENT);
    assert_eq!((code, stderr.as_str()), (0, ""));
}

#[test]
fn files_are_one_history_and_lines_are_named_by_file() {
    let home = TempDir::new().unwrap();
    let [sent, answered, end] = ["sent", "answered", "end"].map(|name| home.path().join(name));
    std::fs::write(&sent, format!("{SENT}\n")).unwrap();
    let stored = r#"{"op":"stored","value":5,"offset":0,"level":"durable","duplicate":false}"#;
    std::fs::write(&answered, format!("\n{stored}\n")).unwrap();
    std::fs::write(&end, "{\"op\":\"final\",\"partition\":0,\"start\":0,\"values\":[]}\n").unwrap();
    let (code, stdout, _) = judged(&[&sent, &answered, &end]);
    assert_eq!(code, 1);
    for place in [format!("{}:1: ", sent.display()), format!("{}:2: ", answered.display())] {
        assert!(stdout.contains(&place), "{stdout}");
    }
    assert_eq!(judged(&[&answered, &sent, &end]).0, 2, "an answer comes behind what it answers");
}
