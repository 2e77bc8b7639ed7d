//! A member of a group: what is leased to it, what it has handed out, and what of that is settled.
//!
//! A lease lasts from the sending of a heartbeat that was answered, never from the answer: so it ends here before it ends
//! at the broker. Nothing is handed out and nothing settled under a lease that has ended.

mod again;
mod held;
mod news;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use weir_protocol::message::{
    AckRecords, AfterFailure, FailRecords, FailedRecord, FailureOutcome, Heartbeat, PartitionAssigned,
    PartitionFailures, PartitionLost, PartitionRevoked, RecordsAcked, RecordsFailed, ReleasePartition,
};
use weir_protocol::units::{LeaseEpoch, Offset, PartitionId};
use weir_protocol::{ErrorClass, ErrorCode};

use crate::core::time::Mono;
use again::Again;
use held::{Handed, Held, Phase};
pub use news::{Say, Told};

/// Heartbeats that may be without an answer: the ones before are too old to matter.
const BEATS_MAX: usize = 16;

/// Heartbeats sent in the time of a lease.
const BEATS_PER_LEASE: u32 = 4;

/// The machine of a member.
#[derive(Debug)]
pub struct Member {
    lease: Duration,
    partitions: BTreeMap<PartitionId, Held>,
    /// Partitions that may have something to say.
    changed: BTreeSet<PartitionId>,
    /// Partitions of which something is to be said again with the next heartbeat.
    again: BTreeSet<PartitionId>,
    /// Partitions of which reading has failed, until the next heartbeat.
    failed: BTreeSet<PartitionId>,
    /// Leases that have ended here by the clock; the broker may have heard of the member later than the member of the broker.
    given_up: Vec<(PartitionId, LeaseEpoch)>,
    /// Heartbeats without an answer, and when they were sent.
    beats: VecDeque<(u64, Mono)>,
    beat_at: Mono,
    next_number: u64,
    /// Leases last until then.
    valid_until: Mono,
    /// What has failed of partitions that are about to be leased: one for each at most.
    failing: BTreeMap<PartitionId, PartitionFailures>,
    is_open: bool,
    /// Whether the broker has answered on this stream.
    is_joined: bool,
    told: Vec<Told>,
}

impl Member {
    /// A member that has not joined. Its leases last as long as `lease` without an answer.
    #[must_use]
    pub const fn new(lease: Duration) -> Self {
        Self {
            lease,
            partitions: BTreeMap::new(),
            changed: BTreeSet::new(),
            again: BTreeSet::new(),
            failed: BTreeSet::new(),
            given_up: Vec::new(),
            beats: VecDeque::new(),
            beat_at: Mono::ZERO,
            next_number: 1,
            valid_until: Mono::ZERO,
            failing: BTreeMap::new(),
            is_open: false,
            is_joined: false,
            told: Vec::new(),
        }
    }

    /// Its stream was opened, and it has said that it joins.
    pub fn opened(&mut self, now: Mono) {
        self.is_open = true;
        self.is_joined = false;
        self.given_up.clear();
        self.beats.clear();
        self.beat_at = now;
        for (partition, held) in &mut self.partitions {
            held.reopened();
            self.changed.insert(*partition);
        }
    }

    /// Its stream is gone. What it has it may keep until the leases end.
    pub fn closed(&mut self) {
        self.is_open = false;
        self.partitions.values_mut().for_each(|held| held.is_confirmed = false);
    }

    /// Whether the broker has taken it in.
    #[must_use]
    pub const fn is_joined(&self) -> bool {
        self.is_joined
    }

    /// Records of a partition have failed before. Comes ahead of its lease.
    pub fn failing(&mut self, failures: PartitionFailures) {
        self.failing.insert(failures.partition, failures);
    }

    /// A partition is leased to it, or still is.
    pub fn assigned(&mut self, now: Mono, assigned: PartitionAssigned) {
        let PartitionAssigned { partition, lease, cursor } = assigned;
        let failing = self.failing.remove(&partition).filter(|failing| failing.lease == lease);
        if let Some(held) = self.partitions.get_mut(&partition).filter(|held| held.lease == lease) {
            held.is_confirmed = true;
            self.confirm(partition);
            return;
        }
        self.end(partition, Some(ErrorCode::Fenced));
        let committed = cursor.floor();
        let again = Again::of(failing.as_ref().map_or(&[], |failing| &failing.records[..]), now);
        self.partitions.insert(partition, Held::new(lease, cursor, again));
        self.told.push(Told::Assigned { partition, lease, committed });
    }

