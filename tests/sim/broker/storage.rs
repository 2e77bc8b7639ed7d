//! What the real broker's threads of storage do, step by step: journal, flusher, readers of flushed data.

use std::collections::VecDeque;
use std::time::Duration;

use weir_broker::core::commit::CommitQueue;
use weir_broker::core::dedup::KeyProbe;
use weir_broker::core::event::{ColdWant, Flushed, FlushedPartition};
use weir_broker::core::ingest::BATCH_STATE_BYTES;
use weir_broker::core::{ColdAnswer, ColdRead, ColdResult, Event, Ticket, ToWrite};
use weir_protocol::units::{JournalPosition, PartitionKey, Timestamp};
use weir_storage::disk::SimDisk;
use weir_storage::frame::Frame;
use weir_storage::journal::{Journal, JournalError, Prepared};
use weir_storage::store::{Flusher, ReadError, Reader};

use super::keys::look_up;
use crate::coverage::{Coverage, Situation};
use crate::scheduler::{MS, SECOND};

/// As in the real broker.
const IDLE_MARK_AFTER: u64 = 100 * MS;
const FLUSH_AFTER: u64 = 30 * SECOND;
const MAINTAIN_EVERY: u64 = SECOND;
const RETRY_AFTER: u64 = SECOND;

/// Why a process cannot go on.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The disk failed.
    Disk,
    /// Something that must not happen.
    Defect(String),
}

impl From<JournalError> for Trouble {
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::Disk(_) => Self::Disk,
            other => Self::Defect(format!("the journal failed: {other}")),
        }
    }
}

/// What the journal is told.
#[derive(Debug)]
pub(crate) enum ToJournal {
    Write(Box<ToWrite>),
    Release(JournalPosition),
}

/// Frames that were written and not synced.
#[derive(Debug)]
struct Unsynced {
    frames: Vec<Frame>,
    through: Ticket,
    end: JournalPosition,
}

/// Everything below the node.
#[expect(clippy::struct_excessive_bools, reason = "the real threads keep the same in their local variables")]
#[derive(Debug)]
pub(crate) struct Storage {
    pub(crate) journal: Journal<SimDisk>,
    pub(crate) inbox: Vec<ToJournal>,
    queue: CommitQueue,
    unsynced: Option<Unsynced>,
    /// More of the queue may fit than was written last.
    more: bool,
    prepared: bool,
    marked: bool,
    idle_since: u64,
    pub(crate) flusher: Flusher<SimDisk>,
    durable: Vec<(Vec<Frame>, JournalPosition)>,
    flush_bytes: u64,
    flush_keys: u64,
    unflushed_since: Option<u64>,
    unflushed_frames: u64,
    forced: bool,
    not_before: Option<u64>,
    maintain_at: u64,
    pub(crate) reader: Reader<SimDisk>,
    pub(crate) cold: VecDeque<ColdRead>,
    pub(crate) probes: VecDeque<KeyProbe>,
    /// So many keys since the start are in segments.
    keys: u64,
    /// Until when the flusher knows that time has passed.
    elapsed: Option<u64>,
    /// For the node.
    pub(crate) done: Vec<Event>,
}

impl Storage {
    pub(crate) fn new(
        journal: Journal<SimDisk>,
        flusher: Flusher<SimDisk>,
        reader: Reader<SimDisk>,
        (flush_bytes, flush_keys): (u64, u64),
    ) -> Self {
        Self {
            journal,
            inbox: Vec::new(),
            queue: CommitQueue::default(),
            unsynced: None,
            more: false,
            prepared: false,
            marked: true,
            idle_since: 0,
            flusher,
            durable: Vec::new(),
            flush_bytes,
            flush_keys,
            unflushed_since: None,
            unflushed_frames: 0,
            forced: false,
            not_before: None,
            maintain_at: 0,
            reader,
            cold: VecDeque::new(),
            probes: VecDeque::new(),
            keys: 0,
            elapsed: None,
            done: Vec::new(),
        }
    }

    /// When the journal wants its next step.
    pub(crate) fn journal_due(&self, now: u64) -> Option<u64> {
        if self.unsynced.is_some() || !self.inbox.is_empty() || self.more || !self.prepared {
            return Some(now);
        }
        (!self.marked).then_some(self.idle_since + IDLE_MARK_AFTER)
    }

    /// One write, one sync, or one piece of work that can wait.
    pub(crate) fn journal_step(&mut self, now: u64, coverage: &mut Coverage) -> Result<(), Trouble> {
        if let Some(Unsynced { frames, through, end }) = self.unsynced.take() {
            self.journal.sync()?;
            self.done.push(Event::Durable(through));
            self.durable.push((frames, end));
            self.more = !self.queue.is_empty();
            self.prepared = false;
            return Ok(());
        }
        let news = !self.inbox.is_empty() || self.more;
        for item in self.inbox.drain(..) {
            match item {
                ToJournal::Write(write) => self.queue.push(*write),
                ToJournal::Release(below) => {
                    self.journal.release(below);
                    self.prepared = false;
                }
            }
        }
        if news && !self.queue.is_empty() {
            self.idle_since = now;
            return self.write(coverage);
        }
        if !self.prepared {
            self.prepared = self.journal.prepare_spare()? != Prepared::More;
        } else if !self.marked {
            self.journal.mark_idle()?;
            self.marked = true;
        }
        Ok(())
    }

