//! Judges histories: files with an event on each line, as `tests/harness/check/history.rs` describes them.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use harness::check::{Event, Recorded, Verdict, judge};

/// Lines shown for each finding; those at the end, where it was noticed.
const LINES_SHOWN: usize = 20;

/// Characters shown of a line.
const CHARACTERS_SHOWN: usize = 160;

const USAGE: &str = "\
usage: weir-check HISTORY...
Judges the events of these files as one history. CONTRIBUTING.md describes the lines.
exit code 0: every invariant holds, as far as the history tells
          1: an invariant is broken
          2: a file is no history, or there is no event";

fn main() -> ExitCode {
    let files: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    if files.is_empty() || files.iter().any(|file| file.to_string_lossy().starts_with('-')) {
        say(&[USAGE.to_owned()], true);
        return ExitCode::from(2);
    }
    match Recorded::read(&files) {
        Ok(recorded) if recorded.events.is_empty() => {
            say(&["there is no event to judge".to_owned()], true);
            ExitCode::from(2)
        }
        Ok(recorded) => {
            let torn = recorded.torn.iter();
            let torn = torn.map(|file| format!("{}: the last line is torn and left out", file.display()));
            say(&torn.collect::<Vec<_>>(), true);
            let (lines, is_sound) = verdict(&recorded);
            say(&lines, false);
            if is_sound { ExitCode::SUCCESS } else { ExitCode::from(1) }
        }
        Err(unreadable) => {
            say(&[unreadable.to_string()], true);
            ExitCode::from(2)
        }
    }
}

/// What is to be said about a history, and whether nothing is broken.
fn verdict(recorded: &Recorded) -> (Vec<String>, bool) {
    let (mut lines, mut unknown, mut broken) = (Vec::new(), Vec::new(), 0);
    let verdicts = judge(&recorded.events);
    let all = verdicts.len();
    for (invariant, verdict) in verdicts {
        match verdict {
            Verdict::Ok => {}
            Verdict::Unknown => unknown.push(format!("not told: {invariant}")),
            Verdict::Fail(finding) => {
                broken += 1;
                lines.push(format!("broken: {invariant}"));
                lines.push(format!("  {finding}"));
                let events = finding.events(&recorded.events);
                let hidden = events.len().saturating_sub(LINES_SHOWN);
                if hidden > 0 {
                    lines.push(format!("  {hidden} earlier lines are not shown"));
                }
                let shown = events.iter().skip(hidden);
                lines.extend(shown.filter_map(|index| {
                    let event = recorded.events.get(*index)?.to_line();
                    let text: String = event.trim_end().chars().take(CHARACTERS_SHOWN).collect();
                    Some(format!("  {}: {text}", recorded.place(*index)))
                }));
            }
        }
    }
    lines.extend(unknown);
    lines.push(format!("{broken} of {all} invariants are broken in {}", sum(&recorded.events)));
    (lines, broken == 0)
}

/// How many events there are, and what became of the records.
fn sum(events: &[Event]) -> String {
    let count = |is_one: fn(&Event) -> bool| events.iter().filter(|event| is_one(event)).count();
    let sent = count(|event| matches!(event, Event::Send { .. }));
    let stored = count(|event| matches!(event, Event::Stored { .. }));
    let failed = count(|event| matches!(event, Event::Failed { .. }));
    let in_doubt = count(|event| matches!(event, Event::InDoubt { .. }));
    let delivered = count(|event| matches!(event, Event::Delivered { .. }));
    let open = sent.saturating_sub(stored + failed + in_doubt);
    format!(
        "{} events: {sent} records sent, {stored} stored, {failed} failed, {in_doubt} in doubt, {open} without \
         an outcome, {delivered} delivered",
        events.len()
    )
}

/// A reader that is gone does not matter: the exit code says it, too.
fn say(lines: &[String], is_error: bool) {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    if is_error {
        std::io::stderr().write_all(text.as_bytes()).ok();
    } else {
        std::io::stdout().write_all(text.as_bytes()).ok();
    }
}
