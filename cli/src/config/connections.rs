//! The settings that bound connections: their flags, and their values as the broker needs them.

use std::time::Duration;

use super::typed::{bytes, count, optional, required};
use super::{Key, Layers};
use crate::failure::Failure;
use crate::value::duration;

/// The flags.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Limits of connections")]
pub(super) struct ConnectionFlags {
    /// Connections of all clients together [default: as many as the memory allows]
    #[arg(long, value_name = "COUNT")]
    connections_max: Option<String>,
    /// Connections from one address, other than the machine's own [default: 64]
    #[arg(long, value_name = "COUNT")]
    connections_per_address_max: Option<String>,
    /// Handshakes in a second; one address gets a quarter [default: 1000]
    #[arg(long, value_name = "COUNT")]
    handshake_rate: Option<String>,
    /// Time for the handshake, and again for the greeting [default: 5s]
    #[arg(long, value_name = "TIME")]
    handshake_timeout: Option<String>,
    /// Time after which a silent client is gone [default: 30s]
    #[arg(long, value_name = "TIME")]
    idle_timeout: Option<String>,
    /// Time in which a frame goes on and what was sent is taken [default: 30s]
    #[arg(long, value_name = "TIME")]
    stalled_timeout: Option<String>,
    /// Streams of a connection [default: 256]
    #[arg(long, value_name = "COUNT")]
    streams_max: Option<String>,
    /// Streams a connection may open in a second [default: 1000]
    #[arg(long, value_name = "COUNT")]
    stream_rate: Option<String>,
    /// Frames of a connection in a second that change nothing [default: 1000]
    #[arg(long, value_name = "COUNT")]
    idle_frame_rate: Option<String>,
    /// Bytes under way on a connection, in each direction: 64KiB to 2MiB [default: 2MiB]
    #[arg(long, value_name = "SIZE")]
    connection_window: Option<String>,
}

impl ConnectionFlags {
    /// The value of a setting's flag, if it is one of these and was given.
    #[expect(clippy::wildcard_enum_match_arm, reason = "all other settings have their flags elsewhere")]
    pub(super) fn value(&self, key: Key) -> Option<&str> {
        match key {
            Key::ConnectionsMax => self.connections_max.as_deref(),
            Key::ConnectionsPerAddressMax => self.connections_per_address_max.as_deref(),
            Key::HandshakeRate => self.handshake_rate.as_deref(),
            Key::HandshakeTimeout => self.handshake_timeout.as_deref(),
            Key::IdleTimeout => self.idle_timeout.as_deref(),
            Key::StalledTimeout => self.stalled_timeout.as_deref(),
            Key::StreamsMax => self.streams_max.as_deref(),
            Key::StreamRate => self.stream_rate.as_deref(),
            Key::IdleFrameRate => self.idle_frame_rate.as_deref(),
            Key::ConnectionWindow => self.connection_window.as_deref(),
            _ => None,
        }
    }
}

/// What connections are held to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct ConnectionConfig {
    /// Connections of all clients together; as many as the memory allows without.
    pub(crate) connections_max: Option<u64>,
    /// Connections from one address.
    pub(crate) connections_per_address_max: usize,
    /// Handshakes in a second.
    pub(crate) handshakes_per_second: u32,
    /// Time for the handshake, and again for the greeting.
    pub(crate) handshake_within: Duration,
    /// Time after which a silent client is gone.
    pub(crate) idle_timeout: Duration,
    /// Time in which a frame goes on and what was sent is taken.
    pub(crate) stalled_within: Duration,
    /// Streams of a connection.
    pub(crate) streams_max: u32,
    /// Streams a connection may open in a second.
    pub(crate) streams_per_second: u32,
    /// Frames of a connection in a second that change nothing.
    pub(crate) idle_frames_per_second: u32,
    /// Bytes under way on a connection, in each direction.
    pub(crate) window_bytes: u32,
}

impl TryFrom<&Layers> for ConnectionConfig {
    type Error = Failure;

    fn try_from(layers: &Layers) -> Result<Self, Failure> {
        Ok(Self {
            connections_max: optional(layers, Key::ConnectionsMax, count)?,
            connections_per_address_max: required(layers, Key::ConnectionsPerAddressMax, count)?,
            handshakes_per_second: required(layers, Key::HandshakeRate, count)?,
            handshake_within: required(layers, Key::HandshakeTimeout, time)?,
            idle_timeout: required(layers, Key::IdleTimeout, time)?,
            stalled_within: required(layers, Key::StalledTimeout, time)?,
            streams_max: required(layers, Key::StreamsMax, count)?,
            streams_per_second: required(layers, Key::StreamRate, count)?,
            idle_frames_per_second: required(layers, Key::IdleFrameRate, count)?,
            window_bytes: required(layers, Key::ConnectionWindow, |text| {
                bytes(text).map(|bytes| u32::try_from(bytes).unwrap_or(u32::MAX))
            })?,
        })
    }
}

fn time(text: &str) -> Result<Duration, String> {
    match duration(text) {
        Ok(Duration::ZERO) => Err("it must be above zero".to_owned()),
        Ok(time) => Ok(time),
        Err(error) => Err(error.to_string()),
    }
}
