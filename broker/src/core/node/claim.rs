//! Claims: whoever had the name is fenced at once, and whoever has it is told once that is durable.

use weir_protocol::message::{ClaimProducer, Message, ProducerOpened};
use weir_protocol::units::ProducerId;
use weir_storage::frame::Frame;

use super::Node;
use crate::core::claims::PendingClaim;
use crate::core::coordinator::Refusal;
use crate::core::publish::Waiting;
use crate::core::{Actions, LaneId, Outgoing};

impl Node {
    /// A request for a name.
    pub(super) fn claim(
        &mut self,
        lane: LaneId,
        asked: &ClaimProducer,
        actions: &mut Actions,
    ) -> Result<(), Refusal> {
        self.coordinator.live_by_id(asked.topic)?;
        let fresh = ProducerId::new(self.next_producer);
        let claimed = self.claims.claim(asked.topic, &asked.name, fresh)?;
        if claimed.claim.producer == fresh {
            self.next_producer += 1;
        }
        let pending = PendingClaim { lane, request: asked.request, claim: claimed.claim };
        let ticket = actions.append(Frame::Claim(claimed), false);
        self.requests.begun(lane);
        self.publishing.wait(ticket, Waiting::Claim(pending));
        Ok(())
    }
}

/// The claim is durable.
pub(super) fn answer(pending: &PendingClaim, actions: &mut Actions) {
    let PendingClaim { lane, request, claim } = *pending;
    let opened = ProducerOpened { request, producer: claim.producer, epoch: claim.epoch };
    actions.outgoing.push(Outgoing::Frames(lane, vec![opened.to_frame()]));
}
