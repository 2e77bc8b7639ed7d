//! Writes a segment and its index, once.

use std::io::IoSlice;
use std::path::{Path, PathBuf};

use weir_protocol::batch::{BrokerSection, StoredBatch};
use weir_protocol::units::{PartitionKey, SegmentId, Timestamp};

use super::directory::{encode_header, encode_runs, encode_trailer, segment_bytes};
use super::index::{self, IndexBuilder, IndexEntry};
use super::{Run, SegmentIdentity, TRAILER_BYTES, index_name, segment_name};
use crate::disk::{AlignedBuffer, Context, Disk, DiskError, File, Mode};
use crate::limits::WRITE_DIRECT_BYTES_MAX;

/// A segment being written. Its length was reserved when it was made.
#[derive(Debug)]
pub(crate) struct SegmentWriter<D: Disk> {
    disk: D,
    directory: PathBuf,
    path: PathBuf,
    file: D::File,
    identity: SegmentIdentity,
    buffer: AlignedBuffer,
    /// Where the buffer will be written.
    written: u64,
    runs: Vec<Run>,
    index: IndexBuilder,
    section: Vec<u8>,
    /// What was announced: a writer of something else would leave a gap or run out of space.
    bytes: u64,
}

/// A segment that was written and synced.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct WrittenSegment {
    /// Its number.
    pub(crate) segment: SegmentId,
    /// Length of the file.
    pub(crate) bytes: u64,
    /// Hash of the run directory.
    pub(crate) directory_hash: u64,
    /// The run directory.
    pub(crate) runs: Vec<Run>,
}

/// What will be written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SegmentPlan {
    /// How many runs.
    pub(crate) run_count: usize,
    /// How many bytes of batches.
    pub(crate) data_bytes: u64,
    /// The moment to be noted in the file.
    pub(crate) created: Timestamp,
}

impl<D: Disk> SegmentWriter<D> {
    /// Makes the file. `buffer` is given back by [`SegmentWriter::finish`].
    pub(crate) fn create(
        disk: &D,
        directory: &Path,
        identity: SegmentIdentity,
        plan: SegmentPlan,
        buffer: Option<AlignedBuffer>,
    ) -> Result<Self, DiskError> {
        let path = directory.join(segment_name(identity.segment));
        let bytes = segment_bytes(plan.run_count, plan.data_bytes);
        let file = match disk.create(&path, Mode::WriteDirect, bytes) {
            Ok(file) => file,
            Err(error) => {
                // The name may be there though the space is not.
                if error.kind() != std::io::ErrorKind::AlreadyExists {
                    drop(disk.remove(&path));
                }
                return Err(error).context("make", &path);
            }
        };
        let mut buffer = buffer.unwrap_or_else(|| AlignedBuffer::new(WRITE_DIRECT_BYTES_MAX));
        buffer.clear();
        let header = encode_header(&identity, plan.created);
        assert!(buffer.fill(&header).is_empty(), "the header fits the buffer");
        buffer.pad();
        Ok(Self {
            disk: disk.clone(),
            directory: directory.to_owned(),
            path,
            file,
            identity,
            buffer,
            written: 0,
            runs: Vec::with_capacity(plan.run_count),
            index: IndexBuilder::default(),
            section: Vec::new(),
            bytes,
        })
    }

    /// Adds a batch. It continues the last run if it follows there, and begins a new one otherwise.
    pub(crate) fn append(&mut self, partition: PartitionKey, batch: &StoredBatch) -> Result<(), DiskError> {
        let mut section = std::mem::take(&mut self.section);
        section.clear();
        batch.section.encode(batch.producer.length(), &mut section);
        self.note(partition, batch, (section.len() + batch.producer.length()) as u64);
        let put = self.put(&section).and_then(|()| self.put(batch.producer.bytes()));
        self.section = section;
        put
    }

    /// Takes note of a batch in the run directory and in the index.
    fn note(&mut self, partition: PartitionKey, batch: &StoredBatch, bytes: u64) {
        let position = self.position();
        let BrokerSection { base_offset, append_time, partition_epoch, .. } = batch.section;
        let record_count = u64::from(batch.producer.header().record_count);
        match self.runs.last_mut() {
            Some(run) if run.partition == partition && run.end_offset == base_offset => {
                run.epoch = partition_epoch;
                run.end_offset = batch.end_offset();
                run.bytes += bytes;
                run.record_count += record_count;
                run.last_append_time = append_time;
            }
            Some(_) | None => {
                self.index.begin_run(position);
                self.runs.push(Run {
                    partition,
                    epoch: partition_epoch,
                    base_offset,
                    end_offset: batch.end_offset(),
                    position,
                    bytes,
                    record_count,
                    first_append_time: append_time,
                    last_append_time: append_time,
                });
            }
        }
        self.index.note(IndexEntry { base_offset, append_time, position });
    }

    /// Writes what is left, syncs both files, and gives back the buffer.
    pub(crate) fn finish(mut self) -> Result<(WrittenSegment, AlignedBuffer), DiskError> {
        let directory_position = self.position();
        let runs = encode_runs(&self.runs);
        let directory_hash = self.identity.hash(&runs);
        self.put(&runs)?;
        let zeros = self.bytes.checked_sub(self.position() + TRAILER_BYTES as u64);
        let zeros = usize::try_from(zeros.expect("no more was written than announced")).unwrap_or(usize::MAX);
        assert!(zeros < BLOCK, "no less was written than announced");
        self.put(&vec![0; zeros])?;
        self.put(&encode_trailer(&self.identity, self.runs.len(), directory_position, directory_hash))?;
        assert!(self.position() == self.bytes, "the file has the length that was announced");
        self.write_buffer()?;
        self.file.sync_data().context("sync", &self.path)?;
        let index = self.index.encode(&self.identity, directory_hash);
        index::write(&self.disk, &self.directory.join(index_name(self.identity.segment)), &index)?;
        let written = WrittenSegment {
            segment: self.identity.segment,
            bytes: self.bytes,
            directory_hash,
            runs: self.runs,
        };
        Ok((written, self.buffer))
    }

    /// The number of the segment.
    pub(crate) const fn segment(&self) -> SegmentId {
        self.identity.segment
    }

    fn position(&self) -> u64 {
        self.written + self.buffer.filled().len() as u64
    }

    fn put(&mut self, mut bytes: &[u8]) -> Result<(), DiskError> {
        loop {
            bytes = self.buffer.fill(bytes);
            if self.buffer.room() > 0 {
                return Ok(());
            }
            self.write_buffer()?;
        }
    }

    fn write_buffer(&mut self) -> Result<(), DiskError> {
        let filled = self.buffer.filled();
        if !filled.is_empty() {
            self.file.write_all_at(&[IoSlice::new(filled)], self.written).context("write", &self.path)?;
            self.written += filled.len() as u64;
            self.buffer.clear();
        }
        Ok(())
    }
}

#[expect(clippy::cast_possible_truncation, reason = "4096 fits every usize")]
const BLOCK: usize = crate::disk::BLOCK_BYTES as usize;
