//! From frames to records: done in the application's task, so that the network thread only moves bytes.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use weir_protocol::batch::StoredBatch;
use weir_protocol::units::{Epoch, Offset, PartitionId, TopicId};
use weir_protocol::{DecodeError, ErrorCode};

use crate::client::ClientHandle;
use crate::consumer::batch::Batch;
use crate::consumer::settle::Lease;
use crate::core::consumer::{Ended, Frame, Step, Taken};
use crate::error::Error;
use crate::message::Delivered;
use crate::net::member::GroupShared;
use crate::net::shared::lock;
use crate::net::subscribe::ConsumerShared;

/// Memory for records set aside at once by `recv_batch`.
const RECORDS_AT_ONCE: usize = 1024;

/// Reads records out of frames.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) shared: Arc<ConsumerShared>,
    /// Keeps the connection.
    _client: Arc<ClientHandle>,
    pub(super) topic_id: TopicId,
    pub(super) partition_epoch: Epoch,
    messages_max: usize,
    /// The group it is a member of.
    pub(super) group: Option<Arc<GroupShared>>,
    frame: Option<Open>,
    batch: Option<Batch>,
    /// An error that came after records that had to be given out first.
    error: Option<Error>,
}

/// A frame that is being taken apart.
#[derive(Debug)]
struct Open {
    frame: Frame,
    rest: Bytes,
}

impl Drop for Reading {
    fn drop(&mut self) {
        match &self.group {
            // Its task says goodbye first, so that the partitions need not wait for the lease to run out.
            Some(_) => self.shared.leaving.cancel(),
            None => self.shared.stop.cancel(),
        }
    }
}

impl Reading {
    pub(super) fn new(
        shared: Arc<ConsumerShared>,
        client: Arc<ClientHandle>,
        topic_id: TopicId,
        messages_max: usize,
    ) -> Self {
        Self {
            shared,
            _client: client,
            topic_id,
            partition_epoch: Epoch::ZERO,
            messages_max,
            group: None,
            frame: None,
            batch: None,
            error: None,
        }
    }

    /// Waits until every partition has its starting point.
    pub(super) async fn started(&self) -> Result<(), Error> {
        poll_fn(|context| {
            let mut state = lock(&self.shared.state);
            if let Some(error) = &state.error {
                return Poll::Ready(Err(error.clone()));
            }
            if state.machine.is_started() {
                return Poll::Ready(Ok(()));
            }
            state.waker = Some(context.waker().clone());
            Poll::Pending
        })
        .await?;
        let refused = lock(&self.shared.state).machine.first_refusal();
        refused.map_or(Ok(()), |ended| Err(self.ended(ended)))
    }

    pub(super) async fn recv(&mut self) -> Option<Result<Delivered, Error>> {
        poll_fn(|context| self.poll_next(context)).await
    }

    pub(super) fn poll_next(&mut self, context: &Context<'_>) -> Poll<Option<Result<Delivered, Error>>> {
        loop {
            if let Some(next) = self.next() {
                return Poll::Ready(Some(next));
            }
            let mut state = lock(&self.shared.state);
            let is_paused = self.shared.paused.load(Ordering::Relaxed);
            let has_more = !state.machine.is_queue_empty() && !is_paused;
            if has_more {
                continue;
            }
            if !is_paused && let Some(error) = state.error.take() {
                return Poll::Ready(Some(Err(error)));
            }
            if !is_paused && state.machine.is_finished() && state.machine.is_queue_empty() {
                return Poll::Ready(None);
            }
            state.waker = Some(context.waker().clone());
            return Poll::Pending;
        }
    }

    pub(super) async fn recv_into(
        &mut self,
        records: &mut Vec<Delivered>,
        max: usize,
        wait: Duration,
    ) -> Result<usize, Error> {
        let max = max.min(self.messages_max);
        if max == 0 {
            return Ok(0);
        }
        let before = records.len();
        let first = match self.next() {
            Some(first) => Some(first),
            None => {
                let client = &self.shared.client;
                let sleep = client.sleep_until(client.now().after(wait));
                tokio::select! {
                    biased;
                    first = self.recv() => first,
                    () = sleep => None,
                }
            }
        };
        let Some(first) = first else { return Ok(0) };
        let first = first?;
        records.reserve(max.min(RECORDS_AT_ONCE));
        records.push(first);
        while records.len() - before < max {
            match self.next() {
                Some(Ok(record)) => records.push(record),
                Some(Err(error)) => {
                    self.error = Some(error);
                    break;
                }
                None => break,
            }
        }
        Ok(records.len() - before)
    }

