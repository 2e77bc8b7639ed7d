//! Members of groups against a real broker in the same process: hooks, and leases by name.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;
use weir_broker::testing::TestBroker;
use weir_client::{
    Assigned, AssignmentListener, Checkpoint, Client, Consumer, ConsumerEvent, ErrorKind, GapReason, Message,
    Revoking, Start, TopicSpec,
};

/// Longest wait for something that must happen.
const LIMIT: Duration = Duration::from_secs(60);

/// Tells a test what it is told, and commits what that has done when a partition goes.
#[derive(Clone)]
struct Hooks {
    told: mpsc::Sender<String>,
    done: Arc<Mutex<Checkpoint>>,
}

impl Hooks {
    fn new() -> (Self, mpsc::Receiver<String>) {
        let (told, heard) = mpsc::channel(100);
        (Self { told, done: Arc::default() }, heard)
    }
}

impl AssignmentListener for Hooks {
    async fn assigned(&self, assigned: Assigned<'_>) {
        let text = format!("assigned {} at {}", assigned.partition, assigned.committed);
        self.told.send(text).await.unwrap();
    }

    async fn revoking(&self, revoking: Revoking<'_>) {
        let done = self.done.lock().unwrap().clone();
        revoking.control.commit(&done).await.unwrap();
        self.told.send(format!("revoking {}", revoking.partition)).await.unwrap();
    }

    fn lost(&self, partition: u32) {
        self.told.try_send(format!("lost {partition}")).unwrap();
    }
}

async fn heard(heard: &mut mpsc::Receiver<String>, count: usize) -> Vec<String> {
    let mut all = Vec::new();
    while all.len() < count {
        all.push(tokio::time::timeout(LIMIT, heard.recv()).await.unwrap().unwrap());
    }
    all.sort();
    all
}

async fn join(client: &Client, hooks: &Hooks) -> Consumer {
    let builder = client.consumer("t").group("g").start(Start::Earliest);
    builder.assignment(hooks.clone()).subscribe().await.unwrap()
}

/// A broker, and a topic with ten records in each of two partitions.
async fn started() -> (TestBroker, Client) {
    let broker = TestBroker::start().await.unwrap();
    let client = Client::connect(&broker.url()).await.unwrap();
    let spec = TopicSpec::new("t").partitions(2).explicit_partitions();
    client.admin().create_topic(spec).await.unwrap();
    let producer = client.producer("t").build().await.unwrap();
    for partition in [0, 1].repeat(10) {
        producer.send(Message::new("value").partition(partition)).await.unwrap();
    }
    (broker, client)
}

#[tokio::test]
async fn a_listener_is_told_before_partitions_come_and_go_and_commits_what_was_done() {
    let (broker, client) = started().await;
    let (hooks, mut told) = Hooks::new();
    let mut first = join(&client, &hooks).await;
    assert_eq!(heard(&mut told, 2).await, ["assigned 0 at 0", "assigned 1 at 0"]);
    // Kept: what is dropped before it is settled comes again.
    let mut received = Vec::new();
    while received.len() < 20 {
        received.push(first.recv().await.unwrap().unwrap());
    }
    *hooks.done.lock().unwrap() = first.checkpoint();
    let other = Client::connect(&broker.url()).await.unwrap();
    let (others, mut others_told) = Hooks::new();
    let _second = join(&other, &others).await;
    let revoked = heard(&mut told, 1).await;
    let partition = revoked[0].strip_prefix("revoking ").unwrap();
    assert_eq!(heard(&mut others_told, 1).await, [format!("assigned {partition} at 10")]);
}

