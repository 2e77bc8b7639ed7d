//! Credit of publish lanes: nothing beyond the pool, everything returns, and turns by bytes.

use proptest::prelude::*;

use super::*;
use crate::core::ledger::Budget;
use crate::core::{ConnectionId, StreamId};

const LIMITS: IngestLimits =
    IngestLimits { window_bytes_min: 1000, window_bytes_max: 8000, turn_bytes: 1000 };

const BUDGET: Budget = Budget {
    ingest: 20_000,
    unflushed: 40_000,
    hot_cache: 0,
    delivery: 0,
    connections: 0,
    dedup: 0,
    groups: 0,
    control: 0,
};

fn lane(number: u64) -> LaneId {
    LaneId { connection: ConnectionId(1), stream: StreamId(number) }
}

/// A pool, and what the peers know of it.
struct Peers {
    ledger: Ledger,
    ingest: Ingest,
    /// Bytes each lane may still send, as it was told.
    credit: BTreeMap<LaneId, u64>,
    told: BTreeMap<LaneId, u64>,
}

impl Peers {
    fn new(lanes: u64) -> Self {
        Self::with((LIMITS, BUDGET), lanes)
    }

    fn with((limits, budget): (IngestLimits, Budget), lanes: u64) -> Self {
        let ledger = Ledger::new(budget);
        let ingest = Ingest::new(limits, ledger.clone());
        let mut peers = Self { ledger, ingest, credit: BTreeMap::new(), told: BTreeMap::new() };
        for number in 0..lanes {
            peers.open(lane(number));
        }
        peers
    }

    fn open(&mut self, lane: LaneId) {
        self.ingest.open(lane);
        self.credit.insert(lane, 0);
        self.told.insert(lane, 0);
    }

    /// Tells the lanes of their grants. Gives those that got one.
    fn tell(&mut self) -> Vec<LaneId> {
        let mut told = Vec::new();
        while let Some((lane, limit)) = self.ingest.next_grant() {
            let before = self.told.insert(lane, limit).expect("only open lanes are granted");
            assert!(limit > before, "a grant grows");
            *self.credit.entry(lane).or_default() += limit - before;
            told.push(lane);
        }
        told
    }

    /// Sends a frame if credit and memory allow it.
    fn send(&mut self, lane: LaneId, bytes: u64) -> bool {
        let Some(credit) = self.credit.get_mut(&lane).filter(|credit| **credit >= bytes) else {
            return false;
        };
        let Some(memory) = admit(&self.ledger, bytes) else { return false };
        *credit -= bytes;
        let _kept = memory.hand_over();
        assert!(self.ingest.receive(lane, bytes), "what was granted may be sent");
        true
    }
}

#[test]
fn every_lane_gets_a_smallest_window_and_what_is_read_never_exceeds_the_pool() {
    let mut peers = Peers::new(30);
    assert_eq!(peers.tell().len(), 30, "also those that do not fit");
    let sent = (0..30).filter(|number| peers.send(lane(*number), 1000)).count() as u64;
    assert_eq!(sent, BUDGET.ingest / (1000 + BATCH_STATE_BYTES));
    assert!(peers.ingest.is_over());
    peers.ingest.release(lane(0), 1000, 0);
    assert!(!peers.ingest.is_over());
    assert!(peers.send(lane(29), 1000), "its turn came");
}

#[test]
fn what_is_unflushed_stops_reading_and_flushing_resumes_it() {
    let mut peers = Peers::new(1);
    let mut durable = 0;
    loop {
        peers.tell();
        if !peers.send(lane(0), 1000) {
            break;
        }
        peers.ingest.release(lane(0), 1000, 1000 + BATCH_STATE_BYTES);
        durable += 1000 + BATCH_STATE_BYTES;
    }
    assert!(peers.ingest.is_over());
    assert_eq!(peers.ledger.taken(Pool::Unflushed), durable);
    assert!(durable <= BUDGET.unflushed && durable > BUDGET.unflushed - 2 * 1512, "{durable}");
    peers.ledger.give_back(Pool::Unflushed, 10_000);
    assert!(!peers.ingest.is_over());
    assert!(peers.send(lane(0), 1000));
}

#[test]
fn a_frame_beyond_the_credit_is_refused_and_its_memory_comes_back() {
    let mut peers = Peers::new(1);
    peers.tell();
    let memory = admit(&peers.ledger, 9000).expect("there is memory");
    let _kept = memory.hand_over();
    assert!(!peers.ingest.receive(lane(0), 9000));
    assert_eq!(peers.ledger.taken(Pool::Ingest), 0);
}

/// One producer sends whatever it may, nine send a hundredth of what the disk takes. The disk makes so many batches
/// durable in a step.
#[test]
fn nine_slow_producers_never_wait_behind_a_fast_one() {
    const BATCH: u64 = 500;
    let mut peers = Peers::new(10);
    let mut disk: VecDeque<(LaneId, usize)> = VecDeque::new();
    let mut slowest = 0;
    let mut fast = 0;
    for step in 0..2000 {
        peers.tell();
        while peers.send(lane(0), BATCH) {
            disk.push_back((lane(0), step));
        }
        if step % 10 == 0 {
            let slow = lane(1 + step as u64 / 10 % 9);
            assert!(peers.credit[&slow] >= BATCH, "a slow producer has no credit in step {step}");
            assert!(peers.send(slow, BATCH), "there is no memory for a slow producer in step {step}");
            disk.push_back((slow, step));
        }
        for _ in 0..4 {
            let Some((from, sent)) = disk.pop_front() else { break };
            peers.ingest.release(from, BATCH, 0);
            if from == lane(0) {
                fast += 1;
            } else {
                slowest = slowest.max(step - sent);
            }
        }
    }
    assert!(fast > 7000, "the fast one takes what is left: {fast} of 8000 batches");
    assert!(slowest <= 2, "a slow one waited for {slowest} steps");
}

