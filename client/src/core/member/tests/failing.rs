//! Records that fail: what is handed out meanwhile, and what is said.

use weir_protocol::message::{FailingRecord, Verdict};

use super::*;

fn failure(number: u64, attempt: u32, verdict: Verdict) -> FailedRecord {
    FailedRecord { offset: offset(number), attempt, verdict, reason: String::new() }
}

fn fail(member: &mut Member, number: u64, attempt: u32) -> bool {
    member.fail(PARTITION, EPOCH, failure(number, attempt, Verdict::Retry))
}

fn said(say: &[Say]) -> Option<FailRecords> {
    say.iter().find_map(|said| match said {
        Say::Fail(fail) => Some(fail.clone()),
        Say::Heartbeat(_) | Say::Ack(_) | Say::Release(_) => None,
    })
}

/// What the broker answers: the record comes again after so many seconds.
fn again(fail: &FailRecords, seconds: u32) -> RecordsFailed {
    let outcome = |record: &FailedRecord| FailureOutcome {
        offset: record.offset,
        next: AfterFailure::Again { attempt: record.attempt + 1, wait_ms: seconds * 1000, refused: None },
    };
    let outcomes = fail.records.iter().map(outcome).collect();
    RecordsFailed { number: fail.number, partition: PARTITION, refused: None, outcomes }
}

const HELD_UP: Told = Told::HeldUp { partition: PARTITION };
const READ_ANEW: Told = Told::ReadAnew { partition: PARTITION, lease: EPOCH };

/// What a reader that begins at an offset is handed out, with the attempts.
fn read(member: &mut Member, from: u64, to: u64) -> Vec<(u64, u32)> {
    let turn = member.turn_of(PARTITION).unwrap();
    let hand_out = |number| Some((number, member.hand_out(PARTITION, turn, offset(number))?));
    (from..to).filter_map(hand_out).collect()
}

fn news(member: &mut Member) -> Vec<Told> {
    let mut told = member.told();
    told.retain(|told| !matches!(told, Told::Failed { .. } | Told::Settled { .. }));
    told
}

/// Keeps the leases of a member alive.
fn beats(member: &mut Member, now: Mono) -> Vec<Say> {
    let say = member.say(now);
    if let Some(heartbeat) = beat(&say) {
        member.answered(now, heartbeat);
    }
    say
}

#[test]
fn nothing_behind_a_record_that_has_failed_is_handed_out_before_it() {
    let mut member = member();
    let early = member.turn_of(PARTITION).unwrap();
    assert_eq!(read(&mut member, 5, 9), [(5, 1), (6, 1), (7, 1), (8, 1)]);
    assert!(fail(&mut member, 6, 1));
    assert_eq!(news(&mut member), [HELD_UP]);
    assert_eq!(read(&mut member, 9, 12), []);
    let first = said(&beats(&mut member, at(1))).unwrap();
    assert_eq!(first.records, [failure(6, 1, Verdict::Retry)]);
    member.decided(at(1), &again(&first, 2));
    assert_eq!(read(&mut member, 9, 12), []);
    assert!(member.due().is_some_and(|due| due <= at(3)), "it wakes up in time");
    beats(&mut member, at(3));
    member.pass_time(at(3));
    assert_eq!(news(&mut member), [READ_ANEW]);
    assert_eq!(member.hand_out(PARTITION, early, offset(9)), None, "it was read before");
    // What somebody still works on is not handed out twice.
    assert_eq!(read(&mut member, 5, 11), [(6, 2), (9, 1), (10, 1)]);
    assert_eq!(read(&mut member, 5, 11), []);
    assert_eq!(settle(&mut member, 8), Some(1), "what was handed out before it counts");
}

#[test]
fn an_early_turn_passes_nothing_over() {
    let mut member = member();
    let early = member.turn_of(PARTITION).unwrap();
    assert_eq!(read(&mut member, 5, 7), [(5, 1), (6, 1)]);
    fail(&mut member, 5, 1);
    let first = said(&beats(&mut member, at(1))).unwrap();
    member.decided(at(1), &again(&first, 0));
    assert_eq!(member.hand_out(PARTITION, early, offset(20)), None);
    member.pass(PARTITION, early, offset(30));
    assert_eq!(ack(&member.say(at(1))), None, "nothing was settled by that");
    assert_eq!(read(&mut member, 5, 9), [(5, 2), (7, 1), (8, 1)]);
}

#[test]
fn several_failures_are_dealt_with_in_order() {
    let mut member = member();
    read(&mut member, 5, 10);
    assert!(fail(&mut member, 8, 1) && fail(&mut member, 6, 1));
    assert_eq!(news(&mut member), [HELD_UP]);
    let first = said(&beats(&mut member, at(1))).unwrap();
    let mut answer = again(&first, 2);
    // The earlier record waits longer: the later one waits with it.
    answer.outcomes[1].next = AfterFailure::Again { attempt: 2, wait_ms: 4000, refused: None };
    member.decided(at(1), &answer);
    beats(&mut member, at(3));
    member.pass_time(at(3));
    assert_eq!((news(&mut member), read(&mut member, 5, 12)), (vec![], vec![]));
    beats(&mut member, at(5));
    member.pass_time(at(5));
    assert_eq!(news(&mut member), [READ_ANEW]);
    assert_eq!(read(&mut member, 5, 11), [(6, 2), (8, 2), (10, 1)]);
}

