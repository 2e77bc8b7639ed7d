//! The task of a producer: carries its lanes over one connection after the other, and looks after its timers.

use std::sync::Arc;

use weir_protocol::limits::UNACKED_BATCHES_MAX;
use weir_protocol::message::{ClaimProducer, OpenProducer, ProducerOpened};
use weir_protocol::units::TopicId;

use crate::core::producer::{Identity, LaneId, Why};
use crate::core::requests::Repeat;
use crate::error::Error;
use crate::net::lane::{LANES_MAX, REOPEN_PAUSE};
use crate::net::publish::ProducerShared;
use crate::net::publish::lane::keep_lane;
use crate::net::shared::{Live, Shared, expect, lock};

/// Carries a producer until it is closed and everything has its result.
pub(crate) async fn run(shared: Arc<ProducerShared>) {
    let mut current = shared.client.current.subscribe();
    loop {
        let live = current.borrow_and_update().clone();
        if let Some(live) = live {
            carry(&shared, &live).await;
            let now = shared.client.now();
            shared.with(|state, _| {
                (0..state.machine.lanes()).for_each(|lane| state.machine.lane_lost(LaneId(lane), now));
            });
        }
        if is_done(&shared) {
            return;
        }
        tokio::select! {
            changed = current.changed() => if changed.is_err() { break },
            () = shared.client.stop.cancelled() => break,
            () = housekeeping(&shared) => {}
        }
    }
    shared.end(&Why::Closed);
}

fn is_done(shared: &ProducerShared) -> bool {
    let state = lock(&shared.state);
    state.machine.ended().is_some() || (state.closing.is_some() && state.machine.is_idle())
}

/// Looks after timers until the producer is done.
async fn housekeeping(shared: &ProducerShared) {
    while !is_done(shared) {
        let armed = lock(&shared.state).armed;
        let wait = async {
            match armed {
                Some(at) => tokio::time::sleep_until(shared.client.instant(at)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = wait => {
                let now = shared.client.now();
                shared.with(|state, out| {
                    state.machine.tick(now, out);
                    state.armed = None;
                });
            }
            () = shared.attention.notified() => {}
        }
    }
}

/// Carries the lanes over one connection until it ends or the producer is done.
async fn carry(shared: &Arc<ProducerShared>, live: &Arc<Live>) {
    let limits = &live.welcome.limits;
    let lanes = limits.lanes_max.clamp(1, LANES_MAX);
    let unacked = usize::try_from(limits.unacked_batches_max).unwrap_or(UNACKED_BATCHES_MAX);
    let lanes = shared.with(|state, _| {
        state.machine.connected(lanes, unacked.clamp(1, UNACKED_BATCHES_MAX));
        state.machine.lanes()
    });
    let mut tasks = tokio::task::JoinSet::new();
    for lane in 0..lanes {
        let (shared, live) = (Arc::clone(shared), Arc::clone(live));
        tasks.spawn(async move { keep_lane(&shared, &live, LaneId(lane)).await });
    }
    tokio::select! {
        _ = live.connection.closed() => {}
        () = shared.client.stop.cancelled() => {}
        () = housekeeping(shared) => {}
        () = identities(shared) => {}
    }
    tasks.shutdown().await;
}

/// Asks for a new identity whenever the machine wants one. Never ends.
async fn identities(shared: &ProducerShared) {
    loop {
        if lock(&shared.state).machine.wants_identity() {
            match open_identity(&shared.client).await {
                Ok(identity) => shared.with(|state, _| state.machine.identified(identity)),
                Err(error) => {
                    tracing::warn!(%error, topic = shared.topic, "no new producer identity");
                    tokio::time::sleep(REOPEN_PAUSE).await;
                }
            }
        } else {
            shared.identity.notified().await;
        }
    }
}

/// Claims a name among the producers of a topic: whoever has it is fenced.
pub(crate) async fn claim(client: &Shared, topic: TopicId, name: &str) -> Result<Identity, Error> {
    let name = name.to_owned();
    // An answer that was lost leaves a claim that nobody knows of: the next one fences it.
    let make = move |request| ClaimProducer { request, topic, name };
    let opened: ProducerOpened = expect(&client.request(make, Repeat::Harmless).await?)?;
    Ok(Identity { producer: opened.producer, epoch: opened.epoch })
}

/// Asks the broker for a producer identity.
pub(crate) async fn open_identity(client: &Shared) -> Result<Identity, Error> {
    let answer = client.request(|request| OpenProducer { request }, Repeat::Harmless).await?;
    let opened: ProducerOpened = expect(&answer)?;
    Ok(Identity { producer: opened.producer, epoch: opened.epoch })
}
