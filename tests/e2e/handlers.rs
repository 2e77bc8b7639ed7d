//! Handlers in groups, with the real binary: what they need goes down and comes back, records are bad, partitions move, runs end.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use harness::Broker;
use serde_json::Value;
use tokio::sync::{Semaphore, watch};
use weir_client::{
    Breaker, Client, Consumer, Delivered, Handler, HandlerError, Message, Redelivery, Run, Start,
};

/// Longest wait for something that must happen.
const LIMIT: Duration = Duration::from_secs(60);

const RECORDS: usize = 60;
const KEYS: usize = 12;
const CONCURRENCY: usize = 4;

/// What a handler does with a record.
enum Deal {
    Work,
    /// Works once it is let through.
    Wait,
    Hang,
    Panic,
    Fail,
    Reject,
    Unavailable,
}

/// What handlers have seen.
#[derive(Debug, Default)]
struct Seen {
    /// Record, attempt and time of each call.
    calls: Vec<(usize, u32, Instant)>,
    at_once: BTreeSet<usize>,
    handled: BTreeSet<usize>,
    most_at_once: usize,
}

/// A handler that does as it is told.
#[derive(Clone)]
struct App {
    /// What to do at the call of this number, with this record.
    plan: Arc<dyn Fn(usize, usize) -> Deal + Send + Sync>,
    seen: Arc<Mutex<Seen>>,
    changed: Arc<watch::Sender<()>>,
    gate: Arc<Semaphore>,
}

/// A record that a handler is dealing with; it may be dropped at any time.
struct AtOnce(App, usize);

impl Drop for AtOnce {
    fn drop(&mut self) {
        self.0.seen().at_once.remove(&self.1);
        self.0.changed.send_replace(());
    }
}