#[test]
fn what_was_given_up_is_settled_and_reading_goes_on() {
    let mut member = member();
    read(&mut member, 5, 7);
    assert!(member.fail(PARTITION, EPOCH, failure(5, 1, Verdict::Reject)));
    let first = said(&beats(&mut member, at(1))).unwrap();
    let next = AfterFailure::DeadLetter;
    let outcomes = vec![FailureOutcome { offset: offset(5), next }];
    member.decided(
        at(1),
        &RecordsFailed { number: first.number, partition: PARTITION, refused: None, outcomes },
    );
    let told = member.told();
    assert!(told.contains(&Told::Failed { partition: PARTITION, offset: offset(5), next }));
    assert!(told.contains(&READ_ANEW));
    assert_eq!(read(&mut member, 5, 8), [(7, 1)]);
    assert!(!fail(&mut member, 5, 1), "there is nothing more to say of it");
    assert!(!fail(&mut member, 9, 1), "it was never handed out");
}

#[test]
fn what_could_not_be_remembered_is_said_again_and_after_a_reconnect_too() {
    let mut member = member();
    read(&mut member, 5, 7);
    fail(&mut member, 5, 1);
    let first = said(&beats(&mut member, at(1))).unwrap();
    let refused = Some(ErrorCode::TooManyFailures);
    let answer = RecordsFailed { number: first.number, partition: PARTITION, refused, outcomes: Vec::new() };
    member.decided(at(1), &answer);
    let second = said(&beats(&mut member, at(3))).unwrap();
    assert_eq!(second.records, first.records);
    member.closed();
    member.opened(at(4));
    let heartbeat = beat(&member.say(at(4))).unwrap();
    member.assigned(at(4), assigned(EPOCH, 5));
    member.answered(at(4), heartbeat);
    let third = said(&member.say(at(4))).unwrap();
    assert_eq!(third.records, first.records);
    assert!(!member.is_settled());
    member.decided(at(4), &again(&third, 1));
    assert!(member.is_settled());
}

#[test]
fn what_was_removed_while_it_waited_holds_nobody_up() {
    let mut member = member();
    read(&mut member, 5, 8);
    assert!(fail(&mut member, 5, 1) && fail(&mut member, 7, 1));
    let first = said(&beats(&mut member, at(1))).unwrap();
    let mut answer = again(&first, 0);
    answer.outcomes[1].next = AfterFailure::Again { attempt: 2, wait_ms: 2000, refused: None };
    member.decided(at(1), &answer);
    member.told();
    // Retention has been here: reading begins with 7.
    assert_eq!((read(&mut member, 7, 9), news(&mut member)), (vec![], vec![HELD_UP]));
    assert_eq!(ack(&member.say(at(1))).unwrap().ranges, [(offset(5), offset(6))]);
    beats(&mut member, at(3));
    member.pass_time(at(3));
    assert_eq!(read(&mut member, 7, 9), [(7, 2), (8, 1)]);
}

#[test]
fn a_new_owner_knows_what_has_failed_before() {
    let mut member = Member::new(LEASE);
    member.opened(at(0));
    let heartbeat = beat(&member.say(at(0))).unwrap();
    let records = vec![
        FailingRecord { offset: offset(5), attempt: 3, wait_ms: 0 },
        FailingRecord { offset: offset(7), attempt: 2, wait_ms: 2000 },
    ];
    member.failing(PartitionFailures { partition: PARTITION, lease: EPOCH, records });
    member.assigned(at(0), assigned(EPOCH, 5));
    member.answered(at(0), heartbeat);
    member.told();
    assert_eq!(read(&mut member, 5, 9), [(5, 3), (6, 1)]);
    assert_eq!(news(&mut member), [HELD_UP]);
    member.pass_time(at(2));
    assert_eq!(news(&mut member), [READ_ANEW]);
    assert_eq!(read(&mut member, 5, 9), [(7, 2), (8, 1)]);
}

#[test]
fn a_partition_is_given_back_although_a_record_has_failed() {
    let mut member = member();
    read(&mut member, 5, 8);
    settle(&mut member, 5);
    settle(&mut member, 7);
    fail(&mut member, 6, 1);
    member.revoked(at(1), &PartitionRevoked { partition: PARTITION, lease: EPOCH, deadline_ms: 5000 });
    member.heard(PARTITION, EPOCH);
    let say = beats(&mut member, at(1));
    let (acked_ranges, first) = (ack(&say).unwrap(), said(&say).unwrap());
    member.acked(&acked(&acked_ranges, None));
    assert!(!member.say(at(1)).iter().any(|said| matches!(said, Say::Release(_))), "it is not known yet");
    member.decided(at(1), &again(&first, 60));
    assert!(member.say(at(1)).iter().any(|said| matches!(said, Say::Release(_))));
}
