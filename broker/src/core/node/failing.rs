//! Records that fail in the groups of a node: what is to become of them, and of those that are given up.

use weir_protocol::ErrorCode;
use weir_protocol::message::{FailRecords, Message, RecordsFailed, SetRedelivery};

use super::Node;
use super::group::{GroupChange, PendingGroup};
use super::publish::no_memory_for_answers;
use crate::core::answers::REQUEST_BYTES;
use crate::core::coordinator::Refusal;
use crate::core::group::{Effect, PendingFailure};
use crate::core::publish::Waiting;
use crate::core::{Actions, LaneId, Now, Outgoing};

impl Node {
    /// A group is to do something else with records that fail.
    pub(super) fn set_redelivery(
        &mut self,
        lane: LaneId,
        set: &SetRedelivery,
        actions: &mut Actions,
    ) -> Result<(), Refusal> {
        if let Some(name) = &set.redelivery.dead_letter {
            if *name == set.topic {
                let detail =
                    "a topic cannot hold its own dead letters: they would be delivered again".to_owned();
                return Err((ErrorCode::InvalidSetting, detail));
            }
            self.dead_letter_topic(name).map_err(|code| {
                let detail = format!(
                    "topic '{name}' does not exist, or does not recognise records that are sent again"
                );
                (code, detail)
            })?;
        }
        let frame = self.groups.set_redelivery((&set.topic, &set.group), &set.redelivery)?;
        if let Some(frame) = frame {
            actions.append(frame, false);
        }
        let pending = PendingGroup { lane, request: set.request, what: GroupChange::Redelivery };
        if self.has_pending(actions) {
            self.requests.begun(lane);
            self.publishing.wait(actions.last_ticket(), Waiting::Group(pending));
        } else {
            self.group_durable(pending, actions);
        }
        Ok(())
    }

    /// Records have failed at a member.
    pub(super) fn fail(
        &mut self,
        (now, lane): (Now, LaneId),
        fail: &FailRecords,
        effects: &mut Vec<Effect>,
        actions: &mut Actions,
    ) {
        let reader = self.groups.reader(fail.partition, fail.lease);
        let position = reader.and_then(|reader| self.subscriptions.position(reader, fail.partition));
        let told = told_bytes(fail.records.len());
        let admitted = self.requests.admit(lane).and_then(|()| {
            let is_promised = self.answers.promise(lane.connection, told);
            is_promised.then_some(()).ok_or_else(no_memory_for_answers)
        });
        // Of the group that the member is in.
        let takes = self.groups.dead_letter(lane).map(|name| self.dead_letter_topic(name).map(|_| ()));
        let takes = takes.unwrap_or(Err(ErrorCode::DeadLetterMissing));
        let failed = admitted.and_then(|()| {
            let failed = self.groups.fail((now, lane), (fail, position), takes, effects);
            failed.inspect_err(|_refusal| self.answers.withdraw(lane.connection, told))
        });
        match failed {
            Ok(failed) => {
                for frame in failed.frames {
                    actions.append(frame, false);
                }
                self.requests.begun(lane);
                if self.has_pending(actions) {
                    self.publishing.wait(actions.last_ticket(), Waiting::Failed(failed.pending));
                } else {
                    self.failure_durable(failed.pending, actions);
                }
                if let Some((reader, bound)) = failed.reader {
                    self.subscriptions.raise_bound(reader, fail.partition, bound);
                }
            }
            Err((code, _detail)) => {
                let (number, partition) = (fail.number, fail.partition);
                let outcomes = Vec::new();
                let answer = RecordsFailed { number, partition, refused: Some(code), outcomes };
                effects.push(Effect::Tell(lane, answer.to_frame()));
            }
        }
    }

    /// Failures are durable: letters can go.
    pub(super) fn failure_durable(&mut self, pending: PendingFailure, actions: &mut Actions) {
        let (lane, answer, letters) = self.groups.failed(pending);
        self.requests.ended(lane);
        self.answers.due(lane.connection, told_bytes(answer.outcomes.len()));
        actions.outgoing.push(Outgoing::Frames(lane, vec![answer.to_frame()]));
        letters.into_iter().for_each(|letter| self.letters.add(letter));
    }
}

/// What is promised for telling of so many records, beyond what any request is.
fn told_bytes(records: usize) -> u64 {
    (RecordsFailed::frame_bytes(records) as u64).saturating_sub(REQUEST_BYTES)
}
