//! The consumer against scripts of events, and against a model of the broker.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use proptest::prelude::*;
use weir_protocol::units::TopicId;

use super::*;

const TOPIC: TopicId = TopicId::from_bytes([3; 16]);
const P0: PartitionId = PartitionId::ZERO;
const LANE: LaneId = LaneId(0);

fn consumer(partitions: u32, start: StartAt, to_end: bool) -> Consumer {
    Consumer::new(ConsumerOptions {
        topic: TOPIC,
        partitions: (0..partitions).map(|partition| (PartitionId::new(partition), start)).collect(),
        window_bytes: 4000,
        window_records: None,
        frame_bytes_max: 100,
        to_end,
    })
}

/// Connects with one lane and returns the starts that are sent.
fn connect(consumer: &mut Consumer) -> Vec<SubscribePartition> {
    consumer.connected(1);
    consumer.lane_opened(LANE);
    starts(consumer)
}

fn starts(consumer: &mut Consumer) -> Vec<SubscribePartition> {
    let commands = consumer.commands(LANE).into_iter().filter_map(|command| match command {
        Command::Subscribe(subscribe) => Some(subscribe),
        Command::Unsubscribe(_) | Command::Grant(_) | Command::GrantRecords(_) => None,
    });
    commands.collect()
}

fn started(consumer: &mut Consumer, start: &SubscribePartition, position: u64, high_watermark: u64) {
    consumer.started(&PartitionStarted {
        partition: start.partition,
        generation: start.generation,
        position: Offset::new(position),
        log_start: Offset::ZERO,
        high_watermark: Offset::new(high_watermark),
    });
}

/// A frame whose bytes stand for the offsets `from..to`.
fn deliver(start: &SubscribePartition, from: u64, to: u64) -> Deliver {
    let mut batches = BytesMut::new();
    batches.put_u64_le(from);
    batches.put_u64_le(to);
    let high_watermark = Offset::new(to);
    Deliver {
        partition: start.partition,
        generation: start.generation,
        high_watermark,
        batches: batches.freeze(),
    }
}

fn range(batches: &Bytes) -> (u64, u64) {
    let number = |at: usize| u64::from_le_bytes(batches[at..at + 8].try_into().unwrap());
    (number(0), number(8))
}

/// Takes everything; returns the offsets handed out, and gives the frames back.
fn take_all(consumer: &mut Consumer) -> Vec<u64> {
    let mut offsets = Vec::new();
    while let Some(taken) = consumer.take() {
        if let Taken::Frame(frame) = taken {
            offsets.extend(hand_out(consumer, &frame));
            consumer.consumed(&frame);
        }
    }
    offsets
}

fn hand_out(consumer: &mut Consumer, frame: &Frame) -> Vec<u64> {
    let (base, end) = range(&frame.batches);
    match consumer.begin_batch(frame, Offset::new(base), Offset::new(end)) {
        Step::Deliver { from, until } => (from.get()..until.get()).collect(),
        Step::Skip | Step::Stale => Vec::new(),
    }
}

#[test]
fn a_batch_that_begins_before_the_position_is_cut() {
    let mut consumer = consumer(1, StartAt::Offset(Offset::new(5)), false);
    let start = connect(&mut consumer)[0];
    assert_eq!(start.start, StartAt::Offset(Offset::new(5)));
    started(&mut consumer, &start, 5, 20);
    assert!(consumer.delivered(LANE, &deliver(&start, 2, 8)));
    assert_eq!(take_all(&mut consumer), [5, 6, 7]);
    assert_eq!(consumer.lag().collect::<Vec<_>>(), [(P0, 12)]);
    assert!(consumer.missing().is_empty());
}

