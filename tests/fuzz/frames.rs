//! Frames and messages: what is understood can be said again, and it does not matter how the bytes arrive.

use std::fmt::Debug;

use bytes::Bytes;
use harness::fuzz::outcome;
use weir_broker::core::deframe::{Deframer, Found};
use weir_broker::pool::BufferPool;
use weir_protocol::frame::{FRAME_HEADER_BYTES, FrameKind, RawFrame, take_frame};
use weir_protocol::message::{
    AckRecords, AlterTopic, ClaimProducer, CreateGroup, CreateSnapshot, CreateTopic, DedupDescription,
    DeleteGroup, DeleteTopic, Deliver, DescribeDedup, DescribeFailures, DescribeGroup, DescribeTopic, Done,
    Explain, Explanation, FailRecords, Failure, FindKey, Gap, GoAway, Grant, GrantRecords, GroupDescription,
    GroupFailures, GroupList, GroupReset, Heartbeat, Hello, JoinGroup, KeyFound, LeaveGroup, ListGroups,
    ListTopics, Message, OpenProducer, PartitionAssigned, PartitionEnded, PartitionFailures, PartitionLost,
    PartitionRevoked, PartitionStarted, PartitionTrimmed, ProducerOpened, Publish, PublishAck,
    PublishExceptions, PublishOpen, PublishRejected, RecordsAcked, RecordsFailed, ReleasePartition,
    ResetGroup, SetRedelivery, SnapshotCreated, SubscribeOpen, SubscribePartition, Throttled,
    TopicDescription, TopicInfo, TopicList, TrimPartition, UnsubscribePartition, Welcome,
};

use crate::kind;

/// Longest body that is let in.
const BODY_BYTES_MAX: u32 = 1 << 16;

pub(crate) fn check(input: &[u8]) -> u64 {
    let mut reached = Vec::new();
    let mut rest = Bytes::copy_from_slice(input);
    let mut frames = Vec::new();
    let end = loop {
        match take_frame(&mut rest, BODY_BYTES_MAX) {
            Ok(Some(frame)) => {
                reached.push((frame.kind, decode(&frame)));
                frames.push(frame);
            }
            Ok(None) => break None,
            Err(error) => break Some(kind(&error)),
        }
    };
    for size in [1, 3, 64] {
        assert_eq!(in_pieces(input, size), (frames.clone(), end.is_some()), "in pieces of {size}");
    }
    reached.truncate(4);
    outcome((reached, end))
}

/// The frames that are found if the bytes arrive in pieces, and whether there is something wrong behind them.
fn in_pieces(input: &[u8], size: usize) -> (Vec<RawFrame>, bool) {
    let pool = BufferPool::new(BODY_BYTES_MAX as usize);
    let mut deframer = Deframer::default();
    let mut frames = Vec::new();
    for piece in input.chunks(size) {
        let mut piece = Bytes::copy_from_slice(piece);
        loop {
            match deframer.next(&mut piece, BODY_BYTES_MAX, &pool) {
                Ok(Found::Header(_)) => {}
                Ok(Found::Frame(frame)) => frames.push(frame),
                Ok(Found::Nothing) => break,
                Err(_) => return (frames, true),
            }
        }
    }
    (frames, false)
}

/// Decodes a message and says it again. Gives what was wrong with it.
fn again<M: Message + Debug + PartialEq>(frame: &RawFrame) -> Option<String> {
    let message = match M::from_frame(frame) {
        Ok(message) => message,
        Err(error) => return Some(kind(&error)),
    };
    let mut said = message.to_frame();
    assert!(said.len() <= FRAME_HEADER_BYTES + frame.body.len(), "it is said with more bytes than came");
    let frame =
        take_frame(&mut said, BODY_BYTES_MAX).expect("its own words are understood").expect("all of it");
    assert_eq!(M::from_frame(&frame).as_ref(), Ok(&message), "what it says is what it understood");
    None
}

