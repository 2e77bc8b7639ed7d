//! One group: its members, and the leases of its partitions.
//!
//! A partition has one owner at a time. It goes from one to the next by itself: the owner is asked for it, finishes and
//! releases it, or its lease runs out; then the next owner gets a lease of its own. Nothing waits for the whole group.

mod attendance;

use std::collections::BTreeMap;
use std::sync::Arc;

use weir_protocol::message::{Message, PartitionLost};
use weir_protocol::units::{LeaseEpoch, Offset, PartitionId};
use weir_protocol::{Cursor, ErrorCode};
use weir_storage::state::Failures;

use super::assignment::assign;
use super::lasting::Lasting;
use super::memory::{FAILING_BYTES, MEMBER_BYTES, POSITION_BYTES, WORD_BYTES};
use super::share::{self, Lease, Share, assigned, numbered_mut, revoked};
use super::{Effect, LeaseNumbers};
use crate::core::coordinator::Refusal;
use attendance::Member;

/// Time from a join to a new assignment: those who come together are dealt with together.
const GATHER_US: u64 = 50_000;

/// Name of a member.
pub(super) type Name = Arc<str>;

/// The members of a group and what they have.
#[derive(Debug)]
pub(super) struct Sharing {
    pub(super) members: BTreeMap<Name, Member>,
    /// In order of number.
    pub(super) shares: Vec<Share>,
    /// When a new assignment is to be made.
    gathered_at: Option<u64>,
    /// Nothing is due before.
    due: Option<u64>,
    /// Words of all cursors.
    words: usize,
    /// What remembering failures takes, in all partitions.
    failing_bytes: u64,
    /// Milliseconds of the longest lease of the members.
    longest_ms: u32,
    lasting: Lasting,
}

impl Sharing {
    /// Nobody has anything; leases of so many milliseconds may be given.
    pub(super) fn new(shares: Vec<Share>, longest_lease_ms: u32) -> Self {
        let words = shares.iter().map(|share| share.cursor.words()).sum();
        let failing_bytes = shares.iter().map(Share::failing_bytes).sum();
        Self {
            members: BTreeMap::new(),
            shares,
            gathered_at: None,
            due: None,
            words,
            failing_bytes,
            longest_ms: 0,
            lasting: Lasting::known(longest_lease_ms),
        }
    }

    /// The broker has just started: somebody may have a lease of before.
    pub(super) fn started(&mut self, now: u64) {
        self.due = self.lasting.started(now);
        let is_unsure = self.due.is_some();
        self.shares.iter_mut().for_each(|share| share.is_unsure = is_unsure);
    }

    /// The longest lease of the members in milliseconds, and a number for it, if that is news for the journal.
    pub(super) fn longest_lease(&mut self) -> Option<(u64, u32)> {
        self.lasting.change(self.longest_ms)
    }

    /// The longest lease of a number is durable.
    pub(super) fn longest_durable(
        &mut self,
        now: u64,
        number: u64,
        leases: &mut LeaseNumbers,
        out: &mut Vec<Effect>,
    ) {
        self.lasting.durable(number);
        self.hand_out(now, leases, out);
    }

    /// The memory that it takes.
    pub(super) fn bytes(&self) -> u64 {
        self.shares.len() as u64 * POSITION_BYTES
            + self.members.len() as u64 * MEMBER_BYTES
            + self.words as u64 * WORD_BYTES
            + self.failing_bytes
    }

    /// What remembering failures takes.
    pub(super) const fn failing_bytes(&self) -> u64 {
        self.failing_bytes
    }

    /// When [`Sharing::pass_time`] has something to do, if ever.
    pub(super) const fn due(&self) -> Option<u64> {
        self.due
    }

    /// A member gives a partition back.
    pub(super) fn release(
        &mut self,
        now: u64,
        partition: PartitionId,
        leases: &mut LeaseNumbers,
        out: &mut Vec<Effect>,
    ) {
        self.end(partition, None, out);
        self.hand_out(now, leases, out);
    }

    /// A member gives back what it had before the broker was started again: nobody else has it, and it has it no longer.
    pub(super) fn give_up(
        &mut self,
        now: u64,
        partition: PartitionId,
        leases: &mut LeaseNumbers,
        out: &mut Vec<Effect>,
    ) {
        if let Some(share) = self.share_mut(partition) {
            share.is_unsure = false;
        }
        self.hand_out(now, leases, out);
    }

