//! Notices that a peer has gone silent: something was sent, and nothing came back for too long.
//!
//! A process that was killed says no goodbye. The transport would wait for its idle time-out of 30 s; but a peer that is
//! alive confirms what it receives within milliseconds, so a few seconds of silence after sending say enough.

use std::time::Duration;

use crate::core::time::Mono;

/// Silence after which a peer is taken for gone.
pub const SILENCE_MAX: Duration = Duration::from_secs(2);

/// Compares how many datagrams were sent and received since the last look.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silence {
    sent: u64,
    received: u64,
    /// Since when something has been sent without anything coming back.
    unanswered_since: Option<Mono>,
}

impl Silence {
    /// Takes a look at the counters. Says whether the peer is gone.
    pub fn observe(&mut self, now: Mono, sent: u64, received: u64) -> bool {
        if received > self.received {
            self.unanswered_since = None;
        } else if sent > self.sent {
            self.unanswered_since.get_or_insert(now);
        }
        self.sent = sent;
        self.received = received;
        self.unanswered_since.is_some_and(|since| now.since(since) >= SILENCE_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Mono {
        Mono::new(Duration::from_secs(seconds))
    }

    #[test]
    fn silence_counts_only_after_something_was_sent() {
        let mut silence = Silence::default();
        assert!(!silence.observe(at(0), 5, 5));
        assert!(!silence.observe(at(100), 5, 5), "nothing was asked");
        assert!(!silence.observe(at(101), 6, 5));
        assert!(!silence.observe(at(102), 9, 5));
        assert!(silence.observe(at(103), 9, 5));
    }

    #[test]
    fn any_answer_ends_the_silence() {
        let mut silence = Silence::default();
        assert!(!silence.observe(at(0), 5, 5));
        assert!(!silence.observe(at(1), 6, 5));
        assert!(!silence.observe(at(2), 7, 6));
        assert!(!silence.observe(at(4), 8, 6));
        assert!(!silence.observe(at(5), 9, 6));
        assert!(silence.observe(at(6), 9, 6));
    }
}
