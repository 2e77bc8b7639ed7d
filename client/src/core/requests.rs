//! Who waits for which answer on the control stream. Every request gets exactly one result: an answer, or the reason why
//! there is none; a request that may have been done is never made twice unless that is harmless.

use std::collections::BTreeMap;

use bytes::Bytes;
use weir_protocol::message::RequestId;

use crate::core::time::Mono;

/// Requests that may wait for an answer. Bounds the memory of a client whose broker is away.
pub const REQUESTS_MAX: usize = 256;

/// Whether a request may be made again when nobody knows if it was done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Repeat {
    /// Doing it twice is the same as doing it once.
    Harmless,
    /// Its second answer would be another.
    Never,
}

#[derive(Debug)]
struct Waiting<W> {
    waiter: W,
    frame: Bytes,
    repeat: Repeat,
    deadline: Mono,
    is_sent: bool,
}

/// Requests by number. `W` is what the driver wants back with the answer.
#[derive(Debug)]
pub struct Requests<W> {
    next: RequestId,
    waiting: BTreeMap<RequestId, Waiting<W>>,
}

impl<W> Default for Requests<W> {
    fn default() -> Self {
        Self { next: 1, waiting: BTreeMap::new() }
    }
}

impl<W> Requests<W> {
    /// Takes a request; `frame` makes its bytes from its number. It must have its answer before `deadline`.
    ///
    /// # Errors
    /// The waiter, if [`REQUESTS_MAX`] wait already.
    pub fn add(
        &mut self,
        frame: impl FnOnce(RequestId) -> Bytes,
        repeat: Repeat,
        deadline: Mono,
        waiter: W,
    ) -> Result<(), W> {
        if self.waiting.len() >= REQUESTS_MAX {
            return Err(waiter);
        }
        while self.next == 0 || self.waiting.contains_key(&self.next) {
            self.next = self.next.wrapping_add(1);
        }
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        let waiting = Waiting { waiter, frame: frame(number), repeat, deadline, is_sent: false };
        self.waiting.insert(number, waiting);
        Ok(())
    }

    /// The frames that have not been sent on this connection, in order of number. They count as sent now.
    pub fn unsent(&mut self) -> impl Iterator<Item = Bytes> + '_ {
        self.waiting.values_mut().filter(|waiting| !waiting.is_sent).map(|waiting| {
            waiting.is_sent = true;
            waiting.frame.clone()
        })
    }

    /// Who waits for this answer. Nobody if it came before, or too late.
    pub fn answered(&mut self, request: RequestId) -> Option<W> {
        self.waiting.remove(&request).map(|waiting| waiting.waiter)
    }

    /// The connection is gone. Returns who waits for a request that may have been done and cannot be repeated; the others are
    /// sent again on the next connection.
    pub fn connection_lost(&mut self) -> Vec<W> {
        let unknown = |waiting: &Waiting<W>| waiting.is_sent && waiting.repeat == Repeat::Never;
        let failed = self.remove_if(unknown);
        self.waiting.values_mut().for_each(|waiting| waiting.is_sent = false);
        failed
    }

    /// Who has waited too long, and whether the request may have been done.
    pub fn expire(&mut self, now: Mono) -> Vec<(W, bool)> {
        let late: Vec<RequestId> = self
            .waiting
            .iter()
            .filter(|(_, waiting)| waiting.deadline <= now)
            .map(|(number, _)| *number)
            .collect();
        let removed = late.into_iter().filter_map(|number| self.waiting.remove(&number));
        removed.map(|waiting| (waiting.waiter, waiting.is_sent)).collect()
    }

    /// When [`Requests::expire`] has something to do next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Mono> {
        self.waiting.values().map(|waiting| waiting.deadline).min()
    }

    /// Whether nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Everybody who waits: there will be no answers any more.
    pub fn fail_all(&mut self) -> Vec<W> {
        self.remove_if(|_| true)
    }

    fn remove_if(&mut self, condition: impl Fn(&Waiting<W>) -> bool) -> Vec<W> {
        let removed = self.waiting.extract_if(.., |_, waiting| condition(waiting));
        removed.map(|(_, waiting)| waiting.waiter).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(number: RequestId) -> Bytes {
        Bytes::copy_from_slice(&number.to_le_bytes())
    }

    fn with(names: &[(&'static str, Repeat)]) -> Requests<&'static str> {
        let mut requests = Requests::default();
        for (name, repeat) in names {
            requests.add(frame, *repeat, Mono::ZERO, *name).unwrap();
        }
        requests
    }

    #[test]
    fn answers_find_who_waits_in_any_order_and_only_once() {
        let mut requests = with(&[("a", Repeat::Harmless), ("b", Repeat::Harmless)]);
        assert_eq!(requests.unsent().count(), 2);
        assert_eq!(requests.unsent().count(), 0);
        assert_eq!(requests.answered(2), Some("b"));
        assert_eq!(requests.answered(2), None);
        assert_eq!(requests.answered(1), Some("a"));
    }

    #[test]
    fn a_lost_connection_repeats_what_is_harmless_and_fails_what_may_have_been_done() {
        let mut requests = with(&[("list", Repeat::Harmless), ("create", Repeat::Never)]);
        assert_eq!(requests.unsent().count(), 2);
        requests.add(frame, Repeat::Never, Mono::ZERO, "unsent").unwrap();
        assert_eq!(requests.connection_lost(), ["create"]);
        let again: Vec<Bytes> = requests.unsent().collect();
        assert_eq!(again, [frame(1), frame(3)]);
    }

    #[test]
    fn waiting_ends_at_the_deadline() {
        let mut requests = with(&[("a", Repeat::Never)]);
        assert_eq!(requests.next_deadline(), Some(Mono::ZERO));
        assert_eq!(requests.expire(Mono::ZERO), [("a", false)]);
        assert!(requests.is_empty());
    }

    #[test]
    fn the_number_of_waiting_requests_is_bounded() {
        let mut requests = Requests::default();
        for _ in 0..REQUESTS_MAX {
            requests.add(frame, Repeat::Never, Mono::ZERO, ()).unwrap();
        }
        assert!(requests.add(frame, Repeat::Never, Mono::ZERO, ()).is_err());
        assert_eq!(requests.fail_all().len(), REQUESTS_MAX);
    }
}
