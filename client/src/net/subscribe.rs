//! Reading: the consumer's machine under its lock, and the task that carries its lanes.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::task::Waker;
use std::time::Duration;

use bytes::BytesMut;
use quinn::{RecvStream, SendStream};
use tokio::sync::{Notify, broadcast, watch};
use tokio_util::sync::CancellationToken;
use weir_protocol::ErrorClass;
use weir_protocol::frame::{FrameKind, RawFrame};
use weir_protocol::limits::FRAME_BYTES_MAX;
use weir_protocol::message::{
    Deliver, Failure, Gap, Grant, GrantRecords, Message as _, PartitionEnded, PartitionStarted,
    UnsubscribePartition,
};

use crate::consumer::ConsumerEvent;
use crate::core::consumer::{Command, Consumer, LaneId};
use crate::error::Error;
use crate::net::connect::failure_error;
use crate::net::frames::FrameReader;
use crate::net::lane::{LANES_MAX, LaneEnd, REOPEN_PAUSE, run_halves};
use crate::net::pool::BufferPool;
use crate::net::shared::{Live, Shared, lock};

/// Events that wait for someone to look at them; older ones are dropped, and counted.
const EVENTS_MAX: usize = 256;

/// What is behind a consumer's lock.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) machine: Consumer,
    /// The application, if it waits.
    pub(crate) waker: Option<Waker>,
    /// Why nothing more will come.
    pub(crate) error: Option<Error>,
}

/// A consumer, as its handle and its task see it.
#[derive(Debug)]
pub(crate) struct ConsumerShared {
    pub(crate) client: Arc<Shared>,
    pub(crate) topic: Arc<str>,
    pub(crate) state: Mutex<State>,
    pub(crate) pool: Arc<BufferPool>,
    pub(crate) events: broadcast::Sender<ConsumerEvent>,
    pub(crate) lag: watch::Sender<()>,
    pub(crate) stop: CancellationToken,
    /// A member of a group is to leave before it stops.
    pub(crate) leaving: CancellationToken,
    /// It has left.
    pub(crate) gone: CancellationToken,
    /// Nothing is given out.
    pub(crate) paused: AtomicBool,
    /// Some lane has something to send.
    commands: Vec<Notify>,
}

impl ConsumerShared {
    pub(crate) fn new(client: Arc<Shared>, topic: &str, machine: Consumer, pool_bytes: usize) -> Self {
        let state = State { machine, waker: None, error: None };
        let stop = client.stop.child_token();
        Self {
            client,
            topic: Arc::from(topic),
            state: Mutex::new(state),
            pool: Arc::new(BufferPool::new(pool_bytes)),
            events: broadcast::Sender::new(EVENTS_MAX),
            lag: watch::Sender::new(()),
            leaving: CancellationToken::new(),
            gone: CancellationToken::new(),
            stop,
            paused: AtomicBool::new(false),
            commands: (0..LANES_MAX).map(|_| Notify::new()).collect(),
        }
    }

    /// Changes the machine, and tells the application and the lanes what has to be told.
    pub(crate) fn with<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let (result, waker, missing) = {
            let mut state = lock(&self.state);
            let result = change(&mut state);
            for lane in state.machine.commanded() {
                self.wake_lane(lane);
            }
            let is_worth =
                !state.machine.is_queue_empty() || state.machine.is_finished() || state.error.is_some();
            let waker = if is_worth { state.waker.take() } else { None };
            (result, waker, state.machine.missing())
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        for gap in missing {
            self.tell(ConsumerEvent::from(gap));
        }
        if self.lag.receiver_count() > 0 {
            self.lag.send_replace(());
        }
        result
    }

    fn wake_lane(&self, lane: LaneId) {
        if let Some(lane) = self.commands.get(lane.0 as usize) {
            lane.notify_one();
        }
    }

    /// Wakes all lanes: one that had nothing to do may have something now.
    pub(crate) fn wake_lanes(&self) {
        self.commands.iter().for_each(Notify::notify_one);
    }

    /// Tells whoever listens; usually nobody does.
    pub(crate) fn tell(&self, event: ConsumerEvent) {
        drop(self.events.send(event));
    }

    /// Ends the consumer: this error is the last thing the application gets.
    pub(crate) fn fail(&self, error: Error) {
        self.with(|state| {
            state.machine.fail_all();
            state.error.get_or_insert(error);
        });
    }
}

/// Carries a consumer until it is dropped or the client is closed.
pub(crate) async fn run(shared: Arc<ConsumerShared>) {
    let mut current = shared.client.current.subscribe();
    let mut was_connected = false;
    loop {
        let live = current.borrow_and_update().clone();
        if let Some(live) = live {
            if was_connected {
                shared.tell(ConsumerEvent::Reconnected);
            }
            was_connected = true;
            carry(&shared, &live).await;
            if !shared.stop.is_cancelled() {
                shared.tell(ConsumerEvent::Reconnecting);
            }
        }
        tokio::select! {
            biased;
            () = shared.stop.cancelled() => break,
            changed = current.changed() => if changed.is_err() { break },
        }
    }
    let view = shared.client.view();
    shared.fail(view.error.unwrap_or_else(|| Error::closed("client")));
}

