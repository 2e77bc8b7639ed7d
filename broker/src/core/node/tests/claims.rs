//! Claims: one holder of a name writes.

use weir_protocol::message::{ClaimProducer, Failure, ProducerOpened};

use super::*;

impl Script {
    fn claim(&mut self, request: u32, name: &str) {
        let claim = ClaimProducer { request, topic: self.topic, name: name.to_owned() };
        self.event(Event::Request(lane(CONTROL), Request::Claim(claim)));
    }

    /// Claims a name and waits until that is durable.
    fn claimed(&mut self, name: &str) -> (ProducerId, Epoch) {
        self.claim(7, name);
        self.sync();
        let opened: ProducerOpened = self.take(CONTROL, FrameKind::ProducerOpened);
        (opened.producer, opened.epoch)
    }

    /// Sends a batch of one record as a holder.
    fn write_as(&mut self, (producer, producer_epoch): (ProducerId, Epoch), partition: u32, sequence: u64) {
        let mut builder = BatchBuilder::new(1 << 10);
        builder.push(&RecordInput::default()).unwrap();
        let (partition, sequence) = (self.key(partition), Sequence::new(sequence));
        let identity = BatchIdentity { producer, producer_epoch, sequence, partition };
        self.arrive(1, builder.finish(&identity, Compression::None));
    }

    fn stored(&mut self) -> u64 {
        self.sync();
        let ack: PublishAck = self.take(PUBLISH, FrameKind::PublishAck);
        ack.entries[0].base_offset.get()
    }

    fn refusal(&mut self) -> ErrorCode {
        self.take::<PublishRejected>(PUBLISH, FrameKind::PublishRejected).code
    }
}

#[test]
fn a_claim_fences_earlier_holders_in_all_partitions_at_once() {
    let mut script = Script::new(0);
    let first = script.claimed("billing");
    assert_eq!(first.1, Epoch::new(1));
    script.write_as(first, 0, 0);
    script.write_as(first, 1, 0);
    assert_eq!(script.stored(), 0);
    // What is on its way is stored; what comes behind the claim is not, also where the new holder has written nothing yet.
    script.write_as(first, 0, 1);
    script.claim(8, "billing");
    for partition in [0, 1] {
        script.write_as(first, partition, 2 - u64::from(partition));
    }
    assert!(!script.kinds().contains(&FrameKind::ProducerOpened), "the claim is not durable");
    assert_eq!(script.stored(), 1);
    assert_eq!([script.refusal(), script.refusal()], [ErrorCode::ProducerFenced; 2]);
    let opened: ProducerOpened = script.take(CONTROL, FrameKind::ProducerOpened);
    let second = (opened.producer, opened.epoch);
    assert_eq!((opened.request, second), (8, (first.0, Epoch::new(2))));
    script.write_as(second, 0, 0);
    assert_eq!(script.stored(), 2);
    // Nobody has a token that was never given out.
    script.write_as((first.0, Epoch::new(9)), 0, 0);
    assert_eq!(script.refusal(), ErrorCode::ProducerFenced);
}

#[test]
fn names_are_independent_and_known_after_a_start() {
    let mut script = Script::new(0);
    let (billing, mail) = (script.claimed("billing"), script.claimed("mail"));
    assert_ne!(billing.0, mail.0);
    let again = script.claimed("billing");
    let mut state = NodeState::default();
    script.journaled.iter().for_each(|write| state.apply(&write.frame));

    let mut restarted = Script::new(0);
    let (dedup, _) = dedup();
    restarted.node = Node::recovered(LIMITS, &state, |_| 0, dedup, (Incarnation::new(4), 1));
    restarted.topic = script.topic;
    let open = PublishOpen { topic: script.topic, durability: Durability::Durable };
    restarted.event(Event::PublishOpened(lane(PUBLISH), open));
    restarted.write_as(billing, 0, 0);
    assert_eq!(restarted.refusal(), ErrorCode::ProducerFenced);
    restarted.write_as(again, 0, 0);
    assert_eq!(restarted.stored(), 0);
    restarted.write_as(mail, 0, 0);
    assert_eq!(restarted.stored(), 1);
    assert_eq!(restarted.claimed("billing"), (billing.0, Epoch::new(3)));
}

#[test]
fn a_claim_of_a_topic_that_is_gone_is_refused() {
    let mut script = Script::new(0);
    script.topic = TopicId::from_bytes([9; 16]);
    script.claim(3, "billing");
    let failure: Failure = script.take(CONTROL, FrameKind::Failure);
    assert_eq!((failure.request, failure.code), (3, ErrorCode::TopicDeleted));
}
