//! Peers that are no proper clients: each is turned away with a code, and the broker goes on.

#![expect(clippy::unwrap_used, reason = "a panic in a test is a failure with a line number")]

use std::net::UdpSocket;

use bytes::{BufMut as _, Bytes, BytesMut};
use harness::Broker;
use harness::bare::{close_code, connect_with, hello, peer};
use quinn::{Connection, ConnectionError, Endpoint, TransportConfig};
use weir_protocol::ErrorCode;
use weir_protocol::frame::{FrameKind, RawFrame, put_header, take_frame};
use weir_protocol::limits::REQUEST_FRAME_BYTES_MAX;
use weir_protocol::message::{Grant, Message, OpenProducer, PROTOCOL_VERSION, Welcome};

/// Connects with this application protocol.
pub(crate) async fn connect(
    broker: &Broker,
    protocol: &[u8],
) -> (Endpoint, Result<Connection, ConnectionError>) {
    connect_with(broker.address(), protocol, TransportConfig::default()).await
}

/// Sends bytes on a first stream, perhaps ends it, and says with which code the connection is closed.
async fn closed_after(broker: &Broker, bytes: &[u8], finish: bool) -> u64 {
    let (_endpoint, connection) = connect(broker, b"weir/1").await;
    let connection = connection.expect("the protocol is the right one");
    let (mut send, _receive) = connection.open_bi().await.unwrap();
    // The broker may close while there is still something to write.
    send.write_all(bytes).await.ok();
    if finish {
        send.finish().ok();
    }
    close_code(&connection).await.unwrap()
}

pub(crate) fn number(code: ErrorCode) -> u64 {
    u64::from(code.number())
}

/// The broker still does its work.
pub(crate) fn goes_on(broker: &Broker) {
    broker.text(&["send", "orders", "hello", "--create"]);
}

#[test]
fn garbage_datagrams_are_ignored() {
    let broker = Broker::start();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for number in 0u32..5000 {
        let length = number.wrapping_mul(2_654_435_761) % 1400;
        let mut packet: Vec<u8> = (0..length).map(|at| (at ^ number).to_le_bytes()[0]).collect();
        // Some look like the first packet of a connection, some like one of an unknown version.
        if let (Some(first), 1 | 2) = (packet.first_mut(), number % 3) {
            *first = 0xc0 | (number.to_le_bytes()[0] & 0x3f);
        }
        if packet.len() > 5 && number % 3 == 1 {
            packet[1..5].copy_from_slice(&1u32.to_be_bytes());
        }
        socket.send_to(&packet, broker.address()).ok();
    }
    goes_on(&broker);
}

#[test]
fn another_application_protocol_is_refused() {
    let broker = Broker::start();
    for protocol in [&b"h3"[..], b"weir/99"] {
        let (_endpoint, connection) = peer(connect(&broker, protocol));
        let error = connection.expect_err("the protocol is the wrong one");
        // TLS alert 120, no_application_protocol, as QUIC carries it.
        let ConnectionError::ConnectionClosed(close) = error else { panic!("refused otherwise: {error}") };
        assert_eq!(u64::from(close.error_code), 0x100 + 120);
    }
    goes_on(&broker);
}

#[test]
fn another_version_is_refused_with_its_code() {
    let broker = Broker::start();
    let code = peer(closed_after(&broker, &hello(PROTOCOL_VERSION + 98), false));
    assert_eq!(code, number(ErrorCode::UnsupportedVersion));
    goes_on(&broker);
}

#[test]
fn a_first_frame_that_is_no_greeting_is_refused() {
    let broker = Broker::start();
    let code = peer(closed_after(&broker, &Grant { limit_bytes: 1 }.to_frame(), false));
    assert_eq!(code, number(ErrorCode::GreetingExpected));
    goes_on(&broker);
}

#[test]
fn a_frame_longer_than_allowed_is_refused_by_its_header() {
    let broker = Broker::start();
    let mut header = BytesMut::new();
    put_header(FrameKind::Hello, REQUEST_FRAME_BYTES_MAX as usize + 1, &mut header);
    let code = peer(closed_after(&broker, &header, false));
    assert_eq!(code, number(ErrorCode::FrameTooLarge));
    goes_on(&broker);
}