#[test]
fn a_lost_connection_goes_on_where_the_application_is() {
    let mut consumer = consumer(1, StartAt::Latest, false);
    let start = connect(&mut consumer)[0];
    started(&mut consumer, &start, 10, 10);
    consumer.delivered(LANE, &deliver(&start, 10, 12));
    assert_eq!(take_all(&mut consumer), [10, 11]);
    consumer.delivered(LANE, &deliver(&start, 12, 15));

    consumer.lane_lost(LANE);
    assert!(consumer.take().is_none(), "what was not taken comes again");
    let again = connect(&mut consumer)[0];
    assert_eq!(again.start, StartAt::Offset(Offset::new(12)), "not at the end, which has moved");
    assert!(again.generation > start.generation);
    started(&mut consumer, &again, 12, 15);
    consumer.delivered(LANE, &deliver(&start, 0, 3));
    consumer.delivered(LANE, &deliver(&again, 12, 15));
    assert_eq!(take_all(&mut consumer), [12, 13, 14]);
}

#[test]
fn what_was_begun_before_the_connection_was_lost_is_not_read_again() {
    let mut consumer = consumer(1, StartAt::Earliest, false);
    let start = connect(&mut consumer)[0];
    started(&mut consumer, &start, 0, 9);
    consumer.delivered(LANE, &deliver(&start, 0, 4));
    let Some(Taken::Frame(frame)) = consumer.take() else { panic!("a frame came") };
    assert_eq!(hand_out(&mut consumer, &frame), [0, 1, 2, 3]);
    consumer.lane_lost(LANE);
    consumer.consumed(&frame);
    assert_eq!(connect(&mut consumer)[0].start, StartAt::Offset(Offset::new(4)));
    assert_eq!(hand_out(&mut consumer, &frame), [0; 0], "the rest of an old frame is out of date");
}

#[test]
fn a_connection_lost_before_the_start_was_answered_asks_again_for_the_same() {
    let mut consumer = consumer(1, StartAt::Last(3), false);
    connect(&mut consumer);
    assert!(!consumer.is_started());
    consumer.lane_lost(LANE);
    let again = connect(&mut consumer)[0];
    assert_eq!(again.start, StartAt::Last(3));
    started(&mut consumer, &again, 7, 10);
    assert!(consumer.is_started());
}

#[test]
fn reading_to_the_end_stops_at_the_end_of_the_first_start() {
    let mut consumer = consumer(2, StartAt::Earliest, true);
    let both = connect(&mut consumer);
    started(&mut consumer, &both[0], 0, 4);
    started(&mut consumer, &both[1], 6, 6);
    assert!(consumer.commands(LANE).contains(&Command::Unsubscribe(PartitionId::new(1))), "it is empty");
    consumer.delivered(LANE, &deliver(&both[0], 0, 2));
    assert_eq!(take_all(&mut consumer), [0, 1]);

    consumer.lane_lost(LANE);
    let again = connect(&mut consumer);
    assert_eq!(again.len(), 1, "the other is done");
    started(&mut consumer, &again[0], 2, 100);
    consumer.delivered(LANE, &deliver(&again[0], 2, 50));
    assert!(!consumer.is_finished());
    assert_eq!(take_all(&mut consumer), [2, 3]);
    assert!(consumer.is_finished() && consumer.is_complete());
    assert_eq!(
        consumer.positions().next(),
        Some((P0, Offset::new(4))),
        "no further than what was handed out"
    );
    assert!(consumer.commands(LANE).contains(&Command::Unsubscribe(P0)));
}

#[test]
fn gaps_are_told_in_order_and_silent_ones_too() {
    let mut consumer = consumer(1, StartAt::Earliest, true);
    let start = connect(&mut consumer)[0];
    started(&mut consumer, &start, 0, 30);
    let gap = |from, to, reason| Gap {
        partition: P0,
        generation: start.generation,
        from: Offset::new(from),
        to: Offset::new(to),
        reason,
    };
    let missing =
        |from, to, reason| Missing { partition: P0, from: Offset::new(from), to: Offset::new(to), reason };
    consumer.delivered(LANE, &deliver(&start, 0, 2));
    consumer.gap(gap(2, 10, GapReason::Corrupt));
    consumer.delivered(LANE, &deliver(&start, 10, 12));
    consumer.delivered(LANE, &deliver(&start, 15, 16));
    consumer.gap(gap(16, 30, GapReason::Retention));
    assert_eq!(take_all(&mut consumer), [0, 1, 10, 11, 15]);
    let expected = [
        missing(2, 10, GapReason::Corrupt),
        missing(12, 15, GapReason::Retention),
        missing(16, 30, GapReason::Retention),
    ];
    assert_eq!(consumer.missing(), expected);
    assert!(consumer.is_complete(), "a gap that passes the end ends the reading");
}

