//! Publishing: the producer's machine under its lock, and the task that carries its lanes.

mod lane;
mod task;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::task::Waker;

use tokio::sync::{Notify, watch};
use weir_protocol::ErrorCode;
use weir_protocol::batch::Compression;
use weir_protocol::units::Durability;

use crate::core::producer::{BatchNumber, Completion, Failed, LaneId, Outcome, Producer, Why};
use crate::core::time::Mono;
use crate::core::window::Ticket;
use crate::delivery::{BatchCell, OnFailure, messages_of, receipt};
use crate::error::{Class, ClientCode, Error};
use crate::exceptions::{Exceptions, explain as explain_fate, is_failed};
use crate::failure::{SendError, SendFailure};
use crate::message::Message;
use crate::net::lane::LANES_MAX;
use crate::net::pool::BufferPool;
use crate::net::shared::{Shared, lock};

pub(crate) use task::{claim, open_identity, run};

/// What is behind a producer's lock.
pub(crate) struct State {
    pub(crate) machine: Producer<Arc<BatchCell>>,
    /// Who waits for room.
    pub(crate) wakers: BTreeMap<Ticket, Waker>,
    /// When the task looks at the machine's timers next.
    armed: Option<Mono>,
    /// No records are taken any more.
    pub(crate) closing: Option<Why>,
    pub(crate) delivered: u64,
    pub(crate) failed: u64,
    pub(crate) last_failure: Option<(Error, SendFailure)>,
    /// Messages for the report, while the producer is being closed.
    pub(crate) undelivered: Option<Vec<Message>>,
}

/// A producer, as its handles and its task see it.
pub(crate) struct ProducerShared {
    pub(crate) client: Arc<Shared>,
    pub(crate) topic: String,
    pub(crate) durability: Durability,
    pub(crate) compression: Compression,
    pub(crate) record_bytes_max: usize,
    /// The broker is told each record's key.
    pub(crate) keyed_versions: bool,
    /// Tells the holders of its name apart, if it has claimed one.
    pub(crate) token: Option<u64>,
    pub(crate) state: Mutex<State>,
    pub(crate) pool: BufferPool,
    pub(crate) on_failure: OnFailure,
    /// Wakes the task: timers, closing, a new identity.
    pub(crate) attention: Notify,
    /// Batches got their results.
    pub(crate) progress: Notify,
    pub(crate) pressure: watch::Sender<()>,
    /// The machine wants a new identity.
    identity: Notify,
    lanes: Vec<Notify>,
}

impl std::fmt::Debug for ProducerShared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProducerShared").field("topic", &self.topic).finish_non_exhaustive()
    }
}

/// What a producer is made of beside its machine.
pub(crate) struct Parts {
    pub(crate) client: Arc<Shared>,
    pub(crate) topic: String,
    pub(crate) durability: Durability,
    pub(crate) compression: Compression,
    pub(crate) record_bytes_max: usize,
    /// The broker is told each record's key.
    pub(crate) keyed_versions: bool,
    pub(crate) token: Option<u64>,
    pub(crate) on_failure: OnFailure,
}

impl ProducerShared {
    pub(crate) fn new(parts: Parts, machine: Producer<Arc<BatchCell>>) -> Self {
        let options = machine.options();
        let lanes = options.partitions.min(LANES_MAX);
        let pool_bytes = usize::try_from(options.in_flight_bytes).unwrap_or(usize::MAX);
        let state = State {
            machine,
            wakers: BTreeMap::new(),
            armed: None,
            closing: None,
            delivered: 0,
            failed: 0,
            last_failure: None,
            undelivered: None,
        };
        Self {
            client: parts.client,
            topic: parts.topic,
            durability: parts.durability,
            compression: parts.compression,
            record_bytes_max: parts.record_bytes_max,
            keyed_versions: parts.keyed_versions,
            token: parts.token,
            state: Mutex::new(state),
            pool: BufferPool::new(pool_bytes),
            on_failure: parts.on_failure,
            attention: Notify::new(),
            progress: Notify::new(),
            pressure: watch::Sender::new(()),
            identity: Notify::new(),
            lanes: (0..lanes).map(|_| Notify::new()).collect(),
        }
    }

    pub(crate) fn wake_lane(&self, lane: LaneId) {
        if let Some(lane) = self.lanes.get(lane.0 as usize) {
            lane.notify_one();
        }
    }

    /// Tells the task of a timer that is earlier than the one it waits for.
    pub(crate) fn arm(&self, state: &mut State) {
        let next = state.machine.next_timer();
        if next.is_some_and(|at| state.armed.is_none_or(|armed| at < armed)) {
            state.armed = next;
            self.attention.notify_one();
        }
    }

