use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const NONE: Breaker = Breaker::open_after(u32::MAX);

fn at(millis: u64) -> Mono {
    Mono::new(Duration::from_millis(millis))
}

fn order(key: u64, track: u64) -> Order {
    Order { key: Some(key), track }
}

#[test]
fn after_too_many_failures_in_a_row_nothing_is_begun_and_then_one_record_tries() {
    let mut work = Work::new(2, Breaker::open_after(2).cool_down(Duration::from_millis(10)));
    (0..4).for_each(|number| work.offer(order(number, number), number));
    let (first, _) = work.begin().unwrap();
    let (second, _) = work.begin().unwrap();
    assert_eq!(work.failed(at(0), first), [0; 0], "nothing else is on its track");
    assert_eq!(work.open_until(), None);
    assert_eq!(work.failed(at(1), second), [0; 0]);
    work.pass_time(at(10));
    assert!(!work.wants() && work.begin().is_none(), "what waits stays where it is");
    assert_eq!(work.open_until(), Some(at(11)));
    work.pass_time(at(11));
    let (probe, number) = work.begin().unwrap();
    assert_eq!(number, 2);
    assert!(!work.wants() && work.begin().is_none(), "one is enough to try");
    assert_eq!(work.failed(at(14), probe), [0; 0]);
    work.pass_time(at(23));
    assert!(work.begin().is_none(), "the probe failed alone");
    work.pass_time(at(24));
    let (probe, number) = work.begin().unwrap();
    assert_eq!(number, 3);
    work.done(probe);
    assert!(work.wants(), "the circuit is closed");
    work.offer(order(5, 5), 5);
    let (ticket, _) = work.begin().unwrap();
    assert_eq!(work.failed(at(25), ticket), [0; 0]);
    assert_eq!(work.open_until(), None, "failures are counted anew");
}

#[test]
fn what_waits_for_something_that_is_down_keeps_its_place() {
    let mut work = Work::new(2, NONE.cool_down(Duration::from_millis(10)));
    [(1, 'a'), (2, 'b'), (1, 'c')].into_iter().for_each(|(key, record)| work.offer(order(key, 0), record));
    let (first, a) = work.begin().unwrap();
    let (second, b) = work.begin().unwrap();
    work.unavailable(at(0), second, b);
    work.unavailable(at(3), first, a);
    assert_eq!(work.open_until(), Some(at(13)));
    work.pass_time(at(13));
    let (probe, a) = work.begin().unwrap();
    assert_eq!(a, 'a', "the first one tries");
    work.unavailable(at(14), probe, a);
    work.pass_time(at(24));
    let (probe, a) = work.begin().unwrap();
    work.done(probe);
    let rest = [work.begin().unwrap().1, work.begin().unwrap().1];
    assert_eq!((a, rest), ('a', ['b', 'c']));
}

#[test]
fn without_anything_waiting_a_single_record_is_asked_for_to_try() {
    let mut work = Work::new(4, Breaker::open_after(1).cool_down(Duration::from_millis(10)));
    work.offer(order(1, 1), 'a');
    work.offer(order(1, 1), 'b');
    let (ticket, _) = work.begin().unwrap();
    assert_eq!(work.failed(at(0), ticket), ['b'], "it may not overtake");
    work.pass_time(at(10));
    assert!(work.wants());
    work.offer(order(2, 2), 'c');
    assert!(!work.wants());
}

#[derive(Clone, Debug)]
enum Step {
    Offer { key: Option<u64>, track: u64 },
    Begin,
    Done(usize),
    Rejected(usize),
    Failed(usize),
    Unavailable(usize),
    Dropped(usize),
    GiveBack(u64),
    Pass,
}

fn step() -> impl Strategy<Value = Step> {
    let one = 0usize..8;
    prop_oneof![
        6 => (proptest::option::weighted(0.7, 0u64..4), 0u64..3).prop_map(|(key, track)| Step::Offer { key, track }),
        6 => Just(Step::Begin),
        4 => one.clone().prop_map(Step::Done),
        1 => one.clone().prop_map(Step::Rejected),
        2 => one.clone().prop_map(Step::Failed),
        1 => one.clone().prop_map(Step::Unavailable),
        1 => one.prop_map(Step::Dropped),
        1 => (0u64..3).prop_map(Step::GiveBack),
        3 => Just(Step::Pass),
    ]
}

/// A record: its number, and what its order depends on.
type Record = (u64, Order);

