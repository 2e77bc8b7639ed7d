//! The promises of the queues at real sizes, under interleavings drawn at random: a seed of each failure is printed.

use std::task::{Context, Waker};

use shuttle::thread;

use super::*;

/// Interleavings of each test. Half are drawn evenly; half change threads seldom, where it hurts.
const INTERLEAVINGS: usize = 1000;

const SENDERS: usize = 6;
const ITEMS: usize = 300;
const BOUND: usize = 32;

fn check(test: fn()) {
    shuttle::check_random(test, INTERLEAVINGS / 2);
    shuttle::check_pct(test, INTERLEAVINGS / 2, 3);
}

/// Pushes all items of a sender in batches of different lengths, asleep while there is no room.
fn push_all(mut sender: Sender<(usize, usize)>, producer: usize) {
    let mut batch = Vec::new();
    let mut next = 0;
    while next < ITEMS || !batch.is_empty() {
        let length = 1 + (next * 7 + producer) % 16;
        while batch.len() < length && next < ITEMS {
            batch.push((producer, next));
            next += 1;
        }
        if sender.push_batch(&mut batch).expect("nobody closes it") == 0 {
            assert_eq!(sender.room_wait(0, None), Some(Ok(())));
        }
    }
}

#[test]
fn nothing_is_lost_or_reordered_and_the_bound_holds() {
    check(|| {
        let (first, mut receiver) = mailbox(BOUND);
        let senders = vec![first; SENDERS];
        let producers: Vec<_> = senders
            .into_iter()
            .enumerate()
            .map(|(producer, sender)| thread::spawn(move || push_all(sender, producer)))
            .collect();
        let mut expected = [0; SENDERS];
        let mut drained = Vec::new();
        while receiver.drain_wait(&mut drained, None) == Some(Drained::Items) {
            assert!(drained.len() <= BOUND, "{} items were inside", drained.len());
            for (producer, item) in drained.drain(..) {
                assert_eq!(item, expected[producer]);
                expected[producer] += 1;
            }
        }
        assert_eq!(expected, [ITEMS; SENDERS]);
        producers.into_iter().for_each(|producer| producer.join().unwrap());
    });
}

#[test]
fn those_who_give_up_waiting_take_nothing_from_the_others() {
    check(|| {
        let (first, mut receiver) = mailbox(1);
        first.try_push((0, 0)).unwrap();
        let quitters: Vec<_> = (0..SENDERS)
            .map(|_| {
                let mut sender = first.clone();
                thread::spawn(move || {
                    for _ in 0..10 {
                        let mut nobody = Context::from_waker(Waker::noop());
                        let _given_up = sender.poll_room(&mut nobody, 0);
                        thread::yield_now();
                    }
                })
            })
            .collect();
        let producer = thread::spawn(move || push_all(first, 1));
        let (mut all, mut drained) = (Vec::new(), Vec::new());
        while receiver.drain_wait(&mut drained, None) == Some(Drained::Items) {
            all.append(&mut drained);
        }
        assert!(all.into_iter().eq([(0, 0)].into_iter().chain((0..ITEMS).map(|item| (1, item)))));
        quitters.into_iter().chain([producer]).for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn every_watcher_wakes_when_its_target_is_reached() {
    check(|| {
        const END: u64 = 400;
        let (mut level, first) = watermark(0);
        let watchers: Vec<_> = (1..=8)
            .map(|step| {
                let mut watcher = first.clone();
                thread::spawn(move || {
                    let mut target = step;
                    while target <= END {
                        let reached = watcher.reached_wait(target, None).expect("there is no time-out");
                        assert!(reached.is_ok_and(|reached| reached >= target));
                        target += 8 * step;
                    }
                    assert_eq!(watcher.reached_wait(END + 1, None), Some(Err(Closed)));
                })
            })
            .collect();
        let mut value = 0;
        while value < END {
            value = (value + 1 + value % 5).min(END);
            level.advance(value);
        }
        drop(level);
        watchers.into_iter().for_each(|watcher| watcher.join().unwrap());
    });
}
