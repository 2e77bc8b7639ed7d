//! The tasks of one connection: one hears each stream, one speaks on each stream, one hands out what the node sends.
//!
//! All of them run on the same thread and share the session; no borrow is held while one of them waits.

mod account;
mod outbox;
mod outgoing;

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quinn::{Connection, ReadError, RecvStream, SendStream, VarInt};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use weir_protocol::ErrorCode;

use crate::core::answers::Answers;
use crate::core::conduct::Conduct;
use crate::core::session::{Heard, Identity, Session, SessionActions, Violation};
use crate::core::windows::Windows;
use crate::core::{ConnectionId, Event, LaneId, StreamId};
use crate::options::ConnectionLimits;
use crate::pool::BufferPool;
use crate::queue::{Drained, Sender, mailbox};
use crate::server::clock::Clock;
use crate::server::endpoint::{Accepted, counted_address};
use crate::server::metrics::Metrics;
use crate::server::node::ToNode;
use crate::server::transport::admit;
pub(crate) use account::SharedQuotas;
use account::{Account, Open, Slot};
use outbox::{FIRST_PIECES, Outbox, Owed};
use outgoing::turn_away;

/// Frames a connection may be owed. What a peer is owed is bounded by its credit and its requests; one that does not
/// take this many is not reading.
const OUTBOX_ITEMS_MAX: usize = 64 << 10;

/// Time peers get to move on when the broker stops.
pub(crate) const GOING_AWAY_WITHIN: Duration = Duration::from_secs(2);

/// What all connections share.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    /// What clients are told of the broker.
    pub(crate) identity: Identity,
    /// Buffers for batches.
    pub(crate) pool: BufferPool,
    /// The way to the node.
    pub(crate) node: Sender<ToNode>,
    /// What a connection is held to.
    pub(crate) limits: ConnectionLimits,
    /// What clients may use.
    pub(crate) quotas: SharedQuotas,
    /// The time.
    pub(crate) clock: Clock,
    /// Whether there is memory for more batches.
    pub(crate) gate: watch::Receiver<bool>,
    /// Figures.
    pub(crate) metrics: Arc<Metrics>,
    /// Cancelled when the broker stops taking work.
    pub(crate) going_away: CancellationToken,
}

/// What the tasks of a connection share.
#[derive(Debug)]
struct Peer {
    id: ConnectionId,
    connection: Connection,
    session: RefCell<Session>,
    conduct: RefCell<Conduct>,
    account: Account,
    windows: RefCell<Windows>,
    owed: Rc<Owed>,
    outboxes: RefCell<BTreeMap<StreamId, Rc<Outbox>>>,
    context: Context,
}

/// Serves a connection until it ends.
pub(crate) async fn serve(id: ConnectionId, accepted: Accepted, (context, answers): (Context, Answers)) {
    let Accepted { connection, place: _place, profile: _ } = accepted;
    let ledger = answers.ledger().clone();
    let session = Session::new(id, context.identity.clone(), (context.pool.clone(), answers.clone()));
    let peer = Rc::new(Peer {
        id,
        connection,
        session: RefCell::new(session),
        conduct: RefCell::new(Conduct::new(context.limits.conduct())),
        account: Account::new(&context.quotas, ledger.clone(), context.clock),
        windows: RefCell::new(Windows::new(ledger, context.limits.window_bytes)),
        owed: Rc::new(Owed::new(id, answers)),
        outboxes: RefCell::default(),
        context,
    });
    let (outbox, mut outgoing) = mailbox(OUTBOX_ITEMS_MAX);
    if !peer.tell(vec![ToNode::Connected(id, outbox)]).await {
        return;
    }
    let mut tasks = JoinSet::new();
    let mut items = Vec::new();
    let greeting = tokio::time::sleep(peer.context.limits.handshake_within);
    tokio::pin!(greeting);
    let mut greeting_due = true;
    let mut told_to_leave = false;
    loop {
        tokio::select! {
            accepted = peer.connection.accept_bi() => match accepted {
                Ok((send, receive)) => peer.open(send, receive, &mut tasks),
                Err(ended) => {
                    peer.context.metrics.connection_ended(&ended);
                    break;
                }
            },
            drained = outgoing.drain(&mut items) => {
                let news = items.drain(..).filter_map(|item| peer.send(item)).map(ToNode::Event).collect();
                if !peer.tell(news).await {
                    break;
                }
                if drained == Drained::Closed {
                    peer.close(ErrorCode::TimedOut, "answers were not taken");
                    break;
                }
            }
            () = &mut greeting, if greeting_due => {
                greeting_due = false;
                peer.expect_greeting();
            }
            () = peer.account.due() => if !peer.tell(peer.release()).await {
                break;
            },
            () = peer.context.going_away.cancelled(), if !told_to_leave => {
                told_to_leave = true;
                peer.go_away();
            }
            Some(ended) = tasks.join_next(), if !tasks.is_empty() => {
                if ended.is_err_and(|error| error.is_panic()) {
                    peer.context.metrics.panics.increment();
                    peer.close(ErrorCode::Internal, "the broker failed on this connection");
                }
            }
        }
    }
    tasks.shutdown().await;
    let mut actions = SessionActions::default();
    peer.session.borrow_mut().disconnected(&mut actions);
    peer.tell(actions.events.into_iter().map(ToNode::Event).collect()).await;
}

