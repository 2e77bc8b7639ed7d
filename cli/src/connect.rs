//! From options, environment and contexts to a connected client, and the runtime that client commands share.

use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use weir_client::context::Contexts;
use weir_client::{Client, TransportProfile};

use crate::arguments::Global;
use crate::code::Code;
use crate::failure::{Exit, Failure};

/// How long connecting may take unless told otherwise: long enough for a slow network, short enough that a wrong
/// address is noticed by the person who typed it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long saying goodbye may take.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// What a command may choose about its connection.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ConnectOptions {
    /// How long connecting may take.
    pub(crate) timeout: Option<Duration>,
    /// Which transport profile to use.
    pub(crate) transport: TransportChoice,
}

/// Transport profile of a connection.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, clap::ValueEnum)]
pub(crate) enum TransportChoice {
    /// The one that suits the address of the broker.
    #[default]
    Auto,
    /// Packets that fit every network.
    Network,
    /// Large packets, for a broker on the same machine.
    Loopback,
}

impl From<TransportChoice> for TransportProfile {
    fn from(choice: TransportChoice) -> Self {
        match choice {
            TransportChoice::Auto => Self::Auto,
            TransportChoice::Network => Self::Network,
            TransportChoice::Loopback => Self::Loopback,
        }
    }
}

/// The runtime of a client command: one thread for what goes on beside the command itself, such as printing receipts. The
/// connection has a thread of its own.
pub(crate) fn runtime() -> Result<Runtime, Failure> {
    Builder::new_multi_thread().worker_threads(1).thread_name("weir-command").enable_all().build().map_err(
        |error| Failure::new(Exit::Failed, Code::File, format_args!("cannot start a thread: {error}")),
    )
}

/// The URL of the broker: the option or `WEIR_URL`, else the current context.
pub(crate) fn url(global: &Global) -> Result<String, Failure> {
    // A variable that is set to nothing is not set.
    if let Some(url) = global.url.as_ref().filter(|url| !url.is_empty()) {
        return Ok(url.clone());
    }
    let contexts = Contexts::load()?;
    contexts.current_url()?.map(str::to_owned).ok_or_else(|| {
        Failure::usage("no broker is named")
            .help("start one with 'weir serve', or name one with --url, WEIR_URL or 'weir ctx add NAME URL'")
    })
}

/// Says goodbye, so that the broker need not find out by itself. A broker that is gone is not waited for.
pub(crate) async fn disconnect(client: Client) {
    client.drain(DISCONNECT_TIMEOUT).await;
}

/// Connects to the broker.
pub(crate) async fn connect(global: &Global, options: ConnectOptions) -> Result<Client, Failure> {
    let url = url(global)?;
    let client = Client::builder(&url)
        .name(global.client_name.as_deref().unwrap_or(concat!("weir/", env!("CARGO_PKG_VERSION"))))
        .transport(options.transport.into())
        .connect_timeout(options.timeout.unwrap_or(CONNECT_TIMEOUT))
        .connect()
        .await?;
    Ok(client)
}
