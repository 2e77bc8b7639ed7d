//! How many requests of each control stream wait for the journal or for segments.

use std::collections::BTreeMap;

use weir_protocol::ErrorCode;

use crate::core::LaneId;
use crate::core::coordinator::Refusal;

/// Requests of one connection that may wait. Several times what a client of ours has under way; what a stalled disk makes
/// one client's requests cost is bounded by it.
pub const REQUESTS_WAITING_MAX: usize = 1024;

/// The requests that wait, by control stream. A stream that has ended is counted until its last one is done.
#[derive(Debug, Default)]
pub struct Requests(BTreeMap<LaneId, usize>);

impl Requests {
    /// Whether one more may come.
    ///
    /// # Errors
    /// [`ErrorCode::Throttled`] if as many wait as may.
    pub fn admit(&self, lane: LaneId) -> Result<(), Refusal> {
        if self.0.get(&lane).is_none_or(|waiting| *waiting < REQUESTS_WAITING_MAX) {
            return Ok(());
        }
        let detail = format!("{REQUESTS_WAITING_MAX} requests of this connection wait for their answers");
        Err((ErrorCode::Throttled, detail))
    }

    /// One begins to wait.
    pub fn begun(&mut self, lane: LaneId) {
        *self.0.entry(lane).or_default() += 1;
    }

    /// One has waited.
    ///
    /// # Panics
    /// If none waits.
    pub fn ended(&mut self, lane: LaneId) {
        let waiting = self.0.get_mut(&lane).expect("only what has begun ends");
        *waiting -= 1;
        if *waiting == 0 {
            self.0.remove(&lane);
        }
    }
}