impl Peer {
    /// A stream was opened: two tasks look after it.
    fn open(self: &Rc<Self>, send: SendStream, receive: RecvStream, tasks: &mut JoinSet<()>) {
        let is_greeted = self.session.borrow().is_greeted();
        if let Err(violation) = self.conduct.borrow_mut().stream_opened(is_greeted, self.now_us()) {
            return self.violated(&violation);
        }
        if self.account.is_refused() {
            return;
        }
        let slot = match self.account.open_stream() {
            Ok(slot) => Rc::new(slot),
            Err(throttled) => {
                let frame = self.failure(&throttled);
                drop(tasks.spawn_local(turn_away(send, frame)));
                return;
            }
        };
        let stream = StreamId(u64::from(VarInt::from(receive.id())));
        let outbox = Rc::new(Outbox::new(&self.owed));
        self.outboxes.borrow_mut().insert(stream, Rc::clone(&outbox));
        self.session.borrow_mut().opened(stream);
        let open = Open::count(&self.context.metrics);
        tasks.spawn_local(Rc::clone(self).hear((stream, receive), Rc::clone(&outbox), Rc::clone(&slot)));
        tasks.spawn_local(Rc::clone(self).speak((stream, send), outbox, (slot, open)));
    }

    /// Hears one stream until it ends.
    async fn hear(
        self: Rc<Self>,
        (stream, mut receive): (StreamId, RecvStream),
        outbox: Rc<Outbox>,
        _slot: Rc<Slot>,
    ) {
        let mut pieces: Vec<Bytes> = vec![Bytes::new(); FIRST_PIECES];
        let (mut actions, mut gate) = (SessionActions::default(), self.context.gate.clone());
        let (mut unheard, mut is_owed) = (VecDeque::new(), false);
        // A new stream says what it is for.
        let mut begun = Some(Instant::now());
        loop {
            if self.session.borrow().needs_memory(stream) && !*gate.borrow() {
                if gate.wait_for(|open| *open).await.is_err() {
                    return;
                }
                begun = begun.map(|_| Instant::now());
            }
            if is_owed {
                // The peer does not take its answers, or they wait for the disk: that is no frame that does not go on.
                self.owed.less().await;
                begun = begun.map(|_| Instant::now());
            } else if unheard.is_empty() {
                let read = match self.read((stream, &mut receive), &mut pieces, begun).await {
                    Ok(read) => read,
                    Err(violation) => return self.violated(&violation),
                };
                match read {
                    Ok(Some(count)) => unheard.extend(pieces.iter_mut().take(count).map(std::mem::take)),
                    Ok(None)
                    | Err(
                        ReadError::Reset(_)
                        | ReadError::ConnectionLost(_)
                        | ReadError::ClosedStream
                        | ReadError::IllegalOrderedRead
                        | ReadError::ZeroRttRejected,
                    ) => break,
                }
                outbox::widen(&mut pieces, unheard.len());
                let bytes: usize = unheard.iter().map(Bytes::len).sum();
                self.context.metrics.bytes_received.add(bytes as u64);
                if let Some(window) = self.windows.borrow_mut().received(bytes as u64) {
                    self.connection.set_receive_window(window.into());
                }
                if self.session.borrow().is_publish_lane(stream) {
                    self.account.published(bytes as u64);
                }
            } else {
                // Others were quicker than this stream; the gate closes in the node's next turn.
                tokio::task::yield_now().await;
            }
            is_owed = match self.receive(stream, &mut unheard, &mut actions) {
                Ok(is_owed) => is_owed,
                Err(violation) => return self.violated(&violation),
            };
            begun = self.begun(stream, begun, &actions);
            for (stream, frame) in actions.frames.drain(..) {
                // The greeting is the only frame a session answers itself.
                if let Err(throttled) = self.account.enter(&self.identity()) {
                    self.say(stream, self.failure(&throttled));
                    return outbox.finish();
                }
                admit(&self.connection, &self.context.limits);
                self.say(stream, frame);
            }
            if !self.tell(actions.events.drain(..).map(ToNode::Event).collect()).await {
                return;
            }
        }
        self.session.borrow_mut().ended(stream, &mut actions);
        self.tell(actions.events.drain(..).map(ToNode::Event).collect()).await;
        outbox.finish();
    }

    /// Reads from a stream, no longer than a frame may take that was begun.
    async fn read(
        &self,
        (stream, receive): (StreamId, &mut RecvStream),
        pieces: &mut [Bytes],
        begun: Option<Instant>,
    ) -> Result<Result<Option<usize>, ReadError>, Violation> {
        let read = receive.read_chunks(pieces);
        let Some(begun) = begun else { return Ok(read.await) };
        let within = self.context.limits.stalled_within;
        timeout_at(begun + within, read).await.map_err(|_elapsed| {
            let detail = format!("stream {}: a frame was begun and did not end in {within:?}", stream.0);
            Violation { code: ErrorCode::TimedOut, detail }
        })
    }

