//! Scripts: given events, expected actions.

use weir_protocol::message::{PublishExceptions, RecordException, RecordFate};
use weir_protocol::units::{Durability, Offset, Sequence, Timestamp};

use super::*;

const P0: PartitionId = PartitionId::new(0);
const LANE: LaneId = LaneId(0);
const NOW: Mono = Mono::ZERO;
const GRANTED: u64 = 1 << 20;

/// One partition, one lane, connected, with credit.
fn connected(options: ProducerOptions) -> Producer<u64> {
    let mut producer = Producer::new(options, IDENTITY, 1);
    connect(&mut producer);
    producer
}

fn connect(producer: &mut Producer<u64>) {
    producer.connected(1, producer.options().unacked_batches);
    producer.lane_opened(LANE);
    producer.granted(LANE, GRANTED);
    let _wakes: Vec<_> = producer.wakes().collect();
}

/// Enqueues records until each of the identifiers is in a batch of its own.
fn put_batches(producer: &mut Producer<u64>, ids: std::ops::Range<u64>) {
    // 250 bytes of padding leave room for one record only in a batch of 300 to 400 bytes.
    ids.for_each(|id| {
        put(producer, Routing::Any, id, 180, NOW).unwrap();
    });
}

fn sequences(sent: &[(Outgoing, ProducerBatch)]) -> Vec<u64> {
    sent.iter().map(|(_, batch)| batch.header().sequence.get()).collect()
}

fn ack(sequence: u64) -> AckEntry {
    AckEntry {
        partition: P0,
        sequence: Sequence::new(sequence),
        base_offset: Offset::new(sequence),
        append_time: Timestamp::ZERO,
        partition_epoch: Epoch::ZERO,
        durability: Durability::Durable,
        duplicate: false,
    }
}

fn reject(sequence: u64, code: ErrorCode) -> PublishRejected {
    let sequence = Sequence::new(sequence);
    PublishRejected { partition: P0, sequence, code, retry_after_ms: 0, detail: String::new() }
}

fn stored(out: &[Completion<u64>]) -> Vec<u64> {
    out.iter().filter(|done| matches!(done.outcome, Outcome::Stored(..))).map(|done| done.ticket).collect()
}

fn failed(out: &[Completion<u64>]) -> Vec<(u64, bool)> {
    let failed = out.iter().filter_map(|done| match &done.outcome {
        Outcome::Stored(..) => None,
        Outcome::Failed(failed) => Some((done.ticket, failed.maybe_stored)),
    });
    failed.collect()
}

#[test]
fn a_lone_record_goes_at_once_and_what_follows_fills_a_batch() {
    let mut producer = connected(options(1));
    let mut out = Vec::new();
    put(&mut producer, Routing::Any, 0, 0, NOW).unwrap();
    assert_eq!(send(&mut producer, LANE, &mut out).len(), 1);

    for id in 1..4 {
        put(&mut producer, Routing::Any, id, 0, NOW).unwrap();
    }
    assert!(send(&mut producer, LANE, &mut out).is_empty(), "the open batch fills while one is unanswered");

    producer.acked(LANE, &ack(0), NOW, &mut out).unwrap();
    assert_eq!(producer.wakes().collect::<Vec<_>>(), [LANE]);
    let sent = send(&mut producer, LANE, &mut out);
    assert_eq!(ids(&sent[0].1), [1, 2, 3]);
    assert_eq!(sent[0].0.acked_below, Sequence::new(1));
}

#[test]
fn a_full_batch_goes_although_others_are_unanswered() {
    let mut producer = connected(options(1));
    let mut out = Vec::new();
    for id in 0..20 {
        put(&mut producer, Routing::Any, id, 0, NOW).unwrap();
    }
    let sent = send(&mut producer, LANE, &mut out);
    assert_eq!(sent.iter().map(|(_, batch)| ids(batch).len()).collect::<Vec<_>>(), [8, 8]);
}

