//! Memory for connections: what has none is refused alone, and all of it comes back.

#![expect(clippy::unwrap_used, reason = "a panic in a test is a failure with a line number")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use harness::Broker;
use harness::bare::{peer, publish_open};
use weir_protocol::ErrorCode;
use weir_protocol::frame::FrameKind;
use weir_protocol::message::{Failure, Message};

use crate::abuse::greet;
use crate::peers::{connect, goes_on};
use crate::quota::first_frame;

/// Connections that leave 56 KiB of their share of 64 MiB, and how many streams that is.
const CONNECTIONS_MAX: u64 = 85;
const STREAMS_LEFT: usize = 9;

/// What is taken for a place of a connection.
const PLACE_BYTES: u64 = 168 << 10;

/// A broker with little memory, and where it tells how much of it is taken.
fn broker(connections_max: u64) -> (Broker, SocketAddr) {
    // A port that was free a moment ago.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (most, metrics) = (connections_max.to_string(), address.to_string());
    let small = ["--memory", "64MiB"];
    let broker =
        Broker::start_with(&[&small[..], &["--connections-max", &most, "--metrics", &metrics]].concat());
    (broker, address)
}

/// What is taken from the pool for connections.
fn taken(address: SocketAddr) -> u64 {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let line = answer.lines().find(|line| line.starts_with("weir_memory_taken_bytes{pool=\"connections\"}"));
    line.and_then(|line| line.rsplit(' ').next()).unwrap().parse().unwrap()
}

/// Waits until nothing but the places is taken.
fn is_back(address: SocketAddr, connections_max: u64) {
    let began = Instant::now();
    while taken(address) != connections_max * PLACE_BYTES {
        assert!(began.elapsed() < Duration::from_secs(40), "{} bytes stay taken", taken(address));
    }
}

#[test]
fn a_stream_without_memory_is_refused_alone_and_all_memory_comes_back() {
    let (broker, metrics) = broker(CONNECTIONS_MAX);
    goes_on(&broker);
    is_back(metrics, CONNECTIONS_MAX);
    peer(async {
        let greeted = greet(&broker).await;
        let mut streams = Vec::new();
        for _ in 0..STREAMS_LEFT {
            let (mut send, answers) = greeted.connection.open_bi().await.unwrap();
            send.write_all(&[0]).await.unwrap();
            streams.push((send, answers));
        }
        let (mut next, mut answers) = greeted.connection.open_bi().await.unwrap();
        next.write_all(&publish_open()).await.unwrap();
        let failure = Failure::from_frame(&first_frame(&mut answers).await).unwrap();
        assert_eq!((failure.request, failure.code), (0, ErrorCode::Throttled));
        assert!(failure.retry_after_ms > 0 && failure.detail.contains("no memory"), "{failure:?}");
        streams[0].0.reset(0u32.into()).unwrap();
        loop {
            // The topic is unknown, so a lane that is let in is refused for that.
            let (mut next, mut answers) = greeted.connection.open_bi().await.unwrap();
            next.write_all(&publish_open()).await.unwrap();
            let frame = first_frame(&mut answers).await;
            assert_eq!(frame.kind, FrameKind::Failure);
            if Failure::from_frame(&frame).unwrap().code != ErrorCode::Throttled {
                break;
            }
        }
        greeted.connection.close(0u32.into(), b"");
        greeted.endpoint.wait_idle().await;
    });
    is_back(metrics, CONNECTIONS_MAX);
    goes_on(&broker);
}

#[test]
fn connections_that_are_refused_take_nothing() {
    let (broker, metrics) = broker(1);
    peer(async {
        let first = greet(&broker).await;
        for _ in 0..10 {
            let (_endpoint, refused) = connect(&broker, b"weir/1").await;
            assert!(refused.is_err(), "there is one place");
        }
        first.connection.close(0u32.into(), b"");
        first.endpoint.wait_idle().await;
    });
    is_back(metrics, 1);
}
