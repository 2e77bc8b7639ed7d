//! How a command ends: its exit code, and what it says when it could not do what was asked.

use std::fmt;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use weir_client::ErrorKind;
use weir_protocol::ErrorCode;

use crate::code::Code;

/// What the exit code of the process says. The numbers are stable.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Exit {
    /// All was done.
    Done,
    /// Something failed that has no number of its own.
    Failed,
    /// The command or its configuration has to change.
    Usage,
    /// What was named does not exist.
    NotFound,
    /// One end does not trust or allow the other.
    Refused,
    /// The broker cannot be reached, or did not answer in time.
    Unreachable,
    /// What should be made exists, or differs from what was asked.
    Conflict,
    /// Some of it was done.
    Partial,
    /// The user stopped it.
    Interrupted,
}

impl Exit {
    /// The number.
    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Refused => 4,
            Self::Unreachable => 5,
            Self::Conflict => 6,
            Self::Partial => 7,
            Self::Interrupted => 130,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.number())
    }
}

/// Why a command ended early: what is printed to stderr, and the exit code.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Failure {
    /// The exit code.
    pub(crate) exit: Exit,
    text: String,
    help: Option<String>,
}

impl Failure {
    /// A failure of the command line itself.
    pub(crate) fn new(exit: Exit, code: Code, text: impl fmt::Display) -> Self {
        Self { exit, text: format!("{} {text}", code.text()), help: None }
    }

    /// A wrong argument.
    pub(crate) fn usage(text: impl fmt::Display) -> Self {
        Self::new(Exit::Usage, Code::Usage, text)
    }

    /// A file that could not be read or written. `action` says what was tried, such as "read".
    pub(crate) fn file(action: &str, path: &Path, error: &io::Error) -> Self {
        let exit = if error.kind() == io::ErrorKind::NotFound { Exit::NotFound } else { Exit::Failed };
        Self::new(exit, Code::File, format_args!("cannot {action} {}: {error}", path.display()))
    }

    /// A write to stdout that failed. If nobody reads it any more, there is nothing left to do and nothing to say.
    pub(crate) fn stdout(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self { exit: Exit::Done, text: String::new(), help: None };
        }
        Self::new(Exit::Failed, Code::File, format_args!("cannot write to stdout: {error}"))
    }

    /// Whether it is only that nobody reads the output any more.
    pub(crate) fn is_quiet(&self) -> bool {
        self.text.is_empty()
    }

    /// The same, with advice on what to do.
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The same, with another exit code.
    pub(crate) fn exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    /// The same, with a sentence about the consequences behind the message.
    pub(crate) fn and(mut self, more: impl fmt::Display) -> Self {
        self.text = format!("{}; {more}", self.text);
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "weir: {}", self.text)?;
        match &self.help {
            Some(help) => write!(f, "\n  help: {help}"),
            None => Ok(()),
        }
    }
}

impl From<weir_client::Error> for Failure {
    fn from(error: weir_client::Error) -> Self {
        Self::from(&error)
    }
}

impl From<&weir_client::Error> for Failure {
    fn from(error: &weir_client::Error) -> Self {
        let help = error.help().map(str::to_owned);
        let mut text = error.to_string();
        // The advice gets a line of its own here.
        if let Some(whole) = help.as_ref().and_then(|help| text.strip_suffix(&format!(" ({help})"))) {
            text.truncate(whole.len());
        }
        // It passes, as a broker that is away does.
        let is_full = matches!(error.broker_code(), Some(ErrorCode::DedupFull | ErrorCode::VersionsFull));
        let is_fenced = error.broker_code() == Some(ErrorCode::ProducerFenced);
        let exit = match (is_full, is_fenced) {
            (true, _) => Exit::Unreachable,
            (_, true) => Exit::Conflict,
            _ => exit_of(error.kind()),
        };
        Self { exit, text, help }
    }
}

/// The exit code for a kind of error of the client.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the client may add kinds; one without a number is a plain failure"
)]
fn exit_of(kind: ErrorKind) -> Exit {
    match kind {
        ErrorKind::Invalid => Exit::Usage,
        ErrorKind::NoSuchTopic | ErrorKind::NoSuchGroup => Exit::NotFound,
        ErrorKind::Tls => Exit::Refused,
        ErrorKind::Connect | ErrorKind::Timeout | ErrorKind::CircuitOpen => Exit::Unreachable,
        ErrorKind::AlreadyExists | ErrorKind::Conflict => Exit::Conflict,
        _ => Exit::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_stdout_is_success_without_words() {
        let failure = Failure::stdout(&io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(failure.is_quiet());
        assert_eq!(failure.exit, Exit::Done);
        assert!(!Failure::stdout(&io::Error::from(io::ErrorKind::StorageFull)).is_quiet());
    }

    #[test]
    fn a_failure_says_code_what_and_help() {
        let missing = io::Error::from(io::ErrorKind::NotFound);
        let failure = Failure::file("read", Path::new("/no/such"), &missing).help("give another");
        assert_eq!(failure.exit, Exit::NotFound);
        let text = failure.to_string();
        assert!(text.starts_with("weir: WEIR-5003 cannot read /no/such: "), "{text}");
        assert!(text.ends_with("\n  help: give another"), "{text}");
    }

    #[test]
    fn kinds_of_the_client_have_their_exit_codes() {
        assert_eq!(exit_of(ErrorKind::NoSuchTopic), Exit::NotFound);
        assert_eq!(exit_of(ErrorKind::AlreadyExists), Exit::Conflict);
        assert_eq!(exit_of(ErrorKind::Connect), Exit::Unreachable);
        assert_eq!(exit_of(ErrorKind::Tls), Exit::Refused);
        assert_eq!(exit_of(ErrorKind::Internal), Exit::Failed);
    }
}
