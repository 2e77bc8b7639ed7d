use weir_protocol::Cursor;

use super::*;

mod failing;

const LEASE: Duration = Duration::from_secs(10);
const PARTITION: PartitionId = PartitionId::new(3);
const EPOCH: LeaseEpoch = LeaseEpoch::new(70);

fn at(seconds: u64) -> Mono {
    Mono::new(Duration::from_secs(seconds))
}

fn offset(number: u64) -> Offset {
    Offset::new(number)
}

fn assigned(lease: LeaseEpoch, floor: u64) -> PartitionAssigned {
    PartitionAssigned { partition: PARTITION, lease, cursor: Cursor::at(offset(floor)) }
}

fn beat(say: &[Say]) -> Option<Heartbeat> {
    say.iter().find_map(|said| match said {
        Say::Heartbeat(heartbeat) => Some(*heartbeat),
        Say::Ack(_) | Say::Fail(_) | Say::Release(_) => None,
    })
}

fn ack(say: &[Say]) -> Option<AckRecords> {
    say.iter().find_map(|said| match said {
        Say::Ack(ack) => Some(ack.clone()),
        Say::Heartbeat(_) | Say::Fail(_) | Say::Release(_) => None,
    })
}

fn acked(ack: &AckRecords, refused: Option<ErrorCode>) -> RecordsAcked {
    let committed = ack.ranges.last().unwrap().1;
    RecordsAcked { number: ack.number, partition: ack.partition, refused, committed }
}

/// A member that joined at the origin and holds one partition from offset 5 on.
fn member() -> Member {
    let mut member = Member::new(LEASE);
    member.opened(at(0));
    let heartbeat = beat(&member.say(at(0))).unwrap();
    member.assigned(at(0), assigned(EPOCH, 5));
    member.answered(at(0), heartbeat);
    assert_eq!(member.told(), [Told::Assigned { partition: PARTITION, lease: EPOCH, committed: offset(5) }]);
    member
}

fn hand_out(member: &mut Member, number: u64) -> bool {
    let turn = member.turn_of(PARTITION).map_or(0, |(_, turn)| turn);
    member.hand_out(PARTITION, (EPOCH, turn), offset(number)).is_some()
}

fn settle(member: &mut Member, number: u64) -> Option<u64> {
    member.settle(PARTITION, EPOCH, (Some(offset(number)), offset(number + 1)))
}

#[test]
fn what_is_settled_while_something_is_under_way_goes_together() {
    let mut member = member();
    (5..10).for_each(|number| assert!(hand_out(&mut member, number)));
    assert_eq!(settle(&mut member, 5), Some(1));
    let first = ack(&member.say(at(1))).unwrap();
    assert_eq!(first.ranges, [(offset(5), offset(6))]);
    assert_eq!([6, 7, 9].map(|number| settle(&mut member, number)), [Some(2); 3]);
    assert_eq!(ack(&member.say(at(1))), None, "one at a time");
    member.acked(&acked(&first, None));
    let done = |step| Told::Settled { partition: PARTITION, lease: EPOCH, step, refused: None };
    assert_eq!(member.told(), [done(1)]);
    let second = ack(&member.say(at(1))).unwrap();
    assert_eq!(second.ranges, [(offset(6), offset(8)), (offset(9), offset(10))]);
    assert!(!member.is_settled());
    member.acked(&acked(&second, None));
    assert_eq!((member.told(), member.is_settled()), (vec![done(2)], true));
    assert_eq!(settle(&mut member, 6), Some(2), "it is durable already");
}

#[test]
fn nothing_is_handed_out_twice_nor_what_was_settled_before() {
    let mut member = Member::new(LEASE);
    let mut leased = assigned(EPOCH, 5);
    leased.cursor.settle(offset(7), offset(9)).unwrap();
    member.assigned(at(0), leased);
    let handed: Vec<u64> = (4..11).filter(|number| hand_out(&mut member, *number)).collect();
    assert_eq!(handed, [5, 6, 9, 10]);
    assert!((4..11).all(|number| !hand_out(&mut member, number)), "delivered again after a reconnect");
    assert_eq!(member.hand_out(PARTITION, (LeaseEpoch::new(71), 0), offset(20)), None, "another lease");
}

