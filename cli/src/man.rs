//! `weir man`: manual pages from the definitions of the command line.

use std::path::PathBuf;

use clap::CommandFactory as _;

use crate::arguments::Arguments;
use crate::failure::{Exit, Failure};

/// Writes one manual page per command.
#[derive(Debug, clap::Args)]
pub(crate) struct ManArguments {
    /// Directory to write them to; made if it is missing
    directory: PathBuf,
}

/// Runs `weir man`.
pub(crate) fn run(arguments: &ManArguments) -> Result<Exit, Failure> {
    let directory = &arguments.directory;
    let failed = |error: std::io::Error| Failure::file("write manual pages to", directory, &error);
    std::fs::create_dir_all(directory).map_err(failed)?;
    clap_mangen::generate_to(Arguments::command(), directory).map_err(failed)?;
    Ok(Exit::Done)
}
