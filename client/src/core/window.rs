//! The bound on what a producer holds: `used` never exceeds `max`, and who waits gets room in order of arrival.

use std::collections::{BTreeMap, VecDeque};

/// A place in the queue of those who wait for room.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Ticket(u64);

/// Counts bytes and messages against their bounds.
///
/// A message larger than the whole window counts as the whole window, so that it passes alone.
#[derive(Debug)]
pub struct Window {
    bytes_max: u64,
    messages_max: u64,
    bytes: u64,
    messages: u64,
    waiting: VecDeque<(Ticket, u64)>,
    granted: BTreeMap<Ticket, u64>,
    /// Granted since the last call of `newly_granted`.
    news: Vec<Ticket>,
    next_ticket: u64,
}

impl Window {
    /// A window with nothing in it. A bound of 0 counts as 1.
    #[must_use]
    pub fn new(bytes_max: u64, messages_max: u64) -> Self {
        Self {
            bytes_max: bytes_max.max(1),
            messages_max: messages_max.max(1),
            bytes: 0,
            messages: 0,
            waiting: VecDeque::new(),
            granted: BTreeMap::new(),
            news: Vec::new(),
            next_ticket: 0,
        }
    }

    /// What a message of so many bytes counts for.
    #[must_use]
    pub fn cost(&self, bytes: usize) -> u64 {
        u64::try_from(bytes).unwrap_or(u64::MAX).clamp(1, self.bytes_max)
    }

    /// Bytes in use.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Messages in use.
    #[must_use]
    pub const fn messages(&self) -> u64 {
        self.messages
    }

    /// How many wait for room.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    const fn fits(&self, cost: u64) -> bool {
        self.messages < self.messages_max && cost <= self.bytes_max.saturating_sub(self.bytes)
    }

    /// Takes room for one message, unless there is none or others wait for it already.
    pub fn try_reserve(&mut self, cost: u64) -> bool {
        if !self.waiting.is_empty() || !self.fits(cost) {
            return false;
        }
        self.bytes += cost;
        self.messages += 1;
        true
    }

    /// Queues for room for one message. The ticket must be claimed or cancelled.
    pub fn wait(&mut self, cost: u64) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.waiting.push_back((ticket, cost));
        self.grant();
        ticket
    }

    /// Takes the room a ticket was granted. Says whether it was granted yet; if so the ticket is used up.
    pub fn claim(&mut self, ticket: Ticket) -> bool {
        self.granted.remove(&ticket).is_some()
    }

    /// Gives a ticket up, and the room if it was granted already. A ticket that was claimed is not known any more.
    pub fn cancel(&mut self, ticket: Ticket) {
        if let Some(cost) = self.granted.remove(&ticket) {
            self.release(cost, 1);
        } else {
            self.waiting.retain(|(waiting, _)| *waiting != ticket);
            self.grant();
        }
    }

    /// Gives room back.
    ///
    /// # Panics
    /// If more is given back than was taken.
    pub fn release(&mut self, cost: u64, messages: u64) {
        self.bytes = self.bytes.checked_sub(cost).expect("no more bytes come back than were taken");
        self.messages =
            self.messages.checked_sub(messages).expect("no more messages come back than were taken");
        self.grant();
    }

    /// Corrects what one message was reserved for to what it turned out to be. May exceed the bound by that message.
    pub fn adjust(&mut self, reserved: u64, actual: u64) {
        self.bytes = self.bytes.saturating_sub(reserved).saturating_add(actual);
        self.grant();
    }

    fn grant(&mut self) {
        while let Some((ticket, cost)) = self.waiting.front().copied() {
            if !self.fits(cost) {
                return;
            }
            self.bytes += cost;
            self.messages += 1;
            self.waiting.pop_front();
            self.granted.insert(ticket, cost);
            self.news.push(ticket);
        }
    }

    /// Whether tickets were granted that nobody has been told of.
    #[must_use]
    pub fn has_news(&self) -> bool {
        !self.news.is_empty()
    }

    /// The tickets that were granted since the last call: whoever holds them is to be woken.
    pub fn newly_granted(&mut self) -> std::vec::Drain<'_, Ticket> {
        self.news.drain(..)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn room_goes_to_who_waited_longest_even_if_a_smaller_one_would_fit() {
        let mut window = Window::new(100, 10);
        assert!(window.try_reserve(90));
        let large = window.wait(50);
        let small = window.wait(5);
        assert!(!window.try_reserve(1), "nobody overtakes the queue");
        window.release(20, 0);
        assert!(!window.claim(large));
        assert!(!window.claim(small));
        window.release(70, 1);
        assert_eq!(window.newly_granted().collect::<Vec<_>>(), [large, small]);
        assert!(window.claim(large));
        assert!(window.claim(small));
        assert_eq!(window.bytes(), 55);
    }

    #[test]
    fn a_cancelled_grant_goes_to_the_next() {
        let mut window = Window::new(10, 10);
        assert!(window.try_reserve(10));
        let first = window.wait(10);
        let second = window.wait(10);
        window.release(10, 1);
        window.cancel(first);
        assert!(window.claim(second));
        window.release(10, 1);
        assert_eq!((window.bytes(), window.messages()), (0, 0));
    }

    #[test]
    fn cancelling_the_first_in_the_queue_lets_a_smaller_one_pass() {
        let mut window = Window::new(10, 10);
        assert!(window.try_reserve(8));
        let large = window.wait(5);
        let small = window.wait(2);
        window.cancel(large);
        assert!(window.claim(small));
    }

    #[test]
    fn a_message_larger_than_the_window_passes_alone() {
        let mut window = Window::new(10, 10);
        let cost = window.cost(1000);
        assert!(window.try_reserve(cost));
        assert!(!window.try_reserve(1));
    }

    proptest! {
        #[test]
        fn used_never_exceeds_the_bound_and_all_comes_back(
            steps in proptest::collection::vec((0u8..4, 1u64..60), 0..300),
        ) {
            let mut window = Window::new(100, 7);
            let mut held: Vec<u64> = Vec::new();
            let mut tickets: VecDeque<(Ticket, u64)> = VecDeque::new();
            for (step, amount) in steps {
                match step {
                    0 => if window.try_reserve(amount) { held.push(amount) },
                    1 => tickets.push_back((window.wait(amount), amount)),
                    2 => if let Some(cost) = held.pop() { window.release(cost, 1) },
                    _ => if let Some((ticket, _)) = tickets.pop_back() { window.cancel(ticket) },
                }
                tickets.retain(|(ticket, cost)| {
                    let claimed = window.claim(*ticket);
                    if claimed { held.push(*cost) }
                    !claimed
                });
                prop_assert!(window.bytes() <= 100 && window.messages() <= 7);
                prop_assert_eq!(window.bytes(), held.iter().sum::<u64>());
                prop_assert_eq!(window.waiting(), tickets.len());
            }
        }
    }
}
