//! What the server counts, and the page that shows it in the text format of Prometheus.
//!
//! A fixed set of named figures, each a few atomics: counting takes no lock and never fails. Names tell the unit.

mod figure;
mod keyed;

use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};

use quinn::ConnectionError;
use weir_protocol::ErrorCode;
use weir_protocol::message::{DedupFigures, KeyedCounts, WaitsFor};

use crate::core::ledger::Pool;
use crate::core::node::NodeFigures;
pub use figure::{ByLabel, Counter, Gauge, Gauges, Histogram, Label};
use figure::{Figure, MICROSECONDS, PLAIN};
pub use keyed::KeyedTopics;

/// Whether clients should come.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Readiness {
    /// Not yet.
    #[default]
    Starting,
    /// Yes.
    Ready,
    /// No more: the broker is about to stop.
    Draining,
    /// No more: the broker cannot store anything and stops.
    Failed,
}

impl Readiness {
    /// What it is, with the reason where clients should not come.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Starting => "starting: the data is being recovered",
            Self::Ready => "ready",
            Self::Draining => "draining: the broker is about to stop",
            Self::Failed => "failed: the broker stops, its log tells why",
        }
    }
}

/// Holds the readiness of the moment. Shown as 1 when ready.
#[derive(Debug, Default)]
pub struct ReadinessFlag(AtomicU8);

impl ReadinessFlag {
    const STATES: [Readiness; 4] =
        [Readiness::Starting, Readiness::Ready, Readiness::Draining, Readiness::Failed];

    fn set(&self, readiness: Readiness) {
        let number = (0..).zip(Self::STATES).find(|(_, state)| *state == readiness);
        self.0.store(number.map_or(0, |(number, _)| number), Ordering::Relaxed);
    }

    fn value(&self) -> Readiness {
        let number = usize::from(self.0.load(Ordering::Relaxed));
        Self::STATES.get(number).copied().unwrap_or_default()
    }
}

impl Figure for ReadinessFlag {
    const KIND: &'static str = "gauge";

    fn write(&self, name: &str, page: &mut String) -> fmt::Result {
        fmt::Write::write_fmt(page, format_args!("{name} {}\n", u8::from(self.value() == Readiness::Ready)))
    }
}

/// Why a peer was not let in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// There are as many connections as there may be.
    Connections,
    /// There are as many connections from its address as there may be.
    Address,
    /// There are as many handshakes under way as there may be.
    Handshakes,
    /// Handshakes begin faster than they may, from its address or in all.
    Rate,
    /// Many handshakes are under way, and it had not proven its address: it may try again at once.
    Unproven,
    /// The broker is about to stop.
    Draining,
}

impl Label for Refusal {
    const NAME: &'static str = "reason";
    const ALL: &'static [Self] =
        &[Self::Connections, Self::Address, Self::Handshakes, Self::Rate, Self::Unproven, Self::Draining];

    fn text(self) -> String {
        match self {
            Self::Connections => "connections",
            Self::Address => "address",
            Self::Handshakes => "handshakes",
            Self::Rate => "rate",
            Self::Unproven => "unproven",
            Self::Draining => "draining",
        }
        .to_owned()
    }
}

impl Label for WaitsFor {
    const NAME: &'static str = "for";
    const ALL: &'static [Self] = Self::ALL;

    fn text(self) -> String {
        self.name().to_owned()
    }
}

impl Label for Pool {
    const NAME: &'static str = "pool";
    const ALL: &'static [Self] = &Self::ALL;

    fn text(self) -> String {
        self.name().to_owned()
    }
}

impl Label for ErrorCode {
    const NAME: &'static str = "code";
    const ALL: &'static [Self] = Self::ALL;

    fn text(self) -> String {
        format!("WEIR-{}", self.number())
    }
}

/// How a connection ended that the broker did not close.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ending {
    /// The peer closed it.
    Peer,
    /// The peer fell silent.
    Silence,
    /// QUIC itself failed.
    Transport,
}

impl Label for Ending {
    const NAME: &'static str = "by";
    const ALL: &'static [Self] = &[Self::Peer, Self::Silence, Self::Transport];

