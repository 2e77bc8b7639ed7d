//! The producing loops: a thread each, apart from the one that drives the connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use weir_client::{Client, Message, Producer, SendError};

use super::arguments::Load;
use super::ids::{self, Ids, Repeats};
use super::latency::{Latencies, Sampler};
use super::payload::{Cutter, Pattern};
use crate::code::Code;
use crate::failure::{Exit, Failure};
use crate::value::Rate;

/// Receipts whose time is taken in a run with a rate, unless it is so long that one in [`STRIDE_MAX`] is more.
const SAMPLES: u64 = 100_000;

/// Of so many records at least one is timed.
const STRIDE_MAX: u64 = 64;

/// Records that are handed over together where no rate is asked for. The time of one of them is taken.
const TOGETHER: u64 = 64;

/// How long a record may take before the run is given up.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(60);

/// Lateness below which sleeping would cost more than it saves.
const SLEEP_MIN: Duration = Duration::from_micros(20);

/// What all producers of a run share.
#[derive(Debug)]
pub(crate) struct Run {
    /// The load.
    pub(crate) load: Load,
    /// What records look like.
    pub(crate) pattern: Pattern,
    /// The topic.
    pub(crate) topic: String,
    /// When it began.
    pub(crate) base: Instant,
    /// Whether records carry their time of sending.
    pub(crate) timed: bool,
    /// Set when the run shall end early.
    pub(crate) stop: AtomicBool,
}

/// What one producer measured.
#[derive(Debug)]
pub(crate) struct Produced {
    /// When the first record was sent.
    pub(crate) first_send: Instant,
    /// When the last receipt was there.
    pub(crate) last_receipt: Instant,
    /// Times to the receipt.
    pub(crate) latencies: Latencies,
}

/// Builds a producer for each number, spread over the connections.
pub(crate) async fn producers(run: &Run, clients: &[Client]) -> Result<Vec<Producer>, Failure> {
    let mut producers = Vec::new();
    for client in clients.iter().cycle().take(usize::try_from(run.load.producers).unwrap_or(usize::MAX)) {
        let mut builder = client
            .producer(&run.topic)
            .durability(run.load.durability.into())
            .compression(run.load.compression.into())
            .delivery_timeout(DELIVERY_TIMEOUT);
        if let Some(bytes) = run.load.in_flight.filter(|_| !run.load.is_one_at_a_time()) {
            builder = builder.max_in_flight(bytes, (bytes / run.load.size).max(1));
        }
        if let Some(bytes) = run.load.batch {
            builder = builder.max_batch(bytes, usize::MAX);
        }
        producers.push(builder.build().await?);
    }
    Ok(producers)
}

/// Sends all records and waits for all receipts.
pub(crate) async fn produce(run: &Arc<Run>, producers: Vec<Producer>) -> Result<Vec<Produced>, Failure> {
    let threads = (0..).zip(producers).map(|(number, producer)| {
        let run = Arc::clone(run);
        tokio::task::spawn_blocking(move || on_thread(&run, number, &producer))
    });
    let threads: Vec<_> = threads.collect();
    let mut outcomes = Vec::new();
    for thread in threads {
        outcomes.push(thread.await.expect("a producing loop does not panic"));
    }
    first_cause(outcomes)
}

/// All that was measured, or the failure that stopped the others.
fn first_cause(outcomes: Vec<Result<Produced, Failure>>) -> Result<Vec<Produced>, Failure> {
    let (measured, failed): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    let mut failures: Vec<Failure> = failed.into_iter().filter_map(Result::err).collect();
    // Those that were only stopped come last.
    failures.sort_by_key(|failure| failure.exit == Exit::Interrupted);
    match failures.into_iter().next() {
        Some(failure) => Err(failure),
        None => Ok(measured.into_iter().filter_map(Result::ok).collect()),
    }
}

fn on_thread(run: &Run, number: u32, producer: &Producer) -> Result<Produced, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(|error| {
        Failure::new(Exit::Failed, Code::File, format_args!("cannot start a thread: {error}"))
    })?;
    let produced = runtime.block_on(Loop::new(run, number, producer).run());
    if produced.is_err() {
        // One that failed ends the others as well.
        run.stop.store(true, Ordering::Release);
    }
    produced
}

struct Loop<'a> {
    run: &'a Run,
    producer: &'a Producer,
    cutter: Cutter<'a>,
    sampler: Sampler,
    records: u64,
    stride: u64,
    pace: Option<Pace>,
    number: u32,
    /// New records so far.
    made: u64,
    repeats: Option<Repeats>,
}

/// When the records of one producer are due.
struct Pace {
    rate: Rate,
    /// Which of the run's records come from this producer: every so many-th, from this one.
    producers: u64,
    number: u64,
}

