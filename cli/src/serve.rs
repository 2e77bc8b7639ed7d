//! `weir serve`: runs the broker. The only file that knows the broker's crate, beside `plan.rs` which shows its sums.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;
use weir_broker::options::{MEMORY_BYTES_DEFAULT_MAX, MEMORY_BYTES_MIN, flush_bytes_of};
use weir_broker::plan::Plan;
use weir_broker::{ConnectionLimits, OptionsError, QuotaLimits, ServeOptions, Server, TransportChoice};
use weir_client::context::{Context, Contexts};

use crate::arguments::Global;
use crate::code::Code;
use crate::config::{
    ConnectionConfig, Key, Layers, LogFormat, QuotaConfig, ServeConfig, ServeFlags, Transport,
};
use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::plan::PlanArguments;
use crate::value::{DurationText, SizeText};

/// The port brokers listen on unless told otherwise; one there is worth a context of its own.
const PORT_DEFAULT: u16 = 7400;

/// The context that a broker on the default port saves itself under.
const CONTEXT_LOCAL: &str = "local";

/// Runs a broker until SIGTERM or SIGINT.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Each setting may also stand in the environment, such as WEIR_SERVER__LISTEN, or in the file \
    of -c. 'weir config show --origin' prints all of them."
)]
pub(crate) struct ServeArguments {
    #[command(flatten)]
    flags: ServeFlags,
}

/// The value a setting has by itself, as text.
pub(crate) fn default_of(key: Key) -> String {
    let options = ServeOptions::default();
    match key {
        Key::Listen => options.listen.to_string(),
        Key::DataDir => options.data_directory.display().to_string(),
        Key::Metrics => options.metrics.map_or_else(String::new, |address| address.to_string()),
        Key::TlsCertificate
        | Key::TlsKey
        | Key::QuotaPublishRate
        | Key::QuotaReadRate
        | Key::QuotaConnections
        | Key::QuotaStreams => String::new(),
        Key::InsecureListen => options.insecure_listen.to_string(),
        Key::Transport => "auto".to_owned(),
        Key::Memory => SizeText(memory_default()).to_string(),
        Key::JournalBytesMax => SizeText(options.journal_bytes_max).to_string(),
        Key::ScrubRate => SizeText(options.scrub_bytes_per_second).to_string(),
        Key::KeyDisk => SizeText(options.key_disk_bytes).to_string(),
        Key::FlushBytes | Key::TopicsMax | Key::PartitionsMax => String::new(),
        Key::ConnectionsMax
        | Key::ConnectionsPerAddressMax
        | Key::HandshakeRate
        | Key::HandshakeTimeout
        | Key::IdleTimeout
        | Key::StalledTimeout
        | Key::StreamsMax
        | Key::StreamRate
        | Key::IdleFrameRate
        | Key::ConnectionWindow => connection_default(key, &options.connections),
        Key::LogLevel => "info".to_owned(),
        Key::LogFormat => "text".to_owned(),
    }
}

/// A quarter of the machine's memory, within what makes sense.
fn memory_default() -> u64 {
    let machine = rustix::system::sysinfo();
    let bytes = machine.totalram.saturating_mul(machine.mem_unit.into());
    (bytes / 4).clamp(MEMORY_BYTES_MIN, MEMORY_BYTES_DEFAULT_MAX)
}

#[expect(clippy::wildcard_enum_match_arm, reason = "all other settings have their defaults above")]
fn connection_default(key: Key, limits: &ConnectionLimits) -> String {
    let time = |time: Duration| DurationText(u64::try_from(time.as_micros()).unwrap_or(u64::MAX)).to_string();
    match key {
        Key::ConnectionsMax => limits.connections_max.map_or_else(String::new, |max| max.to_string()),
        Key::ConnectionsPerAddressMax => limits.connections_per_address_max.to_string(),
        Key::HandshakeRate => limits.handshakes_per_second.to_string(),
        Key::HandshakeTimeout => time(limits.handshake_within),
        Key::IdleTimeout => time(limits.idle_timeout),
        Key::StalledTimeout => time(limits.stalled_within),
        Key::StreamsMax => limits.streams_max.to_string(),
        Key::StreamRate => limits.streams_per_second.to_string(),
        Key::IdleFrameRate => limits.idle_frames_per_second.to_string(),
        Key::ConnectionWindow => SizeText(limits.window_bytes.into()).to_string(),
        _ => String::new(),
    }
}

/// Checks that the settings fit together.
pub(crate) fn check(config: &ServeConfig) -> Result<(), Failure> {
    options(config).check().map_err(|error| {
        let is_memory = matches!(error, OptionsError::Memory { .. } | OptionsError::Exceeded(_));
        let code = if is_memory { Code::Memory } else { Code::Configuration };
        Failure::new(Exit::Usage, code, error)
    })
}

/// How a broker with these settings divides its memory.
pub(crate) fn plan(arguments: &PlanArguments) -> Plan {
    let memory_bytes = arguments.memory.unwrap_or_else(memory_default);
    let options = ServeOptions {
        memory_bytes,
        topics_max: arguments.topics,
        partitions_max: arguments.partitions,
        flush_bytes: arguments.flush_bytes.unwrap_or_else(|| flush_bytes_of(memory_bytes)),
        ..ServeOptions::default()
    };
    options.plan_for(arguments.connections, arguments.subscriptions)
}

