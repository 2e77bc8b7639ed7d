//! Start and stop: wires the parts together, and takes them apart in an order that loses nothing.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::task::LocalSet;
use tokio_util::sync::CancellationToken;
use weir_protocol::limits::{
    BATCH_BYTES_MAX_DEFAULT, BATCH_FRAME_OVERHEAD_BYTES, LANES_MAX_DEFAULT, RECORD_BYTES_MAX_DEFAULT,
    UNACKED_BATCHES_MAX,
};
use weir_protocol::message::ServerLimits;
use weir_storage::dedup::{RECENT_KEY_BYTES, Recent};
use weir_storage::disk::os::OsDisk;
use weir_storage::journal::JournalOptions;
use weir_storage::limits::JOURNAL_FILES_LIMIT;
use weir_storage::store::{OpenError, OpenOptions, Opened, SNAPSHOTS_DIRECTORY};

use crate::core::Node;
use crate::core::dedup::{Dedup, flush_keys_of};
use crate::core::ledger::Pool;
use crate::core::quota::Quotas;
use crate::core::session::Identity;
use crate::options::{ConnectionLimits, OptionsError, ServeOptions};
use crate::pool::BufferPool;
use crate::queue::{Receiver, Sender, mailbox};
use crate::server::Fatal;
use crate::server::clock::{Clock, wall_now};
use crate::server::cold::ColdReaders;
use crate::server::connection::Context;
use crate::server::endpoint::{BindError, Carrier};
use crate::server::failure::Failures;
use crate::server::flusher::FlusherThread;
use crate::server::journal::JournalThread;
use crate::server::keys::FlushedKeys;
use crate::server::metrics::Metrics;
use crate::server::network::{Network, Sockets};
use crate::server::node::{NodeTask, ToNode};
use crate::server::scrub::{Never, ScrubThread};
use crate::server::tls::{TlsError, TlsIdentity};

/// Messages between the parts that may wait: more than credit and limits let be under way.
const MESSAGES_MAX: usize = 1 << 20;

/// A broker has stopped by then, whatever clients do.
const STOP_WITHIN: Duration = Duration::from_secs(9);

/// Why a broker did not start. Nothing is left running.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The options contradict each other.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// The data cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The address cannot be used.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The system gives no thread or no runtime.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    /// The broker ended while it started.
    #[error("the broker ended while it started: {0}")]
    Stopped(Fatal),
}

/// A running broker.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    metrics_address: Option<SocketAddr>,
    pin: String,
    failures: Failures,
    stop: CancellationToken,
    stopped: oneshot::Receiver<()>,
    threads: Vec<JoinHandle<()>>,
}

impl Server {
    /// Starts a broker and returns once it serves.
    ///
    /// # Errors
    /// Why it cannot; nothing is left running then.
    ///
    /// # Cancel safety
    /// A broker whose start is abandoned ends by itself.
    pub async fn start(options: ServeOptions) -> Result<Self, StartError> {
        Self::begin(options, None).await
    }

    /// As [`Server::start`], but serves clients on what it is given instead of a socket of its own. What the options say of
    /// the address does not count.
    ///
    /// # Errors
    /// Why it cannot; nothing is left running then.
    ///
    /// # Cancel safety
    /// A broker whose start is abandoned ends by itself.
    pub async fn start_on(mut options: ServeOptions, carrier: Carrier) -> Result<Self, StartError> {
        let address = carrier.local_address();
        options.listen = address.map_err(|source| BindError::new(options.listen, "UDP", source))?;
        Self::begin(options, Some(carrier)).await
    }

    async fn begin(options: ServeOptions, carrier: Option<Carrier>) -> Result<Self, StartError> {
        options.check()?;
        let (answer, started) = oneshot::channel();
        let failures = Failures::default();
        let reported = failures.clone();
        let run = move || {
            run(options, carrier, reported, answer);
            Ok::<(), Fatal>(())
        };
        let node = super::spawn("weir-node", failures.clone(), run).map_err(StartError::Thread)?;
        let mut server = match started.await {
            Ok(started) => started?,
            Err(_dropped) => {
                return Err(StartError::Thread(io::Error::other("the broker's thread ended")));
            }
        };
        server.threads.push(node);
        Ok(server)
    }

    /// Where it listens.
    pub const fn local_address(&self) -> SocketAddr {
        self.address
    }

