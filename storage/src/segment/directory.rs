//! Header, run directory and trailer of a segment, and the sealed file that is opened by them.
//!
//! ```text
//! header  = magic (8) , version u32 , reserved u32 , compatible features u64 , read-only compatible features u64 ,
//!           incompatible features u64 , node id (16) , segment id u64 , creation time i64 , hash of the 72 bytes
//!           before u64 , zeros
//! run     = topic id (16) , partition u32 , epoch u32 , base offset u64 , end offset u64 , position u64 , bytes u64 ,
//!           record count u64 , first append time i64 , last append time i64 , reserved u64
//! trailer = magic (8) , version u32 , run count u32 , directory position u64 , directory hash u64 , segment id u64 ,
//!           node id (16) , hash of the 56 bytes before u64
//! ```

use std::path::{Path, PathBuf};

use bytes::BufMut;
use weir_protocol::DecodeError;
use weir_protocol::batch::StoredBatch;
use weir_protocol::read::Reader;
use weir_protocol::units::{Epoch, PartitionId, PartitionKey, SegmentId, Timestamp, TopicId};

use super::walk::{Step, Walk};
use super::{
    FEATURES_KNOWN, HEADER_BYTES, HEADER_MAGIC, HEADER_PAGE_BYTES, RUN_BYTES, Run, SegmentError,
    SegmentIdentity, TRAILER_BYTES, TRAILER_MAGIC, VERSION, segment_name,
};
use crate::disk::{BLOCK_BYTES, Context, Disk, File, Mode};

/// The header, without the zeros that fill the page.
pub(super) fn encode_header(identity: &SegmentIdentity, created: Timestamp) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    let mut rest = &mut bytes[..];
    rest.put_slice(&HEADER_MAGIC);
    rest.put_u32_le(VERSION);
    rest.put_u32_le(0);
    for features in [0, 0, 0] {
        rest.put_u64_le(features);
    }
    rest.put_slice(&identity.node);
    rest.put_u64_le(identity.segment.get());
    rest.put_i64_le(created.as_micros());
    assert!(rest.len() == 8, "the hash is all that is left");
    seal(&mut bytes, identity);
    bytes
}

/// The run directory.
pub(super) fn encode_runs(runs: &[Run]) -> Vec<u8> {
    let mut out = Vec::with_capacity(runs.len() * RUN_BYTES);
    for run in runs {
        out.put_slice(&run.partition.topic.to_bytes());
        out.put_u32_le(run.partition.partition.get());
        out.put_u32_le(run.epoch.get());
        out.put_u64_le(run.base_offset.get());
        out.put_u64_le(run.end_offset.get());
        out.put_u64_le(run.position);
        out.put_u64_le(run.bytes);
        out.put_u64_le(run.record_count);
        out.put_i64_le(run.first_append_time.as_micros());
        out.put_i64_le(run.last_append_time.as_micros());
        out.put_u64_le(0);
    }
    out
}

/// The last bytes of the file.
pub(super) fn encode_trailer(
    identity: &SegmentIdentity,
    run_count: usize,
    directory_position: u64,
    directory_hash: u64,
) -> [u8; TRAILER_BYTES] {
    let mut bytes = [0; TRAILER_BYTES];
    let mut rest = &mut bytes[..];
    rest.put_slice(&TRAILER_MAGIC);
    rest.put_u32_le(VERSION);
    rest.put_u32_le(u32::try_from(run_count).expect("runs of one segment are limited to 32 bits"));
    rest.put_u64_le(directory_position);
    rest.put_u64_le(directory_hash);
    rest.put_u64_le(identity.segment.get());
    rest.put_slice(&identity.node);
    assert!(rest.len() == 8, "the hash is all that is left");
    seal(&mut bytes, identity);
    bytes
}

/// Puts the hash of all bytes before into the last eight.
fn seal(bytes: &mut [u8], identity: &SegmentIdentity) {
    let (covered, place) = bytes.split_at_mut(bytes.len() - 8);
    place.copy_from_slice(&identity.hash(covered).to_le_bytes());
}

/// Whether the last eight bytes are the hash of those before.
pub(super) fn is_sealed(bytes: &[u8], identity: &SegmentIdentity) -> bool {
    let Some((covered, hash)) = bytes.split_last_chunk::<8>() else {
        return false;
    };
    identity.hash(covered) == u64::from_le_bytes(*hash)
}

/// Length of a segment of so many runs with so many bytes of batches.
pub(super) fn segment_bytes(run_count: usize, data_bytes: u64) -> u64 {
    let directory = (run_count * RUN_BYTES + TRAILER_BYTES) as u64;
    (HEADER_PAGE_BYTES + data_bytes + directory).next_multiple_of(BLOCK_BYTES)
}

