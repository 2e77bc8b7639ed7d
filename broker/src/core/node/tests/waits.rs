//! What lanes wait for, and that nobody waits because others do not take what is theirs.

use weir_protocol::limits::PAGE_ENTRIES_MAX;
use weir_protocol::message::{Explain, Explanation, Wait, WaitsFor};

use super::*;

/// A reader with a connection of its own.
const OTHER: LaneId = LaneId { connection: ConnectionId(2), stream: StreamId(4) };

impl Script {
    fn explain(&mut self) -> Vec<Wait> {
        let (mut waits, mut after) = (Vec::new(), None);
        loop {
            let explain = Explain { request: 7, name: "orders".to_owned(), after };
            self.event(Event::Request(lane(CONTROL), Request::Explain(explain)));
            let page: Explanation = self.take(CONTROL, FrameKind::Explanation);
            assert!(page.waits.len() <= PAGE_ENTRIES_MAX as usize, "a page is bounded");
            after = page.waits.last().map(|wait| wait.id);
            waits.extend(page.waits);
            if !page.more {
                assert!(waits.is_sorted_by(|a, b| a.id < b.id), "in order, and nobody twice");
                return waits;
            }
        }
    }

    /// What the producer's lane waits for, then what the readers wait for.
    pub(super) fn causes(&mut self) -> Vec<WaitsFor> {
        self.explain().iter().map(|wait| wait.waits_for).collect()
    }

    fn open(&mut self, lane: LaneId, credit: u64) {
        let open = SubscribeOpen { topic: self.topic, limit_bytes: credit };
        self.event(Event::SubscribeOpened(lane, open));
        let (partition, generation, start) = (PartitionId::ZERO, 0, StartAt::Earliest);
        let subscribe = SubscribePartition { partition, generation, start };
        self.event(Event::SubscribePartition(lane, subscribe));
    }

    fn delivered(&self, lane: LaneId) -> usize {
        self.sent.iter().filter(|(at, frame)| (*at, frame.kind) == (lane, FrameKind::Deliver)).count()
    }

    /// Memory that a lane holds.
    fn held(&mut self, lane: LaneId) -> u64 {
        let of_lane =
            |wait: &Wait| (wait.id.connection, wait.id.stream) == (lane.connection.0, lane.stream.0);
        self.explain()
            .iter()
            .filter(|wait| wait.id.is_reader && of_lane(wait))
            .map(|wait| wait.held_bytes)
            .sum()
    }
}

#[test]
fn a_producer_waits_for_itself_the_disk_or_space() {
    let mut script = Script::new(0);
    assert_eq!(script.causes(), [WaitsFor::Producer]);
    script.publish(0, 0, b"one");
    assert_eq!(script.causes(), [WaitsFor::Disk]);
    script.sync();
    assert_eq!(script.causes(), [WaitsFor::Producer]);
    script.event(Event::StorageFull(true));
    assert_eq!(script.causes(), [WaitsFor::StorageFull]);
}

#[test]
fn whoever_used_up_a_quota_waits_for_it() {
    let mut script = Script::new(100);
    script.subscribe(0, 0, StartAt::Earliest);
    script.publish(0, 0, &[7; 5000]);
    script.sync();
    for lane in [lane(PUBLISH), lane(SUBSCRIBE)] {
        script.event(Event::Throttled(lane, true));
    }
    assert_eq!(script.causes(), [WaitsFor::Quota, WaitsFor::ReadQuota]);
    for lane in [lane(PUBLISH), lane(SUBSCRIBE)] {
        script.event(Event::Throttled(lane, false));
    }
    assert_eq!(script.causes(), [WaitsFor::Producer, WaitsFor::Application]);
}

#[test]
fn a_producer_without_memory_waits_for_credit() {
    let mut script = Script::new(0);
    let ledger = script.node.ledger().clone();
    assert!(ledger.try_take(Pool::Unflushed, ledger.limit(Pool::Unflushed)));
    assert_eq!(script.causes(), [WaitsFor::ServerCredit]);
}

