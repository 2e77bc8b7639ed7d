//! Progress of long work: one line on stderr that renews itself, for people only.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// How often the line changes: often enough to see movement, seldom enough to cost nothing.
const INTERVAL: Duration = Duration::from_millis(500);

/// The line. Where stderr is no terminal it does nothing.
#[derive(Debug)]
pub(crate) struct Progress {
    what: &'static str,
    total: Option<u64>,
    started: Instant,
    next: Option<Instant>,
    shown: bool,
}

impl Progress {
    /// Starts a line about `what`, such as "sent"; `total` is the number of records or bytes at the end, if known.
    pub(crate) fn start(what: &'static str, total: Option<u64>) -> Self {
        let started = Instant::now();
        let next = std::io::stderr().is_terminal().then(|| started + INTERVAL);
        Self { what, total, started, next, shown: false }
    }

    /// Shows where the work is, if it is time to. `done` counts like the total.
    pub(crate) fn show(&mut self, records: u64, bytes: u64, done: u64) {
        if self.is_time() {
            let elapsed = self.started.elapsed();
            let text = describe(self.what, records, bytes, elapsed);
            let rest = self.total.and_then(|total| remaining(done, total, elapsed));
            renew(&text, rest);
        }
    }

    /// As [`Progress::show`], for work on bytes of which the total is known on the way only.
    pub(crate) fn show_bytes(&mut self, done: u64, total: u64) {
        if self.is_time() {
            let text = format!("{} {:.1} of {:.1} MB", self.what, float(done) / 1e6, float(total) / 1e6);
            renew(&text, remaining(done, total, self.started.elapsed()));
        }
    }

    /// Whether the line shall be renewed now.
    fn is_time(&mut self) -> bool {
        let now = Instant::now();
        let due = self.next.is_some_and(|next| now >= next);
        if due {
            self.next = Some(now + INTERVAL);
            self.shown = true;
        }
        due
    }

    /// Removes the line.
    pub(crate) fn clear(&mut self) {
        if self.shown {
            write!(std::io::stderr(), "\r\u{1b}[K").ok();
            self.shown = false;
        }
    }

    /// Replaces the line by a last one that stays.
    pub(crate) fn finish(mut self, records: u64, bytes: u64) {
        self.clear();
        if self.next.is_some() {
            crate::chatter(&describe(self.what, records, bytes, self.started.elapsed()));
        }
    }
}

/// Writes the line over what stands there.
fn renew(text: &str, rest: Option<Duration>) {
    let rest = rest.map_or_else(String::new, |rest| format!(", {} s left", rest.as_secs()));
    write!(std::io::stderr(), "\r\u{1b}[K{text}{rest}").ok();
}

/// What was done in which time.
fn describe(what: &str, records: u64, bytes: u64, elapsed: Duration) -> String {
    let seconds = elapsed.as_secs_f64().max(1e-6);
    format!(
        "{what} {records} records, {:.1} MB in {seconds:.1} s ({:.0} records/s, {:.1} MB/s)",
        float(bytes) / 1e6,
        float(records) / seconds,
        float(bytes) / 1e6 / seconds,
    )
}

/// The time the rest will take if it goes on as it went.
fn remaining(done: u64, total: u64, elapsed: Duration) -> Option<Duration> {
    let rest = total.checked_sub(done)?;
    if done == 0 {
        return None;
    }
    Duration::try_from_secs_f64(elapsed.as_secs_f64() * float(rest) / float(done)).ok()
}

/// A count as a number for rates, where the last digits do not matter.
#[expect(clippy::cast_precision_loss, reason = "rates are shown with a few digits")]
pub(crate) fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_is_in_proportion() {
        assert_eq!(remaining(25, 100, Duration::from_secs(5)), Some(Duration::from_secs(15)));
        assert_eq!(remaining(0, 100, Duration::from_secs(5)), None);
        assert_eq!(remaining(101, 100, Duration::from_secs(5)), None);
    }

    #[test]
    fn the_line_names_counts_and_rates() {
        let text = describe("sent", 2_000, 4_000_000, Duration::from_secs(2));
        assert_eq!(text, "sent 2000 records, 4.0 MB in 2.0 s (1000 records/s, 2.0 MB/s)");
    }
}
