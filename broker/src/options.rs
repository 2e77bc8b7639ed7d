//! What can be chosen when a broker is started, and the limits that follow from it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use weir_protocol::limits::{BATCH_BYTES_MAX_DEFAULT, BATCH_FRAME_OVERHEAD_BYTES};

use crate::core::NodeLimits;
use crate::core::coordinator::TopicLimits;
use crate::core::ingest::IngestLimits;
use crate::core::subscription::DeliveryLimits;

/// Port a broker listens on unless told otherwise.
pub const PORT_DEFAULT: u16 = 7400;

/// Least memory a broker can be started with.
pub const MEMORY_BYTES_MIN: u64 = 64 << 20;

/// Most memory a broker takes by default; on a small machine it takes a quarter of that.
pub const MEMORY_BYTES_DEFAULT_MAX: u64 = 512 << 20;

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
    /// Memory the broker may use for what clients send and read.
    pub memory_bytes: u64,
    /// Bytes the journal may grow to.
    pub journal_bytes_max: u64,
    /// Unflushed bytes at which a segment is written.
    pub flush_bytes: u64,
    /// Bytes of segments verified in a second, in the background; 0 for none.
    pub scrub_bytes_per_second: u64,
    /// How datagrams are sized.
    pub transport: TransportChoice,
    /// Topics there may be.
    pub topics_max: usize,
    /// Partitions there may be, of all topics together.
    pub partitions_max: u64,
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
            flush_bytes: 32 << 20,
            scrub_bytes_per_second: 8 << 20,
            transport: TransportChoice::Auto,
            topics_max: 10_000,
            partitions_max: 100_000,
        }
    }
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
    /// One segment would need more than may be unflushed.
    #[error(
        "segments of {bytes} bytes do not fit: {max} bytes may be unflushed with this memory (--flush-bytes)"
    )]
    Flush {
        /// What was asked for.
        bytes: u64,
        /// What would fit.
        max: u64,
    },
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
        let ingest = self.ingest_limits();
        let max = (ingest.pool_bytes - ingest.in_flight_bytes) / 2;
        if self.flush_bytes > max {
            return Err(OptionsError::Flush { bytes: self.flush_bytes, max });
        }
        for (name, value) in [
            ("flush_bytes", self.flush_bytes),
            ("topics_max", self.topics_max as u64),
            ("partitions_max", self.partitions_max),
        ] {
            if value == 0 {
                return Err(OptionsError::Zero(name));
            }
        }
        if self.tls_certificate.is_some() != self.tls_key.is_some() {
            return Err(OptionsError::HalfCertificate);
        }
        if !self.listen.ip().is_loopback() && !self.insecure_listen {
            return Err(OptionsError::Insecure(self.listen));
        }
        Ok(())
    }

    /// What a node is held to: memory is divided into eighths.
    pub fn node_limits(&self) -> NodeLimits {
        NodeLimits {
            ingest: self.ingest_limits(),
            topics: TopicLimits {
                topics_max: self.topics_max,
                partitions_max: self.partitions_max,
                batch_bytes_max: BATCH_BYTES_MAX_DEFAULT,
            },
            delivery: DeliveryLimits {
                frame_bytes: 256 << 10,
                cold_bytes: 1 << 20,
                outbox_bytes: 2 << 20,
                cursors_per_lane_max: 10_000,
            },
            hot_bytes: self.memory_bytes / 8,
        }
    }

    const fn ingest_limits(&self) -> IngestLimits {
        let smallest = (BATCH_BYTES_MAX_DEFAULT + BATCH_FRAME_OVERHEAD_BYTES) as u64;
        IngestLimits {
            pool_bytes: self.memory_bytes / 8 * 3,
            in_flight_bytes: self.memory_bytes / 8,
            window_bytes_min: smallest,
            window_bytes_max: 8 * smallest,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_consistent() {
        assert_eq!(ServeOptions::default().check(), Ok(()));
        let small =
            ServeOptions { memory_bytes: MEMORY_BYTES_MIN, flush_bytes: 8 << 20, ..ServeOptions::default() };
        assert_eq!(small.check(), Ok(()));
        crate::core::ingest::Ingest::new(small.node_limits().ingest);
    }

    #[test]
    fn listening_beyond_loopback_must_be_meant() {
        let open = ServeOptions { listen: ([0, 0, 0, 0], 7400).into(), ..ServeOptions::default() };
        assert_eq!(open.check(), Err(OptionsError::Insecure(open.listen)));
        assert_eq!(ServeOptions { insecure_listen: true, ..open }.check(), Ok(()));
    }
}