    /// A partition is to be given back.
    pub fn revoked(&mut self, now: Mono, revoked: &PartitionRevoked) {
        let PartitionRevoked { partition, lease, deadline_ms } = *revoked;
        let deadline = now.after(Duration::from_millis(u64::from(deadline_ms)));
        let until = deadline.min(self.valid_until);
        let Some(held) = self.held(partition, lease).filter(|held| held.phase == Phase::Held) else { return };
        held.phase = Phase::Revoking { until, is_heard: false };
        self.told.push(Told::Revoking { partition, lease, until });
    }

    /// The application has been told that a partition is to be given back, and had its say.
    pub fn heard(&mut self, partition: PartitionId, lease: LeaseEpoch) {
        if let Some(Phase::Revoking { is_heard, .. }) =
            self.held(partition, lease).map(|held| &mut held.phase)
        {
            *is_heard = true;
            self.changed.insert(partition);
        }
    }

    /// The broker could not read a partition: it is asked again with the next heartbeat, if the lease lasts.
    pub fn failed(&mut self, partition: PartitionId) {
        self.failed.insert(partition);
    }

    /// A lease has ended.
    pub fn lost(&mut self, lost: &PartitionLost) {
        if self.held(lost.partition, lost.lease).is_some() {
            self.end(lost.partition, Some(lost.code));
        }
    }

    /// The broker has answered a heartbeat.
    pub fn answered(&mut self, now: Mono, heartbeat: Heartbeat) {
        let Some(at) = self.beats.iter().position(|(number, _)| *number == heartbeat.number) else { return };
        if !std::mem::replace(&mut self.is_joined, true) {
            self.give_up_unknown(now);
        }
        if let Some((_, sent)) = self.beats.drain(..=at).next_back() {
            self.valid_until = self.valid_until.max(sent.after(self.lease));
        }
    }

    /// Ends the leases that the broker has not named on this stream, and gives them back: a broker that was started again knows
    /// nothing of them, and waits as long as somebody may have them. Not those that have ended by the clock: others may have
    /// the partitions.
    fn give_up_unknown(&mut self, now: Mono) {
        let unknown = self.partitions.iter().filter(|(_, held)| !held.is_confirmed);
        let unknown = unknown.map(|(partition, held)| (*partition, held.lease, held.until(self.valid_until)));
        for (partition, lease, until) in unknown.collect::<Vec<_>>() {
            self.given_up.extend((until > now).then_some((partition, lease)));
            self.end(partition, Some(ErrorCode::Fenced));
        }
    }

    /// The broker says what became of an acknowledgement.
    pub fn acked(&mut self, acked: &RecordsAcked) {
        let Some(held) = self.partitions.get_mut(&acked.partition) else { return };
        if acked.refused.is_some_and(|code| code.class() == ErrorClass::Retry) {
            held.refused(acked.number);
            self.again.insert(acked.partition);
            return;
        }
        let Some(step) = held.landed(acked.number) else { return };
        let (partition, lease) = (acked.partition, held.lease);
        self.changed.insert(partition);
        self.told.push(Told::Settled { partition, lease, step, refused: acked.refused });
        if acked.refused.is_some() {
            // What is settled here is not settled there: whoever has it next begins where the group stands.
            if acked.refused != Some(ErrorCode::Fenced) {
                self.given_up.push((partition, lease));
            }
            self.end(partition, acked.refused);
        }
    }

    /// The lease of a partition, and the turn in which it is read now.
    #[must_use]
    pub fn turn_of(&self, partition: PartitionId) -> Option<(LeaseEpoch, u64)> {
        self.partitions.get(&partition).map(|held| (held.lease, held.again.turn()))
    }

