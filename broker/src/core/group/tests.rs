//! Hand-over of leases, as scripts and against a model of what members may believe.

use proptest::prelude::*;
use weir_protocol::Cursor;
use weir_protocol::frame::{FrameKind, take_frame};
use weir_protocol::limits::FRAME_BYTES_MAX;
use weir_protocol::message::{Heartbeat, JoinGroup};
use weir_protocol::units::Offset;

use weir_storage::state::Failures;

use super::*;
use crate::core::{ConnectionId, StreamId};

const SECOND: u64 = 1_000_000;

fn lane(number: u64) -> LaneId {
    LaneId { connection: ConnectionId(number), stream: StreamId(4) }
}

/// A group whose members and their lanes go by numbers.
struct Group {
    sharing: Sharing,
    leases: LeaseNumbers,
    now: u64,
}

impl Group {
    fn new(partitions: usize) -> Self {
        let shares =
            (0..partitions).map(|_| Share::at(Cursor::at(Offset::ZERO), Failures::default())).collect();
        Self { sharing: Sharing::new(shares, 10_000), leases: LeaseNumbers::after(1 << START_BITS), now: 1 }
    }

    fn act(
        &mut self,
        act: impl FnOnce(&mut Sharing, u64, &mut LeaseNumbers, &mut Vec<Effect>),
    ) -> Vec<Effect> {
        let mut out = Vec::new();
        self.sharing.pass_time(self.now, &mut self.leases, &mut out);
        act(&mut self.sharing, self.now, &mut self.leases, &mut out);
        out
    }

    fn join(&mut self, member: u64, instance: u64, grace_ms: u32) -> Vec<Effect> {
        let join = JoinGroup {
            topic: TopicId::default(),
            group: "g".to_owned(),
            member: format!("m{member}"),
            instance,
            lease_ms: 10_000,
            grace_ms,
        };
        self.act(|sharing, now, leases, out| sharing.join(now, (lane(member), &join), leases, out))
    }

    fn heartbeat(&mut self, member: u64) -> Vec<Effect> {
        let name = Name::from(format!("m{member}"));
        let heartbeat = Heartbeat { number: 0 };
        self.act(|sharing, now, leases, out| sharing.heartbeat(now, (&name, heartbeat), leases, out))
    }

    fn leave(&mut self, member: u64) -> Vec<Effect> {
        let name = Name::from(format!("m{member}"));
        self.act(|sharing, now, leases, out| sharing.leave(now, &name, leases, out))
    }

    fn release(&mut self, partition: u32) -> Vec<Effect> {
        let partition = PartitionId::new(partition);
        self.act(|sharing, now, leases, out| sharing.release(now, partition, leases, out))
    }

    fn wait(&mut self, micros: u64) -> Vec<Effect> {
        self.now += micros;
        self.act(|_, _, _, _| ())
    }

    fn owner(&self, partition: u32) -> Option<(String, LeaseEpoch)> {
        let lease = self.sharing.share(PartitionId::new(partition))?.lease.as_ref()?;
        Some((lease.owner.to_string(), lease.epoch))
    }

    fn owners(&self) -> Vec<Option<String>> {
        let count = u32::try_from(self.sharing.shares.len()).unwrap();
        (0..count).map(|partition| Some(self.owner(partition)?.0)).collect()
    }
}

fn told(effects: &[Effect], kind: FrameKind) -> usize {
    let is_kind = |effect: &&Effect| match effect {
        Effect::Tell(_, frame) => {
            take_frame(&mut frame.clone(), FRAME_BYTES_MAX).unwrap().unwrap().kind == kind
        }
        Effect::Fail(..)
        | Effect::Finish(_)
        | Effect::Stop(..)
        | Effect::Leased(..)
        | Effect::Ended(_)
        | Effect::Lapsed(_)
        | Effect::Journal(_)
        | Effect::Longest(_) => false,
    };
    effects.iter().filter(is_kind).count()
}

fn names(names: &[&str]) -> Vec<Option<String>> {
    names.iter().map(|name| (!name.is_empty()).then(|| (*name).to_owned())).collect()
}

