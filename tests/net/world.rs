//! A broker with its directory, clients that note what they see, and the judgement of it.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use harness::check::{Event, Level, check};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use weir_broker::server::endpoint::Carrier;
use weir_broker::{ServeOptions, Server};
use weir_client::{Client, Delivered, Delivery, Durability, Message, Producer, Start, TopicSpec};

use crate::network::{BROKER_PORT, Network, Weather};
use crate::time::Fast;

const TOPIC: &str = "t";

/// Everything that is waited for comes by then, or never.
const WITHIN: Duration = Duration::from_secs(60);

/// What was seen, in order. Clones are the same.
#[derive(Clone, Debug, Default)]
struct History(Arc<Mutex<Vec<Event>>>);

impl History {
    fn note(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

pub(crate) struct World {
    pub(crate) network: Network,
    seed: u64,
    server: Option<Server>,
    history: History,
    values: u64,
    readers: u32,
    directory: TempDir,
}

/// Records that were sent and have no result yet.
pub(crate) struct Begun {
    deliveries: Vec<(u64, Delivery)>,
    _producer: Producer,
}

/// A reader that takes its time.
pub(crate) struct Slow(JoinHandle<()>);

impl Slow {
    /// Waits until it has read what it was to.
    pub(crate) async fn ended(self) {
        self.0.await.unwrap();
    }
}

/// Waits for something that must come.
pub(crate) async fn within<F: Future>(time: Duration, what: &str, future: F) -> F::Output {
    tokio::time::timeout(time, future)
        .await
        .unwrap_or_else(|_late| panic!("{what} did not come within {time:?}"))
}

impl World {
    pub(crate) async fn start(name: &str, weather: Weather) -> Self {
        let seed: u64 = std::env::var("WEIR_SEED").map_or(1, |seed| seed.parse().unwrap());
        let mixed = name.bytes().fold(seed, |seed, byte| seed.wrapping_mul(31).wrapping_add(byte.into()));
        let mut world = Self {
            network: Network::new(mixed, weather),
            seed,
            server: None,
            history: History::default(),
            values: 0,
            readers: 0,
            directory: TempDir::with_prefix("weir-net-").unwrap(),
        };
        world.restart().await;
        world
    }

    pub(crate) async fn restart(&mut self) {
        let options = ServeOptions {
            data_directory: self.directory.path().join("data"),
            metrics: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
            insecure_listen: true,
            ..ServeOptions::default()
        };
        let socket = self.network.socket(SocketAddr::from(([10, 0, 0, 1], BROKER_PORT)));
        let carrier = Carrier::Other { socket, runtime: Arc::new(Fast) };
        self.server = Some(Server::start_on(options, carrier).await.unwrap());
    }

    pub(crate) async fn stop(&mut self) {
        self.server.take().unwrap().stop().await.unwrap();
    }

    pub(crate) async fn client(&self, number: u32) -> Client {
        let url = self.server.as_ref().unwrap().url();
        let builder = Client::builder(&url).name(&format!("client-{number}")).connect_timeout(WITHIN);
        let client = builder.carrier(Arc::new(self.network.clone())).connect().await.unwrap();
        within(WITHIN, "the topic", client.admin().ensure_topic(TopicSpec::new(TOPIC))).await.unwrap();
        client
    }

    /// Sends so many records without waiting for their results.
    pub(crate) async fn begin(&mut self, client: &Client, number: u32, count: u64) -> Begun {
        let producer = client.producer(TOPIC).delivery_timeout(WITHIN).build().await.unwrap();
        let mut deliveries = Vec::new();
        for _ in 0..count {
            self.values += 1;
            let value = self.values;
            self.history.note(Event::Send { client: number, partition: 0, value, level: Level::Durable });
            let message = Message::new(format!("{value} {:0>400}", ""));
            deliveries.push((value, producer.enqueue(message).await.unwrap()));
        }
        Begun { deliveries, _producer: producer }
    }

    /// Waits for the results.
    pub(crate) async fn end(&self, begun: Begun) {
        for (value, delivery) in begun.deliveries {
            self.history.note(match within(2 * WITHIN, "a result", delivery).await {
                Ok(receipt) => {
                    let level = match receipt.durability {
                        Durability::Durable => Level::Durable,
                        Durability::Written => Level::Written,
                    };
                    Event::Stored { value, offset: receipt.offset, level, duplicate: receipt.duplicate }
                }
                Err(error) if error.is_outcome_unknown() => Event::InDoubt { value },
                Err(_) => Event::Failed { value },
            });
        }
    }

    pub(crate) async fn send(&mut self, client: &Client, number: u32, count: u64) {
        let begun = self.begin(client, number, count).await;
        self.end(begun).await;
    }

    /// Reads everything there is, from the start. Gives the values.
    pub(crate) async fn read_all(&mut self, client: &Client) -> Vec<Option<u64>> {
        self.readers += 1;
        let reader = self.readers;
        let start = client.consumer(TOPIC).start(Start::Earliest);
        let mut reading = within(WITHIN, "a reader", start.read_to_end()).await.unwrap();
        self.history.note(Event::Start { reader, partition: 0, offset: 0 });
        let mut values = Vec::new();
        while let Some(record) = within(WITHIN, "a record", reading.recv()).await {
            let record = record.unwrap();
            values.push(value(&record));
            self.history.note(delivered(reader, &record));
        }
        self.history.note(Event::Stop { reader });
        values
    }

    /// Begins to read so many records, a few at a time, with little credit.
    pub(crate) async fn read_slowly(&mut self, client: &Client, count: usize) -> Slow {
        self.readers += 1;
        let reader = self.readers;
        let few = NonZeroU32::new(4).unwrap();
        let start = client.consumer(TOPIC).start(Start::Earliest).credit(few, 1);
        let mut consumer = start.subscribe().await.unwrap();
        let history = self.history.clone();
        history.note(Event::Start { reader, partition: 0, offset: 0 });
        let kept = client.clone();
        Slow(tokio::spawn(async move {
            for _ in 0..count {
                let record = consumer.recv().await.unwrap().unwrap();
                history.note(delivered(reader, &record));
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            history.note(Event::Stop { reader });
            drop(kept);
        }))
    }

    /// Connections the broker has.
    pub(crate) async fn connections(&self) -> u64 {
        self.figure("weir_connections").await
    }

    /// Connections the broker has let in since it started.
    pub(crate) async fn accepted(&self) -> u64 {
        self.figure("weir_connections_accepted_total").await
    }

    async fn figure(&self, name: &str) -> u64 {
        let address = self.server.as_ref().unwrap().metrics_address().unwrap();
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).await.unwrap();
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {page}")).trim().parse().unwrap()
    }

    /// Everything has come to its end: what was seen must make sense.
    pub(crate) async fn judge(mut self) {
        let client = self.client(0).await;
        let values = self.read_all(&client).await;
        self.history.note(Event::Final { partition: 0, start: 0, values });
        self.history.note(Event::Settled);
        drop(client);
        let history = self.history.0.lock().unwrap().clone();
        let broken = check(&history);
        assert!(broken.is_empty(), "with WEIR_SEED={}: {broken:#?}", self.seed);
        self.stop().await;
    }
}

fn value(record: &Delivered) -> Option<u64> {
    let text = std::str::from_utf8(record.value.as_ref()?).ok()?;
    text.split_once(' ')?.0.parse().ok()
}

fn delivered(reader: u32, record: &Delivered) -> Event {
    Event::Delivered { reader, partition: record.partition, offset: record.offset, value: value(record) }
}
