//! The client against a real broker in the same process.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::future::Future;
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use weir_broker::testing::TestBroker;
use weir_broker::{ServeOptions, Server};
use weir_client::{
    BlockedBy, Breaker, Client, Compression, ConnStatus, Consumer, ConsumerEvent, Delivered, ErrorKind,
    Message, Producer, SendFailure, Start, TopicSpec, TryEnqueueError,
};

const SECOND: Duration = Duration::from_secs(1);

async fn started() -> (TestBroker, Client) {
    let broker = TestBroker::start().await.unwrap();
    let client = Client::connect(&broker.url()).await.unwrap();
    (broker, client)
}

async fn topic(client: &Client, partitions: u32) -> Producer {
    client.admin().create_topic(TopicSpec::new("t").partitions(partitions)).await.unwrap();
    client.producer("t").build().await.unwrap()
}

fn value(record: &Delivered) -> String {
    String::from_utf8(record.value.clone().unwrap().to_vec()).unwrap()
}

async fn next(consumer: &mut Consumer) -> String {
    value(&consumer.recv().await.unwrap().unwrap())
}

async fn all(client: &Client) -> Vec<Delivered> {
    let mut reading = client.consumer("t").start(Start::Earliest).read_to_end().await.unwrap();
    let mut records = Vec::new();
    while let Some(record) = reading.recv().await {
        records.push(record.unwrap());
    }
    assert!(reading.is_finished());
    records
}

fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

#[tokio::test]
async fn what_is_sent_comes_back_as_it_was() {
    let (_broker, client) = started().await;
    client.admin().create_topic(TopicSpec::new("t")).await.unwrap();
    let full = Message::new("value").key("key").header("a", "1").header("a", "2");
    let mut odd = Message::tombstone("gone");
    odd.headers.push(("empty".to_owned(), None));
    let sent = [full, odd, Message::new(""), Message::new(vec![b'x'; 300_000])];
    // Each time under another key: otherwise it would be the same record again.
    let sent_in = |round: usize| {
        let mut messages = sent.to_vec();
        messages[0] = messages[0].clone().idempotency_key(format!("round {round}"));
        messages
    };
    for (round, compression) in
        [Compression::None, Compression::Lz4, Compression::Zstd].into_iter().enumerate()
    {
        let producer = client.producer("t").compression(compression).build().await.unwrap();
        producer.send_all(sent_in(round)).await.unwrap();
    }
    let records = all(&client).await;
    assert_eq!(records.len(), 3 * sent.len());
    for (index, record) in records.iter().enumerate() {
        let mut message = record.message.clone();
        assert_eq!((record.offset, message.partition), (index as u64, Some(0)));
        message.partition = None;
        message.create_time = None;
        assert_eq!(message, sent_in(index / sent.len())[index % sent.len()]);
    }
}

#[tokio::test]
async fn a_message_that_fits_no_batch_is_refused_with_the_limit_and_handed_back() {
    let (_broker, client) = started().await;
    let producer = topic(&client, 1).await;
    let error = producer.send(Message::new(vec![0; 3 << 20])).await.unwrap_err();
    assert!(matches!(error.reason, SendFailure::TooLarge { limit } if limit < 3 << 20), "{error:?}");
    assert_eq!((error.error.code(), error.message.unwrap().size()), ("WEIR-1026", 3 << 20));
    producer.send(Message::new("next")).await.unwrap();

    let error = producer.send(Message::new("x").partition(7)).await.unwrap_err();
    assert_eq!(error.error.kind(), ErrorKind::NoSuchTopic);
    let error = producer.send(Message::new("x").idempotency_key(vec![0; 65])).await.unwrap_err();
    assert_eq!(error.error.kind(), ErrorKind::Invalid);
    assert_eq!(producer.pressure().in_flight_messages, 0, "nothing of it stays in flight");
}

#[tokio::test]
async fn room_is_given_in_order_and_a_cancelled_caller_takes_none() {
    let (_broker, client) = started().await;
    topic(&client, 1).await;
    let producer = client.producer("t").max_in_flight(1 << 20, 2).build().await.unwrap();
    let first = producer.reserve(10).await.unwrap();
    let second = producer.reserve(10).await.unwrap();
    match producer.try_enqueue(Message::new("shed")) {
        Err(TryEnqueueError::Full(message, pressure)) => {
            assert_eq!((message.value.unwrap(), pressure.in_flight_messages), (Bytes::from("shed"), 2));
        }
        other => panic!("{other:?}"),
    }
    let mut cancelled = Box::pin(producer.enqueue(Message::new("cancelled")));
    assert!(poll_once(cancelled.as_mut()).is_pending());
    let mut waiting = pin!(producer.enqueue(Message::new("waiting")));
    assert!(poll_once(waiting.as_mut()).is_pending());
    assert_eq!(producer.pressure().waiting_callers, 2);
    drop(cancelled);
    drop(first);
    let delivery = waiting.await.unwrap();
    second.send(Message::new("reserved")).await.unwrap();
    delivery.await.unwrap();
    let mut values: Vec<String> = all(&client).await.iter().map(value).collect();
    values.sort();
    assert_eq!(values, ["reserved", "waiting"]);
}

