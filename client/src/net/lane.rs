//! What lanes for publishing and for reading have in common.

use std::time::Duration;

use weir_protocol::DecodeError;
use weir_protocol::message::Failure;

use crate::core::producer::Violation;
use crate::net::frames::FrameError;

/// Lanes of one producer or consumer, whatever the broker allows.
pub(crate) const LANES_MAX: u32 = 64;

/// Pause before a lane that failed alone is opened again.
pub(crate) const REOPEN_PAUSE: Duration = Duration::from_millis(200);

/// How long a lane that cannot be written to is still read: why the broker stopped listening comes on the other half.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Why a lane ended.
#[derive(Debug)]
pub(crate) enum LaneEnd {
    /// The stream is gone, probably with the connection.
    Connection,
    /// The broker gave the lane up.
    Refused(Failure),
    /// The broker broke the protocol.
    Violated(String),
    /// Nothing more is wanted of it.
    Done,
}

impl From<FrameError> for LaneEnd {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Read(_) | FrameError::Cut => Self::Connection,
            FrameError::Decode(error) => Self::Violated(error.to_string()),
        }
    }
}

impl From<DecodeError> for LaneEnd {
    fn from(error: DecodeError) -> Self {
        Self::Violated(error.to_string())
    }
}

impl From<Violation> for LaneEnd {
    fn from(violation: Violation) -> Self {
        Self::Violated(violation.to_string())
    }
}

/// Reads and writes a lane until one of the two has ended.
pub(crate) async fn run_halves(
    receive: impl Future<Output = Result<(), LaneEnd>>,
    transmit: impl Future<Output = Result<LaneEnd, LaneEnd>>,
) -> Result<LaneEnd, LaneEnd> {
    let transmit = async {
        let end = transmit.await;
        if matches!(end, Err(LaneEnd::Connection)) {
            // Why the broker stopped reading comes on the other half.
            tokio::time::sleep(LAST_WORDS).await;
        }
        end
    };
    tokio::select! {
        biased;
        end = receive => end.map(|()| LaneEnd::Connection),
        end = transmit => end,
    }
}
