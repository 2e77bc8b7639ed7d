//! The lanes of a producer: streams, credit, and what is sealed and sent on them.

use std::collections::VecDeque;

use bytes::BytesMut;
use harness::check::Event;
use weir_client::core::producer::{LaneId, Outgoing, OutgoingContent, PushError, Routing};
use weir_protocol::batch::{BatchBuilder, Compression, ProducerBatch, RecordInput};
use weir_protocol::message::{Message, Publish, PublishOpen};

use super::{Publishing, Stream};
use crate::client::{Context, Output, Peer};
use crate::coverage::Situation;
use crate::network::Arrival;
use crate::scheduler::MS;

impl Publishing {
    /// Opens the streams of lanes that have something to carry.
    pub(super) fn open_lanes(&mut self, peer: &mut Peer, context: &mut Context<'_>) {
        let Some(machine) = &mut self.machine else { return };
        for lane in (0..machine.lanes()).map(LaneId) {
            let pauses = self.pauses.hold(lane.0, context);
            let told = self.woken.contains(&lane) || self.pauses.knows(lane.0);
            let wanted = told && !pauses && !peer.leaving && machine.is_lane_needed(lane);
            if !wanted || self.streams.contains_key(&lane) {
                continue;
            }
            self.pauses.end(lane.0);
            let id = peer.open(lane.0);
            let open = PublishOpen { topic: context.topic, durability: self.plan.durability };
            context.outputs.push(Output::Send(peer.id, Arrival::Bytes(id, open.to_frame())));
            let credit = peer.credit_of(id);
            self.streams.insert(lane, Stream { id, credit, limit: 0, spent: 0, taken: VecDeque::new() });
            machine.lane_opened(lane);
            self.woken.extend(machine.wakes());
            self.woken.insert(lane);
        }
    }

    /// Takes what the lanes may send, seals it and writes it.
    pub(super) fn send(&mut self, peer: &Peer, context: &mut Context<'_>) {
        let told: Vec<LaneId> =
            self.woken.iter().copied().filter(|lane| self.streams.contains_key(lane)).collect();
        for lane in told {
            self.woken.remove(&lane);
            while let (Some(machine), Some(stream)) = (&mut self.machine, self.streams.get_mut(&lane)) {
                let mut taken = Vec::new();
                if !peer.leaving && stream.taken.is_empty() {
                    machine.take(lane, &mut taken);
                }
                stream.taken.extend(taken);
                if stream.taken.is_empty() {
                    let needy = machine.is_lane_needed(lane) && machine.is_lane_idle(lane);
                    if needy && stream.limit > 0 && stream.limit - stream.spent < 2 << 10 {
                        context.coverage.saw(Situation::OutOfCredit);
                    }
                    break;
                }
                if self.random.percent(5) {
                    // Sealing takes time: the machine goes on meanwhile.
                    self.woken.insert(lane);
                    context.wake(context.now + self.random.between(1, MS));
                    break;
                }
                let Some(outgoing) = stream.taken.pop_front() else { break };
                let (id, credit) = (stream.id, stream.credit);
                let acked_below = outgoing.acked_below;
                let Some(batch) = self.seal(lane, outgoing, context) else { continue };
                let publish = Publish { acked_below, batch };
                let mut bytes = BytesMut::from(&publish.front()[..]);
                bytes.extend_from_slice(publish.batch.bytes());
                if let Some(stream) = self.streams.get_mut(&lane) {
                    stream.spent += bytes.len() as u64;
                }
                context.history.push(Event::Spent { lane: credit, bytes: bytes.len() as u64 });
                context.outputs.push(Output::Send(peer.id, Arrival::Bytes(id, bytes.freeze())));
            }
        }
    }

    pub(super) fn seal(
        &mut self,
        lane: LaneId,
        mut outgoing: Outgoing,
        context: &mut Context<'_>,
    ) -> Option<ProducerBatch> {
        let machine = self.machine.as_mut()?;
        let batch = match std::mem::replace(&mut outgoing.content, OutgoingContent::Taken) {
            OutgoingContent::Sealed(batch) => batch,
            OutgoingContent::Unsealed(builder, identity) => {
                let mut done = Vec::new();
                let batch = builder.finish(&identity, Compression::None);
                let is_sent = machine.sealed(lane, &mut outgoing, &batch, &mut done);
                self.complete(done, context);
                if !is_sent {
                    return None;
                }
                batch
            }
            OutgoingContent::Taken => return None,
        };
        Some(batch)
    }

    /// Puts a record into a batch. Says which partition it went to.
    pub(super) fn put(
        &mut self,
        routing: Routing,
        record: &RecordInput<'_>,
        cost: u64,
        context: &mut Context<'_>,
    ) -> Option<u32> {
        let now = context.mono();
        let machine = self.machine.as_mut()?;
        loop {
            let partition = machine.route(routing).ok()?;
            match machine.push(partition, record, cost) {
                Ok(pushed) => {
                    self.woken.extend(pushed.wake);
                    return Some(partition.get());
                }
                Err(PushError::Closed { wake }) => self.woken.extend(wake),
                Err(PushError::NeedsBatch { bytes_max, .. }) => {
                    machine.open_batch(partition, BatchBuilder::new(bytes_max), (), now);
                }
                Err(other) => {
                    context.defect(|| format!("a record was not taken: {other:?}"));
                    return None;
                }
            }
        }
    }
}
