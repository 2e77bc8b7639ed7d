//! The flusher's thread: moves durable batches to segments and keeps these in order.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use weir_protocol::ErrorCode;
use weir_protocol::limits::TEXT_BYTES_MAX;
use weir_protocol::units::{JournalPosition, PartitionKey};
use weir_storage::disk::Disk;
use weir_storage::frame::Frame;
use weir_storage::store::{FlushError, Flusher, Reader, SNAPSHOTS_DIRECTORY, SnapshotError};

use crate::core::event::{Flushed, FlushedPartition, SnapshotMade};
use crate::core::ingest::BATCH_STATE_BYTES;
use crate::queue::{Drained, Receiver, Sender};
use crate::server::clock::wall_now;
use crate::server::failure::Failures;
use crate::server::journal::ToJournal;
use crate::server::metrics::Metrics;
use crate::server::node::Completion;
use crate::server::{Fatal, push, spawn};

/// Unflushed data is not left alone longer than this: a restart should find little to replay.
const FLUSH_AFTER: Duration = Duration::from_secs(30);

/// Pause between looks at what retention and merging have to do.
const MAINTAIN_EVERY: Duration = Duration::from_secs(1);

/// Pause before a flush that failed is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Generations of keys beyond which merging does not wait for a pause.
const GENERATIONS_MAX: u64 = 32;

/// Steps of merging after a flush.
const MERGE_STEPS: usize = 4;

/// What the flusher's thread is told.
#[derive(Debug)]
pub(crate) enum ToFlusher {
    /// Frames that are durable, in journal order, up to a position.
    Durable {
        /// The frames.
        frames: Vec<Frame>,
        /// Where the journal ends behind them.
        end: JournalPosition,
    },
    /// The journal has no room: flush what there is.
    JournalFull,
    /// Make a snapshot of this name of all that came before.
    Snapshot(String),
}

/// What the flusher's thread works with.
#[derive(Debug)]
pub(crate) struct FlusherThread<D: Disk> {
    /// The flusher.
    pub(crate) flusher: Flusher<D>,
    /// What is in segments.
    pub(crate) reader: Reader<D>,
    /// Where snapshots are put.
    pub(crate) snapshots: PathBuf,
    /// What it is told.
    pub(crate) inbox: Receiver<ToFlusher>,
    /// Whom it tells what is in segments.
    pub(crate) node: Sender<Completion>,
    /// Whom it tells which space is free.
    pub(crate) journal: Sender<ToJournal>,
    /// Figures.
    pub(crate) metrics: Arc<Metrics>,
    /// Whom it tells that it cannot go on.
    pub(crate) failures: Failures,
    /// Unflushed bytes at which a segment is written.
    pub(crate) flush_bytes: u64,
    /// Unflushed idempotency keys at which they are flushed.
    pub(crate) flush_keys: u64,
}

/// What the thread remembers between two turns.
#[derive(Debug)]
struct Turn {
    /// Since when something has been unflushed.
    unflushed_since: Option<Instant>,
    /// Frames that are unflushed: small ones cost more memory than their bytes.
    unflushed_frames: u64,
    /// A flush is due whatever the amount.
    forced: bool,
    /// No flush before this moment: the last one failed.
    not_before: Option<Instant>,
    /// When maintenance is due.
    maintain_at: Instant,
    /// Until when the flusher was told that time has passed.
    seen: Instant,
    /// So many of the idempotency keys since the start are in segments.
    keys: u64,
}

