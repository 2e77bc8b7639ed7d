use proptest::prelude::*;
use weir_protocol::batch::Voids;
use weir_protocol::limits::{BATCH_RECORDS_MAX, UNACKED_BATCHES_MAX};
use weir_protocol::units::ProducerId;

use super::*;
use crate::frame::samples;

fn result(offset: u64) -> AppendResult {
    AppendResult {
        base_offset: Offset::new(offset),
        record_count: 1,
        append_time: Timestamp::from_micros(7),
        voids: Voids::NONE,
    }
}

fn record(producers: &mut Producers, id: u64, epoch: u32, sequence: u64, (acked_below, offset): (u64, u64)) {
    let (id, epoch) = (ProducerId::new(id), Epoch::new(epoch));
    producers.record(id, epoch, Sequence::new(sequence), Sequence::new(acked_below), result(offset));
}

fn check(producers: &Producers, id: u64, epoch: u32, sequence: u64) -> Verdict {
    producers.check(ProducerId::new(id), Epoch::new(epoch), Sequence::new(sequence))
}

#[test]
fn an_unknown_producer_starts_with_sequence_zero() {
    let producers = Producers::default();
    assert_eq!(check(&producers, 1, 0, 0), Verdict::Next);
    assert_eq!(check(&producers, 1, 0, 1), Verdict::Unknown);
}

#[test]
fn a_batch_sent_again_gets_its_first_result() {
    let mut producers = Producers::default();
    for sequence in 0..5 {
        record(&mut producers, 1, 3, sequence, (0, 100 + sequence));
    }
    for sequence in 0..5 {
        assert_eq!(check(&producers, 1, 3, sequence), Verdict::Duplicate(result(100 + sequence)));
    }
    assert_eq!(check(&producers, 1, 3, 5), Verdict::Next);
    assert_eq!(check(&producers, 1, 3, 7), Verdict::Gap { expected: Sequence::new(5) });
}

#[test]
fn results_that_were_answered_are_forgotten() {
    let mut producers = Producers::default();
    for sequence in 0..5 {
        record(&mut producers, 1, 0, sequence, (sequence.saturating_sub(2), sequence));
    }
    assert_eq!(check(&producers, 1, 0, 1), Verdict::Forgotten);
    assert_eq!(check(&producers, 1, 0, 2), Verdict::Duplicate(result(2)));
}

#[test]
fn no_more_results_are_kept_than_may_be_unacknowledged() {
    let mut producers = Producers::default();
    let count = UNACKED_BATCHES_MAX as u64 + 1;
    for sequence in 0..count {
        record(&mut producers, 1, 0, sequence, (0, sequence));
    }
    assert_eq!(check(&producers, 1, 0, 0), Verdict::Forgotten);
    assert_eq!(check(&producers, 1, 0, 1), Verdict::Duplicate(result(1)));
}

#[test]
fn a_new_epoch_starts_over_and_fences_the_old_one() {
    let mut producers = Producers::default();
    record(&mut producers, 1, 0, 0, (0, 10));
    assert_eq!(check(&producers, 1, 1, 1), Verdict::Gap { expected: Sequence::ZERO });
    assert_eq!(check(&producers, 1, 1, 0), Verdict::Next);
    record(&mut producers, 1, 1, 0, (0, 11));
    assert_eq!(check(&producers, 1, 0, 1), Verdict::Fenced { current: Epoch::new(1) });
    assert_eq!(check(&producers, 1, 1, 0), Verdict::Duplicate(result(11)));
}

#[test]
fn the_producer_that_appended_longest_ago_is_forgotten_first() {
    let mut producers = Producers::default();
    let max = PRODUCERS_PER_PARTITION_MAX as u64;
    for id in 0..max {
        record(&mut producers, id, 0, 0, (0, id));
    }
    // Producer 0 appends again, so producer 1 is the oldest.
    record(&mut producers, 0, 0, 1, (0, max));
    record(&mut producers, max, 0, 0, (0, max + 1));
    assert_eq!(producers.count(), PRODUCERS_PER_PARTITION_MAX);
    assert_eq!(check(&producers, 1, 0, 1), Verdict::Unknown);
    assert_eq!(check(&producers, 0, 0, 2), Verdict::Next);
}

#[test]
fn frames_of_topics_that_do_not_exist_mean_nothing() {
    let mut state = NodeState::default();
    assert_eq!(state.try_apply(&samples::append(0, 0, b"lost")), Ok(Applied::Nothing));
    assert_eq!(state.try_apply(&samples::trim(0, 0)), Ok(Applied::Nothing));
    assert_eq!(state, NodeState::default());
}

