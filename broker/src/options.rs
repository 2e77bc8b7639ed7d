//! What can be chosen when a broker is started, and the limits that follow from it.

mod connections;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use weir_protocol::limits::{BATCH_BYTES_MAX_DEFAULT, BATCH_FRAME_OVERHEAD_BYTES, RECORD_BODY_BYTES_MIN};
use weir_storage::store::KeyOptions;

use crate::core::NodeLimits;
use crate::core::answers::BATCH_BYTES;
use crate::core::coordinator::TopicLimits;
use crate::core::ingest::{IngestLimits, footprint};
use crate::core::publish::exceptions_bytes;
use crate::core::quota::QuotaLimits;
use crate::core::subscription::DeliveryLimits;
use crate::plan::{Demand, Plan, RECENT_KEY_BYTES};
pub use connections::ConnectionLimits;

/// Port a broker listens on unless told otherwise.
pub const PORT_DEFAULT: u16 = 7400;

/// Least memory a broker can be started with.
pub const MEMORY_BYTES_MIN: u64 = 64 << 20;

/// Most memory a broker takes by default; `weir serve` takes no more than a quarter of the machine's.
pub const MEMORY_BYTES_DEFAULT_MAX: u64 = 512 << 20;

/// The longest frame with a batch.
const LARGEST_FRAME_BYTES: u64 = (BATCH_BYTES_MAX_DEFAULT + BATCH_FRAME_OVERHEAD_BYTES) as u64;

/// The shortest record with an idempotency key: its body, and in the table a hash, a key of one byte with its length, and a
/// fingerprint.
const KEYED_RECORD_BYTES_MIN: u32 = RECORD_BODY_BYTES_MIN + 8 + 2 + 16;

/// How datagrams are sized.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum TransportChoice {
    /// Large datagrams for loopback addresses, standard ones for all others.
    #[default]
    Auto,
    /// Large datagrams.
    Loopback,
    /// Standard datagrams.
    Network,
}

/// What can be chosen when a broker is started.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServeOptions {
    /// Where the data is. Made if it does not exist.
    pub data_directory: PathBuf,
    /// Where to listen; port 0 picks a free one.
    pub listen: SocketAddr,
    /// Where to serve metrics and health; `None` for nowhere.
    pub metrics: Option<SocketAddr>,
    /// Certificate chain in PEM; with `tls_key`. Without both, a self-signed certificate is made.
    pub tls_certificate: Option<PathBuf>,
    /// Private key in PEM.
    pub tls_key: Option<PathBuf>,
    /// Listen beyond loopback although clients are not authenticated.
    pub insecure_listen: bool,
    /// Memory the broker may use, whatever clients do.
    pub memory_bytes: u64,
    /// Bytes the journal may grow to.
    pub journal_bytes_max: u64,
    /// Unflushed bytes at which a segment is written.
    pub flush_bytes: u64,
    /// Bytes that idempotency keys may take on the disk, about.
    pub key_disk_bytes: u64,
    /// Bytes of segments verified in a second, in the background; 0 for none.
    pub scrub_bytes_per_second: u64,
    /// How datagrams are sized.
    pub transport: TransportChoice,
    /// What connections are held to.
    pub connections: ConnectionLimits,
    /// What each client may use.
    pub quotas: QuotaLimits,
    /// Topics there may be; as many as the memory allows if `None`.
    pub topics_max: Option<u64>,
    /// Partitions there may be, of all topics together; as many as the memory allows if `None`.
    pub partitions_max: Option<u64>,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            data_directory: PathBuf::from("weir-data"),
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), PORT_DEFAULT),
            metrics: None,
            tls_certificate: None,
            tls_key: None,
            insecure_listen: false,
            memory_bytes: MEMORY_BYTES_DEFAULT_MAX,
            journal_bytes_max: 1 << 30,
            flush_bytes: FLUSH_BYTES_DEFAULT,
            key_disk_bytes: KeyOptions::default().disk_bytes,
            scrub_bytes_per_second: 8 << 20,
            transport: TransportChoice::Auto,
            connections: ConnectionLimits::default(),
            quotas: QuotaLimits::default(),
            topics_max: None,
            partitions_max: None,
        }
    }
}

