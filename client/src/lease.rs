//! Leases by name: of all that want it, one has it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use weir_protocol::units::{LeaseEpoch, PartitionId};

use crate::admin::TopicSpec;
use crate::client::Client;
use crate::consumer::Consumer;
use crate::error::Error;
use crate::net::member::GroupShared;
use crate::net::shared::lock;
use crate::options::Start;

/// The topic whose groups stand for leases, unless another one is named. It has one partition and no records.
const TOPIC: &str = "weir.leases";

/// How long a lease lasts without being renewed, by default.
const TIME: Duration = Duration::from_secs(10);

/// The only partition of a topic of leases.
const PARTITION: PartitionId = PartitionId::ZERO;

/// Asks for a [`Lease`].
#[derive(Clone)]
#[must_use = "nothing happens before acquire()"]
pub struct LeaseBuilder {
    client: Client,
    name: String,
    topic: String,
    time: Duration,
}

impl fmt::Debug for LeaseBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, topic, time, .. } = self;
        f.debug_struct("LeaseBuilder")
            .field("name", name)
            .field("topic", topic)
            .field("time", time)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// A lease of this name, for what only one process at a time is to do: a job at midnight, a migration, a leader.
    pub fn lease(&self, name: &str) -> LeaseBuilder {
        LeaseBuilder { client: self.clone(), name: name.to_owned(), topic: TOPIC.to_owned(), time: TIME }
    }
}

impl LeaseBuilder {
    /// The topic that the lease belongs to, `weir.leases` by default; it is made if it does not exist. Leases of one name in
    /// two topics are two leases.
    pub fn topic(mut self, topic: &str) -> Self {
        topic.clone_into(&mut self.topic);
        self
    }

    /// How long the lease outlasts a process that died or cannot reach the broker: 10 s by default, at least 100 ms. While
    /// the process lives and reaches it, the lease is renewed.
    pub fn time(mut self, time: Duration) -> Self {
        self.time = time;
        self
    }

    /// Waits for the lease, for as long as others have it.
    ///
    /// # Errors
    /// `WEIR-2003` if the name is not allowed, `WEIR-2004` for a time that is too short or too long, `WEIR-4106` if the broker
    /// has no place for it, and what keeps a client from its broker.
    ///
    /// # Cancel safety
    /// If dropped before completion others may have the lease at once.
    pub async fn acquire(self) -> Result<Lease, Error> {
        self.client.admin().ensure_topic(TopicSpec::new(&self.topic)).await?;
        let member =
            self.client.consumer(&self.topic).group(&self.name).lease(self.time).start(Start::Latest);
        let member = member.subscribe().await?;
        let group = member.membership().ok_or_else(|| Error::closed("client"))?;
        let token = granted(&group).await?;
        Ok(Lease { member, group, token })
    }
}

/// A right that one process has at a time, renewed by itself as long as this lives.
///
/// A process that stands still for longer than the lease lasts does not notice at once that it is over. What must not happen
/// twice is therefore done under the [`token`](Self::token): whoever does it (a database, a service) remembers the highest
/// token it has seen, and refuses lower ones.
///
/// Dropping it gives the lease back.
#[derive(Debug)]
pub struct Lease {
    member: Consumer,
    group: Arc<GroupShared>,
    token: LeaseEpoch,
}

impl Lease {
    /// The fencing token: whoever has the lease later has a higher one, also after a restart of the broker.
    #[must_use]
    pub const fn token(&self) -> u64 {
        self.token.get()
    }

    /// Whether the lease lasts, as far as this process knows now.
    #[must_use]
    pub fn is_held(&self) -> bool {
        let now = self.group.consumer.client.now();
        self.group.with(|machine| {
            machine.pass_time(now);
            machine.lease_of(PARTITION) == Some(self.token)
        })
    }

    /// Waits until the lease is over: it could not be renewed in time.
    ///
    /// # Cancel safety
    /// If dropped before completion nothing happened.
    pub async fn lost(&self) {
        let mut changes = self.group.changes.subscribe();
        while self.is_held() && changes.changed().await.is_ok() {}
    }

    /// Gives the lease back, and waits at most so long until the broker has heard of it.
    ///
    /// # Cancel safety
    /// If dropped before completion the lease ends within its time.
    pub async fn release(self, deadline: Duration) {
        drop(self.member.drain(deadline).await);
    }
}

/// Waits until the member has the partition.
async fn granted(group: &GroupShared) -> Result<LeaseEpoch, Error> {
    let mut changes = group.changes.subscribe();
    loop {
        if let Some(lease) = lock(&group.state).machine.lease_of(PARTITION) {
            return Ok(lease);
        }
        if let Some(error) = lock(&group.consumer.state).error.clone() {
            return Err(error);
        }
        if changes.changed().await.is_err() {
            return Err(Error::closed("client"));
        }
    }
}
