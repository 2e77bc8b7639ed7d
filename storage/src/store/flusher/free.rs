//! Frees space on a disk that is too full for a flush, or for what a start has to write.
//!
//! The log starts that trims, deletions and retention have moved wait for a flush like everything else. If that has no
//! space, they are made durable ahead of the batches: the checkpoint says what the last one said, with later log starts.
//! The journal is applied to it as before, since a log start only ever moves forward.

use std::collections::{BTreeMap, BTreeSet};

use weir_protocol::units::{Offset, PartitionKey};

use super::stage::encode_parts;
use super::{FlushError, Flusher};
use crate::checkpoint::{Part, SLOTS};
use crate::disk::Disk;
use crate::frame::virtual_shard_of;
use crate::store::checkpointer::{Bounds, Change};
use crate::store::open::load_state;

impl<D: Disk> Flusher<D> {
    /// Removes the segments that nobody needs any more, and what a merge has written so far. Says whether anything has
    /// changed.
    ///
    /// Needs a little space itself, for the parts of the state in which a log start has moved.
    pub(super) fn free_space(&mut self) -> Result<bool, FlushError> {
        let merge = self.merge.take();
        let mut changed = merge.is_some() || self.key_merge.is_some();
        self.stop_key_merge();
        if let Some(merge) = merge {
            merge.give_up(&mut self.checkpointer);
        }
        let moved = self.moved_log_starts();
        if !moved.is_empty() {
            let checkpointer = &self.checkpointer;
            // It was readable at the start, or was written since. If it is not any more, the full disk is what is told.
            let Ok(mut state) = load_state(&checkpointer.disk, &checkpointer.paths, checkpointer.manifest())
            else {
                return Ok(changed);
            };
            let mut parts = BTreeSet::new();
            for (partition, bounds) in &moved {
                if let Some(state) = state.partitions.get_mut(partition) {
                    state.trim(bounds.log_start);
                    parts.insert(Part::Shard(virtual_shard_of(*partition)));
                }
            }
            let parts = encode_parts(&state, &parts);
            self.checkpointer.commit(&Change { parts, bounds: moved, ..Change::default() })?;
            changed = true;
        }
        // A file goes when neither slot names it.
        for _ in 0..SLOTS {
            if self.checkpointer.has_garbage() {
                self.checkpointer.commit(&Change::default())?;
                changed = true;
            }
        }
        if changed {
            // Only then is it sure that the space can be used again.
            self.checkpointer.sync_segments()?;
        }
        Ok(changed)
    }

    /// The partitions that begin later than the last checkpoint says, among what that says is in segments.
    fn moved_log_starts(&self) -> BTreeMap<PartitionKey, Bounds> {
        let catalog = self.checkpointer.shared.catalog();
        let moved = catalog.partitions().filter_map(|(partition, log)| {
            let flushed_end = log.flushed_end;
            // A partition that is gone needs none of its records.
            let state = self.state.partitions.get(&partition);
            let log_start: Offset = state.map_or(flushed_end, |state| state.log_start.min(flushed_end));
            (log_start > log.log_start).then_some((partition, Bounds { log_start, flushed_end }))
        });
        moved.collect()
    }
}
