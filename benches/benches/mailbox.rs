//! The mailbox against the channels of tokio, flume and kanal: cost of handing over one item, singly and in batches.
//!
//! `tasks`: both sides are tasks of one thread, which is how a shard and its connections meet. `threads`: the producer
//! has a thread of its own, which is how the journal is reached.

use std::hint::black_box;
use std::thread;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use tokio::runtime::Runtime;
use weir_broker::queue::{Drained, Receiver, Sender, mailbox};

/// As large as what goes from a connection to a shard.
type Item = [u64; 8];

/// Items that may wait.
const BOUND: usize = 1024;
/// Items in one run.
const ITEMS: u64 = 64 * 1024;
/// Items in one push of a batch.
const BATCH: u64 = 32;

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime without drivers needs nothing")
}

const fn item(number: u64) -> Item {
    [number; 8]
}

/// Pushes all items one by one.
async fn push_single(mut sender: Sender<Item>) {
    for number in 0..ITEMS {
        let mut waiting = item(number);
        while let Err(rejected) = sender.try_push(waiting) {
            waiting = rejected.into_item();
            sender.room(0).await.expect("the receiver stays");
        }
    }
}

/// Pushes all items in batches.
async fn push_batched(mut sender: Sender<Item>) {
    let mut batch = Vec::new();
    for first in (0..ITEMS).step_by(usize::try_from(BATCH).expect("a small number")) {
        batch.extend((first..first + BATCH).map(item));
        loop {
            sender.push_batch(&mut batch).expect("the receiver stays");
            if batch.is_empty() {
                break;
            }
            sender.room(0).await.expect("the receiver stays");
        }
    }
}

/// Drains until all senders are gone.
async fn drain(mut receiver: Receiver<Item>) -> u64 {
    let (mut items, mut sum) = (Vec::new(), 0);
    while receiver.drain(&mut items).await == Drained::Items {
        sum += items.drain(..).map(|[first, ..]| first).sum::<u64>();
    }
    sum
}

async fn tokio_push_single(sender: tokio::sync::mpsc::Sender<Item>) {
    for number in 0..ITEMS {
        sender.send(item(number)).await.expect("the receiver stays");
    }
}

async fn tokio_push_batched(sender: tokio::sync::mpsc::Sender<Vec<Item>>) {
    for first in (0..ITEMS).step_by(usize::try_from(BATCH).expect("a small number")) {
        sender.send((first..first + BATCH).map(item).collect()).await.expect("the receiver stays");
    }
}

async fn tokio_receive_single(mut receiver: tokio::sync::mpsc::Receiver<Item>) -> u64 {
    let mut sum = 0;
    while let Some([first, ..]) = receiver.recv().await {
        sum += first;
    }
    sum
}

async fn tokio_receive_many(mut receiver: tokio::sync::mpsc::Receiver<Item>) -> u64 {
    let (mut items, mut sum) = (Vec::new(), 0);
    while receiver.recv_many(&mut items, 256).await > 0 {
        sum += items.drain(..).map(|[first, ..]| first).sum::<u64>();
    }
    sum
}

async fn flume_push_single(sender: flume::Sender<Item>) {
    for number in 0..ITEMS {
        sender.send_async(item(number)).await.expect("the receiver stays");
    }
}

async fn flume_receive_single(receiver: flume::Receiver<Item>) -> u64 {
    let mut sum = 0;
    while let Ok([first, ..]) = receiver.recv_async().await {
        sum += first;
    }
    sum
}

async fn kanal_push_single(sender: kanal::AsyncSender<Item>) {
    for number in 0..ITEMS {
        sender.send(item(number)).await.expect("the receiver stays");
    }
}

async fn kanal_receive_single(receiver: kanal::AsyncReceiver<Item>) -> u64 {
    let mut sum = 0;
    while let Ok([first, ..]) = receiver.recv().await {
        sum += first;
    }
    sum
}

async fn tokio_receive_batched(mut receiver: tokio::sync::mpsc::Receiver<Vec<Item>>) -> u64 {
    let mut sum = 0;
    while let Some(batch) = receiver.recv().await {
        sum += batch.into_iter().map(|[first, ..]| first).sum::<u64>();
    }
    sum
}

/// Runs producer and consumer and checks that everything arrived.
type Run = fn(&Runtime, Producer, Consumer) -> u64;
type Producer = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;
type Consumer = std::pin::Pin<Box<dyn Future<Output = u64> + Send>>;

fn as_tasks(runtime: &Runtime, producer: Producer, consumer: Consumer) -> u64 {
    runtime.block_on(async {
        let producer = tokio::spawn(producer);
        let sum = tokio::spawn(consumer).await.expect("the consumer does not panic");
        producer.await.expect("the producer does not panic");
        sum
    })
}

fn as_threads(own: &Runtime, producer: Producer, consumer: Consumer) -> u64 {
    thread::scope(|scope| {
        scope.spawn(|| runtime().block_on(producer));
        own.block_on(consumer)
    })
}

fn measure(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    run: Run,
    make: impl Fn() -> (Producer, Consumer),
) {
    let runtime = runtime();
    group.bench_function(name, |bencher| {
        bencher.iter(|| {
            let (producer, consumer) = make();
            let sum = run(&runtime, black_box(producer), black_box(consumer));
            assert_eq!(sum, ITEMS * (ITEMS - 1) / 2, "something was lost");
        });
    });
}

fn mailboxes(criterion: &mut Criterion) {
    let runs: [(&str, Run); 2] = [("tasks", as_tasks), ("threads", as_threads)];
    for (name, run) in runs {
        let mut group = criterion.benchmark_group(format!("mailbox/{name}"));
        group.throughput(Throughput::Elements(ITEMS)).sample_size(20);
        measure(&mut group, "single", run, || {
            let (sender, receiver) = mailbox(BOUND);
            (Box::pin(push_single(sender)), Box::pin(drain(receiver)))
        });
        measure(&mut group, "batched", run, || {
            let (sender, receiver) = mailbox(BOUND);
            (Box::pin(push_batched(sender)), Box::pin(drain(receiver)))
        });
        measure(&mut group, "tokio_single", run, || {
            let (sender, receiver) = tokio::sync::mpsc::channel(BOUND);
            (Box::pin(tokio_push_single(sender)), Box::pin(tokio_receive_single(receiver)))
        });
        measure(&mut group, "tokio_single_to_many", run, || {
            let (sender, receiver) = tokio::sync::mpsc::channel(BOUND);
            (Box::pin(tokio_push_single(sender)), Box::pin(tokio_receive_many(receiver)))
        });
        measure(&mut group, "tokio_batched", run, || {
            let batches = BOUND / usize::try_from(BATCH).expect("a small number");
            let (sender, receiver) = tokio::sync::mpsc::channel(batches);
            (Box::pin(tokio_push_batched(sender)), Box::pin(tokio_receive_batched(receiver)))
        });
        measure(&mut group, "flume_single", run, || {
            let (sender, receiver) = flume::bounded(BOUND);
            (Box::pin(flume_push_single(sender)), Box::pin(flume_receive_single(receiver)))
        });
        measure(&mut group, "kanal_single", run, || {
            let (sender, receiver) = kanal::bounded_async(BOUND);
            (Box::pin(kanal_push_single(sender)), Box::pin(kanal_receive_single(receiver)))
        });
        group.finish();
    }
}

criterion_group!(benches, mailboxes);
criterion_main!(benches);
