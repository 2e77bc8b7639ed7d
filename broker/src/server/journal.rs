//! The journal's thread: what has gathered while the last sync ran becomes the next group.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use weir_protocol::units::JournalPosition;
use weir_storage::disk::Disk;
use weir_storage::journal::{Journal, JournalError, Prepared};

use crate::core::ToWrite;
use crate::core::commit::CommitQueue;
use crate::queue::{Drained, Receiver, Sender};
use crate::server::failure::Failures;
use crate::server::flusher::ToFlusher;
use crate::server::metrics::Metrics;
use crate::server::node::Completion;
use crate::server::{Fatal, push, spawn};

/// Idle time after which an empty block proves that everything before it was durable.
const IDLE_MARK_AFTER: Duration = Duration::from_millis(100);

/// What the journal's thread is told.
#[derive(Debug)]
pub(crate) enum ToJournal {
    /// A frame to be made durable.
    Write(Box<ToWrite>),
    /// Journal space below this can be used again.
    Release(JournalPosition),
    /// To be passed on to the flusher behind every frame that was made durable.
    Snapshot(String),
}

/// What the journal's thread works with.
#[derive(Debug)]
pub(crate) struct JournalThread<D: Disk> {
    /// The journal.
    pub(crate) journal: Journal<D>,
    /// What it is told.
    pub(crate) inbox: Receiver<ToJournal>,
    /// Whom it tells what is durable.
    pub(crate) node: Sender<Completion>,
    /// Who gets the durable frames.
    pub(crate) flusher: Sender<ToFlusher>,
    /// Figures.
    pub(crate) metrics: Arc<Metrics>,
    /// Whom it tells that it cannot go on.
    pub(crate) failures: Failures,
}

impl<D: Disk> JournalThread<D> {
    /// Starts the thread. It ends once its inbox is closed and empty, or when the journal fails.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub(crate) fn start(self) -> std::io::Result<JoinHandle<()>> {
        let failures = self.failures.clone();
        spawn("weir-journal", failures, move || self.run())
    }

    fn run(mut self) -> Result<(), Fatal> {
        let mut items = Vec::new();
        let mut queue = CommitQueue::default();
        let mut marked = true;
        let mut prepared = false;
        loop {
            let timeout = match (prepared, marked) {
                (false, _) => Some(Duration::ZERO),
                (true, false) => Some(IDLE_MARK_AFTER),
                (true, true) => None,
            };
            match self.inbox.drain_wait(&mut items, timeout) {
                Some(Drained::Items) => {}
                Some(Drained::Closed) => return Ok(()),
                // Files for the ring are made ready in small steps while nothing else is to do.
                None if !prepared => {
                    prepared = self.journal.prepare_spare()? != Prepared::More;
                    continue;
                }
                None => {
                    self.journal.mark_idle()?;
                    marked = true;
                    continue;
                }
            }
            for item in items.drain(..) {
                match item {
                    ToJournal::Write(write) => queue.push(*write),
                    ToJournal::Snapshot(name) => push(&mut self.flusher, ToFlusher::Snapshot(name)),
                    ToJournal::Release(below) => {
                        self.journal.release(below);
                        prepared = false;
                    }
                }
            }
            if !queue.is_empty() {
                marked = false;
                self.commit(&mut queue)?;
                prepared = false;
            }
        }
    }

    /// Makes as many frames durable as there is room for; the rest waits for the flusher to free space.
    fn commit(&mut self, queue: &mut CommitQueue) -> Result<(), Fatal> {
        while !queue.is_empty() {
            let began = Instant::now();
            let written = match self.journal.write(queue.frames()) {
                Ok(committed) => committed,
                Err(JournalError::Full) => {
                    // The ring may grow; if it is as large as it may be, only a flush helps.
                    if self.journal.prepare_spare()? != Prepared::More {
                        push(&mut self.flusher, ToFlusher::JournalFull);
                        return Ok(());
                    }
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let (frames, through) = queue.take(written.written);
            if queue.take_early() {
                push(&mut self.node, Completion::Written(through));
            }
            self.journal.sync()?;
            self.count(written.bytes, began.elapsed());
            push(&mut self.node, Completion::Durable(through));
            push(&mut self.flusher, ToFlusher::Durable { frames, end: written.end });
        }
        Ok(())
    }

    fn count(&self, bytes: u64, took: Duration) {
        self.metrics.journal_commits.increment();
        self.metrics.journal_bytes.add(bytes);
        self.metrics.journal_commit_bytes.observe(bytes);
        self.metrics.journal_sync.observe(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        self.metrics.journal_used_bytes.set(self.journal.used_bytes());
        self.metrics.journal_room_bytes.set(self.journal.room());
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use weir_protocol::units::{Incarnation, Offset, PartitionId, PartitionKey, TopicId};
    use weir_storage::disk::SimDisk;
    use weir_storage::disk::sim::{Fault, Operation};
    use weir_storage::frame::Frame;
    use weir_storage::journal::{Identity, JournalId, JournalOptions};

    use super::*;
    use crate::core::Ticket;
    use crate::queue::mailbox;

    fn write() -> ToWrite {
        let partition = PartitionKey { topic: TopicId::default(), partition: PartitionId::ZERO };
        let frame = Frame::Trim { partition, log_start: Offset::new(1) };
        ToWrite { ticket: Ticket(1), frame, early: false }
    }

    #[test]
    fn nothing_is_acknowledged_by_a_sync_that_fails() {
        let disk = SimDisk::new();
        let identity = Identity { journal: JournalId::from_bytes([1; 16]), incarnation: Incarnation::new(1) };
        let options =
            JournalOptions { file_bytes: 64 << 10, files: 2, files_max: 2, reserve_bytes: 16 << 10 };
        let mut journal = Journal::create(disk.clone(), Path::new("/journal"), identity, options).unwrap();
        while journal.prepare_spare().unwrap() == Prepared::More {}
        let (to_journal, inbox) = mailbox(4);
        let (node, mut completions) = mailbox(4);
        let (flusher, _flusher_inbox) = mailbox(4);
        let (metrics, failures) = (Arc::new(Metrics::default()), Failures::default());
        to_journal.try_push(ToJournal::Write(Box::new(write()))).unwrap();
        disk.plan(Fault::next(Operation::Sync));

        let ended = JournalThread { journal, inbox, node, flusher, metrics, failures }.run();

        assert!(matches!(ended, Err(Fatal::Journal(JournalError::Disk(_)))), "{ended:?}");
        let mut told = Vec::new();
        completions.drain_now(&mut told);
        assert!(told.is_empty(), "{told:?}");
    }
}
