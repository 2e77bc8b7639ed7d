//! Deals with the records of a group by a handler: the loop that everybody would write, with its corners.

mod desk;

use std::fmt;
use std::future::{Future, IntoFuture, pending};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use crate::consumer::Consumer;
use crate::core::time::Mono;
use crate::error::Error;
use crate::message::Delivered;
use crate::net::member::GroupShared;
use crate::options::Breaker;
use desk::Desk;

/// Handlers at a time, by default.
const CONCURRENCY: usize = 16;

/// Most handlers at a time: as many records may have to be given back at once, and a group remembers 1,024 for each partition.
const CONCURRENCY_MAX: usize = 256;

/// Time a handler has for a record, by default.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Time for handlers to come to an end when the run is to stop, by default.
const GRACE: Duration = Duration::from_secs(30);

/// Least time for the broker to hear what became of the last records.
const SETTLE_TIME: Duration = Duration::from_secs(5);

/// Deals with records.
pub trait Handler: Send + Sync + 'static {
    /// Deals with one record. `Ok` acknowledges it. A record may come again although it was dealt with: after a crash, and
    /// after a time-out. What has an effect elsewhere takes topic, partition and offset for an idempotency key.
    ///
    /// # Errors
    /// What is to become of a record that was not dealt with.
    ///
    /// # Cancel safety
    /// It is dropped if it takes longer than the [time-out](Run::timeout), if another member has its partition meanwhile, and
    /// at the end of a stop.
    fn handle(&self, record: &Delivered) -> impl Future<Output = Result<(), HandlerError>> + Send;
}

/// Why a record was not dealt with. Any error converts to [`HandlerError::Retry`].
#[derive(Debug)]
#[non_exhaustive]
pub enum HandlerError {
    /// It may work another time: the record comes again, later and later, until its attempts are used up.
    Retry(Box<dyn std::error::Error + Send + Sync>),
    /// It will never work: the record goes to the dead letters at once, with this reason.
    Reject(String),
    /// Something that the handler needs is down, and no record can be dealt with: the circuit opens, and the record is tried
    /// once more when it has cooled down. It uses up none of the record's attempts.
    Unavailable(Box<dyn std::error::Error + Send + Sync>),
}

impl HandlerError {
    /// Something that the handler needs is down.
    pub fn unavailable(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Unavailable(error.into())
    }
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for HandlerError {
    fn from(error: E) -> Self {
        Self::Retry(Box::new(error))
    }
}

/// What a run has done.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct RunReport {
    /// Records that were dealt with.
    pub handled: u64,
    /// Failures: by error, panic or time-out.
    pub failed: u64,
    /// Records that were rejected.
    pub rejected: u64,
    /// Times that a handler found that what it needs is down.
    pub unavailable: u64,
    /// Records that were given back before they were dealt with, so that others could have them or nothing overtook.
    pub returned: u64,
    /// Handlers that were dropped because another member had their partition, or at the end of a stop.
    pub dropped: u64,
    /// Whether the broker has heard in time of all that became of the records.
    pub is_settled: bool,
}

/// Deals with the records of a group as they come, until it is stopped. Await it, in a runtime of tokio: handlers are tasks
/// there.
///
/// Records with one key are dealt with one after the other, in their order; those of different keys at the same time. While a
/// handler runs the lease of its partition is renewed. A record that fails holds its partition up until it comes again.
#[must_use = "nothing happens before it is awaited"]
pub struct Run<H> {
    consumer: Consumer,
    handler: Arc<H>,
    concurrency: usize,
    timeout: Duration,
    grace: Duration,
    breaker: Breaker,
    stop: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl<H> fmt::Debug for Run<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { concurrency, timeout, grace, breaker, .. } = self;
        f.debug_struct("Run")
            .field("concurrency", concurrency)
            .field("timeout", timeout)
            .field("grace", grace)
            .field("breaker", breaker)
            .finish_non_exhaustive()
    }
}

impl<H: Handler> Run<H> {
    pub(super) fn new(consumer: Consumer, handler: H) -> Self {
        Self {
            consumer,
            handler: Arc::new(handler),
            concurrency: CONCURRENCY,
            timeout: TIMEOUT,
            grace: GRACE,
            breaker: Breaker::open_after(u32::MAX),
            stop: Box::pin(pending()),
        }
    }

