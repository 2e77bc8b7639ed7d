//! Writes a history down while it happens.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use crate::check::Event;

/// A history in a file. Each note is one write to the operating system, so that what was noted outlives the process,
/// however that ends; a kill in the middle of a write leaves a torn last line.
#[derive(Debug)]
pub struct Recorder(Mutex<File>);

impl Recorder {
    /// A new history in this file.
    ///
    /// # Errors
    /// If the file is there already, or cannot be made.
    pub fn create(path: &Path) -> io::Result<Self> {
        Ok(Self(Mutex::new(File::options().append(true).create_new(true).open(path)?)))
    }

    /// Notes events, one after the other. They are in the file when this returns.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn note(&self, events: &[Event]) -> io::Result<()> {
        let lines: String = events.iter().map(Event::to_line).collect();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write_all(lines.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Recorded;

    #[test]
    fn what_was_noted_can_be_read_and_a_history_is_never_written_over() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("history.jsonl");
        let recorder = Recorder::create(&path).unwrap();
        let start = Event::Start { reader: 1, partition: 0, offset: 0 };
        recorder.note(&[start.clone(), Event::Stop { reader: 1 }]).unwrap();
        recorder.note(&[Event::Settled]).unwrap();
        let read = Recorded::read(&[&path]).unwrap();
        assert_eq!(read.events, [start, Event::Stop { reader: 1 }, Event::Settled]);
        assert!(Recorder::create(&path).is_err());
    }
}
