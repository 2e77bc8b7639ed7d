//! `weir verify`: checks a data directory that no broker is using.

use std::path::PathBuf;

use crate::arguments::Global;
use crate::code::Code;
use crate::failure::{Exit, Failure};

/// Checks a data directory that no broker is using. Changes nothing.
#[derive(Debug, clap::Args)]
pub(crate) struct VerifyArguments {
    /// The data directory
    directory: PathBuf,
}

/// Runs `weir verify`.
pub(crate) fn run(arguments: &VerifyArguments, _global: &Global) -> Result<Exit, Failure> {
    let directory = arguments.directory.display();
    Err(Failure::new(
        Exit::Failed,
        Code::Damaged,
        format_args!("{directory} cannot be checked by this version"),
    ))
}
