//! What can go wrong, as data: kind, class, a stable code, and what to do next.

use std::fmt;
use std::time::Duration;

use weir_protocol::ErrorClass;
use weir_protocol::ErrorCode;

/// What an error is about.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The broker cannot be reached, or the connection was lost.
    Connect,
    /// The broker's certificate is not the expected one, or cannot be checked.
    Tls,
    /// No such topic or partition.
    NoSuchTopic,
    /// No such consumer group.
    NoSuchGroup,
    /// What was to be made exists already.
    AlreadyExists,
    /// An argument, name or setting is out of range.
    Invalid,
    /// A message or batch exceeds a limit.
    TooLarge,
    /// A position lies outside what a partition holds.
    OutOfRange,
    /// A quota or a bound on the number of things is used up.
    Quota,
    /// It took too long.
    Timeout,
    /// The circuit breaker is open: the broker was not asked.
    CircuitOpen,
    /// One side broke the protocol, or they have no version in common.
    Protocol,
    /// The broker cannot do it now.
    ServerBusy,
    /// The producer's identity, or the lease of a member of a group, is not accepted any more.
    Fenced,
    /// The idempotency key belongs to another record, or what the record expected is not so.
    Conflict,
    /// The idempotency key is older than keys are remembered.
    Expired,
    /// Stored or received bytes are damaged.
    Corrupt,
    /// The client, producer or consumer has been closed.
    Closed,
    /// Something failed inside the broker or the client.
    Internal,
}

/// What can be done about an error.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Class {
    /// The same call may succeed later.
    Retryable,
    /// The call has to change.
    Fatal,
    /// It may have been done or not. To send again with the same idempotency key is safe.
    OutcomeUnknown,
}

/// Codes given by the client itself; those of the broker are [`ErrorCode`]s.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum ClientCode {
    Unreachable,
    Url,
    Tls,
    Timeout,
    Closed,
    CircuitOpen,
    TooLarge,
    Invalid,
    ConnectionLost,
    Context,
}

impl ClientCode {
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Unreachable => "WEIR-1004",
            Self::Url => "WEIR-1021",
            Self::Tls => "WEIR-1022",
            Self::Timeout => "WEIR-1023",
            Self::Closed => "WEIR-1024",
            Self::CircuitOpen => "WEIR-1025",
            Self::TooLarge => "WEIR-1026",
            Self::Invalid => "WEIR-1027",
            Self::ConnectionLost => "WEIR-1028",
            Self::Context => "WEIR-1029",
        }
    }

    const fn kind(self) -> ErrorKind {
        match self {
            Self::Unreachable | Self::ConnectionLost => ErrorKind::Connect,
            Self::Url | Self::Invalid | Self::Context => ErrorKind::Invalid,
            Self::Tls => ErrorKind::Tls,
            Self::Timeout => ErrorKind::Timeout,
            Self::Closed => ErrorKind::Closed,
            Self::CircuitOpen => ErrorKind::CircuitOpen,
            Self::TooLarge => ErrorKind::TooLarge,
        }
    }

    const fn class(self) -> Class {
        match self {
            Self::Unreachable | Self::Timeout | Self::CircuitOpen => Class::Retryable,
            Self::ConnectionLost => Class::OutcomeUnknown,
            Self::Url | Self::Tls | Self::Closed | Self::TooLarge | Self::Invalid | Self::Context => {
                Class::Fatal
            }
        }
    }

    const fn help(self) -> Option<&'static str> {
        match self {
            Self::Unreachable => Some("is the broker running, and UDP open on the way?"),
            Self::Url => Some("a URL looks like weir://HOST:PORT?pin=sha256:HEX"),
            Self::Tls => {
                Some("take the URL with the pin from the line 'ready weir://...' that the broker prints")
            }
            Self::CircuitOpen => Some("the breaker tries again by itself after its cool-down"),
            Self::TooLarge => Some("raise the topic's batch limit, or send a reference to the data"),
            Self::ConnectionLost => Some("look whether it was done before you try again"),
            Self::Context => Some("set WEIR_URL, or choose a context with 'weir ctx use'"),
            Self::Timeout | Self::Closed | Self::Invalid => None,
        }
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Code {
    Client(ClientCode),
    Broker(ErrorCode),
}

/// An error of this client or of the broker.
///
/// It is one pointer wide. `Display` says in one line what failed, where, and what to do next.
#[derive(Clone)]
pub struct Error(Box<Parts>);

#[derive(Clone)]
struct Parts {
    code: Code,
    class: Class,
    detail: String,
    retry_after: Option<Duration>,
}

