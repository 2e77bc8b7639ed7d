//! Frames of requests and of members, as events.

use weir_protocol::ErrorCode;
use weir_protocol::frame::{FrameKind, RawFrame};
use weir_protocol::message::{
    AckRecords, AlterTopic, ClaimProducer, CreateGroup, CreateSnapshot, CreateTopic, DeleteGroup,
    DeleteTopic, DescribeDedup, DescribeFailures, DescribeGroup, DescribeTopic, Explain, FailRecords,
    FindKey, Heartbeat, LeaveGroup, ListGroups, ListTopics, Message, OpenProducer, ReleasePartition,
    ResetGroup, SetRedelivery, TrimPartition,
};

use super::{Bad, rule};
use crate::core::event::{FromMember, GroupRequest, Request};

/// What a member says on its stream, after it has joined.
#[expect(clippy::wildcard_enum_match_arm, reason = "all other kinds break the protocol")]
pub(super) fn from_member(frame: &RawFrame) -> Result<FromMember, Bad> {
    Ok(match frame.kind {
        FrameKind::Heartbeat => FromMember::Heartbeat(Heartbeat::from_frame(frame)?),
        FrameKind::ReleasePartition => FromMember::Release(ReleasePartition::from_frame(frame)?),
        FrameKind::AckRecords => FromMember::Ack(AckRecords::from_frame(frame)?),
        FrameKind::FailRecords => FromMember::Fail(FailRecords::from_frame(frame)?),
        FrameKind::LeaveGroup => {
            LeaveGroup::from_frame(frame)?;
            FromMember::Leave
        }
        kind => {
            let detail = format!("a {kind:?} frame has no place on a member stream");
            return Err(rule(ErrorCode::Protocol, &detail));
        }
    })
}

/// A request of a control stream.
#[expect(clippy::wildcard_enum_match_arm, reason = "all other kinds are none")]
pub(super) fn request(frame: &RawFrame) -> Result<Request, Bad> {
    if let Some(request) = about_group(frame)? {
        return Ok(Request::Group(request));
    }
    Ok(match frame.kind {
        FrameKind::CreateTopic => Request::Create(CreateTopic::from_frame(frame)?),
        FrameKind::AlterTopic => Request::Alter(AlterTopic::from_frame(frame)?),
        FrameKind::DeleteTopic => Request::Delete(DeleteTopic::from_frame(frame)?),
        FrameKind::ListTopics => Request::List(ListTopics::from_frame(frame)?),
        FrameKind::DescribeTopic => Request::Describe(DescribeTopic::from_frame(frame)?),
        FrameKind::TrimPartition => Request::Trim(TrimPartition::from_frame(frame)?),
        FrameKind::Explain => Request::Explain(Explain::from_frame(frame)?),
        FrameKind::FindKey => Request::FindKey(FindKey::from_frame(frame)?),
        FrameKind::DescribeDedup => Request::DescribeDedup(DescribeDedup::from_frame(frame)?),
        FrameKind::CreateSnapshot => Request::Snapshot(CreateSnapshot::from_frame(frame)?),
        FrameKind::OpenProducer => Request::OpenProducer(OpenProducer::from_frame(frame)?),
        FrameKind::ClaimProducer => Request::Claim(ClaimProducer::from_frame(frame)?),
        kind => return Err(rule(ErrorCode::Protocol, &format!("a {kind:?} frame is no request"))),
    })
}

/// A request about consumer groups, if it is one.
#[expect(clippy::wildcard_enum_match_arm, reason = "all other kinds are none")]
fn about_group(frame: &RawFrame) -> Result<Option<GroupRequest>, Bad> {
    Ok(Some(match frame.kind {
        FrameKind::CreateGroup => GroupRequest::Create(CreateGroup::from_frame(frame)?),
        FrameKind::DeleteGroup => GroupRequest::Delete(DeleteGroup::from_frame(frame)?),
        FrameKind::ResetGroup => GroupRequest::Reset(ResetGroup::from_frame(frame)?),
        FrameKind::ListGroups => GroupRequest::List(ListGroups::from_frame(frame)?),
        FrameKind::DescribeGroup => GroupRequest::Describe(DescribeGroup::from_frame(frame)?),
        FrameKind::SetRedelivery => GroupRequest::SetRedelivery(SetRedelivery::from_frame(frame)?),
        FrameKind::DescribeFailures => GroupRequest::DescribeFailures(DescribeFailures::from_frame(frame)?),
        _ => return Ok(None),
    }))
}
