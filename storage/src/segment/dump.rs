//! Shows the runs and batches of a segment, and the entries of an index.

use std::ops::Range;
use std::path::Path;

use weir_protocol::read::Reader;
use weir_protocol::units::{SegmentId, Timestamp};

use super::directory::{Trailer, is_sealed};
use super::{
    HEADER_BYTES, HEADER_PAGE_BYTES, Index, Run, SegmentError, SegmentFile, SegmentIdentity, Source, Step,
    TRAILER_BYTES, Walk, segment_name, segment_of_name,
};
use crate::disk::{Context, Disk, File, Mode};
use crate::dump::{DumpError, Item, Sink, batch};

pub(crate) use super::HEADER_MAGIC as SEGMENT_MAGIC;
pub(crate) use super::index::MAGIC as INDEX_MAGIC;

/// Shows a segment.
pub(crate) fn segment<D: Disk>(disk: &D, path: &Path, sink: &mut Sink<'_>) -> Result<(), DumpError> {
    let file = disk.open(path, Mode::Read).context("open", path)?;
    let length = file.length().context("read the length of", path)?;
    let mut header = vec![0; usize::try_from(length.min(HEADER_BYTES as u64)).unwrap_or_default()];
    file.read_exact_at(&mut header, 0).context("read", path)?;
    let identity = identity(&header, path);
    let range = 0..header.len() as u64;
    let mut item = Item::new(0, "segment", range).number("segment", identity.segment.get());
    if let Some(created) = header.get(64..72).and_then(|bytes| Reader::new(bytes).i64().ok()) {
        item = item.moment("created", Timestamp::from_micros(created)).number("file_bytes", length);
    }
    sink.put(item.unless(is_sealed(&header, &identity), "wrong header hash"))?;
    let file = SegmentFile { path: path.to_owned(), file, identity };
    let (runs, directory_hash, data_end) = directory(&file, length, sink)?;
    let index = directory_hash.map(|hash| Index::map(disk, &file, hash)).transpose()?.flatten();
    let source: Source<D> = Source { file, index };
    match runs {
        Some(runs) => {
            for (number, run) in runs.iter().enumerate() {
                sink.put(run_item(number, run))?;
                batches(&source, Some((number, run)), run.range(), sink)?;
            }
        }
        // Without the directory the batches follow each other up to the first that is damaged.
        None => batches(&source, None, HEADER_PAGE_BYTES.min(length)..data_end, sink)?,
    }
    Ok(())
}

/// Which segment a header says it is of; where it is too short, which one the name says.
fn identity(header: &[u8], path: &Path) -> SegmentIdentity {
    let name = path.file_name().and_then(|name| name.to_str()).and_then(segment_of_name);
    let node = header.get(40..56).and_then(|node| node.try_into().ok()).unwrap_or_default();
    let number = header.get(56..64).and_then(|bytes| Reader::new(bytes).u64().ok()).map(SegmentId::new);
    SegmentIdentity { node, segment: name.or(number).unwrap_or_default() }
}

/// The runs, if the run directory is whole, its hash, and where batches end at the latest.
type Directory = (Option<Vec<Run>>, Option<u64>, u64);

/// Shows trailer and run directory.
fn directory<F: File>(
    file: &SegmentFile<F>,
    length: u64,
    sink: &mut Sink<'_>,
) -> Result<Directory, DumpError> {
    let at = length.saturating_sub(TRAILER_BYTES as u64);
    let mut bytes = [0; TRAILER_BYTES];
    let item = Item::new(1, "trailer", at..length);
    let whole = length > HEADER_PAGE_BYTES + TRAILER_BYTES as u64
        && file.read(&mut bytes, at).is_ok()
        && is_sealed(&bytes, &file.identity);
    let Some(trailer) = whole.then(|| Trailer::decode(&bytes).ok()).flatten() else {
        sink.put(item.damaged("no whole trailer at the end of the file"))?;
        return Ok((None, None, length));
    };
    let position = trailer.directory_position.min(length);
    sink.put(item.number("runs", trailer.run_count).number("directory", trailer.directory_position))?;
    let item = Item::new(1, "run directory", position..at);
    match file.runs(length, trailer.directory_hash) {
        Ok(runs) => {
            sink.put(item.number("runs", runs.len() as u64))?;
            Ok((Some(runs), Some(trailer.directory_hash), position))
        }
        Err(error) => {
            // A damaged header does not make the directory wrong.
            match file.directory(&trailer, trailer.directory_hash) {
                Ok(runs) => {
                    sink.put(item.number("runs", runs.len() as u64))?;
                    Ok((Some(runs), Some(trailer.directory_hash), position))
                }
                Err(_) => {
                    sink.put(item.damaged(error))?;
                    Ok((None, Some(trailer.directory_hash), position))
                }
            }
        }
    }
}

fn run_item(number: usize, run: &Run) -> Item {
    Item::new(1, "run", run.range())
        .number("run", number as u64)
        .text("partition", run.partition)
        .number("base_offset", run.base_offset.get())
        .number("end_offset", run.end_offset.get())
        .number("records", run.record_count)
        .number("epoch", run.epoch.get())
        .moment("first_append_time", run.first_append_time)
        .moment("last_append_time", run.last_append_time)
}

/// Shows the batches of a range.
fn batches<D: Disk>(
    source: &Source<D>,
    run: Option<(usize, &Run)>,
    range: Range<u64>,
    sink: &mut Sink<'_>,
) -> Result<(), DumpError> {
    let end = range.end;
    let mut walk = Walk::new(&source.file, range);
    loop {
        match walk.step() {
            Ok(Step::Batch { batch, position }) => {
                let bytes = position..position + batch.length() as u64;
                let item = batch::item(2, "batch", bytes.clone(), &batch);
                let is_here = run.is_none_or(|(_, run)| batch.producer.header().partition == run.partition);
                sink.put(item.unless(is_here, "a batch of another partition"))?;
                batch::records(3, &bytes, &batch, sink)?;
            }
            Ok(Step::Damaged { position, length }) => {
                let next = match run {
                    Some((number, run)) => {
                        source.resume(number, run, position, length).map_or(end, |(next, _)| next)
                    }
                    None => length.map_or(end, |length| (position + length).min(end)),
                };
                sink.put(Item::new(2, "batch", position..next).damaged("no whole batch begins here"))?;
                walk.skip_to(next);
            }
            Ok(Step::End) => return Ok(()),
            Err(error @ (SegmentError::Damaged { .. } | SegmentError::NewerFormat { .. })) => {
                return sink.put(Item::new(2, "batch", end..end).damaged(error));
            }
            Err(SegmentError::Disk(error)) => return Err(error.into()),
        }
    }
}

/// Shows an index. Its salt stands in the segment beside it.
pub(crate) fn index<D: Disk>(disk: &D, path: &Path, sink: &mut Sink<'_>) -> Result<(), DumpError> {
    let map = disk.map(path).context("map", path)?;
    let name = path.file_name().and_then(|name| name.to_str()).and_then(segment_of_name);
    let segment_path = name.map(|segment| path.with_file_name(segment_name(segment)));
    let header = segment_path.and_then(|path| {
        let mut header = [0; HEADER_BYTES];
        disk.open(&path, Mode::Read).ok()?.read_exact_at(&mut header, 0).ok()?;
        Some((header, path))
    });
    let identity = header.map(|(header, path)| identity(&header, &path));
    super::index::show(&map, identity.as_ref(), sink)
}
