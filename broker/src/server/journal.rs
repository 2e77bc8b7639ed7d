//! The journal's thread: what has gathered while the last sync ran becomes the next group.

use std::thread::JoinHandle;
use std::time::Duration;

use weir_protocol::units::JournalPosition;
use weir_storage::disk::Disk;
use weir_storage::frame::Frame;
use weir_storage::journal::{Journal, JournalError};

use crate::core::Ticket;
use crate::queue::{Drained, Receiver, Sender};
use crate::server::failure::Failures;
use crate::server::flusher::ToFlusher;
use crate::server::node::Completion;
use crate::server::{Fatal, push, spawn};

/// Idle time after which an empty block proves that everything before it was durable.
const IDLE_MARK_AFTER: Duration = Duration::from_millis(100);

/// What the journal's thread is told.
#[derive(Debug)]
pub enum ToJournal {
    /// A frame to be made durable.
    Frame(Ticket, Frame),
    /// Journal space below this can be used again.
    Release(JournalPosition),
}

/// What the journal's thread works with.
#[derive(Debug)]
pub struct JournalThread<D: Disk> {
    /// The journal.
    pub journal: Journal<D>,
    /// What it is told.
    pub inbox: Receiver<ToJournal>,
    /// Whom it tells what is durable.
    pub node: Sender<Completion>,
    /// Who gets the durable frames.
    pub flusher: Sender<ToFlusher>,
    /// Whom it tells that it cannot go on.
    pub failures: Failures,
}

impl<D: Disk> JournalThread<D> {
    /// Starts the thread. It ends once its inbox is closed and empty, or when the journal fails.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(self) -> std::io::Result<JoinHandle<()>> {
        let failures = self.failures.clone();
        spawn("weir-journal", failures, move || self.run())
    }

    fn run(mut self) -> Result<(), Fatal> {
        let mut items = Vec::new();
        let mut frames: Vec<Frame> = Vec::new();
        let mut last = Ticket::default();
        let mut idle = true;
        loop {
            let timeout = if idle { None } else { Some(IDLE_MARK_AFTER) };
            match self.inbox.drain_wait(&mut items, timeout) {
                Some(Drained::Items) => {}
                Some(Drained::Closed) => return Ok(()),
                None => {
                    self.journal.mark_idle()?;
                    self.journal.prepare()?;
                    idle = true;
                    continue;
                }
            }
            for item in items.drain(..) {
                match item {
                    ToJournal::Frame(ticket, frame) => {
                        last = ticket;
                        frames.push(frame);
                    }
                    ToJournal::Release(below) => self.journal.release(below),
                }
            }
            if !frames.is_empty() {
                idle = false;
                self.commit(&mut frames, last)?;
            }
        }
    }

    /// Makes as many frames durable as there is room for; the rest waits for the flusher to free space.
    fn commit(&mut self, frames: &mut Vec<Frame>, last: Ticket) -> Result<(), Fatal> {
        while !frames.is_empty() {
            let committed = match self.journal.commit(frames) {
                Ok(committed) => committed,
                Err(JournalError::Full { .. }) => {
                    push(&mut self.flusher, ToFlusher::JournalFull);
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            };
            let rest = frames.split_off(committed.written);
            let durable = std::mem::replace(frames, rest);
            let through = Ticket(last.0 - frames.len() as u64);
            push(&mut self.node, Completion::Durable(through, committed.bytes));
            push(&mut self.flusher, ToFlusher::Durable { frames: durable, end: committed.end });
        }
        Ok(())
    }
}
