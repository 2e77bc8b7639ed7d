//! Offsets that do not come: told on stderr, and remembered where records that should be there are missing.

use weir_client::{ConsumerEvent, ConsumerEvents, GapReason};

use crate::chatter;
use crate::code::Code;
use crate::failure::{Exit, Failure};

/// Follows the events of a consumer.
#[derive(Debug)]
pub(crate) struct Gaps {
    events: ConsumerEvents,
    ended: bool,
    missing: u64,
}

impl Gaps {
    /// Follows these events.
    pub(crate) fn new(events: ConsumerEvents) -> Self {
        Self { events, ended: false, missing: 0 }
    }

    /// Waits for the next event and tells it; for ever once there can be none.
    ///
    /// # Cancel safety
    /// No event is lost.
    pub(crate) async fn watch(&mut self) {
        if self.ended {
            std::future::pending::<()>().await;
        }
        match self.events.recv().await {
            Some(event) => self.tell(&event),
            None => self.ended = true,
        }
    }

    /// Tells what is left once the consumer is gone.
    pub(crate) async fn rest(&mut self) {
        while !self.ended {
            self.watch().await;
        }
    }

    /// How reading ended.
    pub(crate) fn verdict(&self) -> Result<Exit, Failure> {
        if self.missing == 0 {
            return Ok(Exit::Done);
        }
        let text = format_args!("{} records are damaged on the broker and were left out", self.missing);
        Err(Failure::new(Exit::Partial, Code::Missing, text).help("'weir verify' examines a data directory"))
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "events and reasons of later clients are no damage")]
    fn tell(&mut self, event: &ConsumerEvent) {
        match event {
            ConsumerEvent::Reconnecting => chatter("weir: the connection was lost; waiting for the broker"),
            ConsumerEvent::Reconnected => chatter("weir: connected again"),
            ConsumerEvent::Missed(count) => {
                chatter(&format!("weir: {count} events came too fast to be told"))
            }
            ConsumerEvent::Gap { partition, from, to, reason } => match reason {
                GapReason::Corrupt => {
                    self.missing = self.missing.saturating_add(to.saturating_sub(*from));
                    let code = Code::Missing.text();
                    chatter(&format!("weir: {code} partition {partition}: offsets {from}..{to} are damaged"));
                }
                GapReason::Retention => {
                    chatter(&format!(
                        "weir: partition {partition}: offsets {from}..{to} were removed by retention"
                    ));
                }
                // Duplicates and the like: nothing that was sent is missing.
                _ => {}
            },
            _ => {}
        }
    }
}
