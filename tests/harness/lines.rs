//! Text to send, and what must come back.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Numbered lines of varying lengths: each is the only one of its kind, so a loss or a duplicate shows.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Lines {
    text: String,
    count: usize,
}

impl Lines {
    /// `count` lines, the first with number `first`.
    pub fn numbered(first: usize, count: usize) -> Self {
        let mut text = String::new();
        for number in first..first + count {
            // Lengths from none to some hundred bytes, without a source of chance.
            let length = number.wrapping_mul(2_654_435_761) % 211;
            let filler: String = "weir ümlaut ".chars().cycle().take(length).collect();
            writeln!(text, "{number} {filler}").expect("writing to a string cannot fail");
        }
        Self { text, count }
    }

    /// The lines with their ends.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// How many there are.
    pub const fn count(&self) -> usize {
        self.count
    }
}

/// How often each line occurs.
pub fn multiset(text: &str) -> BTreeMap<&str, usize> {
    let mut lines = BTreeMap::new();
    for line in text.lines() {
        *lines.entry(line).or_insert(0) += 1;
    }
    lines
}