#[tokio::test]
async fn what_a_permit_does_not_use_goes_to_who_waits() {
    let (broker, client) = started().await;
    topic(&client, 1).await;
    let producer = client.producer("t").max_in_flight(1000, 10).build().await.unwrap();
    broker.stop().await.unwrap();
    let permit = producer.reserve(1000).await.unwrap();
    let mut waiting = pin!(producer.enqueue(Message::new(vec![0; 500])));
    assert!(poll_once(waiting.as_mut()).is_pending());
    permit.send(Message::new("small")).detach();
    waiting.await.unwrap().detach();
}

#[tokio::test]
async fn closing_the_client_is_told_to_everybody() {
    let (_broker, client) = started().await;
    let producer = topic(&client, 1).await;
    let admin = client.admin();
    let mut consumer = client.consumer("t").subscribe().await.unwrap();
    assert!(!client.drain(SECOND).await.timed_out);
    assert_eq!(consumer.recv().await.unwrap().unwrap_err().kind(), ErrorKind::Closed);
    assert!(consumer.recv().await.is_none());
    assert_eq!(admin.list_topics().await.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(producer.send(Message::new("x")).await.unwrap_err().error.kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn a_dropped_delivery_does_not_cancel_and_flush_waits_for_it() {
    let (_broker, client) = started().await;
    let producer = topic(&client, 4).await;
    for index in 0..1000 {
        producer.enqueue(Message::new(index.to_string())).await.unwrap().detach();
    }
    producer.flush().await.unwrap();
    assert_eq!(producer.pressure().in_flight_messages, 0);
    assert_eq!(all(&client).await.len(), 1000);
    let report = producer.close(SECOND).await;
    assert_eq!((report.delivered, report.failed, report.timed_out), (1000, 0, false));
}

#[tokio::test]
async fn dropping_everything_still_delivers_what_was_taken() {
    let (broker, client) = started().await;
    let producer = client.clone();
    let producer = topic(&producer, 1).await;
    for index in 0..100 {
        producer.enqueue(Message::new(index.to_string())).await.unwrap().detach();
    }
    drop((producer, client));
    let other = Client::connect(&broker.url()).await.unwrap();
    let mut consumer = other.consumer("t").start(Start::Earliest).subscribe().await.unwrap();
    for index in 0..100 {
        assert_eq!(next(&mut consumer).await, index.to_string());
    }
}

#[tokio::test]
async fn closing_without_a_broker_hands_the_messages_back() {
    let (broker, client) = started().await;
    let producer = topic(&client, 1).await;
    broker.stop().await.unwrap();
    let kept = producer.enqueue(Message::new("kept")).await.unwrap();
    producer.enqueue(Message::new("detached").key("k")).await.unwrap().detach();
    let clone = producer.clone();
    let report = producer.close(Duration::from_millis(50)).await;
    assert!(report.timed_out);
    let values: Vec<Bytes> =
        report.undelivered.iter().map(|message| message.value.clone().unwrap()).collect();
    assert_eq!(values, ["kept", "detached"]);
    assert_eq!(report.undelivered[1].key.as_deref(), Some(&b"k"[..]));
    let error = kept.await.unwrap_err();
    assert!(
        matches!(error.reason, SendFailure::DeliveryTimeout { outcome_unknown: false, .. })
            && error.message.is_some()
    );
    let error = clone.send(Message::new("late")).await.unwrap_err();
    assert_eq!((error.error.kind(), error.message.unwrap().size()), (ErrorKind::Closed, 4));
}

#[tokio::test]
async fn what_cannot_be_sent_in_time_fails_with_its_message_and_on_failure_is_told() {
    let (broker, client) = started().await;
    topic(&client, 1).await;
    let (tell, mut told) = tokio::sync::mpsc::channel(8);
    let builder = client.producer("t").delivery_timeout(Duration::from_millis(100)).max_in_flight(1 << 20, 2);
    let producer =
        builder.on_failure(move |failed| tell.try_send(failed.message).unwrap()).build().await.unwrap();
    broker.stop().await.unwrap();
    producer.enqueue(Message::new("nobody waits")).await.unwrap().detach();
    let error = producer.send(Message::new("somebody waits")).await.unwrap_err();
    let expected = SendFailure::DeliveryTimeout { attempts: 0, outcome_unknown: false };
    assert_eq!(format!("{:?}", error.reason), format!("{expected:?}"));
    assert!(error.message.is_some());
    let message = told.recv().await.unwrap().unwrap();
    assert_eq!(message.value.as_deref(), Some(&b"nobody waits"[..]));
    assert!(told.is_empty());
}

#[tokio::test]
async fn waiting_for_room_ends_with_the_delivery_timeout_and_names_the_cause() {
    let (broker, client) = started().await;
    topic(&client, 1).await;
    let builder = client.producer("t").delivery_timeout(Duration::from_millis(300)).max_in_flight(1 << 20, 1);
    let producer = builder.build().await.unwrap();
    broker.stop().await.unwrap();
    while matches!(client.status().get(), ConnStatus::Ready { .. }) {
        client.status().changed().await;
    }
    let _permit = producer.reserve(1).await.unwrap();
    let error = producer.enqueue(Message::new("no room")).await.unwrap_err();
    assert_eq!((error.error.kind(), error.message.unwrap().size()), (ErrorKind::Timeout, 7));
}

#[tokio::test]
async fn wrong_addresses_and_pins_are_told_apart() {
    let (broker, _client) = started().await;
    let url = broker.url();
    let wrong = if url.ends_with('0') { "1" } else { "0" };
    let error = Client::connect(&format!("{}{wrong}", &url[..url.len() - 1])).await.unwrap_err();
    assert_eq!((error.code(), error.kind()), ("WEIR-1022", ErrorKind::Tls));

    let nobody = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let builder = Client::builder(&format!("weir://{nobody}")).connect_timeout(Duration::from_millis(200));
    let error = builder.connect().await.unwrap_err();
    assert_eq!(error.code(), "WEIR-1004");
    assert!(error.to_string().contains(&nobody.to_string()), "{error}");
    assert_eq!(Client::connect("http://x").await.unwrap_err().code(), "WEIR-1021");
}

#[tokio::test]
async fn an_open_breaker_fails_calls_at_once() {
    let nobody = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let builder = Client::builder(&format!("weir://{nobody}")).breaker(Breaker::open_after(2));
    let client = builder.connect_lazy().unwrap();
    let mut status = client.status();
    while !matches!(status.get(), ConnStatus::CircuitOpen { .. }) {
        status.changed().await;
    }
    let error = client.admin().list_topics().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CircuitOpen);
    assert!(error.retry_after().is_some_and(|after| after > SECOND));
}

#[tokio::test]
async fn readers_start_where_they_are_told() {
    let (_broker, client) = started().await;
    let producer = topic(&client, 1).await;
    for index in 0..10 {
        producer.send(Message::new(index.to_string())).await.unwrap();
    }
    let middle = all(&client).await[4].clone();
    let starts = [
        (Start::Earliest, "0"),
        (Start::Last(3), "7"),
        (Start::Offset(0, 5), "5"),
        (Start::Timestamp(middle.timestamp), "4"),
        (Start::Resume(middle.checkpoint()), "5"),
    ];
    for (start, expected) in starts {
        let mut consumer = client.consumer("t").start(start.clone()).subscribe().await.unwrap();
        assert_eq!(next(&mut consumer).await, expected, "{start:?}");
        assert_eq!(consumer.checkpoint().next_offset(0), Some(expected.parse::<u64>().unwrap() + 1));
    }
    let mut latest = client.consumer("t").subscribe().await.unwrap();
    producer.send(Message::new("new")).await.unwrap();
    assert_eq!(next(&mut latest).await, "new");

    let error = client.consumer("t").start(Start::Offset(0, 99)).subscribe().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutOfRange);
    assert!(error.to_string().contains("0 to 11") && error.to_string().contains("99"), "{error}");
}

#[tokio::test]
async fn seek_pause_and_batches() {
    let (_broker, client) = started().await;
    let producer = topic(&client, 1).await;
    producer.send_all((0..100).map(|index| Message::new(index.to_string())).collect()).await.unwrap();
    let mut consumer = client.consumer("t").start(Start::Earliest).subscribe().await.unwrap();
    let mut seen = 0;
    while seen < 30 {
        seen += consumer.recv_batch(30 - seen, SECOND).await.unwrap().len();
    }
    assert_eq!(next(&mut consumer).await, "30");
    consumer.seek(Start::Offset(0, 10)).await.unwrap();
    assert_eq!(next(&mut consumer).await, "10");
    consumer.pause();
    assert!(consumer.recv_batch(1, Duration::from_millis(50)).await.unwrap().is_empty());
    consumer.resume();
    assert_eq!(next(&mut consumer).await, "11");
    assert_eq!(consumer.lag().get(), [(0, 0)], "all has been fetched into the batch at hand");
    consumer.seek(Start::Earliest).await.unwrap();
    assert_eq!(next(&mut consumer).await, "0");
    assert!(consumer.seek(Start::Offset(5, 0)).await.is_err());
}

#[tokio::test]
async fn receiving_can_be_cancelled_at_any_time() {
    let (_broker, client) = started().await;
    let producer = topic(&client, 1).await;
    let mut consumer = client.consumer("t").start(Start::Earliest).subscribe().await.unwrap();
    assert!(poll_once(pin!(consumer.recv())).is_pending());
    producer.send_all((0..1000).map(|index| Message::new(index.to_string())).collect()).await.unwrap();
    let mut expected = 0;
    while expected < 1000 {
        // Each of these is dropped after one look.
        if let Poll::Ready(Some(record)) = poll_once(pin!(consumer.recv())) {
            assert_eq!(value(&record.unwrap()), expected.to_string());
            expected += 1;
        } else if let Poll::Ready(records) = poll_once(pin!(consumer.recv_batch(7, SECOND))) {
            for record in records.unwrap() {
                assert_eq!(value(&record), expected.to_string());
                expected += 1;
            }
        } else {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn a_deleted_topic_ends_its_producers_and_readers_with_the_reason() {
    let (_broker, client) = started().await;
    let producer = topic(&client, 1).await;
    let mut consumer = client.consumer("t").subscribe().await.unwrap();
    client.admin().delete_topic("t").await.unwrap();
    let error = producer.send(Message::new("x")).await.unwrap_err();
    assert_eq!(error.error.kind(), ErrorKind::NoSuchTopic, "{error:?}");
    assert_eq!(value_of(error.message), "x");
    let error = consumer.recv().await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSuchTopic);
    assert!(consumer.recv().await.is_none());
}

fn value_of(message: Option<Box<Message>>) -> String {
    String::from_utf8(message.unwrap().value.unwrap().to_vec()).unwrap()
}

struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// The smallest executor there is: no tokio anywhere.
fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

#[tokio::test]
async fn it_works_without_a_tokio_runtime_of_the_caller() {
    let broker = TestBroker::start().await.unwrap();
    let url = broker.url();
    let outside = std::thread::spawn(move || {
        block_on(async {
            let client = Client::connect(&url).await.unwrap();
            let producer = topic(&client, 2).await;
            producer.send(Message::new("hello")).await.unwrap();
            let mut consumer = client.consumer("t").start(Start::Earliest).subscribe().await.unwrap();
            let records = consumer.recv_batch(10, SECOND).await.unwrap();
            assert_eq!(value(&records[0]), "hello");
            assert!(consumer.recv_batch(10, Duration::from_millis(20)).await.unwrap().is_empty());
            client.drain(SECOND).await.timed_out
        })
    });
    assert!(!tokio::task::spawn_blocking(move || outside.join().unwrap()).await.unwrap());
}

/// A directory that goes away.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("weir-client-{}-{name}", std::process::id())))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

async fn serve(directory: &Path, listen: SocketAddr) -> Server {
    let options = ServeOptions { data_directory: directory.to_owned(), listen, ..ServeOptions::default() };
    Server::start(options).await.unwrap()
}

#[tokio::test]
async fn a_restart_of_the_broker_loses_repeats_and_reorders_nothing() {
    let directory = Scratch::new("restart");
    let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut server = serve(&directory.0, port).await;
    let client = Client::connect(&server.url()).await.unwrap();
    let producer = topic(&client, 2).await;
    let mut consumer = client.consumer("t").start(Start::Earliest).partitions([1]).subscribe().await.unwrap();
    let mut events = consumer.events();

    let sender = tokio::spawn(async move {
        let mut deliveries = Vec::new();
        for index in 0..20_000 {
            let message = Message::new(index.to_string()).partition(1);
            deliveries.push(producer.enqueue(message).await.unwrap());
            if index % 200 == 0 {
                tokio::task::yield_now().await;
            }
        }
        for (offset, delivery) in (0u64..).zip(deliveries) {
            assert_eq!(delivery.await.unwrap().offset, offset);
        }
    });
    for index in 0..20_000 {
        if index == 500 || index == 5_000 {
            server.stop().await.unwrap();
            server = serve(&directory.0, port).await;
        }
        let record = consumer.recv().await.unwrap().unwrap();
        assert_eq!((record.offset, value(&record)), (index, index.to_string()));
    }
    sender.await.unwrap();
    assert_eq!(events.recv().await, Some(ConsumerEvent::Reconnecting));
    assert_eq!(events.recv().await, Some(ConsumerEvent::Reconnected));
    assert_ne!(
        client.producer("t").build().await.unwrap().pressure().blocked_by,
        Some(BlockedBy::Disconnected)
    );
    server.stop().await.unwrap();
}