#[test]
fn what_was_not_handed_out_cannot_be_settled() {
    let mut member = member();
    assert!(hand_out(&mut member, 5));
    assert_eq!(settle(&mut member, 6), None);
    assert_eq!(member.settle(PARTITION, LeaseEpoch::new(71), (None, offset(6))), None);
}

#[test]
fn offsets_that_will_not_come_are_settled() {
    let mut member = member();
    assert!(hand_out(&mut member, 8));
    member.pass(PARTITION, (EPOCH, 0), offset(12));
    let ranges = ack(&member.say(at(1))).unwrap().ranges;
    assert_eq!(ranges, [(offset(5), offset(8)), (offset(9), offset(12))]);
}

#[test]
fn a_lease_ends_before_it_ends_at_the_broker() {
    let mut member = member();
    assert_eq!(member.due(), Some(at(0).after(LEASE / 4)));
    let heartbeat = beat(&member.say(at(6))).unwrap();
    member.pass_time(at(9));
    assert!(hand_out(&mut member, 5));
    member.answered(at(9), heartbeat);
    // It counts from when it was sent: the answer took any time.
    member.pass_time(at(15));
    assert!(member.told().is_empty());
    member.pass_time(at(16));
    let ended = Told::Ended { partition: PARTITION, lease: EPOCH, lost: Some(ErrorCode::Fenced) };
    assert_eq!(member.told(), [ended]);
    assert_eq!((hand_out(&mut member, 6), settle(&mut member, 5)), (false, None));
    // The broker may have been told of the member later: it would wait for it for ever.
    let release = Say::Release(ReleasePartition { partition: PARTITION, lease: EPOCH });
    assert_eq!(member.say(at(16)).last(), Some(&release));
}

#[test]
fn a_partition_is_given_back_once_all_of_it_is_settled_durably() {
    let mut member = member();
    (5..7).for_each(|number| assert!(hand_out(&mut member, number)));
    settle(&mut member, 5);
    let first = ack(&member.say(at(1))).unwrap();
    member.revoked(at(1), &PartitionRevoked { partition: PARTITION, lease: EPOCH, deadline_ms: 5_000 });
    assert_eq!(member.told(), [Told::Revoking { partition: PARTITION, lease: EPOCH, until: at(6) }]);
    assert!(!hand_out(&mut member, 7), "nothing more is handed out");
    // The end of a batch whose rest was held back: that is for the next owner.
    member.pass(PARTITION, (EPOCH, 0), offset(9));
    member.heard(PARTITION, EPOCH);
    member.acked(&acked(&first, None));
    assert_eq!(ack(&member.say(at(1))), None);
    settle(&mut member, 6);
    let second = ack(&member.say(at(2))).unwrap();
    member.acked(&acked(&second, None));
    let release = Say::Release(ReleasePartition { partition: PARTITION, lease: EPOCH });
    assert_eq!(member.say(at(2)), [release]);
    let ended = Told::Ended { partition: PARTITION, lease: EPOCH, lost: None };
    assert_eq!(member.told().last(), Some(&ended));
}

#[test]
fn a_revoked_partition_is_lost_at_its_deadline_whatever_the_broker_answers() {
    let mut member = member();
    assert!(hand_out(&mut member, 5));
    member.revoked(at(1), &PartitionRevoked { partition: PARTITION, lease: EPOCH, deadline_ms: 60_000 });
    assert_eq!(member.told(), [Told::Revoking { partition: PARTITION, lease: EPOCH, until: at(10) }]);
    let heartbeat = beat(&member.say(at(8))).unwrap();
    member.answered(at(8), heartbeat);
    member.pass_time(at(10));
    let ended = Told::Ended { partition: PARTITION, lease: EPOCH, lost: Some(ErrorCode::Fenced) };
    assert_eq!(member.told(), [ended]);
}

