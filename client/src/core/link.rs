//! The states of the connection to a broker: when to try, when to wait, when to give up.

use std::time::Duration;

use crate::core::backoff;
use crate::core::random::Random;
use crate::core::time::Mono;
use crate::options::{Breaker, Retry};

/// Why a connection could not be made or was lost.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Cause {
    /// The facts, for people.
    pub text: String,
    /// Another try will not help: the certificate is wrong, or there is no version in common.
    pub is_final: bool,
    /// The broker wants to be left alone for so long.
    pub retry_after: Duration,
}

/// How the connection is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Phase {
    /// A connection is being made.
    Connecting,
    /// Connected.
    Ready,
    /// The broker will close the connection; what is under way is finished.
    Leaving,
    /// The next try comes at this moment.
    Waiting(Mono),
    /// The breaker is open until this moment.
    CircuitOpen(Mono),
    /// Closed for good.
    Closed,
}

/// What the driver does next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Next {
    /// Make a connection.
    Connect,
    /// Ask again at this moment.
    Wait(Mono),
    /// Nothing more.
    Stop,
}

/// The machine of one connection.
#[derive(Debug)]
pub struct Link {
    phase: Phase,
    retry: Retry,
    breaker: Option<Breaker>,
    /// Failed tries in a row.
    failures: u32,
    /// When the first of them began.
    failing_since: Option<Mono>,
    was_ready: bool,
    cause: Option<Cause>,
    random: Random,
}

impl Link {
    /// A link that has not tried yet.
    #[must_use]
    pub const fn new(retry: Retry, breaker: Option<Breaker>, seed: u64) -> Self {
        Self {
            phase: Phase::Waiting(Mono::ZERO),
            retry,
            breaker,
            failures: 0,
            failing_since: None,
            was_ready: false,
            cause: None,
            random: Random::new(seed),
        }
    }

    /// How the connection is.
    #[must_use]
    pub const fn phase(&self) -> &Phase {
        &self.phase
    }

    /// Failed tries in a row.
    #[must_use]
    pub const fn failures(&self) -> u32 {
        self.failures
    }

    /// For how long tries have failed.
    #[must_use]
    pub fn failing_for(&self, now: Mono) -> Duration {
        self.failing_since.map_or(Duration::ZERO, |since| now.since(since))
    }

    /// Why the last try failed or the last connection was lost.
    #[must_use]
    pub const fn cause(&self) -> Option<&Cause> {
        self.cause.as_ref()
    }

    /// Whether there ever was a connection.
    #[must_use]
    pub const fn was_ready(&self) -> bool {
        self.was_ready
    }

    /// What to do now. After [`Next::Connect`] the driver reports [`Link::connected`] or [`Link::failed`].
    pub fn next(&mut self, now: Mono) -> Next {
        match self.phase {
            Phase::Waiting(until) | Phase::CircuitOpen(until) if now < until => Next::Wait(until),
            Phase::Waiting(_) | Phase::CircuitOpen(_) | Phase::Connecting => {
                self.phase = Phase::Connecting;
                self.failing_since.get_or_insert(now);
                Next::Connect
            }
            // A driver that asks while connected has lost the connection without noticing why.
            Phase::Ready | Phase::Leaving => Next::Wait(now),
            Phase::Closed => Next::Stop,
        }
    }

    /// A connection was made.
    pub fn connected(&mut self) {
        if self.phase != Phase::Closed {
            self.phase = Phase::Ready;
            self.failures = 0;
            self.failing_since = None;
            self.was_ready = true;
            self.cause = None;
        }
    }

    /// A try failed.
    pub fn failed(&mut self, now: Mono, cause: Cause) {
        if self.phase == Phase::Closed {
            return;
        }
        self.failures += 1;
        let advised = cause.retry_after;
        // Before the first connection a wrong certificate is a wrong URL: say so at once. Later the broker may be mended.
        let is_hopeless = cause.is_final && !self.was_ready;
        let is_given_up = self.retry.attempts.is_some_and(|attempts| self.failures >= attempts);
        self.cause = Some(cause);
        self.phase = if is_hopeless || is_given_up {
            Phase::Closed
        } else {
            match self.breaker {
                Some(breaker) if self.failures >= breaker.failures => {
                    Phase::CircuitOpen(now.after(breaker.cool_down))
                }
                _ => {
                    let delay = backoff::delay(&self.retry, self.failures, &mut self.random);
                    Phase::Waiting(now.after(delay.max(advised)))
                }
            }
        };
    }