/// Runs `weir serve`.
pub(crate) fn run(arguments: &ServeArguments, global: &Global) -> Result<Exit, Failure> {
    let config = ServeConfig::try_from(&Layers::read(&arguments.flags)?)?;
    check(&config)?;
    start_log(&config)?;
    // The broker brings its own threads; this one only waits for signals.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Failed, Code::Start, format_args!("cannot start: {error}")))?;
    let exit = runtime.block_on(serve(&config, global));
    // Whatever the runtime still waits for must not hold up the end.
    runtime.shutdown_background();
    exit
}

async fn serve(config: &ServeConfig, global: &Global) -> Result<Exit, Failure> {
    let mut signals = Signals::listen()?;
    let server = tokio::select! {
        started = Server::start(options(config)) => started.map_err(|error| {
            Failure::new(Exit::Failed, Code::Start, error)
        })?,
        () = signals.received() => return Ok(Exit::Done),
    };
    announce(&server, global)?;
    if server.local_address().port() == PORT_DEFAULT {
        save_context(&server.url());
    }
    tokio::select! {
        error = server.failed() => {
            return Err(Failure::new(Exit::Failed, Code::Broken, error));
        }
        () = signals.received() => tracing::info!("stopping; a second signal ends at once"),
    }
    tokio::select! {
        stopped = server.stop() => {
            stopped.map_err(|error| Failure::new(Exit::Failed, Code::Broken, error))?;
        }
        () = signals.received() => tracing::warn!("ended at once: the next start recovers from the journal"),
    }
    Ok(Exit::Done)
}

fn options(config: &ServeConfig) -> ServeOptions {
    let (tls_certificate, tls_key): (Option<PathBuf>, Option<PathBuf>) = config.tls.clone().unzip();
    ServeOptions {
        data_directory: config.data_directory.clone(),
        listen: config.listen,
        metrics: config.metrics,
        tls_certificate,
        tls_key,
        insecure_listen: config.insecure_listen,
        memory_bytes: config.memory_bytes,
        journal_bytes_max: config.journal_bytes_max,
        flush_bytes: config.flush_bytes.unwrap_or_else(|| flush_bytes_of(config.memory_bytes)),
        key_disk_bytes: config.key_disk_bytes,
        scrub_bytes_per_second: config.scrub_bytes_per_second,
        transport: match config.transport {
            Transport::Auto => TransportChoice::Auto,
            Transport::Loopback => TransportChoice::Loopback,
            Transport::Network => TransportChoice::Network,
        },
        connections: connection_limits(&config.connections),
        quotas: quota_limits(&config.quotas),
        topics_max: config.topics_max,
        partitions_max: config.partitions_max,
    }
}

const fn connection_limits(config: &ConnectionConfig) -> ConnectionLimits {
    ConnectionLimits {
        connections_max: config.connections_max,
        connections_per_address_max: config.connections_per_address_max,
        handshakes_per_second: config.handshakes_per_second,
        handshake_within: config.handshake_within,
        idle_timeout: config.idle_timeout,
        stalled_within: config.stalled_within,
        streams_max: config.streams_max,
        streams_per_second: config.streams_per_second,
        idle_frames_per_second: config.idle_frames_per_second,
        window_bytes: config.window_bytes,
    }
}

const fn quota_limits(config: &QuotaConfig) -> QuotaLimits {
    QuotaLimits {
        publish_bytes_per_second: config.publish_bytes_per_second,
        read_bytes_per_second: config.read_bytes_per_second,
        connections_max: config.connections_max,
        streams_max: config.streams_max,
    }
}

/// Prints the one line that says that clients may come. A closed stdout does not stop a broker.
fn announce(server: &Server, global: &Global) -> Result<(), Failure> {
    let mut output = Output::open()?;
    let written = if global.json {
        let line = json!({ "ready": true, "url": server.url(), "pin": server.pin() });
        output.object(&line)
    } else {
        output.line(&format!("ready {}", server.url()))
    };
    if let Err(failure) = written.and_then(|()| output.finish()) {
        tracing::warn!("the ready line could not be printed: {failure}");
    }
    Ok(())
}

/// Lets `weir send` and `weir tail` in another terminal find the broker without a flag.
fn save_context(url: &str) {
    let saved = Contexts::load().and_then(|mut contexts| {
        contexts.contexts.insert(CONTEXT_LOCAL.to_owned(), Context { url: url.to_owned() });
        contexts.current = Some(CONTEXT_LOCAL.to_owned());
        contexts.save()
    });
    if let Err(error) = saved {
        tracing::warn!("the context '{CONTEXT_LOCAL}' was not saved, so clients need --url: {error}");
    }
}

fn start_log(config: &ServeConfig) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(&config.log_level)
        .map_err(|error| Failure::new(Exit::Usage, Code::Configuration, error))?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(LogWriter::default);
    match config.log_format {
        LogFormat::Text => log.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init(),
        LogFormat::Json => log.json().init(),
    }
    Ok(())
}

/// Stderr whose failures are ignored: a closed one must not stop a broker.
#[derive(Debug, Default)]
struct LogWriter;

impl std::io::Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        std::io::Write::write_all(&mut std::io::stderr(), bytes).ok();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The signals that ask a broker to stop.
#[derive(Debug)]
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind).map_err(|error| {
                Failure::new(Exit::Failed, Code::Start, format_args!("cannot listen for signals: {error}"))
            })
        };
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    /// Waits for the next of them.
    ///
    /// # Cancel safety
    /// No signal is lost.
    async fn received(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
