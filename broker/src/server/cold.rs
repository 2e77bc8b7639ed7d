//! Threads that read flushed data and keys, so that a backlog reader never holds up the tail.

use std::sync::Arc;
use std::thread::JoinHandle;

use weir_storage::disk::Disk;
use weir_storage::store::{ReadError, Reader};

use crate::core::dedup::{KeyLookup, KeyProbe};
use crate::core::event::ColdWant;
use crate::core::{Actions, ColdAnswer, ColdRead, ColdResult};
use crate::queue::{Drained, Receiver, Rejected, Sender, mailbox};
use crate::server::failure::Failures;
use crate::server::keys::{look_up, look_up_for};
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
    inboxes: Vec<Sender<Job>>,
    /// What no thread had room for.
    backlog: Vec<Job>,
}

/// What a thread is to read.
#[derive(Debug)]
enum Job {
    Batches(ColdRead),
    Keys(KeyProbe),
    Key(KeyLookup),
}

impl Job {
    /// Jobs of one number are done one after the other.
    const fn number(&self) -> u32 {
        match self {
            Self::Batches(read) => read.key.partition.get(),
            Self::Keys(probe) => probe.partition.partition.get(),
            Self::Key(lookup) => lookup.request,
        }
    }
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

    /// Hands reads to the threads; those of one partition always to the same. Keys come first: producers wait for them.
    pub(crate) fn submit(&mut self, actions: &mut Actions) {
        self.backlog.extend(actions.key_probes.drain(..).map(Job::Keys));
        self.backlog.extend(actions.cold_reads.drain(..).map(Job::Batches));
        self.backlog.extend(actions.key_lookups.drain(..).map(Job::Key));
        let inboxes = &self.inboxes;
        self.backlog = std::mem::take(&mut self.backlog)
            .into_iter()
            .filter_map(|job| {
                let inbox = inboxes.get(slot(job.number(), inboxes.len()))?;
                match inbox.try_push(job) {
                    Ok(()) => None,
                    Err(Rejected::Full(job) | Rejected::Closed(job)) => Some(job),
                }
            })
            .collect();
    }
}

fn slot(number: u32, slots: usize) -> usize {
    number as usize % slots.max(1)
}

fn run<D: Disk>(
    reader: &Reader<D>,
    mut inbox: Receiver<Job>,
    mut node: Sender<Completion>,
    metrics: &Metrics,
) {
    let mut jobs = Vec::new();
    while inbox.drain_wait(&mut jobs, None) == Some(Drained::Items) {
        for job in jobs.drain(..) {
            let read = match job {
                Job::Batches(read) => read,
                Job::Keys(probe) => {
                    metrics.key_probes.add(probe.digests.len() as u64);
                    push(&mut node, Completion::Keys(look_up(reader, probe)));
                    continue;
                }
                Job::Key(lookup) => {
                    push(&mut node, Completion::KeyLookup(look_up_for(reader, lookup)));
                    continue;
                }
            };
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
            let chunk = reader.read(read.key, from, usize::try_from(bytes_max).unwrap_or(usize::MAX));
            chunk.map(|chunk| ColdResult::batches(chunk.bytes, chunk.end_offset, bytes_max))
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
        error @ (ReadError::KeysLost { .. } | ReadError::Disk(_) | _) => {
            tracing::error!(partition = %read.key, %error, "stored records cannot be read");
            ColdResult::Failed
        }
    })
}