    /// The broker said that it will leave.
    pub fn leaving(&mut self) {
        if self.phase == Phase::Ready {
            self.phase = Phase::Leaving;
        }
    }

    /// The connection is gone. The first new try comes after a short random delay: all other clients lost theirs too.
    pub fn lost(&mut self, now: Mono, cause: Cause) {
        if self.phase == Phase::Closed {
            return;
        }
        self.cause = Some(cause);
        self.failing_since = Some(now);
        self.phase = Phase::Waiting(now.after(backoff::delay(&self.retry, 1, &mut self.random)));
    }

    /// Closes for good.
    pub fn close(&mut self) {
        self.phase = Phase::Closed;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Mono = Mono::ZERO;

    fn retry() -> Retry {
        Retry::exponential(Duration::from_millis(100), Duration::from_millis(300))
    }

    fn cause(is_final: bool) -> Cause {
        Cause { text: "why".to_owned(), is_final, retry_after: Duration::ZERO }
    }

    fn at(ms: u64) -> Mono {
        NOW.after(Duration::from_millis(ms))
    }

    #[test]
    fn tries_come_with_growing_delays_and_start_over_after_a_success() {
        let mut link = Link::new(retry(), None, 1);
        assert_eq!(link.next(NOW), Next::Connect);
        link.failed(NOW, cause(false));
        assert_eq!(link.next(NOW), Next::Wait(at(100)));
        assert_eq!(link.next(at(100)), Next::Connect);
        link.failed(at(100), cause(false));
        assert_eq!(link.next(at(100)), Next::Wait(at(300)));
        assert_eq!(link.failing_for(at(300)), Duration::from_millis(300));
        assert_eq!(link.next(at(300)), Next::Connect);
        link.connected();
        assert_eq!((link.phase(), link.failures()), (&Phase::Ready, 0));
        link.lost(at(500), cause(false));
        assert_eq!(link.next(at(500)), Next::Wait(at(600)));
    }

    #[test]
    fn a_broker_that_wants_to_be_left_alone_is() {
        let mut link = Link::new(retry(), None, 1);
        link.next(NOW);
        link.failed(NOW, Cause { retry_after: Duration::from_secs(7), ..cause(false) });
        assert_eq!(link.next(at(6999)), Next::Wait(at(7000)));
        assert_eq!(link.next(at(7000)), Next::Connect);
    }

    #[test]
    fn a_wrong_certificate_ends_the_first_connection_but_not_a_later_one() {
        let mut link = Link::new(retry(), None, 1);
        link.next(NOW);
        link.failed(NOW, cause(true));
        assert_eq!(link.next(NOW), Next::Stop);

        let mut link = Link::new(retry(), None, 1);
        link.next(NOW);
        link.connected();
        link.lost(NOW, cause(false));
        link.next(at(100));
        link.failed(at(100), cause(true));
        assert!(matches!(link.next(at(100)), Next::Wait(_)));
    }

    #[test]
    fn the_breaker_opens_after_so_many_failures_and_lets_one_try_through_at_a_time() {
        let breaker = Breaker::open_after(2).cool_down(Duration::from_secs(5));
        let mut link = Link::new(retry(), Some(breaker), 1);
        link.next(NOW);
        link.failed(NOW, cause(false));
        assert!(matches!(link.phase(), Phase::Waiting(_)));
        link.next(at(100));
        link.failed(at(100), cause(false));
        assert_eq!(link.phase(), &Phase::CircuitOpen(at(5100)));
        assert_eq!(link.next(at(5100)), Next::Connect);
        link.failed(at(5100), cause(false));
        assert_eq!(link.phase(), &Phase::CircuitOpen(at(10_100)));
        link.next(at(10_100));
        link.connected();
        assert_eq!(link.phase(), &Phase::Ready);
    }

    #[test]
    fn tries_end_where_they_are_bounded_and_closing_is_for_good() {
        let mut link = Link::new(retry().attempts(2), None, 1);
        link.next(NOW);
        link.failed(NOW, cause(false));
        link.next(at(100));
        link.failed(at(100), cause(false));
        assert_eq!(link.next(at(100)), Next::Stop);
        link.connected();
        link.lost(at(100), cause(false));
        assert_eq!(link.phase(), &Phase::Closed);
    }
}
