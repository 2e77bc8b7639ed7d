//! The task that keeps a client's connection: makes it, greets, carries requests, notices its end, makes it again.

use std::sync::Arc;
use std::time::Duration;

use quinn::VarInt;
use tokio::sync::{mpsc, oneshot};
use weir_protocol::ErrorCode;
use weir_protocol::frame::{FrameKind, RawFrame};
use weir_protocol::message::{Failure, GoAway, Message};
use weir_protocol::read::Reader;

use crate::core::link::{Link, Next};
use crate::core::requests::Requests;
use crate::core::silence::Silence;
use crate::error::{Class, ClientCode, Error};
use crate::net::connect::{Greeted, Trouble, connect, connection_trouble, failure_error};
use crate::net::frames::FrameError;
use crate::net::shared::{Live, Request, Shared};

/// How often the driver looks whether the broker still answers.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// Drives the link until the client is closed.
pub(crate) async fn run(shared: Arc<Shared>, requests: mpsc::Receiver<Request>, seed: u64) {
    let link = Link::new(shared.options.retry, shared.options.breaker, seed);
    let mut driver = Driver { shared, link, requests: Requests::default(), incoming: requests };
    driver.run().await;
}

struct Driver {
    shared: Arc<Shared>,
    link: Link,
    requests: Requests<oneshot::Sender<Result<RawFrame, Error>>>,
    incoming: mpsc::Receiver<Request>,
}

impl Driver {
    async fn run(&mut self) {
        let mut error = None;
        loop {
            let next = self.link.next(self.shared.now());
            self.shared.show(&self.link, error.clone());
            match next {
                Next::Stop => break,
                Next::Wait(until) => {
                    let sleep = tokio::time::sleep_until(self.shared.instant(until));
                    self.attend(sleep).await;
                }
                Next::Connect => {
                    let shared = Arc::clone(&self.shared);
                    error = match self.attend(async move { connect(&shared).await }).await {
                        Some(Ok(greeted)) => Some(self.serve(greeted).await.error),
                        Some(Err(trouble)) => {
                            tracing::debug!(error = %trouble.error, "connecting failed");
                            self.link.failed(self.shared.now(), trouble.cause());
                            Some(trouble.error)
                        }
                        None => None,
                    };
                }
            }
        }
        // What a client that was closed ended with is that, not what happened to its connection.
        self.end(error.filter(|_| !self.shared.stop.is_cancelled()));
    }

    /// Waits for something while requests come in and grow old. `None` if the client was stopped.
    async fn attend<F: Future>(&mut self, work: F) -> Option<F::Output> {
        tokio::pin!(work);
        loop {
            let deadline = self.next_deadline();
            tokio::select! {
                biased;
                () = self.shared.stop.cancelled() => {
                    self.link.close();
                    return None;
                }
                output = &mut work => return Some(output),
                Some(request) = self.incoming.recv() => self.accept(request),
                () = tokio::time::sleep_until(deadline) => self.expire(),
            }
        }
    }

    fn next_deadline(&self) -> tokio::time::Instant {
        let idle = self.shared.now().after(Duration::from_secs(3600));
        self.shared.instant(self.requests.next_deadline().unwrap_or(idle))
    }

    fn accept(&mut self, request: Request) {
        if let Some(error) = self.shared.circuit_error() {
            answer(request.reply, Err(error));
        } else if let Err(reply) =
            self.requests.add(request.frame, request.repeat, request.deadline, request.reply)
        {
            let error =
                Error::broker(ErrorCode::Throttled, "too many requests of this client wait for answers");
            answer(reply, Err(error));
        }
    }

    fn expire(&mut self) {
        let is_connected = self.shared.current.borrow().is_some();
        for (reply, was_sent) in self.requests.expire(self.shared.now()) {
            let error = match (is_connected, was_sent) {
                (false, false) => self.shared.unreachable(),
                (_, was_sent) => {
                    let class = if was_sent { Class::OutcomeUnknown } else { Class::Retryable };
                    Error::client(ClientCode::Timeout, "the broker did not answer in time").with_class(class)
                }
            };
            answer(reply, Err(error));
        }
    }

    /// Uses a connection until it ends.
    async fn serve(&mut self, greeted: Greeted) -> Trouble {
        self.link.connected();
        self.shared.current.send_replace(Some(Arc::clone(&greeted.live)));
        self.shared.show(&self.link, None);
        let live = Arc::clone(&greeted.live);
        let endpoint = greeted.endpoint.clone();
        let trouble = self.control(greeted).await;
        tracing::debug!(error = %trouble.error, "connection lost");
        live.connection.close(VarInt::from_u32(0), b"");
        self.shared.current.send_replace(None);
        self.link.lost(self.shared.now(), trouble.cause());
        let lost = format!("the connection was lost before the answer came: {}", trouble.error.detail());
        for reply in self.requests.connection_lost() {
            answer(reply, Err(Error::client(ClientCode::ConnectionLost, lost.clone())));
        }
        // The close has to go out before the socket is dropped.
        drop(tokio::time::timeout(Duration::from_millis(100), endpoint.wait_idle()).await);
        trouble
    }