/// What a plain list says of the same steps.
#[derive(Debug, Default)]
struct Model {
    running: Vec<(Ticket, Record)>,
    waiting: Vec<Record>,
    failures: u32,
    /// Ends then.
    open: Option<u64>,
    is_probing: bool,
}

impl Model {
    fn begins(&self, concurrency: usize) -> Option<usize> {
        let free = if self.open.is_some() {
            0
        } else if self.is_probing {
            1
        } else {
            concurrency
        };
        let is_busy = |key: Option<u64>| key.is_some() && self.running.iter().any(|run| run.1.1.key == key);
        self.waiting.iter().position(|record| !is_busy(record.1.key)).filter(|_| self.running.len() < free)
    }

    fn take_waiting(&mut self, is_meant: impl Fn(&Record) -> bool) -> Vec<Record> {
        let (taken, kept) = self.waiting.drain(..).partition(is_meant);
        self.waiting = kept;
        taken
    }

    fn behind(&mut self, record: Record) -> Vec<Record> {
        self.take_waiting(|other| other.0 > record.0 && other.1.track == record.1.track)
    }

    fn worked(&mut self) {
        (self.failures, self.is_probing) = (0, false);
    }

    fn opens(&mut self, now: u64) {
        (self.open, self.is_probing) = (Some(now + 2), false);
    }
}

proptest! {
    /// Whatever happens: bounds hold, each record is begun or given back once, and records of a key in order, one at a time.
    #[test]
    fn each_record_has_its_turn_and_keys_their_order(
        concurrency in 1usize..5,
        tolerance in 1u32..4,
        steps in vec(step(), 0..200),
    ) {
        let breaker = Breaker::open_after(tolerance).cool_down(Duration::from_millis(2));
        let mut work: Work<Record> = Work::new(concurrency, breaker);
        let mut model = Model::default();
        let (mut next, mut now) = (0, 0);
        for step in steps {
            let place = match step {
                Step::Done(place) | Step::Rejected(place) | Step::Failed(place) | Step::Unavailable(place)
                | Step::Dropped(place) => Some(place),
                Step::Offer { .. } | Step::Begin | Step::GiveBack(_) | Step::Pass => None,
            };
            if place.is_some_and(|place| place >= model.running.len()) {
                continue;
            }
            let ended = place.map(|place| model.running.remove(place));
            match (step, ended) {
                (Step::Offer { key, track }, _) if work.wants() => {
                    next += 1;
                    let record = (next, Order { key, track });
                    work.offer(record.1, record);
                    model.waiting.push(record);
                }
                (Step::Offer { .. }, _) => {
                    let probes = model.is_probing && model.waiting.len() + model.running.len() > 0;
                    prop_assert!(model.open.is_some() || probes || model.waiting.len() >= concurrency);
                }
                (Step::Begin, _) => {
                    let begins = model.begins(concurrency).map(|place| model.waiting.remove(place));
                    let begun = work.begin();
                    prop_assert_eq!(begun.map(|begun| begun.1), begins);
                    model.running.extend(begun);
                }
                (Step::Done(_), Some((ticket, _))) => {
                    work.done(ticket);
                    model.worked();
                }
                (Step::Rejected(_), Some((ticket, record))) => {
                    model.worked();
                    prop_assert_eq!(work.rejected(ticket), model.behind(record));
                }
                (Step::Failed(_), Some((ticket, record))) => {
                    model.failures += 1;
                    if model.is_probing || model.failures >= tolerance {
                        model.opens(now);
                    }
                    prop_assert_eq!(work.failed(at(now), ticket), model.behind(record));
                }
                (Step::Unavailable(_), Some((ticket, record))) => {
                    model.opens(now);
                    work.unavailable(at(now), ticket, record);
                    model.waiting.push(record);
                    model.waiting.sort_by_key(|record| record.0);
                }
                (Step::Dropped(_), Some((ticket, _))) => work.dropped(ticket),
                (Step::GiveBack(track), _) => {
                    let given_back = model.take_waiting(|record| record.1.track == track);
                    prop_assert_eq!(work.give_back(|record| record.1.track != track), given_back);
                }
                (Step::Pass, _) => {
                    now += 1;
                    work.pass_time(at(now));
                    if model.open.take_if(|until| *until <= now).is_some() {
                        model.is_probing = true;
                    }
                }
                (_, None) => {}
            }
            prop_assert_eq!(work.running(), model.running.len());
            prop_assert_eq!(work.open_until(), model.open.map(at));
            prop_assert!(work.running() <= concurrency);
        }
        prop_assert_eq!(work.give_back(|_| false), model.waiting);
    }
}
