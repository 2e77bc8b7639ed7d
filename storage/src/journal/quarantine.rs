//! Keeps a copy of a torn tail, which was promised to nobody but may interest somebody, and of what was given up.

use std::io::IoSlice;
use std::ops::Range;
use std::path::{Path, PathBuf};

use weir_protocol::units::JournalPosition;

use super::Identity;
use super::file::RingFile;
use crate::disk::{Context, Disk, DiskError, File, Mode};
use crate::limits::WRITE_BYTES_MAX;

/// Name of the copy of what lies at a position.
pub(super) fn name(identity: &Identity, position: JournalPosition, extension: &str) -> String {
    format!("journal-{:010}-{:020}.{extension}", identity.incarnation.get(), position.get())
}

/// Copies a range of the journal, as far as it is there, to a file of its own and makes it durable.
pub(super) fn copy<'a, D: Disk>(
    disk: &D,
    (directory, name): (&Path, &str),
    files: impl Iterator<Item = &'a RingFile<D::File>>,
    range: &Range<JournalPosition>,
) -> Result<PathBuf, DiskError> {
    disk.create_directory(directory).context("make", directory)?;
    let path = directory.join(name);
    let unfinished = directory.join(format!("{name}.new"));
    if disk.list(directory).context("list", directory)?.iter().any(|entry| unfinished.ends_with(&entry.name))
    {
        disk.remove(&unfinished).context("remove", &unfinished)?;
    }
    let copy = disk.create(&unfinished, Mode::Write, 0).context("make", &unfinished)?;
    let mut written = 0;
    let mut buffer = vec![0; WRITE_BYTES_MAX];
    for file in files {
        let mut from = file.base.max(range.start);
        let to = file.end().min(range.end);
        while from < to {
            let left = usize::try_from(to.since(from)).unwrap_or(usize::MAX);
            let (piece, _) = buffer.split_at_mut(left.min(WRITE_BYTES_MAX));
            file.read(piece, file.byte(from))?;
            copy.write_all_at(&[IoSlice::new(piece)], written).context("write", &unfinished)?;
            written += piece.len() as u64;
            from = from.advance(piece.len() as u64);
        }
    }
    copy.sync_data().context("sync", &unfinished)?;
    disk.rename(&unfinished, &path).context("rename", &unfinished)?;
    disk.sync_directory(directory).context("sync", directory)?;
    if let Some(parent) = directory.parent() {
        disk.sync_directory(parent).context("sync", parent)?;
    }
    Ok(path)
}
