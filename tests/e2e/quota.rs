//! Quotas: who wants more than its share waits, loses nothing, and nobody beside it notices.

#![expect(clippy::unwrap_used, reason = "a panic in a test is a failure with a line number")]

use std::time::{Duration, Instant};

use bytes::Bytes;
use harness::Broker;
use harness::bare::{peer, publish_open};
use quinn::RecvStream;
use weir_protocol::ErrorCode;
use weir_protocol::frame::{FrameKind, RawFrame, take_frame};
use weir_protocol::message::{Failure, Message};

use crate::abuse::greet;
use crate::peers::goes_on;

/// The first frame that comes on a stream.
pub(crate) async fn first_frame(receive: &mut RecvStream) -> RawFrame {
    let mut bytes = Bytes::new();
    loop {
        if let Some(frame) = take_frame(&mut bytes, 1 << 20).unwrap() {
            return frame;
        }
        let chunk = receive.read_chunk(4096, true).await.unwrap().expect("a frame comes first");
        bytes = [bytes, chunk.bytes].concat().into();
    }
}

#[test]
fn who_publishes_faster_than_its_quota_is_slowed_loses_nothing_and_holds_up_nobody() {
    // A lane may have nine megabytes under way at once: what counts is what comes behind them.
    let broker = Broker::start_with(&["--quota-publish-rate", "4MiB"]);
    let started = Instant::now();
    let fast = broker.client(&["bench", "send", "--records", "24000", "--client-name", "fast", "--json"]);
    while !fast.has_ended() {
        let each = Instant::now();
        broker.text(&["send", "orders", "hello", "--create", "--client-name", "other"]);
        assert!(each.elapsed() < Duration::from_secs(3), "another client waits, too");
    }
    let report: serde_json::Value = serde_json::from_slice(&fast.finish().expect_code(0).stdout).unwrap();
    assert_eq!(report["verified"]["records"], 24_000);
    assert!(started.elapsed() > Duration::from_secs(2), "24 MB at 4 MiB a second: {report}");
}

#[test]
fn who_reads_faster_than_its_quota_is_slowed_and_misses_nothing() {
    let broker = Broker::start_with(&["--quota-read-rate", "2MiB"]);
    let line = "x".repeat(100_000) + "\n";
    let mut send = broker.client(&["send", "orders", "--create"]);
    for _ in 0..80 {
        send.feed(line.as_bytes());
    }
    send.finish().expect_code(0);
    let started = Instant::now();
    let read = broker.text(&["tail", "orders", "--from", "earliest", "--count", "80"]);
    assert_eq!(read.lines().count(), 80);
    assert!(started.elapsed() > Duration::from_secs(2), "8 MB at 2 MiB a second: {:?}", started.elapsed());
}

#[test]
fn a_connection_beyond_the_quota_is_told_to_wait_and_others_come_in() {
    let broker = Broker::start_with(&["--quota-connections", "1"]);
    peer(async {
        let first = greet(&broker).await;
        let refused = broker.run(&["topic", "ls", "--client-name", "peer"]);
        assert_eq!(refused.code, Some(5), "{}", refused.stderr);
        assert!(refused.stderr.contains("as many as it may"), "{}", refused.stderr);
        goes_on(&broker);
        first.connection.close(0u32.into(), b"");
        first.endpoint.wait_idle().await;
    });
    let waits = Instant::now();
    while broker.run(&["topic", "ls", "--client-name", "peer"]).code != Some(0) {
        assert!(waits.elapsed() < Duration::from_secs(40), "the place is not given back");
    }
}

#[test]
fn a_lane_beyond_the_quota_is_refused_alone_until_another_ends() {
    let broker = Broker::start_with(&["--quota-streams", "1", "--stream-rate", "1000000"]);
    peer(async {
        let greeted = greet(&broker).await;
        let (mut first, _answers) = greeted.connection.open_bi().await.unwrap();
        first.write_all(&publish_open()).await.unwrap();
        let (mut second, mut answers) = greeted.connection.open_bi().await.unwrap();
        second.write_all(&publish_open()).await.unwrap();
        let failure = Failure::from_frame(&first_frame(&mut answers).await).unwrap();
        assert_eq!((failure.request, failure.code), (0, ErrorCode::Throttled));
        assert!(failure.retry_after_ms > 0 && failure.detail.contains("as many as it may"), "{failure:?}");
        // The topic is unknown, so a lane that is let in is refused for that.
        first.finish().unwrap();
        loop {
            let (mut third, mut answers) = greeted.connection.open_bi().await.unwrap();
            third.write_all(&publish_open()).await.unwrap();
            let frame = first_frame(&mut answers).await;
            assert_eq!(frame.kind, FrameKind::Failure);
            if Failure::from_frame(&frame).unwrap().code != ErrorCode::Throttled {
                break;
            }
        }
    });
    goes_on(&broker);
}