impl Error {
    pub(crate) fn client(code: ClientCode, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self(Box::new(Parts { code: Code::Client(code), class: code.class(), detail, retry_after: None }))
    }

    pub(crate) fn broker(code: ErrorCode, detail: impl Into<String>) -> Self {
        let class = match code.class() {
            ErrorClass::Retry => Class::Retryable,
            ErrorClass::Fix | ErrorClass::Fatal => Class::Fatal,
        };
        Self(Box::new(Parts { code: Code::Broker(code), class, detail: detail.into(), retry_after: None }))
    }

    pub(crate) fn invalid(detail: impl Into<String>) -> Self {
        Self::client(ClientCode::Invalid, detail)
    }

    pub(crate) fn closed(what: &str) -> Self {
        Self::client(ClientCode::Closed, format!("the {what} has been closed"))
    }

    #[must_use]
    pub(crate) fn with_retry_after(mut self, after: Duration) -> Self {
        self.0.retry_after = Some(after);
        self
    }

    #[must_use]
    pub(crate) fn with_class(mut self, class: Class) -> Self {
        self.0.class = class;
        self
    }

    /// What it is about.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self.0.code {
            Code::Client(code) => code.kind(),
            Code::Broker(code) => broker_kind(code),
        }
    }

    /// What can be done about it.
    #[must_use]
    pub fn class(&self) -> Class {
        self.0.class
    }

    /// Its stable code, such as `WEIR-2001`: the name of its page in the documentation.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self.0.code {
            Code::Client(code) => code.text(),
            Code::Broker(code) => broker_text(code),
        }
    }

    /// The broker's code, if the error came from there.
    #[must_use]
    pub fn broker_code(&self) -> Option<ErrorCode> {
        match self.0.code {
            Code::Client(_) => None,
            Code::Broker(code) => Some(code),
        }
    }

    /// The facts, without code and advice.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.0.detail
    }

    /// What to try next, if there is something general to say.
    #[must_use]
    pub fn help(&self) -> Option<&str> {
        match self.0.code {
            Code::Client(code) => code.help(),
            Code::Broker(ErrorCode::TopicNotFound) => Some("make it with 'weir topic create NAME'"),
            Code::Broker(ErrorCode::GroupNotFound) => Some("make it by saying where it starts"),
            Code::Broker(ErrorCode::KeyConflict) => Some("another record needs another idempotency key"),
            Code::Broker(ErrorCode::KeyExpired) => Some("look whether it was done before you take a new key"),
            Code::Broker(ErrorCode::DedupOff) => {
                Some("'weir topic edit NAME --dedup 10m' makes the topic remember keys")
            }
            Code::Broker(ErrorCode::ExpectationFailed) => {
                Some("read what was written meanwhile, then decide again")
            }
            Code::Broker(ErrorCode::VersionsOff) => {
                Some("'weir topic create NAME --keyed-versions' makes a topic that keeps them")
            }
            Code::Broker(_) => None,
        }
    }

    /// After how long another try makes sense, if that is known.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// Whether the same call may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.class() == Class::Retryable
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.code())?;
        match self.0.code {
            Code::Client(_) => f.write_str(&self.0.detail)?,
            Code::Broker(code) if self.0.detail.is_empty() => f.write_str(code.text())?,
            Code::Broker(code) => write!(f, "{}: {}", code.text(), self.0.detail)?,
        }
        match self.help() {
            Some(help) => write!(f, " ({help})"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("code", &self.code())
            .field("kind", &self.kind())
            .field("class", &self.class())
            .field("detail", &self.0.detail)
            .field("retry_after", &self.0.retry_after)
            .finish()
    }
}

impl std::error::Error for Error {}

