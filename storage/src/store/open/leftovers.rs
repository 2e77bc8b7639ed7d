//! Files that no checkpoint names: those of a flush or merge that died, and those that nobody knows.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use weir_protocol::units::SegmentId;

use crate::checkpoint::{Manifest, Paths, Slots, state_id_of_name};
use crate::disk::{Context, Disk, DiskError, Entry};
use crate::segment::segment_of_name;

/// What is in the directories of segments and state files besides what a checkpoint names.
#[derive(Debug, Default)]
pub(in crate::store) struct Leftovers {
    /// Files that were never named, or are not any more: what they hold is elsewhere.
    pub(in crate::store) removable: Vec<PathBuf>,
    /// The segments among them, and those that only a checkpoint names that is not used.
    pub(in crate::store) retired_segments: BTreeSet<SegmentId>,
    /// The state files among them, and those that only a checkpoint names that is not used.
    pub(in crate::store) retired_states: BTreeSet<u64>,
    /// Files with other names or numbers.
    pub(in crate::store) unknown: Vec<PathBuf>,
    /// Numbers from here on have no files.
    pub(in crate::store) free_segment: SegmentId,
    /// Numbers from here on have no files.
    pub(in crate::store) free_state: u64,
}

/// The files of a directory that may not exist.
pub(in crate::store) fn list<D: Disk>(disk: &D, directory: &Path) -> Result<Vec<Entry>, DiskError> {
    match disk.list(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        listed => listed.context("list", directory),
    }
}

/// Looks for files that `manifest` does not name.
pub(in crate::store) fn find<D: Disk>(
    disk: &D,
    paths: &Paths,
    manifest: &Manifest,
    slots: &Slots<D>,
) -> Result<Leftovers, DiskError> {
    let mut found = Leftovers {
        free_segment: manifest.next_segment,
        free_state: manifest.next_state,
        ..Leftovers::default()
    };
    for entry in list(disk, &paths.segments)? {
        let path = paths.segments.join(&entry.name);
        match segment_of_name(&entry.name) {
            Some(segment) => {
                found.free_segment = found.free_segment.max(segment.next());
                let is_spent =
                    segment >= manifest.next_segment || manifest.retired_segments.contains(&segment);
                if manifest.segments.contains_key(&segment) || manifest.generations.contains_key(&segment) {
                    continue;
                }
                let is_named = slots.names_segment(segment);
                if is_named || is_spent {
                    found.retired_segments.insert(segment);
                }
                if !is_named {
                    if is_spent { found.removable.push(path) } else { found.unknown.push(path) }
                }
            }
            None => found.unknown.push(path),
        }
    }
    let live = manifest.state_files();
    for entry in list(disk, &paths.state)? {
        let path = paths.state.join(&entry.name);
        match state_id_of_name(&entry.name) {
            Some(number) => {
                found.free_state = found.free_state.max(number + 1);
                let is_spent = number >= manifest.next_state || manifest.retired_states.contains(&number);
                if live.contains(&number) {
                    continue;
                }
                let is_named = slots.names_state(number);
                if is_named || is_spent {
                    found.retired_states.insert(number);
                }
                if !is_named {
                    if is_spent { found.removable.push(path) } else { found.unknown.push(path) }
                }
            }
            None => found.unknown.push(path),
        }
    }
    Ok(found)
}
