//! Snapshots: one at a time, under a name that cannot lead out of the directory for snapshots.

use weir_protocol::ErrorCode;
use weir_protocol::message::{CreateSnapshot, Message, SnapshotCreated};

use super::Node;
use crate::core::coordinator::{Refusal, check_name};
use crate::core::event::SnapshotMade;
use crate::core::{Actions, LaneId, Outgoing};

impl Node {
    /// A request to make a snapshot. It waits for those who write: everything they were given before is in it.
    pub(super) fn snapshot(
        &mut self,
        lane: LaneId,
        create: CreateSnapshot,
        actions: &mut Actions,
    ) -> Result<(), Refusal> {
        check_name(&create.name)?;
        if create.name.starts_with('.') {
            let detail = format!("{:?}: names of snapshots do not begin with a dot", create.name);
            return Err((ErrorCode::InvalidName, detail));
        }
        if self.snapshot.is_some() {
            return Err((ErrorCode::Throttled, "another snapshot is being made".to_owned()));
        }
        self.requests.begun(lane);
        self.snapshot = Some((lane, create.request));
        actions.snapshot = Some(create.name);
        Ok(())
    }

    /// The snapshot that was asked for was made, or could not be.
    pub(super) fn snapshot_ended(&mut self, made: Result<SnapshotMade, Refusal>, actions: &mut Actions) {
        let Some((lane, request)) = self.snapshot.take() else { return };
        self.requests.ended(lane);
        match made {
            Ok(SnapshotMade { directory, segments, bytes }) => {
                let length = directory.len() as u64;
                let is_told = self.answers.longer(lane.connection, length) >= length;
                let name = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
                let directory = if is_told { directory } else { name(&directory) };
                let created = SnapshotCreated { request, directory, segments, bytes };
                actions.outgoing.push(Outgoing::Frames(lane, vec![created.to_frame()]));
            }
            Err(refusal) => self.fail_request(lane, request, refusal, actions),
        }
    }
}