#[tokio::test]
async fn a_reset_is_a_loss_and_a_new_lease_and_a_member_seeks_not() {
    let (_broker, client) = started().await;
    let (hooks, mut told) = Hooks::new();
    let mut member = join(&client, &hooks).await;
    heard(&mut told, 2).await;
    let record = member.recv().await.unwrap().unwrap();
    let token = record.lease().unwrap();
    client.admin().reset_group("t", "g", &Start::Offset(record.partition, 3), false).await.unwrap();
    let (lost, assigned) =
        (format!("lost {}", record.partition), format!("assigned {} at 3", record.partition));
    assert_eq!(heard(&mut told, 2).await, [assigned, lost]);
    let partition = record.partition;
    assert_eq!(record.ack().await.unwrap_err().kind(), ErrorKind::Fenced);
    let again = loop {
        let record = member.recv().await.unwrap().unwrap();
        if record.partition == partition && record.lease().unwrap() > token {
            break record;
        }
    };
    assert_eq!(again.offset, 3);
    assert_eq!(member.seek(Start::Earliest).await.unwrap_err().kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn a_lease_by_name_has_one_holder_and_goes_on_with_a_higher_token() {
    let broker = TestBroker::start().await.unwrap();
    let [one, other] =
        [broker.url(), broker.url()].map(|url| async move { Client::connect(&url).await.unwrap() });
    let (one, other) = (one.await, other.await);
    let first = one.lease("job").acquire().await.unwrap();
    assert!(first.is_held());
    let mut second = pin!(other.lease("job").time(Duration::from_secs(1)).acquire());
    let another = other.lease("another").acquire().await.unwrap();
    assert!(another.is_held(), "leases of other names are other leases");
    // The second one asks until the broker knows of it.
    loop {
        assert!(second.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        let group = one.admin().describe_group("weir.leases", "job").await.unwrap();
        if group.members.len() == 2 {
            break;
        }
    }
    assert!(first.is_held(), "who has it keeps it");
    let token = first.token();
    first.release(LIMIT).await;
    let second = tokio::time::timeout(LIMIT, second).await.unwrap().unwrap();
    assert!(second.token() > token);
    // Without its broker a lease ends by itself.
    broker.stop().await.unwrap();
    tokio::time::timeout(LIMIT, second.lost()).await.unwrap();
    assert!(!second.is_held());
}

#[tokio::test]
async fn what_has_outlived_its_lifetime_is_left_out_and_settled() {
    let broker = TestBroker::start().await.unwrap();
    let client = Client::connect(&broker.url()).await.unwrap();
    client.admin().create_topic(TopicSpec::new("t").partitions(1)).await.unwrap();
    let producer = client.producer("t").build().await.unwrap();
    let (short, long) = (Duration::from_millis(1), Duration::from_secs(3600));
    for (value, lifetime) in [("a", short), ("b", long), ("c", short), ("d", long)] {
        producer.send(Message::new(value).lifetime(lifetime)).await.unwrap();
    }
    let last = producer.send(Message::new("e").lifetime(short)).await.unwrap();
    let over = last.timestamp + short;
    tokio::time::timeout(LIMIT, async {
        while SystemTime::now() < over {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    let mut reading = client.consumer("t").start(Start::Earliest).read_to_end().await.unwrap();
    let mut read = Vec::new();
    while let Some(record) = reading.recv().await {
        read.push(record.unwrap().offset);
    }
    assert_eq!(read, [1, 3]);
    let mut member = client.consumer("t").group("g").start(Start::Earliest).subscribe().await.unwrap();
    let mut events = member.events();
    for offset in [1, 3] {
        let record = member.recv().await.unwrap().unwrap();
        assert_eq!(record.offset, offset);
        record.ack().await.unwrap();
    }
    let expired = |from| ConsumerEvent::Gap { partition: 0, from, to: from + 1, reason: GapReason::Expired };
    assert_eq!(events.recv().await, Some(ConsumerEvent::Assigned(0)));
    assert_eq!(events.recv().await, Some(expired(0)));
    assert_eq!(events.recv().await, Some(expired(2)));
    tokio::time::timeout(LIMIT, async {
        // Nothing comes any more, but what is left out is seen only by who asks for more.
        let next = member.recv();
        let settled = async {
            while client.admin().describe_group("t", "g").await.unwrap().partitions[0].committed < 5 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            record = next => panic!("{record:?}"),
            () = settled => {}
        }
    })
    .await
    .unwrap();
}