    /// A record that was read in a turn is about to be handed out. Gives the number of the attempt if it may be: not twice
    /// under one lease unless it failed, not if it was settled before, not before one ahead of it that is to come again, and
    /// not when the partition is to be given back. Offsets that were passed over are settled: they will not come.
    pub fn hand_out(
        &mut self,
        partition: PartitionId,
        (lease, turn): (LeaseEpoch, u64),
        offset: Offset,
    ) -> Option<u32> {
        let Handed { attempt, has_passed, stops } = self.held(partition, lease)?.hand_out(turn, offset);
        if has_passed {
            self.changed.insert(partition);
        }
        if stops {
            self.told.push(Told::HeldUp { partition });
            self.go_on(partition);
        }
        attempt
    }

    /// Nothing below an offset will come any more, of what is read in a turn.
    pub fn pass(&mut self, partition: PartitionId, (lease, turn): (LeaseEpoch, u64), offset: Offset) {
        if self.held(partition, lease).is_some_and(|held| held.pass(turn, offset)) {
            self.changed.insert(partition);
        }
    }

    /// A record that was handed out has failed, or comes back. Says whether there was anything to say of it: not if it is
    /// settled, or its lease has ended.
    pub fn fail(&mut self, partition: PartitionId, lease: LeaseEpoch, record: FailedRecord) -> bool {
        let Some(stops) = self.held(partition, lease).and_then(|held| held.fail(record)) else {
            return false;
        };
        if stops {
            self.told.push(Told::HeldUp { partition });
        }
        self.changed.insert(partition);
        true
    }

    /// The broker says what becomes of records that have failed.
    pub fn decided(&mut self, now: Mono, failed: &RecordsFailed) {
        let partition = failed.partition;
        let Some(held) = self.partitions.get_mut(&partition) else { return };
        if failed.refused.is_some_and(|code| code.class() == ErrorClass::Retry) {
            held.again.say_again(Some(failed.number));
            self.again.insert(partition);
            return;
        }
        if !held.again.landed(failed.number) {
            return;
        }
        self.changed.insert(partition);
        if failed.refused.is_some() {
            let lease = held.lease;
            if failed.refused != Some(ErrorCode::Fenced) {
                self.given_up.push((partition, lease));
            }
            self.end(partition, failed.refused);
            return;
        }
        for FailureOutcome { offset, next } in failed.outcomes.iter().copied() {
            match next {
                AfterFailure::Again { attempt, wait_ms, refused: _ } => {
                    held.again.comes(offset, attempt, now.after(Duration::from_millis(u64::from(wait_ms))));
                }
                AfterFailure::DeadLetter | AfterFailure::Over => held.settled(offset),
            }
            self.told.push(Told::Failed { partition, offset, next });
        }
        held.again.pass_time(now);
        self.go_on(partition);
    }

    /// Begins to read anew what had stopped, if it may go on.
    fn go_on(&mut self, partition: PartitionId) {
        let Some(held) = self.partitions.get_mut(&partition) else { return };
        if held.phase == Phase::Held && held.is_confirmed && held.again.begins_anew() {
            self.told.push(Told::ReadAnew { partition, lease: held.lease });
        }
    }

    /// Settles the records from `from` (from the first that is not settled if `None`) to before `to`. Returns the step
    /// that makes it durable; `None` if the lease has ended or a record was not handed out.
    pub fn settle(
        &mut self,
        partition: PartitionId,
        lease: LeaseEpoch,
        (from, to): (Option<Offset>, Offset),
    ) -> Option<u64> {
        let step = self.held(partition, lease)?.settle(from, to)?;
        self.changed.insert(partition);
        self.go_on(partition);
        Some(step)
    }

