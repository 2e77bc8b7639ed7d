//! What a member hears from the broker.

use quinn::RecvStream;
use weir_protocol::frame::{FrameKind, RawFrame};
use weir_protocol::limits::CONTROL_FRAME_BYTES_MAX;
use weir_protocol::message::{
    Failure, Heartbeat, Message as _, PartitionAssigned, PartitionFailures, PartitionLost, PartitionRevoked,
    RecordsAcked, RecordsFailed,
};

use super::GroupShared;
use crate::net::frames::FrameReader;
use crate::net::lane::LaneEnd;

/// Reads what the broker says to the member.
pub(super) async fn receive(shared: &GroupShared, recv: RecvStream) -> Result<(), LaneEnd> {
    let mut frames = FrameReader::new(recv, CONTROL_FRAME_BYTES_MAX, None);
    while let Some(frame) = frames.next().await? {
        received(shared, &frame)?;
    }
    Ok(())
}

#[expect(clippy::wildcard_enum_match_arm, reason = "all other kinds break the protocol")]
fn received(shared: &GroupShared, frame: &RawFrame) -> Result<(), LaneEnd> {
    match frame.kind {
        FrameKind::Heartbeat => {
            let heartbeat = Heartbeat::from_frame(frame)?;
            let has_joined = shared.with(|machine| {
                let before = machine.is_joined();
                machine.answered(shared.now(), heartbeat);
                !before && machine.is_joined()
            });
            if has_joined {
                shared.changes.send_replace(());
                shared.wake.notify_one();
            }
        }
        FrameKind::PartitionAssigned => {
            let assigned = PartitionAssigned::from_frame(frame)?;
            // What has failed before may be due later.
            shared.speak(|machine| machine.assigned(shared.now(), assigned));
        }
        FrameKind::PartitionRevoked => {
            let revoked = PartitionRevoked::from_frame(frame)?;
            shared.speak(|machine| machine.revoked(shared.now(), &revoked));
        }
        FrameKind::PartitionLost => {
            let lost = PartitionLost::from_frame(frame)?;
            shared.with(|machine| machine.lost(&lost));
        }
        FrameKind::RecordsAcked => {
            let acked = RecordsAcked::from_frame(frame)?;
            shared.speak(|machine| machine.acked(&acked));
        }
        FrameKind::PartitionFailures => {
            let failures = PartitionFailures::from_frame(frame)?;
            shared.with(|machine| machine.failing(failures));
        }
        FrameKind::RecordsFailed => {
            let failed = RecordsFailed::from_frame(frame)?;
            shared.speak(|machine| machine.decided(shared.now(), &failed));
        }
        FrameKind::Failure => return Err(LaneEnd::Refused(Failure::from_frame(frame)?)),
        other => return Err(LaneEnd::Violated(format!("{other:?} on the stream of a member"))),
    }
    Ok(())
}