#[test]
fn linger_holds_the_open_batch_until_its_time_or_a_flush() {
    let linger = Duration::from_millis(5);
    let mut producer = connected(ProducerOptions { linger, ..options(1) });
    let mut out = Vec::new();
    put(&mut producer, Routing::Any, 0, 0, NOW).unwrap();
    assert!(send(&mut producer, LANE, &mut out).is_empty());
    assert_eq!(producer.next_timer(), Some(NOW.after(linger)));
    producer.tick(NOW.after(linger), &mut out);
    assert_eq!(send(&mut producer, LANE, &mut out).len(), 1);
    producer.acked(LANE, &ack(0), NOW, &mut out).unwrap();

    put(&mut producer, Routing::Any, 1, 0, NOW).unwrap();
    let mark = producer.flush();
    assert_eq!(send(&mut producer, LANE, &mut out).len(), 1);
    assert!(!producer.is_resolved_below(mark));
    producer.acked(LANE, &ack(1), NOW, &mut out).unwrap();
    assert!(producer.is_resolved_below(mark));
}

#[test]
fn at_most_so_many_batches_are_unanswered() {
    let mut producer = connected(ProducerOptions { unacked_batches: 3, ..options(1) });
    let mut out = Vec::new();
    put_batches(&mut producer, 0..10);
    assert_eq!(sequences(&send(&mut producer, LANE, &mut out)), [0, 1, 2]);
    producer.acked(LANE, &ack(0), NOW, &mut out).unwrap();
    assert_eq!(sequences(&send(&mut producer, LANE, &mut out)), [3]);
}

#[test]
fn nothing_is_sent_beyond_the_credit() {
    let mut producer = Producer::new(options(1), IDENTITY, 1);
    let mut out = Vec::new();
    producer.connected(1, producer.options().unacked_batches);
    producer.lane_opened(LANE);
    put_batches(&mut producer, 0..3);
    assert!(send(&mut producer, LANE, &mut out).is_empty());
    assert!(producer.blocked().is_some_and(|(cause, _)| cause == BlockedBy::ServerCredit));

    producer.throttled(LANE);
    assert!(producer.blocked().is_some_and(|(cause, _)| cause == BlockedBy::Quota));

    producer.granted(LANE, 400);
    assert!(producer.blocked().is_none_or(|(cause, _)| cause != BlockedBy::Quota));
    let sent = send(&mut producer, LANE, &mut out);
    assert_eq!(sequences(&sent), [0]);
    let length = (Publish::OVERHEAD_BYTES + sent[0].1.length()) as u64;
    producer.granted(LANE, 2 * length - 1);
    assert!(send(&mut producer, LANE, &mut out).is_empty(), "one byte is missing");
    producer.granted(LANE, 2 * length);
    assert_eq!(sequences(&send(&mut producer, LANE, &mut out)), [1]);
}

#[test]
fn a_lost_answer_is_asked_for_again_under_the_same_sequence() {
    let mut producer = connected(options(1));
    let mut out = Vec::new();
    put_batches(&mut producer, 0..4);
    let first = send(&mut producer, LANE, &mut out);
    producer.acked(LANE, &ack(0), NOW, &mut out).unwrap();

    producer.lane_lost(LANE, NOW);
    connect(&mut producer);
    let again = send(&mut producer, LANE, &mut out);
    assert_eq!(sequences(&again), [1, 2]);
    assert_eq!(again[0].1.bytes(), first[1].1.bytes(), "the same bytes");
    assert_eq!(again[0].0.acked_below, Sequence::new(1));
    producer.acked(LANE, &AckEntry { duplicate: true, ..ack(1) }, NOW, &mut out).unwrap();
    producer.acked(LANE, &ack(2), NOW, &mut out).unwrap();
    assert_eq!(stored(&out), [0, 1, 2]);
}

