//! Membership in a group: the member's machine under its lock, and the task that carries its stream.

mod hearing;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::BytesMut;
use quinn::SendStream;
use tokio::sync::{Notify, oneshot, watch};
use weir_protocol::message::{AfterFailure, FailedRecord, JoinGroup, LeaveGroup, Message as _};
use weir_protocol::units::{LeaseEpoch, Offset, PartitionId};
use weir_protocol::{ErrorClass, ErrorCode};

use crate::consumer::ConsumerEvent;
use crate::consumer::assignment::Listener;
use crate::core::member::{Member, Say, Told};
use crate::core::time::Mono;
use crate::net::connect::failure_error;
use crate::net::lane::{LaneEnd, REOPEN_PAUSE, run_halves};
use crate::net::shared::{Live, lock};
use crate::net::subscribe::ConsumerShared;
use crate::options::OnDrop;

/// How long leaving may take when nobody waits for it.
const LEAVE_WITHIN: Duration = Duration::from_secs(1);

/// How far the settling of a lease has got.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Progress {
    /// Everything up to this step is durable.
    pub(crate) step: u64,
    /// Why a later step never will be.
    pub(crate) ended: Option<ErrorCode>,
}

/// What is behind a group's lock.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) machine: Member,
    /// Who waits for what to become durable.
    progress: BTreeMap<PartitionId, watch::Sender<Progress>>,
    /// Who waits for what becomes of a record that has failed: one for each that was handed out, at most.
    failing: BTreeMap<(PartitionId, Offset), oneshot::Sender<AfterFailure>>,
    /// What the listener is to be told, in order: a few for each partition.
    hooks: VecDeque<Told>,
}

/// A membership, as its consumer and its task see it.
#[derive(Debug)]
pub(crate) struct GroupShared {
    pub(crate) consumer: Arc<ConsumerShared>,
    join: JoinGroup,
    pub(crate) state: Mutex<State>,
    /// There is something to say.
    wake: Notify,
    /// There is something for the listener.
    hooked: Notify,
    /// Changes when the member has joined, or when something was settled or has ended.
    pub(crate) changes: watch::Sender<()>,
    listener: Option<Listener>,
    pub(crate) on_drop: OnDrop,
}

impl GroupShared {
    pub(crate) fn new(
        consumer: Arc<ConsumerShared>,
        join: JoinGroup,
        (listener, on_drop): (Option<Listener>, OnDrop),
    ) -> Self {
        let lease = Duration::from_millis(u64::from(join.lease_ms));
        let state = State {
            machine: Member::new(lease),
            progress: BTreeMap::new(),
            failing: BTreeMap::new(),
            hooks: VecDeque::new(),
        };
        Self {
            consumer,
            join,
            state: Mutex::new(state),
            wake: Notify::new(),
            hooked: Notify::new(),
            changes: watch::Sender::new(()),
            listener,
            on_drop,
        }
    }

    fn now(&self) -> Mono {
        self.consumer.client.now()
    }

    /// Changes the machine and does what follows.
    pub(crate) fn with<R>(&self, change: impl FnOnce(&mut Member) -> R) -> R {
        self.change(|state| change(&mut state.machine))
    }

    /// Says something of a record that was handed out. Gives what will become of it; nothing if its lease has ended.
    pub(crate) fn fail(
        &self,
        partition: PartitionId,
        lease: LeaseEpoch,
        record: FailedRecord,
    ) -> Option<oneshot::Receiver<AfterFailure>> {
        let offset = record.offset;
        let told = self.change(|state| {
            let is_said = state.machine.fail(partition, lease, record);
            let (teller, told) = oneshot::channel();
            is_said.then(|| state.failing.insert((partition, offset), teller)).map(|_| told)
        });
        self.wake.notify_one();
        told
    }

