//! For each invariant a history that breaks it, and the nearest one that does not.

use super::Event::{self, CacheLost, Failed, Held, InDoubt, Missing, Settled, Spent};
use super::Level::{Durable, Written};
use super::*;

const fn send(client: u32, partition: u32, value: u64) -> Event {
    Event::Send { client, partition, value, level: Durable }
}

const fn written(value: u64) -> Event {
    Event::Send { client: 1, partition: 0, value, level: Written }
}

const fn stored(value: u64, offset: u64) -> Event {
    Event::Stored { value, offset, level: Durable, duplicate: false }
}

const fn again(value: u64, offset: u64) -> Event {
    Event::Stored { value, offset, level: Durable, duplicate: true }
}

const fn stored_written(value: u64, offset: u64) -> Event {
    Event::Stored { value, offset, level: Written, duplicate: false }
}

const fn start(offset: u64) -> Event {
    Event::Start { reader: 9, partition: 0, offset }
}

const fn got(offset: u64, value: u64) -> Event {
    Event::Delivered { reader: 9, partition: 0, offset, value: Some(value) }
}

const fn limit(bytes: u64) -> Event {
    Event::Limit { lane: 4, bytes }
}

const fn spent(bytes: u64) -> Event {
    Spent { lane: 4, bytes }
}

fn last(start: u64, values: &[u64]) -> Event {
    Event::Final { partition: 0, start, values: values.iter().copied().map(Some).collect() }
}

/// The invariants that a history breaks, shortened to their first words.
fn broken(history: &[Event]) -> Vec<&'static str> {
    let lines: Vec<Event> =
        to_lines(history).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines, history, "a history survives being written down");
    check(history).into_iter().map(|(name, _)| name).collect()
}

/// Says that the first history breaks this invariant, and the second none.
fn told_apart(invariant: &str, bad: &[Event], good: &[Event]) {
    assert!(broken(bad).contains(&invariant), "not flagged: {bad:?}");
    assert_eq!(broken(good), Vec::<&str>::new(), "flagged: {good:?}");
}

#[test]
fn a_lost_write_is_told_from_one_that_retention_removed() {
    let invariant = "no acknowledged write is lost";
    let sent = [send(1, 0, 5), stored(5, 0), send(1, 0, 6), stored(6, 1)];
    let with = |end: Event| [&sent[..], &[end]].concat();
    told_apart(invariant, &with(last(0, &[5])), &with(last(1, &[6])));
    // What was only written may go with the cache, but not without a loss.
    let lost = [written(5), stored_written(5, 0), CacheLost, last(0, &[])];
    told_apart(invariant, &[CacheLost, written(5), stored_written(5, 0), last(0, &[])], &lost);
}

#[test]
fn two_values_at_an_offset_are_told_from_an_offset_that_was_given_up() {
    let invariant = "an offset holds one value";
    let bad = [send(1, 0, 5), stored(5, 0), send(2, 0, 6), stored(6, 0)];
    let good = [written(5), stored_written(5, 0), CacheLost, send(2, 0, 6), stored(6, 0), last(0, &[6])];
    told_apart(invariant, &bad, &good);
    let bad = [send(1, 0, 5), send(2, 0, 6), start(0), got(0, 5), last(0, &[6])];
    told_apart(invariant, &bad, &[send(1, 0, 5), send(2, 0, 6), start(0), got(0, 5), last(0, &[5])]);
}

#[test]
fn a_value_stored_twice_is_told_from_one_read_twice() {
    let bad = [send(1, 0, 5), InDoubt { value: 5 }, last(0, &[5, 5])];
    let other = Event::Delivered { reader: 8, partition: 0, offset: 0, value: Some(5) };
    told_apart("a value has one offset", &bad, &[send(1, 0, 5), start(0), got(0, 5), other, last(0, &[5])]);
}

#[test]
fn a_wrong_answer_to_a_duplicate_is_told_from_a_right_one() {
    let bad = [send(1, 0, 5), send(1, 0, 6), again(5, 1), last(0, &[5, 6])];
    let good = [send(1, 0, 5), send(1, 0, 6), again(5, 0), last(0, &[5, 6])];
    told_apart("a duplicate is answered with the place of the original", &bad, &good);
}

#[test]
fn reordering_is_told_from_two_clients_that_overtake_each_other() {
    let bad = [send(1, 0, 5), send(1, 0, 6), last(0, &[6, 5])];
    told_apart(
        "records keep the order in which they were sent",
        &bad,
        &[send(1, 0, 5), send(2, 0, 6), last(0, &[6, 5])],
    );
}

#[test]
fn a_phantom_is_told_from_a_record_nobody_waited_for() {
    let invariant = "what is read was sent";
    told_apart(invariant, &[send(1, 0, 5), last(0, &[6])], &[send(1, 0, 5), last(0, &[5])]);
    told_apart(invariant, &[send(1, 1, 5), last(0, &[5])], &[send(1, 0, 5), last(0, &[5])]);
    let corrupt = Event::Delivered { reader: 9, partition: 0, offset: 0, value: None };
    told_apart(invariant, &[send(1, 0, 5), corrupt], &[send(1, 0, 5), got(0, 5)]);
}

