//! The messages: one file for each exchange, with requests, responses and their encodings.

use bytes::{BufMut, Bytes, BytesMut};

use crate::error::DecodeError;
use crate::frame::{FRAME_HEADER_BYTES, FrameKind, RawFrame, put_header};
use crate::read::Reader;

mod claim;
mod dedup;
mod exceptions;
mod explain;
mod failing;
mod failure;
mod group;
mod hello;
mod member;
mod publish;
mod redelivery;
mod snapshot;
mod subscribe;
#[cfg(test)]
mod tests;
mod topic;
mod trim;

pub use claim::ClaimProducer;
pub use dedup::{
    DedupDescription, DedupFigures, DescribeDedup, FindKey, KeyFound, KeyedCounts, RememberedKey, TopicDedup,
};
pub use exceptions::{OriginalRecord, PublishExceptions, RecordException, RecordFate};
pub use explain::{Explain, Explanation, Wait, WaitId, WaitsFor};
pub use failing::{
    AfterFailure, FailRecords, FailedRecord, FailingRecord, FailureOutcome, PartitionFailures, RecordsFailed,
    Verdict,
};
pub use failure::{Failure, GoAway};
pub use group::{
    CreateGroup, DeleteGroup, DescribeGroup, GroupDescription, GroupInfo, GroupList, GroupPartition,
    GroupReset, GroupStart, ListGroups, MemberInfo, MovedPosition, ResetGroup,
};
pub use hello::{Hello, PROTOCOL_VERSION, ServerLimits, Welcome};
pub use member::{
    AckRecords, Heartbeat, JoinGroup, LeaveGroup, PartitionAssigned, PartitionLost, PartitionRevoked,
    RecordsAcked, ReleasePartition,
};
pub use publish::{
    AckEntry, Grant, OpenProducer, ProducerOpened, Publish, PublishAck, PublishOpen, PublishRejected,
    Throttled,
};
pub use redelivery::{DescribeFailures, FailingPartition, GroupFailures, SetRedelivery};
pub use snapshot::{CreateSnapshot, SnapshotCreated};
pub use subscribe::{
    Deliver, Gap, GapReason, GrantRecords, PartitionEnded, PartitionStarted, StartAt, SubscribeOpen,
    SubscribePartition, UnsubscribePartition,
};
pub use topic::{
    AlterTopic, CreateTopic, DeleteTopic, DescribeTopic, Done, ListTopics, PartitionInfo, TopicDescription,
    TopicInfo, TopicList, TopicSettings,
};
pub use trim::{PartitionTrimmed, TrimBefore, TrimPartition};

/// Number a client gives a request, repeated in its response.
pub type RequestId = u32;

/// A message that is one frame.
pub trait Message: Sized {
    /// The kind of its frame.
    const KIND: FrameKind;

    /// Writes the body.
    fn encode(&self, out: &mut impl BufMut);

    /// Reads the body, all of it. `body` is what `reader` reads, for messages that keep slices of it.
    ///
    /// # Errors
    /// What is wrong, and at which byte of the body.
    fn decode(reader: &mut Reader<'_>, body: &Bytes) -> Result<Self, DecodeError>;

    /// The message as a whole frame.
    fn to_frame(&self) -> Bytes {
        let mut out = BytesMut::new();
        self.append_frame(&mut out);
        out.freeze()
    }

    /// Appends the message as a whole frame to `out`.
    fn append_frame(&self, out: &mut BytesMut) {
        let start = out.len();
        out.put_bytes(0, FRAME_HEADER_BYTES);
        self.encode(out);
        let body_bytes = out.len() - start - FRAME_HEADER_BYTES;
        let (_, mut header) = out.split_at_mut(start);
        put_header(Self::KIND, body_bytes, &mut header);
    }

    /// Decodes the body of a frame of this kind; nothing may be left over.
    ///
    /// # Errors
    /// What is wrong, and at which byte of the body.
    ///
    /// # Panics
    /// If the frame is of another kind: callers match on it first.
    fn from_frame(frame: &RawFrame) -> Result<Self, DecodeError> {
        assert!(frame.kind == Self::KIND, "the caller matched the frame's kind");
        let mut reader = Reader::new(&frame.body);
        let message = Self::decode(&mut reader, &frame.body)?;
        reader.finish()?;
        Ok(message)
    }
}
