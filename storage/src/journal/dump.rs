//! Shows the blocks and frames of a ring file, or of a part of the journal that was set aside.

use std::ops::Range;
use std::path::Path;

use bytes::Bytes;
use weir_protocol::units::JournalPosition;

use super::JournalId;
use super::block::{BLOCK_HEADER_BYTES, Inspected};
use super::file::{BadHeader, FileHeader, HEADER_PAGE_BYTES};
use crate::checkpoint::{Paths, read_slot};
use crate::disk::{BLOCK_BYTES, Context, Disk, File};
use crate::dump::{DumpError, Item, Sink, batch};
use crate::frame::{FRAME_HEADER_BYTES, Frame};

pub(crate) use super::block::MAGIC as BLOCK_MAGIC;
pub(crate) use super::file::MAGIC as FILE_MAGIC;

/// Shows a ring file.
pub(crate) fn file<F: File>(file: &F, path: &Path, sink: &mut Sink<'_>) -> Result<(), DumpError> {
    let length = file.length().context("read the length of", path)?;
    let mut page = vec![0; usize::try_from(length.min(HEADER_PAGE_BYTES)).unwrap_or_default()];
    file.read_exact_at(&mut page, 0).context("read", path)?;
    let item = Item::new(0, "journal", 0..page.len() as u64);
    // The salt of the blocks stands in the header; they are checked with it even where the header is damaged.
    let journal = page.get(40..56).and_then(|id| id.try_into().ok()).map(JournalId::from_bytes);
    let mut place = Place::Unknown;
    let item = match FileHeader::decode(&page) {
        Ok(header) => {
            place = header.base.map_or(Place::Spare, Place::At);
            let item = item.number("number", header.number).number("file_bytes", header.bytes);
            let item = match header.base {
                Some(base) => item.number("base", base.get()),
                None => item.text("base", "none: the file is spare"),
            };
            item.unless(header.bytes <= length, "the file is shorter than its header says")
        }
        Err(BadHeader::Damaged) => item.damaged("wrong header hash"),
        Err(BadHeader::Newer { version, features }) => {
            return sink.put(item.damaged(format_args!(
                "a later version wrote it: format {version}, unknown feature bits {features:#x}"
            )));
        }
    };
    sink.put(item)?;
    Blocks { file, path, journal, place, from: HEADER_PAGE_BYTES, length, end: None, gap: None }.show(sink)
}

/// Shows a part of the journal that was copied to `quarantine`. The salt stands in the manifest of the directory.
pub(crate) fn fragment<D: Disk>(
    disk: &D,
    file: &D::File,
    path: &Path,
    sink: &mut Sink<'_>,
) -> Result<(), DumpError> {
    let length = file.length().context("read the length of", path)?;
    let root = path.parent().and_then(Path::parent).map(Paths::new);
    let found = root.and_then(|paths| {
        [0, 1].into_iter().find_map(|slot| Some(read_slot(disk, &paths.slot(slot)).ok()?.manifest()?.journal))
    });
    sink.put(Item::new(0, "journal fragment", 0..length))?;
    let place = Place::Unknown;
    Blocks { file, path, journal: found, place, from: 0, length, end: None, gap: None }.show(sink)
}

/// Which part of the journal the blocks are.
#[derive(Clone, Copy)]
enum Place {
    /// It begins at this position.
    At(JournalPosition),
    /// It is not known.
    Unknown,
    /// None: what stands there is left from an earlier round.
    Spare,
}

/// A walk over the pages of a file.
struct Blocks<'a, F> {
    file: &'a F,
    path: &'a Path,
    journal: Option<JournalId>,
    place: Place,
    /// Where the blocks begin.
    from: u64,
    length: u64,
    /// Where the last block in its place ended.
    end: Option<JournalPosition>,
    /// Bytes that are not zeros and belong to no block.
    gap: Option<Range<u64>>,
}