    /// A partition is to be read from somewhere else: its lease ends, and its owner gets another one.
    pub(super) fn moved(&mut self, partition: PartitionId, cursor: Cursor, out: &mut Vec<Effect>) {
        self.end(partition, Some(ErrorCode::PositionReset), out);
        if let Some(share) = self.share_mut(partition) {
            let before = std::mem::replace(&mut share.cursor, cursor).words();
            self.words -= before;
        }
        self.remember(partition, |failures| failures.records.clear());
    }

    /// Changes what is remembered of failures in a partition.
    pub(super) fn remember<R>(
        &mut self,
        partition: PartitionId,
        change: impl FnOnce(&mut Failures) -> R,
    ) -> Option<R> {
        let share = self.shares.get_mut(partition.get() as usize)?;
        let before = share.failing_bytes();
        let result = change(&mut share.failures);
        self.failing_bytes = self.failing_bytes - before + share.failing_bytes();
        Some(result)
    }

    /// Settles ranges of a partition, all or none of them, if what that needs fits `room`. Says whether any was new.
    ///
    /// # Errors
    /// [`ErrorCode::Throttled`] if there is no room, [`ErrorCode::NotDelivered`] beyond the window of the cursor.
    pub(super) fn settle(
        &mut self,
        partition: PartitionId,
        ranges: &[(Offset, Offset)],
        room: u64,
    ) -> Result<bool, Refusal> {
        let Some(share) = self.share_mut(partition) else { return Ok(false) };
        let before = share.cursor.words();
        let more = share.cursor.words_with(ranges).saturating_sub(before);
        if more as u64 * WORD_BYTES > room {
            let detail =
                format!("partition {partition}: no memory for what is settled ahead of the position");
            return Err((ErrorCode::Throttled, detail));
        }
        let is_new = share::settle(&mut share.cursor, ranges)?;
        let now = share.cursor.words();
        let failing_before = share.failing_bytes();
        share.failures.settled(&share.cursor);
        let failing_now = share.failing_bytes();
        self.failing_bytes = self.failing_bytes - failing_before + failing_now;
        self.words = self.words - before + now;
        Ok(is_new)
    }

    /// The time is `now`: ends what has run out. Gives partitions that are free to those who are to have them.
    pub(super) fn pass_time(&mut self, now: u64, leases: &mut LeaseNumbers, out: &mut Vec<Effect>) {
        if self.due.is_none_or(|due| due > now) {
            return;
        }
        if self.lasting.pass_time(now) {
            self.shares.iter_mut().for_each(|share| share.is_unsure = false);
        }
        for number in 0..self.shares.len() {
            let partition =
                PartitionId::new(u32::try_from(number).expect("partitions are numbered in 32 bits"));
            if self.lease_end(partition).is_some_and(|end| end <= now) {
                let coming = self.share(partition).and_then(|share| share.coming_back(leases.wall(now)));
                if let Some((offset, record)) =
                    coming.filter(|_| leases.room >= self.failing_bytes + FAILING_BYTES)
                {
                    self.remember(partition, |failures| failures.records.insert(offset, record));
                    out.push(Effect::Lapsed(partition));
                }
                self.end(partition, Some(ErrorCode::Fenced), out);
            }
        }
        let gone: Vec<Name> = self
            .members
            .iter()
            .filter(|(_, member)| member.kept_until <= now)
            .map(|(name, _)| Arc::clone(name))
            .collect();
        for name in &gone {
            if let Some(lane) = self.members.remove(name).and_then(|member| member.lane) {
                let detail = format!("member '{name}' was not heard of in time");
                out.push(Effect::Fail(lane, ErrorCode::Fenced, detail));
            }
        }
        self.members_changed();
        if !gone.is_empty() || self.gathered_at.is_some_and(|at| at <= now) {
            self.share_out();
        }
        self.hand_out(now, leases, out);
    }

    /// When the lease of a partition ends if nothing is heard of its owner.
    fn lease_end(&self, partition: PartitionId) -> Option<u64> {
        let lease = self.share(partition)?.lease.as_ref()?;
        let leased_until = self.members.get(&lease.owner).map_or(0, |member| member.leased_until);
        Some(lease.revoked.map_or(leased_until, |until| until.min(leased_until)))
    }

