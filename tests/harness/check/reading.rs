//! Histories of files: lines of JSON, and what is wrong with those that are none.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use super::Event;

/// A history that was read from files, one after the other.
#[derive(Debug, Default)]
pub struct Recorded {
    /// The events.
    pub events: Vec<Event>,
    /// Files whose last line has no end: whoever wrote it was killed at that moment. The line is left out. It was either
    /// a record that was not sent yet, or news that nobody has heard.
    pub torn: Vec<PathBuf>,
    /// Of each event, the file and the line in it.
    places: Vec<Place>,
    files: Vec<PathBuf>,
    /// Of each value that was sent, the event, and that of its outcome.
    values: BTreeMap<u64, (usize, Option<usize>)>,
}

/// A line of a file.
#[derive(Clone, Copy, Debug)]
struct Place {
    file: usize,
    line: usize,
}

/// Why a file is no history.
#[derive(Debug)]
pub struct Unreadable {
    file: PathBuf,
    /// Line and column, from 1 on, where a part of the file is meant.
    at: Option<(usize, usize)>,
    what: String,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some((line, column)) = self.at {
            write!(f, "{line}:{column}:")?;
        }
        write!(f, " {}", self.what)
    }
}

impl std::error::Error for Unreadable {}

impl Recorded {
    /// Reads files as one history, in this order. The order counts between events of one client or reader, which write to
    /// one file each, and between a record and its outcome. Empty lines are skipped.
    ///
    /// # Errors
    /// The first line that is no event, sends a value for the second time, or tells an outcome of what was not sent or had
    /// one before; a file that cannot be read.
    pub fn read(files: &[impl AsRef<Path>]) -> Result<Self, Unreadable> {
        let mut recorded = Self::default();
        for file in files {
            let file = file.as_ref();
            let bytes = fs::read(file).map_err(|error| {
                let what = format!("cannot be read: {error}");
                Unreadable { file: file.to_owned(), at: None, what }
            })?;
            recorded.append(file, &bytes)?;
        }
        Ok(recorded)
    }

    fn append(&mut self, file: &Path, bytes: &[u8]) -> Result<(), Unreadable> {
        self.files.push(file.to_owned());
        let unreadable =
            |line, column, what| Unreadable { file: file.to_owned(), at: Some((line, column)), what };
        for (line, text) in (1..).zip(bytes.split_inclusive(|byte| *byte == b'\n')) {
            if text.trim_ascii().is_empty() {
                continue;
            }
            match serde_json::from_slice(text.trim_ascii_end()) {
                Ok(event) => self.push(event, line).map_err(|what| unreadable(line, 1, what))?,
                Err(error) if error.is_eof() && !text.ends_with(b"\n") => self.torn.push(file.to_owned()),
                Err(error) => {
                    let what = error.to_string();
                    let what = what.split(" at line ").next().unwrap_or_default().to_owned();
                    return Err(unreadable(line, error.column().max(1), what));
                }
            }
        }
        Ok(())
    }

    fn push(&mut self, event: Event, line: usize) -> Result<(), String> {
        let index = self.events.len();
        match event {
            Event::Send { value, .. } => {
                if let Some((before, _)) = self.values.insert(value, (index, None)) {
                    return Err(format!("value {value} was sent before: {}", self.place(before)));
                }
            }
            Event::Stored { value, .. } | Event::Failed { value } | Event::InDoubt { value } => {
                let sent = self.values.get_mut(&value);
                let Some((_, outcome)) = sent else {
                    return Err(format!("value {value} was not sent before"));
                };
                if let Some(before) = outcome.replace(index) {
                    return Err(format!("value {value} had an outcome before: {}", self.place(before)));
                }
            }
            Event::Keyed { .. }
            | Event::KeyStored { .. }
            | Event::KeyConflict { .. }
            | Event::Counted { .. }
            | Event::Start { .. }
            | Event::Delivered { .. }
            | Event::Missing { .. }
            | Event::Stop { .. }
            | Event::Grouped { .. }
            | Event::Handed { .. }
            | Event::Acked { .. }
            | Event::Committed { .. }
            | Event::Position { .. }
            | Event::Limit { .. }
            | Event::Spent { .. }
            | Event::RecordLimit { .. }
            | Event::RecordsSpent { .. }
            | Event::CacheLost
            | Event::Final { .. }
            | Event::Held { .. }
            | Event::Settled => {}
        }
        self.events.push(event);
        self.places.push(Place { file: self.files.len() - 1, line });
        Ok(())
    }

    /// Values that were sent and have no outcome: whoever sent them ended before.
    pub fn unanswered(&self) -> impl Iterator<Item = u64> + '_ {
        self.values.iter().filter(|(_, (_, outcome))| outcome.is_none()).map(|(value, _)| *value)
    }

    /// File and line of an event.
    ///
    /// # Panics
    /// If there is no event of this index.
    pub fn place(&self, index: usize) -> String {
        let place = self.places.get(index).expect("an event of this history");
        let file = self.files.get(place.file).expect("a file of this history");
        format!("{}:{}", file.display(), place.line)
    }
}
