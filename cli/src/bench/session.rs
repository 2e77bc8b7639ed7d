//! What surrounds a run: connections, a topic that is removed again, the time the processor spent.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use weir_client::{BrokerUrl, Client, TopicSpec};
use weir_protocol::limits::{BATCH_BYTES_LIMIT, BATCH_BYTES_MAX_DEFAULT};

use super::arguments::Load;
use super::payload::Pattern;
use super::produce::Run;
use crate::arguments::Global;
use crate::connect::{ConnectOptions, TransportChoice, connect, disconnect, url};
use crate::failure::Failure;

/// How long removing the topic may take. A broker that is gone is not waited for.
const REMOVE_TIMEOUT: Duration = Duration::from_secs(5);

/// What a batch may have around its records.
const BATCH_ROOM_BYTES: usize = 64 << 10;

/// Connections and topic of a run.
pub(crate) struct Session {
    /// The connections.
    pub(crate) clients: Vec<Client>,
    /// The run.
    pub(crate) run: Arc<Run>,
    /// Profile that the connections use.
    pub(crate) transport: &'static str,
    owns_topic: bool,
}

impl Session {
    /// Connects and makes the topic.
    pub(crate) async fn open(load: &Load, global: &Global, timed: bool) -> Result<Self, Failure> {
        let options = ConnectOptions { transport: load.transport, ..ConnectOptions::default() };
        let mut clients = Vec::new();
        for _ in 0..load.connections.min(load.producers) {
            clients.push(connect(global, options).await?);
        }
        let id = uuid::Uuid::new_v4();
        let topic = load.topic.clone().unwrap_or_else(|| format!("weir-bench-{}", id.simple()));
        let owns_topic = load.topic.is_none();
        if let (true, Some(client)) = (owns_topic, clients.first()) {
            let spec =
                TopicSpec::new(&topic).partitions(load.partitions).batch_bytes_max(batch_bytes_max(load));
            client.admin().create_topic(spec).await?;
        }
        let (run_id, _) = id.as_u64_pair();
        let run = Run {
            load: load.clone(),
            pattern: Pattern::new(run_id, load.size, load.keys),
            topic,
            base: Instant::now(),
            timed,
            stop: AtomicBool::new(false),
        };
        let transport = transport_name(load.transport, &url(global)?);
        Ok(Self { clients, run: Arc::new(run), transport, owns_topic })
    }

    /// The connection that reads back and cleans up.
    pub(crate) fn client(&self) -> &Client {
        self.clients.first().expect("a session has a connection")
    }

    /// Whether the topic holds records of this run only.
    pub(crate) fn owns_topic(&self) -> bool {
        self.owns_topic
    }

    /// Removes the topic, if it is the session's.
    pub(crate) async fn close(self) -> Result<(), Failure> {
        if self.owns_topic {
            let admin = self.client().admin();
            match tokio::time::timeout(REMOVE_TIMEOUT, admin.delete_topic(&self.run.topic)).await {
                Ok(removed) => removed?,
                Err(_) => crate::chatter(&format!("weir: the topic {} could not be removed", self.run.topic)),
            }
        }
        for client in self.clients {
            disconnect(client).await;
        }
        Ok(())
    }
}

/// The limit that lets batches become as large as asked for.
fn batch_bytes_max(load: &Load) -> u32 {
    let wanted = load.batch.unwrap_or(0).saturating_add(BATCH_ROOM_BYTES);
    let wanted = u32::try_from(wanted).unwrap_or(BATCH_BYTES_LIMIT);
    wanted.clamp(BATCH_BYTES_MAX_DEFAULT, BATCH_BYTES_LIMIT)
}

/// The profile that a choice comes to for this broker.
fn transport_name(choice: TransportChoice, url: &str) -> &'static str {
    let is_loopback = || {
        url.parse::<BrokerUrl>().is_ok_and(|url| {
            url.host() == "localhost"
                || url.host().parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
        })
    };
    match choice {
        TransportChoice::Network => "network",
        TransportChoice::Loopback => "loopback",
        TransportChoice::Auto if is_loopback() => "loopback",
        TransportChoice::Auto => "network",
    }
}

/// The processor time of this process so far, in user and system.
pub(crate) fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_is_told_by_the_address() {
        let auto = |url| transport_name(TransportChoice::Auto, url);
        assert_eq!(auto("weir://127.0.0.1:7400"), "loopback");
        assert_eq!(auto("weir://[::1]:7400"), "loopback");
        assert_eq!(auto("weir://localhost"), "loopback");
        assert_eq!(auto("weir://10.0.0.1"), "network");
        assert_eq!(transport_name(TransportChoice::Network, "weir://127.0.0.1"), "network");
    }

    #[test]
    fn the_processor_time_grows_with_work() {
        let before = cpu_time();
        while cpu_time() == before {
            std::hint::spin_loop();
        }
    }
}
