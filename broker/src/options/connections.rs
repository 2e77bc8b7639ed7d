//! What connections are held to.

use std::time::Duration;

use super::OptionsError;
use crate::core::conduct::ConductLimits;

/// What one connection, and all of them together, may cost. Each limit has a default that suits most.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ConnectionLimits {
    /// Connections of all peers together, those in the handshake included; as many as the memory allows if `None`.
    pub connections_max: Option<u64>,
    /// Connections from one address (IPv6: one /64 network), unless it is the machine itself: one host cannot take
    /// them all.
    pub connections_per_address_max: usize,
    /// Handshakes begun in a second, of all peers together; one address gets a quarter of them. Each costs a signature.
    pub handshakes_per_second: u32,
    /// Time for the handshake, and again for the greeting.
    pub handshake_within: Duration,
    /// A peer that is silent for so long is gone. Clients send keep-alives well within it.
    pub idle_timeout: Duration,
    /// A frame that was begun goes on, and what a peer was sent is taken, within this time.
    pub stalled_within: Duration,
    /// Streams a connection may have open: the lanes of a good many producers and subscriptions.
    pub streams_max: u32,
    /// Streams a connection may open in a second.
    pub streams_per_second: u32,
    /// Frames of a connection in a second that change nothing.
    pub idle_frames_per_second: u32,
    /// Bytes that may be under way on one connection in each direction. With jumbo datagrams more than the socket's
    /// buffer takes would be lost, and more buys no throughput even then.
    pub window_bytes: u32,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            connections_max: None,
            connections_per_address_max: 64,
            handshakes_per_second: 1000,
            handshake_within: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(30),
            stalled_within: Duration::from_secs(30),
            streams_max: 256,
            streams_per_second: 1000,
            idle_frames_per_second: 1000,
            window_bytes: 2 << 20,
        }
    }
}

/// Smallest and largest window: a greeting and its answer, and what the socket's buffers take.
const WINDOW_BYTES: std::ops::RangeInclusive<u32> = 64 << 10..=2 << 20;

/// Longest time that can be chosen: more is no limit.
const TIME_MAX: Duration = Duration::from_secs(24 * 3600);

impl ConnectionLimits {
    pub(super) fn check(&self) -> Result<(), OptionsError> {
        for (name, value) in [
            (
                "connections_max",
                self.connections_max.map_or(1, |max| usize::try_from(max).unwrap_or(usize::MAX)),
            ),
            ("connections_per_address_max", self.connections_per_address_max),
            ("handshakes_per_second", self.handshakes_per_second as usize),
            ("streams_max", self.streams_max as usize),
            ("streams_per_second", self.streams_per_second as usize),
            ("idle_frames_per_second", self.idle_frames_per_second as usize),
        ] {
            if value == 0 {
                return Err(OptionsError::Zero(name));
            }
        }
        for (name, value) in [
            ("handshake_within", self.handshake_within),
            ("idle_timeout", self.idle_timeout),
            ("stalled_within", self.stalled_within),
        ] {
            if value.is_zero() || value > TIME_MAX {
                return Err(OptionsError::Time { name, value, max: TIME_MAX });
            }
        }
        if !WINDOW_BYTES.contains(&self.window_bytes) {
            let (min, max) = WINDOW_BYTES.into_inner();
            return Err(OptionsError::Window { bytes: self.window_bytes, min, max });
        }
        Ok(())
    }

    /// How a peer has to behave.
    pub const fn conduct(&self) -> ConductLimits {
        ConductLimits {
            streams_max: self.streams_max,
            streams_per_second: self.streams_per_second,
            idle_frames_per_second: self.idle_frames_per_second,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_would_let_nobody_in_is_refused_by_name() {
        let good = ConnectionLimits::default();
        assert_eq!(good.check(), Ok(()));
        let none = ConnectionLimits { streams_max: 0, ..good };
        assert_eq!(none.check(), Err(OptionsError::Zero("streams_max")));
        let never = ConnectionLimits { idle_timeout: Duration::ZERO, ..good };
        assert!(never.check().unwrap_err().to_string().contains("idle_timeout"));
        for window_bytes in [0, (64 << 10) - 1, (2 << 20) + 1] {
            assert!(ConnectionLimits { window_bytes, ..good }.check().is_err(), "{window_bytes}");
        }
    }
}