#[test]
fn after_a_reconnect_what_was_under_way_is_said_again_and_what_is_not_named_is_lost() {
    let mut member = member();
    assert!(hand_out(&mut member, 5));
    settle(&mut member, 5);
    let first = ack(&member.say(at(1))).unwrap();
    member.closed();
    assert!(member.say(at(2)).is_empty());
    member.opened(at(2));
    let heartbeat = beat(&member.say(at(2))).unwrap();
    member.assigned(at(0), assigned(EPOCH, 5));
    member.answered(at(2), heartbeat);
    let confirmed = Told::Confirmed { partition: PARTITION, lease: EPOCH };
    assert_eq!(member.told(), [confirmed], "it holds what it held");
    let again = ack(&member.say(at(2))).unwrap();
    assert_eq!(again.ranges, first.ranges);
    member.acked(&acked(&first, None));
    assert!(!member.is_settled(), "an answer to what was said before");
    member.opened(at(3));
    let heartbeat = beat(&member.say(at(3))).unwrap();
    member.answered(at(3), heartbeat);
    let ended = Told::Ended { partition: PARTITION, lease: EPOCH, lost: Some(ErrorCode::Fenced) };
    assert_eq!(member.told(), [ended]);
}

#[test]
fn what_cannot_be_taken_now_is_said_again_with_the_next_heartbeat_and_the_lowest_alone() {
    let mut member = member();
    (5..12).for_each(|number| assert!(hand_out(&mut member, number)));
    assert_eq!([11, 8].map(|number| settle(&mut member, number)), [Some(1); 2]);
    let first = ack(&member.say(at(1))).unwrap();
    member.acked(&acked(&first, Some(ErrorCode::Throttled)));
    assert_eq!(member.say(at(1)), []);
    let again = ack(&member.say(at(3))).unwrap();
    assert_eq!((&again.ranges[..], member.told()), (&[(offset(8), offset(9))][..], vec![]));
    // What is missing below needs no memory: it goes first, and at once.
    member.acked(&acked(&again, Some(ErrorCode::Throttled)));
    assert_eq!(settle(&mut member, 5), Some(2));
    let lowest = ack(&member.say(at(3))).unwrap();
    assert_eq!(lowest.ranges, [(offset(5), offset(6))]);
    member.acked(&acked(&lowest, None));
    let done = |step| Told::Settled { partition: PARTITION, lease: EPOCH, step, refused: None };
    assert_eq!(member.told(), [done(0)], "nothing of a step is durable before all of it is");
    let rest = ack(&member.say(at(3))).unwrap();
    assert_eq!(rest.ranges, [(offset(8), offset(9)), (offset(11), offset(12))]);
    member.acked(&acked(&rest, None));
    assert_eq!((member.told(), member.is_settled()), (vec![done(2)], true));
}

#[test]
fn who_is_refused_gives_the_partition_back() {
    let mut member = member();
    assert!(hand_out(&mut member, 5));
    settle(&mut member, 5);
    let said = ack(&member.say(at(1))).unwrap();
    member.acked(&acked(&said, Some(ErrorCode::NotDelivered)));
    assert_eq!(member.lease_of(PARTITION), None);
    assert_eq!(member.say(at(1)), [Say::Release(ReleasePartition { partition: PARTITION, lease: EPOCH })]);
}

#[test]
fn who_is_fenced_has_lost_the_partition() {
    let mut member = member();
    assert!(hand_out(&mut member, 5));
    settle(&mut member, 5);
    let said = ack(&member.say(at(1))).unwrap();
    member.acked(&acked(&said, Some(ErrorCode::Fenced)));
    let refused = Some(ErrorCode::Fenced);
    let told = [
        Told::Settled { partition: PARTITION, lease: EPOCH, step: 1, refused },
        Told::Ended { partition: PARTITION, lease: EPOCH, lost: refused },
    ];
    assert_eq!(member.told(), told);
}

#[test]
fn what_a_broker_does_not_name_is_given_back_but_not_what_has_ended_by_the_clock() {
    let release = |say: &[Say]| say.iter().any(|said| matches!(said, Say::Release(_)));
    for (late, expected) in [(9, true), (10, false)] {
        let mut member = member();
        member.closed();
        member.opened(at(5));
        let heartbeat = beat(&member.say(at(5))).unwrap();
        member.answered(at(late), heartbeat);
        assert_eq!(member.lease_of(PARTITION), None);
        assert_eq!(release(&member.say(at(late))), expected, "at {late}");
    }
}

#[test]
fn a_lease_that_has_ended_by_the_clock_is_given_back() {
    let mut member = member();
    member.pass_time(at(10));
    let release = ReleasePartition { partition: PARTITION, lease: EPOCH };
    assert!(member.say(at(10)).contains(&Say::Release(release)), "the broker may have heard of it later");
}