#[test]
fn a_batch_must_follow_the_one_before() {
    let mut state = NodeState::default();
    state.apply(&Frame::Topic(samples::topic(1)));
    state.apply(&samples::append(0, 0, b"first"));
    let before = state.clone();
    let error = state.try_apply(&samples::append(0, 2, b"third")).unwrap_err();
    assert_eq!((error.expected, error.found), (Offset::new(1), Offset::new(2)));
    assert_eq!(state, before);
}

#[test]
fn a_trim_reaches_no_further_than_the_end_and_never_back() {
    let mut state = NodeState::default();
    state.apply(&Frame::Topic(samples::topic(1)));
    (0..3).for_each(|offset| state.apply(&samples::append(0, offset, b"x")));
    for (trim, expected) in [(2, 2), (1, 2), (9, 3)] {
        state.apply(&samples::trim(0, trim));
        assert_eq!(state.partitions[&samples::partition(0)].log_start, Offset::new(expected));
    }
}

#[test]
fn a_deleted_topic_takes_its_partitions_along() {
    let mut state = NodeState::default();
    state.apply(&Frame::Topic(samples::topic(1)));
    state.apply(&samples::append(0, 0, b"x"));
    state.apply(&samples::append(2, 0, b"x"));
    let applied = state.try_apply(&Frame::TopicDeleted(samples::topic(1).id)).unwrap();
    let gone = [samples::partition(0), samples::partition(2)].into_iter().collect();
    assert_eq!(applied, Applied::TopicGone(gone));
    assert_eq!(state, NodeState::default());
}

#[test]
fn a_group_settles_what_it_says_until_it_is_moved_or_gone() {
    let mut state = NodeState::default();
    assert_eq!(state.try_apply(&samples::group(1, &[(0, 0)])), Ok(Applied::Nothing), "there is no topic");
    state.apply(&Frame::Topic(samples::topic(1)));
    let keys = |numbers: [u32; 2]| Applied::Groups(numbers.map(samples::partition).into());
    assert_eq!(state.try_apply(&samples::group(1, &[(0, 3), (2, 0)])), Ok(keys([0, 2])));
    assert_eq!(state.try_apply(&samples::settled(9, 0, &[(3, 4)])), Ok(Applied::Nothing), "no such group");
    state.apply(&samples::settled(1, 0, &[(5, 7), (3, 4)]));
    let cursor =
        |state: &NodeState| state.partitions[&samples::partition(0)].cursors[&GroupId::new(1)].clone();
    assert_eq!((cursor(&state).floor().get(), cursor(&state).settled_above()), (4, 2));
    state.apply(&samples::group(1, &[(0, 2)]));
    assert_eq!(cursor(&state), Cursor::at(Offset::new(2)));
    let mut bytes = Vec::new();
    encode_partitions(state.partitions.iter().map(|(key, state)| (*key, state)), &mut bytes);
    assert_eq!(decode_partitions(&bytes).unwrap(), state.partitions);
    assert_eq!(state.try_apply(&samples::group_deleted(1)), Ok(keys([0, 2])));
    assert!(state.groups.is_empty() && state.partitions.values().all(|state| state.cursors.is_empty()));
    state.apply(&samples::group(2, &[(0, 0)]));
    state.apply(&Frame::TopicDeleted(samples::topic(1).id));
    assert_eq!(state, NodeState::default());
}

#[test]
fn a_record_comes_back_or_goes_to_the_dead_letters_or_neither() {
    let mut state = NodeState::default();
    state.apply(&Frame::Topic(samples::topic(1)));
    assert_eq!(state.try_apply(&samples::failed(1, 0, (4, 1))), Ok(Applied::Nothing), "there is no group");
    assert_eq!(state.try_apply(&samples::dead_letters(1, 0, &[4])), Ok(Applied::Nothing));
    assert_eq!(state.try_apply(&samples::forwarded(1, 0, &[4])), Ok(Applied::Nothing));
    state.apply(&samples::group(1, &[(0, 3)]));
    let failures = |state: &NodeState| {
        let failures = state.partitions[&samples::partition(0)].failures.get(&GroupId::new(1)).cloned();
        let Failures { records, letters } = failures.unwrap_or_default();
        let offsets =
            |offsets: Vec<&Offset>| offsets.into_iter().map(|offset| offset.get()).collect::<Vec<_>>();
        (offsets(records.keys().collect()), offsets(letters.keys().collect()))
    };
    for (offset, times) in [(3, 1), (4, 1), (6, 1), (4, 2)] {
        state.apply(&samples::failed(1, 0, (offset, times)));
    }
    assert_eq!(failures(&state), (vec![3, 4, 6], vec![]));
    assert_eq!(
        state.partitions[&samples::partition(0)].failures[&GroupId::new(1)].records[&Offset::new(4)].failed,
        2
    );
    state.apply(&samples::settled(1, 0, &[(6, 8)]));
    assert_eq!(failures(&state), (vec![3, 4], vec![]), "what is settled does not come back");
    state.apply(&samples::failed(1, 0, (7, 1)));
    assert_eq!(failures(&state), (vec![3, 4], vec![]), "not even if it is said afterwards");
    state.apply(&samples::dead_letters(1, 0, &[3, 4]));
    assert_eq!(failures(&state), (vec![], vec![3, 4]));
    let floor = state.partitions[&samples::partition(0)].cursors[&GroupId::new(1)].floor();
    assert_eq!(floor, Offset::new(5), "it is settled");
    let mut bytes = Vec::new();
    encode_partitions(state.partitions.iter().map(|(key, state)| (*key, state)), &mut bytes);
    assert_eq!(decode_partitions(&bytes).unwrap(), state.partitions);
    state.apply(&samples::failed(1, 0, (5, 1)));
    state.apply(&samples::group(1, &[(0, 3)]));
    assert_eq!(failures(&state), (vec![], vec![3, 4]), "a group that is moved starts over; letters go on");
    state.apply(&samples::forwarded(1, 0, &[3, 4]));
    assert!(state.partitions[&samples::partition(0)].failures.is_empty());
    state.apply(&samples::failed(1, 0, (5, 1)));
    state.apply(&samples::group_deleted(1));
    assert!(state.partitions.values().all(|state| state.failures.is_empty()));
}