/// An open, sealed segment.
#[derive(Debug)]
pub(crate) struct SegmentFile<F> {
    pub(crate) path: PathBuf,
    pub(crate) file: F,
    pub(crate) identity: SegmentIdentity,
}

impl<F: File> SegmentFile<F> {
    /// Opens a segment, without looking into it.
    pub(crate) fn open<D: Disk<File = F>>(
        disk: &D,
        segments: &Path,
        identity: SegmentIdentity,
    ) -> Result<Self, crate::disk::DiskError> {
        let path = segments.join(segment_name(identity.segment));
        let file = disk.open(&path, Mode::Read).context("open", &path)?;
        Ok(Self { path, file, identity })
    }

    /// Reads and verifies the run directory. `bytes` and `directory_hash` are what the checkpoint says of the file.
    pub(crate) fn runs(&self, bytes: u64, directory_hash: u64) -> Result<Vec<Run>, SegmentError> {
        let length = self.file.length().context("read the length of", &self.path)?;
        if length != bytes || length < HEADER_PAGE_BYTES + TRAILER_BYTES as u64 {
            return Err(self.damaged("length", length.min(bytes)..length.max(bytes)));
        }
        self.check_header()?;
        self.runs_by_trailer(length, directory_hash)
    }

    /// Reads and verifies the run directory of a file of this length, whatever stands in its header.
    fn runs_by_trailer(&self, length: u64, directory_hash: u64) -> Result<Vec<Run>, SegmentError> {
        let trailer_at = length - TRAILER_BYTES as u64;
        let mut trailer = [0; TRAILER_BYTES];
        self.read(&mut trailer, trailer_at)?;
        let parsed = is_sealed(&trailer, &self.identity).then(|| Trailer::decode(&trailer).ok()).flatten();
        let Some(parsed) = parsed.filter(|parsed| parsed.segment == self.identity.segment) else {
            return Err(self.damaged("trailer", trailer_at..length));
        };
        let directory_bytes = u64::from(parsed.run_count) * RUN_BYTES as u64;
        let directory_end = parsed.directory_position.checked_add(directory_bytes);
        if directory_end.is_none_or(|end| end > trailer_at) {
            return Err(self.damaged("trailer", trailer_at..length));
        }
        self.directory(&parsed, directory_hash)
    }

    /// Reads the run directory that a trailer names, if it has the hash that both say.
    pub(super) fn directory(&self, parsed: &Trailer, directory_hash: u64) -> Result<Vec<Run>, SegmentError> {
        let directory_bytes = u64::from(parsed.run_count) * RUN_BYTES as u64;
        let range = parsed.directory_position..parsed.directory_position.saturating_add(directory_bytes);
        let mut directory = vec![0; usize::try_from(directory_bytes).expect("it lies within a file of runs")];
        self.read(&mut directory, range.start)?;
        let hash = self.identity.hash(&directory);
        if hash != parsed.directory_hash || hash != directory_hash {
            return Err(self.damaged("run directory", range));
        }
        let runs = decode_runs(&directory, parsed.directory_position);
        runs.ok_or_else(|| self.damaged("run directory", range))
    }

    /// Reads bytes of the file.
    pub(crate) fn read(&self, buffer: &mut [u8], position: u64) -> Result<(), SegmentError> {
        match self.file.read_exact_at(buffer, position) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                Err(self.damaged("length", position..position + buffer.len() as u64))
            }
            Err(error) => Err(error).context("read", &self.path).map_err(SegmentError::from),
        }
    }

    pub(crate) fn damaged(&self, what: &'static str, bytes: std::ops::Range<u64>) -> SegmentError {
        SegmentError::damaged(&self.path, what, bytes)
    }

    fn check_header(&self) -> Result<(), SegmentError> {
        let mut header = [0; HEADER_BYTES];
        self.read(&mut header, 0)?;
        let damaged = || self.damaged("header", 0..HEADER_BYTES as u64);
        if !is_sealed(&header, &self.identity) {
            return Err(damaged());
        }
        let Ok(parsed) = Header::decode(&header) else {
            return Err(damaged());
        };
        if parsed.version != VERSION || parsed.features & !FEATURES_KNOWN != 0 {
            let (version, features) = (parsed.version, parsed.features & !FEATURES_KNOWN);
            return Err(SegmentError::NewerFormat { path: self.path.clone(), version, features });
        }
        let is_this = parsed.magic == HEADER_MAGIC && parsed.segment == self.identity.segment;
        if is_this { Ok(()) } else { Err(damaged()) }
    }
}