#[test]
fn a_failed_write_that_shows_is_told_from_one_in_doubt() {
    let bad = [send(1, 0, 5), Failed { value: 5 }, last(0, &[5])];
    let good = [send(1, 0, 5), InDoubt { value: 5 }, last(0, &[5])];
    told_apart("what failed is not visible", &bad, &good);
}

#[test]
fn a_read_that_un_happened_is_told_from_one_that_retention_passed() {
    let sent = [send(1, 0, 5), start(0), got(0, 5)];
    let with = |end: Event| [&sent[..], &[end]].concat();
    told_apart("what was read stays", &with(last(0, &[])), &with(last(1, &[])));
}

#[test]
fn a_skipped_or_repeated_poll_is_told_from_an_announced_gap_and_a_new_start() {
    let invariant = "a reader gets each offset once, in order";
    let sent = [send(1, 0, 5), send(1, 0, 6), send(1, 0, 7), start(0), got(0, 5)];
    let with = |more: &[Event]| [&sent[..], more].concat();
    let gap = Missing { reader: 9, partition: 0, from: 1, to: 2 };
    told_apart(invariant, &with(&[got(2, 7)]), &with(&[gap, got(2, 7)]));
    told_apart(invariant, &with(&[got(0, 5)]), &with(&[start(0), got(0, 5)]));
}

#[test]
fn a_gap_that_is_none_is_told_from_one_that_retention_made() {
    let sent = [send(1, 0, 5), send(1, 0, 6), start(0), Missing { reader: 9, partition: 0, from: 0, to: 1 }];
    let with = |end: Event| [&sent[..], &[end]].concat();
    told_apart("what is announced as missing is missing", &with(last(0, &[5, 6])), &with(last(1, &[6])));
}

#[test]
fn exceeded_credit_is_told_from_credit_used_up() {
    let invariant = "nothing is sent beyond the credit";
    told_apart(invariant, &[limit(10), spent(6), spent(5)], &[limit(10), spent(6), spent(4)]);
    told_apart(invariant, &[spent(1), limit(10)], &[limit(10), spent(1), limit(12), spent(11)]);
    let limit = |records| Event::RecordLimit { lane: 4, records };
    let spent = |records| Event::RecordsSpent { lane: 4, records };
    told_apart(invariant, &[limit(10), spent(10), spent(1)], &[limit(10), spent(9), spent(1000)]);
    told_apart(invariant, &[limit(10), spent(4), limit(9)], &[spent(500), limit(501), spent(1)]);
}

#[test]
fn a_lie_about_the_level_is_told_from_more_than_was_asked_for() {
    let bad = [send(1, 0, 5), stored_written(5, 0)];
    told_apart("an answer promises no less than was asked for", &bad, &[written(5), stored(5, 0)]);
}

#[test]
fn what_is_stuck_is_told_from_what_has_not_had_its_time() {
    let invariant = "everything comes to its end";
    told_apart(invariant, &[send(1, 0, 5), Settled], &[send(1, 0, 5)]);
    let sent =
        [send(1, 0, 5), send(1, 0, 6), stored(5, 0), stored(6, 1), start(0), got(0, 5), last(0, &[5, 6])];
    let with = |more: &[Event]| [&sent[..], more].concat();
    told_apart(invariant, &with(&[Settled]), &with(&[Event::Stop { reader: 9 }, Settled]));
    told_apart(invariant, &[Held { what: "bytes".to_owned(), amount: 1 }, Settled], &[Settled]);
}

const fn handed(member: u32, lease: u64, offset: u64) -> Event {
    Event::Handed { group: 1, partition: 0, member, lease, offset, value: Some(offset + 5) }
}

const fn acked(member: u32, lease: u64, offset: u64) -> Event {
    Event::Acked { group: 1, partition: 0, member, lease, from: offset, to: offset + 1 }
}

const fn committed(lease: u64, offset: u64) -> Event {
    Event::Committed { group: 1, partition: 0, lease, offset }
}

fn position(floor: u64, settled: &[u64]) -> Event {
    Event::Position { group: 1, partition: 0, floor, settled: settled.to_vec() }
}

/// Two records, and what a group did with them.
fn grouped(more: &[Event]) -> Vec<Event> {
    let sent = [send(1, 0, 5), stored(5, 0), send(1, 0, 6), stored(6, 1)];
    [&[Event::Grouped { group: 1, partition: 0, offset: 0 }], &sent[..], more].concat()
}

#[test]
fn two_owners_are_told_from_one_after_the_other() {
    let invariant = "a partition of a group has one owner at a time";
    let bad = grouped(&[handed(1, 7, 0), handed(2, 8, 0), handed(1, 7, 1)]);
    told_apart(invariant, &bad, &grouped(&[handed(1, 7, 0), handed(1, 7, 1), handed(2, 8, 0)]));
    let bad = grouped(&[handed(1, 7, 0), handed(2, 7, 1)]);
    told_apart(invariant, &bad, &grouped(&[handed(1, 7, 0), handed(1, 7, 1)]));
}

