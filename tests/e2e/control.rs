//! Answers have memory of their own: whoever asks and takes none is heard no more, and nobody else notices.

use harness::Broker;
use harness::bare::{close_code, greet_with, peer};
use quinn::TransportConfig;
use weir_protocol::ErrorCode;
use weir_protocol::message::{ListTopics, Message};

use crate::peers::{goes_on, number};

/// So many connections, so that each pool would be theirs.
const PEERS: usize = 20;

/// Requests of each. All answers together would be several times the broker's memory.
const REQUESTS: usize = 1000;

#[test]
fn requests_move_while_others_hold_all_memory_for_answers() {
    let broker = Broker::start_with(&["--memory", "64MiB", "--stalled-timeout", "2s"]);
    for number in 0..100 {
        broker.text(&["topic", "create", &format!("{number:0>120}")]);
    }
    std::thread::scope(|scope| {
        let greedy = scope.spawn(|| {
            peer(async {
                let mut peers = Vec::new();
                for _ in 0..PEERS {
                    let mut transport = TransportConfig::default();
                    transport.stream_receive_window(1024u32.into());
                    let greeted = greet_with(broker.address(), transport).await.unwrap();
                    let request = ListTopics { request: 1, after: String::new() }.to_frame();
                    let requests = request.repeat(REQUESTS);
                    // More than the broker lets be under way: it is not written to its end.
                    peers.push(tokio::spawn(async move {
                        // Held to the end, as all of it would be by a client.
                        let mut greeted = greeted;
                        let _closed = greeted.control.write_all(&requests).await;
                        close_code(&greeted.connection).await.unwrap()
                    }));
                }
                let mut codes = Vec::new();
                for peer in peers {
                    codes.push(peer.await.unwrap());
                }
                codes
            })
        });
        while !greedy.is_finished() {
            goes_on(&broker);
            let topics = broker.text(&["topic", "ls"]);
            assert!(topics.lines().count() >= 100, "a listing is whole, in however many pages: {topics}");
        }
        let codes = greedy.join().unwrap();
        assert_eq!(codes, [number(ErrorCode::TimedOut); PEERS]);
    });
    goes_on(&broker);
}
