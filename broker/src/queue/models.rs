//! Loom models: each promise of the queues, under every interleaving with at most two preemptions.
//!
//! Small on purpose: at most three threads, one or two items each, and no loops that retry a full mailbox, which
//! explode. A model that would hang is reported by loom as a deadlock: that is how lost wake-ups show.

use std::task::{Context, Poll, Waker};

use loom::future::block_on;
use loom::thread;

use super::*;

/// Two by default; `LOOM_MAX_PREEMPTIONS` asks for more.
fn check(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(2));
    builder.check(model);
}

/// Drains until the mailbox is closed, asleep in between as a task.
fn drain_all<T>(receiver: &mut Receiver<T>) -> Vec<T> {
    let mut all = Vec::new();
    while block_on(receiver.drain(&mut all)) == Drained::Items {}
    all
}

/// Drains until the mailbox is closed, asleep in between as a thread.
fn drain_all_blocking<T>(receiver: &mut Receiver<T>) -> Vec<T> {
    let mut all = Vec::new();
    while receiver.drain_wait(&mut all, None) == Some(Drained::Items) {}
    all
}

fn assert_nothing_lost_and_in_order(all: &[Item], items: u8) {
    for producer in 0..2 {
        let of_producer: Vec<u8> =
            all.iter().filter(|(from, _)| *from == producer).map(|(_, item)| *item).collect();
        assert_eq!(of_producer, (0..items).collect::<Vec<_>>());
    }
    assert_eq!(all.len(), 2 * usize::from(items));
}

/// Who pushed it, and its number.
type Item = (u8, u8);

fn two_producers(push: fn(&Sender<Item>, u8), drain: fn(&mut Receiver<Item>) -> Vec<Item>) {
    check(move || {
        let (first, mut receiver) = mailbox(4);
        let second = first.clone();
        let producers = [thread::spawn(move || push(&first, 0)), thread::spawn(move || push(&second, 1))];
        let all = drain(&mut receiver);
        producers.into_iter().for_each(|producer| producer.join().expect("no producer panics"));
        assert_nothing_lost_and_in_order(&all, 2);
    });
}

#[test]
fn nothing_is_lost_duplicated_or_reordered() {
    two_producers(
        |sender, producer| {
            sender.try_push((producer, 0)).unwrap();
            sender.try_push((producer, 1)).unwrap();
        },
        drain_all,
    );
}

#[test]
fn nothing_is_lost_duplicated_or_reordered_by_a_blocking_receiver() {
    two_producers(
        |sender, producer| {
            sender.try_push((producer, 0)).unwrap();
            sender.try_push((producer, 1)).unwrap();
        },
        drain_all_blocking,
    );
}

#[test]
fn batches_stay_whole_and_in_order() {
    two_producers(
        |sender, producer| {
            assert_eq!(sender.push_batch(&mut vec![(producer, 0), (producer, 1)]), Ok(2));
        },
        |receiver| {
            let all = drain_all(receiver);
            assert!(all.chunks(2).all(|pair| pair[0].0 == pair[1].0), "a batch was torn: {all:?}");
            all
        },
    );
}

#[test]
fn the_bound_holds() {
    check(|| {
        let (first, mut receiver) = mailbox(1);
        let second = first.clone();
        let producers = [
            thread::spawn(move || first.try_push(0).is_ok()),
            thread::spawn(move || second.try_push(1).is_ok()),
        ];
        let (mut early, mut late) = (Vec::new(), Vec::new());
        receiver.drain_now(&mut early);
        let taken = producers.into_iter().map(|producer| producer.join().unwrap()).filter(|ok| *ok).count();
        receiver.drain_now(&mut late);

        assert!(early.len() <= 1 && late.len() <= 1, "more than the bound was inside");
        assert_eq!(early.len() + late.len(), taken, "taken and drained differ");
        assert!(taken >= 1, "an empty mailbox refused both");
        assert!(taken == 1 || early.len() == 1, "both were taken without a drain in between");
    });
}