    fn change<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let (result, told) = {
            let mut state = lock(&self.state);
            let result = change(&mut state);
            let told = state.machine.told();
            for told in &told {
                state.note(*told);
                if self.listener.is_some() && told.concerns_listener() {
                    state.hooks.push_back(*told);
                }
            }
            (result, told)
        };
        for told in &told {
            self.follow(*told);
        }
        if !told.is_empty() {
            self.changes.send_replace(());
            self.hooked.notify_one();
        }
        result
    }

    /// As [`GroupShared::with`], where something may have to be said afterwards.
    pub(crate) fn speak<R>(&self, change: impl FnOnce(&mut Member) -> R) -> R {
        let result = self.with(change);
        self.wake.notify_one();
        result
    }

    /// Who wants to know when what is settled now under a lease is durable.
    pub(crate) fn progress(&self, partition: PartitionId) -> Option<watch::Receiver<Progress>> {
        lock(&self.state).progress.get(&partition).map(watch::Sender::subscribe)
    }

    /// Waits until everything that was settled is durable, or never will be.
    pub(crate) async fn settled(&self) {
        let mut changes = self.changes.subscribe();
        while !lock(&self.state).machine.is_settled() && changes.changed().await.is_ok() {}
    }

    /// Waits until the member has been taken in, or never will be.
    pub(crate) async fn joined(&self) {
        let mut changes = self.changes.subscribe();
        let is_over = || lock(&self.consumer.state).error.is_some();
        while !lock(&self.state).machine.is_joined() && !is_over() && changes.changed().await.is_ok() {}
    }

    /// Leaves the group, and waits until the broker has heard of it.
    pub(crate) async fn left(&self) {
        self.consumer.leaving.cancel();
        self.consumer.gone.cancelled().await;
    }

    /// What follows for reading and for those who watch events.
    fn follow(&self, told: Told) {
        match told {
            Told::Assigned { partition, lease, .. } => {
                if self.listener.is_none() {
                    self.read(partition, lease);
                }
                self.consumer.tell(ConsumerEvent::Assigned(partition.get()));
            }
            Told::Confirmed { partition, lease } => {
                if self.listener.is_none() {
                    self.read(partition, lease);
                }
            }
            Told::Revoking { partition, lease, .. } => {
                if self.listener.is_none() {
                    self.with(|machine| machine.heard(partition, lease));
                    self.wake.notify_one();
                }
            }
            Told::Ended { partition, lost, .. } => {
                self.consumer.with(|state| state.machine.leave(partition));
                self.consumer.tell(match lost {
                    None => ConsumerEvent::Revoked(partition.get()),
                    Some(_) => ConsumerEvent::Lost(partition.get()),
                });
            }
            Told::HeldUp { partition } => self.consumer.with(|state| state.machine.leave(partition)),
            Told::ReadAnew { partition, lease } => self.read(partition, lease),
            Told::Settled { .. } | Told::Failed { .. } => {}
        }
    }

    fn read(&self, partition: PartitionId, lease: LeaseEpoch) {
        self.consumer.with(|state| state.machine.lease(partition, lease));
        self.consumer.wake_lanes();
    }

    fn read_if_held(&self, partition: PartitionId, lease: LeaseEpoch) {
        if lock(&self.state).machine.lease_of(partition) == Some(lease) {
            self.read(partition, lease);
        }
    }

    /// Tells the listener, one after the other, for as long as the consumer lives.
    async fn run_hooks(&self, listener: &Listener) {
        loop {
            let told = lock(&self.state).hooks.pop_front();
            let Some(told) = told else {
                self.hooked.notified().await;
                continue;
            };
            match told {
                Told::Assigned { partition, lease, committed } => {
                    listener.assigned(self, partition, committed).await;
                    self.read_if_held(partition, lease);
                }
                Told::Confirmed { partition, lease } => self.read_if_held(partition, lease),
                Told::Revoking { partition, lease, until } => {
                    listener.revoking(self, partition, until.since(self.now())).await;
                    self.speak(|machine| machine.heard(partition, lease));
                }
                Told::Ended { partition, lost: Some(_), .. } => listener.lost(partition),
                Told::Ended { lost: None, .. }
                | Told::Settled { .. }
                | Told::HeldUp { .. }
                | Told::ReadAnew { .. }
                | Told::Failed { .. } => {}
            }
        }
    }
}

impl State {
    fn note(&mut self, told: Told) {
        match told {
            Told::Assigned { partition, .. } => {
                self.progress.insert(partition, watch::Sender::default());
            }
            Told::Settled { partition, step, refused, .. } => {
                if let Some(progress) = self.progress.get(&partition) {
                    progress.send_modify(|progress| match refused {
                        None => progress.step = progress.step.max(step),
                        Some(_) => progress.ended = refused,
                    });
                }
            }
            Told::Failed { partition, offset, next } => {
                if let Some(teller) = self.failing.remove(&(partition, offset)) {
                    teller.send(next).ok();
                }
            }
            Told::Ended { partition, lost, .. } => {
                self.failing.retain(|(of, _), _| *of != partition);
                if let Some(progress) = self.progress.remove(&partition) {
                    progress.send_modify(|progress| {
                        progress.ended = progress.ended.or(lost).or(Some(ErrorCode::Fenced));
                    });
                }
            }
            Told::Confirmed { .. } | Told::Revoking { .. } | Told::HeldUp { .. } | Told::ReadAnew { .. } => {}
        }
    }
}

