//! Peers that know the protocol and abuse it: each ends with a code before long, and those beside it do not notice.

#![expect(clippy::unwrap_used, reason = "a panic in a test is a failure with a line number")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::BytesMut;
use harness::Broker;
use quinn::{Connection, Endpoint, RecvStream, SendStream, TransportConfig};
use tokio::net::UdpSocket;
use weir_protocol::ErrorCode;
use weir_protocol::frame::{FrameKind, put_header};
use weir_protocol::message::{Grant, ListTopics, Message, PROTOCOL_VERSION, PublishOpen, SubscribeOpen};
use weir_protocol::units::{Durability, TopicId};

use crate::peers::{close_code, connect, connect_with, goes_on, hello, number, peer};

/// A peer whose greeting was answered.
pub(crate) struct Greeted {
    pub(crate) connection: Connection,
    control: SendStream,
    _answers: RecvStream,
    pub(crate) endpoint: Endpoint,
}

pub(crate) async fn greet(broker: &Broker) -> Greeted {
    greet_with(broker, TransportConfig::default()).await
}

async fn greet_with(broker: &Broker, transport: TransportConfig) -> Greeted {
    let (endpoint, connection) = connect_with(broker.address(), b"weir/1", transport).await;
    greet_on(endpoint, connection.unwrap()).await
}

async fn greet_on(endpoint: Endpoint, connection: Connection) -> Greeted {
    let (mut control, mut answers) = connection.open_bi().await.unwrap();
    control.write_all(&hello(PROTOCOL_VERSION)).await.unwrap();
    answers.read_exact(&mut [0; 8]).await.unwrap();
    Greeted { connection, control, _answers: answers, endpoint }
}

/// Runs a peer until the broker closes its connection, while somebody else uses the broker. Says with which code.
fn beside(broker: &Broker, abuse: impl Future<Output = u64> + Send) -> u64 {
    std::thread::scope(|scope| {
        let abused = scope.spawn(|| peer(abuse));
        goes_on(broker);
        let code = abused.join().unwrap();
        goes_on(broker);
        code
    })
}

pub(crate) fn publish_open() -> bytes::Bytes {
    PublishOpen { topic: TopicId::from_bytes([7; 16]), durability: Durability::Durable }.to_frame()
}

#[test]
fn silence_after_the_handshake_ends_as_soon_as_it_is_told_to() {
    let broker = Broker::start_with(&["--handshake-timeout", "200ms"]);
    let code = beside(&broker, async {
        let (_endpoint, connection) = connect(&broker, b"weir/1").await;
        close_code(&connection.unwrap()).await
    });
    assert_eq!(code, number(ErrorCode::TimedOut));
}

#[test]
fn a_byte_on_each_of_all_streams_is_no_way_to_stay() {
    let broker = Broker::start_with(&["--stalled-timeout", "1s"]);
    let code = beside(&broker, async {
        let greeted = greet(&broker).await;
        let mut streams = Vec::new();
        for _ in 1..256 {
            let (mut send, receive) = greeted.connection.open_bi().await.unwrap();
            send.write_all(&[7]).await.unwrap();
            streams.push((send, receive));
        }
        close_code(&greeted.connection).await
    });
    assert_eq!(code, number(ErrorCode::TimedOut));
}

#[test]
fn streams_opened_and_reset_again_and_again_end_the_connection() {
    let broker = Broker::start_with(&["--stream-rate", "50", "--streams-max", "50"]);
    let code = beside(&broker, async {
        let greeted = greet(&broker).await;
        while let Ok((mut send, _receive)) = greeted.connection.open_bi().await {
            send.write_all(&publish_open()).await.ok();
            send.reset(0u32.into()).ok();
        }
        close_code(&greeted.connection).await
    });
    assert_eq!(code, number(ErrorCode::TooManyStreams));
    let code = beside(&broker, async {
        let (_endpoint, connection) = connect(&broker, b"weir/1").await;
        let connection = connection.unwrap();
        while let Ok((mut send, _receive)) = connection.open_bi().await {
            send.write_all(&[7]).await.ok();
            send.reset(0u32.into()).ok();
        }
        close_code(&connection).await
    });
    assert_eq!(code, number(ErrorCode::TooManyStreams), "before the greeting, too");
}

#[test]
fn frames_that_promise_as_much_as_a_header_can_are_refused_wherever_they_come() {
    let broker = Broker::start();
    let promise = |kind: FrameKind| {
        let mut header = BytesMut::new();
        put_header(kind, 0, &mut header);
        header[..4].copy_from_slice(&u32::MAX.to_le_bytes());
        header
    };
    let on_control = beside(&broker, async {
        let mut greeted = greet(&broker).await;
        greeted.control.write_all(&promise(FrameKind::ListTopics)).await.unwrap();
        close_code(&greeted.connection).await
    });
    assert_eq!(on_control, number(ErrorCode::FrameTooLarge));
    for kind in [FrameKind::Publish, FrameKind::SubscribePartition] {
        let subscribe = SubscribeOpen { topic: TopicId::from_bytes([7; 16]), limit_bytes: 1 };
        let open = if kind == FrameKind::Publish { publish_open() } else { subscribe.to_frame() };
        let on_lane = beside(&broker, async {
            let greeted = greet(&broker).await;
            let (mut send, _receive) = greeted.connection.open_bi().await.unwrap();
            send.write_all(&[&open[..], &promise(kind)].concat()).await.unwrap();
            close_code(&greeted.connection).await
        });
        assert_eq!(on_lane, number(ErrorCode::FrameTooLarge), "{kind:?}");
    }
}

