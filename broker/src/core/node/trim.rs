//! Trimming a partition: an offset is found, journaled, and answered once it is durable.

use weir_protocol::ErrorCode;
use weir_protocol::message::{Message, PartitionTrimmed, TrimBefore, TrimPartition};
use weir_protocol::units::{Offset, PartitionKey};
use weir_storage::frame::Frame;

use super::Node;
use crate::core::coordinator::Refusal;
use crate::core::partition::TimeLookup;
use crate::core::publish::Waiting;
use crate::core::trim::{PendingTrim, Trim};
use crate::core::{Actions, ColdAnswer, LaneId, Outgoing};

impl Node {
    /// A request to give up records.
    pub(super) fn trim(
        &mut self,
        lane: LaneId,
        asked: &TrimPartition,
        actions: &mut Actions,
    ) -> Result<(), Refusal> {
        let definition = self.coordinator.live(&asked.name)?;
        let key = PartitionKey { topic: definition.id, partition: asked.partition };
        let trim = Trim { lane, request: asked.request, key, dry_run: asked.dry_run };
        let time = match asked.before {
            TrimBefore::Offset(offset) => return self.trim_to(trim, offset, actions),
            TrimBefore::Time(time) => time,
        };
        let lookup = self.partitions.get(&key).map(|partition| partition.offset_at(time));
        match lookup.ok_or_else(|| no_partition(&key))? {
            TimeLookup::Known(offset) => self.trim_to(trim, offset, actions),
            TimeLookup::InSegments { otherwise } => {
                self.trims.begin(trim, (time, otherwise), actions)?;
                self.requests.begun(lane);
                Ok(())
            }
        }
    }

    /// Takes the answer of segments if a trim waits for it. Says whether one did.
    pub(super) fn trim_located(&mut self, answer: &ColdAnswer, actions: &mut Actions) -> bool {
        let Some((trim, found)) = self.trims.take(answer) else { return false };
        self.requests.ended(trim.lane);
        // Records may have gone, and a topic too, while segments were read.
        if let Err(refusal) = found.and_then(|offset| self.trim_to(trim, offset, actions)) {
            self.fail_request(trim.lane, trim.request, refusal, actions);
        }
        true
    }

    /// Only what is durable can be given up: frames of the journal that free space overtake appends, so a trim must
    /// not concern one that is on its way.
    fn trim_to(&mut self, trim: Trim, offset: Offset, actions: &mut Actions) -> Result<(), Refusal> {
        let partition = self.partitions.get(&trim.key).ok_or_else(|| no_partition(&trim.key))?;
        let (log_start, end) = (partition.log_start(), partition.high_watermark());
        if offset > end {
            let detail = format!("offset {offset} is not within {log_start}..={end}");
            return Err((ErrorCode::OffsetOutOfRange, detail));
        }
        if trim.dry_run || offset <= log_start {
            answer(&trim, (log_start, offset.max(log_start), end), actions);
            return Ok(());
        }
        let ticket = actions.append(Frame::Trim { partition: trim.key, log_start: offset }, false);
        self.requests.begun(trim.lane);
        self.publishing.wait(ticket, Waiting::Trim(PendingTrim { trim, log_start: offset }));
        Ok(())
    }

    /// A trim is durable: from now on readers see it.
    pub(super) fn trim_durable(&mut self, pending: &PendingTrim, actions: &mut Actions) {
        let trim = &pending.trim;
        match self.partitions.get_mut(&trim.key) {
            Some(partition) => {
                let before = partition.trim(pending.log_start);
                let bounds = (before, partition.log_start(), partition.high_watermark());
                answer(trim, bounds, actions);
            }
            None => {
                let detail = "the topic was deleted before it was trimmed".to_owned();
                self.fail_request(trim.lane, trim.request, (ErrorCode::TopicDeleted, detail), actions);
            }
        }
    }
}

fn answer(trim: &Trim, (old_start, start, end): (Offset, Offset, Offset), actions: &mut Actions) {
    let trimmed = PartitionTrimmed {
        request: trim.request,
        partition: trim.key.partition,
        old_start_offset: old_start,
        start_offset: start,
        end_offset: end,
    };
    actions.outgoing.push(Outgoing::Frames(trim.lane, vec![trimmed.to_frame()]));
}

fn no_partition(key: &PartitionKey) -> Refusal {
    (ErrorCode::PartitionNotFound, format!("topic {} has no partition {}", key.topic, key.partition))
}
