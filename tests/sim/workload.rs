//! What clients do in a world, and how large its broker is.

use std::time::Duration;

use harness::Random;
use weir_broker::core::NodeLimits;
use weir_broker::core::coordinator::TopicLimits;
use weir_broker::core::ingest::IngestLimits;
use weir_broker::core::ledger::Budget;
use weir_broker::core::subscription::DeliveryLimits;
use weir_protocol::limits::DEDUP_HORIZON_US_DEFAULT;
use weir_protocol::message::{ServerLimits, TopicSettings};
use weir_protocol::units::{Durability, Timestamp};
use weir_storage::dedup::KeySeed;
use weir_storage::journal::JournalOptions;
use weir_storage::store::{KeyOptions, OpenOptions, SegmentOptions};

use crate::broker::Sizes;
use crate::client::{MemberPlan, PublishPlan, ReadPlan, Work};
use crate::scheduler::{MS, SECOND};

/// A workload: its name, and what it draws for a seed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    pub(crate) draw: fn(&mut Random) -> Plan,
}

/// What happens in one world, faults aside.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) sizes: Sizes,
    pub(crate) topic: TopicSettings,
    /// Longest record.
    pub(crate) record_bytes: u64,
    pub(crate) clients: Vec<Work>,
}

/// All workloads.
pub(crate) const ALL: [Workload; 10] = [
    Workload { name: "steady", draw: steady },
    Workload { name: "written", draw: written },
    Workload { name: "backlog", draw: backlog },
    Workload { name: "retention", draw: retention },
    Workload { name: "crowd", draw: crowd },
    Workload { name: "impatient", draw: impatient },
    Workload { name: "wide", draw: wide },
    Workload { name: "keys", draw: keys },
    Workload { name: "groups", draw: groups },
    Workload { name: "counters", draw: counters },
];

/// Settings of a topic.
pub(crate) const fn topic(partitions: u32) -> TopicSettings {
    TopicSettings {
        partitions,
        retention_age_us: None,
        retention_bytes: None,
        batch_bytes_max: BATCH_BYTES_MAX,
        explicit_partitions: false,
        dedup_horizon_us: Some(DEDUP_HORIZON_US_DEFAULT),
        keyed_versions: false,
        dedup_keys_per_second: None,
        dedup_since: Timestamp::ZERO,
    }
}

fn sizes(random: &mut Random) -> Sizes {
    let journal = JournalOptions {
        file_bytes: 64 << 10,
        files: 2,
        files_max: u32::try_from(random.between(2, 4)).unwrap_or(2),
        reserve_bytes: 16 << 10,
    };
    let segments = SegmentOptions {
        own_file_bytes: 32 << 10,
        file_bytes_max: 128 << 10,
        merge_files: 3,
        merge_run_bytes: 8 << 10,
        merge_step_bytes: 16 << 10,
    };
    let (unflushed, ingest) = if random.percent(50) { (128 << 10, 24 << 10) } else { (512 << 10, 128 << 10) };
    let memory = Budget {
        ingest,
        unflushed,
        hot_cache: random.between(0, 64 << 10),
        delivery: 64 << 10,
        connections: 1 << 20,
        dedup: 0,
        groups: 1 << 20,
        // Some have none: then each connection has only what is kept for it.
        control: random.between(0, 2) * (8 << 10),
    };
    let node = NodeLimits {
        memory,
        ingest: IngestLimits { window_bytes_min: 9 << 10, window_bytes_max: 36 << 10, turn_bytes: 9 << 10 },
        topics: TopicLimits {
            topics_max: 10,
            partitions_max: 100,
            batch_bytes_max: BATCH_BYTES_MAX,
            key_disk_bytes: 1 << 40,
        },
        delivery: DeliveryLimits {
            frame_bytes: 16 << 10,
            cold_bytes: 16 << 10,
            outbox_bytes: 32 << 10,
            cursors_per_lane_max: 100,
        },
    };
    let small = |random: &mut Random, most| u32::try_from(random.between(1, most)).unwrap_or(1);
    let server = ServerLimits {
        frame_bytes_max: 24 << 10,
        batch_bytes_max: BATCH_BYTES_MAX,
        record_bytes_max: 4 << 10,
        unacked_batches_max: small(random, 8),
        lanes_max: small(random, 4),
        streams_max: 100,
    };
    let flush_bytes = random.between(4 << 10, 48 << 10);
    let keys = KeyOptions { filter_bytes: random.between(0, 16 << 10), ..KeyOptions::default() };
    let recent_keys = random.between(20, 2000);
    Sizes {
        open: OpenOptions {
            journal,
            segments,
            keys,
            idle_read_bytes: 0,
            // A world is the same in every run.
            new_key_seed: Some(KeySeed::from_bytes(*b"keys of the sims")),
        },
        node,
        server,
        flush_bytes,
        recent_keys,
    }
}

