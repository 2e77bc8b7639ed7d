//! What the queues do on ordinary threads. What they do under every interleaving is in `models`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

/// Far more than any test needs: a test that would hang fails.
const PATIENCE: Option<Duration> = Some(Duration::from_secs(30));
/// Polls once and does not sleep.
const NO_WAIT: Option<Duration> = Some(Duration::ZERO);

#[derive(Default)]
struct CountingWaker(AtomicUsize);

impl Wake for CountingWaker {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl CountingWaker {
    fn woken(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

fn counting() -> (Arc<CountingWaker>, Waker) {
    let count = Arc::new(CountingWaker::default());
    (Arc::clone(&count), Waker::from(count))
}

fn drained<T>(receiver: &mut Receiver<T>) -> Vec<T> {
    let mut out = Vec::new();
    receiver.drain_now(&mut out);
    out
}

#[test]
fn items_arrive_in_order_and_all_at_once() {
    let (sender, mut receiver) = mailbox(8);
    sender.try_push(1).unwrap();
    sender.push_batch(&mut vec![2, 3]).unwrap();
    sender.try_push(4).unwrap();

    assert_eq!(drained(&mut receiver), [1, 2, 3, 4]);
    assert_eq!(drained(&mut receiver), []);
}

#[test]
fn drained_items_go_behind_those_already_there() {
    let (sender, mut receiver) = mailbox(8);
    let mut out = vec![0];
    sender.push_batch(&mut vec![1, 2]).unwrap();

    assert!(receiver.drain_now(&mut out));
    assert_eq!(out, [0, 1, 2]);
    assert!(!receiver.drain_now(&mut out));
    assert_eq!(out, [0, 1, 2]);
}

#[test]
fn buffers_go_round_without_allocation() {
    let (sender, mut receiver) = mailbox(64);
    let mut out = Vec::new();
    let mut buffers = std::collections::BTreeSet::new();
    for round in 0..10 {
        sender.push_batch(&mut (0..64).collect()).unwrap();
        out.clear();
        receiver.drain_now(&mut out);
        if round >= 2 {
            buffers.insert(out.as_ptr());
        }
    }
    assert!(buffers.len() <= 2, "two buffers are exchanged, but {} were seen", buffers.len());
}

#[test]
fn a_full_mailbox_gives_the_item_back() {
    let (sender, mut receiver) = mailbox(2);
    let mut batch = vec![1, 2, 3];

    assert_eq!(sender.push_batch(&mut batch), Ok(2));
    assert_eq!(batch, [3]);
    assert_eq!(sender.push_batch(&mut batch), Ok(0));
    assert_eq!(batch, [3]);
    assert_eq!(sender.try_push(4), Err(Rejected::Full(4)));
    assert_eq!(Rejected::Full(4).into_item(), 4);

    assert_eq!(drained(&mut receiver), [1, 2]);
    assert_eq!(sender.try_push(4), Ok(()));
}

#[test]
fn weight_is_bounded_too() {
    let (sender, mut receiver) = mailbox_weighing(10, 100);
    sender.try_push_weighing('a', 60).unwrap();

    assert_eq!(sender.try_push_weighing('b', 41), Err(Rejected::Full('b')));
    assert_eq!(sender.try_push_weighing('c', 40), Ok(()));
    assert_eq!(sender.try_push_weighing('d', 0), Ok(()));
    assert_eq!(sender.try_push_weighing('e', 1), Err(Rejected::Full('e')));
    assert_eq!(sender.try_push_weighing('f', usize::MAX), Err(Rejected::Full('f')));

    assert_eq!(drained(&mut receiver), ['a', 'c', 'd']);
    assert_eq!(sender.try_push_weighing('e', 100), Ok(()));
}

#[test]
fn a_batch_stops_at_the_first_item_that_is_too_heavy() {
    let (sender, mut receiver) = mailbox_weighing(10, 100);
    let mut batch = vec![50, 40, 20, 1];

    assert_eq!(sender.push_batch_weighing(&mut batch, |weight| *weight), Ok(2));
    assert_eq!(batch, [20, 1]);
    assert_eq!(sender.try_push_weighing(11, 11), Err(Rejected::Full(11)));
    assert_eq!(sender.try_push_weighing(10, 10), Ok(()));
    assert_eq!(drained(&mut receiver), [50, 40, 10]);
}

#[test]
fn an_item_heavier_than_the_bound_comes_through_alone() {
    let (mut sender, mut receiver) = mailbox_weighing(10, 100);
    let (_, waker) = counting();
    let mut context = Context::from_waker(&waker);

    assert_eq!(sender.push_batch_weighing(&mut vec![500, 1], |weight| *weight), Ok(1));
    assert_eq!(sender.try_push_weighing(0, 0), Err(Rejected::Full(0)));
    assert!(sender.poll_room(&mut context, 500).is_pending());
    assert_eq!(drained(&mut receiver), [500]);
    assert_eq!(sender.poll_room(&mut context, 500), Poll::Ready(Ok(())));
    assert_eq!(sender.try_push_weighing(600, 600), Ok(()));
}

#[test]
fn what_was_taken_before_close_is_drained_and_then_it_is_closed() {
    let (sender, mut receiver) = mailbox(4);
    sender.try_push(1).unwrap();
    sender.close();
    sender.close();

    let mut batch = vec![2];
    assert_eq!(sender.try_push(2), Err(Rejected::Closed(2)));
    assert_eq!(sender.push_batch(&mut batch), Err(Closed));
    assert_eq!(batch, [2]);
    assert!(sender.is_closed());

    let mut out = Vec::new();
    assert_eq!(receiver.drain_wait(&mut out, PATIENCE), Some(Drained::Items));
    assert_eq!(out, [1]);
    assert_eq!(receiver.drain_wait(&mut out, PATIENCE), Some(Drained::Closed));
    assert_eq!(receiver.drain_wait(&mut out, PATIENCE), Some(Drained::Closed));
}

#[test]
fn the_receiver_is_woken_once_per_sleep() {
    let (sender, mut receiver) = mailbox(4);
    let (count, waker) = counting();
    let mut context = Context::from_waker(&waker);
    let mut out = Vec::new();

    assert!(receiver.poll_drain(&mut context, &mut out).is_pending());
    assert!(receiver.poll_drain(&mut context, &mut out).is_pending());
    sender.try_push(1).unwrap();
    sender.try_push(2).unwrap();
    assert_eq!(count.woken(), 1);

    assert_eq!(receiver.poll_drain(&mut context, &mut out), Poll::Ready(Drained::Items));
    sender.try_push(3).unwrap();
    assert_eq!(count.woken(), 1, "it was not asleep");
}

#[test]
fn an_empty_batch_wakes_nobody() {
    let (sender, mut receiver) = mailbox::<u8>(4);
    let (count, waker) = counting();
    assert!(receiver.poll_drain(&mut Context::from_waker(&waker), &mut Vec::new()).is_pending());

    assert_eq!(sender.push_batch(&mut Vec::new()), Ok(0));
    assert_eq!(count.woken(), 0);
}

#[test]
fn only_the_last_sender_wakes_the_receiver_when_it_goes() {
    let (sender, mut receiver) = mailbox::<u8>(4);
    let second = sender.clone();
    let (count, waker) = counting();
    let mut context = Context::from_waker(&waker);
    assert!(receiver.poll_drain(&mut context, &mut Vec::new()).is_pending());

    drop(sender);
    assert_eq!(count.woken(), 0);
    drop(second);
    assert_eq!(count.woken(), 1);
    assert_eq!(receiver.poll_drain(&mut context, &mut Vec::new()), Poll::Ready(Drained::Closed));
}

#[test]
fn all_who_wait_for_room_are_woken_by_a_drain() {
    let (mut first, mut receiver) = mailbox(1);
    let mut second = first.clone();
    first.try_push(1).unwrap();
    let (count, waker) = counting();
    let mut context = Context::from_waker(&waker);
    assert!(first.poll_room(&mut context, 0).is_pending());
    assert!(first.poll_room(&mut context, 0).is_pending());
    assert!(second.poll_room(&mut context, 0).is_pending());

    receiver.drain_now(&mut Vec::new());

    assert_eq!(count.woken(), 2);
    assert_eq!(first.poll_room(&mut context, 0), Poll::Ready(Ok(())));
}

#[test]
fn a_sender_that_is_gone_is_not_woken() {
    let (first, mut receiver) = mailbox(1);
    let mut second = first.clone();
    first.try_push(1).unwrap();
    let (count, waker) = counting();
    assert!(second.poll_room(&mut Context::from_waker(&waker), 0).is_pending());

    drop(second);
    receiver.drain_now(&mut Vec::new());

    assert_eq!(count.woken(), 0);
    assert_eq!(Arc::strong_count(&count), 2, "the mailbox keeps no waker of it");
}

#[test]
fn dropping_the_receiver_drops_the_items_and_tells_the_senders() {
    let (mut sender, receiver) = mailbox(1);
    let item = Arc::new(());
    sender.try_push(Arc::clone(&item)).unwrap();
    let (count, waker) = counting();
    let mut context = Context::from_waker(&waker);
    assert!(sender.poll_room(&mut context, 0).is_pending());

    drop(receiver);

    assert_eq!(Arc::strong_count(&item), 1);
    assert_eq!(count.woken(), 1);
    assert_eq!(sender.poll_room(&mut context, 0), Poll::Ready(Err(Closed)));
}

#[test]
fn an_item_may_own_a_sender_of_its_mailbox() {
    struct Letter {
        _reply_to: Sender<Self>,
    }
    let (sender, receiver) = mailbox(2);
    assert!(sender.try_push(Letter { _reply_to: sender.clone() }).is_ok());
    drop(receiver);
    assert!(sender.is_closed());
}

#[test]
fn a_blocking_drain_gives_up_in_time() {
    let (sender, mut receiver) = mailbox(1);
    let mut out = Vec::new();
    assert_eq!(receiver.drain_wait(&mut out, NO_WAIT), None);
    assert_eq!(receiver.drain_wait(&mut out, Some(Duration::from_millis(1))), None);
    sender.try_push(1).unwrap();
    assert_eq!(receiver.drain_wait(&mut out, NO_WAIT), Some(Drained::Items));
}

#[test]
fn a_blocking_sender_gives_up_in_time() {
    let (mut sender, _receiver) = mailbox(1);
    assert_eq!(sender.room_wait(0, NO_WAIT), Some(Ok(())));
    sender.try_push(1).unwrap();
    assert_eq!(sender.room_wait(0, Some(Duration::from_millis(1))), None);
}

#[test]
fn many_threads_lose_and_reorder_nothing() {
    const PRODUCERS: usize = 4;
    const ITEMS: usize = 20_000;
    let (sender, mut receiver) = mailbox(16);
    let producers: Vec<_> = (0..PRODUCERS)
        .map(|producer| {
            let mut sender = sender.clone();
            thread::spawn(move || {
                let mut batch: Vec<_> = (0..ITEMS).rev().map(|item| (producer, item)).collect();
                while let Some(item) = batch.pop() {
                    if let Err(rejected) = sender.try_push(item) {
                        batch.push(rejected.into_item());
                        sender.room_wait(0, PATIENCE).expect("the consumer drains").unwrap();
                    }
                }
            })
        })
        .collect();
    drop(sender);

    let mut next = [0; PRODUCERS];
    let mut out = Vec::new();
    while receiver.drain_wait(&mut out, PATIENCE).expect("the producers push") == Drained::Items {
        assert!(out.len() <= 16, "more than the bound was inside");
        for (producer, item) in out.drain(..) {
            assert_eq!(item, next[producer]);
            next[producer] += 1;
        }
    }
    assert_eq!(next, [ITEMS; PRODUCERS]);
    producers.into_iter().for_each(|producer| producer.join().unwrap());
}

#[derive(Clone, Debug)]
enum Step {
    Push(usize),
    PushBatch(Vec<usize>),
    Drain,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0usize..60).prop_map(Step::Push),
        2 => proptest::collection::vec(0usize..60, 0..6).prop_map(Step::PushBatch),
        1 => Just(Step::Drain),
    ]
}

proptest! {
    #[test]
    fn a_mailbox_behaves_like_a_bounded_queue(steps in proptest::collection::vec(step(), 0..60)) {
        const BOUND: usize = 5;
        const WEIGHT: usize = 100;
        let (sender, mut receiver) = mailbox_weighing(BOUND, WEIGHT);
        let mut model: Vec<usize> = Vec::new();
        let fits = |model: &[usize], weight: usize| {
            model.is_empty() || (model.len() < BOUND && model.iter().sum::<usize>() + weight <= WEIGHT)
        };
        for step in steps {
            match step {
                Step::Push(weight) => {
                    let expected = fits(&model, weight);
                    prop_assert_eq!(sender.try_push_weighing(weight, weight).is_ok(), expected);
                    if expected {
                        model.push(weight);
                    }
                }
                Step::PushBatch(weights) => {
                    let mut batch = weights.clone();
                    let count = sender.push_batch_weighing(&mut batch, |weight| *weight).unwrap();
                    for weight in &weights[..count] {
                        prop_assert!(fits(&model, *weight));
                        model.push(*weight);
                    }
                    prop_assert_eq!(&batch, &weights[count..]);
                    if let Some(refused) = weights.get(count) {
                        prop_assert!(!fits(&model, *refused));
                    }
                }
                Step::Drain => {
                    prop_assert_eq!(drained(&mut receiver), std::mem::take(&mut model));
                }
            }
        }
    }
}

#[test]
fn a_watcher_is_woken_when_its_target_is_reached_and_not_before() {
    let (mut level, mut watcher) = watermark(10);
    let (count, waker) = counting();
    let mut context = Context::from_waker(&waker);
    assert_eq!(watcher.poll_reached(&mut context, 10), Poll::Ready(Ok(10)));
    assert!(watcher.poll_reached(&mut context, 20).is_pending());

    level.advance(19);
    assert_eq!(count.woken(), 0);
    level.advance(25);
    assert_eq!(count.woken(), 1);
    assert_eq!(watcher.poll_reached(&mut context, 20), Poll::Ready(Ok(25)));
    assert_eq!((level.current(), watcher.current()), (25, 25));
}

#[test]
fn only_the_last_target_of_a_watcher_counts() {
    let (mut level, mut watcher) = watermark(0);
    let (count, waker) = counting();
    let mut context = Context::from_waker(&waker);
    assert!(watcher.poll_reached(&mut context, 5).is_pending());
    assert!(watcher.poll_reached(&mut context, 9).is_pending());
    assert!(watcher.poll_reached(&mut context, 9).is_pending());

    level.advance(5);
    assert_eq!(count.woken(), 0);
    level.advance(u64::MAX);
    assert_eq!(count.woken(), 1);
}

#[test]
fn watchers_wait_for_different_targets() {
    let (mut level, mut first) = watermark(0);
    let mut second = first.clone();
    let ((first_count, first_waker), (second_count, second_waker)) = (counting(), counting());
    assert!(first.poll_reached(&mut Context::from_waker(&first_waker), 7).is_pending());
    assert!(second.poll_reached(&mut Context::from_waker(&second_waker), 3).is_pending());

    level.advance(4);
    assert_eq!((first_count.woken(), second_count.woken()), (0, 1));
    drop(level);
    assert_eq!((first_count.woken(), second_count.woken()), (1, 1));
    assert_eq!(first.reached_wait(7, PATIENCE), Some(Err(Closed)));
    assert_eq!(second.reached_wait(3, PATIENCE), Some(Ok(4)));
}

#[test]
fn a_watcher_that_is_gone_leaves_nothing_behind() {
    let (mut level, mut watcher) = watermark(0);
    let (count, waker) = counting();
    assert!(watcher.poll_reached(&mut Context::from_waker(&waker), 1).is_pending());

    drop(watcher);
    level.advance(1);

    assert_eq!(count.woken(), 0);
    assert_eq!(Arc::strong_count(&count), 2);
}

#[test]
fn a_blocking_watcher_gives_up_in_time_and_is_woken_by_another_thread() {
    let (mut level, mut watcher) = watermark(0);
    assert_eq!(watcher.reached_wait(1, Some(Duration::from_millis(1))), None);
    let publisher = thread::spawn(move || level.advance(1));
    let answer = watcher.reached_wait(1, PATIENCE);
    publisher.join().unwrap();
    assert_eq!(answer, Some(Ok(1)));
}

#[test]
#[should_panic(expected = "a watermark would go down")]
fn a_watermark_never_goes_down() {
    let (mut level, _watcher) = watermark(2);
    level.advance(1);
}
