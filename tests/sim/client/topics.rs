//! A client that makes, changes and deletes topics nobody uses, so that control frames are among the others.

use std::time::Duration;

use harness::Random;
use weir_client::core::requests::{Repeat, Requests};
use weir_protocol::frame::{FrameKind, RawFrame};
use weir_protocol::message::{
    AlterTopic, CreateTopic, DeleteTopic, DescribeTopic, Failure, ListTopics, Message, TopicSettings,
};
use weir_protocol::units::PartitionId;
use weir_protocol::{ErrorClass, ErrorCode};

use super::{Ask, Context};
use crate::scheduler::SECOND;
use crate::workload::topic;

/// Requests about a few topics, one at a time.
#[derive(Debug)]
pub(crate) struct Topics {
    random: Random,
    next_at: u64,
    waiting: bool,
    calm: bool,
}

impl Topics {
    pub(super) const fn new(random: Random) -> Self {
        Self { random, next_at: 0, waiting: false, calm: false }
    }

    pub(super) const fn calm(&mut self) {
        self.calm = true;
    }

    /// There will be no answer.
    pub(super) const fn gave_up(&mut self) {
        self.waiting = false;
    }

    /// An answer came: whatever it is, it must make sense.
    pub(super) fn answered(&mut self, frame: &RawFrame, context: &Context<'_>) -> Result<(), String> {
        self.waiting = false;
        self.next_at = context.now + self.random.between(1, SECOND);
        if frame.kind != FrameKind::Failure {
            return Ok(());
        }
        let failure = Failure::from_frame(frame).map_err(|error| error.to_string())?;
        let is_expected = matches!(failure.code, ErrorCode::TopicExists | ErrorCode::TopicNotFound);
        if is_expected || failure.code.class() == ErrorClass::Retry {
            Ok(())
        } else {
            Err(format!("{failure:?}"))
        }
    }

    /// Makes the next request when it is time.
    pub(super) fn turn(&mut self, requests: &mut Requests<Ask>, context: &mut Context<'_>) {
        if self.waiting || self.calm {
            return;
        }
        if context.now < self.next_at {
            return context.wake(self.next_at);
        }
        let name = format!("side-{}", self.random.below(4));
        let kind = self.random.below(5);
        let frame = move |request| match kind {
            0 => CreateTopic { request, name, settings: topic(2) }.to_frame(),
            1 => DeleteTopic { request, name }.to_frame(),
            2 => {
                let settings = TopicSettings { retention_bytes: Some(1 << 20), ..topic(2) };
                AlterTopic { request, name, settings }.to_frame()
            }
            3 => DescribeTopic { request, name, first_partition: PartitionId::ZERO }.to_frame(),
            _ => ListTopics { request, after: name }.to_frame(),
        };
        let repeat = if kind < 2 { Repeat::Never } else { Repeat::Harmless };
        let deadline = context.mono().after(Duration::from_secs(30));
        self.waiting = requests.add(frame, repeat, deadline, Ask::Topic).is_ok();
    }
}