/// Longest batch.
const BATCH_BYTES_MAX: u32 = 8 << 10;

/// Longest record where nothing else is said.
const RECORD_BYTES: u64 = 600;

const PUBLISH: PublishPlan = PublishPlan {
    burst: 20,
    pause: SECOND,
    batch_bytes: 2 << 10,
    durability: Durability::Durable,
    window: (64 << 10, 1000),
    timeout: Duration::from_secs(120),
    linger: Duration::ZERO,
    keyed: false,
    counters: 0,
};

const READ: ReadPlan = ReadPlan {
    pause: 100 * MS,
    window_bytes: 64 << 10,
    window_records: None,
    frame_bytes_max: 24 << 10,
    seeks: 0,
};

/// Two producers and two readers at an easy pace.
fn steady(random: &mut Random) -> Plan {
    let linger = Duration::from_millis(random.below(20));
    let publish = Work::Publish(PublishPlan { linger, ..PUBLISH });
    let restless = ReadPlan { seeks: 5, ..READ };
    let clients = vec![publish.clone(), publish, Work::Read(restless), Work::Read(READ)];
    Plan { sizes: sizes(random), topic: topic(3), record_bytes: RECORD_BYTES, clients }
}

/// Answers of both levels beside each other.
fn written(random: &mut Random) -> Plan {
    let written = PublishPlan { durability: Durability::Written, pause: 500 * MS, ..PUBLISH };
    let clients =
        vec![Work::Publish(written), Work::Publish(written), Work::Publish(PUBLISH), Work::Read(READ)];
    Plan { sizes: sizes(random), topic: topic(2), record_bytes: RECORD_BYTES, clients }
}

/// Producers as fast as they may be, and readers that cannot follow.
fn backlog(random: &mut Random) -> Plan {
    let fast = PublishPlan { burst: 100, pause: 200 * MS, ..PUBLISH };
    let slow = ReadPlan { pause: 2 * SECOND, window_bytes: 24 << 10, seeks: 5, ..READ };
    let few = ReadPlan { window_records: Some(random.between(1, 60)), ..READ };
    let clients = vec![Work::Publish(fast), Work::Publish(fast), Work::Read(slow), Work::Read(few)];
    Plan { sizes: sizes(random), topic: topic(2), record_bytes: RECORD_BYTES, clients }
}

/// Retention overtakes readers.
fn retention(random: &mut Random) -> Plan {
    let fast = PublishPlan { burst: 60, pause: SECOND, ..PUBLISH };
    let slow = ReadPlan { pause: 10 * SECOND, window_bytes: 24 << 10, seeks: 2, ..READ };
    let clients = vec![Work::Publish(fast), Work::Read(slow), Work::Read(READ), Work::Topics];
    let age = random.percent(50).then_some(10 * SECOND);
    let kept = TopicSettings {
        retention_age_us: age,
        retention_bytes: Some(random.between(8 << 10, 64 << 10)),
        ..topic(2)
    };
    Plan { sizes: sizes(random), topic: kept, record_bytes: RECORD_BYTES, clients }
}

/// Many clients on many partitions, and topics that come and go.
fn crowd(random: &mut Random) -> Plan {
    let publish = Work::Publish(PublishPlan { burst: 40, pause: 2 * SECOND, ..PUBLISH });
    let mut clients = vec![publish; 6];
    clients.extend([Work::Read(READ), Work::Read(READ), Work::Topics]);
    Plan { sizes: sizes(random), topic: topic(8), record_bytes: RECORD_BYTES, clients }
}