/// Larger segments cost no less.
const FLUSH_BYTES_DEFAULT: u64 = 32 << 20;

/// Bytes gathered before they move to segments, unless somebody says otherwise: two segments of them fit the memory for what
/// is in none yet.
pub fn flush_bytes_of(memory_bytes: u64) -> u64 {
    (memory_bytes / 8).min(FLUSH_BYTES_DEFAULT)
}

/// Why options cannot be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum OptionsError {
    /// Too little memory to hold the largest batches in flight.
    #[error("memory of {bytes} bytes is too little: at least {min} bytes are needed (--memory)")]
    Memory {
        /// What was asked for.
        bytes: u64,
        /// What is needed.
        min: u64,
    },
    /// What clients may do could need more than there is.
    #[error("what is allowed does not fit the memory:\n{0}")]
    Exceeded(Box<Plan>),
    /// Listening beyond loopback needs authentication.
    #[error(
        "listening on {0} would let anybody on the network read and write: clients are not authenticated \
         (--insecure-listen if that is what you want)"
    )]
    Insecure(SocketAddr),
    /// Only one of certificate and key was given.
    #[error("a certificate needs its key and a key its certificate (--tls-cert and --tls-key)")]
    HalfCertificate,
    /// A number of zero where something is needed.
    #[error("{0} must not be 0")]
    Zero(&'static str),
    /// A time of nothing, or one that is as good as none.
    #[error("{name} of {value:?} is out of range: above zero, at most {max:?}")]
    Time {
        /// Which.
        name: &'static str,
        /// What was asked for.
        value: Duration,
        /// The most.
        max: Duration,
    },
    /// A window in which a connection cannot work, or that would overrun the socket.
    #[error("a window of {bytes} bytes is out of range: {min} to {max} bytes (--connection-window)")]
    Window {
        /// What was asked for.
        bytes: u32,
        /// The least.
        min: u32,
        /// The most.
        max: u32,
    },
}

impl ServeOptions {
    /// Checks that the choices fit together.
    ///
    /// # Errors
    /// The first that does not.
    pub fn check(&self) -> Result<(), OptionsError> {
        if self.memory_bytes < MEMORY_BYTES_MIN {
            return Err(OptionsError::Memory { bytes: self.memory_bytes, min: MEMORY_BYTES_MIN });
        }
        for (name, value) in [
            ("flush_bytes", Some(self.flush_bytes)),
            ("topics_max", self.topics_max),
            ("partitions_max", self.partitions_max),
        ] {
            if value == Some(0) {
                return Err(OptionsError::Zero(name));
            }
        }
        self.connections.check()?;
        for (name, rate) in [
            ("quota_publish_rate", self.quotas.publish_bytes_per_second),
            ("quota_read_rate", self.quotas.read_bytes_per_second),
        ] {
            if rate == Some(0) {
                return Err(OptionsError::Zero(name));
            }
        }
        let plan = self.plan();
        if !plan.fits() {
            return Err(OptionsError::Exceeded(Box::new(plan)));
        }
        if self.tls_certificate.is_some() != self.tls_key.is_some() {
            return Err(OptionsError::HalfCertificate);
        }
        if !self.listen.ip().is_loopback() && !self.insecure_listen {
            return Err(OptionsError::Insecure(self.listen));
        }
        Ok(())
    }

    /// How the memory is divided.
    pub fn plan(&self) -> Plan {
        self.plan_for(self.connections.connections_max, 0)
    }