    fn text(self) -> String {
        match self {
            Self::Peer => "peer",
            Self::Silence => "silence",
            Self::Transport => "transport",
        }
        .to_owned()
    }
}

/// Bounds of the sync latency: from a fast disk's 50 us to a stalled one's seconds.
const SYNC_MICROSECONDS: &[u64] = &[
    50, 100, 200, 300, 500, 750, 1_000, 2_000, 3_000, 5_000, 10_000, 20_000, 50_000, 100_000, 500_000,
    2_000_000, 10_000_000,
];

/// Bounds of the commit size: from one block to more than a group ever holds.
const COMMIT_BYTES: &[u64] = &[
    4 << 10,
    8 << 10,
    16 << 10,
    32 << 10,
    64 << 10,
    128 << 10,
    256 << 10,
    512 << 10,
    1 << 20,
    2 << 20,
    4 << 20,
    8 << 20,
    16 << 20,
    32 << 20,
    64 << 20,
];

/// Declares every figure once: field, name on the page, and help, so that none can be counted and not shown.
macro_rules! metrics {
    ($($(#[doc = $help:literal])+ $field:ident: $kind:ty = $make:expr, $name:literal;)*) => {
        /// Everything the server counts.
        #[derive(Debug)]
        pub struct Metrics { $($(#[doc = $help])+ pub $field: $kind,)* }

        impl Default for Metrics {
            fn default() -> Self {
                Self { $($field: $make,)* }
            }
        }

        impl Metrics {
            /// The page, in the text format of Prometheus.
            pub fn render(&self) -> String {
                let mut page = String::with_capacity(16 << 10);
                $(figure::render(&self.$field, $name, concat!($($help),+), &mut page);)*
                page
            }
        }
    };
}

metrics! {
    /// Whether clients should come: 1 if so.
    readiness: ReadinessFlag = ReadinessFlag::default(), "weir_ready";
    /// Connections open now, those in the handshake included.
    connections: Gauge = Gauge::default(), "weir_connections";
    /// Connections whose handshake succeeded.
    connections_accepted: Counter = Counter::default(), "weir_connections_accepted_total";
    /// Connections not let in.
    connections_refused: ByLabel<Refusal> = ByLabel::default(), "weir_connections_refused_total";
    /// Handshakes that failed or took too long.
    handshakes_failed: Counter = Counter::default(), "weir_handshakes_failed_total";
    /// Connections the broker closed, by error code.
    connections_closed: ByLabel<ErrorCode> = ByLabel::default(), "weir_connections_closed_total";
    /// Connections that ended otherwise.
    connections_ended: ByLabel<Ending> = ByLabel::default(), "weir_connections_ended_total";
    /// Times a client had to wait, or was turned away, because it had used up a quota.
    throttled: Counter = Counter::default(), "weir_throttled_total";
    /// Streams open now.
    streams: Gauge = Gauge::default(), "weir_streams";
    /// Streams opened by clients.
    streams_opened: Counter = Counter::default(), "weir_streams_opened_total";
    /// Bytes received on streams.
    bytes_received: Counter = Counter::default(), "weir_received_bytes_total";
    /// Bytes sent on streams.
    bytes_sent: Counter = Counter::default(), "weir_sent_bytes_total";
    /// Batches appended.
    batches_appended: Counter = Counter::default(), "weir_appended_batches_total";
    /// Records appended.
    records_appended: Counter = Counter::default(), "weir_appended_records_total";
    /// Bytes of batches appended.
    bytes_appended: Counter = Counter::default(), "weir_appended_bytes_total";
    /// Batches that had been appended before and were answered with the first result.
    batches_duplicate: Counter = Counter::default(), "weir_duplicate_batches_total";
    /// Batches not appended, by error code.
    appends_rejected: ByLabel<ErrorCode> = ByLabel::default(), "weir_append_rejections_total";
    /// Groups of frames written to the journal and synced.
    journal_commits: Counter = Counter::default(), "weir_journal_commits_total";
    /// Bytes written to the journal.
    journal_bytes: Counter = Counter::default(), "weir_journal_written_bytes_total";
    /// Time a journal commit took, the sync included.
    journal_sync: Histogram = Histogram::new(SYNC_MICROSECONDS, MICROSECONDS), "weir_journal_sync_seconds";
    /// Size of journal commits.
    journal_commit_bytes: Histogram = Histogram::new(COMMIT_BYTES, PLAIN), "weir_journal_commit_bytes";
    /// Bytes of the journal that hold what is not in segments yet.
    journal_used_bytes: Gauge = Gauge::default(), "weir_journal_used_bytes";
    /// Bytes the journal can still take.
    journal_room_bytes: Gauge = Gauge::default(), "weir_journal_room_bytes";
    /// Flushes of the journal into segments.
    flushes: Counter = Counter::default(), "weir_flushes_total";
    /// Bytes written to segments.
    flushed_bytes: Counter = Counter::default(), "weir_flushed_bytes_total";
    /// Bytes durable in the journal and not in segments yet.
    unflushed_bytes: Gauge = Gauge::default(), "weir_unflushed_bytes";
    /// Bytes granted to producers and not used yet.
    ingest_credit_bytes: Gauge = Gauge::default(), "weir_ingest_credit_bytes";
    /// Bytes received from producers and not durable yet.
    ingest_held_bytes: Gauge = Gauge::default(), "weir_ingest_held_bytes";
    /// Publish lanes that wait for memory before they get more credit.
    ingest_waiting: Gauge = Gauge::default(), "weir_ingest_waiting_lanes";
    /// Lanes of producers and readers of partitions, by what they wait for. Counted once a second while anything happens.
    waits: Gauges<WaitsFor> = Gauges::default(), "weir_waiting";
    /// Bytes of memory taken, by what for.
    memory_taken: Gauges<Pool> = Gauges::default(), "weir_memory_taken_bytes";
    /// Bytes of memory that may be taken, by what for.
    memory_limit: Gauges<Pool> = Gauges::default(), "weir_memory_limit_bytes";
    /// Reads from segments.
    cold_reads: Counter = Counter::default(), "weir_cold_reads_total";
    /// Bytes read from segments.
    cold_read_bytes: Counter = Counter::default(), "weir_cold_read_bytes_total";
    /// Bytes of segments verified in the background.
    scrubbed_bytes: Counter = Counter::default(), "weir_scrubbed_bytes_total";
    /// Damaged ranges found by that, again in every pass. The log names them.
    scrub_damaged_ranges: Counter = Counter::default(), "weir_scrub_damaged_ranges_total";
    /// When all segments had last been verified, in seconds since 1970; 0 for not since the start.
    scrub_pass_ended: Gauge = Gauge::default(), "weir_scrub_last_pass_timestamp_seconds";
    /// Idempotency keys that were looked for on the disk.
    key_probes: Counter = Counter::default(), "weir_key_probes_total";
    /// Keyed records that were new.
    keyed_stored: Counter = Counter::default(), "weir_keyed_records_stored_total";
    /// Keyed records that had been stored before.
    keyed_duplicates: Counter = Counter::default(), "weir_keyed_records_duplicate_total";
    /// Keyed records whose key belonged to another one.
    keyed_conflicts: Counter = Counter::default(), "weir_keyed_records_conflict_total";
    /// Keyed records whose key was too old.
    keyed_expired: Counter = Counter::default(), "weir_keyed_records_expired_total";
    /// Keyed records that were refused for want of room for keys.
    keyed_full: Counter = Counter::default(), "weir_keyed_records_full_total";
    /// Records whose expectation was not met.
    expectations_unmet: Counter = Counter::default(), "weir_expectations_unmet_total";
    /// Idempotency keys in memory, of batches that are in no segment yet.
    keys_recent: Gauge = Gauge::default(), "weir_keys_recent";
    /// Idempotency keys on the disk.
    keys_flushed: Gauge = Gauge::default(), "weir_keys_flushed";
    /// Files of idempotency keys.
    key_generations: Gauge = Gauge::default(), "weir_key_generations";
    /// Files of idempotency keys that cannot be read: keys that may be in them are refused.
    key_generations_lost: Gauge = Gauge::default(), "weir_key_generations_lost";
    /// Bytes of idempotency keys on the disk.
    key_disk_bytes: Gauge = Gauge::default(), "weir_key_disk_bytes";
    /// Bytes of idempotency keys on the disk at which no more are taken.
    key_disk_limit_bytes: Gauge = Gauge::default(), "weir_key_disk_limit_bytes";
    /// Bytes of memory that filters of idempotency keys take.
    key_filter_bytes: Gauge = Gauge::default(), "weir_key_filter_bytes";
    /// Keyed records by topic and what became of them, of the first thousand topics by name that have any. Counted once a
    /// second while anything happens.
    keyed_by_topic: KeyedTopics = KeyedTopics::default(), "weir_topic_keyed_records_total";
    /// Bytes delivered to subscriptions.
    bytes_delivered: Counter = Counter::default(), "weir_delivered_bytes_total";
    /// Lanes of subscriptions open now.
    subscriptions: Gauge = Gauge::default(), "weir_subscription_lanes";
    /// Topics.
    topics: Gauge = Gauge::default(), "weir_topics";
    /// Partitions of all topics.
    partitions: Gauge = Gauge::default(), "weir_partitions";
    /// Panics that ended a connection. Each is a defect: please report it.
    panics: Counter = Counter::default(), "weir_panics_total";
}

impl Metrics {
    /// Says from now on whether clients should come.
    pub fn set_readiness(&self, readiness: Readiness) {
        self.readiness.set(readiness);
    }

    /// Whether clients should come.
    pub fn readiness(&self) -> Readiness {
        self.readiness.value()
    }

    /// Counts a connection that the broker closes.
    pub fn connection_closed(&self, code: ErrorCode) {
        self.connections_closed.increment(code);
    }

    /// Counts a connection that ended, unless the broker closed it: that is counted by
    /// [`Metrics::connection_closed`].
    pub fn connection_ended(&self, error: &ConnectionError) {
        let ending = match error {
            ConnectionError::LocallyClosed => return,
            ConnectionError::ApplicationClosed(_) => Ending::Peer,
            ConnectionError::TimedOut => Ending::Silence,
            ConnectionError::ConnectionClosed(_)
            | ConnectionError::VersionMismatch
            | ConnectionError::TransportError(_)
            | ConnectionError::Reset
            | ConnectionError::CidsExhausted => Ending::Transport,
        };
        self.connections_ended.increment(ending);
    }

    /// Shows the figures of the node.
    pub fn observe_node(&self, figures: &NodeFigures) {
        self.topics.set(figures.topics);
        self.partitions.set(figures.partitions);
        self.subscriptions.set(figures.subscription_lanes);
        self.ingest_credit_bytes.set(figures.granted_bytes);
        self.ingest_held_bytes.set(figures.held_bytes);
        self.ingest_waiting.set(figures.waiting_lanes);
        self.unflushed_bytes.set(figures.unflushed_bytes);
        self.memory_taken.set_all(figures.taken_bytes);
        self.batches_appended.follow(figures.appended_batches);
        self.records_appended.follow(figures.appended_records);
        self.bytes_appended.follow(figures.appended_bytes);
        self.batches_duplicate.follow(figures.duplicate_batches);
        self.keyed_stored.follow(figures.keyed.stored);
        self.keyed_duplicates.follow(figures.keyed.duplicates);
        self.keyed_conflicts.follow(figures.keyed.conflicts);
        self.keyed_expired.follow(figures.keyed.expired);
        self.keyed_full.follow(figures.keyed.full);
        self.expectations_unmet.follow(figures.unmet_expectations);
        self.keys_recent.set(figures.recent_keys);
    }

    /// Shows the figures of idempotency keys, and what became of those of some topics.
    pub fn observe_keys(&self, figures: &DedupFigures, topics: Vec<(String, KeyedCounts)>) {
        self.keys_flushed.set(figures.flushed_keys);
        self.key_generations.set(figures.generations);
        self.key_generations_lost.set(figures.lost_generations);
        self.key_disk_bytes.set(figures.disk_bytes);
        self.key_disk_limit_bytes.set(figures.disk_bytes_max);
        self.key_filter_bytes.set(figures.filter_bytes);
        self.keyed_by_topic.set(topics);
    }
}

#[cfg(test)]
mod tests;
