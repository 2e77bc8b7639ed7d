//! The question before records are deleted for good.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use crate::failure::Failure;

/// Asks whether to go on. `question` says what would be done, `deed` what that means. Without a terminal nobody can
/// answer.
pub(crate) fn confirm(question: &str, deed: &str) -> Result<(), Failure> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        let failure = Failure::usage(format_args!("{deed} and needs a yes"));
        return Err(failure.help("give --yes, or --dry-run to see what would be removed"));
    }
    let mut answer = String::new();
    write!(io::stderr(), "{question}? [y/N] ").ok();
    io::stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(|error| Failure::usage(format_args!("cannot read the answer: {error}")))?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Failure::usage("nothing was removed")),
    }
}
