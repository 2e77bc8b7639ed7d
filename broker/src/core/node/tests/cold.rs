//! Reads of flushed data against the credit of their lane.

use proptest::prelude::*;

use super::*;
use crate::core::ColdRead;
use crate::core::event::ColdWant;

/// The bytes a read may find at most, as a frame.
fn wanted(read: &ColdRead) -> u64 {
    match read.want {
        ColdWant::Batches { bytes_max, .. } => bytes_max + Deliver::OVERHEAD_BYTES as u64,
        ColdWant::OffsetAt(_) => panic!("nobody looked for a time"),
    }
}

/// A node with so many flushed batches in both of its partitions, and readers of both from the start.
fn readers(credit: u64, batches: u64) -> Script {
    let mut script = Script::new(credit);
    for partition in 0..2 {
        (0..batches).for_each(|sequence| script.publish(partition, sequence, b"value"));
    }
    script.sync();
    for partition in 0..2 {
        script.flush(partition, batches, 0);
        script.subscribe(partition, 0, StartAt::Earliest);
    }
    script
}

impl Script {
    /// A read finds so many batches of a length, all together.
    fn answer(&mut self, read: ColdRead, bytes: usize, count: u64) {
        let ColdWant::Batches { from, bytes_max } = read.want else { panic!("nobody looked for a time") };
        let end = Offset::new(from.get() + count);
        let result = ColdResult::batches(Bytes::from(vec![7; bytes]), end, bytes_max);
        self.event(Event::ColdAnswer(ColdAnswer { read, result }));
    }

    fn read(&mut self) -> ColdRead {
        assert_eq!(self.actions.cold_reads.len(), 1, "one read is under way");
        self.actions.cold_reads.remove(0)
    }
}

#[test]
fn a_read_waits_for_the_credit_that_another_may_need() {
    let mut script = readers(6000, 1);
    let first = script.read();
    assert_eq!(wanted(&first), 6000);
    script.answer(first, 100, 1);
    let second = script.read();
    assert_eq!(wanted(&second), 6000 - 100 - Deliver::OVERHEAD_BYTES as u64);
}

#[test]
fn a_batch_longer_than_the_credit_waits_for_more_and_others_go_on() {
    let mut script = readers(6000, 1);
    let long = script.read();
    script.answer(long, 7000, 1);
    let other = script.read();
    assert_eq!(other.key.partition.get(), 1);
    script.answer(other, 100, 1);
    script.event(Event::Granted(lane(SUBSCRIBE), 7000));
    assert!(script.actions.cold_reads.is_empty(), "nothing is read for less than the batch needs");
    script.event(Event::Granted(lane(SUBSCRIBE), 8000));
    let again = script.read();
    script.answer(again, 7000, 1);
    let partitions = [(); 2].map(|()| script.take::<Deliver>(SUBSCRIBE, FrameKind::Deliver).partition.get());
    assert_eq!(partitions, [1, 0]);
}

#[test]
fn a_batch_longer_than_what_is_read_at_a_time_is_read_once_there_is_memory_for_it() {
    let mut script = readers(1 << 30, 1);
    let (first, second) = (script.actions.cold_reads.remove(0), script.actions.cold_reads.remove(0));
    let ColdWant::Batches { bytes_max, .. } = first.want else { panic!("nobody looked for a time") };
    let long = usize::try_from(bytes_max).unwrap() + 1;
    script.answer(first, long, 1);
    script.answer(second, 100, 1);
    let again = script.read();
    assert_eq!(wanted(&again), (long + Deliver::OVERHEAD_BYTES) as u64);
    script.answer(again, long, 1);
    let partitions = [(); 2].map(|()| script.take::<Deliver>(SUBSCRIBE, FrameKind::Deliver).partition.get());
    assert_eq!(partitions, [1, 0]);
}

#[test]
fn what_was_set_aside_for_a_reader_that_moves_is_there_for_others() {
    let mut script = readers(6000, 1);
    script.read();
    script.subscribe(0, 1, StartAt::Offset(Offset::new(77)));
    assert_eq!(script.read().key.partition.get(), 1);
}

proptest! {
    #[test]
    fn reads_stay_within_the_credit_and_everything_comes(
        lengths in prop::collection::vec(1usize..4000, 2..40),
        choices in prop::collection::vec(any::<prop::sample::Index>(), 1..100),
    ) {
        // A window as a client gives it: the longest frame has room though a quarter is held back.
        let window = (4000 + Deliver::OVERHEAD_BYTES as u64) * 4 / 3 + 1;
        let batches = lengths.len() as u64;
        let mut script = readers(window, batches);
        let (mut limit, mut sent, mut reads) = (window, 0, Vec::new());
        let mut ends = [0; 2];
        for choice in choices.iter().cycle().take(100 * lengths.len()) {
            reads.append(&mut script.actions.cold_reads);
            let under_way: u64 = reads.iter().map(wanted).sum();
            prop_assert!(sent + under_way <= limit, "{sent} and {under_way} of {limit}");
            if reads.is_empty() {
                break;
            }
            let read = reads.remove(choice.index(reads.len()));
            let ColdWant::Batches { from, bytes_max } = read.want else { unreachable!() };
            let (mut bytes, mut count) = (0, 0);
            for length in lengths.iter().skip(usize::try_from(from.get()).unwrap()) {
                if count > 0 && bytes + length > usize::try_from(bytes_max).unwrap() {
                    break;
                }
                bytes += length;
                count += 1;
            }
            script.answer(read, bytes, count);
            while script.kinds().contains(&FrameKind::Deliver) {
                let deliver: Deliver = script.take(SUBSCRIBE, FrameKind::Deliver);
                let length = (Deliver::OVERHEAD_BYTES + deliver.batches.len()) as u64;
                sent += length;
                prop_assert!(sent <= limit);
                ends[deliver.partition.get() as usize] = from.get() + count;
                script.event(Event::Sent(lane(SUBSCRIBE), length));
            }
            if sent + window - limit >= window / 4 {
                limit = sent + window;
                script.event(Event::Granted(lane(SUBSCRIBE), limit));
            }
        }
        prop_assert_eq!(ends, [batches; 2]);
    }
}