    /// Hears pieces of a stream, until one of them has to wait for memory. Says whether it is that for answers.
    fn receive(
        &self,
        stream: StreamId,
        unheard: &mut VecDeque<Bytes>,
        actions: &mut SessionActions,
    ) -> Result<bool, Violation> {
        let mut session = self.session.borrow_mut();
        while let Some(piece) = unheard.pop_front() {
            let (rest, is_owed) = match session.receive(stream, piece, actions)? {
                Heard::All => continue,
                Heard::NoRoom(rest) => (rest, false),
                Heard::Owed(rest) => (rest, true),
            };
            unheard.push_front(rest);
            return Ok(is_owed);
        }
        drop(session);
        match std::mem::take(&mut actions.idle_frames) {
            0 => {}
            idle => self.conduct.borrow_mut().idle_frames(idle, self.now_us())?,
        }
        Ok(false)
    }

    /// Since when a stream is in the middle of a frame. Batches are long: it is enough that they go on.
    fn begun(&self, stream: StreamId, before: Option<Instant>, heard: &SessionActions) -> Option<Instant> {
        let session = self.session.borrow();
        if !session.is_midway(stream) {
            return None;
        }
        let has_ended = !heard.events.is_empty() || !heard.frames.is_empty();
        let goes_on = has_ended || session.is_publish_lane(stream);
        before.filter(|_| !goes_on).or_else(|| Some(Instant::now()))
    }

    /// Whom quotas are kept for: the name it gave itself, and where it comes from.
    fn identity(&self) -> String {
        let peer = self.connection.remote_address().ip();
        let address = counted_address(peer).unwrap_or(peer);
        format!("{} at {address}", self.session.borrow().client_name())
    }

    fn now_us(&self) -> u64 {
        self.context.clock.now().monotonic_us
    }

    /// Speaks on one stream until nothing more will be said.
    async fn speak(
        self: Rc<Self>,
        (stream, mut send): (StreamId, SendStream),
        outbox: Rc<Outbox>,
        _counted: (Rc<Slot>, Open),
    ) {
        let lane = LaneId { connection: self.id, stream };
        let mut pieces = Vec::new();
        loop {
            let Some(taken) = outbox.next(&mut pieces).await else { break };
            let delivered = taken.deliveries;
            let bytes: usize = pieces.iter().map(Bytes::len).sum();
            self.context.metrics.bytes_sent.add(bytes as u64);
            self.context.metrics.bytes_delivered.add(delivered);
            if let Some(window) = self.windows.borrow_mut().sent(bytes as u64) {
                self.connection.set_send_window(window.into());
            }
            let goes_on = self.write(&mut send, &mut pieces).await;
            outbox.left(taken);
            if !goes_on {
                break;
            }
            if delivered > 0 {
                let wait = self.account.read(delivered);
                if !wait.is_zero() {
                    self.context.metrics.throttled.increment();
                    let throttled = |waits| vec![ToNode::Event(Event::Throttled(lane, waits))];
                    if !self.tell(throttled(true)).await {
                        break;
                    }
                    tokio::time::sleep(wait).await;
                    if !self.tell(throttled(false)).await {
                        break;
                    }
                }
            }
            if delivered > 0 && !self.tell(vec![ToNode::Event(Event::Sent(lane, delivered))]).await {
                break;
            }
        }
        self.outboxes.borrow_mut().remove(&stream);
        // A stream that the peer has stopped needs no end.
        let _stopped = send.finish();
    }

    /// Writes everything. Says whether the stream can go on.
    async fn write(&self, send: &mut SendStream, pieces: &mut Vec<Bytes>) -> bool {
        while !pieces.is_empty() {
            match timeout(self.context.limits.stalled_within, send.write_chunks(pieces)).await {
                Ok(Ok(written)) => drop(pieces.drain(..written.chunks)),
                Ok(Err(_stopped)) => return false,
                Err(_elapsed) => {
                    let within = self.context.limits.stalled_within;
                    let detail = format!("nothing of what was sent is taken for {within:?}");
                    self.violated(&Violation { code: ErrorCode::TimedOut, detail });
                    return false;
                }
            }
        }
        true
    }

    fn violated(&self, violation: &Violation) {
        let client = self.session.borrow().client_name().to_owned();
        let (code, detail) = (violation.code.number(), &violation.detail);
        tracing::warn!(connection = self.id.0, client, code, detail, "the peer broke the protocol");
        self.close(violation.code, &violation.detail);
    }

    fn close(&self, code: ErrorCode, detail: &str) {
        self.context.metrics.connection_closed(code);
        self.connection.close(VarInt::from_u32(u32::from(code.number())), detail.as_bytes());
    }

    /// Tells the node, waiting for room. Says whether it is still there.
    async fn tell(&self, mut messages: Vec<ToNode>) -> bool {
        let mut node = self.context.node.clone();
        while !messages.is_empty() {
            if node.push_batch(&mut messages).is_err() {
                return false;
            }
            if !messages.is_empty() && node.room(0).await.is_err() {
                return false;
            }
        }
        true
    }
}
