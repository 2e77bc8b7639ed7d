//! Publishing: the producer's machine under its lock, and the task that carries its lanes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::task::Waker;
use std::time::Duration;

use bytes::BufMut as _;
use quinn::{RecvStream, SendStream};
use tokio::sync::{Notify, watch};
use weir_protocol::batch::Compression;
use weir_protocol::frame::FrameKind;
use weir_protocol::limits::{CONTROL_FRAME_BYTES_MAX, UNACKED_BATCHES_MAX};
use weir_protocol::message::{
    Failure, Grant, Message as _, OpenProducer, ProducerOpened, Publish, PublishAck, PublishOpen,
    PublishRejected,
};
use weir_protocol::units::Durability;
use weir_protocol::{DecodeError, ErrorClass, ErrorCode};

use crate::core::producer::{
    Completion, Failed, Identity, LaneId, Outcome, Outgoing, OutgoingContent, Producer, Violation, Why,
};
use crate::core::requests::Repeat;
use crate::core::time::Mono;
use crate::core::window::Ticket;
use crate::delivery::{BatchCell, OnFailure, messages_of};
use crate::error::{Class, ClientCode, Error, SendError, SendFailure};
use crate::message::Message;
use crate::net::frames::{FrameError, FrameReader, Pieces};
use crate::net::pool::BufferPool;
use crate::net::shared::{Live, Shared, expect, lock};

/// Lanes of a producer, whatever the broker allows.
pub(crate) const LANES_MAX: u32 = 64;

/// Pause before a lane that failed alone is opened again, at most.
const REOPEN_PAUSE: Duration = Duration::from_millis(200);

/// How long a lane that cannot be written to is still read.
const LAST_WORDS: Duration = Duration::from_secs(1);

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
            for done in &completions {
                let records = u64::from(done.records);
                match &done.outcome {
                    Outcome::Stored(..) => state.delivered += records,
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
                Outcome::Stored(entry, batch) => {
                    done.ticket.stored(&entry);
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
    pub(crate) async fn resolved_below(&self, mark: crate::core::producer::BatchNumber) {
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
#[expect(clippy::wildcard_enum_match_arm, reason = "the rest is treated alike, also what may be added")]
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
            let reason = match code {
                ErrorCode::BatchTooLarge => SendFailure::TooLarge { limit: failed.batch.length() },
                _ => SendFailure::Other,
            };
            (Error::broker(*code, text), reason)
        }
    };
    if unknown { (error.with_class(Class::OutcomeUnknown), reason) } else { (error, reason) }
}

/// Why a lane ended.
enum LaneEnd {
    /// The connection is gone, or will be.
    Connection,
    /// The broker gave the lane up.
    Refused(Failure),
    /// The broker broke the protocol.
    Violated(String),
    /// The broker leaves and nothing is under way any more.
    Left,
}

impl From<FrameError> for LaneEnd {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Read(_) | FrameError::Cut => Self::Connection,
            FrameError::Decode(error) => Self::Violated(error.to_string()),
        }
    }
}

impl From<DecodeError> for LaneEnd {
    fn from(error: DecodeError) -> Self {
        Self::Violated(error.to_string())
    }
}

impl From<Violation> for LaneEnd {
    fn from(violation: Violation) -> Self {
        Self::Violated(violation.to_string())
    }
}

/// Carries a producer until it is closed and everything has its result.
pub(crate) async fn run(shared: Arc<ProducerShared>) {
    let mut current = shared.client.current.subscribe();
    loop {
        let live = current.borrow_and_update().clone();
        if let Some(live) = live {
            carry(&shared, &live).await;
            let now = shared.client.now();
            shared.with(|state, _| {
                (0..state.machine.lanes()).for_each(|lane| state.machine.lane_lost(LaneId(lane), now));
            });
        }
        if is_done(&shared) {
            return;
        }
        tokio::select! {
            changed = current.changed() => if changed.is_err() { break },
            () = shared.client.stop.cancelled() => break,
            () = housekeeping(&shared) => {}
        }
    }
    shared.end(&Why::Closed);
}

fn is_done(shared: &ProducerShared) -> bool {
    let state = lock(&shared.state);
    state.machine.ended().is_some() || (state.closing.is_some() && state.machine.is_idle())
}