    /// Changes the machine and tells everybody who has to know, once the lock is free again.
    pub(crate) fn with<R>(
        &self,
        change: impl FnOnce(&mut State, &mut Vec<Completion<Arc<BatchCell>>>) -> R,
    ) -> R {
        let mut completions = Vec::new();
        let mut wakers = Vec::new();
        let (result, lanes, collects) = {
            let mut state = lock(&self.state);
            let state = &mut *state;
            let result = change(state, &mut completions);
            if let Some(why) = state.machine.ended() {
                state.closing.get_or_insert_with(|| why.clone());
                wakers.extend(std::mem::take(&mut state.wakers).into_values());
            }
            for done in &completions {
                let records = u64::from(done.records);
                match &done.outcome {
                    Outcome::Stored(entry, exceptions, _) => {
                        let mut failed = exceptions.iter().filter(|exception| is_failed(exception));
                        let count = failed.clone().count() as u64;
                        state.failed += count;
                        state.delivered += records - count;
                        if let Some(last) = failed.next_back() {
                            state.last_failure = explain_fate(&self.topic, &last.fate, &receipt(entry));
                        }
                    }
                    Outcome::Failed(failed) => {
                        state.failed += records;
                        state.last_failure = Some(explain(&self.topic, failed));
                    }
                }
            }
            for ticket in state.machine.window.newly_granted() {
                wakers.extend(state.wakers.remove(&ticket));
            }
            self.arm(state);
            if state.machine.wants_identity() {
                self.identity.notify_one();
            }
            if state.closing.is_some() && !completions.is_empty() {
                self.attention.notify_one();
            }
            (result, state.machine.wakes(), state.undelivered.is_some())
        };
        lanes.for_each(|lane| self.wake_lane(lane));
        wakers.into_iter().for_each(Waker::wake);
        if !completions.is_empty() {
            self.resolve(completions, collects);
            self.progress.notify_waiters();
            if self.pressure.receiver_count() > 0 {
                self.pressure.send_replace(());
            }
        }
        result
    }

    fn resolve(&self, completions: Vec<Completion<Arc<BatchCell>>>, collects: bool) {
        for done in completions {
            match done.outcome {
                Outcome::Stored(entry, exceptions, batch) => {
                    let exceptions = Exceptions::new(&self.topic, exceptions, &batch);
                    let orphans = done.ticket.stored(&entry, exceptions);
                    orphans.into_iter().for_each(|orphan| (self.on_failure)(orphan));
                    let bytes = batch.bytes().clone();
                    drop(batch);
                    if bytes.len() >= POOLED_BYTES_MIN {
                        self.pool.retire(bytes);
                    }
                }
                Outcome::Failed(failed) => {
                    let (error, reason) = explain(&self.topic, &failed);
                    let orphans = done.ticket.failed(&error, &reason, &failed.batch);
                    if collects {
                        let mut state = lock(&self.state);
                        state.undelivered.get_or_insert_default().extend(messages_of(&failed.batch));
                    } else {
                        orphans.into_iter().for_each(|orphan| (self.on_failure)(orphan));
                    }
                }
            }
        }
    }

    /// Memory for a batch that is expected to take about so many bytes.
    pub(crate) fn buffer(&self, expected: usize) -> Vec<u8> {
        if expected < POOLED_BYTES_MIN {
            Vec::with_capacity(expected)
        } else {
            self.pool.take(expected).into()
        }
    }

    /// Ends the producer: everything without a result fails.
    pub(crate) fn end(&self, why: &Why) {
        let wakers = self.with(|state, out| {
            state.closing.get_or_insert_with(|| why.clone());
            state.machine.end(why, out);
            std::mem::take(&mut state.wakers)
        });
        wakers.into_values().for_each(Waker::wake);
        self.attention.notify_one();
        self.progress.notify_waiters();
    }

    /// Takes no records any more; what was taken goes on.
    pub(crate) fn close(&self) {
        let wakers = self.with(|state, _| {
            state.closing.get_or_insert(Why::Closed);
            state.machine.flush();
            std::mem::take(&mut state.wakers)
        });
        wakers.into_values().for_each(Waker::wake);
        self.attention.notify_one();
    }

    /// Why no records are taken, for someone who wanted to send one.
    pub(crate) fn closed_error(&self, why: &Why, message: Option<Message>) -> SendError {
        match why {
            Why::Closed | Why::TimedOut => SendError::closed(message),
            Why::Rejected { code, detail } => {
                let error = Error::broker(*code, format!("topic '{}': {detail}", self.topic));
                SendError::new(error, message, SendFailure::Other)
            }
        }
    }

    /// Waits until everything before this batch has its result.
    pub(crate) async fn resolved_below(&self, mark: BatchNumber) {
        loop {
            let progress = self.progress.notified();
            tokio::pin!(progress);
            progress.as_mut().enable();
            if lock(&self.state).machine.is_resolved_below(mark) {
                return;
            }
            progress.await;
        }
    }
}

/// Buffers from this size on are used again; smaller ones are cheaper to make than to keep.
const POOLED_BYTES_MIN: usize = 32 << 10;

/// The error a failed batch stands for.
fn explain(topic: &str, failed: &Failed) -> (Error, SendFailure) {
    let unknown = failed.maybe_stored;
    let (error, reason) = match &failed.why {
        Why::TimedOut => {
            let text = if unknown {
                format!("no result for a message to topic '{topic}' in time; it may be stored all the same")
            } else {
                format!("a message to topic '{topic}' could not be sent in time")
            };
            let reason = SendFailure::DeliveryTimeout { attempts: failed.attempts, outcome_unknown: unknown };
            (Error::client(ClientCode::Timeout, text), reason)
        }
        Why::Closed => {
            let text = format!("the producer of topic '{topic}' was closed before the result came");
            (Error::client(ClientCode::Closed, text), SendFailure::Closed)
        }
        Why::Rejected { code, detail } => {
            let text = if detail.is_empty() {
                format!("topic '{topic}'")
            } else {
                format!("topic '{topic}': {detail}")
            };
            let is_too_large = *code == ErrorCode::BatchTooLarge;
            let limit = failed.batch.length();
            let reason = if is_too_large { SendFailure::TooLarge { limit } } else { SendFailure::Other };
            (Error::broker(*code, text), reason)
        }
    };
    if unknown { (error.with_class(Class::OutcomeUnknown), reason) } else { (error, reason) }
}