    /// Records that are dealt with at a time: 16 by default, 1 to 256. As many again wait here.
    pub fn concurrency(mut self, handlers: usize) -> Self {
        self.concurrency = handlers.clamp(1, CONCURRENCY_MAX);
        self
    }

    /// Time a handler has for a record, 30 s by default: then it is dropped, and has failed.
    pub const fn timeout(mut self, time: Duration) -> Self {
        self.timeout = time;
        self
    }

    /// Stops dealing with records after so many failures in a row, and asks for no more, instead of letting one after the other
    /// use up its attempts while something that the handler needs is down. After it has cooled down a single record tries, and
    /// if that works, all go on. By default no number of failures opens the circuit, only [`HandlerError::Unavailable`], for
    /// 10 s.
    pub const fn breaker(mut self, breaker: Breaker) -> Self {
        self.breaker = breaker;
        self
    }

    /// Stops once `stop` is ready: what waits is given back at once, handlers have their [`grace`](Self::grace) to come to
    /// their end, then the broker hears of everything, and the group is left.
    pub fn shutdown(mut self, stop: impl Future<Output = ()> + Send + 'static) -> Self {
        self.stop = Box::pin(stop);
        self
    }

    /// Time for handlers to come to their end when the run is stopped, 30 s by default: then they are dropped, and their records
    /// given back.
    pub const fn grace(mut self, time: Duration) -> Self {
        self.grace = time;
        self
    }

    async fn run(self) -> Result<RunReport, Error> {
        let Self { mut consumer, handler, concurrency, timeout, grace, breaker, mut stop } = self;
        let group = consumer.membership().ok_or_else(|| Error::invalid("handlers need a group"))?;
        let runtime =
            Handle::try_current().map_err(|_none| Error::invalid("handlers need a runtime of tokio"))?;
        let client = Arc::clone(&group.consumer.client);
        let mut desk = Desk::new((concurrency, breaker), timeout, runtime);
        let mut changes = group.changes.subscribe();
        let mut last_error = None;
        let is_stopped = loop {
            let open_until = desk.begin(client.now(), &handler);
            tokio::select! {
                biased;
                () = &mut stop => break true,
                Some(ended) = desk.next_ended() => desk.settle(client.now(), ended),
                Ok(()) = changes.changed() => desk.follow_leases(),
                received = consumer.recv(), if desk.wants() => match received {
                    Some(Ok(record)) => desk.offer(record),
                    // Others go on, and its partition is tried again; or it is the last before the end.
                    Some(Err(error)) => {
                        tracing::warn!(%error, "a partition cannot be read");
                        last_error = Some(error);
                    }
                    None => break false,
                },
                () = client.sleep_until(open_until.unwrap_or_default()), if open_until.is_some() => {}
            }
        };
        let deadline = client.now().after(grace);
        finish(&mut desk, &group, deadline).await;
        let left = deadline.since(client.now()).max(SETTLE_TIME);
        let is_settled = !consumer.drain(left).await.timed_out;
        match last_error {
            Some(error) if !is_stopped => Err(error),
            Some(_) | None => Ok(RunReport { is_settled, ..desk.report() }),
        }
    }
}

/// Lets handlers come to their end, until the deadline.
async fn finish(desk: &mut Desk, group: &GroupShared, deadline: Mono) {
    let client = &group.consumer.client;
    desk.give_back();
    loop {
        tokio::select! {
            biased;
            ended = desk.next_ended() => match ended {
                Some(ended) => desk.settle(client.now(), ended),
                None => break,
            },
            () = client.sleep_until(deadline) => break,
        }
    }
    desk.end().await;
}

impl<H: Handler> IntoFuture for Run<H> {
    type Output = Result<RunReport, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    /// Runs until it is stopped, or nothing can be read any more: the topic or the group was deleted, or the client was
    /// closed; then that is the error.
    ///
    /// # Errors
    /// `WEIR-1027` if the consumer is in no group, or there is no runtime of tokio; else why nothing can be read any more.
    ///
    /// # Cancel safety
    /// If dropped, handlers are dropped, too; what they had not finished comes again.
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}
