//! Subscriptions that do not read, or hardly: many of them, on many connections, until they are dropped.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use quinn::{RecvStream, TransportConfig};
use tokio::sync::watch;
use tokio::task::JoinSet;
use weir_protocol::message::{Message, StartAt, SubscribeOpen, SubscribePartition};
use weir_protocol::units::{PartitionId, TopicId};

use super::{Greeted, greet_with};

/// How often a connection says that it is alive.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// Between two tries to come in, and between two bytes that are read.
const PAUSE: Duration = Duration::from_millis(20);

/// How what the broker sends is taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reading {
    /// As it comes, but no more is granted: an application that stands still.
    Granted(u64),
    /// A byte at a time, with a pause behind each, whatever is granted.
    ByteByByte,
    /// Not at all. The broker closes such connections; they come again.
    Never,
}

/// Subscriptions that do not read, on a thread of their own.
#[derive(Debug)]
pub struct Stalled {
    open: Arc<AtomicUsize>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Stalled {
    /// Begins to open so many lanes on each of so many connections, all of which read the first partition of a topic from
    /// its first record.
    ///
    /// # Panics
    /// If the system gives no thread.
    pub fn open(
        (broker, topic): (SocketAddr, TopicId),
        (connections, lanes): (usize, usize),
        reading: Reading,
    ) -> Self {
        let open = Arc::new(AtomicUsize::new(0));
        let (stop, stopped) = watch::channel(false);
        let lane = Lane { topic, reading, open: Arc::clone(&open) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("the system gives a reactor");
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                let mut all = JoinSet::new();
                for _ in 0..connections {
                    all.spawn(hold(broker, lanes, lane.clone(), stopped.clone()));
                }
                all.join_all().await;
            });
        });
        Self { open, stop, thread: Some(thread) }
    }

    /// Lanes that were opened so far and not closed since.
    pub fn lanes(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Waits until so many lanes are open.
    ///
    /// # Panics
    /// If they are not after `limit`.
    pub fn wait_for(&self, lanes: usize, limit: Duration) {
        let began = Instant::now();
        while self.lanes() < lanes {
            assert!(began.elapsed() < limit, "{} of {lanes} lanes are open", self.lanes());
            std::thread::sleep(PAUSE);
        }
    }
}

impl Drop for Stalled {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// What the lanes of all connections have in common.
#[derive(Clone, Debug)]
struct Lane {
    topic: TopicId,
    reading: Reading,
    open: Arc<AtomicUsize>,
}

/// A lane that is open; counted as long as it lives.
struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Holds a connection with its lanes, and a new one when the broker has closed it.
async fn hold(broker: SocketAddr, lanes: usize, lane: Lane, mut stopped: watch::Receiver<bool>) {
    while !*stopped.borrow() {
        let mut transport = TransportConfig::default();
        transport.keep_alive_interval(Some(KEEP_ALIVE));
        if let Ok(greeted) = greet_with(broker, transport).await {
            tokio::select! {
                _ = stall(&greeted, lanes, &lane) => {}
                _ = stopped.wait_for(|stopped| *stopped) => {}
            }
            greeted.connection.close(0u32.into(), b"");
            tokio::time::timeout(PAUSE, greeted.endpoint.wait_idle()).await.ok();
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Opens the lanes of a connection and stays until it is closed.
async fn stall(greeted: &Greeted, lanes: usize, lane: &Lane) -> anyhow::Result<()> {
    let mut tasks = JoinSet::new();
    let mut streams = Vec::new();
    for _ in 0..lanes {
        let (mut send, mut receive) = greeted.connection.open_bi().await?;
        send.write_all(&lane.first_frames()).await?;
        let lane = lane.clone();
        tasks.spawn(async move { lane.read(&mut receive).await });
        streams.push(send);
    }
    greeted.connection.closed().await;
    tasks.shutdown().await;
    Ok(())
}

impl Lane {
    fn first_frames(&self) -> Bytes {
        let limit_bytes = match self.reading {
            Reading::Granted(bytes) => bytes,
            Reading::ByteByByte | Reading::Never => u64::from(u32::MAX),
        };
        let open = SubscribeOpen { topic: self.topic, limit_bytes }.to_frame();
        let partition = PartitionId::ZERO;
        let start = SubscribePartition { partition, generation: 0, start: StartAt::Earliest }.to_frame();
        [open, start].concat().into()
    }

    /// Reads as it is to be read, until the stream ends.
    async fn read(&self, receive: &mut RecvStream) {
        // The first byte is of the answer that reading starts; a lane that is refused ends.
        if receive.read(&mut [0; 1]).await.is_err() {
            return;
        }
        self.open.fetch_add(1, Ordering::Relaxed);
        let _open = Open(Arc::clone(&self.open));
        match self.reading {
            Reading::Granted(_) => while let Ok(Some(_)) = receive.read_chunk(usize::MAX, true).await {},
            Reading::ByteByByte => {
                while let Ok(Some(_)) = receive.read(&mut [0; 1]).await {
                    tokio::time::sleep(PAUSE).await;
                }
            }
            Reading::Never => std::future::pending().await,
        }
    }
}