/// Small windows, short time-outs, and senders that give up waiting.
fn impatient(random: &mut Random) -> Plan {
    let window = (random.between(1000, 6000), random.between(2, 40));
    let publish = PublishPlan {
        window,
        timeout: Duration::from_secs(random.between(2, 10)),
        pause: 300 * MS,
        ..PUBLISH
    };
    let linger = PublishPlan { linger: Duration::from_millis(50), ..publish };
    let clients =
        vec![Work::Publish(publish), Work::Publish(publish), Work::Publish(linger), Work::Read(READ)];
    Plan { sizes: sizes(random), topic: topic(2), record_bytes: RECORD_BYTES, clients }
}

/// Many partitions on a lane, batches of every length up to the longest, and readers' windows that hold little more.
fn wide(random: &mut Random) -> Plan {
    let mut sizes = sizes(random);
    sizes.server.lanes_max = 1;
    // A frame holds the longest batch, what the broker adds to it, and no more.
    let frame_bytes_max = u64::from(BATCH_BYTES_MAX) + 256;
    sizes.node.delivery.frame_bytes = u64::from(BATCH_BYTES_MAX);
    sizes.node.delivery.cold_bytes = u64::from(BATCH_BYTES_MAX);
    let publish =
        PublishPlan { burst: random.between(1, 12), batch_bytes: 8 << 10, pause: SECOND, ..PUBLISH };
    let read = ReadPlan { window_bytes: random.between(8 << 10, 24 << 10), frame_bytes_max, ..READ };
    let few = ReadPlan { window_records: Some(random.between(1, 20)), ..read };
    let clients = vec![Work::Publish(publish), Work::Publish(publish), Work::Read(read), Work::Read(few)];
    Plan { sizes, topic: topic(16), record_bytes: 3 << 10, clients }
}

/// Records with keys that are sent until they have a result, sometimes again, and sometimes with another payload.
fn keys(random: &mut Random) -> Plan {
    let timeout = Duration::from_secs(random.between(2, 60));
    let publish = PublishPlan { keyed: true, timeout, pause: 500 * MS, ..PUBLISH };
    let unkeyed = PublishPlan { pause: 2 * SECOND, ..PUBLISH };
    let clients =
        vec![Work::Publish(publish), Work::Publish(publish), Work::Publish(unkeyed), Work::Read(READ)];
    // Longer than any world lasts: what was stored once is never stored again.
    let topic = TopicSettings { dedup_horizon_us: Some(86_400_000_000), ..topic(3) };
    Plan { sizes: sizes(random), topic, record_bytes: RECORD_BYTES, clients }
}

/// Members of a group that come and go, pause, die and acknowledge in any order.
fn groups(random: &mut Random) -> Plan {
    let publish = Work::Publish(PublishPlan { pause: 500 * MS, ..PUBLISH });
    let member = Work::Join(MemberPlan {
        read: ReadPlan { pause: 50 * MS, ..READ },
        lease_ms: u32::try_from(random.between(300, 10_000)).unwrap_or(1000),
        grace_ms: if random.percent(30) { 5_000 } else { 0 },
        work: random.between(10 * MS, 3 * SECOND),
        leaves: random.below(3),
    });
    let mut clients = vec![publish.clone(), publish, Work::Read(READ)];
    let (members, partitions) = (random.between(1, 4), random.between(1, 6));
    clients.resize(clients.len() + usize::try_from(members).unwrap_or(1), member);
    let mut sizes = sizes(random);
    // Sometimes there is a place for everybody, and almost nothing for what is settled ahead.
    let ahead = if random.percent(50) { 32 } else { 1 << 20 };
    sizes.node.memory.groups = 1024 + 256 * partitions + 512 * members + ahead;
    let partitions = u32::try_from(partitions).unwrap_or(1);
    Plan { sizes, topic: topic(partitions), record_bytes: RECORD_BYTES, clients }
}

/// Clients that count together, each on what it has seen last.
fn counters(random: &mut Random) -> Plan {
    let timeout = Duration::from_secs(random.between(5, 60));
    let counters = random.between(1, 12);
    let publish = PublishPlan { counters, timeout, pause: 500 * MS, burst: 6, ..PUBLISH };
    let written = PublishPlan { durability: Durability::Written, ..publish };
    let clients =
        vec![Work::Publish(publish), Work::Publish(publish), Work::Publish(written), Work::Read(READ)];
    let topic = TopicSettings { keyed_versions: true, ..topic(2) };
    Plan { sizes: sizes(random), topic, record_bytes: RECORD_BYTES, clients }
}