impl App {
    fn new(plan: impl Fn(usize, usize) -> Deal + Send + Sync + 'static) -> Self {
        Self {
            plan: Arc::new(plan),
            seen: Arc::default(),
            changed: Arc::default(),
            gate: Arc::new(Semaphore::new(0)),
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until it is so.
    async fn until(&self, is_so: impl Fn(&Seen) -> bool) {
        let mut changes = self.changed.subscribe();
        let waited = tokio::time::timeout(LIMIT, async {
            while !is_so(&self.seen()) {
                changes.changed().await.expect("the handler is still there");
            }
        });
        waited.await.unwrap_or_else(|_late| panic!("it does not come to that: {:?}", self.seen()));
    }

    /// Runs as a member until it is so.
    fn run(&self, consumer: Consumer, is_so: impl Fn(&Seen) -> bool + Send + Sync + 'static) -> Run<Self> {
        let app = self.clone();
        let stop = async move { app.until(is_so).await };
        consumer.run(self.clone()).concurrency(CONCURRENCY).shutdown(stop)
    }
}

impl Handler for App {
    async fn handle(&self, record: &Delivered) -> Result<(), HandlerError> {
        let value = record.value.clone().unwrap_or_default();
        let number: usize = std::str::from_utf8(&value)?.parse()?;
        let at_once = AtOnce(self.clone(), number);
        let call = {
            let mut seen = self.seen();
            seen.calls.push((number, record.attempt, Instant::now()));
            seen.at_once.insert(number);
            let now = seen.at_once.len();
            assert!(
                seen.at_once.iter().map(|number| number % KEYS).collect::<BTreeSet<_>>().len() == now,
                "a key twice"
            );
            seen.most_at_once = seen.most_at_once.max(now);
            seen.calls.len() - 1
        };
        self.changed.send_replace(());
        match (self.plan)(call, number) {
            Deal::Work => {}
            Deal::Wait => self.gate.acquire().await?.forget(),
            Deal::Hang => pending().await,
            Deal::Panic => panic!("as planned"),
            Deal::Fail => return Err(io::Error::other("it did not work").into()),
            Deal::Reject => return Err(HandlerError::Reject("it is no good".to_owned())),
            Deal::Unavailable => return Err(HandlerError::unavailable("the database is down")),
        }
        drop(at_once);
        self.seen().handled.insert(number);
        self.changed.send_replace(());
        Ok(())
    }
}

/// A broker with topics and records, and a client.
async fn started() -> (Broker, Client) {
    let broker = Broker::start();
    broker.text(&["topic", "create", "orders", "--partitions", "2"]);
    broker.text(&["topic", "create", "orders.dlq"]);
    let client = Client::connect(broker.url()).await.expect("the broker answers");
    let producer = client.producer("orders").build().await.expect("there is such a topic");
    for number in 0..RECORDS {
        let message = Message::new(number.to_string()).key((number % KEYS).to_string());
        producer.send(message).await.expect("it is stored");
    }
    (broker, client)
}

async fn join(client: &Client, attempts: u32) -> Consumer {
    let redelivery = Redelivery::exponential(Duration::from_millis(5), Duration::from_millis(20));
    let consumer = client.consumer("orders").group("billing").start(Start::Earliest);
    let consumer = consumer.redelivery(redelivery.max_attempts(attempts).dead_letter("orders.dlq"));
    consumer.subscribe().await.expect("a member joins")
}

/// Reasons of the letters in the dead-letter topic, once so many are there.
fn reasons(broker: &Broker, count: usize) -> BTreeMap<String, usize> {
    let since = Instant::now();
    loop {
        let shown = broker.text(&["dlq", "show", "orders.dlq", "--json"]);
        let letters: Vec<Value> =
            shown.lines().map(|line| serde_json::from_str(line).expect("an object")).collect();
        if letters.len() >= count {
            let mut reasons = BTreeMap::new();
            letters.iter().for_each(|letter| *reasons.entry(letter["reason"].to_string()).or_default() += 1);
            return reasons;
        }
        assert!(since.elapsed() < LIMIT, "{shown}");
    }
}

/// Whether the broker knows of records that came back.
fn has_returned(broker: &Broker) -> bool {
    let shown = broker.json(&["group", "show", "billing", "--json"]);
    let partitions = shown.get("partitions").and_then(Value::as_array).expect("a list of partitions");
    partitions.iter().any(|item| item.get("failing").and_then(Value::as_u64) > Some(0))
}

#[tokio::test]
async fn while_what_handlers_need_is_down_nothing_uses_up_its_attempts() {
    const CALLS: usize = 12;
    let (broker, client) = started().await;
    let app = App::new(|call, _| if call < CALLS { Deal::Unavailable } else { Deal::Work });
    let run = app.run(join(&client, 1).await, |seen| seen.handled.len() == RECORDS);
    let run = run.breaker(Breaker::open_after(3).cool_down(Duration::from_millis(20)));
    let report = run.await.expect("it runs until it is stopped");
    assert_eq!((report.handled, report.unavailable, report.failed), (RECORDS as u64, CALLS as u64, 0));
    assert!(report.is_settled);
    let seen = app.seen();
    assert!(seen.calls.iter().all(|(_, attempt, _)| *attempt == 1), "{seen:?}");
    let tried: BTreeSet<usize> = seen.calls[..CALLS].iter().map(|(number, ..)| *number).collect();
    assert!(tried.len() <= CONCURRENCY, "nothing else was begun: {tried:?}");
    assert_eq!(reasons(&broker, 0), BTreeMap::new());
}

#[tokio::test]
async fn after_failures_in_a_row_single_records_try_at_the_pace_of_the_breaker() {
    const CALLS: usize = 5;
    const COOL_DOWN: Duration = Duration::from_millis(300);
    let (broker, client) = started().await;
    let app = App::new(|call, _| if call < CALLS { Deal::Fail } else { Deal::Work });
    let run = app.run(join(&client, 10).await, |seen| seen.handled.len() == RECORDS);
    let run = run.concurrency(1).breaker(Breaker::open_after(3).cool_down(COOL_DOWN));
    let report = run.await.expect("it runs until it is stopped");
    assert_eq!((report.handled, report.failed), (RECORDS as u64, CALLS as u64));
    let seen = app.seen();
    for calls in seen.calls[2..=CALLS].windows(2) {
        assert!(calls[1].2 - calls[0].2 >= COOL_DOWN, "{seen:?}");
    }
    assert_eq!(reasons(&broker, 0), BTreeMap::new());
}

#[tokio::test]
async fn bad_records_are_given_up_and_those_of_a_key_stay_in_order() {
    let (broker, client) = started().await;
    let app = App::new(|call, number| match number {
        7 => Deal::Reject,
        13 => Deal::Hang,
        20 => Deal::Panic,
        33 => Deal::Fail,
        _ if call % 9 == 0 => Deal::Fail,
        _ if call == 25 => Deal::Unavailable,
        _ => Deal::Work,
    });
    let run = app.run(join(&client, 3).await, |seen| seen.handled.len() == RECORDS - 4);
    let run =
        run.timeout(Duration::from_millis(200)).breaker(Breaker::open_after(100).cool_down(Duration::ZERO));
    let report = run.await.expect("it runs until it is stopped");
    assert_eq!((report.handled, report.rejected), (RECORDS as u64 - 4, 1), "{report:?}");
    let seen = app.seen();
    assert!((2..=CONCURRENCY).contains(&seen.most_at_once), "{}", seen.most_at_once);
    let mut last = [0; KEYS];
    for (number, ..) in &seen.calls {
        assert!(last[number % KEYS] <= *number, "{number} after {last:?}");
        last[number % KEYS] = *number;
    }
    let expected = [
        "\"it is no good\"",
        "\"it took longer than 200ms\"",
        "\"the handler panicked\"",
        "\"it did not work\"",
    ];
    assert_eq!(reasons(&broker, 4), expected.into_iter().map(|reason| (reason.to_owned(), 1)).collect());
}

#[tokio::test]
async fn a_run_that_is_stopped_ends_what_it_began_and_gives_the_rest_back_at_once() {
    let (_broker, client) = started().await;
    let first = App::new(|_, _| Deal::Wait);
    let run = first.run(join(&client, 3).await, |seen| seen.at_once.len() == CONCURRENCY);
    let (opener, gate) = (first.clone(), Arc::clone(&first.gate));
    // Lets them through once the run is about to stop.
    let (report, ()) = tokio::join!(run, async {
        opener.until(|seen| seen.at_once.len() == CONCURRENCY).await;
        gate.add_permits(CONCURRENCY);
    });
    let report = report.expect("it runs until it is stopped");
    assert_eq!((report.handled, report.dropped), (CONCURRENCY as u64, 0));
    assert!(report.is_settled && report.returned >= 1, "{report:?}");

    let second = App::new(|_, _| Deal::Hang);
    let run = second.run(join(&client, 3).await, |seen| seen.at_once.len() == CONCURRENCY);
    let report = run.grace(Duration::from_millis(10)).await.expect("it runs until it is stopped");
    assert_eq!((report.handled, report.dropped), (0, CONCURRENCY as u64));

    let third = App::new(|_, _| Deal::Work);
    let run = third.run(join(&client, 3).await, |seen| seen.handled.len() == RECORDS - CONCURRENCY);
    run.await.expect("it runs until it is stopped");
    assert!(first.seen().handled.is_disjoint(&third.seen().handled), "what was done was settled");
}

#[tokio::test]
async fn a_partition_moves_without_what_waits_and_each_record_is_handled_once() {
    let (broker, client) = started().await;
    let first = App::new(|_, _| Deal::Wait);
    let (stop, stopped) = watch::channel(false);
    let stopping = |mut stopped: watch::Receiver<bool>| async move {
        stopped.wait_for(|is_so| *is_so).await.ok();
    };
    // Enough that records of both partitions wait.
    let one = first.run(join(&client, 3).await, |_| false).concurrency(32);
    let one = tokio::spawn(one.shutdown(stopping(stopped.clone())).into_future());
    first.until(|seen| seen.at_once.len() == KEYS).await;
    let other = Client::connect(broker.url()).await.expect("the broker answers");
    let second = App { plan: Arc::new(|_, _| Deal::Work), ..first.clone() };
    let two =
        tokio::spawn(second.run(join(&other, 3).await, |_| false).shutdown(stopping(stopped)).into_future());
    // A partition is asked for: what waits goes back, and then what is at work ends.
    let since = Instant::now();
    while !has_returned(&broker) {
        assert!(
            since.elapsed() < LIMIT,
            "nothing came back: {}",
            broker.json(&["group", "show", "billing", "--json"])
        );
        tokio::task::yield_now().await;
    }
    first.gate.add_permits(RECORDS);
    first.until(|seen| seen.handled.len() == RECORDS).await;
    stop.send_replace(true);
    let one = one.await.expect("no panic").expect("it runs until it is stopped");
    let two = two.await.expect("no panic").expect("it runs until it is stopped");
    assert!(one.returned >= 1, "what waited went back: {one:?}");
    assert!(two.handled >= 1 && one.handled + two.handled == RECORDS as u64, "{one:?} {two:?}");
}

#[tokio::test]
async fn a_handler_whose_partition_is_anothers_is_dropped() {
    let (_broker, client) = started().await;
    let app = App::new(|call, _| if call == 0 { Deal::Hang } else { Deal::Work });
    let run = app.run(join(&client, 3).await, |seen| seen.handled.len() == RECORDS).concurrency(1);
    let (report, ()) = tokio::join!(run, async {
        app.until(|seen| seen.calls.len() == 1).await;
        for partition in [0, 1] {
            let (admin, start) = (client.admin(), Start::Offset(partition, 0));
            admin.reset_group("orders", "billing", &start, false).await.expect("there is such a group");
        }
    });
    let report = report.expect("it runs until it is stopped");
    assert_eq!((report.dropped, report.failed), (1, 0), "{report:?}");
}