/// What stands in a state file, for partitions with and without producers.
#[test]
fn partitions_have_golden_bytes() {
    let mut state = NodeState::default();
    state.apply(&Frame::Topic(samples::topic(1)));
    state.apply(&samples::append(1, 0, b"x"));
    state.apply(&samples::trim(2, 0));
    let mut bytes = Vec::new();
    encode_partitions(state.partitions.iter().map(|(key, state)| (*key, state)), &mut bytes);
    let golden = "02000000\
        68000000070707070707070707070707070707070100000000000000000000000000000001000000000000004042\
        0f000000000001000000\
        05000000000000000100000001000000010000000000000000000000000000000000000000000000\
        40420f000000000001000000\
        3400000007070707070707070707070707070707020000000000000000000000000000000000000000000000\
        000000000000000000000000";
    assert_eq!(hex(&bytes), golden);
    assert_eq!(decode_partitions(&bytes).unwrap(), state.partitions);
}

#[test]
fn what_was_given_up_stands_behind_the_producers() {
    let mut state = NodeState::default();
    state.apply(&Frame::Topic(samples::topic(1)));
    state.apply(&samples::append(1, 0, b"x"));
    let encode = |state: &NodeState| {
        let mut bytes = Vec::new();
        encode_partitions(state.partitions.iter().map(|(key, state)| (*key, state)), &mut bytes);
        bytes
    };
    let without = encode(&state);
    let (key, partition) = state.partitions.iter_mut().next().unwrap();
    let key = *key;
    partition.give_up(Offset::new(1)..Offset::new(7));

    let bytes = encode(&state);

    let golden = "01000000010000000000000007000000000000 00".replace(' ', "");
    assert!(hex(&bytes).ends_with(&golden), "{}", hex(&bytes));
    assert_eq!(bytes.len(), without.len() + 20);
    assert_eq!(decode_partitions(&bytes).unwrap(), state.partitions);
    assert_eq!(state.partitions[&key].end_offset, Offset::new(7), "no other record gets these offsets");
}

#[test]
fn a_batch_sent_again_is_told_which_records_were_void_also_after_a_restart() {
    let mut state = NodeState::default();
    state.apply(&Frame::Topic(samples::topic(1)));
    state.apply(&samples::with_void(samples::append(1, 0, b"x")));
    state.apply(&samples::skipped(1, 1));
    let mut bytes = Vec::new();
    encode_partitions(state.partitions.iter().map(|(key, state)| (*key, state)), &mut bytes);
    let partitions = decode_partitions(&bytes).unwrap();
    assert_eq!(partitions, state.partitions);
    let golden =
        "00000000020000000500000000000000000000000000000001000105000000000000000100000000000000010001";
    assert!(hex(&bytes).ends_with(golden), "{}", hex(&bytes));
    let voids = |sequence| match check(&partitions[&samples::partition(1)].producers, 5, 1, sequence) {
        Verdict::Duplicate(result) => result.voids,
        other @ (Verdict::Next
        | Verdict::Forgotten
        | Verdict::Gap { .. }
        | Verdict::Fenced { .. }
        | Verdict::Unknown) => panic!("{other:?}"),
    };
    assert_eq!([0, 1].map(|sequence| voids(sequence).contains(0)), [true, true]);
}

