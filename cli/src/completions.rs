//! `weir completions`: scripts that complete commands and options in a shell.

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::arguments::Arguments;
use crate::failure::{Exit, Failure};
use crate::output::Output;

/// Prints a completion script. For bash: `source <(weir completions bash)`.
#[derive(Debug, clap::Args)]
pub(crate) struct CompletionsArguments {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Runs `weir completions`.
pub(crate) fn run(arguments: &CompletionsArguments) -> Result<Exit, Failure> {
    // Generated in memory: the generator panics where it cannot write.
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Arguments::command(), "weir", &mut script);
    let mut output = Output::open()?;
    output.bytes(&script)?;
    output.finish()?;
    Ok(Exit::Done)
}
