//! What a broker says when something does not work out, and when it is about to leave.

use bytes::{BufMut, Bytes};

use crate::code::ErrorCode;
use crate::error::{DecodeError, Problem};
use crate::frame::FrameKind;
use crate::limits::TEXT_BYTES_MAX;
use crate::message::{Message, RequestId};
use crate::read::Reader;
use crate::write::Write;

/// A request was not done; or, with request 0, the stream it comes on cannot go on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Failure {
    /// The request, or 0 for the stream.
    pub request: RequestId,
    /// Why.
    pub code: ErrorCode,
    /// Milliseconds after which another try makes sense; 0 for no advice.
    pub retry_after_ms: u32,
    /// The facts, for people: names and numbers.
    pub detail: String,
}

/// The broker will leave: no new work, finish what is under way.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct GoAway {
    /// Why.
    pub code: ErrorCode,
    /// Milliseconds until the broker closes the connection.
    pub deadline_ms: u32,
}

/// Cuts text to what fits a message, at a character boundary.
pub(crate) fn bounded_text(text: &str) -> &str {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.split_at(end).0
}

/// Reads an error code; a number this version does not know is refused.
pub(crate) fn read_code(reader: &mut Reader<'_>) -> Result<ErrorCode, DecodeError> {
    let at = reader.position();
    let number = reader.u16()?;
    ErrorCode::from_number(number).ok_or_else(|| {
        DecodeError::new(at, Problem::Invalid { what: "error code", value: u64::from(number) })
    })
}

impl Message for Failure {
    const KIND: FrameKind = FrameKind::Failure;

    fn encode(&self, out: &mut impl BufMut) {
        out.put_u32_le(self.request);
        out.put_u16_le(self.code.number());
        out.put_u32_le(self.retry_after_ms);
        out.put_text(bounded_text(&self.detail));
    }

    fn decode(reader: &mut Reader<'_>, _body: &Bytes) -> Result<Self, DecodeError> {
        Ok(Self {
            request: reader.u32()?,
            code: read_code(reader)?,
            retry_after_ms: reader.u32()?,
            detail: reader.text("detail", TEXT_BYTES_MAX)?,
        })
    }
}

impl Message for GoAway {
    const KIND: FrameKind = FrameKind::GoAway;

    fn encode(&self, out: &mut impl BufMut) {
        out.put_u16_le(self.code.number());
        out.put_u32_le(self.deadline_ms);
    }

    fn decode(reader: &mut Reader<'_>, _body: &Bytes) -> Result<Self, DecodeError> {
        Ok(Self { code: read_code(reader)?, deadline_ms: reader.u32()? })
    }
}
