//! Credit: `sent` never exceeds `limit`.
//!
//! A limit is an absolute number since the stream began and only grows, as in QUIC: a grant that arrives twice or late changes
//! nothing. Both ends of both directions count with the same type.
//!
//! Bytes are counted before they are sent, so that none exceeds the limit. Records come in batches that cannot be divided, so
//! [`RecordCredit`] counts otherwise: a batch may be sent while one record is left.

/// Counts what was sent on a stream against what was granted.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Credit {
    sent: u64,
    limit: u64,
}

/// More was sent than granted.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{amount} sent, {available} granted")]
pub struct CreditExceeded {
    /// Bytes or records that were to be sent.
    pub amount: u64,
    /// How many were still granted.
    pub available: u64,
}

impl Credit {
    /// Nothing sent, `limit` granted.
    pub const fn new(limit: u64) -> Self {
        Self { sent: 0, limit }
    }

    /// Raises the limit. A limit at or below the present one changes nothing. Says whether it grew.
    pub const fn grant(&mut self, limit: u64) -> bool {
        let grows = limit > self.limit;
        if grows {
            self.limit = limit;
        }
        grows
    }

    /// Counts `bytes` as sent.
    ///
    /// # Errors
    /// [`CreditExceeded`] if that is more than is granted; nothing is counted then.
    pub const fn spend(&mut self, bytes: u64) -> Result<(), CreditExceeded> {
        let available = self.available();
        if bytes > available {
            return Err(CreditExceeded { amount: bytes, available });
        }
        self.sent += bytes;
        Ok(())
    }

    /// Bytes that may still be sent.
    pub const fn available(&self) -> u64 {
        self.limit - self.sent
    }

    /// Bytes sent since the stream began.
    pub const fn sent(&self) -> u64 {
        self.sent
    }

    /// Bytes granted since the stream began.
    pub const fn limit(&self) -> u64 {
        self.limit
    }
}

/// Counts the records sent on a lane against what was granted, batch by batch.
///
/// Invariant: all batches but the last had fewer records than the limit; so the limit is exceeded by less than the
/// last of them has.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct RecordCredit {
    sent: u64,
    /// `None` as long as there is none.
    limit: Option<u64>,
}

impl RecordCredit {
    /// Raises the limit, or sets the first one. One at or below the present one changes nothing. Says whether it was changed.
    pub fn grant(&mut self, limit: u64) -> bool {
        let changes = self.limit.is_none_or(|present| limit > present);
        if changes {
            self.limit = Some(limit);
        }
        changes
    }

    /// Whether another batch may be sent.
    pub fn may_send(&self) -> bool {
        self.may_send_behind(0)
    }

    /// Whether another batch may be sent behind some that have so many records.
    pub fn may_send_behind(&self, records: u64) -> bool {
        self.limit.is_none_or(|limit| self.sent.saturating_add(records) < limit)
    }

    /// Counts a batch as sent.
    ///
    /// # Errors
    /// [`CreditExceeded`] if no record is granted; nothing is counted then.
    pub fn spend(&mut self, records: u64) -> Result<(), CreditExceeded> {
        if !self.may_send() {
            return Err(CreditExceeded { amount: records, available: 0 });
        }
        self.sent = self.sent.saturating_add(records);
        Ok(())
    }

    /// Whether there is a limit.
    pub const fn is_limited(&self) -> bool {
        self.limit.is_some()
    }

    /// Records sent since the lane was opened.
    pub const fn sent(&self) -> u64 {
        self.sent
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn records_have_no_limit_before_the_first() {
        let mut credit = RecordCredit::default();
        assert!(credit.spend(u64::MAX).is_ok() && credit.may_send());
        assert!(credit.grant(0), "even none is a limit");
        assert!(!credit.may_send());
    }

    #[test]
    fn grant_below_limit_changes_nothing() {
        let mut credit = Credit::new(10);
        assert!(!credit.grant(10));
        assert!(!credit.grant(3));
        assert_eq!(credit.limit(), 10);
    }

    proptest! {
        #[test]
        fn records_exceed_their_limit_by_less_than_one_batch(
            steps in proptest::collection::vec((any::<bool>(), 1u64..100), 0..200),
        ) {
            let mut credit = RecordCredit::default();
            credit.grant(1);
            let (mut limit, mut sent) = (1, 0);
            for (is_grant, amount) in steps {
                if is_grant {
                    prop_assert_eq!(credit.grant(amount * 20), amount * 20 > limit);
                    limit = limit.max(amount * 20);
                } else {
                    prop_assert_eq!(credit.spend(amount).is_ok(), sent < limit, "it is refused only if nothing is left");
                    if sent < limit { sent += amount; prop_assert!(sent - amount < limit) }
                }
                prop_assert_eq!((credit.sent(), credit.may_send()), (sent, sent < limit));
            }
        }

        #[test]
        fn sent_never_exceeds_limit(steps in proptest::collection::vec((any::<bool>(), 0u64..1000), 0..200)) {
            let mut credit = Credit::default();
            let (mut sent, mut limit) = (0, 0);
            for (is_grant, amount) in steps {
                if is_grant {
                    limit = limit.max(amount * 3);
                    credit.grant(amount * 3);
                } else if credit.spend(amount).is_ok() {
                    sent += amount;
                } else {
                    prop_assert!(sent + amount > limit);
                }
                prop_assert!(credit.sent() <= credit.limit());
                prop_assert_eq!((credit.sent(), credit.limit()), (sent, limit));
            }
        }
    }
}
