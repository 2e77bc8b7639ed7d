//! Limits of what peers can make the server hold, each with its reason, that nobody has a reason to change. Those
//! that can be chosen are in [`crate::options::ConnectionLimits`], what the wire allows in `weir_protocol::limits`.

use std::time::Duration;

/// Streams a peer may open before its greeting was answered: the control stream.
pub const STREAMS_BEFORE_GREETING: u32 = 1;

/// Most bytes a peer may have under way on one stream. Holds most batches whole; larger ones stream through.
pub const STREAM_WINDOW_BYTES: u32 = 1 << 20;

/// Size of the socket's buffers. With the system's default a burst of jumbo datagrams is lost.
pub const SOCKET_BUFFER_BYTES: usize = 4 << 20;

/// Connections of all peers together where nobody says how many.
pub const CONNECTIONS_MAX: usize = 1024;

/// Handshakes under way, and connection attempts not looked at yet.
pub const HANDSHAKES_MAX: usize = 1024;

/// With more handshakes under way, peers must first prove that they receive at the address they send from.
pub const HANDSHAKES_UNPROVEN_MAX: usize = HANDSHAKES_MAX / 4;

/// Bytes kept of one connection attempt that was not looked at yet.
pub const INCOMING_BUFFER_BYTES: u64 = 64 << 10;

/// Bytes kept of all connection attempts that were not looked at yet.
pub const INCOMING_BUFFERS_BYTES: u64 = 8 << 20;

/// Time in which a proof of address is good. It is for the attempt it was asked for.
pub const RETRY_TOKEN_LIFETIME: Duration = Duration::from_secs(15);

/// Largest datagram on loopback: what discovery may find. UDP carries at most 65,507 bytes over IPv4.
pub const LOOPBACK_DATAGRAM_BYTES_MAX: u16 = 65_000;

/// Size of datagrams on loopback until discovery has found the largest. Packets of the handshake cannot be longer
/// than 16,383 bytes, which the QUIC implementation takes for granted.
pub const LOOPBACK_DATAGRAM_BYTES_INITIAL: u16 = 16_000;

/// Bytes under way on a fresh loopback connection. Must exceed the first datagram, or nothing would ever be sent.
pub const LOOPBACK_INITIAL_WINDOW_BYTES: u64 = 1 << 20;

/// Datagrams we accept at all, where jumbo datagrams may come.
pub const DATAGRAM_BYTES_MAX: u16 = 65_527;

/// Longest head of an HTTP request.
pub const HTTP_HEAD_BYTES_MAX: usize = 4 << 10;

/// Time for an HTTP request and its answer.
pub const HTTP_WITHIN: Duration = Duration::from_secs(5);

/// HTTP connections served at a time. Others wait their turn in the listener's backlog.
pub const HTTP_CONNECTIONS_MAX: usize = 16;

const _: () = assert!(
    LOOPBACK_DATAGRAM_BYTES_INITIAL < 1 << 14,
    "packets of the handshake carry a 14-bit length in the QUIC implementation"
);
const _: () = assert!(
    LOOPBACK_DATAGRAM_BYTES_INITIAL as u64 <= LOOPBACK_INITIAL_WINDOW_BYTES,
    "the first datagram must fit the first congestion window"
);
const _: () =
    assert!(HANDSHAKES_UNPROVEN_MAX < HANDSHAKES_MAX, "peers are asked for proof before they are refused");
