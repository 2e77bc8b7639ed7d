//! How many requests of each control stream wait for the journal or for segments.

use std::collections::BTreeMap;

use weir_protocol::ErrorCode;

use crate::core::LaneId;
use crate::core::answers::{Answers, REQUEST_BYTES};
use crate::core::coordinator::Refusal;

/// Requests of one connection that may wait. Several times what a client of ours has under way; what a stalled disk makes
/// one client's requests cost is bounded by it.
pub const REQUESTS_WAITING_MAX: usize = 1024;

/// The requests that wait, by control stream. A stream that has ended is counted until its last one is done.
#[derive(Debug)]
pub struct Requests {
    waiting: BTreeMap<LaneId, usize>,
    /// A request that waits keeps the memory for its answer.
    answers: Answers,
}

impl Requests {
    /// None waits.
    pub const fn new(answers: Answers) -> Self {
        Self { waiting: BTreeMap::new(), answers }
    }

    /// Whether one more may come.
    ///
    /// # Errors
    /// [`ErrorCode::Throttled`] if as many wait as may.
    pub fn admit(&self, lane: LaneId) -> Result<(), Refusal> {
        if self.waiting.get(&lane).is_none_or(|waiting| *waiting < REQUESTS_WAITING_MAX) {
            return Ok(());
        }
        let detail = format!("{REQUESTS_WAITING_MAX} requests of this connection wait for their answers");
        Err((ErrorCode::Throttled, detail))
    }

    /// One begins to wait.
    pub fn begun(&mut self, lane: LaneId) {
        *self.waiting.entry(lane).or_default() += 1;
        self.answers.wait(lane.connection, REQUEST_BYTES);
    }

    /// One has waited.
    ///
    /// # Panics
    /// If none waits.
    pub fn ended(&mut self, lane: LaneId) {
        let waiting = self.waiting.get_mut(&lane).expect("only what has begun ends");
        *waiting -= 1;
        if *waiting == 0 {
            self.waiting.remove(&lane);
        }
        self.answers.due(lane.connection, REQUEST_BYTES);
    }
}
