//! A checkpoint as it was found: what it says, and how much of what it names can be read.

use std::collections::BTreeMap;
use std::ops::Range;

use weir_protocol::units::{Offset, PartitionKey, SegmentId};

use super::directories::{self, Directories};
use super::{OpenError, load_state};
use crate::checkpoint::{Manifest, Paths};
use crate::disk::Disk;
use crate::state::NodeState;
use crate::store::catalog::Catalog;
use crate::store::keys;

/// See the module.
#[derive(Debug)]
pub(in crate::store) struct Checkpoint<'a> {
    pub(in crate::store) manifest: &'a Manifest,
    pub(in crate::store) state: NodeState,
    pub(in crate::store) directories: Directories,
    pub(in crate::store) catalog: Catalog,
    /// Records that should be in segments, are in none that can be read, and were not given up.
    pub(in crate::store) unreadable: Vec<(PartitionKey, Range<Offset>)>,
    /// Generations of keys that cannot be read, with how many they hold.
    pub(in crate::store) lost_keys: BTreeMap<SegmentId, u64>,
}

impl<'a> Checkpoint<'a> {
    /// Reads the state and the run directories that a manifest names.
    pub(in crate::store) fn read<D: Disk>(
        disk: &D,
        paths: &Paths,
        manifest: &'a Manifest,
    ) -> Result<Self, OpenError> {
        let state = load_state(disk, paths, manifest)?;
        let directories = directories::read(disk, paths, manifest)?;
        let catalog = directories.catalog(&state, manifest);
        let unreadable = unreadable(&catalog, &state);
        let lost_keys = keys::unreadable(disk, paths, manifest)?;
        Ok(Self { manifest, state, directories, catalog, unreadable, lost_keys })
    }

    /// How many records and keys cannot be read.
    pub(in crate::store) fn lost(&self) -> u64 {
        let records: u64 = self.unreadable.iter().map(|(_, records)| records.end.since(records.start)).sum();
        records + self.lost_keys.values().sum::<u64>()
    }

    /// What keeps it from reading everything.
    pub(in crate::store) fn trouble(&self) -> String {
        let lost = self.lost_keys.keys().map(|number| format!("generation {number} of keys is damaged"));
        self.directories.damaged.iter().cloned().chain(lost).collect::<Vec<_>>().join("; ")
    }
}

/// Records that should be in segments, are in none, and were not given up.
pub(in crate::store) fn unreadable(
    catalog: &Catalog,
    state: &NodeState,
) -> Vec<(PartitionKey, Range<Offset>)> {
    let mut found = Vec::new();
    for (partition, log) in catalog.partitions() {
        let Some(state) = state.partitions.get(&partition) else { continue };
        for gap in log.gaps() {
            found.extend(state.given_up.remainder(&gap).into_iter().map(|records| (partition, records)));
        }
    }
    found
}