#[test]
fn a_refusal_in_the_middle_rewinds_to_it_once_all_have_answers() {
    let mut producer = connected(options(1));
    let mut out = Vec::new();
    put_batches(&mut producer, 0..5);
    assert_eq!(sequences(&send(&mut producer, LANE, &mut out)), [0, 1, 2, 3]);
    producer.acked(LANE, &ack(0), NOW, &mut out).unwrap();
    producer.rejected(LANE, reject(1, ErrorCode::StorageFull), NOW, &mut out).unwrap();
    producer.rejected(LANE, reject(2, ErrorCode::SequenceGap), NOW, &mut out).unwrap();
    assert!(producer.next_timer().is_some_and(|at| at > NOW.after(Duration::from_secs(1))), "no pause yet");
    producer.rejected(LANE, reject(3, ErrorCode::SequenceGap), NOW, &mut out).unwrap();
    assert!(send(&mut producer, LANE, &mut out).is_empty(), "it waits before it tries again");
    assert!(producer.blocked().is_some_and(|(cause, _)| cause == BlockedBy::StorageFull));

    let later = producer.next_timer().unwrap();
    producer.tick(later, &mut out);
    assert_eq!(sequences(&send(&mut producer, LANE, &mut out)), [1, 2, 3]);
    assert!(failed(&out).is_empty());
}

#[test]
fn the_advised_wait_is_kept() {
    let mut producer = connected(options(1));
    let mut out = Vec::new();
    put(&mut producer, Routing::Any, 0, 0, NOW).unwrap();
    send(&mut producer, LANE, &mut out);
    let rejection = PublishRejected { retry_after_ms: 700, ..reject(0, ErrorCode::Throttled) };
    producer.rejected(LANE, rejection, NOW, &mut out).unwrap();
    assert_eq!(producer.next_timer(), Some(NOW.after(Duration::from_millis(700))));
}

#[test]
fn a_refusal_for_good_fails_that_batch_and_renumbers_the_others() {
    let mut producer = connected(options(1));
    let mut out = Vec::new();
    put_batches(&mut producer, 0..4);
    let first = send(&mut producer, LANE, &mut out);
    producer.rejected(LANE, reject(0, ErrorCode::BatchTooLarge), NOW, &mut out).unwrap();
    producer.rejected(LANE, reject(1, ErrorCode::SequenceGap), NOW, &mut out).unwrap();
    producer.rejected(LANE, reject(2, ErrorCode::SequenceGap), NOW, &mut out).unwrap();
    assert_eq!(failed(&out), [(0, false)]);

    let again = send(&mut producer, LANE, &mut out);
    assert_eq!(sequences(&again), [0, 1]);
    assert_eq!(ids(&again[0].1), ids(&first[1].1));
    again[0].1.verify().unwrap();
}

#[test]
fn a_refusal_for_good_of_what_may_be_stored_never_reuses_its_sequence() {
    let mut producer = connected(options(1));
    let mut out = Vec::new();
    put_batches(&mut producer, 0..3);
    assert_eq!(send(&mut producer, LANE, &mut out).len(), 2);
    producer.lane_lost(LANE, NOW);
    connect(&mut producer);
    send(&mut producer, LANE, &mut out);
    producer.rejected(LANE, reject(0, ErrorCode::BatchTooLarge), NOW, &mut out).unwrap();
    producer.rejected(LANE, reject(1, ErrorCode::SequenceGap), NOW, &mut out).unwrap();
    assert_eq!(failed(&out), [(0, true), (1, true)]);
    assert!(producer.wants_identity());
    assert!(send(&mut producer, LANE, &mut out).is_empty());

    producer.identified(Identity { producer: ProducerId::new(71), epoch: Epoch::ZERO });
    let again = send(&mut producer, LANE, &mut out);
    assert_eq!(again[0].1.header().producer, ProducerId::new(71));
    assert_eq!((sequences(&again), ids(&again[0].1)), (vec![0], vec![2]));
}

#[test]
fn a_forgotten_producer_goes_on_under_a_new_identity_without_loss_if_every_answer_came() {
    let mut producer = connected(options(1));
    let mut out = Vec::new();
    put(&mut producer, Routing::Any, 0, 0, NOW).unwrap();
    send(&mut producer, LANE, &mut out);
    producer.acked(LANE, &ack(0), NOW, &mut out).unwrap();
    put(&mut producer, Routing::Any, 1, 0, NOW).unwrap();
    send(&mut producer, LANE, &mut out);
    producer.rejected(LANE, reject(1, ErrorCode::ProducerUnknown), NOW, &mut out).unwrap();
    assert!(producer.wants_identity() && failed(&out).is_empty());

    let identity = Identity { producer: ProducerId::new(99), epoch: Epoch::new(3) };
    producer.identified(identity);
    let again = send(&mut producer, LANE, &mut out);
    let header = again[0].1.header();
    assert_eq!(
        (header.producer, header.producer_epoch, header.sequence),
        (identity.producer, identity.epoch, Sequence::ZERO)
    );
    again[0].1.verify().unwrap();
    producer.acked(LANE, &ack(0), NOW, &mut out).unwrap();
    assert_eq!(stored(&out), [0, 1]);
}