#[test]
fn void_records_take_a_bounded_memory() {
    let mut producers = Producers::default();
    let (id, epoch, count) = (ProducerId::new(1), Epoch::ZERO, BATCH_RECORDS_MAX);
    for sequence in 0..2 {
        let result = AppendResult::skipped(Offset::ZERO, Timestamp::ZERO, count);
        producers.record(id, epoch, Sequence::new(sequence), Sequence::ZERO, result);
    }
    assert_eq!(check(&producers, 1, 0, 0), Verdict::Forgotten);
    assert!(matches!(check(&producers, 1, 0, 1), Verdict::Duplicate(_)));
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_name_belongs_to_who_claimed_it_last_as_long_as_its_topic_exists() {
    let mut state = NodeState::default();
    assert_eq!(state.try_apply(&samples::claim("a", 1)), Ok(Applied::Nothing), "there is no topic");
    state.apply(&Frame::Topic(samples::topic(1)));
    for epoch in 1..4 {
        assert_eq!(state.try_apply(&samples::claim("a", epoch)), Ok(Applied::Topic));
    }
    let names = &state.claims[&samples::topic(1).id];
    assert_eq!(
        names.iter().map(|(name, claim)| (name.as_str(), claim.epoch.get())).collect::<Vec<_>>(),
        [("a", 3)]
    );
    state.apply(&Frame::TopicDeleted(samples::topic(1).id));
    assert_eq!(state, NodeState::default());
}

/// A number that grows with the frames.
fn end_of(frames: &[Frame]) -> u32 {
    u32::try_from(frames.len()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// State of a checkpoint, plus the frames behind it, is the state of all frames.
    #[test]
    fn state_from_a_checkpoint_is_state_from_the_beginning(
        script in prop::collection::vec((0u32..4, 0u8..20), 1..60),
        cut in 0usize..60,
    ) {
        let mut frames = vec![Frame::Topic(samples::topic(1))];
        let mut ends = [0u64; 4];
        for (partition, action) in script {
            let end = &mut ends[partition as usize];
            match action {
                0 => {
                    frames.push(Frame::TopicDeleted(samples::topic(1).id));
                    frames.push(Frame::Topic(samples::topic(2)));
                    ends = [0; 4];
                }
                1 => frames.push(samples::claim(["a", "b"][partition as usize % 2], end_of(&frames))),
                2..4 => frames.push(samples::trim(partition, *end / 2)),
                4 => frames.push(samples::skipped(partition, *end)),
                5 => frames.push(samples::group(u64::from(partition), &[(partition, *end / 2), (1, 0)])),
                6 => frames.push(samples::group_deleted(1)),
                7..10 => frames.push(samples::settled(u64::from(partition / 2), partition, &[(*end / 3, *end)])),
                10 => frames.push(samples::failed(u64::from(partition), partition, (*end / 2, 1))),
                11 => frames.push(samples::dead_letters(u64::from(partition), partition, &[*end / 2])),
                12 => frames.push(samples::forwarded(u64::from(partition), partition, &[*end / 2])),
                13..15 => {
                    frames.push(samples::with_void(samples::append(partition, *end, b"value")));
                    *end += 1;
                }
                _ => {
                    frames.push(samples::append(partition, *end, b"value"));
                    *end += 1;
                }
            }
        }
        let cut = cut.min(frames.len());
        let mut full = NodeState::default();
        frames.iter().for_each(|frame| full.apply(frame));

        let mut before = NodeState::default();
        frames[..cut].iter().for_each(|frame| before.apply(frame));
        let (mut topics, mut partitions, mut groups) = (Vec::new(), Vec::new(), Vec::new());
        encode_groups(&before.groups, &mut groups);
        encode_topics((&before.topics, &before.claims), &mut topics);
        encode_partitions(before.partitions.iter().map(|(key, state)| (*key, state)), &mut partitions);
        let (topics, claims) = decode_topics(&topics).unwrap();
        let mut restored = NodeState {
            topics,
            claims,
            partitions: decode_partitions(&partitions).unwrap(),
            groups: decode_groups(&groups).unwrap(),
        };
        prop_assert_eq!(&restored, &before);
        frames[cut..].iter().for_each(|frame| restored.apply(frame));

        prop_assert_eq!(restored, full);
    }

    /// Damaged state is refused or means something else; it never panics, nor takes memory that is not there.
    #[test]
    fn damaged_partitions_never_panic(position in 0usize..200, value: u8, cut in 0usize..200) {
        let mut state = NodeState::default();
        state.apply(&Frame::Topic(samples::topic(1)));
        (0..3).for_each(|offset| state.apply(&samples::append(1, offset, b"x")));
        let mut bytes = Vec::new();
        encode_partitions(state.partitions.iter().map(|(key, state)| (*key, state)), &mut bytes);
        let position = position % bytes.len();
        bytes[position] = value;
        bytes.truncate(bytes.len() - cut.min(bytes.len()));
        drop(decode_partitions(&bytes));
    }
}