impl<D: Disk> FlusherThread<D> {
    /// Starts the thread. When its inbox is closed and empty it writes everything out and ends.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub(crate) fn start(self) -> std::io::Result<JoinHandle<()>> {
        let failures = self.failures.clone();
        spawn("weir-flusher", failures, move || self.run())
    }

    fn run(mut self) -> Result<(), Fatal> {
        let mut items = Vec::new();
        let now = Instant::now();
        let mut turn = Turn {
            unflushed_since: None,
            unflushed_frames: 0,
            forced: false,
            not_before: None,
            maintain_at: now,
            seen: now,
            keys: 0,
        };
        loop {
            let drained = self.inbox.drain_wait(&mut items, Some(self.pause(&turn)));
            let now = Instant::now();
            self.flusher.elapse(now.saturating_duration_since(turn.seen));
            turn.seen = now;
            for item in items.drain(..) {
                match item {
                    ToFlusher::Durable { frames, end } => {
                        turn.unflushed_since.get_or_insert_with(Instant::now);
                        turn.unflushed_frames += frames.len() as u64;
                        self.flusher.accept(frames, end);
                    }
                    ToFlusher::JournalFull => turn.forced = true,
                    ToFlusher::Snapshot(name) => self.snapshot(&name, &mut turn)?,
                }
            }
            if drained == Some(Drained::Closed) {
                return Ok(self.flusher.close(wall_now())?);
            }
            if self.is_due(&turn) {
                self.flush(&mut turn)?;
                self.merge_keys(&mut turn)?;
            } else if Instant::now() >= turn.maintain_at {
                self.maintain(&mut turn)?;
            }
        }
    }

    fn pause(&self, turn: &Turn) -> Duration {
        let now = Instant::now();
        let mut until = turn.maintain_at;
        if let Some(since) = turn.unflushed_since {
            until = until.min(since + FLUSH_AFTER);
        }
        if let Some(not_before) = turn.not_before {
            until = until.min(not_before);
        }
        if self.is_due(turn) { Duration::ZERO } else { until.saturating_duration_since(now) }
    }

    fn is_due(&self, turn: &Turn) -> bool {
        let now = Instant::now();
        let pending = self.flusher.pending_bytes() + turn.unflushed_frames * BATCH_STATE_BYTES;
        let old = turn.unflushed_since.is_some_and(|since| now >= since + FLUSH_AFTER);
        let allowed = turn.not_before.is_none_or(|not_before| now >= not_before);
        let many = pending >= self.flush_bytes || self.flusher.pending_keys() >= self.flush_keys;
        allowed && (turn.forced || old || many)
    }

    fn flush(&mut self, turn: &mut Turn) -> Result<(), Fatal> {
        match self.flusher.flush(wall_now()) {
            Ok(flushed) => {
                if turn.not_before.take().is_some() {
                    push(&mut self.node, Completion::StorageFull(false));
                }
                turn.unflushed_since = None;
                turn.unflushed_frames = 0;
                turn.forced = false;
                push(&mut self.journal, ToJournal::Release(flushed.release));
                let ends = flushed.ends.iter().map(|(key, _)| *key);
                let starts = flushed.log_starts.iter().map(|(key, _)| *key);
                self.metrics.flushes.increment();
                self.metrics.flushed_bytes.add(flushed.bytes);
                turn.keys = flushed.keys;
                self.tell(ends.chain(starts).collect(), turn);
                Ok(())
            }
            Err(error) => self.failed(&error, turn),
        }
    }

    /// A flush that failed is tried again: everything it would have written is in the journal. What a full disk
    /// means to producers is said at once.
    fn failed(&mut self, error: &FlushError, turn: &mut Turn) -> Result<(), Fatal> {
        tracing::warn!(%error, "segments cannot be written; trying again");
        if turn.not_before.is_none() {
            push(&mut self.node, Completion::StorageFull(true));
        }
        turn.not_before = Some(Instant::now() + RETRY_AFTER);
        turn.forced = true;
        Ok(())
    }

    /// Moves everything that came so far to segments, and gives it a second directory.
    fn snapshot(&mut self, name: &str, turn: &mut Turn) -> Result<(), Fatal> {
        self.flush(turn)?;
        let made = self.flusher.snapshot(&self.snapshots.join(name)).map_err(|error| {
            tracing::warn!(name, %error, "the snapshot was not made");
            let code = match error {
                SnapshotError::Exists { .. } => ErrorCode::SnapshotExists,
                SnapshotError::NotFlushed
                | SnapshotError::NoLinks { .. }
                | SnapshotError::Disk(_)
                | SnapshotError::Journal(_)
                | _ => ErrorCode::SnapshotFailed,
            };
            (code, error.to_string())
        });
        let made = made.map(|snapshot| {
            tracing::info!(name, segments = snapshot.segments, bytes = snapshot.bytes, "snapshot made");
            SnapshotMade {
                directory: text_of(&snapshot.directory, name),
                segments: snapshot.segments,
                bytes: snapshot.bytes,
            }
        });
        push(&mut self.node, Completion::Snapshot(made));
        Ok(())
    }

    fn maintain(&mut self, turn: &mut Turn) -> Result<(), Fatal> {
        match self.flusher.maintain(wall_now()) {
            Ok(maintained) => {
                if !maintained.more {
                    turn.maintain_at = Instant::now() + MAINTAIN_EVERY;
                }
                push(&mut self.journal, ToJournal::Release(maintained.release));
                let keys = maintained.log_starts.iter().map(|(key, _)| *key).collect();
                self.tell(keys, turn);
            }
            Err(error) => {
                tracing::warn!(%error, "segments cannot be maintained; trying again");
                turn.maintain_at = Instant::now() + RETRY_AFTER;
            }
        }
        Ok(())
    }

    /// Merges keys also while flushes never end: each new key is looked for in every generation. Many are merged at once, which is the
    /// least work.
    fn merge_keys(&mut self, turn: &mut Turn) -> Result<(), Fatal> {
        for _ in 0..MERGE_STEPS {
            if turn.not_before.is_some() || self.reader.key_figures().generations <= GENERATIONS_MAX {
                break;
            }
            self.maintain(turn)?;
        }
        Ok(())
    }

    fn tell(&mut self, mut keys: Vec<PartitionKey>, turn: &Turn) {
        keys.sort_unstable();
        keys.dedup();
        if keys.is_empty() {
            return;
        }
        let partitions = keys.into_iter().map(|key| FlushedPartition {
            key,
            flushed_end: self.reader.flushed_end(key),
            log_start: self.reader.log_start(key),
            bytes: self.reader.partition_bytes(key),
        });
        let flushed = Flushed { partitions: partitions.collect(), keys: turn.keys };
        push(&mut self.node, Completion::Flushed(flushed));
    }
}

/// The directory as a message takes it: what is too long for one is told from the data directory on.
fn text_of(directory: &Path, name: &str) -> String {
    let directory = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
    let text = directory.to_string_lossy();
    if text.len() <= TEXT_BYTES_MAX { text.into_owned() } else { format!("{SNAPSHOTS_DIRECTORY}/{name}") }
}
