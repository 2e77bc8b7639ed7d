//! The settings that bound what each client may use: their flags, and their values as the broker needs them.

use super::typed::{bytes, count, optional};
use super::{Key, Layers};
use crate::failure::Failure;

/// The flags.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Quotas of each client (by name and address)")]
pub(super) struct QuotaFlags {
    /// Bytes of batches published in a second [default: as many as there can be]
    #[arg(long, value_name = "SIZE")]
    quota_publish_rate: Option<String>,
    /// Bytes delivered in a second [default: as many as there can be]
    #[arg(long, value_name = "SIZE")]
    quota_read_rate: Option<String>,
    /// Connections at a time [default: as many as there can be]
    #[arg(long, value_name = "COUNT")]
    quota_connections: Option<String>,
    /// Lanes of producers and consumers at a time [default: as many as there can be]
    #[arg(long, value_name = "COUNT")]
    quota_streams: Option<String>,
}

impl QuotaFlags {
    /// The value of a setting's flag, if it is one of these and was given.
    #[expect(clippy::wildcard_enum_match_arm, reason = "all other settings have their flags elsewhere")]
    pub(super) fn value(&self, key: Key) -> Option<&str> {
        match key {
            Key::QuotaPublishRate => self.quota_publish_rate.as_deref(),
            Key::QuotaReadRate => self.quota_read_rate.as_deref(),
            Key::QuotaConnections => self.quota_connections.as_deref(),
            Key::QuotaStreams => self.quota_streams.as_deref(),
            _ => None,
        }
    }
}

/// What each client may use; nothing for as much as there is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct QuotaConfig {
    /// Bytes of batches published in a second.
    pub(crate) publish_bytes_per_second: Option<u64>,
    /// Bytes delivered in a second.
    pub(crate) read_bytes_per_second: Option<u64>,
    /// Connections at a time.
    pub(crate) connections_max: Option<u32>,
    /// Lanes at a time.
    pub(crate) streams_max: Option<u32>,
}

impl TryFrom<&Layers> for QuotaConfig {
    type Error = Failure;

    fn try_from(layers: &Layers) -> Result<Self, Failure> {
        Ok(Self {
            publish_bytes_per_second: optional(layers, Key::QuotaPublishRate, bytes)?,
            read_bytes_per_second: optional(layers, Key::QuotaReadRate, bytes)?,
            connections_max: optional(layers, Key::QuotaConnections, count)?,
            streams_max: optional(layers, Key::QuotaStreams, count)?,
        })
    }
}