fn decode(frame: &RawFrame) -> Option<String> {
    match frame.kind {
        FrameKind::Hello => again::<Hello>(frame),
        FrameKind::Welcome => again::<Welcome>(frame),
        FrameKind::Failure => again::<Failure>(frame),
        FrameKind::GoAway => again::<GoAway>(frame),
        FrameKind::CreateTopic => again::<CreateTopic>(frame),
        FrameKind::AlterTopic => again::<AlterTopic>(frame),
        FrameKind::DeleteTopic => again::<DeleteTopic>(frame),
        FrameKind::ListTopics => again::<ListTopics>(frame),
        FrameKind::DescribeTopic => again::<DescribeTopic>(frame),
        FrameKind::TrimPartition => again::<TrimPartition>(frame),
        FrameKind::Done => again::<Done>(frame),
        FrameKind::TopicInfo => again::<TopicInfo>(frame),
        FrameKind::TopicList => again::<TopicList>(frame),
        FrameKind::TopicDescription => again::<TopicDescription>(frame),
        FrameKind::PartitionTrimmed => again::<PartitionTrimmed>(frame),
        FrameKind::OpenProducer => again::<OpenProducer>(frame),
        FrameKind::ProducerOpened => again::<ProducerOpened>(frame),
        FrameKind::ClaimProducer => again::<ClaimProducer>(frame),
        FrameKind::Explain => again::<Explain>(frame),
        FrameKind::Explanation => again::<Explanation>(frame),
        FrameKind::CreateSnapshot => again::<CreateSnapshot>(frame),
        FrameKind::SnapshotCreated => again::<SnapshotCreated>(frame),
        FrameKind::PublishOpen => again::<PublishOpen>(frame),
        FrameKind::Publish => again::<Publish>(frame),
        FrameKind::PublishAck => again::<PublishAck>(frame),
        FrameKind::PublishRejected => again::<PublishRejected>(frame),
        FrameKind::Grant => again::<Grant>(frame),
        FrameKind::Throttled => again::<Throttled>(frame),
        FrameKind::SubscribeOpen => again::<SubscribeOpen>(frame),
        FrameKind::SubscribePartition => again::<SubscribePartition>(frame),
        FrameKind::PartitionStarted => again::<PartitionStarted>(frame),
        FrameKind::Deliver => again::<Deliver>(frame),
        FrameKind::Gap => again::<Gap>(frame),
        FrameKind::UnsubscribePartition => again::<UnsubscribePartition>(frame),
        FrameKind::GrantRecords => again::<GrantRecords>(frame),
        FrameKind::PartitionEnded => again::<PartitionEnded>(frame),
        FrameKind::PublishExceptions => again::<PublishExceptions>(frame),
        FrameKind::CreateGroup => again::<CreateGroup>(frame),
        FrameKind::DeleteGroup => again::<DeleteGroup>(frame),
        FrameKind::ResetGroup => again::<ResetGroup>(frame),
        FrameKind::ListGroups => again::<ListGroups>(frame),
        FrameKind::DescribeGroup => again::<DescribeGroup>(frame),
        FrameKind::GroupReset => again::<GroupReset>(frame),
        FrameKind::GroupList => again::<GroupList>(frame),
        FrameKind::GroupDescription => again::<GroupDescription>(frame),
        FrameKind::JoinGroup => again::<JoinGroup>(frame),
        FrameKind::Heartbeat => again::<Heartbeat>(frame),
        FrameKind::PartitionAssigned => again::<PartitionAssigned>(frame),
        FrameKind::PartitionRevoked => again::<PartitionRevoked>(frame),
        FrameKind::ReleasePartition => again::<ReleasePartition>(frame),
        FrameKind::PartitionLost => again::<PartitionLost>(frame),
        FrameKind::AckRecords => again::<AckRecords>(frame),
        FrameKind::RecordsAcked => again::<RecordsAcked>(frame),
        FrameKind::LeaveGroup => again::<LeaveGroup>(frame),
        FrameKind::FailRecords => again::<FailRecords>(frame),
        FrameKind::RecordsFailed => again::<RecordsFailed>(frame),
        FrameKind::PartitionFailures => again::<PartitionFailures>(frame),
        FrameKind::SetRedelivery => again::<SetRedelivery>(frame),
        FrameKind::DescribeFailures => again::<DescribeFailures>(frame),
        FrameKind::GroupFailures => again::<GroupFailures>(frame),
        FrameKind::FindKey => again::<FindKey>(frame),
        FrameKind::KeyFound => again::<KeyFound>(frame),
        FrameKind::DescribeDedup => again::<DescribeDedup>(frame),
        FrameKind::DedupDescription => again::<DedupDescription>(frame),
    }
}