#[test]
fn ten_who_join_at_once_are_dealt_with_at_once() {
    let mut group = Group::new(20);
    let before: usize = (0..10).map(|member| group.join(member, 1, 0).len()).sum();
    assert_eq!(before, 0);
    let effects = group.wait(SECOND);
    assert_eq!(told(&effects, FrameKind::PartitionAssigned), 20);
    assert_eq!(told(&effects, FrameKind::PartitionRevoked), 0, "nothing is given to be taken again");
}

#[test]
fn a_newcomer_gets_a_partition_once_it_was_released_and_the_others_stay() {
    let mut group = Group::new(4);
    group.join(0, 1, 0);
    group.wait(SECOND);
    let before: Vec<_> = (0..4).map(|partition| group.owner(partition)).collect();
    group.join(1, 1, 0);
    let effects = group.wait(SECOND);
    assert_eq!(told(&effects, FrameKind::PartitionRevoked), 2);
    assert_eq!(group.owners(), names(&["m0"; 4]), "nothing moves before it was released");
    group.release(2);
    assert_eq!(group.owners(), names(&["m0", "m0", "m1", "m0"]));
    assert_eq!((group.owner(0), group.owner(1)), (before[0].clone(), before[1].clone()));
    assert!(group.owner(2).unwrap().1 > before[2].clone().unwrap().1);
    // Heartbeats do not prolong what was revoked: the rest goes over when the lease would have ended without them.
    group.wait(7 * SECOND);
    group.heartbeat(0);
    group.heartbeat(1);
    let effects = group.wait(2 * SECOND);
    assert_eq!(told(&effects, FrameKind::PartitionLost), 1);
    assert_eq!(group.owners(), names(&["m0", "m0", "m1", "m1"]));
}

#[test]
fn a_silent_member_keeps_its_partitions_for_its_lease_and_no_longer() {
    let mut group = Group::new(2);
    group.join(0, 1, 0);
    group.join(1, 1, 0);
    group.wait(SECOND);
    group.sharing.disconnected(&Name::from("m0"), lane(0));
    group.wait(8 * SECOND);
    group.heartbeat(1);
    assert_eq!(group.owners(), names(&["m0", "m1"]));
    group.wait(SECOND);
    assert_eq!(group.owners(), names(&["m1", "m1"]));
}

#[test]
fn who_comes_back_in_time_goes_on_and_a_restart_under_the_same_name_gets_new_leases() {
    let mut group = Group::new(2);
    group.join(0, 1, 0);
    group.wait(SECOND);
    let before = group.owner(0);
    group.sharing.disconnected(&Name::from("m0"), lane(0));
    let effects = group.join(0, 1, 0);
    assert_eq!(told(&effects, FrameKind::PartitionAssigned), 2, "it is told what it has");
    assert_eq!(group.owner(0), before);
    let effects = group.join(0, 2, 0);
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Fail(_, ErrorCode::MemberReplaced, _))));
    assert!(group.owner(0).unwrap().1 > before.unwrap().1);
}

#[test]
fn partitions_wait_for_a_member_with_a_grace_and_then_go_to_others() {
    let mut group = Group::new(2);
    group.join(0, 1, 30_000);
    group.join(1, 1, 0);
    group.wait(SECOND);
    let owners = group.owners();
    group.leave(0);
    assert_eq!(group.owners(), names(&["", "m1"]));
    group.wait(8 * SECOND);
    group.heartbeat(1);
    group.join(0, 2, 30_000);
    assert_eq!(group.owners(), owners);
    group.leave(0);
    for _ in 0..5 {
        group.wait(6 * SECOND);
        group.heartbeat(1);
    }
    assert_eq!(group.owners(), names(&["m1", "m1"]));
}

#[test]
fn a_member_that_is_heard_too_late_has_lost_what_it_had() {
    let mut group = Group::new(1);
    group.join(0, 1, 60_000);
    group.wait(SECOND);
    let before = group.owner(0).unwrap();
    let effects = group.wait(10 * SECOND);
    assert_eq!((told(&effects, FrameKind::PartitionLost), group.owner(0)), (1, None));
    group.heartbeat(0);
    assert!(group.owner(0).unwrap().1 > before.1);
}