/// Carries the lanes over one connection until it ends.
async fn carry(shared: &Arc<ConsumerShared>, live: &Arc<Live>) {
    let lanes_max = live.welcome.limits.lanes_max.clamp(1, LANES_MAX);
    let lanes = shared.with(|state| {
        state.machine.connected(lanes_max);
        state.machine.lanes()
    });
    let mut tasks = tokio::task::JoinSet::new();
    for lane in 0..lanes {
        let (shared, live) = (Arc::clone(shared), Arc::clone(live));
        tasks.spawn(async move { keep_lane(&shared, &live, LaneId(lane)).await });
    }
    tokio::select! {
        _ = live.connection.closed() => {}
        () = shared.stop.cancelled() => {}
    }
    tasks.shutdown().await;
    shared.with(|state| (0..lanes).for_each(|lane| state.machine.lane_lost(LaneId(lane))));
}

/// Keeps a lane open while the connection lasts and something is wanted of it.
async fn keep_lane(shared: &ConsumerShared, live: &Live, lane: LaneId) {
    let Some(commands) = shared.commands.get(lane.0 as usize) else { return };
    loop {
        while !lock(&shared.state).machine.is_lane_needed(lane) {
            commands.notified().await;
        }
        let end = match run_lane(shared, live, lane).await {
            Ok(end) | Err(end) => end,
        };
        shared.with(|state| state.machine.lane_lost(lane));
        match end {
            LaneEnd::Connection if live.connection.close_reason().is_some() => return,
            LaneEnd::Connection => tokio::time::sleep(REOPEN_PAUSE).await,
            LaneEnd::Done => {}
            LaneEnd::Violated(what) => return live.violated(&what),
            LaneEnd::Refused(failure) if failure.code.class() == ErrorClass::Fix => {
                return shared.fail(failure_error(&failure));
            }
            LaneEnd::Refused(failure) => {
                tracing::debug!(
                    code = failure.code.number(),
                    detail = failure.detail,
                    "the broker gave a lane up"
                );
                let advised = Duration::from_millis(u64::from(failure.retry_after_ms));
                tokio::time::sleep(advised.max(REOPEN_PAUSE)).await;
            }
        }
    }
}

/// Opens a lane's stream and reads it until it ends.
async fn run_lane(shared: &ConsumerShared, live: &Live, lane: LaneId) -> Result<LaneEnd, LaneEnd> {
    let (mut send, recv) = live.connection.open_bi().await.map_err(|_gone| LaneEnd::Connection)?;
    let open = shared.with(|state| state.machine.lane_opened(lane));
    send.write_all(&open.to_frame()).await.map_err(|_gone| LaneEnd::Connection)?;
    run_halves(receive(shared, lane, recv), transmit(shared, lane, &mut send)).await
}

/// Writes what the machine wants to say on a lane.
async fn transmit(shared: &ConsumerShared, lane: LaneId, send: &mut SendStream) -> Result<LaneEnd, LaneEnd> {
    let notify = shared.commands.get(lane.0 as usize).ok_or(LaneEnd::Connection)?;
    let mut out = BytesMut::new();
    loop {
        let (commands, is_needed) = {
            let mut state = lock(&shared.state);
            (state.machine.commands(lane), state.machine.is_lane_needed(lane))
        };
        for command in commands {
            match command {
                Command::Subscribe(subscribe) => subscribe.append_frame(&mut out),
                Command::Unsubscribe(partition) => UnsubscribePartition { partition }.append_frame(&mut out),
                Command::Grant(limit_bytes) => Grant { limit_bytes }.append_frame(&mut out),
                Command::GrantRecords(limit_records) => GrantRecords { limit_records }.append_frame(&mut out),
            }
        }
        if !out.is_empty() {
            send.write_all(&out.split()).await.map_err(|_gone| LaneEnd::Connection)?;
        } else if is_needed {
            notify.notified().await;
        } else {
            drop(send.finish());
            return Ok(LaneEnd::Done);
        }
    }
}

/// Reads what the broker sends on a lane.
async fn receive(shared: &ConsumerShared, lane: LaneId, recv: RecvStream) -> Result<(), LaneEnd> {
    let mut frames = FrameReader::new(recv, FRAME_BYTES_MAX, Some(Arc::clone(&shared.pool)));
    while let Some(frame) = frames.next().await? {
        received(shared, lane, &frame)?;
    }
    Ok(())
}

#[expect(clippy::wildcard_enum_match_arm, reason = "all other kinds break the protocol")]
fn received(shared: &ConsumerShared, lane: LaneId, frame: &RawFrame) -> Result<(), LaneEnd> {
    match frame.kind {
        FrameKind::Deliver => {
            let deliver = Deliver::from_frame(frame)?;
            if !shared.with(|state| state.machine.delivered(lane, &deliver)) {
                return Err(LaneEnd::Violated("more was delivered than granted".to_owned()));
            }
        }
        FrameKind::PartitionStarted => {
            let started = PartitionStarted::from_frame(frame)?;
            shared.with(|state| {
                state.machine.started(&started);
                wake(state);
            });
        }
        FrameKind::Gap => {
            let gap = Gap::from_frame(frame)?;
            shared.with(|state| state.machine.gap(gap));
        }
        FrameKind::PartitionEnded => {
            let ended = PartitionEnded::from_frame(frame)?;
            shared.with(|state| state.machine.ended(&ended));
        }
        FrameKind::Failure => return Err(LaneEnd::Refused(Failure::from_frame(frame)?)),
        other => return Err(LaneEnd::Violated(format!("{other:?} on a reading lane"))),
    }
    Ok(())
}

/// Wakes the application although nothing is there to be read: it may wait for the start.
fn wake(state: &mut State) {
    if let Some(waker) = state.waker.take() {
        waker.wake();
    }
}