#[test]
fn a_delivery_after_a_confirmed_acknowledgement_is_told_from_one_of_what_was_not_confirmed() {
    let invariant = "what a group has settled is not delivered to it again";
    let again = [handed(1, 7, 0), acked(1, 7, 0), handed(2, 8, 0)];
    told_apart(invariant, &grouped(&again), &grouped(&[handed(1, 7, 0), handed(2, 8, 0), acked(2, 8, 0)]));
    // The answer may be late; what it says was true before the next lease began.
    let late = [handed(1, 7, 0), handed(2, 8, 0), acked(1, 7, 0)];
    told_apart(invariant, &grouped(&late), &grouped(&[handed(1, 7, 0), handed(2, 8, 1), acked(1, 7, 0)]));
    let twice = [handed(1, 7, 0), acked(1, 7, 0), handed(1, 7, 0)];
    told_apart(invariant, &grouped(&twice), &grouped(&[handed(1, 7, 0), acked(1, 7, 0), handed(1, 7, 1)]));
}

#[test]
fn a_position_that_fell_is_told_from_an_answer_that_was_late() {
    let invariant = "the position of a group never goes back";
    told_apart(
        invariant,
        &grouped(&[committed(7, 1), committed(8, 0)]),
        &grouped(&[committed(8, 2), committed(7, 1)]),
    );
    told_apart(
        invariant,
        &grouped(&[committed(7, 1), position(0, &[])]),
        &grouped(&[committed(7, 1), position(1, &[])]),
    );
    let lost = [handed(1, 7, 1), acked(1, 7, 1), position(0, &[])];
    told_apart(invariant, &grouped(&lost), &grouped(&[handed(1, 7, 1), acked(1, 7, 1), position(0, &[1])]));
}

#[test]
fn a_record_that_a_group_never_got_is_told_from_one_that_does_not_count() {
    let invariant = "a group gets every record";
    let with = |more: &[Event], values: Event| grouped(&[more, &[values, Settled]].concat());
    let both = [handed(1, 7, 0), handed(1, 7, 1)];
    let [_, second] = both.clone();
    let stands = |floor| [&both[..], &[position(floor, &[])]].concat();
    told_apart(invariant, &with(&[second], last(0, &[5, 6])), &with(&stands(2), last(0, &[5, 6])));
    told_apart(invariant, &with(&stands(1), last(0, &[5, 6])), &with(&stands(2), last(0, &[5, 6])));
    let void = [Event::Grouped { group: 1, partition: 0, offset: 0 }, last(0, &[VOID]), Settled];
    assert_eq!(broken(&void), Vec::<&str>::new());
}

const fn keyed(key: u64, value: u64) -> Event {
    Event::Keyed { key, value }
}

const fn held(key: u64, value: u64, offset: u64) -> Event {
    Event::KeyStored { key, value, partition: 0, offset }
}

const fn conflict(key: u64, value: u64, offset: u64) -> Event {
    Event::KeyConflict { key, value, partition: 0, offset }
}

#[test]
fn a_second_record_with_a_key_is_told_from_a_void_one() {
    let sent =
        [send(1, 0, 5), InDoubt { value: 5 }, keyed(1, 5), send(2, 0, 6), InDoubt { value: 6 }, keyed(1, 6)];
    let with = |end: Event| [&sent[..], &[end]].concat();
    told_apart("a key has one record", &with(last(0, &[5, 6])), &with(last(0, &[5, VOID])));
}

#[test]
fn a_wrong_answer_about_a_key_is_told_from_a_true_one() {
    let invariant = "an answer about a key is true";
    let sent =
        [send(1, 0, 5), InDoubt { value: 5 }, keyed(1, 5), send(2, 0, 6), InDoubt { value: 6 }, keyed(1, 6)];
    let with = |answers: &[Event]| [&sent[..], answers, &[last(3, &[5])]].concat();
    told_apart(invariant, &with(&[held(1, 6, 3)]), &with(&[held(1, 5, 3), conflict(1, 6, 3)]));
    told_apart(invariant, &with(&[held(1, 5, 4)]), &with(&[held(1, 5, 2)]));
    told_apart(invariant, &with(&[conflict(1, 5, 3)]), &with(&[conflict(1, 6, 3)]));
}

#[test]
fn a_record_with_two_places_is_told_from_one_that_was_answered_twice() {
    let invariant = "a record with a key has one place";
    let sent = [send(1, 0, 5), InDoubt { value: 5 }, keyed(1, 5), held(1, 5, 3)];
    let with = |more: Event| [&sent[..], &[more]].concat();
    told_apart(invariant, &with(held(1, 5, 4)), &with(held(1, 5, 3)));
    told_apart(invariant, &with(conflict(1, 5, 3)), &sent);
}