#[test]
fn bytes_that_are_no_frames_are_refused() {
    let broker = Broker::start();
    let mut unknown = BytesMut::from(&hello(PROTOCOL_VERSION)[..]);
    unknown[4] = 0xee;
    let mut magic = BytesMut::from(&hello(PROTOCOL_VERSION)[..]);
    magic[8] = b'X';
    for bytes in [&unknown[..], &magic[..]] {
        let code = peer(closed_after(&broker, bytes, false));
        assert_eq!(code, number(ErrorCode::Protocol));
    }
    goes_on(&broker);
}

#[test]
fn a_frame_that_breaks_off_is_refused() {
    let broker = Broker::start();
    let whole = hello(PROTOCOL_VERSION);
    for length in [3, 8, whole.len() - 1] {
        let code = peer(closed_after(&broker, &whole[..length], true));
        // Either as soon as the stream ends, or when no greeting has come in time.
        let expected = [ErrorCode::Protocol, ErrorCode::TimedOut].map(number);
        assert!(expected.contains(&code), "cut to {length}: {code}");
    }
    goes_on(&broker);
}

#[test]
fn a_frame_that_has_no_place_on_its_stream_is_refused() {
    let broker = Broker::start();
    // The control stream takes requests, not what belongs on a lane; and no second greeting.
    for second in [Grant { limit_bytes: 1 }.to_frame(), hello(PROTOCOL_VERSION)] {
        let mut bytes = BytesMut::from(&hello(PROTOCOL_VERSION)[..]);
        bytes.put_slice(&second);
        let code = peer(closed_after(&broker, &bytes, false));
        assert_eq!(code, number(ErrorCode::Protocol));
    }
    goes_on(&broker);
}

#[test]
fn a_peer_that_says_nothing_is_sent_away() {
    let broker = Broker::start();
    let code = peer(async {
        let (_endpoint, connection) = connect(&broker, b"weir/1").await;
        close_code(&connection.unwrap()).await.unwrap()
    });
    assert_eq!(code, number(ErrorCode::TimedOut));
    goes_on(&broker);
}

#[test]
fn a_bare_peer_that_keeps_to_the_protocol_is_served() {
    let broker = Broker::start();
    let frames = peer(async {
        let (_endpoint, connection) = connect(&broker, b"weir/1").await;
        let connection = connection.unwrap();
        let (mut send, mut receive) = connection.open_bi().await.unwrap();
        send.write_all(&hello(PROTOCOL_VERSION)).await.unwrap();
        send.write_all(&OpenProducer { request: 7 }.to_frame()).await.unwrap();
        let (mut bytes, mut frames) = (Bytes::new(), Vec::<RawFrame>::new());
        while frames.len() < 2 {
            let chunk = receive.read_chunk(4096, true).await.unwrap().expect("the stream stays open");
            bytes = [bytes, chunk.bytes].concat().into();
            while let Some(frame) = take_frame(&mut bytes, 1 << 20).unwrap() {
                frames.push(frame);
            }
        }
        frames
    });
    let welcome = Welcome::from_frame(&frames[0]).unwrap();
    assert_eq!(welcome.version, PROTOCOL_VERSION);
    assert_eq!(frames[1].kind, FrameKind::ProducerOpened);
}

#[test]
fn a_peer_of_a_killed_broker_learns_of_it_from_the_next() {
    let mut broker = Broker::start();
    let closed = peer(async {
        let (_endpoint, connection) = connect(&broker, b"weir/1").await;
        let connection = connection.unwrap();
        let (mut send, _receive) = connection.open_bi().await.unwrap();
        send.write_all(&hello(PROTOCOL_VERSION)).await.unwrap();
        broker.kill();
        broker.restart();
        // Only what is longer than a reset is answered with one.
        send.write_all(&[0; 1000]).await.unwrap();
        connection.closed().await
    });
    assert_eq!(closed, ConnectionError::Reset);
    goes_on(&broker);
}
