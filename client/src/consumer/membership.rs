//! Joins a group.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;
use weir_protocol::message::JoinGroup;

use crate::admin::{self, Admin};
use crate::consumer::assignment::Listener;
use crate::consumer::builder::ConsumerBuilder;
use crate::consumer::reading::Reading;
use crate::core::consumer::Consumer as Machine;
use crate::error::Error;
use crate::groups;
use crate::net::member::{self, GroupShared};
use crate::net::shared::lock;
use crate::net::subscribe::{self, ConsumerShared};
use crate::options::{OnDrop, Redelivery};

/// How long a member keeps its partitions without being heard of, by default.
const LEASE: Duration = Duration::from_secs(10);

/// What is chosen for a member.
#[derive(Clone, Debug)]
pub(super) struct Membership {
    pub(super) group: String,
    pub(super) member: String,
    pub(super) grace: Duration,
    pub(super) lease: Duration,
    pub(super) listener: Option<Listener>,
    pub(super) redelivery: Option<Redelivery>,
    pub(super) on_drop: OnDrop,
}

impl Default for Membership {
    fn default() -> Self {
        Self {
            group: String::new(),
            member: Uuid::now_v7().simple().to_string(),
            grace: Duration::ZERO,
            lease: LEASE,
            listener: None,
            redelivery: None,
            on_drop: OnDrop::default(),
        }
    }
}

impl Membership {
    /// Makes the group if that is asked for, and joins it.
    pub(super) async fn open(self, builder: ConsumerBuilder) -> Result<Reading, Error> {
        let client = Arc::clone(&builder.client);
        let shared = Arc::clone(&client.shared);
        let topic = admin::topic(&shared, &builder.topic).await?;
        if let Some(start) = &builder.start {
            let made = Admin::new(Arc::clone(&client)).create_group(&builder.topic, &self.group, start).await;
            if let Err(error) = made
                && !groups::is_there(&error)
            {
                return Err(error);
            }
        }
        if let Some(redelivery) = &self.redelivery {
            let admin = Admin::new(Arc::clone(&client));
            admin.set_redelivery(&builder.topic, &self.group, redelivery).await?;
        }
        let (options, pool_bytes) = builder.options(&topic, Vec::new(), false);
        let machine = Machine::of_member(options, topic.settings.partitions);
        let consumer = ConsumerShared::new(Arc::clone(&shared), &builder.topic, machine, pool_bytes);
        let consumer = Arc::new(consumer);
        let millis = |time: Duration| u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
        let join = JoinGroup {
            topic: topic.id,
            group: self.group,
            member: self.member,
            instance: Uuid::now_v7().as_u64_pair().0,
            lease_ms: millis(self.lease),
            grace_ms: millis(self.grace),
        };
        let group = Arc::new(GroupShared::new(Arc::clone(&consumer), join, (self.listener, self.on_drop)));
        shared.tasks.spawn_on(subscribe::run(Arc::clone(&consumer)), &shared.runtime);
        shared.tasks.spawn_on(member::run(Arc::clone(&group)), &shared.runtime);
        let mut reading = Reading::new(Arc::clone(&consumer), client, topic.id, builder.messages_max());
        reading.group = Some(Arc::clone(&group));
        group.joined().await;
        let failed = lock(&consumer.state).error.clone();
        failed.map_or(Ok(reading), Err)
    }
}
