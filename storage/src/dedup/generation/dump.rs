//! Shows a generation of keys.

use std::path::Path;

use weir_protocol::read::Reader;
use weir_protocol::units::SegmentId;

use super::{
    COUNT_AT, ENTRY_BYTES, HEADER_BYTES, PAGE, TRAILER_BYTES, TRAILER_MAGIC, block_hash, decode_entry,
};
use crate::disk::{Context, Disk, File, Mode};
use crate::dump::{DumpError, Item, Sink};
use crate::segment::{SegmentIdentity, segment_of_name};

pub(crate) use super::MAGIC as GENERATION_MAGIC;

/// Shows a generation: its blocks and, if records are asked for, their keys.
pub(crate) fn generation<D: Disk>(disk: &D, path: &Path, sink: &mut Sink<'_>) -> Result<(), DumpError> {
    let file = disk.open(path, Mode::Read).context("open", path)?;
    let length = file.length().context("read the length of", path)?;
    let mut header = vec![0; usize::try_from(length.min(HEADER_BYTES as u64)).unwrap_or_default()];
    file.read_exact_at(&mut header, 0).context("read", path)?;
    let name = path.file_name().and_then(|name| name.to_str()).and_then(segment_of_name);
    let node = header.get(40..56).and_then(|node| node.try_into().ok()).unwrap_or_default();
    let number = header.get(56..64).and_then(|bytes| Reader::new(bytes).u64().ok()).map(SegmentId::new);
    let identity = SegmentIdentity { node, segment: name.or(number).unwrap_or_default() };
    let item = Item::new(0, "keys", 0..header.len() as u64).number("generation", identity.segment.get());
    sink.put(item.number("file_bytes", length).unless(is_sealed(&header, &identity), "wrong header hash"))?;
    let trailer_at = length.saturating_sub(TRAILER_BYTES as u64);
    let mut trailer = [0; TRAILER_BYTES];
    if length >= TRAILER_BYTES as u64 {
        file.read_exact_at(&mut trailer, trailer_at).context("read", path)?;
    }
    let whole = trailer.starts_with(&TRAILER_MAGIC) && is_sealed(&trailer, &identity);
    let number_at = |at: usize| trailer.get(at..).and_then(|rest| Reader::new(rest).u64().ok()).unwrap_or(0);
    let (entries, blocks) = (number_at(16), number_at(24));
    if whole {
        for number in 0..blocks {
            block((&file, path), &identity, number, sink)?;
        }
    }
    let item = Item::new(0, "trailer", trailer_at..length);
    let item = if whole { item.number("keys", entries).number("cells", number_at(32)) } else { item };
    sink.put(item.unless(whole, "wrong trailer hash"))
}

fn block<F: File>(
    (file, path): (&F, &Path),
    identity: &SegmentIdentity,
    number: u64,
    sink: &mut Sink<'_>,
) -> Result<(), DumpError> {
    let start = PAGE as u64 * (number + 1);
    let mut bytes = [0; PAGE];
    file.read_exact_at(&mut bytes, start).context("read", path)?;
    let (covered, hash) = bytes.split_last_chunk::<8>().expect("a page is longer than a hash");
    let whole = block_hash(identity, number, covered) == u64::from_le_bytes(*hash);
    let count = covered.get(COUNT_AT..).and_then(|bytes| Reader::new(bytes).u32().ok()).unwrap_or(0);
    let item = Item::new(1, "block", start..start + PAGE as u64).number("keys", count);
    sink.put(item.unless(whole, "wrong hash"))?;
    let mut reader = Reader::new(covered);
    for number in 0..u64::from(if whole && sink.options.records { count } else { 0 }) {
        let Ok(entry) = decode_entry(&mut reader) else { break };
        let at = start + number * ENTRY_BYTES as u64;
        sink.put(
            Item::new(2, "key", at..at + ENTRY_BYTES as u64)
                .text("digest", entry.digest)
                .text("fingerprint", entry.fingerprint)
                .number("partition", entry.place.partition.get())
                .number("offset", entry.place.offset.get())
                .moment("append_time", entry.append_time),
        )?;
    }
    Ok(())
}

fn is_sealed(bytes: &[u8], identity: &SegmentIdentity) -> bool {
    let parts = bytes.split_last_chunk::<8>();
    parts.is_some_and(|(covered, hash)| identity.hash(covered) == u64::from_le_bytes(*hash))
}
