//! The record of a repair: a text in `quarantine/` that says what was given up, when and why.

use std::fmt::Write as _;
use std::io::{ErrorKind, IoSlice};
use std::path::{Path, PathBuf};

use weir_protocol::units::{Incarnation, Timestamp};

use super::loss::Loss;
use super::plan::{AffectedRecords, Finding};
use crate::checkpoint::Paths;
use crate::disk::{Context, Disk, DiskError, File, Mode};

const PREFIX: &str = "repair-";
const EXTENSION: &str = ".txt";

/// Longest record that is looked into.
const RECORD_BYTES_MAX: u64 = 64 << 20;

/// Writes the record and makes it durable. One of the same incarnation, of a repair that died, is replaced.
pub(super) fn write<D: Disk>(
    disk: &D,
    paths: &Paths,
    (incarnation, now): (Incarnation, Timestamp),
    findings: &[Finding],
    copies: &[PathBuf],
) -> Result<PathBuf, DiskError> {
    let directory = &paths.quarantine;
    let path = directory.join(format!("{PREFIX}{:010}{EXTENSION}", incarnation.get()));
    let unfinished = directory.join(format!("{PREFIX}{:010}{EXTENSION}.new", incarnation.get()));
    match disk.remove(&unfinished) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error).context("remove", &unfinished);
        }
        Ok(()) | Err(_) => {}
    }
    let text = text((incarnation, now), findings, copies);
    let file = disk.create(&unfinished, Mode::Write, 0).context("make", &unfinished)?;
    file.write_all_at(&[IoSlice::new(text.as_bytes())], 0).context("write", &unfinished)?;
    file.sync_data().context("sync", &unfinished)?;
    disk.rename(&unfinished, &path).context("rename", &unfinished)?;
    disk.sync_directory(directory).context("sync", directory)?;
    Ok(path)
}

fn text(when: (Incarnation, Timestamp), findings: &[Finding], copies: &[PathBuf]) -> String {
    let (incarnation, now) = when;
    let mut text = format!("time_us {}\nincarnation {incarnation}\n", now.as_micros());
    let mut line = |line: std::fmt::Arguments<'_>| {
        writeln!(text, "{line}").expect("writing to a string cannot fail");
    };
    for finding in findings {
        line(format_args!("range {}", finding.loss));
        line(format_args!("because {}", finding.what));
        for AffectedRecords { partition, topic, offsets, is_exact } in &finding.records {
            let most = if *is_exact { "" } else { " at most" };
            let (from, to) = (offsets.start, offsets.end);
            line(format_args!("lost {topic}/{}:{from}..{to}{most}", partition.partition));
        }
    }
    for copy in copies {
        line(format_args!("copy {}", copy.display()));
    }
    text
}

/// Whether a record says that a range was given up.
pub(super) fn mentions<D: Disk>(disk: &D, paths: &Paths, loss: &Loss) -> Result<bool, DiskError> {
    let wanted = format!("range {loss}");
    let entries = match disk.list(&paths.quarantine) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        entries => entries.context("list", &paths.quarantine)?,
    };
    for entry in entries {
        let is_record = entry.name.starts_with(PREFIX) && entry.name.ends_with(EXTENSION);
        if is_record && entry.length <= RECORD_BYTES_MAX {
            let text = read(disk, &paths.quarantine.join(&entry.name), entry.length)?;
            if text.lines().any(|line| line == wanted) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

fn read<D: Disk>(disk: &D, path: &Path, length: u64) -> Result<String, DiskError> {
    let mut bytes = vec![0; usize::try_from(length).expect("limited")];
    let file = disk.open(path, Mode::Read).context("open", path)?;
    file.read_exact_at(&mut bytes, 0).context("read", path)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
