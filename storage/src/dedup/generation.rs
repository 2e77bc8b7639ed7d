//! Generations: files of keys, sorted by digest, that are written once and never change.
//!
//! ```text
//! generation = header page (4096 bytes) , blocks (4096 bytes each) , cells of the filter , directory , trailer (80 bytes)
//! header     = magic (8) , version u32 , reserved u32 , compatible features u64 , read-only compatible features u64 ,
//!              incompatible features u64 , node id (16) , number u64 , hash of the 64 bytes before u64 , zeros
//! block      = entries , zeros , entry count u32 (at byte 4084) , hash of the 4088 bytes before u64
//! entry      = digest (16) , fingerprint (16) , partition u32 , offset u64 , append time i64
//! cell       = u16
//! directory  = for each block the first four bytes of its first digest as a number u32 , shards
//! shard      = first cell u64 , seed u64 , segment length u32 , segment count length u32 , cell count u32 ,
//!              kind u32 , hash of its cells u64
//! trailer    = magic (8) , version u32 , shard count u32 , entry count u64 , block count u64 , cells u64 ,
//!              directory hash u64 , number u64 , node id (16) , hash of the 72 bytes before u64
//! ```
//!
//! Hashes are those of a segment with the same number; that of a block covers its number, too.

use bytes::BufMut;
use weir_protocol::DecodeError;
use weir_protocol::read::Reader;
use weir_protocol::units::{Offset, PartitionId, SegmentId, Timestamp};

use super::{Entry, Fingerprint, KeyDigest, RecordPlace};
use crate::segment::SegmentIdentity;

pub(crate) mod dump;
mod file;
mod writer;

pub(crate) use file::GenerationFile;
pub(crate) use writer::{GenerationWriter, WrittenGeneration};

/// What the checkpoint says of a generation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct GenerationFacts {
    /// Length of the file.
    pub(crate) bytes: u64,
    /// How many keys it has.
    pub(crate) entries: u64,
    /// Hash of its directory.
    pub(crate) directory_hash: u64,
    /// For how long its keys are remembered, as [`horizon_class`] says.
    pub(crate) class: u32,
    /// The running time of the node from which on it is not needed, in microseconds.
    pub(crate) expires_us: u64,
}

/// Horizons of a class differ by less than a factor of two: keys that are remembered for as long stand together. Class 0
/// is up to a second.
pub(crate) fn horizon_class(horizon_us: u64) -> u32 {
    let seconds = horizon_us.div_ceil(1_000_000).max(1);
    seconds.next_power_of_two().ilog2()
}

/// The class of generations that hold versions: they never expire, and no horizon is so long.
pub(crate) const VERSIONS_CLASS: u32 = 64;

/// The longest horizon of a class, in microseconds.
pub(crate) const fn class_horizon_us(class: u32) -> u64 {
    1_000_000u64.saturating_mul(1u64 << if class > 40 { 40 } else { class })
}

/// Name of a generation's file.
pub(crate) fn generation_name(generation: SegmentId) -> String {
    format!("{:020}.{EXTENSION}", generation.get())
}

/// The header page.
fn encode_header(identity: &SegmentIdentity) -> Vec<u8> {
    let mut out = Vec::with_capacity(PAGE);
    out.put_slice(&MAGIC);
    out.put_u32_le(VERSION);
    out.put_u32_le(0);
    for features in [0, 0, 0] {
        out.put_u64_le(features);
    }
    out.put_slice(&identity.node);
    out.put_u64_le(identity.segment.get());
    out.put_u64_le(identity.hash(&out));
    assert!(out.len() == HEADER_BYTES, "the fields fill the header");
    out.resize(PAGE, 0);
    out
}

fn encode_entry(entry: &Entry, out: &mut Vec<u8>) {
    out.put_slice(&entry.digest.0);
    out.put_slice(&entry.fingerprint.0);
    out.put_u32_le(entry.place.partition.get());
    out.put_u64_le(entry.place.offset.get());
    out.put_i64_le(entry.append_time.as_micros());
}

fn decode_entry(reader: &mut Reader<'_>) -> Result<Entry, DecodeError> {
    Ok(Entry {
        digest: KeyDigest(reader.bytes16()?),
        fingerprint: Fingerprint(reader.bytes16()?),
        place: RecordPlace { partition: PartitionId::new(reader.u32()?), offset: Offset::new(reader.u64()?) },
        append_time: Timestamp::from_micros(reader.i64()?),
    })
}

/// Ends a block: what it holds cannot be taken for that of another place.
fn seal_block(identity: &SegmentIdentity, number: u64, entries: u32, block: &mut Vec<u8>) {
    block.resize(COUNT_AT, 0);
    block.put_u32_le(entries);
    block.put_u64_le(block_hash(identity, number, block));
}

fn block_hash(identity: &SegmentIdentity, number: u64, covered: &[u8]) -> u64 {
    identity.hash(covered) ^ identity.hash(&number.to_le_bytes())
}

pub(crate) const MAGIC: [u8; 8] = *b"WEIRKEY1";
const TRAILER_MAGIC: [u8; 8] = *b"WEIRKEYE";
const VERSION: u32 = 1;
/// Feature bits this version knows; a file with others is not touched.
const FEATURES_KNOWN: u64 = 0;
pub(crate) const EXTENSION: &str = "key";

const PAGE: usize = 4096;
const HEADER_BYTES: usize = 72;
const TRAILER_BYTES: usize = 80;
/// Length of an entry on the disk.
pub(crate) const ENTRY_BYTES: usize = 16 + 16 + 4 + 8 + 8;
/// Entries of a block.
const BLOCK_ENTRIES: usize = (PAGE - 12) / ENTRY_BYTES;
/// Where the number of entries stands in a block; its hash follows.
const COUNT_AT: usize = PAGE - 12;

#[cfg(test)]
mod tests;