impl<F: File> Blocks<'_, F> {
    fn show(&mut self, sink: &mut Sink<'_>) -> Result<(), DumpError> {
        let mut at = self.from;
        let mut page = vec![0; usize::try_from(BLOCK_BYTES).unwrap_or_default()];
        while at + BLOCK_HEADER_BYTES as u64 <= self.length {
            let left = usize::try_from(self.length - at).unwrap_or(usize::MAX).min(page.len());
            page.truncate(left);
            self.file.read_exact_at(&mut page, at).context("read", self.path)?;
            let Some(found) = Inspected::read(&page, self.journal.as_ref()) else {
                let is_zero = page.iter().all(|byte| *byte == 0);
                if !is_zero {
                    self.gap = Some(self.gap.as_ref().map_or(at, |gap| gap.start)..at + left as u64);
                }
                at += left as u64;
                continue;
            };
            at = self.block(at, &found, sink)?;
        }
        if let Some(gap) = self.gap.take() {
            sink.put(Item::new(1, "unused", gap))?;
        }
        Ok(())
    }

    /// Shows a block and returns where to go on.
    fn block(&mut self, at: u64, found: &Inspected, sink: &mut Sink<'_>) -> Result<u64, DumpError> {
        let header = &found.header;
        let in_place = match self.place {
            Place::At(base) => header.position == base.advance(at - self.from),
            Place::Unknown => true,
            Place::Spare => false,
        };
        if let Some(gap) = self.gap.take() {
            let before = self.end.is_none_or(|end| end < header.follows);
            let gap = Item::new(1, "unused", gap);
            let lost = found.is_right == Some(true) && in_place && self.end.is_some() && before;
            sink.put(gap.unless(!lost, "a block that was here is not readable"))?;
        }
        let left = self.length - at;
        let is_whole = found.is_right != Some(false) && header.length() <= left && found.is_sane();
        let until = at + if is_whole { header.length() } else { BLOCK_BYTES.min(left) };
        let mut item = Item::new(1, if in_place { "block" } else { "old block" }, at..until)
            .number("position", header.position.get())
            .number("follows", header.follows.get())
            .number("durable_end", header.durable_end.get())
            .number("incarnation", found.incarnation.get())
            .number("frames", header.frame_count)
            .number("frame_bytes", header.payload_bytes);
        if found.is_right.is_none() {
            item = item.text("unchecked", "the salt of its hashes is in the manifest, which is not here");
        }
        if !is_whole {
            // What an earlier round left is no damage, whatever became of it.
            let item =
                if in_place { item.damaged("wrong header hash") } else { item.text("state", "overwritten") };
            sink.put(item)?;
            return Ok(until);
        }
        let mut payload = vec![0; header.payload_bytes as usize];
        let first = at + BLOCK_HEADER_BYTES as u64;
        self.file.read_exact_at(&mut payload, first).context("read", self.path)?;
        let is_right = found.is_right.is_none() || found.matches(&payload, self.journal.as_ref());
        if !in_place {
            let state = if is_right { "left from before" } else { "overwritten" };
            sink.put(item.text("state", state))?;
            return Ok(if is_right { until } else { at + BLOCK_BYTES.min(left) });
        }
        self.end = Some(header.end());
        sink.put(item.unless(is_right, "wrong hash of the frames"))?;
        frames(Bytes::from(payload), first, sink)?;
        Ok(until)
    }
}

/// Shows frames that stand back to back from a byte of the file on.
fn frames(mut payload: Bytes, first: u64, sink: &mut Sink<'_>) -> Result<(), DumpError> {
    let mut at = first;
    while !payload.is_empty() {
        let length = Frame::peek(&payload).map(|place| place.length);
        let before = payload.len();
        match Frame::decode(&mut payload) {
            Ok(read) => {
                let bytes = at..at + (before - payload.len()) as u64;
                let sequence = read.sequence.get();
                let item = item(bytes.clone(), &read.frame)
                    .number("virtual_shard", read.frame.virtual_shard().get())
                    .number("frame_sequence", sequence);
                sink.put(item)?;
                if let Frame::Append { batch, .. } = &read.frame {
                    batch::records(3, &bytes, batch, sink)?;
                }
                at = bytes.end;
            }
            Err(error) => {
                // A header that is whole tells where the next frame is.
                let skip = length.unwrap_or(before).clamp(FRAME_HEADER_BYTES.min(before), before);
                let bytes = at..at + skip as u64;
                sink.put(Item::new(2, "frame", bytes.clone()).damaged(error))?;
                payload = payload.slice(skip..);
                at = bytes.end;
            }
        }
    }
    Ok(())
}

fn item(bytes: Range<u64>, frame: &Frame) -> Item {
    match frame {
        Frame::Append { acked_below, batch, .. } => {
            batch::item(2, "append", bytes, batch).number("acked_below", acked_below.get())
        }
        Frame::Topic(definition) => Item::new(2, "topic", bytes)
            .text("topic", definition.id)
            .text("name", &definition.name)
            .number("revision", definition.revision)
            .number("partitions", definition.settings.partitions)
            .moment("created", definition.created),
        Frame::TopicDeleted(topic) => Item::new(2, "topic deleted", bytes).text("topic", topic),
        Frame::Trim { partition, log_start } => {
            Item::new(2, "trim", bytes).text("partition", partition).number("log_start", log_start.get())
        }
        Frame::Skipped(skipped) => Item::new(2, "skipped", bytes)
            .text("partition", skipped.partition)
            .number("producer", skipped.producer.get())
            .number("sequence", skipped.sequence.get())
            .number("records", skipped.record_count),
        Frame::Group(group) => Item::new(2, "group", bytes)
            .number("group", group.definition.id.get())
            .text("name", &group.definition.name)
            .text("topic", group.definition.topic)
            .number("positions", group.positions.len() as u64),
        Frame::GroupDeleted { topic, group } => {
            Item::new(2, "group deleted", bytes).number("group", group.get()).text("topic", topic)
        }
        Frame::Settled(settled) => Item::new(2, "settled", bytes)
            .text("partition", settled.partition)
            .number("group", settled.group.get())
            .number("ranges", settled.ranges.len() as u64),
        Frame::Failed(failed) => Item::new(2, "failed", bytes)
            .text("partition", failed.partition)
            .number("group", failed.group.get())
            .number("records", failed.records.len() as u64),
        Frame::DeadLetters(dead) => Item::new(2, "dead letters", bytes)
            .text("partition", dead.partition)
            .number("group", dead.group.get())
            .number("letters", dead.letters.len() as u64),
        Frame::Forwarded(forwarded) => Item::new(2, "forwarded", bytes)
            .text("partition", forwarded.partition)
            .number("group", forwarded.group.get())
            .number("letters", forwarded.offsets.len() as u64),
        Frame::Claim(claimed) => Item::new(2, "claim", bytes)
            .text("topic", claimed.topic)
            .text("name", &claimed.name)
            .number("producer", claimed.claim.producer.get())
            .number("epoch", claimed.claim.epoch.get()),
    }
}
