//! What a client hears: frames on its control stream and its lanes.

use bytes::Bytes;
use weir_broker::core::deframe::Found;
use weir_broker::core::{ConnectionId, StreamId};
use weir_protocol::frame::{FrameKind, RawFrame};
use weir_protocol::limits::FRAME_BYTES_MAX;
use weir_protocol::message::{Failure, Message, Welcome};
use weir_protocol::read::Reader;

use super::member::MEMBER_LANE;
use super::{App, Ask, Client, Context, State};
use crate::network::Arrival;

impl Client {
    /// Something arrives.
    pub(crate) fn arrived(&mut self, id: ConnectionId, arrival: Arrival, context: &mut Context<'_>) {
        let State::Open(peer) = &mut self.state else { return };
        if peer.id != id {
            return;
        }
        match arrival {
            Arrival::Lost => self.lost(context),
            Arrival::End(stream) => {
                if let Some(lane) = peer.lanes.remove(&stream) {
                    self.lane_ended(lane, context);
                }
            }
            Arrival::Bytes(stream, bytes) => self.heard(stream, bytes, context),
        }
    }

    fn heard(&mut self, stream: StreamId, mut bytes: Bytes, context: &mut Context<'_>) {
        loop {
            let State::Open(peer) = &mut self.state else { return };
            let deframer = peer.streams.entry(stream).or_default();
            match deframer.next(&mut bytes, FRAME_BYTES_MAX, &self.pool) {
                Ok(Found::Nothing) => return,
                Ok(Found::Header(_)) => {}
                Ok(Found::Frame(frame)) => {
                    if let Err(what) = self.frame(stream, &frame, context) {
                        context.defect(|| format!("a client refuses what the broker says: {what}"));
                        return;
                    }
                }
                Err(error) => return context.defect(|| format!("no frame on stream {}: {error}", stream.0)),
            }
        }
    }

    fn frame(&mut self, stream: StreamId, frame: &RawFrame, context: &mut Context<'_>) -> Result<(), String> {
        let State::Open(peer) = &mut self.state else { return Ok(()) };
        if stream == StreamId(0) {
            return self.control(frame, context);
        }
        let Some(lane) = peer.lanes.get(&stream).copied() else { return Ok(()) };
        if let (App::Read(app), MEMBER_LANE) = (&mut self.app, lane) {
            return app.of_member(frame, context);
        }
        if frame.kind == FrameKind::Failure {
            let failure = Failure::from_frame(frame).map_err(|error| error.to_string())?;
            return Err(format!("a lane was refused: {failure:?}"));
        }
        let credit = peer.credit_of(stream);
        match &mut self.app {
            App::Publish(app) => app.frame((lane, credit), frame, context),
            App::Read(app) => app.frame((lane, credit), frame, context),
            App::Topics(_) => Err("a lane of a client that has none".to_owned()),
        }
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "every other answer begins with the number of its request"
    )]
    fn control(&mut self, frame: &RawFrame, context: &mut Context<'_>) -> Result<(), String> {
        let State::Open(peer) = &mut self.state else { return Ok(()) };
        match frame.kind {
            FrameKind::Welcome => {
                let welcome = Welcome::from_frame(frame).map_err(|error| error.to_string())?;
                peer.greeted = Some(welcome.limits);
                self.link.connected();
                match &mut self.app {
                    App::Publish(app) => app.connected(&welcome.limits),
                    App::Read(app) => app.connected(&welcome.limits),
                    App::Topics(_) => {}
                }
            }
            FrameKind::GoAway => {
                peer.leaving = true;
                self.link.leaving();
            }
            _ => {
                let request = Reader::new(&frame.body).u32().map_err(|error| error.to_string())?;
                match (self.requests.answered(request), &mut self.app) {
                    (Some(Ask::Identity), App::Publish(app)) => {
                        app.identified(frame, peer.greeted.as_ref(), context)?;
                    }
                    (Some(Ask::Topic), App::Topics(app)) => app.answered(frame, context)?,
                    (_, _) => {}
                }
            }
        }
        Ok(())
    }
}