#[test]
fn the_weight_bound_holds() {
    check(|| {
        let (first, mut receiver) = mailbox_weighing(4, 10);
        let second = first.clone();
        let producers = [
            thread::spawn(move || first.try_push_weighing(6, 6).is_ok()),
            thread::spawn(move || second.push_batch_weighing(&mut vec![3, 4], |weight| *weight).unwrap() > 0),
        ];
        let (mut early, mut late) = (Vec::new(), Vec::new());
        receiver.drain_now(&mut early);
        producers.into_iter().for_each(|producer| {
            producer.join().unwrap();
        });
        receiver.drain_now(&mut late);
        assert!(early.iter().sum::<usize>() <= 10 && late.iter().sum::<usize>() <= 10);
    });
}

#[test]
fn what_was_taken_before_close_is_drained_and_nothing_after() {
    check(|| {
        let (sender, mut receiver) = mailbox(4);
        let closer = sender.clone();
        let producer = thread::spawn(move || {
            let taken: Vec<u8> = (0..2).filter(|item| sender.try_push(*item).is_ok()).collect();
            (sender, taken)
        });
        let closing = thread::spawn(move || {
            closer.close();
            closer.try_push(9)
        });
        let all = drain_all(&mut receiver);
        assert_eq!(closing.join().unwrap(), Err(Rejected::Closed(9)));
        let (sender, taken) = producer.join().unwrap();
        assert_eq!(all, taken);
        assert_eq!(sender.try_push(8), Err(Rejected::Closed(8)));
        assert!(!receiver.drain_now(&mut Vec::new()), "something came after the end");
    });
}

#[test]
fn the_receiver_may_close_while_a_sender_pushes() {
    check(|| {
        let (sender, mut receiver) = mailbox(4);
        let producer = thread::spawn(move || (0..2).filter(|item| sender.try_push(*item).is_ok()).collect());
        receiver.close();
        let all = drain_all(&mut receiver);
        let taken: Vec<u8> = producer.join().unwrap();
        assert_eq!(all, taken);
    });
}

