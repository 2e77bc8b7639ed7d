//! The one way to stdout: buffered, without line buffering underneath, and with an error where nobody reads.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::os::fd::AsFd as _;

use serde::Serialize;

use crate::failure::Failure;

/// Large enough that a system call carries hundreds of records.
const BUFFER_BYTES: usize = 64 << 10;

/// Buffered stdout. Dropping it without [`Output::finish`] may lose what is buffered.
#[derive(Debug)]
pub(crate) struct Output {
    // A duplicate of the descriptor: `std::io::Stdout` looks for newlines in everything that passes.
    file: BufWriter<File>,
    terminal: bool,
}

impl Output {
    /// Takes stdout.
    pub(crate) fn open() -> Result<Self, Failure> {
        let stdout = io::stdout();
        let terminal = stdout.is_terminal();
        let descriptor = stdout.as_fd().try_clone_to_owned().map_err(|error| Failure::stdout(&error))?;
        Ok(Self { file: BufWriter::with_capacity(BUFFER_BYTES, File::from(descriptor)), terminal })
    }

    /// Whether a person is looking.
    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Writes bytes.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.file.write_all(bytes).map_err(|error| Failure::stdout(&error))
    }

    /// Writes a line.
    pub(crate) fn line(&mut self, text: &str) -> Result<(), Failure> {
        self.bytes(text.as_bytes())?;
        self.bytes(b"\n")
    }

    /// Writes one JSON document: for people over several lines, for programs on one.
    pub(crate) fn document(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        let written = if self.terminal {
            serde_json::to_writer_pretty(&mut self.file, value)
        } else {
            serde_json::to_writer(&mut self.file, value)
        };
        written.map_err(|error| Failure::stdout(&error.into()))?;
        self.bytes(b"\n")
    }

    /// Writes one JSON object of a stream, on a line.
    pub(crate) fn object(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        serde_json::to_writer(&mut self.file, value).map_err(|error| Failure::stdout(&error.into()))?;
        self.bytes(b"\n")
    }

    /// Writes a table.
    pub(crate) fn table(&mut self, table: &Table) -> Result<(), Failure> {
        let text = table.render(self.terminal);
        self.bytes(text.as_bytes())
    }

    /// Hands what is buffered to the system.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        self.file.flush().map_err(|error| Failure::stdout(&error))
    }

    /// Hands over what is left.
    pub(crate) fn finish(mut self) -> Result<(), Failure> {
        self.flush()
    }
}

/// On which side a column lines up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Align {
    /// Texts.
    Left,
    /// Numbers.
    Right,
}

/// Rows under headings, in columns that line up.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table.
    pub(crate) fn new(columns: &[(&'static str, Align)]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row. It has a cell for each column.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        assert_eq!(cells.len(), self.columns.len(), "a row has a cell for each column");
        self.rows.push(cells);
    }

    /// The text; headings stand out where `terminal` says that a person is looking.
    fn render(&self, terminal: bool) -> String {
        let widths: Vec<usize> = (0..self.columns.len()).map(|column| self.width(column)).collect();
        let headings: Vec<&str> = self.columns.iter().map(|(heading, _)| *heading).collect();
        let mut text = String::new();
        let heading = self.aligned(&headings, &widths);
        if terminal {
            text.push_str(&format!("\u{1b}[1m{heading}\u{1b}[0m\n"));
        } else {
            text.push_str(&format!("{heading}\n"));
        }
        for row in &self.rows {
            let cells: Vec<&str> = row.iter().map(String::as_str).collect();
            text.push_str(&self.aligned(&cells, &widths));
            text.push('\n');
        }
        text
    }

    /// Width of the widest cell of a column, its heading included.
    fn width(&self, column: usize) -> usize {
        let heading = self.columns.get(column).map_or(0, |(heading, _)| heading.chars().count());
        let cells = self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.fold(heading, usize::max)
    }

    fn aligned(&self, cells: &[&str], widths: &[usize]) -> String {
        let padded =
            cells.iter().zip(widths).zip(&self.columns).map(|((cell, width), (_, align))| match align {
                Align::Left => format!("{cell:<width$}"),
                Align::Right => format!("{cell:>width$}"),
            });
        padded.collect::<Vec<String>>().join("  ").trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_do_not_trail() {
        let mut table = Table::new(&[("NAME", Align::Left), ("BYTES", Align::Right), ("NOTE", Align::Left)]);
        table.row(vec!["orders".into(), "7".into(), String::new()]);
        table.row(vec!["é".into(), "1234567".into(), "x".into()]);
        assert_eq!(table.render(false), "NAME      BYTES  NOTE\norders        7\né       1234567  x\n");
        assert!(table.render(true).starts_with("\u{1b}[1mNAME"));
    }
}