#[test]
fn a_reader_waits_for_records_its_application_its_connection_or_a_read() {
    let mut script = Script::new(0);
    script.subscribe(0, 0, StartAt::Earliest);
    assert_eq!(script.causes(), [WaitsFor::Producer, WaitsFor::Records]);
    script.publish(0, 0, &[7; 5000]);
    script.publish(0, 1, &[7; 5000]);
    script.sync();
    assert_eq!(script.causes(), [WaitsFor::Producer, WaitsFor::Application]);
    assert_eq!(script.explain()[1].lag_records, 2);

    script.event(Event::Granted(lane(SUBSCRIBE), 1 << 20));
    assert_eq!(script.causes(), [WaitsFor::Producer, WaitsFor::Records]);
    for sequence in 2..20 {
        script.publish(0, sequence, &[7; 5000]);
    }
    script.sync();
    assert_eq!(script.causes(), [WaitsFor::Producer, WaitsFor::Connection], "nothing has left");
    assert!(script.explain()[1].held_bytes >= LIMITS.delivery.outbox_bytes);

    script.flush(0, 20, 0);
    script.event(Event::Sent(lane(SUBSCRIBE), 64 << 10));
    assert_eq!(script.causes(), [WaitsFor::Producer, WaitsFor::ColdRead]);
}

#[test]
fn a_wait_says_whose_it_is_and_since_when() {
    let mut script = Script::new(1 << 20);
    script.event(Event::Greeted(ConnectionId(1), "billing".to_owned()));
    script.subscribe(0, 0, StartAt::Earliest);
    script.now.monotonic_us = 1_000_000;
    script.publish(0, 0, b"one");
    script.sync();
    script.now.monotonic_us = 3_500_000;
    let waits = script.explain();
    assert!(waits.iter().all(|wait| wait.client_name == "billing"));
    assert_eq!(waits.iter().map(|wait| wait.since_us).collect::<Vec<_>>(), [2_500_000; 2]);
    script.event(Event::Disconnected(ConnectionId(1)));
    assert!(script.explain().iter().all(|wait| wait.client_name.is_empty()));
}

#[test]
fn waits_are_told_in_pages_and_counted_as_told() {
    let mut script = Script::new(0);
    for stream in 0..1500 {
        script.open(lane(100 + stream), 1 << 20);
    }
    assert_eq!(script.explain().len(), 1501);
    let counts: Vec<(WaitsFor, u64)> =
        WaitsFor::ALL.iter().copied().zip(script.node.waits()).filter(|(_, count)| *count > 0).collect();
    assert_eq!(counts, [(WaitsFor::Producer, 1), (WaitsFor::Records, 1500)]);
}

/// Readers that grant all they can and take nothing hold memory for deliveries; another one still gets its records.
#[test]
fn a_reader_goes_on_while_others_hold_the_memory_for_deliveries() {
    let limits = NodeLimits { memory: Budget { delivery: 64 << 10, ..LIMITS.memory }, ..LIMITS };
    let mut script = Script::with(limits, 0);
    for sequence in 0..20 {
        script.publish(0, sequence, &[7; 5000]);
    }
    script.sync();
    let stalled: Vec<LaneId> = (100..120).map(lane).collect();
    stalled.iter().for_each(|lane| script.open(*lane, 1 << 20));
    let ledger = script.node.ledger().clone();
    let held: u64 = stalled.iter().map(|lane| script.held(*lane)).sum();
    assert_eq!(held, ledger.taken(Pool::Delivery), "all of it is accounted for");
    assert!(held > limits.memory.delivery / 2, "they hold what they can");
    assert!(script.causes().contains(&WaitsFor::DeliveryMemory));

    script.open(OTHER, 1 << 20);
    for batches in 1..=20 {
        assert_eq!(script.delivered(OTHER), batches, "one at a time");
        let held = script.held(OTHER);
        script.event(Event::Sent(OTHER, held));
    }
    for lane in stalled.into_iter().chain([OTHER, lane(SUBSCRIBE)]) {
        script.event(Event::LaneClosed(lane));
    }
    assert_eq!((ledger.taken(Pool::Delivery), ledger.taken(Pool::Connections)), (0, 0));
}

#[test]
fn whoever_hears_that_a_topic_is_there_may_use_it() {
    let mut script = Script::new(1 << 20);
    for request in [1, 2] {
        let settings = TopicSettings {
            partitions: 1,
            retention_age_us: None,
            retention_bytes: None,
            batch_bytes_max: 16 << 10,
            explicit_partitions: false,
            dedup_horizon_us: None,
            keyed_versions: false,
            dedup_keys_per_second: None,
            dedup_since: Timestamp::ZERO,
        };
        let name = "other".to_owned();
        script.event(Event::Request(lane(CONTROL), Request::Create(CreateTopic { request, name, settings })));
    }
    assert!(!script.kinds().contains(&FrameKind::Failure), "it is not there before it is durable");
    script.sync();
    let _made: TopicInfo = script.take(CONTROL, FrameKind::TopicInfo);
    let refused: Failure = script.take(CONTROL, FrameKind::Failure);
    assert_eq!((refused.request, refused.code), (2, ErrorCode::TopicExists));
}