    /// What is to be said now, in order.
    pub fn say(&mut self, now: Mono) -> Vec<Say> {
        let mut say = Vec::new();
        if !self.is_open {
            return say;
        }
        if now >= self.beat_at {
            let number = self.number();
            self.beats.push_back((number, now));
            if self.beats.len() > BEATS_MAX {
                self.beats.pop_front();
            }
            self.beat_at = now.after(self.lease / BEATS_PER_LEASE);
            self.changed.append(&mut self.again);
            for partition in std::mem::take(&mut self.failed) {
                self.confirm(partition);
            }
            say.push(Say::Heartbeat(Heartbeat { number }));
        }
        if !self.is_joined {
            return say;
        }
        for (partition, lease) in std::mem::take(&mut self.given_up) {
            say.push(Say::Release(ReleasePartition { partition, lease }));
        }
        for partition in std::mem::take(&mut self.changed) {
            let number = self.next_number;
            let Some(held) = self.partitions.get_mut(&partition) else { continue };
            let lease = held.lease;
            let (acked, failed) = (held.take_off(number), held.again.take_off(number + 1));
            self.next_number += 2;
            let has_done = held.has_done();
            if let Some(ranges) = acked {
                say.push(Say::Ack(AckRecords { number, partition, lease, ranges }));
            }
            if let Some(records) = failed {
                say.push(Say::Fail(FailRecords { number: number + 1, partition, lease, records }));
            }
            if has_done {
                say.push(Say::Release(ReleasePartition { partition, lease }));
                self.end(partition, None);
            }
        }
        say
    }

    /// What the application is to be told.
    pub fn told(&mut self) -> Vec<Told> {
        std::mem::take(&mut self.told)
    }

    /// Leases that have run out end.
    pub fn pass_time(&mut self, now: Mono) {
        let over = |held: &Held| held.until(self.valid_until) <= now;
        let over = self.partitions.iter().filter(|(_, held)| over(held));
        let over = over.map(|(partition, held)| (*partition, held.lease, held.is_confirmed));
        for (partition, lease, is_confirmed) in over.collect::<Vec<_>>() {
            // To a broker that was started again, what is given back is what nobody else can have.
            self.given_up.extend(is_confirmed.then_some((partition, lease)));
            self.end(partition, Some(ErrorCode::Fenced));
        }
        let due = self.partitions.iter().filter(|(_, held)| held.again.due().is_some_and(|due| due <= now));
        for partition in due.map(|(partition, _)| *partition).collect::<Vec<_>>() {
            if let Some(held) = self.partitions.get_mut(&partition) {
                held.again.pass_time(now);
            }
            self.go_on(partition);
        }
    }

    /// When there is something to say, or a lease to end, although nothing happens.
    #[must_use]
    pub fn due(&self) -> Option<Mono> {
        let ends = self.partitions.values().map(|held| held.until(self.valid_until));
        let again = self.partitions.values().filter_map(|held| held.again.due());
        ends.chain(again).chain(self.is_open.then_some(self.beat_at)).min()
    }

    /// Whether everything that was settled is durable.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.partitions.values().all(Held::is_landed)
    }

    /// The lease of a partition.
    #[must_use]
    pub fn lease_of(&self, partition: PartitionId) -> Option<LeaseEpoch> {
        self.partitions.get(&partition).map(|held| held.lease)
    }

    /// Whether a lease lasts and its partition is not to be given back.
    #[must_use]
    pub fn keeps(&self, partition: PartitionId, lease: LeaseEpoch) -> bool {
        let held = self.partitions.get(&partition);
        held.is_some_and(|held| held.lease == lease && held.phase == Phase::Held)
    }

    /// Everything ends: the member has left, or cannot go on.
    pub fn end_all(&mut self, lost: Option<ErrorCode>) {
        for partition in self.partitions.keys().copied().collect::<Vec<_>>() {
            self.end(partition, lost);
        }
    }

    /// Reading of a partition may go on.
    fn confirm(&mut self, partition: PartitionId) {
        let held = self.partitions.get(&partition).filter(|held| held.phase == Phase::Held);
        let held = held.filter(|held| !held.again.is_held_up());
        self.told.extend(held.map(|held| Told::Confirmed { partition, lease: held.lease }));
        self.go_on(partition);
    }

    fn held(&mut self, partition: PartitionId, lease: LeaseEpoch) -> Option<&mut Held> {
        self.partitions.get_mut(&partition).filter(|held| held.lease == lease)
    }

    fn end(&mut self, partition: PartitionId, lost: Option<ErrorCode>) {
        if let Some(held) = self.partitions.remove(&partition) {
            self.told.push(Told::Ended { partition, lease: held.lease, lost });
        }
    }

    const fn number(&mut self) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        number
    }
}