fn ended(start: &SubscribePartition, code: ErrorCode, log_start: u64, high_watermark: u64) -> PartitionEnded {
    PartitionEnded {
        partition: start.partition,
        generation: start.generation,
        code,
        log_start: Offset::new(log_start),
        high_watermark: Offset::new(high_watermark),
        detail: String::new(),
    }
}

#[test]
fn a_position_out_of_range_is_an_error_with_both_bounds() {
    let mut consumer = consumer(1, StartAt::Offset(Offset::new(50)), false);
    let start = connect(&mut consumer)[0];
    consumer.ended(&ended(&start, ErrorCode::OffsetOutOfRange, 10, 20));
    assert!(consumer.is_started());
    let Some(Taken::Ended(told)) = consumer.take() else { panic!("the application is told") };
    let bounds = (told.asked, told.log_start, told.high_watermark);
    assert_eq!(bounds, (Some(Offset::new(50)), Offset::new(10), Offset::new(20)));
    assert!(consumer.is_finished() && !consumer.is_complete());
}

#[test]
fn retention_that_passed_an_absent_reader_is_a_gap_and_lost_data_is_an_error() {
    let mut consumer = consumer(1, StartAt::Earliest, false);
    let start = connect(&mut consumer)[0];
    started(&mut consumer, &start, 5, 9);
    consumer.lane_lost(LANE);
    let again = connect(&mut consumer)[0];
    consumer.ended(&ended(&again, ErrorCode::OffsetOutOfRange, 100, 200));
    let reason = GapReason::Retention;
    assert_eq!(
        consumer.missing(),
        [Missing { partition: P0, from: Offset::new(5), to: Offset::new(100), reason }]
    );
    let third = starts(&mut consumer)[0];
    assert_eq!(third.start, StartAt::Offset(Offset::new(100)));
    assert!(third.generation > again.generation);

    started(&mut consumer, &third, 100, 200);
    consumer.lane_lost(LANE);
    let fourth = connect(&mut consumer)[0];
    consumer.ended(&ended(&fourth, ErrorCode::OffsetOutOfRange, 0, 50));
    assert!(matches!(consumer.take(), Some(Taken::Ended(_))));
}

#[test]
fn a_seek_throws_away_what_has_not_been_handed_out() {
    let mut consumer = consumer(1, StartAt::Earliest, false);
    let start = connect(&mut consumer)[0];
    started(&mut consumer, &start, 0, 9);
    consumer.delivered(LANE, &deliver(&start, 0, 9));
    assert!(consumer.seek(P0, StartAt::Offset(Offset::new(3))));
    assert!(!consumer.seek(PartitionId::new(9), StartAt::Earliest));
    assert!(consumer.take().is_none());
    let moved = starts(&mut consumer)[0];
    started(&mut consumer, &start, 0, 9);
    started(&mut consumer, &moved, 3, 9);
    consumer.delivered(LANE, &deliver(&moved, 0, 9));
    assert_eq!(take_all(&mut consumer), [3, 4, 5, 6, 7, 8]);
}

#[test]
fn a_broker_that_exceeds_the_credit_is_found_out() {
    let mut consumer = consumer(1, StartAt::Earliest, false);
    let start = connect(&mut consumer)[0];
    started(&mut consumer, &start, 0, 0);
    let frame =
        Deliver { batches: Bytes::from(vec![0; 4001 - Deliver::OVERHEAD_BYTES]), ..deliver(&start, 0, 1) };
    assert!(!consumer.delivered(LANE, &frame));
}

#[test]
fn windows_are_shared_by_lanes_but_hold_the_largest_frame() {
    let mut consumer = consumer(100, StartAt::Earliest, false);
    consumer.connected(16);
    assert_eq!(consumer.lanes(), 16);
    assert_eq!(consumer.lane_opened(LaneId(3)).limit_bytes, 250);
    consumer.connected(100);
    assert_eq!(consumer.lane_opened(LaneId(3)).limit_bytes, 134);
}