struct Header {
    magic: [u8; 8],
    version: u32,
    features: u64,
    segment: SegmentId,
}

impl Header {
    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let magic = reader.u64()?.to_le_bytes();
        let version = reader.u32()?;
        reader.u32()?;
        reader.u64()?;
        let features = reader.u64()? | reader.u64()?;
        reader.bytes16()?;
        Ok(Self { magic, version, features, segment: SegmentId::new(reader.u64()?) })
    }
}

pub(super) struct Trailer {
    pub(super) run_count: u32,
    pub(super) directory_position: u64,
    pub(super) directory_hash: u64,
    segment: SegmentId,
}

impl Trailer {
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        reader.u64()?;
        reader.u32()?;
        Ok(Self {
            run_count: reader.u32()?,
            directory_position: reader.u64()?,
            directory_hash: reader.u64()?,
            segment: SegmentId::new(reader.u64()?),
        })
    }
}

/// The runs of a directory whose hash was right; `None` if they make no sense.
fn decode_runs(bytes: &[u8], data_end: u64) -> Option<Vec<Run>> {
    let mut reader = Reader::new(bytes);
    let mut runs = Vec::with_capacity(bytes.len() / RUN_BYTES);
    let mut position = HEADER_PAGE_BYTES;
    while reader.remaining() > 0 {
        let run = decode_run(&mut reader).ok()?;
        // Runs fill the space between header and directory without gaps.
        if run.position != position || run.end_offset <= run.base_offset {
            return None;
        }
        position = position.checked_add(run.bytes)?;
        runs.push(run);
    }
    (position == data_end).then_some(runs)
}

fn decode_run(reader: &mut Reader<'_>) -> Result<Run, DecodeError> {
    let topic = TopicId::from_bytes(reader.bytes16()?);
    let run = Run {
        partition: PartitionKey { topic, partition: PartitionId::new(reader.u32()?) },
        epoch: Epoch::new(reader.u32()?),
        base_offset: reader.offset()?,
        end_offset: reader.offset()?,
        position: reader.u64()?,
        bytes: reader.u64()?,
        record_count: reader.u64()?,
        first_append_time: Timestamp::from_micros(reader.i64()?),
        last_append_time: Timestamp::from_micros(reader.i64()?),
    };
    reader.u64()?;
    Ok(run)
}

/// The run directory of a file in which something else is damaged; or else makes it again from the batches. The result is
/// right if and only if it has the hash that the checkpoint recorded.
pub(crate) fn rebuild<F: File>(
    segment: &SegmentFile<F>,
    bytes: u64,
    directory_hash: u64,
) -> Result<Option<Vec<Run>>, SegmentError> {
    let length = segment.file.length().context("read the length of", &segment.path)?;
    if length == bytes && length >= HEADER_PAGE_BYTES + TRAILER_BYTES as u64 {
        match segment.runs_by_trailer(length, directory_hash) {
            Ok(runs) => return Ok(Some(runs)),
            Err(SegmentError::Disk(error)) => return Err(error.into()),
            Err(SegmentError::Damaged { .. } | SegmentError::NewerFormat { .. }) => {}
        }
    }
    let mut runs: Vec<Run> = Vec::new();
    let mut walk = Walk::new(segment, HEADER_PAGE_BYTES..length.min(bytes));
    // What follows the last batch is the directory itself, which is no batch.
    while let Step::Batch { batch, position } = walk.step()? {
        take_note(&mut runs, &batch, position);
    }
    let same = segment.identity.hash(&encode_runs(&runs)) == directory_hash;
    Ok(same.then_some(runs))
}

/// Adds a batch to the last run, if it follows there, or begins a new one.
pub(super) fn take_note(runs: &mut Vec<Run>, batch: &StoredBatch, position: u64) {
    let header = batch.producer.header();
    let length = batch.length() as u64;
    let time = batch.section.append_time;
    match runs.last_mut() {
        Some(run)
            if run.partition == header.partition
                && run.end_offset == batch.base_offset()
                && run.range().end == position =>
        {
            run.epoch = batch.section.partition_epoch;
            run.end_offset = batch.end_offset();
            run.bytes += length;
            run.record_count += u64::from(header.record_count);
            run.last_append_time = time;
        }
        Some(_) | None => runs.push(Run {
            partition: header.partition,
            epoch: batch.section.partition_epoch,
            base_offset: batch.base_offset(),
            end_offset: batch.end_offset(),
            position,
            bytes: length,
            record_count: u64::from(header.record_count),
            first_append_time: time,
            last_append_time: time,
        }),
    }
}
