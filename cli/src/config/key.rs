//! The settings of `weir serve`, once: name in the file and the environment, and flag.

use std::fmt;

/// Declares the settings in one table, so that none can lack a name or a flag.
macro_rules! keys {
    ($($(#[$meta:meta])* $key:ident = $name:literal, $flag:literal;)*) => {
        /// A setting of the broker.
        #[expect(clippy::enum_variant_names, reason = "the key of a certificate is called key as well")]
        #[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
        pub(crate) enum Key {
            $($(#[$meta])* $key,)*
        }

        impl Key {
            /// Every setting, in the order in which they are shown.
            pub(crate) const ALL: &'static [Self] = &[$(Self::$key),*];

            /// Its name in the file: section and key.
            pub(crate) const fn name(self) -> &'static str {
                match self { $(Self::$key => $name,)* }
            }

            /// Its flag.
            pub(crate) const fn flag(self) -> &'static str {
                match self { $(Self::$key => $flag,)* }
            }
        }
    };
}

keys! {
    /// Address the broker listens on.
    Listen = "server.listen", "--listen";
    /// Directory that holds everything the broker stores.
    DataDir = "server.data_dir", "--data-dir";
    /// Address of the metrics page; off if empty.
    Metrics = "server.metrics", "--metrics";
    /// PEM file of the certificate chain; self-signed if empty.
    TlsCertificate = "server.tls_certificate", "--tls-certificate";
    /// PEM file of the private key.
    TlsKey = "server.tls_key", "--tls-key";
    /// Listen on other than loopback addresses without authentication.
    InsecureListen = "server.insecure_listen", "--insecure-listen";
    /// Transport profile.
    Transport = "server.transport", "--transport";
    /// Memory the broker may use, whatever clients do.
    Memory = "limits.memory", "--memory";
    /// Size the journal may grow to.
    JournalBytesMax = "limits.journal_bytes_max", "--journal-bytes-max";
    /// Bytes gathered in the journal before they move to segments; 32 MiB or what a smaller memory has room for if empty.
    FlushBytes = "limits.flush_bytes", "--flush-bytes";
    /// Bytes that idempotency keys may take on the disk.
    KeyDisk = "limits.key_disk", "--key-disk";
    /// Bytes of segments verified in a second; 0 for none.
    ScrubRate = "limits.scrub_rate", "--scrub-rate";
    /// Topics the broker may hold; as many as the memory allows if empty.
    TopicsMax = "limits.topics_max", "--topics-max";
    /// Partitions the broker may hold, of all topics together; as many as the memory allows if empty.
    PartitionsMax = "limits.partitions_max", "--partitions-max";
    /// Connections of all clients together.
    ConnectionsMax = "connections.max", "--connections-max";
    /// Connections from one address.
    ConnectionsPerAddressMax = "connections.per_address_max", "--connections-per-address-max";
    /// Handshakes in a second.
    HandshakeRate = "connections.handshake_rate", "--handshake-rate";
    /// Time for the handshake, and again for the greeting.
    HandshakeTimeout = "connections.handshake_timeout", "--handshake-timeout";
    /// Time after which a silent client is gone.
    IdleTimeout = "connections.idle_timeout", "--idle-timeout";
    /// Time in which a frame goes on and what was sent is taken.
    StalledTimeout = "connections.stalled_timeout", "--stalled-timeout";
    /// Streams of a connection.
    StreamsMax = "connections.streams_max", "--streams-max";
    /// Streams a connection may open in a second.
    StreamRate = "connections.stream_rate", "--stream-rate";
    /// Frames of a connection in a second that change nothing.
    IdleFrameRate = "connections.idle_frame_rate", "--idle-frame-rate";
    /// Bytes under way on a connection, in each direction.
    ConnectionWindow = "connections.window", "--connection-window";
    /// Bytes a client may publish in a second.
    QuotaPublishRate = "quotas.publish_rate", "--quota-publish-rate";
    /// Bytes a client may be delivered in a second.
    QuotaReadRate = "quotas.read_rate", "--quota-read-rate";
    /// Connections of a client.
    QuotaConnections = "quotas.connections", "--quota-connections";
    /// Lanes of a client.
    QuotaStreams = "quotas.streams", "--quota-streams";
    /// What is logged.
    LogLevel = "log.level", "--log-level";
    /// How it is logged.
    LogFormat = "log.format", "--log-format";
}

impl Key {
    /// The setting with this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|key| key.name() == name)
    }

    /// The variable that sets it.
    pub(crate) fn variable(self) -> String {
        format!("WEIR_{}", self.name().replace('.', "__").to_uppercase())
    }

    /// The name most like `unknown`, if one is like it at all.
    pub(crate) fn like(unknown: &str) -> Option<Self> {
        /// Below this, a proposal confuses more than it helps.
        const LIKENESS_MIN: f64 = 0.7;
        let likeness = |key: &Self| {
            let whole = strsim::jaro_winkler(unknown, key.name());
            let last = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
            // The right key in the wrong section, or none, is as good a guess.
            whole.max(strsim::jaro_winkler(&last(unknown), &last(key.name())))
        };
        let best = Self::ALL.iter().copied().max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
        (likeness(&best) >= LIKENESS_MIN).then_some(best)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_their_key() {
        for key in Key::ALL {
            assert_eq!(Key::named(key.name()), Some(*key));
        }
        assert_eq!(Key::named("server"), None);
        assert_eq!(Key::DataDir.variable(), "WEIR_SERVER__DATA_DIR");
    }

    #[test]
    fn near_misses_are_recognised_and_far_ones_are_not() {
        assert_eq!(Key::like("server.listne"), Some(Key::Listen));
        assert_eq!(Key::like("listen"), Some(Key::Listen));
        assert_eq!(Key::like("server.data_directory"), Some(Key::DataDir));
        assert_eq!(Key::like("log.lvel"), Some(Key::LogLevel));
        assert_eq!(Key::like("zzz.qqq"), None);
    }
}