/// Looks after timers until the producer is done.
async fn housekeeping(shared: &ProducerShared) {
    while !is_done(shared) {
        let armed = lock(&shared.state).armed;
        let wait = async {
            match armed {
                Some(at) => tokio::time::sleep_until(shared.client.instant(at)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = wait => {
                let now = shared.client.now();
                shared.with(|state, out| {
                    state.machine.tick(now, out);
                    state.armed = None;
                });
            }
            () = shared.attention.notified() => {}
        }
    }
}

/// Carries the lanes over one connection until it ends or the producer is done.
async fn carry(shared: &Arc<ProducerShared>, live: &Arc<Live>) {
    let limits = &live.welcome.limits;
    let lanes = limits.lanes_max.clamp(1, LANES_MAX);
    let unacked = usize::try_from(limits.unacked_batches_max).unwrap_or(UNACKED_BATCHES_MAX);
    let lanes = shared.with(|state, _| {
        state.machine.connected(lanes, unacked.clamp(1, UNACKED_BATCHES_MAX));
        state.machine.lanes()
    });
    let mut tasks = tokio::task::JoinSet::new();
    for lane in 0..lanes {
        let (shared, live) = (Arc::clone(shared), Arc::clone(live));
        tasks.spawn(async move { keep_lane(&shared, &live, LaneId(lane)).await });
    }
    tokio::select! {
        _ = live.connection.closed() => {}
        () = shared.client.stop.cancelled() => {}
        () = housekeeping(shared) => {}
        () = identities(shared) => {}
    }
    tasks.shutdown().await;
}

/// Asks for a new identity whenever the machine wants one. Never ends.
async fn identities(shared: &ProducerShared) {
    loop {
        if lock(&shared.state).machine.wants_identity() {
            match open_identity(&shared.client).await {
                Ok(identity) => shared.with(|state, _| state.machine.identified(identity)),
                Err(error) => {
                    tracing::warn!(%error, topic = shared.topic, "no new producer identity");
                    tokio::time::sleep(REOPEN_PAUSE).await;
                }
            }
        } else {
            shared.identity.notified().await;
        }
    }
}

/// Asks the broker for a producer identity.
pub(crate) async fn open_identity(client: &Shared) -> Result<Identity, Error> {
    let answer = client.request(|request| OpenProducer { request }, Repeat::Harmless).await?;
    let opened: ProducerOpened = expect(&answer)?;
    Ok(Identity { producer: opened.producer, epoch: opened.epoch })
}

/// Keeps a lane open while the connection lasts.
async fn keep_lane(shared: &ProducerShared, live: &Live, lane: LaneId) {
    loop {
        let Some(notify) = shared.lanes.get(lane.0 as usize) else { return };
        while !lock(&shared.state).machine.is_lane_needed(lane) {
            notify.notified().await;
        }
        if live.leaving.is_cancelled() {
            return;
        }
        let end = {
            let _under_way = live.publishing.token();
            match run_lane(shared, live, lane).await {
                Ok(never) => never,
                Err(end) => end,
            }
        };
        let now = shared.client.now();
        shared.with(|state, _| state.machine.lane_lost(lane, now));
        match end {
            LaneEnd::Connection if live.connection.close_reason().is_some() => return,
            LaneEnd::Left => return,
            LaneEnd::Connection => {}
            LaneEnd::Violated(what) => return live.violated(&what),
            LaneEnd::Refused(failure) if failure.code.class() == ErrorClass::Fix => {
                let why = Why::Rejected { code: failure.code, detail: failure.detail };
                return shared.end(&why);
            }
            LaneEnd::Refused(failure) => {
                tracing::debug!(
                    code = failure.code.number(),
                    detail = failure.detail,
                    "the broker gave a lane up"
                );
                let advised = Duration::from_millis(u64::from(failure.retry_after_ms));
                tokio::time::sleep(advised).await;
            }
        }
        tokio::time::sleep(REOPEN_PAUSE).await;
    }
}

/// Opens a lane's stream and uses it until it ends.
async fn run_lane(shared: &ProducerShared, live: &Live, lane: LaneId) -> Result<LaneEnd, LaneEnd> {
    let (mut send, recv) = live.connection.open_bi().await.map_err(|_gone| LaneEnd::Connection)?;
    let topic = lock(&shared.state).machine.options().topic;
    let open = PublishOpen { topic, durability: shared.durability };
    send.write_all(&open.to_frame()).await.map_err(|_gone| LaneEnd::Connection)?;
    shared.with(|state, _| state.machine.lane_opened(lane));
    let transmit = async {
        match transmit(shared, live, lane, &mut send).await {
            Err(LaneEnd::Connection) => {
                // Why the broker stopped reading comes on the other half.
                tokio::time::sleep(LAST_WORDS).await;
                Err(LaneEnd::Connection)
            }
            other => other,
        }
    };
    tokio::select! {
        biased;
        end = receive(shared, lane, recv) => end.map(|()| LaneEnd::Connection),
        end = transmit => end,
    }
}

/// Writes batches as the machine lets them go.
async fn transmit(
    shared: &ProducerShared,
    live: &Live,
    lane: LaneId,
    send: &mut SendStream,
) -> Result<LaneEnd, LaneEnd> {
    let notify = shared.lanes.get(lane.0 as usize).ok_or(LaneEnd::Connection)?;
    let mut taken = Vec::new();
    let mut pieces = Pieces::default();
    loop {
        if live.leaving.is_cancelled() && lock(&shared.state).machine.is_lane_idle(lane) {
            return Ok(LaneEnd::Left);
        }
        if !live.leaving.is_cancelled() {
            lock(&shared.state).machine.take(lane, &mut taken);
        }
        if taken.is_empty() {
            tokio::select! {
                () = notify.notified() => {}
                () = live.leaving.cancelled(), if !live.leaving.is_cancelled() => {}
            }
            continue;
        }
        for outgoing in taken.drain(..) {
            put(shared, lane, outgoing, &mut pieces);
        }
        let mut chunks = pieces.take();
        send.write_all_chunks(&mut chunks).await.map_err(|_gone| LaneEnd::Connection)?;
    }
}

/// Seals a batch if need be and adds its frame.
fn put(shared: &ProducerShared, lane: LaneId, mut outgoing: Outgoing, pieces: &mut Pieces) {
    let acked_below = outgoing.acked_below;
    let content = std::mem::replace(&mut outgoing.content, OutgoingContent::Taken);
    let batch = match content {
        OutgoingContent::Sealed(batch) => batch,
        OutgoingContent::Unsealed(builder, identity) => {
            let batch = builder.finish(&identity, shared.compression);
            if !shared.with(|state, out| state.machine.sealed(lane, &mut outgoing, &batch, out)) {
                return;
            }
            batch
        }
        OutgoingContent::Taken => return,
    };
    let publish = Publish { acked_below, batch };
    pieces.small().put_slice(&publish.front());
    pieces.share(publish.batch.bytes());
}

/// Reads what the broker says on a lane.
#[expect(clippy::wildcard_enum_match_arm, reason = "the rest is treated alike, also what may be added")]
async fn receive(shared: &ProducerShared, lane: LaneId, recv: RecvStream) -> Result<(), LaneEnd> {
    let mut frames = FrameReader::new(recv, CONTROL_FRAME_BYTES_MAX, None);
    while let Some(frame) = frames.next().await? {
        match frame.kind {
            FrameKind::Grant => {
                let grant = Grant::from_frame(&frame)?;
                shared.with(|state, _| state.machine.granted(lane, grant.limit_bytes));
            }
            FrameKind::PublishAck => {
                let ack = PublishAck::from_frame(&frame)?;
                let now = shared.client.now();
                shared.with(|state, out| {
                    ack.entries.iter().try_for_each(|entry| state.machine.acked(lane, entry, now, out))
                })?;
            }
            FrameKind::PublishRejected => {
                let rejected = PublishRejected::from_frame(&frame)?;
                tracing::debug!(
                    code = rejected.code.number(),
                    detail = rejected.detail,
                    "a batch was refused"
                );
                let now = shared.client.now();
                shared.with(|state, out| state.machine.rejected(lane, rejected, now, out))?;
            }
            FrameKind::Failure => return Err(LaneEnd::Refused(Failure::from_frame(&frame)?)),
            other => return Err(LaneEnd::Violated(format!("{other:?} on a publishing lane"))),
        }
    }
    Ok(())
}
