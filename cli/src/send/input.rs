//! Input of `weir send`: read in large pieces by a thread of its own, cut into records without copying them.

use std::fs::File;
use std::io::{BufRead as _, IsTerminal as _, Read};
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;
use weir_client::Message;
use weir_protocol::limits::BATCH_BYTES_LIMIT;

use super::SendArguments;
use super::arguments::InputFormat;
use super::template::Template;
use crate::code::Code;
use crate::failure::{Exit, Failure};
use crate::record::parse_line;

/// Bytes asked for at once: system calls vanish, and records of a block share one allocation.
const READ_BYTES: usize = 256 << 10;

/// Pieces read ahead of the sender.
const BLOCKS_AHEAD: usize = 8;

/// Longest line, and longest raw input: the largest batch, in base64, with room for what stands around it.
const LINE_BYTES_MAX: usize = 32 << 20;
const _: () = assert!(
    LINE_BYTES_MAX > BATCH_BYTES_LIMIT as usize / 3 * 4 + (1 << 20),
    "a line holds the largest record"
);

/// Whole lines; only the last of the input may lack its newline. Never empty.
#[derive(Debug)]
struct Block {
    bytes: Bytes,
    /// Number of its first line, from 1.
    first_line: u64,
}

/// Where records come from.
#[derive(Debug)]
pub(crate) struct Input {
    template: Template,
    format: InputFormat,
    blocks: mpsc::Receiver<Result<Block, Failure>>,
    /// Checked ahead of everything else.
    first: Option<Records>,
    /// The input is there at once and may be checked before anything is changed.
    is_file: bool,
    total_bytes: Option<u64>,
}

impl Input {
    /// Opens what the options name, and begins to read it.
    pub(crate) fn open(arguments: &SendArguments) -> Result<Self, Failure> {
        let single = arguments.value.as_deref().is_some_and(|value| value != "-");
        if arguments.id.is_some() && !single && arguments.input != InputFormat::Raw {
            let failure = Failure::usage("--id names one record, and the input may hold many");
            return Err(failure.help("give a VALUE or --in raw, or 'id' in each line of --in json"));
        }
        if arguments.expect.expect().is_some() && !single && arguments.input != InputFormat::Raw {
            let failure = Failure::usage("an expectation is of one record, and the input may hold many");
            return Err(failure.help("give a VALUE or --in raw, or 'expect' in each line of --in json"));
        }
        let (send, blocks) = mpsc::channel(BLOCKS_AHEAD);
        let mut input = Self {
            template: Template::new(arguments),
            format: arguments.input,
            blocks,
            first: None,
            is_file: true,
            total_bytes: None,
        };
        match (&arguments.value, &arguments.file) {
            (Some(value), _) if value != "-" => input.first = Some(input.value(value)?),
            (_, Some(path)) if path != Path::new("-") => {
                let file = File::open(path).map_err(|error| Failure::file("read", path, &error))?;
                let metadata = file.metadata().map_err(|error| Failure::file("read", path, &error))?;
                if metadata.is_dir() {
                    return Err(Failure::file("read", path, &std::io::ErrorKind::IsADirectory.into()));
                }
                input.total_bytes = metadata.is_file().then_some(metadata.len());
                read_on_thread(file, path.clone(), arguments.input, send)?;
            }
            _ => {
                input.is_file = false;
                if std::io::stdin().is_terminal() {
                    crate::chatter("weir: each line is a record; Ctrl-D ends");
                }
                read_on_thread(std::io::stdin(), "stdin".into(), arguments.input, send)?;
            }
        }
        Ok(input)
    }

    /// Length of the input, where it is known.
    pub(crate) fn total_bytes(&self) -> Option<u64> {
        self.total_bytes
    }

    /// Reads and checks the first piece of a file, so that a file of the wrong kind changes nothing.
    pub(crate) async fn check_first(&mut self) -> Result<(), Failure> {
        if self.is_file && self.first.is_none() {
            self.first = self.next().await?;
        }
        Ok(())
    }

    /// The next records, all of them checked; none at the end.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(crate) async fn next(&mut self) -> Result<Option<Records>, Failure> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        match self.blocks.recv().await {
            Some(block) => self.records(block?).map(Some),
            None => Ok(None),
        }
    }

    /// The value on the command line, which is one record even if it has lines, unless it is JSON.
    fn value(&self, value: &str) -> Result<Records, Failure> {
        let bytes = Bytes::from(value.to_owned().into_bytes());
        match self.format {
            InputFormat::Json => self.records(Block { bytes, first_line: 1 }),
            InputFormat::Lines | InputFormat::Raw => Ok(Records::one(self.template.record(bytes))),
        }
    }

    fn records(&self, block: Block) -> Result<Records, Failure> {
        let bytes_read = u64::try_from(block.bytes.len()).unwrap_or(u64::MAX);
        Ok(match self.format {
            InputFormat::Lines => Records {
                bytes_read,
                source: Source::Lines(self.template.clone(), Lines { rest: block.bytes }),
            },
            InputFormat::Raw => Records::one(self.template.record(block.bytes)),
            InputFormat::Json => {
                let messages = self.parse(block)?;
                Records { bytes_read, source: Source::Parsed(messages.into_iter()) }
            }
        })
    }

    /// Every line of a block as a record. Lines of nothing but white space are skipped.
    fn parse(&self, block: Block) -> Result<Vec<Message>, Failure> {
        let mut messages = Vec::new();
        for (line, number) in (Lines { rest: block.bytes }).zip(block.first_line..) {
            if line.trim_ascii().is_empty() {
                continue;
            }
            let message = parse_line(&line).map_err(|error| {
                Failure::new(Exit::Failed, Code::Input, format_args!("line {number}: {error}"))
                    .help("each line is an object such as {\"key\": \"user-42\", \"value\": \"hello\"}")
            })?;
            messages.push(self.template.complete(message));
        }
        Ok(messages)
    }
}