#[test]
fn the_last_sender_wakes_a_sleeping_receiver_when_it_goes() {
    check(|| {
        let (first, mut receiver) = mailbox::<u8>(1);
        let second = first.clone();
        let threads = [thread::spawn(move || drop(first)), thread::spawn(move || drop(second))];
        assert_eq!(drain_all(&mut receiver), []);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn the_last_sender_wakes_a_blocked_receiver_when_it_goes() {
    check(|| {
        let (first, mut receiver) = mailbox::<u8>(1);
        let second = first.clone();
        let threads = [thread::spawn(move || drop(first)), thread::spawn(move || drop(second))];
        assert_eq!(drain_all_blocking(&mut receiver), []);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn a_receiver_that_was_polled_elsewhere_is_woken_where_it_waits_now() {
    check(|| {
        let (sender, mut receiver) = mailbox(1);
        let mut all = Vec::new();
        let mut elsewhere = Context::from_waker(Waker::noop());
        assert!(receiver.poll_drain(&mut elsewhere, &mut all).is_pending());
        let producer = thread::spawn(move || {
            sender.try_push(1).unwrap();
            sender
        });
        assert_eq!(receiver.drain_wait(&mut all, None), Some(Drained::Items));
        assert_eq!(all, [1]);
        drop(producer.join().unwrap());
    });
}

#[test]
fn a_push_between_two_sleeps_wakes_again() {
    check(|| {
        let (sender, mut receiver) = mailbox(2);
        let producer = thread::spawn(move || {
            sender.try_push(1).unwrap();
            sender.try_push(2).unwrap();
            // Held until the end: only the pushes may wake the receiver.
            sender
        });
        let mut all = Vec::new();
        while all.len() < 2 {
            assert_eq!(block_on(receiver.drain(&mut all)), Drained::Items);
        }
        drop(producer.join().unwrap());
        assert_eq!(all, [1, 2]);
    });
}

#[test]
fn a_sender_that_waits_for_room_is_woken_by_a_drain() {
    check(|| {
        let (mut sender, mut receiver) = mailbox(1);
        sender.try_push(1).unwrap();
        let producer = thread::spawn(move || {
            assert_eq!(block_on(sender.room(0)), Ok(()));
            sender.try_push(2).unwrap();
        });
        assert_eq!(drain_all(&mut receiver), [1, 2]);
        producer.join().unwrap();
    });
}

#[test]
fn a_blocked_sender_is_woken_by_a_drain() {
    check(|| {
        let (mut sender, mut receiver) = mailbox(1);
        sender.try_push(1).unwrap();
        let producer = thread::spawn(move || {
            assert_eq!(sender.room_wait(0, None), Some(Ok(())));
            sender.try_push(2).unwrap();
        });
        assert_eq!(drain_all_blocking(&mut receiver), [1, 2]);
        producer.join().unwrap();
    });
}

#[test]
fn two_senders_that_wait_are_both_woken() {
    check(|| {
        let (mut first, mut receiver) = mailbox(2);
        first.push_batch(&mut vec![0, 0]).unwrap();
        let mut second = first.clone();
        let producers = [
            thread::spawn(move || {
                assert_eq!(block_on(first.room(0)), Ok(()));
                first.try_push(1).unwrap();
            }),
            thread::spawn(move || {
                assert_eq!(block_on(second.room(0)), Ok(()));
                second.try_push(2).unwrap();
            }),
        ];
        let mut all = Vec::new();
        assert!(receiver.drain_now(&mut all));
        producers.into_iter().for_each(|producer| producer.join().unwrap());
        receiver.drain_now(&mut all);
        all.sort_unstable();
        assert_eq!(all, [0, 0, 1, 2]);
    });
}

#[test]
fn a_waiting_sender_learns_that_the_receiver_is_gone() {
    check(|| {
        let (mut sender, receiver) = mailbox(1);
        sender.try_push(1).unwrap();
        let producer = thread::spawn(move || block_on(sender.room(0)));
        drop(receiver);
        assert_eq!(producer.join().unwrap(), Err(Closed));
    });
}

#[test]
fn a_sender_that_gives_up_takes_no_wake_up_from_another() {
    check(|| {
        let (mut waiting, mut receiver) = mailbox(1);
        let mut giving_up = waiting.clone();
        waiting.try_push(1).unwrap();
        let quitter = thread::spawn(move || {
            let mut context = Context::from_waker(Waker::noop());
            let polled = giving_up.poll_room(&mut context, 0);
            assert!(polled != Poll::Ready(Err(Closed)), "nobody closed it");
        });
        let producer = thread::spawn(move || block_on(waiting.room(0)));
        assert!(receiver.drain_now(&mut Vec::new()));
        quitter.join().unwrap();
        assert_eq!(producer.join().unwrap(), Ok(()));
    });
}

#[test]
fn a_watcher_wakes_exactly_when_its_target_is_reached() {
    check(|| {
        let (mut level, mut first) = watermark(0);
        let mut second = first.clone();
        let watchers = [
            thread::spawn(move || block_on(first.reached(1))),
            thread::spawn(move || second.reached_wait(2, None).expect("there is no time-out")),
        ];
        level.advance(1);
        level.advance(2);
        let [first, second] = watchers.map(|watcher| watcher.join().unwrap());
        assert!(matches!(first, Ok(1 | 2)));
        assert_eq!(second, Ok(2));
    });
}

#[test]
fn every_watcher_learns_that_the_publisher_is_gone() {
    check(|| {
        let (mut level, mut first) = watermark(0);
        let mut second = first.clone();
        let watchers = [
            thread::spawn(move || block_on(first.reached(1))),
            thread::spawn(move || block_on(second.reached(2))),
        ];
        level.advance(1);
        drop(level);
        let [first, second] = watchers.map(|watcher| watcher.join().unwrap());
        assert_eq!(first, Ok(1), "reached before it went away");
        assert_eq!(second, Err(Closed));
    });
}