/// The disk syncs at once, but segments are written slowly: what is durable stays in memory for a while.
#[test]
fn nine_slow_producers_go_on_while_a_fast_one_is_ahead_of_the_segments() {
    const BATCH: u64 = 60_000;
    const STEPS: u64 = 1000;
    let limits = IngestLimits { window_bytes_min: 100_000, window_bytes_max: 800_000, turn_bytes: 100_000 };
    let budget = Budget { ingest: 2_000_000, unflushed: 4_000_000, ..BUDGET };
    let mut peers = Peers::with((limits, budget), 10);
    let bytes = footprint(BATCH);
    let (mut gathered, mut fast, mut held_up) = (0, 0, 0);
    for step in 0..STEPS {
        peers.tell();
        while peers.send(lane(0), BATCH) {
            peers.ingest.release(lane(0), BATCH, bytes);
            (gathered, fast) = (gathered + bytes, fast + 1);
            peers.tell();
        }
        if step % 10 == 0 {
            let slow = lane(1 + step / 10 % 9);
            if peers.send(slow, BATCH) {
                peers.ingest.release(slow, BATCH, bytes);
                gathered += bytes;
            } else {
                held_up += 1;
            }
        }
        // Half of the memory is a segment. It is written in forty steps.
        if step % 40 == 39 {
            let segment = gathered.min(budget.unflushed / 2);
            peers.ledger.give_back(Pool::Unflushed, segment);
            gathered -= segment;
        }
    }
    assert_eq!(held_up, 0, "of {} batches of slow producers", STEPS / 10);
    assert!(
        fast > STEPS / 40 * (budget.unflushed / 2 / bytes) * 9 / 10,
        "the fast one takes what is left: {fast}"
    );
}

#[test]
fn when_there_is_little_room_lanes_are_raised_by_the_same_bytes() {
    let mut peers = Peers::new(0);
    // The disk is behind: windows shrink by not being renewed.
    assert!(peers.ledger.try_take(Pool::Unflushed, 30_000));
    (0..5).for_each(|number| peers.open(lane(number)));
    assert_eq!(peers.tell().len(), 5);
    let told = |peers: &Peers| peers.told.values().copied().collect::<Vec<u64>>();
    assert_eq!(told(&peers), [2000; 5], "10,000 bytes for five that want 4,000 each");
    assert_eq!(peers.ingest.waiting(), 0, "without anything under way nobody waits");

    // What was used comes back, and no more than that.
    send_and_release(&mut peers, 1000);
    assert_eq!(told(&peers), [3000; 5]);

    peers.ledger.give_back(Pool::Unflushed, 30_000);
    send_and_release(&mut peers, 2000);
    assert_eq!(told(&peers), [7000; 5], "4,000 bytes for each");
    assert_eq!(peers.ingest.waiting(), 0);
}

/// Each of five lanes sends so much; then all of it is done with.
fn send_and_release(peers: &mut Peers, bytes: u64) {
    (0..5).for_each(|number| assert!(peers.send(lane(number), bytes)));
    (0..5).for_each(|number| peers.ingest.release(lane(number), bytes, 0));
    peers.tell();
}

proptest! {
    #[test]
    fn everything_returns_and_nothing_exceeds_the_pool_model(
        steps in proptest::collection::vec((0u8..6, 0u64..6, 1u64..1000), 0..400),
    ) {
        let mut peers = Peers::new(0);
        let mut held: VecDeque<(LaneId, u64)> = VecDeque::new();
        let mut unflushed = 0;
        for (step, number, bytes) in steps {
            let lane = lane(number);
            let open = peers.credit.contains_key(&lane);
            match step {
                0 if !open => peers.open(lane),
                1 if open && held.iter().all(|(held, _)| *held != lane) => {
                    peers.ingest.close(lane);
                    peers.credit.remove(&lane);
                }
                2 | 3 => if peers.send(lane, bytes) { held.push_back((lane, bytes)); },
                4 => if let Some((lane, bytes)) = held.pop_front() {
                    peers.ingest.release(lane, bytes, bytes / 2);
                    unflushed += bytes / 2;
                },
                _ => {
                    peers.ledger.give_back(Pool::Unflushed, unflushed);
                    unflushed = 0;
                }
            }
            peers.tell();
            let credit: u64 = peers.credit.values().sum();
            prop_assert_eq!(credit, peers.ingest.granted(), "both ends count the same");
            prop_assert!(peers.credit.values().all(|credit| *credit <= LIMITS.window_bytes_max));
            let smallest = peers.credit.len() as u64 * LIMITS.window_bytes_min;
            prop_assert!(peers.ingest.granted() <= BUDGET.ingest + smallest);
            prop_assert!(peers.ledger.taken(Pool::Ingest) + unflushed <= BUDGET.unflushed);
        }
        for (lane, bytes) in held { peers.ingest.release(lane, bytes, 0); }
        for lane in peers.credit.keys() { peers.ingest.close(*lane); }
        peers.ledger.give_back(Pool::Unflushed, unflushed);
        prop_assert_eq!((peers.ingest.granted(), peers.ingest.held(), peers.ingest.waiting()), (0, 0, 0));
        prop_assert!(Pool::ALL.iter().all(|pool| peers.ledger.taken(*pool) == 0));
    }
}