    /// Where it serves metrics and health.
    pub const fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics_address
    }

    /// The certificate's fingerprint, as it stands in URLs: `sha256:` and 64 hexadecimal digits.
    pub fn pin(&self) -> String {
        self.pin.clone()
    }

    /// What clients connect to.
    pub fn url(&self) -> String {
        format!("weir://{}?pin={}", self.address, self.pin)
    }

    /// Waits until the broker cannot go on.
    ///
    /// # Cancel safety
    /// Nothing is lost if it is dropped.
    pub async fn failed(&self) -> Arc<Fatal> {
        self.failures.wait().await
    }

    /// Stops: tells clients, answers what was taken, writes everything out. Ends within ten seconds.
    ///
    /// # Errors
    /// What kept the broker from writing everything out; the next start recovers it.
    ///
    /// # Cancel safety
    /// If dropped, the broker goes on stopping.
    pub async fn stop(self) -> Result<(), Fatal> {
        self.stop.cancel();
        if tokio::time::timeout(STOP_WITHIN, self.stopped).await.is_err() {
            return Err(Fatal::StopTimeout(STOP_WITHIN));
        }
        for thread in self.threads {
            // A thread's panic is among the failures already.
            let _panicked = thread.join();
        }
        match self.failures.first() {
            None => Ok(()),
            Some(first) => Err(Fatal::Earlier(first)),
        }
    }
}

/// Runs a broker on this thread, from start to stop.
fn run(
    options: ServeOptions,
    carrier: Option<Carrier>,
    failures: Failures,
    answer: oneshot::Sender<Result<Server, StartError>>,
) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _abandoned = answer.send(Err(StartError::Thread(error)));
            return;
        }
    };
    let (stopped, stopped_receiver) = oneshot::channel();
    LocalSet::new().block_on(&runtime, async move {
        let mut threads = Vec::new();
        let prepared = match prepare(&options, carrier, &failures, &mut threads) {
            Ok(prepared) => prepared,
            Err(error) => {
                let _abandoned = answer.send(Err(error));
                return;
            }
        };
        let stop = CancellationToken::new();
        let server = Server {
            address: prepared.network.local_address(),
            metrics_address: prepared.network.metrics_address(),
            pin: prepared.pin,
            failures: failures.clone(),
            stop: stop.clone(),
            stopped: stopped_receiver,
            threads: Vec::new(),
        };
        if answer.send(Ok(server)).is_err() {
            stop.cancel();
        }
        prepared.network.run(prepared.node, prepared.to_node, (stop, failures)).await;
        drop(prepared.scrub);
        for thread in threads {
            // A thread's panic is among the failures already.
            let _panicked = thread.join();
        }
        drop(prepared.lock);
    });
    // Whoever stopped the broker may have stopped waiting.
    let _gone = stopped.send(());
}

/// A broker whose threads run and whose sockets are bound, and that serves nobody yet.
struct Prepared {
    network: Network,
    node: NodeTask,
    to_node: Sender<ToNode>,
    pin: String,
    /// The scrub ends when it is dropped.
    scrub: Option<Sender<Never>>,
    lock: Box<dyn std::fmt::Debug>,
}

fn prepare(
    options: &ServeOptions,
    carrier: Option<Carrier>,
    failures: &Failures,
    threads: &mut Vec<JoinHandle<()>>,
) -> Result<Prepared, StartError> {
    let sockets = Sockets::bind(options, carrier)?;
    let began = std::time::Instant::now();
    let open = OpenOptions {
        journal: journal_options(options),
        keys: options.key_options(),
        idle_read_bytes: options.idle_bytes().1,
        ..OpenOptions::default()
    };
    let opened = open_data(&options.data_directory, open)?;
    // The certificate comes second: a directory that is not the broker's is left as it was.
    let tls = TlsIdentity::load(
        &options.data_directory.join("tls"),
        options.tls_certificate.as_deref(),
        options.tls_key.as_deref(),
    )?;
    tracing::info!(report = ?opened.report, elapsed = ?began.elapsed(), "data directory opened");
    for what in &opened.report.damaged {
        tracing::error!(what, "a segment is damaged: all that is left of it is served");
    }
    for (partition, Range { start, end }) in &opened.report.unreadable {
        tracing::error!(%partition, from = %start, to = %end, "stored records are damaged");
    }
    let metrics = Arc::new(Metrics::default());
    let identity = identity(&opened, options);
    let pin = tls.pin();
    let (to_node, requests) = mailbox(MESSAGES_MAX);
    let (gate_sender, gate) = watch::channel(true);
    let context = Context {
        identity,
        pool: BufferPool::new(options.idle_bytes().0),
        node: to_node.clone(),
        limits: ConnectionLimits {
            connections_max: Some(options.plan().connections_max),
            ..options.connections
        },
        quotas: Rc::new(RefCell::new(Quotas::new(options.quotas))),
        clock: Clock::start(),
        gate,
        metrics: Arc::clone(&metrics),
        going_away: CancellationToken::new(),
    };
    let network = Network::new(options, sockets, &tls, context)?;
    let Storage { node, scrub, lock } =
        start_storage(opened, options, (failures, metrics), (requests, gate_sender), threads)
            .map_err(StartError::Thread)?;
    Ok(Prepared { network, node, to_node, pin, scrub, lock })
}

