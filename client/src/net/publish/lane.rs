//! A lane of a producer: batches out, results in.

use std::time::Duration;

use bytes::BufMut as _;
use quinn::{RecvStream, SendStream};
use weir_protocol::ErrorClass;
use weir_protocol::frame::FrameKind;
use weir_protocol::limits::CONTROL_FRAME_BYTES_MAX;
use weir_protocol::message::{
    Failure, Grant, Message as _, Publish, PublishAck, PublishExceptions, PublishOpen, PublishRejected,
    Throttled,
};

use crate::core::producer::{LaneId, Outgoing, OutgoingContent, Why};
use crate::net::frames::{FrameReader, Pieces};
use crate::net::lane::{LaneEnd, REOPEN_PAUSE, run_halves};
use crate::net::publish::ProducerShared;
use crate::net::shared::{Live, lock};

/// Keeps a lane open while the connection lasts.
pub(super) async fn keep_lane(shared: &ProducerShared, live: &Live, lane: LaneId) {
    loop {
        let Some(notify) = shared.lanes.get(lane.0 as usize) else { return };
        while !lock(&shared.state).machine.is_lane_needed(lane) {
            notify.notified().await;
        }
        if live.leaving.is_cancelled() {
            return;
        }
        let end = {
            let _under_way = live.publishing.token();
            match run_lane(shared, live, lane).await {
                Ok(never) => never,
                Err(end) => end,
            }
        };
        let now = shared.client.now();
        shared.with(|state, _| state.machine.lane_lost(lane, now));
        match end {
            LaneEnd::Connection if live.connection.close_reason().is_some() => return,
            LaneEnd::Done => return,
            LaneEnd::Connection => {}
            LaneEnd::Violated(what) => return live.violated(&what),
            LaneEnd::Refused(failure) if failure.code.class() == ErrorClass::Fix => {
                let why = Why::Rejected { code: failure.code, detail: failure.detail };
                return shared.end(&why);
            }
            LaneEnd::Refused(failure) => {
                tracing::debug!(
                    code = failure.code.number(),
                    detail = failure.detail,
                    "the broker gave a lane up"
                );
                let advised = Duration::from_millis(u64::from(failure.retry_after_ms));
                tokio::time::sleep(advised).await;
            }
        }
        tokio::time::sleep(REOPEN_PAUSE).await;
    }
}

/// Opens a lane's stream and uses it until it ends.
async fn run_lane(shared: &ProducerShared, live: &Live, lane: LaneId) -> Result<LaneEnd, LaneEnd> {
    let (mut send, recv) = live.connection.open_bi().await.map_err(|_gone| LaneEnd::Connection)?;
    let topic = lock(&shared.state).machine.options().topic;
    let open = PublishOpen { topic, durability: shared.durability };
    send.write_all(&open.to_frame()).await.map_err(|_gone| LaneEnd::Connection)?;
    shared.with(|state, _| state.machine.lane_opened(lane));
    run_halves(receive(shared, lane, recv), transmit(shared, live, lane, &mut send)).await
}

/// Writes batches as the machine lets them go.
async fn transmit(
    shared: &ProducerShared,
    live: &Live,
    lane: LaneId,
    send: &mut SendStream,
) -> Result<LaneEnd, LaneEnd> {
    let notify = shared.lanes.get(lane.0 as usize).ok_or(LaneEnd::Connection)?;
    let mut taken = Vec::new();
    let mut pieces = Pieces::default();
    loop {
        if live.leaving.is_cancelled() && lock(&shared.state).machine.is_lane_idle(lane) {
            return Ok(LaneEnd::Done);
        }
        if !live.leaving.is_cancelled() {
            lock(&shared.state).machine.take(lane, &mut taken);
        }
        if taken.is_empty() {
            tokio::select! {
                () = notify.notified() => {}
                () = live.leaving.cancelled(), if !live.leaving.is_cancelled() => {}
            }
            continue;
        }
        for outgoing in taken.drain(..) {
            put(shared, lane, outgoing, &mut pieces);
        }
        let mut chunks = pieces.take();
        send.write_all_chunks(&mut chunks).await.map_err(|_gone| LaneEnd::Connection)?;
    }
}

/// Seals a batch if need be and adds its frame.
fn put(shared: &ProducerShared, lane: LaneId, mut outgoing: Outgoing, pieces: &mut Pieces) {
    let acked_below = outgoing.acked_below;
    let content = std::mem::replace(&mut outgoing.content, OutgoingContent::Taken);
    let batch = match content {
        OutgoingContent::Sealed(batch) => batch,
        OutgoingContent::Unsealed(builder, identity) => {
            let batch = builder.finish(&identity, shared.compression);
            if !shared.with(|state, out| state.machine.sealed(lane, &mut outgoing, &batch, out)) {
                return;
            }
            batch
        }
        OutgoingContent::Taken => return,
    };
    let publish = Publish { acked_below, batch };
    pieces.small().put_slice(&publish.front());
    pieces.share(publish.batch.bytes());
}

/// Reads what the broker says on a lane.
#[expect(clippy::wildcard_enum_match_arm, reason = "all other kinds break the protocol")]
async fn receive(shared: &ProducerShared, lane: LaneId, recv: RecvStream) -> Result<(), LaneEnd> {
    let mut frames = FrameReader::new(recv, CONTROL_FRAME_BYTES_MAX, None);
    while let Some(frame) = frames.next().await? {
        match frame.kind {
            FrameKind::Grant => {
                let grant = Grant::from_frame(&frame)?;
                shared.with(|state, _| state.machine.granted(lane, grant.limit_bytes));
            }
            FrameKind::Throttled => {
                let throttled = Throttled::from_frame(&frame)?;
                tracing::debug!(retry_after_ms = throttled.retry_after_ms, "the quota is used up");
                shared.with(|state, _| state.machine.throttled(lane));
            }
            FrameKind::PublishAck => {
                let ack = PublishAck::from_frame(&frame)?;
                let now = shared.client.now();
                shared.with(|state, out| {
                    ack.entries.iter().try_for_each(|entry| state.machine.acked(lane, entry, now, out))
                })?;
            }
            FrameKind::PublishExceptions => {
                let told = PublishExceptions::from_frame(&frame)?;
                shared.with(|state, _| state.machine.excepted(lane, told))?;
            }
            FrameKind::PublishRejected => {
                let rejected = PublishRejected::from_frame(&frame)?;
                tracing::debug!(
                    code = rejected.code.number(),
                    detail = rejected.detail,
                    "a batch was refused"
                );
                let now = shared.client.now();
                shared.with(|state, out| state.machine.rejected(lane, rejected, now, out))?;
            }
            FrameKind::Failure => return Err(LaneEnd::Refused(Failure::from_frame(&frame)?)),
            other => return Err(LaneEnd::Violated(format!("{other:?} on a publishing lane"))),
        }
    }
    Ok(())
}
