//! Who is there: members join, are heard of, go away and leave.

use std::sync::Arc;

use weir_protocol::ErrorCode;
use weir_protocol::message::{Heartbeat, JoinGroup, Message};
use weir_protocol::units::Timestamp;

use super::super::share::{assigned, numbered, revoked};
use super::super::{Effect, LeaseNumbers};
use super::{GATHER_US, Name, Sharing};
use crate::core::{ConnectionId, LaneId};

/// A member.
#[derive(Debug)]
pub(in crate::core::group) struct Member {
    /// Its stream, if that is open.
    pub(in crate::core::group) lane: Option<LaneId>,
    /// The connection of its last stream.
    connection: ConnectionId,
    instance: u64,
    pub(super) lease_ms: u32,
    grace_us: u64,
    /// Its leases last until then.
    pub(in crate::core::group) leased_until: u64,
    /// Its place is kept until then.
    pub(super) kept_until: u64,
}

impl Member {
    /// Whether a join is that of an earlier consumer of its name, which came late. Both the numbers of the consumers and the
    /// order of their connections have to say so: the one is made by clocks of different machines, and a consumer may be a
    /// later one on an earlier connection.
    fn succeeds(&self, lane: LaneId, join: &JoinGroup) -> bool {
        join.instance < self.instance && lane.connection < self.connection
    }
}

impl Sharing {
    /// A consumer joins, or comes back.
    pub(in crate::core::group) fn join(
        &mut self,
        now: u64,
        (lane, join): (LaneId, &JoinGroup),
        leases: &mut LeaseNumbers,
        out: &mut Vec<Effect>,
    ) {
        let name: Name = Arc::from(join.member.as_str());
        if self.members.get(&name).is_some_and(|known| known.succeeds(lane, join)) {
            let detail = format!("a later consumer has joined as '{name}'");
            return out.push(Effect::Fail(lane, ErrorCode::MemberReplaced, detail));
        }
        let member = Member {
            lane: Some(lane),
            connection: lane.connection,
            instance: join.instance,
            lease_ms: join.lease_ms,
            grace_us: u64::from(join.grace_ms) * 1000,
            leased_until: now,
            kept_until: now,
        };
        let before = self.members.insert(Arc::clone(&name), member);
        self.members_changed();
        self.heard(now, &name);
        match before {
            Some(before) if before.instance == join.instance => {
                out.extend(before.lane.map(Effect::Finish));
                self.remind((now, leases.wall(now)), &name, lane, out);
            }
            Some(before) => {
                self.end_all(&name, None, out);
                if let Some(old) = before.lane {
                    let detail = format!("another consumer joined as '{name}'");
                    out.push(Effect::Fail(old, ErrorCode::MemberReplaced, detail));
                }
            }
            None => {
                self.gathered_at.get_or_insert(now + GATHER_US);
            }
        }
        self.hand_out(now, leases, out);
    }

    /// A member that was away is told again what it has.
    fn remind(&self, (now, wall): (u64, Timestamp), name: &Name, lane: LaneId, out: &mut Vec<Effect>) {
        for (partition, share) in numbered(&self.shares) {
            let Some(lease) = share.lease.as_ref().filter(|lease| lease.owner == *name) else { continue };
            let failing = share.failing(partition, lease.epoch, wall);
            out.extend(failing.map(|frame| Effect::Tell(lane, frame)));
            out.push(Effect::Tell(lane, assigned(partition, lease.epoch, &share.cursor)));
            if let Some(until) = lease.revoked {
                out.push(Effect::Tell(lane, revoked(partition, lease.epoch, until.saturating_sub(now))));
            }
        }
    }

    /// A heartbeat came.
    pub(in crate::core::group) fn heartbeat(
        &mut self,
        now: u64,
        (name, heartbeat): (&Name, Heartbeat),
        leases: &mut LeaseNumbers,
        out: &mut Vec<Effect>,
    ) {
        let Some(member) = self.members.get(name) else { return };
        let (lane, was_silent) = (member.lane, member.leased_until <= now);
        self.heard(now, name);
        out.extend(lane.map(|lane| Effect::Tell(lane, heartbeat.to_frame())));
        if was_silent {
            self.hand_out(now, leases, out);
        }
    }

    fn heard(&mut self, now: u64, name: &Name) {
        if let Some(member) = self.members.get_mut(name) {
            member.leased_until = now + u64::from(member.lease_ms) * 1000;
            member.kept_until = member.leased_until.max(now + member.grace_us);
        }
    }

    /// A member's stream ended: its leases last on, in case it comes back.
    pub(in crate::core::group) fn disconnected(&mut self, name: &Name, lane: LaneId) {
        if let Some(member) = self.members.get_mut(name).filter(|member| member.lane == Some(lane)) {
            member.lane = None;
        }
    }

    /// A member leaves.
    pub(in crate::core::group) fn leave(
        &mut self,
        now: u64,
        name: &Name,
        leases: &mut LeaseNumbers,
        out: &mut Vec<Effect>,
    ) {
        self.end_all(name, None, out);
        let Some(member) = self.members.get_mut(name) else { return };
        out.extend(member.lane.take().map(Effect::Finish));
        member.leased_until = now;
        member.kept_until = now + member.grace_us;
        if member.grace_us == 0 {
            self.members.remove(name);
            self.members_changed();
            self.share_out();
        }
        self.hand_out(now, leases, out);
    }

    pub(super) fn members_changed(&mut self) {
        self.longest_ms = self.members.values().map(|member| member.lease_ms).max().unwrap_or(0);
    }
}
