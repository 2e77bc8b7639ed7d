//! Settings as the broker needs them: read once, at the edge, each mistake with its origin.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::num::ParseIntError;
use std::path::PathBuf;
use std::str::FromStr;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::connections::ConnectionConfig;
use super::quotas::QuotaConfig;
use super::{Key, Layers};
use crate::code::Code;
use crate::failure::{Exit, Failure};
use crate::value::size;

/// How the log is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object per event.
    Json,
}

/// Which transport profile the broker uses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Transport {
    /// The one that suits the address of each client.
    Auto,
    /// Large packets, for clients on the same machine.
    Loopback,
    /// Packets that fit every network.
    Network,
}

/// What `weir serve` runs with.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct ServeConfig {
    /// Address to listen on.
    pub(crate) listen: SocketAddr,
    /// Where everything is stored.
    pub(crate) data_directory: PathBuf,
    /// Address of the metrics page.
    pub(crate) metrics: Option<SocketAddr>,
    /// Certificate chain and private key; self-signed without.
    pub(crate) tls: Option<(PathBuf, PathBuf)>,
    /// Whether others than this machine may connect without authentication.
    pub(crate) insecure_listen: bool,
    /// Transport profile.
    pub(crate) transport: Transport,
    /// Memory for records in flight, waiting and cached.
    pub(crate) memory_bytes: u64,
    /// Size the journal may grow to.
    pub(crate) journal_bytes_max: u64,
    /// Bytes gathered in the journal before they move to segments.
    pub(crate) flush_bytes: Option<u64>,
    /// Bytes that idempotency keys may take on the disk.
    pub(crate) key_disk_bytes: u64,
    /// Bytes of segments verified in a second; 0 for none.
    pub(crate) scrub_bytes_per_second: u64,
    /// Topics the broker may hold; as many as the memory allows without.
    pub(crate) topics_max: Option<u64>,
    /// Partitions the broker may hold, of all topics together; as many as the memory allows without.
    pub(crate) partitions_max: Option<u64>,
    /// What connections are held to.
    pub(crate) connections: ConnectionConfig,
    /// What each client may use.
    pub(crate) quotas: QuotaConfig,
    /// What is logged.
    pub(crate) log_level: String,
    /// How it is logged.
    pub(crate) log_format: LogFormat,
}

impl TryFrom<&Layers> for ServeConfig {
    type Error = Failure;

    fn try_from(layers: &Layers) -> Result<Self, Failure> {
        let config = Self {
            listen: required(layers, Key::Listen, address)?,
            data_directory: required(layers, Key::DataDir, |text| Ok(PathBuf::from(text)))?,
            metrics: optional(layers, Key::Metrics, address)?,
            tls: tls(layers)?,
            insecure_listen: required(layers, Key::InsecureListen, flag)?,
            transport: required(layers, Key::Transport, transport)?,
            memory_bytes: required(layers, Key::Memory, bytes)?,
            journal_bytes_max: required(layers, Key::JournalBytesMax, bytes)?,
            flush_bytes: optional(layers, Key::FlushBytes, bytes)?,
            key_disk_bytes: required(layers, Key::KeyDisk, bytes)?,
            scrub_bytes_per_second: required(layers, Key::ScrubRate, |text| {
                size(text).map_err(|error| error.to_string())
            })?,
            topics_max: optional(layers, Key::TopicsMax, count)?,
            partitions_max: optional(layers, Key::PartitionsMax, count)?,
            connections: ConnectionConfig::try_from(layers)?,
            quotas: QuotaConfig::try_from(layers)?,
            log_level: required(layers, Key::LogLevel, log_level)?,
            log_format: required(layers, Key::LogFormat, log_format)?,
        };
        config.refuse_open_door()?;
        Ok(config)
    }
}

impl ServeConfig {
    /// Refuses to be reachable by others as long as nobody has to prove who they are.
    fn refuse_open_door(&self) -> Result<(), Failure> {
        if self.listen.ip().is_loopback() || self.insecure_listen {
            return Ok(());
        }
        let text = format_args!(
            "{} can be reached from other machines, and this version does not authenticate clients",
            self.listen
        );
        Err(Failure::new(Exit::Usage, Code::Configuration, text).help(format!(
            "listen on 127.0.0.1, or give {} to let everybody who reaches the port read and write",
            Key::InsecureListen.flag()
        )))
    }
}

/// Why a setting is wrong: a phrase that says what it must be.
type Wrong = String;

/// Reads a setting that must not be empty.
pub(super) fn required<T>(
    layers: &Layers,
    key: Key,
    read: impl FnOnce(&str) -> Result<T, Wrong>,
) -> Result<T, Failure> {
    optional(layers, key, read)?.ok_or_else(|| wrong(layers, key, "it must not be empty"))
}

/// Reads a setting that is off if empty.
pub(super) fn optional<T>(
    layers: &Layers,
    key: Key,
    read: impl FnOnce(&str) -> Result<T, Wrong>,
) -> Result<Option<T>, Failure> {
    match layers.setting(key).value.as_str() {
        "" => Ok(None),
        text => read(text).map(Some).map_err(|problem| wrong(layers, key, &problem)),
    }
}

fn wrong(layers: &Layers, key: Key, problem: &str) -> Failure {
    let setting = layers.setting(key);
    let text = format_args!("{key} = '{}' ({}): {problem}", setting.value, setting.origin);
    Failure::new(Exit::Usage, Code::Configuration, text)
}