#[test]
fn a_broker_that_lost_acknowledged_batches_is_met_with_a_new_identity() {
    let mut producer = connected(options(1));
    let mut out = Vec::new();
    put(&mut producer, Routing::Any, 0, 0, NOW).unwrap();
    for round in 0..GAPS_MAX {
        assert!(!producer.wants_identity(), "round {round}");
        send(&mut producer, LANE, &mut out);
        let now = NOW.after(Duration::from_secs(u64::from(round)));
        producer.rejected(LANE, reject(0, ErrorCode::SequenceGap), now, &mut out).unwrap();
        producer.tick(now.after(Duration::from_secs(1)), &mut out);
    }
    assert!(producer.wants_identity());
}

#[test]
fn failed_storage_makes_everything_sent_doubtful_and_is_asked_again() {
    let mut producer = connected(options(1));
    let mut out = Vec::new();
    put(&mut producer, Routing::Any, 0, 0, NOW).unwrap();
    send(&mut producer, LANE, &mut out);
    producer.rejected(LANE, reject(0, ErrorCode::StorageFailed), NOW, &mut out).unwrap();
    producer.lane_lost(LANE, NOW);
    producer.end(&Why::Closed, &mut out);
    assert_eq!(failed(&out), [(0, true)]);
}

#[test]
fn answers_that_were_never_asked_for_are_violations_and_old_ones_are_ignored() {
    let mut producer = connected(options(1));
    let mut out = Vec::new();
    put_batches(&mut producer, 0..3);
    send(&mut producer, LANE, &mut out);
    assert!(producer.acked(LANE, &ack(1), NOW, &mut out).is_err(), "out of order");
    assert!(producer.acked(LANE, &ack(9), NOW, &mut out).is_err(), "never sent");
    assert!(
        producer.acked(LANE, &AckEntry { partition: PartitionId::new(5), ..ack(0) }, NOW, &mut out).is_err()
    );
    assert!(producer.rejected(LANE, reject(1, ErrorCode::Throttled), NOW, &mut out).is_err());
    producer.acked(LANE, &ack(0), NOW, &mut out).unwrap();
    producer.acked(LANE, &ack(0), NOW, &mut out).unwrap();
    assert_eq!(stored(&out), [0]);
    producer.rejected(LANE, reject(1, ErrorCode::Throttled), NOW, &mut out).unwrap();
}

#[test]
fn a_batch_never_sent_times_out_with_a_known_outcome() {
    let mut producer = Producer::new(options(1), IDENTITY, 1);
    let mut out = Vec::new();
    put(&mut producer, Routing::Any, 0, 0, NOW).unwrap();
    let late = NOW.after(Duration::from_secs(60));
    assert_eq!(producer.next_timer(), Some(late));
    producer.tick(late, &mut out);
    assert_eq!(failed(&out), [(0, false)]);
    assert_eq!((producer.window.bytes(), producer.window.messages()), (0, 0));
    connect(&mut producer);
    assert!(send(&mut producer, LANE, &mut out).is_empty());
}

