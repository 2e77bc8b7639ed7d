//! The flags of `weir serve`, which `weir config` takes as well.

use std::path::PathBuf;

use super::Key;
use super::connections::ConnectionFlags;
use super::quotas::QuotaFlags;

/// Everything the broker can be told. Values are read later, together with those of file and environment, so that
/// a wrong one is explained the same way wherever it comes from.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct ServeFlags {
    /// Read settings from this file
    #[arg(short = 'c', long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Directory that holds everything the broker stores [default: weir-data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Address to listen on, UDP; port 0 takes a free one [default: 127.0.0.1:7400]
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// Address of the metrics page, TCP [default: off]
    #[arg(long, value_name = "HOST:PORT")]
    metrics: Option<String>,
    /// PEM file with the certificate chain [default: a self-signed one]
    #[arg(long, value_name = "FILE")]
    tls_certificate: Option<String>,
    /// PEM file with the private key of the certificate
    #[arg(long, value_name = "FILE")]
    tls_key: Option<String>,
    /// Listen on an address that others can reach although they need no permission
    #[arg(long)]
    insecure_listen: bool,
    /// Transport profile: auto chooses by the address of the client
    #[arg(long, value_name = "auto|loopback|network")]
    transport: Option<String>,
    /// Memory the broker may use, whatever clients do [default: a quarter of the machine's, at most 512MiB]
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,
    /// Size the journal may grow to
    #[arg(long, value_name = "SIZE")]
    journal_bytes_max: Option<String>,
    /// Bytes gathered in the journal before they move to segments
    #[arg(long, value_name = "SIZE")]
    flush_bytes: Option<String>,
    /// Bytes that idempotency keys may take on the disk, 55 each: beyond it records with keys are refused [default: 16GiB]
    #[arg(long, value_name = "SIZE")]
    key_disk: Option<String>,
    /// Bytes of what is stored to verify in a second, in the background; 0 for none [default: 8MiB]
    #[arg(long, value_name = "SIZE")]
    scrub_rate: Option<String>,
    /// Topics the broker may hold [default: as many as the memory allows, at most 10000]
    #[arg(long, value_name = "COUNT")]
    topics_max: Option<String>,
    /// Partitions the broker may hold, of all topics together [default: as many as the memory allows]
    #[arg(long, value_name = "COUNT")]
    partitions_max: Option<String>,
    #[command(flatten)]
    connections: ConnectionFlags,
    #[command(flatten)]
    quotas: QuotaFlags,
    /// What to log: error, warn, info, debug, trace, or directives such as info,weir_broker=debug
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// How to log
    #[arg(long, value_name = "text|json")]
    log_format: Option<String>,
}

impl ServeFlags {
    /// The value of a setting's flag, if it was given.
    pub(crate) fn value(&self, key: Key) -> Option<&str> {
        match key {
            Key::Listen => self.listen.as_deref(),
            Key::DataDir => self.data_dir.as_deref(),
            Key::Metrics => self.metrics.as_deref(),
            Key::TlsCertificate => self.tls_certificate.as_deref(),
            Key::TlsKey => self.tls_key.as_deref(),
            Key::InsecureListen => self.insecure_listen.then_some("true"),
            Key::Transport => self.transport.as_deref(),
            Key::Memory => self.memory.as_deref(),
            Key::JournalBytesMax => self.journal_bytes_max.as_deref(),
            Key::FlushBytes => self.flush_bytes.as_deref(),
            Key::KeyDisk => self.key_disk.as_deref(),
            Key::ScrubRate => self.scrub_rate.as_deref(),
            Key::TopicsMax => self.topics_max.as_deref(),
            Key::PartitionsMax => self.partitions_max.as_deref(),
            Key::ConnectionsMax
            | Key::ConnectionsPerAddressMax
            | Key::HandshakeRate
            | Key::HandshakeTimeout
            | Key::IdleTimeout
            | Key::StalledTimeout
            | Key::StreamsMax
            | Key::StreamRate
            | Key::IdleFrameRate
            | Key::ConnectionWindow => self.connections.value(key),
            Key::QuotaPublishRate | Key::QuotaReadRate | Key::QuotaConnections | Key::QuotaStreams => {
                self.quotas.value(key)
            }
            Key::LogLevel => self.log_level.as_deref(),
            Key::LogFormat => self.log_format.as_deref(),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        flags: ServeFlags,
    }

    #[test]
    fn each_key_is_set_by_the_flag_it_names() {
        for key in Key::ALL {
            let arguments: &[&str] = if *key == Key::InsecureListen {
                &["weir", key.flag()]
            } else {
                &["weir", key.flag(), "true"]
            };
            let parsed = Flags::try_parse_from(arguments).unwrap_or_else(|error| panic!("{key}: {error}"));
            assert_eq!(parsed.flags.value(*key), Some("true"), "{key}");
            let others = Key::ALL.iter().filter(|other| *other != key);
            for other in others {
                assert_eq!(parsed.flags.value(*other), None, "{key} set {other}");
            }
        }
    }
}