/// Opens the data. A directory that turns out to hold something else is left as it was found.
fn open_data(directory: &Path, options: OpenOptions) -> Result<Opened<OsDisk>, OpenError> {
    let lock = directory.join("lock");
    let was_there = lock.exists();
    // Storage looks at what lies above.
    let whole = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
    let opened = weir_storage::store::open(OsDisk, &whole, options, wall_now());
    if let Err(OpenError::NotADataDirectory { .. } | OpenError::UnfinishedSnapshot { .. }) = &opened
        && !was_there
        && let Err(error) = std::fs::remove_file(&lock)
    {
        tracing::warn!(path = %lock.display(), %error, "the lock cannot be removed");
    }
    opened
}

/// A ring that starts as it always does and grows as far as it may.
fn journal_options(options: &ServeOptions) -> JournalOptions {
    let defaults = JournalOptions::default();
    let files_max = u32::try_from(options.journal_bytes_max / defaults.file_bytes).unwrap_or(u32::MAX);
    JournalOptions { files_max: files_max.clamp(defaults.files, JOURNAL_FILES_LIMIT), ..defaults }
}

/// What clients are told.
fn identity(opened: &Opened<OsDisk>, options: &ServeOptions) -> Identity {
    Identity {
        incarnation: opened.incarnation,
        node: opened.node.into_bytes(),
        limits: ServerLimits {
            frame_bytes_max: BATCH_BYTES_MAX_DEFAULT + BATCH_FRAME_OVERHEAD_BYTES,
            batch_bytes_max: BATCH_BYTES_MAX_DEFAULT,
            record_bytes_max: RECORD_BYTES_MAX_DEFAULT,
            unacked_batches_max: u32::try_from(UNACKED_BATCHES_MAX).expect("a small constant"),
            lanes_max: LANES_MAX_DEFAULT,
            streams_max: options.connections.streams_max,
        },
    }
}

/// The node with everything under it running.
struct Storage {
    node: NodeTask,
    scrub: Option<Sender<Never>>,
    lock: Box<dyn std::fmt::Debug>,
}

/// Starts the threads of storage, and makes the node that drives them.
fn start_storage(
    opened: Opened<OsDisk>,
    options: &ServeOptions,
    (failures, metrics): (&Failures, Arc<Metrics>),
    (requests, gate): (Receiver<ToNode>, watch::Sender<bool>),
    threads: &mut Vec<JoinHandle<()>>,
) -> io::Result<Storage> {
    let (to_completions, completions) = mailbox(MESSAGES_MAX);
    let (to_journal, journal_inbox) = mailbox(MESSAGES_MAX);
    let (to_flusher, flusher_inbox) = mailbox(MESSAGES_MAX);
    let node = Node::recovered(
        options.node_limits(),
        &opened.state,
        |key| opened.reader.partition_bytes(key),
        Dedup::new(
            opened.key_seed,
            Recent::new(options.recent_key_bytes()),
            Box::new(FlushedKeys(opened.reader.clone())),
        ),
        (opened.incarnation, seed()),
    );
    let (cold, cold_threads) = ColdReaders::start(&opened.reader, &to_completions, (&metrics, failures))?;
    threads.extend(cold_threads);
    let mut scrub = None;
    if options.scrub_bytes_per_second > 0 {
        let figures = (&metrics, failures);
        let (end, thread) = ScrubThread::start(&opened.reader, options.scrub_bytes_per_second, figures)?;
        scrub = Some(end);
        threads.push(thread);
    }
    let flusher = FlusherThread {
        flusher: opened.flusher,
        reader: opened.reader,
        snapshots: options.data_directory.join(SNAPSHOTS_DIRECTORY),
        inbox: flusher_inbox,
        node: to_completions.clone(),
        journal: to_journal.clone(),
        metrics: Arc::clone(&metrics),
        failures: failures.clone(),
        flush_bytes: options.flush_bytes,
        flush_keys: flush_keys_of(options.recent_key_bytes() / RECENT_KEY_BYTES),
    };
    threads.push(flusher.start()?);
    let journal = JournalThread {
        journal: opened.journal,
        inbox: journal_inbox,
        node: to_completions,
        flusher: to_flusher,
        metrics: Arc::clone(&metrics),
        failures: failures.clone(),
    };
    threads.push(journal.start()?);
    metrics.memory_limit.set_all(Pool::ALL.map(|pool| node.ledger().limit(pool)));
    let clock = Clock::start();
    let node = NodeTask { node, completions, requests, journal: to_journal, cold, clock, gate, metrics };
    Ok(Storage { node, scrub, lock: Box::new(opened.lock) })
}

/// A number that differs from start to start, to make identities from.
fn seed() -> u64 {
    uuid::Uuid::new_v4().as_u64_pair().0
}
