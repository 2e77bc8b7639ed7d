//! Stable error codes: what a broker answers when it does not do what was asked.

/// What a client can do about an error.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum ErrorClass {
    /// The same request may succeed later.
    Retry,
    /// The request has to change.
    Fix,
    /// The connection, stream or producer cannot go on.
    Fatal,
}

/// Declares the codes with number, class and meaning in one table, so that none can lack one of them.
macro_rules! codes {
    ($($(#[$meta:meta])* $name:ident = $number:literal, $class:ident, $text:literal;)*) => {
        /// Why a request was not done. The numbers are stable; `WEIR-` and the number name the page in the docs.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        #[non_exhaustive]
        pub enum ErrorCode {
            $($(#[$meta])* #[doc = $text] $name,)*
        }

        impl ErrorCode {
            /// Every code, in order of number.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// Its number on the wire.
            pub const fn number(self) -> u16 {
                match self { $(Self::$name => $number,)* }
            }

            /// Its name in messages and in the documentation, such as `WEIR-2001`.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => concat!("WEIR-", $number),)* }
            }

            /// The code with this number, if there is one.
            pub const fn from_number(number: u16) -> Option<Self> {
                match number { $($number => Some(Self::$name),)* _ => None }
            }

            /// What a client can do about it.
            pub const fn class(self) -> ErrorClass {
                match self { $(Self::$name => ErrorClass::$class,)* }
            }

            /// Its meaning in one lower-case phrase.
            pub const fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

codes! {
    Protocol = 1001, Fatal, "the peer broke the protocol";
    UnsupportedVersion = 1002, Fatal, "no protocol version in common";
    FrameTooLarge = 1003, Fatal, "a frame exceeds the limit";
    GreetingExpected = 1005, Fatal, "the first frame of a connection must be a greeting";
    TooManyStreams = 1006, Fatal, "too many streams";
    TimedOut = 1007, Fatal, "the peer took too long";
    GoingAway = 1008, Retry, "the broker is shutting down";
    Internal = 1009, Retry, "the broker failed inside";
    Throttled = 1010, Retry, "a quota is used up";
    CreditExceeded = 1011, Fatal, "more bytes were sent than granted";
    UnknownRequest = 1012, Fix, "the broker does not know this request";
    TopicNotFound = 2001, Fix, "no such topic";
    TopicExists = 2002, Fix, "the topic exists already";
    InvalidName = 2003, Fix, "names have 1 to 128 of A-Z a-z 0-9 . _ -";
    InvalidSetting = 2004, Fix, "a setting is out of range";
    PartitionNotFound = 2005, Fix, "no such partition";
    TooManyTopics = 2006, Fix, "the broker holds as many topics or partitions as it may";
    TopicDeleted = 2007, Fix, "the topic was deleted";
    NotOwner = 2008, Retry, "another broker owns the partition";
    BatchTooLarge = 3001, Fix, "the batch exceeds the limit of the topic";
    BatchCorrupt = 3002, Fatal, "the batch is damaged";
    SequenceGap = 3003, Retry, "an earlier batch of this producer is missing";
    SequenceForgotten = 3004, Fix, "the batch is older than the results the broker remembers";
    ProducerFenced = 3005, Fix, "a producer with a higher epoch took over";
    ProducerUnknown = 3006, Fix, "the broker does not know this producer any more";
    StorageFull = 3007, Retry, "no space to store the batch";
    StorageFailed = 3008, Fatal, "storage failed";
    TooManyUnacked = 3009, Fatal, "too many unacknowledged batches";
    Unsupported = 3010, Fix, "the request needs a feature this broker does not have";
    KeyConflict = 3011, Fix, "the idempotency key belongs to another record";
    KeyExpired = 3012, Fix, "the idempotency key is older than keys are remembered";
    DedupFull = 3013, Retry, "no room to remember another idempotency key";
    DedupOff = 3014, Fix, "the topic takes no idempotency keys";
    KeyInvalid = 3015, Fix, "idempotency keys have 1 to 64 bytes";
    ExpectationFailed = 3016, Fix, "what the record expected is not so";
    VersionsOff = 3017, Fix, "the topic keeps no versions of keys";
    VersionsFull = 3018, Retry, "no room to remember the version of another key";
    TooManyClaims = 3019, Fix, "producers of the topic have claimed as many names as they may";
    OffsetOutOfRange = 4001, Fix, "the position is outside what the partition holds";
    DataCorrupt = 4002, Fix, "stored records are damaged";
    TooManySubscriptions = 4003, Fix, "too many subscriptions or partitions on this connection";
    GroupNotFound = 4101, Fix, "no such consumer group";
    GroupExists = 4102, Fix, "the consumer group exists already";
    Fenced = 4103, Fix, "the lease of the partition has ended";
    NotDelivered = 4104, Fix, "a record was acknowledged that was never delivered";
    GroupInUse = 4105, Fix, "the consumer group has members";
    TooManyGroups = 4106, Fix, "the broker holds as many groups or members as it may";
    PositionReset = 4107, Fix, "the position of the consumer group was reset";
    MemberReplaced = 4108, Fatal, "another consumer joined under the name of this member";
    DeadLetterMissing = 4113, Fix, "there is no dead-letter topic for the record";
    DeadLetterFull = 4114, Retry, "as many dead letters wait to be forwarded as may";
    TooManyFailures = 4115, Retry, "as many records of the partition wait to be delivered again as may";
    SnapshotExists = 6001, Fix, "a snapshot of that name exists already";
    SnapshotFailed = 6002, Retry, "the snapshot could not be made";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_unique_and_round_trip() {
        let mut numbers: Vec<u16> = ErrorCode::ALL.iter().map(|code| code.number()).collect();
        for code in ErrorCode::ALL {
            assert_eq!(ErrorCode::from_number(code.number()), Some(*code));
        }
        numbers.dedup();
        assert_eq!(numbers.len(), ErrorCode::ALL.len());
        assert!(numbers.is_sorted(), "codes stand in order of number");
        assert_eq!(ErrorCode::from_number(0), None);
        assert_eq!(ErrorCode::TopicNotFound.name(), "WEIR-2001");
    }
}
