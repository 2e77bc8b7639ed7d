//! Peers that know the protocol and abuse it: each ends with a code before long, and those beside it do not notice.

#![expect(clippy::unwrap_used, reason = "a panic in a test is a failure with a line number")]

use harness::Broker;
use harness::bare::{Abuse, Greeted, connect_with, greet_with, peer};
use quinn::TransportConfig;
use weir_protocol::ErrorCode;
use weir_protocol::frame::FrameKind;

use crate::peers::{goes_on, number};

/// A peer whose greeting was answered.
pub(crate) async fn greet(broker: &Broker) -> Greeted {
    greet_with(broker.address(), TransportConfig::default()).await.unwrap()
}

/// Runs a peer until the broker closes its connection, while somebody else uses the broker. Says with which code.
fn beside(broker: &Broker, abuse: Abuse) -> u64 {
    std::thread::scope(|scope| {
        let abused = scope.spawn(|| peer(abuse.commit(broker.address())).unwrap());
        goes_on(broker);
        let code = abused.join().unwrap();
        goes_on(broker);
        code
    })
}

#[test]
fn silence_after_the_handshake_ends_as_soon_as_it_is_told_to() {
    let broker = Broker::start_with(&["--handshake-timeout", "200ms"]);
    assert_eq!(beside(&broker, Abuse::Silence), number(ErrorCode::TimedOut));
}

#[test]
fn a_byte_on_each_of_all_streams_is_no_way_to_stay() {
    let broker = Broker::start_with(&["--stalled-timeout", "1s"]);
    assert_eq!(beside(&broker, Abuse::ByteOnEachStream), number(ErrorCode::TimedOut));
}

#[test]
fn streams_opened_and_reset_again_and_again_end_the_connection() {
    let broker = Broker::start_with(&["--stream-rate", "50", "--streams-max", "50"]);
    let code = beside(&broker, Abuse::OpenAndReset);
    assert_eq!(code, number(ErrorCode::TooManyStreams));
    let code = beside(&broker, Abuse::OpenAndResetBeforeGreeting);
    assert_eq!(code, number(ErrorCode::TooManyStreams), "before the greeting, too");
}

#[test]
fn frames_that_promise_as_much_as_a_header_can_are_refused_wherever_they_come() {
    let broker = Broker::start();
    for kind in [FrameKind::ListTopics, FrameKind::Publish, FrameKind::SubscribePartition] {
        let code = beside(&broker, Abuse::Promise(kind));
        assert_eq!(code, number(ErrorCode::FrameTooLarge), "{kind:?}");
    }
}

#[test]
fn a_batch_beyond_the_credit_is_refused_by_its_header() {
    let broker = Broker::start();
    assert_eq!(beside(&broker, Abuse::BeyondCredit), number(ErrorCode::CreditExceeded));
}

#[test]
fn a_peer_that_asks_and_never_reads_the_answers_is_sent_away() {
    let broker = Broker::start_with(&["--stalled-timeout", "1s"]);
    assert_eq!(beside(&broker, Abuse::AnswersNeverRead), number(ErrorCode::TimedOut));
}

#[test]
fn a_flood_of_frames_that_change_nothing_ends_the_connection() {
    let broker = Broker::start_with(&["--idle-frame-rate", "100"]);
    assert_eq!(beside(&broker, Abuse::FramesThatChangeNothing), number(ErrorCode::Protocol));
}

#[test]
fn a_gap_in_the_bytes_of_a_stream_is_not_waited_for() {
    let broker = Broker::start_with(&["--stalled-timeout", "1s"]);
    assert_eq!(beside(&broker, Abuse::Gap), number(ErrorCode::TimedOut));
}

#[test]
fn a_storm_of_connections_is_refused_and_who_comes_beside_it_gets_in() {
    let broker = Broker::start_with(&["--handshake-rate", "20"]);
    std::thread::scope(|scope| {
        let storm = scope.spawn(|| {
            peer(async {
                let mut attempts = tokio::task::JoinSet::new();
                for _ in 0..100 {
                    attempts.spawn(connect_with(broker.address(), b"weir/1", TransportConfig::default()));
                }
                let refused = attempts.join_all().await.into_iter().filter(|(_, attempt)| attempt.is_err());
                refused.count()
            })
        });
        goes_on(&broker);
        assert!(storm.join().unwrap() > 20);
    });
    goes_on(&broker);
}