    fn write(&mut self, coverage: &mut Coverage) -> Result<(), Trouble> {
        self.marked = false;
        self.more = false;
        let written = loop {
            match self.journal.write(self.queue.frames()) {
                Ok(written) => break written,
                Err(JournalError::Full) => {
                    if self.journal.prepare_spare()? != Prepared::More {
                        coverage.saw(Situation::JournalFull);
                        self.forced = true;
                        return Ok(());
                    }
                }
                Err(error) => return Err(error.into()),
            }
        };
        let (frames, through) = self.queue.take(written.written);
        if self.queue.take_early() {
            self.done.push(Event::Written(through));
        }
        self.unsynced = Some(Unsynced { frames, through, end: written.end });
        Ok(())
    }

    fn flush_is_due(&self, now: u64) -> bool {
        let old = self.unflushed_since.is_some_and(|since| now >= since + FLUSH_AFTER);
        let allowed = self.not_before.is_none_or(|not_before| now >= not_before);
        let pending = self.flusher.pending_bytes() + self.unflushed_frames * BATCH_STATE_BYTES;
        let many = pending >= self.flush_bytes || self.flusher.pending_keys() >= self.flush_keys;
        allowed && (self.forced || old || many)
    }

    /// When the flusher wants its next step.
    pub(crate) fn flusher_due(&self, now: u64) -> u64 {
        if !self.durable.is_empty() || self.flush_is_due(now) {
            return now;
        }
        let old = self.unflushed_since.map(|since| since + FLUSH_AFTER);
        let times = [Some(self.maintain_at), old, self.not_before];
        times.into_iter().flatten().filter(|time| *time > now).min().unwrap_or(now)
    }

    /// Takes over what is durable, and flushes or tidies up.
    pub(crate) fn flusher_step(&mut self, now: u64, wall: Timestamp, coverage: &mut Coverage) {
        let since = now - self.elapsed.unwrap_or(now);
        self.elapsed = Some(now);
        self.flusher.elapse(Duration::from_micros(since));
        for (frames, end) in self.durable.drain(..) {
            self.unflushed_since.get_or_insert(now);
            self.unflushed_frames += frames.len() as u64;
            self.flusher.accept(frames, end);
        }
        if self.flush_is_due(now) {
            self.flush(now, wall, coverage);
        } else if now >= self.maintain_at {
            self.maintain(now, wall, coverage);
        }
    }

    fn flush(&mut self, now: u64, wall: Timestamp, coverage: &mut Coverage) {
        match self.flusher.flush(wall) {
            Ok(flushed) => {
                if self.not_before.take().is_some() {
                    self.done.push(Event::StorageFull(false));
                }
                self.unflushed_since = None;
                self.unflushed_frames = 0;
                self.forced = false;
                self.inbox.push(ToJournal::Release(flushed.release));
                self.keys = flushed.keys;
                let keys = flushed.ends.iter().chain(&flushed.log_starts).map(|(key, _)| *key);
                self.tell(keys.collect());
            }
            Err(_) => {
                coverage.saw(Situation::FlushFailed);
                if self.not_before.is_none() {
                    self.done.push(Event::StorageFull(true));
                }
                self.not_before = Some(now + RETRY_AFTER);
                self.forced = true;
            }
        }
    }

    fn maintain(&mut self, now: u64, wall: Timestamp, coverage: &mut Coverage) {
        self.maintain_at = now + RETRY_AFTER;
        if let Ok(maintained) = self.flusher.maintain(wall) {
            if maintained.bytes > 0 {
                coverage.saw(Situation::Merge);
            }
            self.maintain_at = if maintained.more { now } else { now + MAINTAIN_EVERY };
            self.inbox.push(ToJournal::Release(maintained.release));
            self.tell(maintained.log_starts.iter().map(|(key, _)| *key).collect());
        }
    }

    fn tell(&mut self, mut keys: Vec<PartitionKey>) {
        keys.sort_unstable();
        keys.dedup();
        let partitions: Vec<FlushedPartition> = keys
            .into_iter()
            .map(|key| FlushedPartition {
                key,
                flushed_end: self.reader.flushed_end(key),
                log_start: self.reader.log_start(key),
                bytes: self.reader.partition_bytes(key),
            })
            .collect();
        if !partitions.is_empty() {
            self.done.push(Event::Flushed(Flushed { partitions, keys: self.keys }));
        }
    }

    /// Reads what the first reader in the queue wants.
    pub(crate) fn cold_step(&mut self, coverage: &mut Coverage) {
        if let Some(probe) = self.probes.pop_front() {
            coverage.saw(Situation::KeyProbe);
            self.done.push(Event::Keys(look_up(&self.reader, probe)));
            return;
        }
        let Some(read) = self.cold.pop_front() else { return };
        let result = match read.want {
            ColdWant::Batches { from, bytes_max } => {
                let most = usize::try_from(bytes_max).unwrap_or(usize::MAX);
                let chunk = self.reader.read(read.key, from, most);
                chunk.map(|chunk| ColdResult::batches(chunk.bytes, chunk.end_offset, bytes_max))
            }
            ColdWant::OffsetAt(time) => self.reader.offset_at_time(read.key, time).map(ColdResult::Offset),
        };
        coverage.saw(Situation::ColdRead);
        let result = result.unwrap_or_else(|error| match error {
            ReadError::OutOfRange { start, .. } => ColdResult::Trimmed { log_start: start },
            ReadError::NotFlushed => ColdResult::NotFlushed,
            ReadError::Corrupt { from, to, .. } => ColdResult::Corrupt { from, to },
            _ => ColdResult::Failed,
        });
        self.done.push(Event::ColdAnswer(ColdAnswer { read, result }));
    }
}