#[expect(clippy::wildcard_enum_match_arm, reason = "codes of later versions")]
fn broker_kind(code: ErrorCode) -> ErrorKind {
    use ErrorCode as C;
    match code {
        C::Protocol
        | C::UnsupportedVersion
        | C::FrameTooLarge
        | C::GreetingExpected
        | C::CreditExceeded
        | C::UnknownRequest
        | C::SequenceGap
        | C::TooManyUnacked
        | C::Unsupported => ErrorKind::Protocol,
        C::TooManyStreams | C::TooManyTopics | C::TooManySubscriptions | C::Throttled => ErrorKind::Quota,
        C::TimedOut => ErrorKind::Timeout,
        C::GoingAway | C::NotOwner | C::StorageFull => ErrorKind::ServerBusy,
        C::TopicNotFound | C::PartitionNotFound | C::TopicDeleted => ErrorKind::NoSuchTopic,
        C::TopicExists | C::SnapshotExists => ErrorKind::AlreadyExists,
        C::InvalidName | C::InvalidSetting | C::DedupOff | C::KeyInvalid | C::VersionsOff => {
            ErrorKind::Invalid
        }
        C::KeyConflict | C::ExpectationFailed => ErrorKind::Conflict,
        C::KeyExpired => ErrorKind::Expired,
        C::DedupFull | C::VersionsFull | C::TooManyClaims => ErrorKind::Quota,
        C::BatchTooLarge => ErrorKind::TooLarge,
        C::SequenceForgotten
        | C::ProducerFenced
        | C::ProducerUnknown
        | C::Fenced
        | C::PositionReset
        | C::MemberReplaced => ErrorKind::Fenced,
        C::GroupNotFound => ErrorKind::NoSuchGroup,
        C::GroupExists | C::GroupInUse => ErrorKind::AlreadyExists,
        C::NotDelivered => ErrorKind::OutOfRange,
        C::TooManyGroups => ErrorKind::Quota,
        C::OffsetOutOfRange => ErrorKind::OutOfRange,
        C::BatchCorrupt | C::DataCorrupt => ErrorKind::Corrupt,
        _ => ErrorKind::Internal,
    }
}

/// Declares the text of each broker code: `code()` gives out static text.
macro_rules! broker_texts {
    ($($number:literal => $text:literal,)*) => {
        fn broker_text(code: ErrorCode) -> &'static str {
            match code.number() { $($number => $text,)* _ => "WEIR-1009" }
        }
    };
}

broker_texts! {
    1001 => "WEIR-1001", 1002 => "WEIR-1002", 1003 => "WEIR-1003", 1005 => "WEIR-1005", 1006 => "WEIR-1006",
    1007 => "WEIR-1007", 1008 => "WEIR-1008", 1009 => "WEIR-1009", 1010 => "WEIR-1010", 1011 => "WEIR-1011",
    1012 => "WEIR-1012",
    2001 => "WEIR-2001", 2002 => "WEIR-2002", 2003 => "WEIR-2003", 2004 => "WEIR-2004", 2005 => "WEIR-2005",
    2006 => "WEIR-2006", 2007 => "WEIR-2007", 2008 => "WEIR-2008",
    3001 => "WEIR-3001", 3002 => "WEIR-3002", 3003 => "WEIR-3003", 3004 => "WEIR-3004", 3005 => "WEIR-3005",
    3006 => "WEIR-3006", 3007 => "WEIR-3007", 3008 => "WEIR-3008", 3009 => "WEIR-3009", 3010 => "WEIR-3010",
    3011 => "WEIR-3011", 3012 => "WEIR-3012", 3013 => "WEIR-3013", 3014 => "WEIR-3014", 3015 => "WEIR-3015",
    3016 => "WEIR-3016", 3017 => "WEIR-3017", 3018 => "WEIR-3018", 3019 => "WEIR-3019",
    4001 => "WEIR-4001", 4002 => "WEIR-4002", 4003 => "WEIR-4003",
    4101 => "WEIR-4101", 4102 => "WEIR-4102", 4103 => "WEIR-4103", 4104 => "WEIR-4104", 4105 => "WEIR-4105",
    4106 => "WEIR-4106", 4107 => "WEIR-4107", 4108 => "WEIR-4108", 4113 => "WEIR-4113", 4114 => "WEIR-4114", 4115 => "WEIR-4115",
    6001 => "WEIR-6001", 6002 => "WEIR-6002",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_broker_code_has_its_own_text() {
        for code in ErrorCode::ALL {
            let error = Error::broker(*code, "");
            assert_eq!(error.code(), format!("WEIR-{}", code.number()));
        }
    }

    #[test]
    fn codes_of_client_and_broker_differ() {
        use ClientCode as C;
        let own = [
            C::Unreachable,
            C::Url,
            C::Tls,
            C::Timeout,
            C::Closed,
            C::CircuitOpen,
            C::TooLarge,
            C::Invalid,
            C::ConnectionLost,
            C::Context,
        ];
        let mut texts: Vec<&str> = own.iter().map(|code| code.text()).collect();
        texts.extend(ErrorCode::ALL.iter().map(|code| broker_text(*code)));
        let count = texts.len();
        texts.sort_unstable();
        texts.dedup();
        assert_eq!(texts.len(), count);
    }

    #[test]
    fn display_says_code_facts_and_advice() {
        let error = Error::broker(ErrorCode::TopicNotFound, "orders");
        assert_eq!(
            error.to_string(),
            "WEIR-2001 no such topic: orders (make it with 'weir topic create NAME')"
        );
    }
}