/// Records that are ready to be sent.
#[derive(Debug)]
pub(crate) struct Records {
    /// Bytes of the input they stand for.
    pub(crate) bytes_read: u64,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Lines(Template, Lines),
    Parsed(std::vec::IntoIter<Message>),
}

impl Records {
    fn one(message: Message) -> Self {
        let bytes_read = u64::try_from(message.size()).unwrap_or(u64::MAX);
        Self { bytes_read, source: Source::Parsed(vec![message].into_iter()) }
    }
}

impl Iterator for Records {
    type Item = Message;

    fn next(&mut self) -> Option<Message> {
        match &mut self.source {
            Source::Lines(template, lines) => lines.next().map(|line| template.record(line)),
            Source::Parsed(messages) => messages.next(),
        }
    }
}

/// Lines of a block as slices of it, without their newlines.
#[derive(Debug)]
struct Lines {
    rest: Bytes,
}

impl Iterator for Lines {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.rest.is_empty() {
            return None;
        }
        // Searches with the vector instructions of the standard library, which offers them only here.
        let length = (&self.rest[..]).skip_until(b'\n').expect("reading from memory cannot fail");
        let mut line = self.rest.split_to(length);
        if line.ends_with(b"\n") {
            line.truncate(length - 1);
        }
        Some(line)
    }
}

/// Reads `source` to its end on a thread. Nobody waits for the thread: it may hang on a terminal for ever.
fn read_on_thread(
    source: impl Read + Send + 'static,
    path: PathBuf,
    format: InputFormat,
    blocks: mpsc::Sender<Result<Block, Failure>>,
) -> Result<(), Failure> {
    let started = std::thread::Builder::new().name("weir-input".to_owned()).spawn(move || {
        if let Err(failure) = read(source, &path, format, &blocks) {
            // A sender that has gone does not want to know.
            blocks.blocking_send(Err(failure)).ok();
        }
    });
    started.map(drop).map_err(|error| Failure::file("start to read", Path::new("the input"), &error))
}

fn read(
    mut source: impl Read,
    path: &Path,
    format: InputFormat,
    blocks: &mpsc::Sender<Result<Block, Failure>>,
) -> Result<(), Failure> {
    let mut buffer = BytesMut::new();
    let mut first_line = 1;
    loop {
        let count =
            read_some(&mut source, &mut buffer).map_err(|error| Failure::file("read", path, &error))?;
        let whole = match (count, format) {
            (0, InputFormat::Raw) => buffer.len().max(1),
            (0, InputFormat::Lines | InputFormat::Json) => buffer.len(),
            (_, InputFormat::Raw) => 0,
            (_, InputFormat::Lines | InputFormat::Json) => {
                buffer.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1)
            }
        };
        if whole > 0 {
            let bytes = buffer.split_to(whole.min(buffer.len())).freeze();
            let lines = if format == InputFormat::Json { count_lines(&bytes) } else { 0 };
            if blocks.blocking_send(Ok(Block { bytes, first_line })).is_err() {
                return Ok(());
            }
            first_line += lines;
        }
        if count == 0 {
            return Ok(());
        }
        if buffer.len() > LINE_BYTES_MAX {
            let text =
                format_args!("{}: no record can be longer than {LINE_BYTES_MAX} bytes", path.display());
            return Err(Failure::new(Exit::Failed, Code::Input, text));
        }
    }
}

/// Reads once, and again if that was interrupted by a signal. 0 bytes are the end.
fn read_some(source: &mut impl Read, buffer: &mut BytesMut) -> std::io::Result<usize> {
    let filled = buffer.len();
    buffer.resize(filled + READ_BYTES, 0);
    let free = buffer.get_mut(filled..).expect("the buffer has just become longer");
    let count = loop {
        match source.read(free) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            other => break other,
        }
    };
    buffer.truncate(filled + *count.as_ref().unwrap_or(&0));
    count
}

fn count_lines(bytes: &[u8]) -> u64 {
    bytes.iter().map(|byte| u64::from(*byte == b'\n')).sum()
}

#[cfg(test)]
mod tests;