fn tls(layers: &Layers) -> Result<Option<(PathBuf, PathBuf)>, Failure> {
    let path = |text: &str| Ok(PathBuf::from(text));
    let certificate = optional(layers, Key::TlsCertificate, path)?;
    let key = optional(layers, Key::TlsKey, path)?;
    match (certificate, key) {
        (Some(certificate), Some(key)) => Ok(Some((certificate, key))),
        (None, None) => Ok(None),
        (Some(_), None) => Err(wrong(layers, Key::TlsKey, "a certificate needs its private key")),
        (None, Some(_)) => Err(wrong(layers, Key::TlsCertificate, "a private key needs its certificate")),
    }
}

fn address(text: &str) -> Result<SocketAddr, Wrong> {
    let mut addresses = text
        .to_socket_addrs()
        .map_err(|error| format!("expected HOST:PORT, such as 127.0.0.1:7400: {error}"))?;
    addresses.next().ok_or_else(|| "the host has no address".to_owned())
}

pub(super) fn bytes(text: &str) -> Result<u64, Wrong> {
    match size(text) {
        Ok(0) => Err("it must be above zero".to_owned()),
        Ok(bytes) => Ok(bytes),
        Err(error) => Err(error.to_string()),
    }
}

pub(super) fn count<N: FromStr<Err = ParseIntError> + Default + PartialEq>(text: &str) -> Result<N, Wrong> {
    match text.parse::<N>() {
        Ok(count) if count == N::default() => Err("it must be above zero".to_owned()),
        Ok(count) => Ok(count),
        Err(error) => Err(format!("expected a whole number: {error}")),
    }
}

fn flag(text: &str) -> Result<bool, Wrong> {
    text.parse().map_err(|error: std::str::ParseBoolError| format!("expected true or false: {error}"))
}

fn transport(text: &str) -> Result<Transport, Wrong> {
    match text {
        "auto" => Ok(Transport::Auto),
        "loopback" => Ok(Transport::Loopback),
        "network" => Ok(Transport::Network),
        _ => Err("expected auto, loopback or network".to_owned()),
    }
}

fn log_level(text: &str) -> Result<String, Wrong> {
    const EXPECTED: &str =
        "expected error, warn, info, debug, trace or directives such as info,weir_broker=debug";
    // A bare word that is no level would be taken for the name of a module, and nothing would be logged.
    let is_bare_word =
        |directive: &str| !directive.contains('=') && directive.parse::<LevelFilter>().is_err();
    if text.split(',').any(is_bare_word) {
        return Err(EXPECTED.to_owned());
    }
    match EnvFilter::try_new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(format!("{EXPECTED}: {error}")),
    }
}

fn log_format(text: &str) -> Result<LogFormat, Wrong> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("expected text or json".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::ServeFlags;
    use super::*;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        flags: ServeFlags,
    }

    fn typed(flags: &[&str]) -> Result<ServeConfig, Failure> {
        let flags = Flags::try_parse_from([&["weir"], flags].concat()).unwrap().flags;
        ServeConfig::try_from(&Layers::read(&flags)?)
    }

    #[test]
    fn the_defaults_are_a_valid_configuration() {
        let config = typed(&[]).unwrap();
        assert_eq!(config.listen, "127.0.0.1:7400".parse().unwrap());
        assert_eq!((config.metrics, config.tls), (None, None));
        assert_eq!(config.log_format, LogFormat::Text);
    }

    #[test]
    fn a_public_address_needs_the_flag_that_says_so() {
        let refused = typed(&["--listen", "0.0.0.0:7400"]).unwrap_err();
        assert_eq!(refused.exit, Exit::Usage);
        assert!(refused.to_string().contains("--insecure-listen"), "{refused}");
        assert!(typed(&["--listen", "0.0.0.0:7400", "--insecure-listen"]).is_ok());
        assert!(typed(&["--listen", "[::1]:0"]).is_ok());
    }

    #[test]
    fn a_wrong_value_names_key_value_and_origin() {
        let text = typed(&["--memory", "lots"]).unwrap_err().to_string();
        assert!(text.contains("limits.memory = 'lots' (flag --memory): expected a whole number"), "{text}");
        for flags in [
            ["--listen", "7400"],
            ["--transport", "fast"],
            ["--topics-max", "0"],
            ["--log-format", "xml"],
            ["--log-level", "weir=loud"],
            ["--log-level", "inof"],
            ["--flush-bytes", "0"],
            ["--data-dir", ""],
            ["--idle-timeout", "0s"],
            ["--streams-max", "many"],
            ["--connection-window", "wide"],
        ] {
            assert_eq!(typed(&flags).unwrap_err().exit, Exit::Usage, "{flags:?}");
        }
    }

    #[test]
    fn a_scrub_rate_of_nothing_switches_it_off() {
        assert_eq!(typed(&["--scrub-rate", "0"]).unwrap().scrub_bytes_per_second, 0);
        assert_eq!(typed(&[]).unwrap().scrub_bytes_per_second, 8 << 20);
        assert_eq!(typed(&["--scrub-rate", "slow"]).unwrap_err().exit, Exit::Usage);
    }

    #[test]
    fn certificate_and_key_come_together() {
        assert!(typed(&["--tls-key", "k.pem"]).unwrap_err().to_string().contains("server.tls_certificate"));
        let config = typed(&["--tls-key", "k.pem", "--tls-certificate", "c.pem"]).unwrap();
        assert_eq!(config.tls, Some(("c.pem".into(), "k.pem".into())));
    }
}