impl Pace {
    fn due(&self, record: u64) -> Duration {
        self.rate.due(record * self.producers + self.number)
    }
}

impl<'a> Loop<'a> {
    fn new(run: &'a Run, number: u32, producer: &'a Producer) -> Self {
        let producers = u64::from(run.load.producers);
        Self {
            run,
            producer,
            cutter: Cutter::new(&run.pattern, number),
            sampler: Sampler::new(),
            records: run.load.share(number),
            stride: (run.load.records / SAMPLES).clamp(1, STRIDE_MAX),
            pace: run.load.rate.map(|rate| Pace { rate, producers, number: number.into() }),
            number,
            made: 0,
            repeats: match run.load.ids {
                Some(Ids::Repeated(percent)) => Some(Repeats::new(percent)),
                Some(Ids::Unique) | None => None,
            },
        }
    }

    async fn run(mut self) -> Result<Produced, Failure> {
        let first_send = Instant::now();
        let one_at_a_time = self.run.load.is_one_at_a_time();
        let mut record = 0;
        while record < self.records {
            self.sampler.collect().map_err(failed)?;
            if self.run.stop.load(Ordering::Acquire) {
                return Err(Failure::new(Exit::Interrupted, Code::NoReceipt, "the run was stopped"));
            }
            let due = self.pace.as_ref().map(|pace| first_send + pace.due(record));
            due.into_iter().for_each(sleep_until);
            if let Some(repeats) = &mut self.repeats {
                let count = (self.records - record).min(TOGETHER);
                let new: Vec<Message> = (0..count)
                    .map(|_| message(self.run, &mut self.cutter, (self.number, &mut self.made)))
                    .collect();
                let (again, choices) = repeats.choose(&new);
                let all = new.iter().cloned().chain(again).collect();
                let deliveries = self.producer.enqueue_all(all).await;
                repeats.expect(deliveries, new, choices).await?;
                record += count;
                continue;
            }
            let sent = match due {
                _ if one_at_a_time => self.one(due).await,
                Some(due) => self.next(record, due).await,
                None => self.several(self.records - record).await,
            };
            record += sent.map_err(failed)?;
        }
        self.producer.flush().await.map_err(failed)?;
        if let Some(repeats) = &mut self.repeats {
            let count = repeats.finish().await?;
            crate::chatter(&format!("weir: {count} repetitions, each answered with its original"));
        }
        let last_receipt = Instant::now();
        let latencies = self.sampler.finish().await.map_err(failed)?;
        Ok(Produced { first_send, last_receipt, latencies })
    }

    /// Sends some records and goes on. Says how many.
    async fn several(&mut self, most: u64) -> Result<u64, SendError> {
        let count = most.min(TOGETHER);
        let messages = (0..count).map(|_| self.message()).collect();
        let mut deliveries = self.producer.enqueue_all(messages).await;
        // The last was taken just now. A closed loop counts from there: waiting for room is its own doing.
        if let Some(last) = deliveries.next_back() {
            self.sampler.follow(last, Instant::now())?;
        }
        deliveries.detach();
        Ok(count)
    }

    /// Sends a record when it is due and goes on.
    async fn next(&mut self, record: u64, due: Instant) -> Result<u64, SendError> {
        let message = self.message();
        let delivery = self.producer.enqueue(message).await?;
        if record.is_multiple_of(self.stride) {
            self.sampler.follow(delivery, due)?;
        } else {
            delivery.detach();
        }
        Ok(1)
    }

    /// Sends a record and waits for its receipt, as an application would.
    async fn one(&mut self, due: Option<Instant>) -> Result<u64, SendError> {
        let since = due.unwrap_or_else(Instant::now);
        let message = self.message();
        self.producer.send(message).await?;
        self.sampler.time(since.elapsed());
        Ok(1)
    }

    fn message(&mut self) -> Message {
        message(self.run, &mut self.cutter, (self.number, &mut self.made))
    }
}

/// The next record of the producer with this number, which has made so many.
fn message(run: &Run, cutter: &mut Cutter<'_>, (producer, made): (u32, &mut u64)) -> Message {
    let sent_ns = if run.timed { nanos(run.base.elapsed()) } else { 0 };
    let (key, value) = cutter.cut(sent_ns);
    let mut message = Message::new(value);
    message.key = key;
    message.idempotency_key = run.load.ids.map(|_| ids::key(run.pattern.run(), producer, *made));
    *made += 1;
    message
}

/// A duration in nanoseconds.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Waits for a moment. The timers of the runtime are a millisecond coarse, those of the system a few microseconds; and
/// nothing else runs on this thread.
fn sleep_until(due: Instant) {
    let early = due.saturating_duration_since(Instant::now());
    if early >= SLEEP_MIN {
        thread::sleep(early);
    }
}

fn failed(error: SendError) -> Failure {
    Failure::from(&error.error)
}