    /// The next record or error, if one is there.
    fn next(&mut self) -> Option<Result<Delivered, Error>> {
        if self.shared.paused.load(Ordering::Relaxed) {
            return None;
        }
        if let Some(error) = self.error.take() {
            return Some(Err(error));
        }
        loop {
            if let Some(batch) = &mut self.batch {
                match batch.next(&self.shared, self.topic_id) {
                    Some(Ok(record)) => return Some(Ok(record)),
                    Some(Err(error)) => return Some(Err(self.damaged(&error))),
                    None => {
                        batch.pass_rest();
                        self.batch = None;
                    }
                }
            }
            if self.frame.is_some() {
                if let Err(error) = self.open_batch() {
                    return Some(Err(self.damaged(&error)));
                }
                continue;
            }
            let taken = {
                let state = lock(&self.shared.state);
                if state.machine.is_queue_empty() {
                    return None;
                }
                drop(state);
                self.shared.with(|state| state.machine.take())
            };
            match taken? {
                Taken::Frame(frame) => self.frame = Some(Open { rest: frame.batches.clone(), frame }),
                Taken::Ended(ended) => return Some(Err(self.ended(ended))),
            }
        }
    }

    /// Begins the next batch of the frame, or gives the frame back.
    fn open_batch(&mut self) -> Result<(), DecodeError> {
        let Some(open) = &mut self.frame else { return Ok(()) };
        if open.rest.is_empty() {
            self.close_frame();
            return Ok(());
        }
        let stored = StoredBatch::decode(&mut open.rest)?;
        let (base, end) = (stored.base_offset(), stored.end_offset());
        let frame = &open.frame;
        // Asked for first: if reading stops meanwhile, it is an earlier turn.
        let lease = self.group.as_ref().and_then(|group| Lease::of(group, frame.partition));
        let (step, epoch) = {
            let mut state = lock(&self.shared.state);
            let step = state.machine.begin_batch(frame, base, end);
            (step, state.machine.lease_of(frame.partition))
        };
        match step {
            Step::Deliver { from, until } => {
                self.partition_epoch = stored.section.partition_epoch;
                if self.group.is_some() && (lease.is_none() || lease.as_ref().map(Lease::epoch) != epoch) {
                    return Ok(());
                }
                self.batch = Some(Batch::new(stored, frame.partition, (from, until), lease)?);
                self.after_begin();
            }
            Step::Skip => {}
            Step::Stale => self.close_frame(),
        }
        Ok(())
    }

    /// What the machine noticed when a batch was begun is told: gaps, and a partition that is done.
    fn after_begin(&self) {
        let has_news = lock(&self.shared.state).machine.has_news();
        if has_news {
            self.shared.with(|_| ());
        }
    }

    /// Gives the frame's credit back, and its memory once nobody holds records of it.
    fn close_frame(&mut self) {
        if let Some(Open { frame, rest }) = self.frame.take() {
            drop(rest);
            self.shared.with(|state| state.machine.consumed(&frame));
            self.shared.pool.retire(frame.batches);
        }
    }

    /// Throws away what is open.
    pub(super) fn discard(&mut self) {
        self.batch = None;
        self.error = None;
        self.close_frame();
    }

    fn damaged(&mut self, error: &DecodeError) -> Error {
        self.batch = None;
        let partition = self.frame.as_ref().map(|open| open.frame.partition);
        if let Some(partition) = partition {
            self.shared.with(|state| state.machine.failed(partition));
            if let Some(group) = &self.group {
                group.with(|member| member.failed(partition));
            }
        }
        self.close_frame();
        let partition = partition.map_or(0, PartitionId::get);
        let text = format!("topic '{}' partition {partition}: received bytes: {error}", self.shared.topic);
        Error::broker(ErrorCode::DataCorrupt, text)
    }

    fn ended(&self, ended: Ended) -> Error {
        let Ended { partition, asked, code, log_start, high_watermark, detail } = ended;
        if let Some(group) = &self.group {
            // Whoever has the lease goes on trying: nobody else can.
            group.with(|member| member.failed(partition));
        }
        let topic = &self.shared.topic;
        let text = match (code, asked) {
            (ErrorCode::OffsetOutOfRange, Some(asked)) => format!(
                "topic '{topic}' partition {partition} holds offsets {log_start} to {high_watermark}, asked for {asked}"
            ),
            _ if detail.is_empty() => format!("topic '{topic}' partition {partition}"),
            _ => format!("topic '{topic}' partition {partition}: {detail}"),
        };
        Error::broker(code, text)
    }

    pub(super) fn is_complete(&self) -> bool {
        self.batch.is_none() && lock(&self.shared.state).machine.is_complete()
    }

    /// The next offset to be received in each partition.
    pub(super) fn positions(&self) -> Vec<(PartitionId, Offset)> {
        let mut positions: Vec<_> = lock(&self.shared.state).machine.positions().collect();
        // The machine is ahead by what is left of the batch that is being taken apart.
        if let Some(batch) = &self.batch
            && let Some((_, position)) =
                positions.iter_mut().find(|(partition, _)| *partition == batch.partition)
        {
            *position = batch.from;
        }
        positions
    }
}
