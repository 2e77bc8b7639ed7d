//! How long leases may last: no lease is given that a broker which starts again would not wait for.
//!
//! The longest lease of the members is in the journal before it is given. After a start, a partition is nobody's for so
//! long, unless whoever had it gives it back.

const fn lease_us(lease_ms: u32) -> u64 {
    lease_ms as u64 * 1000
}

/// The lengths of the leases of a group.
#[derive(Debug)]
pub(super) struct Lasting {
    /// Leases last no longer than this: so much is durable, and nothing less is on its way there.
    lease_us_max: u64,
    /// Milliseconds that were given to the journal last, and the number of that.
    journaled_ms: u32,
    number: u64,
    /// Leases of before the start of the broker have ended then.
    unsure_until: Option<u64>,
}

impl Lasting {
    /// Leases may last so many milliseconds: that is durable.
    pub(super) const fn known(lease_ms: u32) -> Self {
        Self { lease_us_max: lease_us(lease_ms), journaled_ms: lease_ms, number: 0, unsure_until: None }
    }

    /// The broker has just started. Gives the time when leases of before have ended, if there may be any.
    pub(super) const fn started(&mut self, now: u64) -> Option<u64> {
        if self.journaled_ms > 0 {
            self.unsure_until = Some(now + lease_us(self.journaled_ms));
        }
        self.unsure_until
    }

    /// When leases of before the start have ended, as long as they have not.
    pub(super) const fn unsure_until(&self) -> Option<u64> {
        self.unsure_until
    }

    /// Says whether leases of before the start have just ended.
    pub(super) fn pass_time(&mut self, now: u64) -> bool {
        self.unsure_until.take_if(|until| *until <= now).is_some()
    }

    /// The longest lease of the members is one of so many milliseconds. Gives a number and the milliseconds for the journal
    /// if it knows of something else. It does not become less as long as there may be leases of before the start.
    pub(super) fn change(&mut self, longest_ms: u32) -> Option<(u64, u32)> {
        let is_less = longest_ms < self.journaled_ms;
        if longest_ms == self.journaled_ms || is_less && self.unsure_until.is_some() {
            return None;
        }
        self.number += 1;
        self.journaled_ms = longest_ms;
        self.lease_us_max = self.lease_us_max.min(lease_us(longest_ms));
        Some((self.number, longest_ms))
    }

    /// What was given to the journal under a number is durable.
    pub(super) const fn durable(&mut self, number: u64) {
        if number == self.number {
            self.lease_us_max = lease_us(self.journaled_ms);
        }
    }

    /// Whether a lease of so many milliseconds may be given.
    pub(super) const fn allows(&self, lease_ms: u32) -> bool {
        lease_us(lease_ms) <= self.lease_us_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_given_to_the_journal_last_counts_once_it_is_durable() {
        let mut lasting = Lasting::known(0);
        let (longer, _) = lasting.change(10_000).unwrap();
        assert!(!lasting.allows(10_000));
        let (shorter, _) = lasting.change(5_000).unwrap();
        let (again, _) = lasting.change(10_000).unwrap();
        lasting.durable(longer);
        lasting.durable(shorter);
        assert!(!lasting.allows(10_000), "a crash now leaves the shorter one");
        lasting.durable(again);
        assert!(lasting.allows(10_000) && !lasting.allows(10_001));
        assert_eq!(lasting.change(10_000), None);
        assert!(lasting.change(5_000).is_some());
        assert!(!lasting.allows(5_001), "it will be known as the shorter one");
    }

    #[test]
    fn after_a_start_it_does_not_become_less_before_the_leases_have_ended() {
        let mut lasting = Lasting::known(10_000);
        assert_eq!(lasting.started(7), Some(10_000_007));
        assert_eq!(lasting.change(0), None);
        assert!(!lasting.pass_time(10_000_006));
        assert!(lasting.pass_time(10_000_007) && lasting.change(0).is_some());
        assert_eq!(Lasting::known(0).started(7), None);
    }
}