    /// How the memory is divided, and whether so many connections and subscriptions fit.
    pub fn plan_for(&self, connections: Option<u64>, subscriptions: u64) -> Plan {
        let demand = Demand {
            connections,
            subscriptions,
            topics: self.topics_max,
            partitions: self.partitions_max,
            flush_bytes: self.flush_bytes,
            largest_batch_bytes: footprint(LARGEST_FRAME_BYTES),
            largest_answer_bytes: BATCH_BYTES
                + exceptions_bytes(u64::from(BATCH_BYTES_MAX_DEFAULT / KEYED_RECORD_BYTES_MIN)),
        };
        Plan::new(self.memory_bytes, &demand)
    }

    /// What a node is held to.
    pub fn node_limits(&self) -> NodeLimits {
        let plan = self.plan();
        NodeLimits {
            memory: plan.budget(),
            ingest: IngestLimits {
                window_bytes_min: LARGEST_FRAME_BYTES,
                window_bytes_max: 8 * LARGEST_FRAME_BYTES,
                turn_bytes: LARGEST_FRAME_BYTES,
            },
            topics: TopicLimits {
                topics_max: usize::try_from(plan.topics_max).unwrap_or(usize::MAX),
                partitions_max: plan.partitions_max,
                batch_bytes_max: BATCH_BYTES_MAX_DEFAULT,
                key_disk_bytes: self.key_disk_bytes,
            },
            delivery: DeliveryLimits {
                frame_bytes: 256 << 10,
                cold_bytes: 1 << 20,
                outbox_bytes: 2 << 20,
                cursors_per_lane_max: 10_000,
            },
        }
    }

    /// Memory for the table of the keys of unflushed batches. The rest of their share is for those on their way to a file, of
    /// which there are no more.
    pub fn recent_key_bytes(&self) -> u64 {
        self.plan().budget().dedup / RECENT_KEY_BYTES * weir_storage::dedup::RECENT_KEY_BYTES
    }

    /// Bytes of idle buffers for batches that come, and of those that flushed data is read into.
    pub fn idle_bytes(&self) -> (usize, usize) {
        let bytes = usize::try_from(self.plan().bytes_of("buffers")).unwrap_or(usize::MAX);
        let read = bytes / 4;
        (bytes - read, read)
    }

    /// Keys of flushed batches: memory for their filters, and room on the disk.
    pub fn key_options(&self) -> KeyOptions {
        KeyOptions { filter_bytes: self.plan().bytes_of("key-filters"), disk_bytes: self.key_disk_bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ledger::Ledger;

    #[test]
    fn the_default_is_consistent() {
        assert_eq!(ServeOptions::default().check(), Ok(()));
        let small = ServeOptions {
            memory_bytes: MEMORY_BYTES_MIN,
            flush_bytes: flush_bytes_of(MEMORY_BYTES_MIN),
            ..ServeOptions::default()
        };
        assert_eq!(small.check(), Ok(()));
        let limits = small.node_limits();
        crate::core::ingest::Ingest::new(limits.ingest, Ledger::new(limits.memory));
    }

    #[test]
    fn keys_stay_within_their_shares_of_the_memory() {
        for memory_bytes in [MEMORY_BYTES_MIN, MEMORY_BYTES_DEFAULT_MAX, 2 << 30] {
            let options = ServeOptions { memory_bytes, ..ServeOptions::default() };
            let plan = options.plan();
            let keys = options.recent_key_bytes() / weir_storage::dedup::RECENT_KEY_BYTES;
            assert!(keys > 20_000 && keys * RECENT_KEY_BYTES <= plan.bytes_of("dedup"), "{keys}");
            let filters = options.key_options().filter_bytes;
            assert!(plan.shares.iter().any(|share| share.name == "key-filters" && share.bytes == filters));
        }
    }

    #[test]
    fn listening_beyond_loopback_must_be_meant() {
        let open = ServeOptions { listen: ([0, 0, 0, 0], 7400).into(), ..ServeOptions::default() };
        assert_eq!(open.check(), Err(OptionsError::Insecure(open.listen)));
        assert_eq!(ServeOptions { insecure_listen: true, ..open }.check(), Ok(()));
    }
}