    /// The control stream: requests out, answers in.
    async fn control(&mut self, greeted: Greeted) -> Trouble {
        let Greeted { live, mut send, mut frames, .. } = greeted;
        let mut look = tokio::time::interval(LOOK_INTERVAL);
        let mut silence = Silence::default();
        let departure = departure(Arc::clone(&live));
        tokio::pin!(departure);
        loop {
            for frame in self.requests.unsent().collect::<Vec<_>>() {
                if let Err(error) = send.write_all(&frame).await {
                    return ended(&live, &error);
                }
            }
            let deadline = self.next_deadline();
            tokio::select! {
                biased;
                () = self.shared.stop.cancelled() => {
                    self.link.close();
                    return Trouble::passing("the client was closed");
                }
                frame = frames.next() => match self.received(&live, frame) {
                    Ok(()) => {}
                    Err(trouble) => return trouble,
                },
                error = live.connection.closed() => return connection_trouble(&error),
                Some(request) = self.incoming.recv() => self.accept(request),
                () = tokio::time::sleep_until(deadline) => self.expire(),
                () = &mut departure, if self.requests.is_empty() => return Trouble::passing("the broker left"),
                _ = look.tick() => {
                    let stats = live.connection.stats();
                    let (sent, received) = (stats.udp_tx.datagrams, stats.udp_rx.datagrams);
                    if silence.observe(self.shared.now(), sent, received) {
                        return Trouble::passing("the broker does not answer any more");
                    }
                }
            }
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "all other answers are handled alike")]
    fn received(&mut self, live: &Live, frame: Result<Option<RawFrame>, FrameError>) -> Result<(), Trouble> {
        let frame = match frame {
            Ok(Some(frame)) => frame,
            Ok(None) => return Err(Trouble::passing("the broker closed the control stream")),
            Err(FrameError::Read(error)) => return Err(ended(live, &error)),
            Err(error @ (FrameError::Decode(_) | FrameError::Cut)) => {
                return Err(violation(live, &error.to_string()));
            }
        };
        match frame.kind {
            FrameKind::GoAway => {
                let goaway =
                    GoAway::from_frame(&frame).map_err(|error| violation(live, &error.to_string()))?;
                tracing::debug!(
                    code = goaway.code.number(),
                    deadline_ms = goaway.deadline_ms,
                    "the broker will leave"
                );
                self.link.leaving();
                self.shared.show(&self.link, None);
                live.leaving.cancel();
            }
            FrameKind::Failure => {
                let failure =
                    Failure::from_frame(&frame).map_err(|error| violation(live, &error.to_string()))?;
                if failure.request == 0 {
                    let error = failure_error(&failure);
                    return Err(Trouble { is_final: false, error });
                }
                if let Some(reply) = self.requests.answered(failure.request) {
                    answer(reply, Err(failure_error(&failure)));
                }
            }
            // Every other answer begins with the number of its request.
            _ => {
                let request =
                    Reader::new(&frame.body).u32().map_err(|error| violation(live, &error.to_string()))?;
                if let Some(reply) = self.requests.answered(request) {
                    answer(reply, Ok(frame));
                }
            }
        }
        Ok(())
    }

    fn end(&mut self, error: Option<Error>) {
        self.link.close();
        self.shared.current.send_replace(None);
        self.shared.show(&self.link, error.clone());
        self.incoming.close();
        let mut replies = self.requests.fail_all();
        while let Ok(request) = self.incoming.try_recv() {
            replies.push(request.reply);
        }
        for reply in replies {
            answer(reply, Err(error.clone().unwrap_or_else(|| Error::closed("client"))));
        }
        self.shared.stop.cancel();
    }
}

/// Whoever asked may have gone.
fn answer(reply: oneshot::Sender<Result<RawFrame, Error>>, result: Result<RawFrame, Error>) {
    drop(reply.send(result));
}

/// After the broker said that it leaves: waits until nothing that it owes an answer for is under way.
async fn departure(live: Arc<Live>) {
    live.leaving.cancelled().await;
    live.publishing.close();
    live.publishing.wait().await;
}

fn violation(live: &Live, what: &str) -> Trouble {
    live.violated(what);
    Trouble { error: Error::broker(ErrorCode::Protocol, what), is_final: false }
}

/// Why the connection ended, if that is known better than the stream's error.
fn ended(live: &Live, error: &dyn std::fmt::Display) -> Trouble {
    match live.connection.close_reason() {
        Some(reason) => connection_trouble(&reason),
        None => Trouble::passing(error.to_string()),
    }
}
