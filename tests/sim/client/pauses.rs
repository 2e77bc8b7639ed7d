//! Lanes that failed alone: they are opened again after a pause.

use std::collections::BTreeMap;

use super::Context;
use crate::scheduler::MS;

/// As in the real client.
const PAUSE: u64 = 200 * MS;

/// Until when lanes pause.
#[derive(Debug, Default)]
pub(super) struct Pauses(BTreeMap<u32, u64>);

impl Pauses {
    /// A lane's stream has ended while the connection lasts.
    pub(super) fn begin(&mut self, lane: u32, now: u64) {
        self.0.insert(lane, now + PAUSE);
    }

    /// Whether a lane pauses. Its client is woken when it does not any more.
    pub(super) fn hold(&self, lane: u32, context: &mut Context<'_>) -> bool {
        let until = self.0.get(&lane).copied().filter(|until| *until > context.now);
        until.inspect(|until| context.wake(*until)).is_some()
    }

    /// Whether a lane has paused since its stream was lost.
    pub(super) fn knows(&self, lane: u32) -> bool {
        self.0.contains_key(&lane)
    }

    /// A lane is opened again.
    pub(super) fn end(&mut self, lane: u32) {
        self.0.remove(&lane);
    }

    /// Another connection was made.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}
