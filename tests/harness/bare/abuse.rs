//! Peers that know the protocol and abuse it, each in one way, until the broker closes their connection.

use std::net::SocketAddr;

use anyhow::Context as _;
use bytes::{Bytes, BytesMut};
use quinn::{Connection, TransportConfig};
use weir_protocol::frame::{FrameKind, put_header};
use weir_protocol::message::{Grant, ListTopics, Message, SubscribeOpen};
use weir_protocol::units::TopicId;

use super::relay::Relay;
use super::{close_code, connect_with, greet_with, publish_open};

/// Streams that a greeted peer may have by default, its control stream among them.
const STREAMS_MAX: usize = 256;

/// A way to abuse the protocol.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Abuse {
    /// Says nothing after the handshake.
    Silence,
    /// Sends a byte on every stream it may have, and nothing more.
    ByteOnEachStream,
    /// Opens streams and resets them at once, again and again.
    OpenAndReset,
    /// The same before its greeting.
    OpenAndResetBeforeGreeting,
    /// Announces a frame of this kind as long as a header can say.
    Promise(FrameKind),
    /// Announces a batch for which it was granted nothing.
    BeyondCredit,
    /// Asks, and takes no answer.
    AnswersNeverRead,
    /// Sends frames that change nothing, as fast as it can.
    FramesThatChangeNothing,
    /// Leaves a gap in the bytes of a stream.
    Gap,
}

impl Abuse {
    /// Every way.
    pub const ALL: [Self; 11] = [
        Self::Silence,
        Self::ByteOnEachStream,
        Self::OpenAndReset,
        Self::OpenAndResetBeforeGreeting,
        Self::Promise(FrameKind::ListTopics),
        Self::Promise(FrameKind::Publish),
        Self::Promise(FrameKind::SubscribePartition),
        Self::BeyondCredit,
        Self::AnswersNeverRead,
        Self::FramesThatChangeNothing,
        Self::Gap,
    ];

    /// Goes on until the broker closes the connection. Says with which code.
    ///
    /// # Errors
    /// If the broker does not let it begin, or the connection ends without a code.
    pub async fn commit(self, address: SocketAddr) -> anyhow::Result<u64> {
        match self {
            Self::Silence => {
                let (_endpoint, connection) = ungreeted(address).await?;
                close_code(&connection).await
            }
            Self::ByteOnEachStream => byte_on_each_stream(address).await,
            Self::OpenAndReset => {
                let greeted = greet_with(address, TransportConfig::default()).await?;
                open_and_reset(&greeted.connection, &publish_open()).await;
                close_code(&greeted.connection).await
            }
            Self::OpenAndResetBeforeGreeting => {
                let (_endpoint, connection) = ungreeted(address).await?;
                open_and_reset(&connection, &[7]).await;
                close_code(&connection).await
            }
            Self::Promise(kind) => promise(address, kind).await,
            Self::BeyondCredit => beyond_credit(address).await,
            Self::AnswersNeverRead => answers_never_read(address).await,
            Self::FramesThatChangeNothing => frames_that_change_nothing(address).await,
            Self::Gap => gap(address).await,
        }
    }
}

async fn ungreeted(address: SocketAddr) -> anyhow::Result<(quinn::Endpoint, Connection)> {
    let (endpoint, connection) = connect_with(address, b"weir/1", TransportConfig::default()).await;
    Ok((endpoint, connection?))
}

fn subscribe_open(limit_bytes: u64) -> Bytes {
    SubscribeOpen { topic: TopicId::from_bytes([7; 16]), limit_bytes }.to_frame()
}

async fn byte_on_each_stream(address: SocketAddr) -> anyhow::Result<u64> {
    let greeted = greet_with(address, TransportConfig::default()).await?;
    let mut streams = Vec::new();
    for _ in 1..STREAMS_MAX {
        let Ok((mut send, receive)) = greeted.connection.open_bi().await else { break };
        send.write_all(&[7]).await.ok();
        streams.push((send, receive));
    }
    close_code(&greeted.connection).await
}

async fn open_and_reset(connection: &Connection, first: &[u8]) {
    while let Ok((mut send, _receive)) = connection.open_bi().await {
        send.write_all(first).await.ok();
        send.reset(0u32.into()).ok();
    }
}

async fn promise(address: SocketAddr, kind: FrameKind) -> anyhow::Result<u64> {
    let mut header = BytesMut::new();
    put_header(kind, 0, &mut header);
    header.get_mut(..4).context("a header begins with a length")?.copy_from_slice(&u32::MAX.to_le_bytes());
    let mut greeted = greet_with(address, TransportConfig::default()).await?;
    let open = if kind == FrameKind::Publish {
        publish_open()
    } else if kind == FrameKind::SubscribePartition {
        subscribe_open(1)
    } else {
        greeted.control.write_all(&header).await?;
        return close_code(&greeted.connection).await;
    };
    let (mut send, _receive) = greeted.connection.open_bi().await?;
    send.write_all(&[&open[..], &header].concat()).await?;
    close_code(&greeted.connection).await
}

async fn beyond_credit(address: SocketAddr) -> anyhow::Result<u64> {
    let greeted = greet_with(address, TransportConfig::default()).await?;
    let (mut send, _receive) = greeted.connection.open_bi().await?;
    // Nothing was granted yet.
    let mut bytes = BytesMut::from(&publish_open()[..]);
    put_header(FrameKind::Publish, 1 << 20, &mut bytes);
    send.write_all(&bytes).await?;
    close_code(&greeted.connection).await
}

async fn answers_never_read(address: SocketAddr) -> anyhow::Result<u64> {
    let mut transport = TransportConfig::default();
    transport.stream_receive_window(1024u32.into());
    let mut greeted = greet_with(address, transport).await?;
    let request = ListTopics { request: 1, after: String::new() }.to_frame();
    // Answers of several times the window, and not so many packets that the farewell is lost among them.
    for _ in 0..500 {
        greeted.control.write_all(&request).await?;
    }
    close_code(&greeted.connection).await
}

async fn frames_that_change_nothing(address: SocketAddr) -> anyhow::Result<u64> {
    let greeted = greet_with(address, TransportConfig::default()).await?;
    let (mut send, _receive) = greeted.connection.open_bi().await?;
    send.write_all(&subscribe_open(1 << 20)).await?;
    let nothing = Grant { limit_bytes: 1 }.to_frame();
    while send.write_all(&nothing).await.is_ok() {}
    close_code(&greeted.connection).await
}

async fn gap(address: SocketAddr) -> anyhow::Result<u64> {
    let relay = Relay::start(address).await?;
    let mut transport = TransportConfig::default();
    transport.mtu_discovery_config(None);
    let greeted = greet_with(relay.address(), transport).await?;
    relay.drop_longer_than(500);
    let (mut send, _receive) = greeted.connection.open_bi().await?;
    // What comes first is never let through, what follows is.
    send.write_all(&[0; 1000]).await?;
    while relay.dropped() == 0 {
        tokio::task::yield_now().await;
    }
    send.write_all(&[0; 10]).await?;
    close_code(&greeted.connection).await
}
