//! Shows what stands in the files of a data directory, for people who want to see for themselves.
//!
//! Nothing is changed, and nothing is believed: each part is shown with its place and, where a hash tells, whether it
//! is damaged. The dump goes on behind damage where it can. Memory is bounded by the longest block, batch or manifest.

use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::checkpoint::{self, Paths};
use crate::dedup::generation::dump as keys;
use crate::disk::{Context, Disk, DiskError, File, Mode};
use crate::{journal, segment};

pub(crate) mod batch;

/// A part of a file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Item {
    /// Which bytes of the file. Records share the bytes of their batch, which may be compressed.
    pub bytes: Range<u64>,
    /// How deep it is nested, from 0.
    pub level: u8,
    /// What it is.
    pub kind: &'static str,
    /// What it says, by name.
    pub fields: Vec<(&'static str, Value)>,
    /// What is wrong with it; `None` if all that can be checked is right.
    pub damage: Option<String>,
}

/// What a field holds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Value {
    /// A number that is never negative.
    Number(u64),
    /// A moment, in microseconds since 1970-01-01T00:00:00Z.
    Moment(i64),
    /// A text.
    Text(String),
}

/// What is shown.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct DumpOptions {
    /// Whether records are shown, too, with what their keys and values begin with.
    pub records: bool,
}

/// Why a dump ended early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DumpError {
    /// The file does not begin as one of Weir's does.
    #[error("{} is no file of Weir: it does not begin as any of them does", path.display())]
    Unknown {
        /// The file.
        path: PathBuf,
    },
    /// Whoever looks has seen enough.
    #[error("the dump was stopped")]
    Stopped,
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl DumpError {
    /// Whether the same call can succeed later.
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Disk(_) => true,
            Self::Unknown { .. } | Self::Stopped => false,
        }
    }
}

/// A file of a data directory.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ListedFile {
    /// Its path.
    pub path: PathBuf,
    /// What it begins as, or "other".
    pub kind: &'static str,
    /// Its length in bytes.
    pub bytes: u64,
}

/// Where the items go.
pub(crate) struct Sink<'a> {
    show: &'a mut dyn FnMut(Item) -> bool,
    damaged: u64,
    pub(crate) options: DumpOptions,
}

impl Item {
    pub(crate) fn new(level: u8, kind: &'static str, bytes: Range<u64>) -> Self {
        Self { bytes, level, kind, fields: Vec::new(), damage: None }
    }

    pub(crate) fn number(mut self, name: &'static str, value: impl Into<u64>) -> Self {
        self.fields.push((name, Value::Number(value.into())));
        self
    }

    pub(crate) fn moment(mut self, name: &'static str, value: weir_protocol::units::Timestamp) -> Self {
        self.fields.push((name, Value::Moment(value.as_micros())));
        self
    }

    pub(crate) fn text(mut self, name: &'static str, value: impl std::fmt::Display) -> Self {
        self.fields.push((name, Value::Text(value.to_string())));
        self
    }

    pub(crate) fn damaged(mut self, what: impl std::fmt::Display) -> Self {
        self.damage = Some(what.to_string());
        self
    }

    /// Damaged unless a condition holds.
    pub(crate) fn unless(self, is_right: bool, what: &str) -> Self {
        if is_right { self } else { self.damaged(what) }
    }
}

impl Sink<'_> {
    /// Shows an item.
    pub(crate) fn put(&mut self, item: Item) -> Result<(), DumpError> {
        self.damaged += u64::from(item.damage.is_some());
        if (self.show)(item) { Ok(()) } else { Err(DumpError::Stopped) }
    }
}

/// Shows what stands in a file, part by part, and returns how many parts are damaged. `show` says whether to go on.
///
/// What a file does not tell of itself is looked up beside it: a state file needs the manifest of its directory, an
/// index its segment.
///
/// # Errors
/// [`DumpError`]. Damage is no error.
pub fn dump<D: Disk>(
    disk: &D,
    path: &Path,
    options: DumpOptions,
    show: &mut dyn FnMut(Item) -> bool,
) -> Result<u64, DumpError> {
    let file = disk.open(path, Mode::Read).context("open", path)?;
    let length = file.length().context("read the length of", path)?;
    let mut magic = [0; 8];
    if length >= magic.len() as u64 {
        file.read_exact_at(&mut magic, 0).context("read", path)?;
    }
    let mut sink = Sink { show, damaged: 0, options };
    match kind_of(&magic) {
        Some("journal") => journal::dump::file(&file, path, &mut sink)?,
        Some("journal fragment") => journal::dump::fragment(disk, &file, path, &mut sink)?,
        Some("segment") => segment::dump::segment(disk, path, &mut sink)?,
        Some("index") => segment::dump::index(disk, path, &mut sink)?,
        Some("manifest") => checkpoint::dump::manifest(&file, path, &mut sink)?,
        Some("state") => checkpoint::dump::state(disk, &file, path, &mut sink)?,
        Some("keys") => keys::generation(disk, path, &mut sink)?,
        // The first bytes may be what is damaged: the name still tells.
        Some(_) | None => match path.extension().and_then(|extension| extension.to_str()) {
            Some("wal") => journal::dump::file(&file, path, &mut sink)?,
            Some("seg") => segment::dump::segment(disk, path, &mut sink)?,
            Some("key") => keys::generation(disk, path, &mut sink)?,
            Some(_) | None => return Err(DumpError::Unknown { path: path.to_owned() }),
        },
    }
    Ok(sink.damaged)
}

/// The files of a data directory and of its parts, with what they begin as.
///
/// # Errors
/// If a directory cannot be listed or a file cannot be read.
pub fn list_files<D: Disk>(disk: &D, directory: &Path) -> Result<Vec<ListedFile>, DiskError> {
    let paths = Paths::new(directory);
    let mut listed = Vec::new();
    for place in [&paths.root, &paths.journal, &paths.segments, &paths.state, &paths.quarantine] {
        let entries = match disk.list(place) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && *place != paths.root => continue,
            entries => entries.context("list", place)?,
        };
        for entry in entries {
            let path = place.join(&entry.name);
            let mut magic = [0; 8];
            if entry.length >= magic.len() as u64 {
                // What cannot be read is listed all the same.
                let read = disk.open(&path, Mode::Read).and_then(|file| file.read_exact_at(&mut magic, 0));
                drop(read);
            }
            listed.push(ListedFile { path, kind: kind_of(&magic).unwrap_or("other"), bytes: entry.length });
        }
    }
    Ok(listed)
}

/// What a file is that begins with these bytes.
fn kind_of(magic: &[u8; 8]) -> Option<&'static str> {
    let kinds = [
        (&journal::dump::FILE_MAGIC, "journal"),
        (&journal::dump::BLOCK_MAGIC, "journal fragment"),
        (&segment::dump::SEGMENT_MAGIC, "segment"),
        (&segment::dump::INDEX_MAGIC, "index"),
        (&checkpoint::dump::MANIFEST_MAGIC, "manifest"),
        (&checkpoint::dump::STATE_MAGIC, "state"),
        (&keys::GENERATION_MAGIC, "keys"),
    ];
    kinds.into_iter().find(|(known, _)| *known == magic).map(|(_, kind)| kind)
}
