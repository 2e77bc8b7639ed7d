//! Credit: `sent` never exceeds `limit`.
//!
//! A limit is an absolute number of bytes since the stream began and only grows, as in QUIC: a grant that arrives
//! twice or late changes nothing. Both ends of both directions count with the same type.

/// Counts what was sent on a stream against what was granted.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Credit {
    sent: u64,
    limit: u64,
}

/// More was sent than granted.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{bytes} bytes sent, {available} granted")]
pub struct CreditExceeded {
    /// Bytes that were to be sent.
    pub bytes: u64,
    /// Bytes that were still granted.
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
            return Err(CreditExceeded { bytes, available });
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn grant_below_limit_changes_nothing() {
        let mut credit = Credit::new(10);
        assert!(!credit.grant(10));
        assert!(!credit.grant(3));
        assert_eq!(credit.limit(), 10);
    }

    proptest! {
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