/// What a lease is worth to the member that got it, by its own count.
#[derive(Debug)]
struct Belief {
    epoch: LeaseEpoch,
    member: u64,
    until: u64,
    is_revoked: bool,
}

/// A step of a history: a member and what happens to it.
type Step = (u64, u8, u64);

fn run(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut group = Group::new(5);
    let mut beliefs: Vec<Option<Belief>> = (0..5).map(|_| None).collect();
    let mut last = LeaseEpoch::ZERO;
    let mut given_up: Vec<LeaseEpoch> = Vec::new();
    for (member, what, micros) in steps {
        let is_there = group.sharing.members.contains_key(format!("m{member}").as_str());
        let partition = u32::try_from(micros % 5).unwrap();
        let owned = |beliefs: &[Option<Belief>], member| {
            beliefs.iter().flatten().filter(|it| it.member == member).map(|it| it.epoch).collect::<Vec<_>>()
        };
        let effects = match what {
            0..3 => {
                let instance = if what == 0 { micros } else { 1 };
                let known = group.sharing.members.get(format!("m{member}").as_str());
                // Another instance under a name is the end of the one before.
                if known.is_some() {
                    given_up.extend(owned(&beliefs, member));
                }
                group.join(member, instance, 0)
            }
            3..7 if is_there => {
                for belief in beliefs.iter_mut().flatten().filter(|it| it.member == member && !it.is_revoked)
                {
                    if belief.until > group.now {
                        belief.until = group.now + 10 * SECOND;
                    }
                }
                group.heartbeat(member)
            }
            7 if is_there => {
                given_up.extend(owned(&beliefs, member));
                group.leave(member)
            }
            8 if group.owner(partition).is_some() => {
                given_up.extend(beliefs[partition as usize].as_ref().map(|belief| belief.epoch));
                group.release(partition)
            }
            _ => group.wait(micros),
        };
        for effect in effects {
            let Effect::Leased(epoch, partition) = effect else { continue };
            prop_assert!(epoch > last, "epochs rise");
            last = epoch;
            let belief = &mut beliefs[partition.get() as usize];
            if let Some(before) = &belief {
                let is_over = given_up.contains(&before.epoch) || before.until <= group.now;
                prop_assert!(is_over, "{partition} at {}: {before:?} still lasts", group.now);
            }
            let owner = group.owner(partition.get());
            let Some((owner, _)) = owner.filter(|(_, now)| *now == epoch) else { continue };
            let member: u64 = owner[1..].parse().unwrap();
            let until = group.sharing.members.get(owner.as_str()).unwrap().leased_until;
            *belief = Some(Belief { epoch, member, until, is_revoked: false });
        }
        for (number, belief) in beliefs.iter_mut().enumerate() {
            let lease = group.sharing.shares[number].lease.as_ref();
            if let (Some(belief), Some(lease)) = (belief, lease)
                && belief.epoch == lease.epoch
            {
                belief.is_revoked = lease.revoked.is_some();
            }
        }
    }
    settle(&mut group)
}

/// All is settled once nothing happens any more.
fn settle(group: &mut Group) -> Result<(), TestCaseError> {
    for _ in 0..3 {
        group.wait(5 * SECOND);
        let members: Vec<u64> = (0..4)
            .filter(|member| group.sharing.members.contains_key(format!("m{member}").as_str()))
            .collect();
        members.into_iter().for_each(|member| drop(group.heartbeat(member)));
    }
    let is_anybody = group.sharing.members.values().any(|member| member.lane.is_some());
    prop_assert_eq!(group.owners().iter().all(Option::is_some), is_anybody, "everything is owned in the end");
    Ok(())
}

proptest! {
    #[test]
    fn the_next_owner_starts_after_the_last_by_anybodys_count(
        steps in proptest::collection::vec((0u64..4, 0u8..12, 1u64..12 * SECOND), 1..80),
    ) {
        run(steps)?;
    }
}
