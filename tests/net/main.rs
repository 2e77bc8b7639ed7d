//! The real server and the real client over a network that delays, loses, doubles and reorders datagrams, is cut, and gives a
//! client another address.
//!
//! Everything is in one process: QUIC runs on sockets of [`network`], on a clock of its own that is ten times as fast
//! ([`time`]); the broker's threads and files are the real ones. A seed decides what befalls which datagram, not in which
//! order threads run, so a seed that fails may have to be tried more than once:
//! `WEIR_SEED=7 cargo test -p tests --test net -- --exact NAME`. What clients saw is judged by `harness::check`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(clippy::indexing_slicing, reason = "a panic in a test is a failure with a line number")]

mod network;
mod time;
mod world;

use std::time::Duration;

use network::Weather;
use world::{World, within};

/// A network as it is on a bad day.
const BAD: Weather = Weather { delay_ms: (1, 40), loss: 5, doubled: 5 };

/// A network on which little gets through.
const AWFUL: Weather = Weather { delay_ms: (1, 80), loss: 25, doubled: 10 };

#[tokio::test]
async fn connections_are_made_and_used_where_a_quarter_of_all_datagrams_is_lost() {
    let mut world = World::start("loss", AWFUL).await;
    let client = world.client(1).await;
    world.send(&client, 1, 60).await;
    world.read_all(&client).await;
    world.judge().await;
}

#[tokio::test]
async fn a_producer_that_is_cut_off_in_mid_batch_goes_on_without_loss_or_duplicate() {
    let mut world = World::start("cut", BAD).await;
    let client = world.client(1).await;
    let network = world.network.clone();
    let cuts = tokio::spawn(async move {
        for _ in 0..2 {
            tokio::time::sleep(Duration::from_millis(150)).await;
            network.cut(true);
            // Longer than a client takes silence for.
            tokio::time::sleep(Duration::from_millis(2800)).await;
            network.cut(false);
        }
    });
    while !cuts.is_finished() {
        world.send(&client, 1, 200).await;
    }
    world.read_all(&client).await;
    world.judge().await;
}

#[tokio::test]
async fn a_broker_forgets_a_client_that_has_gone_without_a_word() {
    let mut world = World::start("idle", BAD).await;
    let client = world.client(1).await;
    world.send(&client, 1, 20).await;
    assert_eq!(world.connections().await, 1);
    world.network.cut(true);
    drop(client);
    let gone = async {
        while world.connections().await > 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    within(Duration::from_secs(20), "the idle time-out", gone).await;
    world.network.cut(false);
    let client = world.client(2).await;
    world.read_all(&client).await;
    world.judge().await;
}

#[tokio::test]
async fn a_broker_that_restarts_while_nobody_hears_it_is_found_again() {
    let mut world = World::start("restart", BAD).await;
    let client = world.client(1).await;
    world.send(&client, 1, 50).await;
    let last = world.begin(&client, 1, 50).await;
    // Nobody hears the farewell.
    world.network.cut(true);
    world.stop().await;
    world.restart().await;
    world.network.cut(false);
    world.end(last).await;
    world.send(&client, 1, 50).await;
    world.read_all(&client).await;
    world.judge().await;
}

#[tokio::test]
async fn a_client_whose_address_changes_keeps_its_connection() {
    let mut world = World::start("rebind", BAD).await;
    let client = world.client(1).await;
    for _ in 0..4 {
        world.send(&client, 1, 40).await;
        world.network.rebind();
    }
    world.send(&client, 1, 40).await;
    world.read_all(&client).await;
    assert_eq!(world.accepted().await, 1, "it is the same connection all the time");
    world.judge().await;
}

#[tokio::test]
async fn a_broker_stops_in_order_on_a_bad_network_and_owes_nobody_anything() {
    let mut world = World::start("stop", AWFUL).await;
    let client = world.client(1).await;
    world.send(&client, 1, 50).await;
    let last = world.begin(&client, 1, 100).await;
    world.stop().await;
    world.restart().await;
    world.end(last).await;
    world.send(&client, 1, 20).await;
    world.read_all(&client).await;
    world.judge().await;
}

#[tokio::test]
async fn a_slow_reader_gets_everything_in_order_and_slows_nobody() {
    let mut world = World::start("slow", BAD).await;
    let (client, reading) = (world.client(1).await, world.client(2).await);
    let slow = world.read_slowly(&reading, 150).await;
    world.send(&client, 1, 150).await;
    world.send(&client, 1, 150).await;
    within(Duration::from_secs(60), "the slow reader", slow.ended()).await;
    world.read_all(&client).await;
    world.judge().await;
}