    /// Decides who is to have what.
    fn share_out(&mut self) {
        self.gathered_at = None;
        let names: Vec<Name> = self.members.keys().cloned().collect();
        let index = |name: &Name| names.binary_search(name).ok();
        let current = self.shares.iter().map(|share| {
            let planned = share.target.as_ref().and_then(index);
            planned.or_else(|| index(&share.lease.as_ref()?.owner))
        });
        let assigned = assign(&current.collect::<Vec<_>>(), names.len());
        for (share, member) in self.shares.iter_mut().zip(assigned) {
            share.target = member.and_then(|member| names.get(member).cloned());
        }
    }

    /// Asks for partitions that others are to have, and leases those that are free.
    pub(super) fn hand_out(&mut self, now: u64, leases: &mut LeaseNumbers, out: &mut Vec<Effect>) {
        for (partition, share) in numbered_mut(&mut self.shares) {
            match &mut share.lease {
                Some(lease) if share.target.as_ref() == Some(&lease.owner) || lease.revoked.is_some() => {}
                Some(lease) => {
                    let Some(owner) = self.members.get(&lease.owner) else { continue };
                    lease.revoked = Some(owner.leased_until);
                    out.extend(
                        lease.reader.take().map(|reader| Effect::Stop(reader, partition, lease.epoch)),
                    );
                    let left = owner.leased_until.saturating_sub(now);
                    let frame = revoked(partition, lease.epoch, left);
                    out.extend(owner.lane.map(|lane| Effect::Tell(lane, frame)));
                }
                None if share.is_unsure => {}
                None => {
                    let target = share.target.as_ref();
                    let Some((owner, member)) = target.and_then(|name| self.members.get_key_value(name))
                    else {
                        continue;
                    };
                    // A member that is silent gets nothing before it is heard of.
                    let may = member.leased_until > now && self.lasting.allows(member.lease_ms);
                    let Some(lane) = member.lane.filter(|_| may) else { continue };
                    let (owner, epoch) = (Arc::clone(owner), leases.next());
                    let delivered = share.cursor.floor();
                    out.push(Effect::Leased(epoch, partition));
                    let wall = leases.wall(now);
                    out.extend(share.failing(partition, epoch, wall).map(|frame| Effect::Tell(lane, frame)));
                    out.push(Effect::Tell(lane, assigned(partition, epoch, &share.cursor)));
                    share.lease = Some(Lease { epoch, owner, revoked: None, reader: None, delivered });
                }
            }
        }
        self.due = self.next_due(now);
    }

    fn next_due(&self, now: u64) -> Option<u64> {
        let revoked = self.shares.iter().filter_map(|share| share.lease.as_ref()?.revoked);
        let members = self
            .members
            .values()
            .map(|member| if member.leased_until > now { member.leased_until } else { member.kept_until });
        revoked.chain(members).chain(self.gathered_at).chain(self.lasting.unsure_until()).min()
    }

    /// Ends the leases of a member.
    fn end_all(&mut self, name: &Name, why: Option<ErrorCode>, out: &mut Vec<Effect>) {
        for number in 0..self.shares.len() {
            let partition =
                PartitionId::new(u32::try_from(number).expect("partitions are numbered in 32 bits"));
            let lease = self.share(partition).and_then(|share| share.lease.as_ref());
            if lease.is_some_and(|lease| lease.owner == *name) {
                self.end(partition, why, out);
            }
        }
    }

    /// Ends the lease of a partition, if there is one; the owner is told why if it does not know.
    fn end(&mut self, partition: PartitionId, why: Option<ErrorCode>, out: &mut Vec<Effect>) {
        let Some(lease) = self.share_mut(partition).and_then(|share| share.lease.take()) else { return };
        let epoch = lease.epoch;
        out.extend(lease.reader.map(|reader| Effect::Stop(reader, partition, epoch)));
        out.push(Effect::Ended(epoch));
        let lane = self.members.get(&lease.owner).and_then(|owner| owner.lane);
        if let (Some(code), Some(lane)) = (why, lane) {
            out.push(Effect::Tell(lane, PartitionLost { partition, lease: epoch, code }.to_frame()));
        }
    }

    /// The lease of a partition, if it is the one that is meant. One that has run out has ended by now.
    pub(super) fn lease(&mut self, partition: PartitionId, epoch: LeaseEpoch) -> Option<&mut Lease> {
        self.share_mut(partition)?.lease.as_mut().filter(|lease| lease.epoch == epoch)
    }

    pub(super) fn share(&self, partition: PartitionId) -> Option<&Share> {
        self.shares.get(partition.get() as usize)
    }

    pub(super) fn share_mut(&mut self, partition: PartitionId) -> Option<&mut Share> {
        self.shares.get_mut(partition.get() as usize)
    }
}
