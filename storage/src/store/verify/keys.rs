//! Verifies generations of keys, block by block.

use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};

use super::DamagedRange;
use crate::dedup::filter::Width;
use crate::dedup::generation::{GenerationFacts, GenerationFile, generation_name};
use crate::disk::{Context, Disk, File};
use crate::segment::{SegmentError, SegmentIdentity};

/// Reads all of a generation. What is damaged is added to `found`; `pace` is told how many bytes were read, and says whether
/// to go on.
pub(in crate::store) fn check_keys<D: Disk>(
    (disk, directory): (&D, &Path),
    (identity, facts): (SegmentIdentity, GenerationFacts),
    found: &mut Vec<DamagedRange>,
    pace: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, SegmentError> {
    let path = directory.join(generation_name(identity.segment));
    let file = match GenerationFile::open(disk, directory, identity, facts) {
        Ok(file) => file,
        Err(SegmentError::Disk(error)) if error.source.kind() == std::io::ErrorKind::NotFound => {
            found.push(damage(path, (0..facts.bytes, "generation of keys is missing"), false));
            return Ok(ControlFlow::Continue(()));
        }
        Err(SegmentError::Damaged { path, what, bytes }) => {
            found.push(damage(path, (bytes, what), false));
            return Ok(ControlFlow::Continue(()));
        }
        Err(error) => return Err(error),
    };
    file.file.drop_cache().context("drop the cache of", &file.path)?;
    let mut is_filter_read = false;
    for number in 0..=file.block_count() {
        let read = if number < file.block_count() {
            file.block(number).map(|_| ())
        } else {
            is_filter_read = true;
            file.filter(Width::Wide).map(|_| ())
        };
        match read {
            Ok(()) => {}
            // Its keys are looked for in the blocks.
            Err(SegmentError::Damaged { path, what, bytes }) => {
                found.push(damage(path, (bytes, what), is_filter_read));
            }
            Err(error) => return Err(error),
        }
        let bytes = if is_filter_read { file.filter_memory(Width::Wide) } else { crate::disk::BLOCK_BYTES };
        if pace(bytes).is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    file.file.drop_cache().context("drop the cache of", &file.path)?;
    Ok(ControlFlow::Continue(()))
}

fn damage(path: PathBuf, (bytes, what): (Range<u64>, &str), is_harmless: bool) -> DamagedRange {
    DamagedRange { path, bytes, what: what.to_owned(), records: None, is_harmless }
}
