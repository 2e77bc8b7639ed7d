//! Idempotency keys as they are asked for: a single one, and in figures.

use weir_protocol::ErrorCode;
use weir_protocol::message::{
    DedupDescription, DedupFigures, DescribeDedup, FindKey, KeyFound, Message, RememberedKey, TopicDedup,
};
use weir_storage::frame::TopicDefinition;

use super::Node;
use crate::core::coordinator::Refusal;
use crate::core::dedup::{KeyCounts, KeyKnown, KeyLookup, KeyLookupAnswer};
use crate::core::{Actions, LaneId, Outgoing};

/// The longest entry of a page: a name and a few numbers.
const TOPIC_BYTES_MAX: usize = 256;

impl Node {
    /// A request for what is remembered of a key. It waits only if that is on the disk.
    pub(super) fn find_key(
        &mut self,
        lane: LaneId,
        asked: &FindKey,
        actions: &mut Actions,
    ) -> Result<(), Refusal> {
        if asked.key.is_empty() {
            return Err((ErrorCode::KeyInvalid, "an empty key".to_owned()));
        }
        let definition = self.coordinator.live(&asked.name)?;
        let (topic, horizon_us) = (definition.id, definition.settings.dedup_horizon_us.unwrap_or(0));
        let request = asked.request;
        match self.dedup.known(topic, asked.routing_hash, &asked.key, &self.partitions) {
            KeyKnown::Free => answer(lane, KeyFound { request, key: None }, actions),
            KeyKnown::Recent { place, append_time, fingerprint } => {
                // Its time begins when it is flushed, which is still to come.
                let key = RememberedKey {
                    partition: place.partition,
                    offset: place.offset,
                    append_time,
                    fingerprint,
                    remaining_us: horizon_us,
                    is_recent: true,
                };
                answer(lane, KeyFound { request, key: Some(key) }, actions);
            }
            KeyKnown::Unsure(digest) => {
                self.requests.begun(lane);
                actions.key_lookups.push(KeyLookup { lane, request, digest });
            }
        }
        Ok(())
    }

    /// A key was looked up on the disk for a request.
    pub(super) fn key_looked_up(&mut self, answered: KeyLookupAnswer, actions: &mut Actions) {
        let KeyLookupAnswer { lane, request, found } = answered;
        self.requests.ended(lane);
        let Some(found) = found else {
            let detail = "a generation of idempotency keys cannot be read".to_owned();
            return self.fail_request(lane, request, (ErrorCode::Internal, detail), actions);
        };
        let key = found.map(|found| RememberedKey {
            partition: found.entry.place.partition,
            offset: found.entry.place.offset,
            append_time: found.entry.append_time,
            fingerprint: found.entry.fingerprint.0,
            remaining_us: found.remaining_us,
            is_recent: false,
        });
        answer(lane, KeyFound { request, key }, actions);
    }

    /// Figures of all keys, and a page of topics.
    pub(super) fn describe_dedup(
        &self,
        lane: LaneId,
        asked: &DescribeDedup,
        actions: &mut Actions,
    ) -> Result<(), Refusal> {
        let keys = self.dedup.figures();
        let described = |definition: &TopicDefinition| TopicDedup {
            name: definition.name.clone(),
            horizon_us: definition.settings.dedup_horizon_us.unwrap_or(0),
            counts: self.dedup.counted_of(definition.id),
        };
        let (topics, more) = if asked.name.is_empty() {
            let mut behind = self.coordinator.behind(&asked.after);
            let topics = behind.by_ref().take(self.page(lane, TOPIC_BYTES_MAX)).map(described).collect();
            (topics, behind.next().is_some())
        } else {
            (vec![described(self.coordinator.live(&asked.name)?)], false)
        };
        let description = DedupDescription { request: asked.request, more, keys, topics };
        actions.outgoing.push(Outgoing::Frames(lane, vec![description.to_frame()]));
        Ok(())
    }

    /// Figures of all keys.
    pub fn key_figures(&self) -> DedupFigures {
        self.dedup.figures()
    }

    /// The topics that records with keys were sent to, and what became of these; at most so many topics, in order of name.
    pub fn keyed_topics(&self, count_max: usize) -> Vec<(String, KeyCounts)> {
        let topics = self.coordinator.behind("");
        let counted = topics.map(|topic| (topic.name.clone(), self.dedup.counted_of(topic.id)));
        counted.filter(|(_, counts)| *counts != KeyCounts::default()).take(count_max).collect()
    }
}

fn answer(lane: LaneId, found: KeyFound, actions: &mut Actions) {
    actions.outgoing.push(Outgoing::Frames(lane, vec![found.to_frame()]));
}