#[test]
fn a_batch_in_flight_times_out_with_an_unknown_outcome_and_keeps_its_sequence() {
    let mut producer = connected(options(1));
    let mut out = Vec::new();
    put(&mut producer, Routing::Any, 0, 0, NOW).unwrap();
    send(&mut producer, LANE, &mut out);
    let late = NOW.after(Duration::from_secs(60));
    put(&mut producer, Routing::Any, 1, 0, late).unwrap();
    producer.tick(late, &mut out);
    assert_eq!(failed(&out), [(0, true)]);
    assert!(producer.window.messages() == 2, "its memory is still in use");

    producer.lane_lost(LANE, late);
    connect(&mut producer);
    let again = send(&mut producer, LANE, &mut out);
    assert_eq!(sequences(&again), [0], "the sequence is used up, so it is sent again");
    producer.acked(LANE, &ack(0), NOW, &mut out).unwrap();
    send(&mut producer, LANE, &mut out);
    producer.acked(LANE, &ack(1), NOW, &mut out).unwrap();
    assert_eq!(stored(&out), [1]);
    assert_eq!(producer.window.messages(), 0);
}

#[test]
fn a_lane_lost_between_taking_and_sealing_keeps_the_batch() {
    let mut producer = connected(options(1));
    let mut out = Vec::new();
    put(&mut producer, Routing::Any, 0, 0, NOW).unwrap();
    let mut taken = Vec::new();
    producer.take(LANE, &mut taken);
    producer.lane_lost(LANE, NOW);
    connect(&mut producer);
    assert!(send(&mut producer, LANE, &mut out).is_empty(), "its bytes are not there yet");
    assert!(seal(&mut producer, LANE, taken.remove(0), &mut out).is_none(), "not to be written any more");
    assert_eq!(producer.wakes().collect::<Vec<_>>(), [LANE]);
    assert_eq!(sequences(&send(&mut producer, LANE, &mut out)), [0]);
}

#[test]
fn ending_hands_back_every_record_once() {
    let mut producer = connected(options(1));
    let mut out = Vec::new();
    put_batches(&mut producer, 0..3);
    let mut taken = Vec::new();
    producer.take(LANE, &mut taken);
    let second = taken.pop().unwrap();
    assert!(seal(&mut producer, LANE, taken.pop().unwrap(), &mut out).is_some());
    producer.end(&Why::Closed, &mut out);
    assert_eq!(failed(&out), [(0, true), (2, false)]);
    assert!(seal(&mut producer, LANE, second, &mut out).is_none());
    assert_eq!(failed(&out).last(), Some(&(1, true)));
    assert!(producer.is_idle());
    assert_eq!(producer.window.bytes(), 0);
}

#[test]
fn a_large_record_gets_a_batch_of_its_own_and_a_larger_one_is_refused() {
    let mut producer = connected(options(1));
    let mut out = Vec::new();
    put(&mut producer, Routing::Any, 0, 0, NOW).unwrap();
    put(&mut producer, Routing::Any, 1, 400, NOW).unwrap();
    put(&mut producer, Routing::Any, 2, 0, NOW).unwrap();
    let error = put(&mut producer, Routing::Any, 3, 600, NOW).unwrap_err();
    assert!(matches!(error, PushError::TooLarge { max: 600, .. }), "{error:?}");
    put(&mut producer, Routing::Any, 4, 0, NOW).unwrap();
    let mut all: Vec<u64> = Vec::new();
    for sequence in 0.. {
        let sent = send(&mut producer, LANE, &mut out);
        all.extend(sent.iter().flat_map(|(_, batch)| ids(batch)));
        if producer.is_idle() {
            break;
        }
        producer.acked(LANE, &ack(sequence), NOW, &mut out).unwrap();
    }
    assert_eq!(all, [0, 1, 2, 4]);
}

#[test]
fn records_without_a_key_change_the_partition_with_the_batch() {
    let mut producer = Producer::new(options(4), IDENTITY, 1);
    let partitions: Vec<u32> =
        (0..32).map(|id| put(&mut producer, Routing::Any, id, 0, NOW).unwrap().get()).collect();
    for batch in partitions.chunks(8) {
        assert!(batch.iter().all(|partition| *partition == batch[0]), "{partitions:?}");
    }
    let mut used = partitions;
    used.sort_unstable();
    used.dedup();
    assert_eq!(used.len(), 4);
    assert_eq!(
        put(&mut producer, Routing::Partition(PartitionId::new(4)), 0, 0, NOW),
        Err(PushError::NoPartition)
    );
}

