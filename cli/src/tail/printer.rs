//! Records to stdout.

use weir_client::Delivered;

use super::TailArguments;
use crate::arguments::Global;
use crate::failure::Failure;
use crate::output::Output;
use crate::record::{Format, Row, write_json};

/// Text gathered before it goes to the output: a system call per so many bytes.
const GATHER_BYTES: usize = 64 << 10;

/// Prints records in the chosen form.
#[derive(Debug)]
pub(crate) struct Printer {
    output: Output,
    gathered: Vec<u8>,
    /// None for JSON.
    format: Option<Format>,
    records: u64,
    bytes: u64,
}

impl Printer {
    /// Takes stdout.
    pub(crate) fn open(arguments: &TailArguments, global: &Global) -> Result<Self, Failure> {
        let format = if global.json {
            None
        } else {
            Some(arguments.format.clone().unwrap_or_else(Format::value_lines))
        };
        let gathered = Vec::with_capacity(2 * GATHER_BYTES);
        Ok(Self { output: Output::open()?, gathered, format, records: 0, bytes: 0 })
    }

    /// Prints a record, some time before the next [`Printer::flush`].
    pub(crate) fn print(&mut self, record: &Delivered) -> Result<(), Failure> {
        let row = Row::from(record);
        match &self.format {
            Some(format) => format.write(&row, &mut self.gathered),
            None => write_json(&row, &mut self.gathered),
        }
        self.records += 1;
        if self.gathered.len() >= GATHER_BYTES { self.hand_over() } else { Ok(()) }
    }

    /// Makes everything visible.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        self.hand_over()?;
        self.output.flush()
    }

    /// Whether a person is looking at the records.
    pub(crate) fn is_terminal(&self) -> bool {
        self.output.is_terminal()
    }

    /// Records printed.
    pub(crate) fn records(&self) -> u64 {
        self.records
    }

    /// Bytes printed.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes + u64::try_from(self.gathered.len()).unwrap_or(u64::MAX)
    }

    fn hand_over(&mut self) -> Result<(), Failure> {
        self.bytes = self.bytes();
        self.output.bytes(&self.gathered)?;
        self.gathered.clear();
        Ok(())
    }
}