/// A broker that delivers the offsets `0..LOG` of two partitions as far as it was granted, over a connection that breaks.
struct World {
    consumer: Consumer,
    /// Under way: partition, generation, next offset.
    reading: BTreeMap<u32, (SubscribePartition, u64)>,
    open: bool,
    limit: u64,
    sent: u64,
    taken: Option<Frame>,
    received: BTreeMap<u32, Vec<u64>>,
}

const LOG: u64 = 300;
const PARTITIONS: u32 = 2;

impl World {
    fn obey(&mut self) {
        if !self.open {
            return;
        }
        for command in self.consumer.commands(LANE) {
            match command {
                Command::Grant(limit) => {
                    assert!(limit > self.limit, "a limit only grows");
                    self.limit = limit;
                }
                Command::GrantRecords(_) => {}
                Command::Unsubscribe(partition) => drop(self.reading.remove(&partition.get())),
                Command::Subscribe(start) => {
                    let position = match start.start {
                        StartAt::Offset(offset) => offset.get(),
                        StartAt::Earliest
                        | StartAt::Latest
                        | StartAt::Time(_)
                        | StartAt::Last(_)
                        | StartAt::Lease(_) => 0,
                    };
                    started(&mut self.consumer, &start, position, LOG);
                    self.reading.insert(start.partition.get(), (start, position));
                }
            }
        }
    }

    fn send(&mut self, partition: u32, count: u64, back: u64) {
        let Some((start, next)) = self.reading.get_mut(&partition) else { return };
        let to = (*next + count).min(LOG);
        if to == *next {
            return;
        }
        let frame = deliver(start, next.saturating_sub(back), to);
        let bytes = (Deliver::OVERHEAD_BYTES + frame.batches.len()) as u64;
        if self.sent + bytes > self.limit {
            return;
        }
        *next = to;
        self.sent += bytes;
        assert!(self.consumer.delivered(LANE, &frame));
        assert!(self.sent <= self.limit);
    }

    fn take(&mut self) {
        match self.taken.take() {
            Some(frame) => self.consumer.consumed(&frame),
            None => {
                if let Some(Taken::Frame(frame)) = self.consumer.take() {
                    let offsets = hand_out(&mut self.consumer, &frame);
                    self.received.entry(frame.partition.get()).or_default().extend(offsets);
                    self.taken = Some(frame);
                }
            }
        }
    }

    fn toggle(&mut self) {
        self.reading.clear();
        self.sent = 0;
        if self.open {
            self.consumer.lane_lost(LANE);
        } else {
            self.consumer.connected(1);
            self.limit = self.consumer.lane_opened(LANE).limit_bytes;
        }
        self.open = !self.open;
    }
}

proptest! {
    #[test]
    fn every_offset_comes_once_and_in_order_whatever_happens(
        steps in proptest::collection::vec((0u8..12, any::<u16>()), 0..300),
    ) {
        let mut world = World {
            consumer: Consumer::new(ConsumerOptions { window_bytes: 200, ..consumer(PARTITIONS, StartAt::Earliest, true).options }),
            reading: BTreeMap::new(),
            open: false,
            limit: 0,
            sent: 0,
            taken: None,
            received: BTreeMap::new(),
        };
        for (kind, number) in steps {
            let (partition, number) = (u32::from(number) % PARTITIONS, u64::from(number / 2));
            match kind {
                0 => world.toggle(),
                1..=5 => world.send(partition, number % 9, number % 4),
                _ => world.take(),
            }
            world.obey();
        }
        for _ in 0..4000 {
            if world.consumer.is_finished() {
                break;
            }
            if !world.open {
                world.toggle();
            }
            world.obey();
            (0..PARTITIONS).for_each(|partition| world.send(partition, 7, 1));
            world.take();
        }
        prop_assert!(world.consumer.is_complete(), "it does not come to the end");
        for partition in 0..PARTITIONS {
            prop_assert_eq!(&world.received[&partition], &(0..LOG).collect::<Vec<u64>>());
        }
        prop_assert!(world.consumer.missing().is_empty());
    }
}