#[test]
fn a_batch_beyond_the_credit_is_refused_by_its_header() {
    let broker = Broker::start();
    let code = beside(&broker, async {
        let greeted = greet(&broker).await;
        let (mut send, _receive) = greeted.connection.open_bi().await.unwrap();
        // Nothing was granted yet.
        let mut bytes = BytesMut::from(&publish_open()[..]);
        put_header(FrameKind::Publish, 1 << 20, &mut bytes);
        send.write_all(&bytes).await.unwrap();
        close_code(&greeted.connection).await
    });
    assert_eq!(code, number(ErrorCode::CreditExceeded));
}

#[test]
fn a_peer_that_asks_and_never_reads_the_answers_is_sent_away() {
    let broker = Broker::start_with(&["--stalled-timeout", "1s"]);
    let code = beside(&broker, async {
        let mut transport = TransportConfig::default();
        transport.stream_receive_window(1024u32.into());
        let mut greeted = greet_with(&broker, transport).await;
        let request = ListTopics { request: 1, after: String::new() }.to_frame();
        // Answers of several times the window, and not so many packets that the farewell is lost among them.
        for _ in 0..500 {
            greeted.control.write_all(&request).await.unwrap();
        }
        close_code(&greeted.connection).await
    });
    assert_eq!(code, number(ErrorCode::TimedOut));
}

#[test]
fn a_flood_of_frames_that_change_nothing_ends_the_connection() {
    let broker = Broker::start_with(&["--idle-frame-rate", "100"]);
    let code = beside(&broker, async {
        let greeted = greet(&broker).await;
        let (mut send, _receive) = greeted.connection.open_bi().await.unwrap();
        let open = SubscribeOpen { topic: TopicId::from_bytes([7; 16]), limit_bytes: 1 << 20 }.to_frame();
        send.write_all(&open).await.unwrap();
        let nothing = Grant { limit_bytes: 1 }.to_frame();
        while send.write_all(&nothing).await.is_ok() {}
        close_code(&greeted.connection).await
    });
    assert_eq!(code, number(ErrorCode::Protocol));
}

#[test]
fn a_gap_in_the_bytes_of_a_stream_is_not_waited_for() {
    let broker = Broker::start_with(&["--stalled-timeout", "1s"]);
    let code = beside(&broker, async {
        let relay = Relay::start(&broker).await;
        let mut transport = TransportConfig::default();
        transport.mtu_discovery_config(None);
        let (endpoint, connection) = connect_with(relay.address, b"weir/1", transport).await;
        let greeted = greet_on(endpoint, connection.unwrap()).await;
        relay.longest.store(500, Ordering::Relaxed);
        let (mut send, _receive) = greeted.connection.open_bi().await.unwrap();
        // What comes first is never let through, what follows is.
        send.write_all(&[0; 1000]).await.unwrap();
        while relay.dropped.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        send.write_all(&[0; 10]).await.unwrap();
        close_code(&greeted.connection).await
    });
    assert_eq!(code, number(ErrorCode::TimedOut));
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

/// Carries datagrams between a peer and the broker, and drops the long ones of the peer.
struct Relay {
    address: std::net::SocketAddr,
    /// Longest datagram of the peer that is let through.
    longest: Arc<AtomicU32>,
    /// Datagrams dropped.
    dropped: Arc<AtomicU32>,
    _task: tokio::task::JoinHandle<()>,
}

impl Relay {
    async fn start(broker: &Broker) -> Self {
        let peer_side = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let broker_side = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        broker_side.connect(broker.address()).await.unwrap();
        let address = peer_side.local_addr().unwrap();
        let (longest, dropped) = (Arc::new(AtomicU32::new(u32::MAX)), Arc::new(AtomicU32::new(0)));
        let (limit, count) = (Arc::clone(&longest), Arc::clone(&dropped));
        let task = tokio::spawn(async move {
            let mut peer = None;
            let (mut up, mut down) = (vec![0; 1 << 16], vec![0; 1 << 16]);
            loop {
                tokio::select! {
                    Ok((length, from)) = peer_side.recv_from(&mut up) => {
                        peer = Some(from);
                        if length > limit.load(Ordering::Relaxed) as usize {
                            count.fetch_add(1, Ordering::Relaxed);
                        } else {
                            broker_side.send(up.get(..length).unwrap_or_default()).await.ok();
                        }
                    }
                    Ok(length) = broker_side.recv(&mut down) => {
                        if let Some(peer) = peer {
                            peer_side.send_to(down.get(..length).unwrap_or_default(), peer).await.ok();
                        }
                    }
                }
            }
        });
        Self { address, longest, dropped, _task: task }
    }
}