#[test]
fn partitions_of_a_lane_take_turns() {
    let mut producer = Producer::new(options(2), IDENTITY, 1);
    let mut out = Vec::new();
    for id in 0..24 {
        put(&mut producer, Routing::Partition(P0), id, 0, NOW).unwrap();
    }
    for id in 24..48 {
        put(&mut producer, Routing::Partition(PartitionId::new(1)), id, 0, NOW).unwrap();
    }
    connect(&mut producer);
    let turns: Vec<u32> =
        send(&mut producer, LANE, &mut out).iter().map(|(sent, _)| sent.partition.get()).collect();
    assert_eq!(turns, [0, 1, 0, 1, 0, 1]);
}

#[test]
fn a_producer_with_a_name_ends_where_it_is_fenced_and_others_go_on_under_another_identity() {
    for is_claimed in [false, true] {
        let mut producer = connected(ProducerOptions { is_claimed, ..options(2) });
        let mut out = Vec::new();
        for number in [0, 1] {
            put(&mut producer, Routing::Partition(PartitionId::new(number)), number.into(), 0, NOW).unwrap();
        }
        assert_eq!(send(&mut producer, LANE, &mut out).len(), 2);
        producer.rejected(LANE, reject(0, ErrorCode::ProducerFenced), NOW, &mut out).unwrap();
        assert_eq!(producer.wants_identity(), !is_claimed);
        assert_eq!(producer.ended().is_some(), is_claimed);
        // What was on its way in the other partition may be stored; its answer is nobody's business any more.
        let entry = AckEntry { partition: PartitionId::new(1), ..ack(0) };
        producer.acked(LANE, &entry, NOW, &mut out).unwrap();
        let expected = if is_claimed { (vec![], vec![(0, false), (1, true)]) } else { (vec![1], vec![]) };
        assert_eq!((stored(&out), failed(&out)), expected);
    }
}

fn excepted(sequence: u64, records: &[u32]) -> PublishExceptions {
    let exceptions =
        records.iter().map(|record| RecordException { record: *record, fate: RecordFate::Expired }).collect();
    PublishExceptions { partition: P0, sequence: Sequence::new(sequence), exceptions }
}

fn exceptions(out: &[Completion<u64>]) -> Vec<Vec<u32>> {
    let stored = out.iter().filter_map(|done| match &done.outcome {
        Outcome::Stored(_, exceptions, _) => Some(exceptions.iter().map(|told| told.record).collect()),
        Outcome::Failed(_) => None,
    });
    stored.collect()
}

#[test]
fn exceptions_come_with_the_result_of_their_batch_and_are_told_anew_after_a_lost_lane() {
    let mut producer = connected(options(1));
    let mut out = Vec::new();
    for id in 0..16 {
        put(&mut producer, Routing::Any, id, 0, NOW).unwrap();
    }
    assert_eq!(sequences(&send(&mut producer, LANE, &mut out)), [0, 1]);
    producer.excepted(LANE, excepted(0, &[1, 2])).unwrap();
    producer.lane_lost(LANE, NOW);
    connect(&mut producer);
    assert_eq!(sequences(&send(&mut producer, LANE, &mut out)), [0, 1]);
    producer.excepted(LANE, excepted(0, &[1])).unwrap();
    producer.excepted(LANE, excepted(0, &[7])).unwrap();
    producer.acked(LANE, &ack(0), NOW, &mut out).unwrap();
    producer.acked(LANE, &ack(1), NOW, &mut out).unwrap();
    assert_eq!(exceptions(&out), [vec![1, 7], vec![]]);
    producer.excepted(LANE, excepted(0, &[3])).expect("an answer that came before changes nothing");
}

#[test]
fn exceptions_of_what_is_not_there_break_the_protocol() {
    let mut producer = connected(options(1));
    let mut out = Vec::new();
    put(&mut producer, Routing::Any, 0, 0, NOW).unwrap();
    put(&mut producer, Routing::Any, 1, 0, NOW).unwrap();
    assert_eq!(sequences(&send(&mut producer, LANE, &mut out)), [0]);
    for bad in [excepted(1, &[0]), excepted(0, &[2]), excepted(0, &[1, 1]), excepted(0, &[0])] {
        producer.excepted(LANE, bad).unwrap_err();
    }
}
