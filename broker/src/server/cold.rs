//! Threads that read flushed data, so that a backlog reader never holds up the tail.

use std::sync::Arc;
use std::thread::JoinHandle;

use weir_protocol::units::PartitionKey;
use weir_storage::disk::Disk;
use weir_storage::store::{ReadError, Reader};

use crate::core::event::ColdWant;
use crate::core::{ColdAnswer, ColdRead, ColdResult};
use crate::queue::{Drained, Receiver, Sender, mailbox};
use crate::server::failure::Failures;
use crate::server::metrics::Metrics;
use crate::server::node::Completion;
use crate::server::{Fatal, push, spawn};

/// Threads that read: one waits for the disk while the other copies.
const THREADS: usize = 2;

/// Reads that may wait at one thread. What is beyond stays with the node, which has one for each reader at most.
const READS_WAITING_MAX: usize = 4096;

/// The way to the threads.
#[derive(Debug)]
pub(crate) struct ColdReaders {
    inboxes: Vec<Sender<ColdRead>>,
    /// Reads no thread had room for.
    backlog: Vec<ColdRead>,
}

impl ColdReaders {
    /// Starts the threads; they end when this is dropped.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub(crate) fn start<D: Disk>(
        reader: &Reader<D>,
        node: &Sender<Completion>,
        (metrics, failures): (&Arc<Metrics>, &Failures),
    ) -> std::io::Result<(Self, Vec<JoinHandle<()>>)> {
        let mut inboxes = Vec::new();
        let mut threads = Vec::new();
        for number in 0..THREADS {
            let (sender, receiver) = mailbox(READS_WAITING_MAX);
            inboxes.push(sender);
            let (reader, node, metrics) = (reader.clone(), node.clone(), Arc::clone(metrics));
            let name = format!("weir-cold-{number}");
            threads.push(spawn(&name, failures.clone(), move || {
                run(&reader, receiver, node, &metrics);
                Ok::<(), Fatal>(())
            })?);
        }
        Ok((Self { inboxes, backlog: Vec::new() }, threads))
    }

    /// Hands reads to the threads; those of one partition always to the same.
    pub(crate) fn submit(&mut self, reads: &mut Vec<ColdRead>) {
        self.backlog.append(reads);
        let inboxes = &self.inboxes;
        self.backlog.retain(|read| {
            let inbox = inboxes.get(slot(read.key, inboxes.len()));
            inbox.is_some_and(|inbox| inbox.try_push(*read).is_err())
        });
    }
}

fn slot(key: PartitionKey, slots: usize) -> usize {
    key.partition.get() as usize % slots.max(1)
}

fn run<D: Disk>(
    reader: &Reader<D>,
    mut inbox: Receiver<ColdRead>,
    mut node: Sender<Completion>,
    metrics: &Metrics,
) {
    let mut reads = Vec::new();
    while inbox.drain_wait(&mut reads, None) == Some(Drained::Items) {
        for read in reads.drain(..) {
            let result = perform(reader, &read);
            metrics.cold_reads.increment();
            if let ColdResult::Batches { bytes, .. } = &result {
                metrics.cold_read_bytes.add(bytes.len() as u64);
            }
            push(&mut node, Completion::Cold(ColdAnswer { read, result }));
        }
    }
}

fn perform<D: Disk>(reader: &Reader<D>, read: &ColdRead) -> ColdResult {
    let result = match read.want {
        ColdWant::Batches { from, bytes_max } => {
            let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
            reader
                .read(read.key, from, bytes_max)
                .map(|chunk| ColdResult::Batches { bytes: chunk.bytes, end: chunk.end_offset })
        }
        ColdWant::OffsetAt(time) => reader.offset_at_time(read.key, time).map(ColdResult::Offset),
    };
    result.unwrap_or_else(|error| match error {
        ReadError::OutOfRange { start, .. } => ColdResult::Trimmed { log_start: start },
        ReadError::NotFlushed => ColdResult::NotFlushed,
        ReadError::Corrupt { from, to, .. } => {
            tracing::error!(partition = %read.key, %from, %to, "stored records are damaged");
            ColdResult::Corrupt { from, to }
        }
        error @ (ReadError::Disk(_) | _) => {
            tracing::error!(partition = %read.key, %error, "stored records cannot be read");
            ColdResult::Failed
        }
    })
}
