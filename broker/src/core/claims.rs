//! Names that producers have claimed: of a name one holder writes, the one that claimed it last.
//!
//! Invariant: from the step of a claim on, no batch of an earlier holder is taken.

use std::collections::BTreeMap;

use weir_protocol::ErrorCode;
use weir_protocol::batch::ProducerHeader;
use weir_protocol::limits::{CLAIMS_PER_TOPIC_MAX, NAME_BYTES_MAX};
use weir_protocol::units::{Epoch, ProducerId, TopicId};
use weir_storage::frame::{Claim, ClaimedName};
use weir_storage::state;

use crate::core::LaneId;
use crate::core::coordinator::Refusal;

/// A claim that waits for the journal.
#[derive(Clone, Copy, Debug)]
pub struct PendingClaim {
    /// Where the answer goes.
    pub lane: LaneId,
    /// The request that is answered.
    pub request: u32,
    /// What the name's holder is from now on.
    pub claim: Claim,
}

/// The names of all topics.
#[derive(Debug, Default)]
pub struct Claims {
    names: state::Claims,
    /// The epoch of the holder of each name, by the producer that stands for the name.
    holders: BTreeMap<ProducerId, Epoch>,
}

impl Claims {
    /// The names that recovery found.
    pub fn recovered(names: state::Claims) -> Self {
        let claims = names.values().flat_map(BTreeMap::values);
        let holders = claims.map(|claim| (claim.producer, claim.epoch)).collect();
        Self { names, holders }
    }

    /// Gives a name to another holder, or to a first one: then `fresh` is the producer that will stand for it.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidName`] for a name that is empty or too long, [`ErrorCode::TooManyClaims`] if the topic has as many as
    /// it may.
    pub fn claim(&mut self, topic: TopicId, name: &str, fresh: ProducerId) -> Result<ClaimedName, Refusal> {
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            let detail =
                format!("the name of a producer has 1 to {NAME_BYTES_MAX} bytes, not {}", name.len());
            return Err((ErrorCode::InvalidName, detail));
        }
        let names = self.names.entry(topic).or_default();
        let claim = match names.get(name) {
            Some(held) => {
                let epoch = held.epoch.get().checked_add(1).map(Epoch::new);
                Claim { epoch: epoch.ok_or_else(|| too_often(name))?, ..*held }
            }
            None if names.len() >= CLAIMS_PER_TOPIC_MAX => {
                let detail = format!("the limit is {CLAIMS_PER_TOPIC_MAX} names a topic");
                return Err((ErrorCode::TooManyClaims, detail));
            }
            None => Claim { producer: fresh, epoch: Epoch::new(1) },
        };
        names.insert(name.to_owned(), claim);
        self.holders.insert(claim.producer, claim.epoch);
        Ok(ClaimedName { topic, name: name.to_owned(), claim })
    }

    /// Whether a producer may write.
    ///
    /// # Errors
    /// [`ErrorCode::ProducerFenced`] if it stands for a name, and its holder is another one by now.
    pub fn check(&self, header: &ProducerHeader) -> Result<(), Refusal> {
        match self.holders.get(&header.producer) {
            Some(current) if *current != header.producer_epoch => {
                let epoch = header.producer_epoch;
                let detail =
                    format!("the name was claimed again: its token is {current}, the batch has {epoch}");
                Err((ErrorCode::ProducerFenced, detail))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// A topic is gone, and with it the names of its producers.
    pub fn topic_removed(&mut self, topic: TopicId) {
        for claim in self.names.remove(&topic).unwrap_or_default().into_values() {
            self.holders.remove(&claim.producer);
        }
    }
}

fn too_often(name: &str) -> Refusal {
    (ErrorCode::TooManyClaims, format!("{name:?} was claimed as often as it can be"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bounded_and_go_with_their_topic() {
        let mut claims = Claims::default();
        let topic = TopicId::from_bytes([1; 16]);
        let mut claim =
            |name: &str| claims.claim(topic, name, ProducerId::new(1)).map(|claimed| claimed.claim.epoch);
        for number in 0..CLAIMS_PER_TOPIC_MAX {
            assert_eq!(claim(&number.to_string()), Ok(Epoch::new(1)));
        }
        assert_eq!(claim("more").unwrap_err().0, ErrorCode::TooManyClaims);
        assert_eq!(claim("7"), Ok(Epoch::new(2)), "who has a name already needs no more room");
        for name in ["", &"x".repeat(NAME_BYTES_MAX + 1)] {
            assert_eq!(claim(name).unwrap_err().0, ErrorCode::InvalidName);
        }
        claims.topic_removed(topic);
        assert!(claims.names.is_empty() && claims.holders.is_empty());
    }

    #[test]
    fn an_epoch_never_starts_again() {
        let topic = TopicId::from_bytes([1; 16]);
        let last = Claim { producer: ProducerId::new(1), epoch: Epoch::new(u32::MAX) };
        let names = [(topic, [("a".to_owned(), last)].into())].into();
        let mut claims = Claims::recovered(names);
        assert_eq!(claims.claim(topic, "a", ProducerId::new(2)).unwrap_err().0, ErrorCode::TooManyClaims);
    }
}