/// Carries a membership until the consumer is dropped or the client is closed.
pub(crate) async fn run(shared: Arc<GroupShared>) {
    let stop = shared.consumer.stop.clone();
    let hooks = async {
        match &shared.listener {
            Some(listener) => shared.run_hooks(listener).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = hooks => {}
        () = connections(&shared) => {}
    }
    shared.with(|machine| machine.end_all(None));
    shared.consumer.gone.cancel();
    shared.consumer.stop.cancel();
}

/// Carries a membership over one connection after the other.
async fn connections(shared: &GroupShared) {
    let mut current = shared.consumer.client.current.subscribe();
    loop {
        let live = current.borrow_and_update().clone();
        if let Some(live) = live {
            let end = match carry(shared, &live).await {
                Ok(end) | Err(end) => end,
            };
            shared.with(Member::closed);
            // A lane of the next connection could be there before the broker has heard of the member.
            shared.consumer.with(|state| state.machine.suspend());
            match end {
                LaneEnd::Violated(what) => live.violated(&what),
                LaneEnd::Refused(failure)
                    if failure.code.class() != ErrorClass::Retry && failure.code != ErrorCode::Fenced =>
                {
                    shared.consumer.fail(failure_error(&failure));
                    shared.changes.send_replace(());
                    return;
                }
                LaneEnd::Done => return,
                LaneEnd::Refused(_) | LaneEnd::Connection => {}
            }
        }
        // While there is no stream, time goes on for what is leased.
        let has_ended = current.borrow().as_ref().is_none_or(|live| live.connection.close_reason().is_some());
        if shared.consumer.leaving.is_cancelled() {
            return;
        }
        let pause = shared.consumer.client.sleep_until(shared.now().after(REOPEN_PAUSE));
        shared.with(|machine| machine.pass_time(shared.now()));
        tokio::select! {
            changed = current.changed(), if has_ended => if changed.is_err() { return },
            () = pause => {}
        }
    }
}

/// Joins on a stream of a connection and keeps it until it ends.
async fn carry(shared: &GroupShared, live: &Live) -> Result<LaneEnd, LaneEnd> {
    let (mut send, recv) = live.connection.open_bi().await.map_err(|_gone| LaneEnd::Connection)?;
    send.write_all(&shared.join.to_frame()).await.map_err(|_gone| LaneEnd::Connection)?;
    shared.with(|machine| machine.opened(shared.now()));
    let halves = run_halves(hearing::receive(shared, recv), transmit(shared, &mut send));
    tokio::select! {
        end = halves => end,
        _ = live.connection.closed() => Ok(LaneEnd::Connection),
    }
}

/// Writes what the machine has to say, when it has something to say.
async fn transmit(shared: &GroupShared, send: &mut SendStream) -> Result<LaneEnd, LaneEnd> {
    let mut out = BytesMut::new();
    loop {
        let now = shared.now();
        let (say, due) = shared.with(|machine| {
            machine.pass_time(now);
            (machine.say(now), machine.due())
        });
        for said in say {
            match said {
                Say::Heartbeat(heartbeat) => heartbeat.append_frame(&mut out),
                Say::Ack(ack) => ack.append_frame(&mut out),
                Say::Fail(fail) => fail.append_frame(&mut out),
                Say::Release(release) => release.append_frame(&mut out),
            }
        }
        if !out.is_empty() && send.write_all(&out.split()).await.is_err() {
            return Err(LaneEnd::Connection);
        }
        let due = due.unwrap_or_else(|| now.after(REOPEN_PAUSE));
        tokio::select! {
            () = shared.wake.notified() => {}
            () = shared.consumer.client.sleep_until(due) => {}
            () = shared.consumer.leaving.cancelled() => {
                LeaveGroup.append_frame(&mut out);
                if send.write_all(&out.split()).await.is_ok() && send.finish().is_ok() {
                    // The broker ends its half once the member is gone.
                    let until = shared.now().after(LEAVE_WITHIN);
                    shared.consumer.client.sleep_until(until).await;
                }
                return Ok(LaneEnd::Done);
            }
        }
    }
}
